-- Commands that came with an idempotency key, so that a retry acts once.

create table idempotency (
    -- SHA-256 over principal, route and the client's key.
    key bytea not null,
    -- SHA-256 of the request body: another body under the same key is a mistake.
    fingerprint bytea not null,
    -- What the command made.
    receipt uuid not null,
    position bigint not null,
    recorded_at timestamptz not null,
    constraint idempotency_pkey primary key (key)
);

-- Serves the purge of keys older than a day.
create index idempotency_recorded_at_idx on idempotency (recorded_at);
