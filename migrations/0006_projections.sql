-- Which version of each projection stands in its tables, and how far it has come.

create table projection (
    name text not null,
    version integer not null,
    -- The last position folded in; none for an inline projection, which is always at the head.
    position bigint,
    -- Why it stopped at the event after `position`; none while it runs.
    halted text,
    constraint projection_pkey primary key (name)
);
