-- The tokens of a person, as `/api/tokens` lists them. Follows the log.

create table token_list (
    id uuid not null,
    user_id uuid not null,
    name text not null,
    prefix text not null,
    minted_by uuid not null,
    created_at timestamptz not null,
    expires_at timestamptz,
    revoked_at timestamptz,
    position bigint not null,
    constraint token_list_pkey primary key (id)
);

-- Serves the list of a person's tokens, newest first, revoked hidden.
create index token_list_user_idx on token_list (user_id, position desc) where revoked_at is null;
