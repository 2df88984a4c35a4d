-- The replicas that may answer from memory. A logged table: a lost registration would lose revocations.

create table replica (
    id uuid not null,
    applied bigint not null default 0,
    -- A leaving replica's renewals are refused; it still counts until its lease must be over.
    leaving boolean not null default false,
    registered_at timestamptz not null default clock_timestamp(),
    renewed_at timestamptz not null default clock_timestamp(),
    constraint replica_pkey primary key (id)
) with (fillfactor = 50);
