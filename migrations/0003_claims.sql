-- What at most one stream may hold. `value` is a keyed blind index: it can be deleted, and reveals nothing.

create table claim (
    namespace text not null,
    value bytea not null,
    stream_id uuid not null,
    constraint claim_pkey primary key (namespace, value)
);

-- Serves the deletion of all claims of an erased stream.
create index claim_stream_id_idx on claim (stream_id);
