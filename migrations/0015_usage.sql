-- When credentials are used. Not made from the log and in no projection: what is deleted here is gone.
-- Each replica adds what it has counted, in batches, so neither table is written by a verification.

create table credential_usage (
    -- A session's or a token's.
    credential_id uuid not null,
    user_id uuid not null,
    uses bigint not null,
    last_used_at timestamptz not null,
    constraint credential_usage_pkey primary key (credential_id)
) with (fillfactor = 50);

create table credential_usage_hourly (
    credential_id uuid not null,
    -- When the hour begins.
    hour timestamptz not null,
    uses bigint not null,
    first_used_at timestamptz not null,
    last_used_at timestamptz not null,
    -- Where it was used from: a few, the last first, each sealed under the person's key.
    addresses bytea[] not null,
    constraint credential_usage_hourly_pkey primary key (credential_id, hour)
) with (fillfactor = 70);

-- Serves the purge of hours that have had their time.
create index credential_usage_hourly_hour_idx on credential_usage_hourly (hour);
