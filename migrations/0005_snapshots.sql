-- Folded states of streams that grow, so that a command need not refold them. Always safe to delete.

create table snapshot (
    stream_id uuid not null,
    version bigint not null,
    schema_version smallint not null,
    state json not null,
    constraint snapshot_pkey primary key (stream_id)
);
