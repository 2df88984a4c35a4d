-- Workspaces, who is in them, and how one comes in. Inline: what somebody may do in a workspace is asked
-- of these tables, and never of an older state.

-- What streams are found by that share something, such as an address. As in `claim`, `value` is a keyed
-- hash: it can be deleted, and reveals nothing.
create table blind_index (
    name text not null,
    value bytea not null,
    stream_id uuid not null,
    constraint blind_index_pkey primary key (name, value, stream_id)
);

-- Serves the deletion of all entries of an erased stream.
create index blind_index_stream_id_idx on blind_index (stream_id);

create table workspaces (
    id uuid not null,
    -- What people say of the workspace, sealed under its own key.
    slug text not null,
    name text not null,
    issue_prefix text not null,
    description text,
    context text,
    settings text,
    repos text,
    avatar_url text,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz,
    constraint workspaces_pkey primary key (id)
);

-- Who is in; whoever is not has no row.
create table members (
    id uuid not null,
    workspace_id uuid not null,
    user_id uuid not null,
    role text not null,
    created_at timestamptz not null,
    -- Where they last came in.
    position bigint not null,
    constraint members_pkey primary key (id)
);

-- Serves the list of a person's workspaces.
create index members_user_idx on members (user_id, workspace_id);
-- Serves the list of a workspace's members, and the search for another owner.
create index members_workspace_idx on members (workspace_id, role);

create table invitations (
    id uuid not null,
    workspace_id uuid not null,
    inviter_id uuid not null,
    invitee_user_id uuid,
    email text not null,
    role text not null,
    status text not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    expires_at timestamptz not null,
    constraint invitations_pkey primary key (id)
);

-- Serves the list of a workspace's pending invitations.
create index invitations_workspace_idx on invitations (workspace_id) where status = 'pending';

create table share_links (
    id uuid not null,
    workspace_id uuid not null,
    code text not null,
    role text not null,
    created_by uuid,
    created_at timestamptz not null,
    expires_at timestamptz,
    max_uses integer,
    uses integer not null,
    revoked_at timestamptz,
    constraint share_links_pkey primary key (id)
);
