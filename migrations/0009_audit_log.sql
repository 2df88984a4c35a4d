-- The audit trail: what of each event may be seen, and by whom. Follows the log.

create table audit_log (
    position bigint not null,
    recorded_at timestamptz not null,
    name text not null,
    stream_kind text not null,
    stream_id uuid not null,
    workspace_id uuid,
    actor_kind text not null,
    actor_id uuid,
    credential_id uuid,
    subject_id uuid,
    request_id uuid,
    -- The public part of the event, and its personal fields, still sealed.
    data jsonb not null,
    sealed jsonb not null,
    constraint audit_log_pkey primary key (position)
);

-- Serves the mapping of a time to a position.
create index audit_log_recorded_at_idx on audit_log (recorded_at, position);

-- One row for each scope (a person, a workspace) that may see the event, with what it is filtered by.
create table audit_scope (
    scope_id uuid not null,
    position bigint not null,
    name text not null,
    actor_id uuid,
    subject_id uuid,
    constraint audit_scope_pkey primary key (scope_id, position)
);

-- Each serves one filter of the audit query, newest first.
create index audit_scope_name_idx on audit_scope (scope_id, name, position);
create index audit_scope_actor_idx on audit_scope (scope_id, actor_id, position) where actor_id is not null;
create index audit_scope_subject_idx on audit_scope (scope_id, subject_id, position) where subject_id is not null;

-- One row for each credential an event was done with or done to.
create table audit_credential (
    credential_id uuid not null,
    position bigint not null,
    constraint audit_credential_pkey primary key (credential_id, position)
);
