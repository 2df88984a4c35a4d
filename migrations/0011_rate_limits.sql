-- Limits that hold across replicas and restarts. `key` is a keyed hash: no address stands here.

create table rate_limit (
    key bytea not null,
    -- The theoretical arrival time of the generic cell rate algorithm.
    arrival timestamptz not null,
    constraint rate_limit_pkey primary key (key)
) with (fillfactor = 50);

-- Serves the purge of limits nobody is near.
create index rate_limit_arrival_idx on rate_limit (arrival);
