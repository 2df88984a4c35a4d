-- The inline projections: what authentication reads. Written in the transaction of the events.
-- Personal data stands here as it stands in the events: sealed, with its place.

create table users (
    id uuid not null,
    email text not null,
    name text not null,
    avatar_url text,
    language text,
    timezone text,
    profile_description text,
    suspended boolean not null default false,
    -- Credentials made at or before this position are dead, whatever else they say.
    credentials_after bigint not null default 0,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint users_pkey primary key (id)
);

create table sessions (
    id uuid not null,
    user_id uuid not null,
    method text not null,
    minted_by uuid,
    started_at timestamptz not null,
    expires_at timestamptz not null,
    ended_at timestamptz,
    address text,
    user_agent text,
    position bigint not null,
    constraint sessions_pkey primary key (id)
);

create table credentials (
    -- SHA-256 of the whole token.
    hash bytea not null,
    id uuid not null,
    kind text not null,
    user_id uuid not null,
    -- The credential above it in its line, and what kind that is.
    minted_by uuid not null,
    minted_by_kind text not null,
    expires_at timestamptz,
    revoked_at timestamptz,
    position bigint not null,
    constraint credentials_pkey primary key (hash),
    -- Serves changes to a token, which events name by id.
    constraint credentials_id_key unique (id)
);

-- Serves the search for the line below a credential.
create index credentials_minted_by_idx on credentials (minted_by);
