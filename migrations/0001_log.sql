-- The log: one head, streams, events. `event` is the truth; everything else can be made from it.

create table log_head (
    one boolean not null default true,
    -- Names this log. A restore below a signed size gets a new one.
    log_id uuid not null default gen_random_uuid(),
    position bigint not null default 0,
    recorded_at timestamptz not null default to_timestamp(0),
    -- Moves with every change to the list of replicas, under the head's lock.
    registry_epoch bigint not null default 0,
    -- The version of the inline projections. A committer that knows a lower one refuses to write.
    inline_version integer not null default 0,
    constraint log_head_pkey primary key (one),
    constraint log_head_one_row check (one)
) with (fillfactor = 10);

insert into log_head default values;

create table stream (
    id uuid not null,
    kind text not null,
    version bigint not null,
    constraint stream_pkey primary key (id)
);

create table event (
    position bigint not null,
    stream_id uuid not null,
    stream_version bigint not null,
    name text not null,
    schema_version smallint not null,
    workspace_id uuid,
    actor_kind text not null,
    actor_id uuid,
    credential_id uuid,
    request_id uuid,
    causation uuid not null,
    recorded_at timestamptz not null,
    -- Type json keeps the exact bytes, so its hash is stable; jsonb would not.
    payload json not null,
    leaf_hash bytea not null,
    constraint event_pkey primary key (position),
    -- Serves the load of a stream, and is the last guard of contiguous versions.
    constraint event_stream_version_key unique (stream_id, stream_version)
);

-- Serves the mapping of a time to a position: recorded_at never decreases with position.
create index event_recorded_at_idx on event (recorded_at, position);

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'table % is insert-only: % refused', tg_table_name, lower(tg_op)
        using errcode = 'insufficient_privilege';
end
$$;

create trigger event_insert_only before update or delete on event
    for each row execute function refuse_change();
create trigger event_never_truncated before truncate on event
    for each statement execute function refuse_change();
