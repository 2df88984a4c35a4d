-- Wrapped keys, in a schema of their own: a backup of the events without it reveals nothing.

create schema keys;

-- Keys wrapped by the master key: the key-encryption key, the blind-index key, the login-code key.
create table keys.root (
    name text not null,
    wrapped bytea not null,
    constraint root_pkey primary key (name)
);

-- What recognises the secrets of this installation, so that a replica with others refuses to start.
create table keys.fingerprint (
    name text not null,
    value text not null,
    constraint fingerprint_pkey primary key (name)
);

-- One key per subject, wrapped by the key-encryption key. Deleting a row erases the subject.
create table keys.subject (
    kind text not null,
    id uuid not null,
    wrapped bytea not null,
    delete_after timestamptz,
    constraint subject_pkey primary key (kind, id)
);

-- Serves the purge of keys that have had their time.
create index subject_delete_after_idx on keys.subject (delete_after) where delete_after is not null;
