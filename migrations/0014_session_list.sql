-- What the list of sessions shows, and how the two kinds of session are told apart. The defaults are
-- what a fold of the events until now gives, so the rows are those of the projection's new version;
-- the release before, which may still write, knows one kind only.

alter table sessions add column kind text not null default 'session';
-- When its refresh token was used last; none for a session that has none, or whose is still unused.
alter table sessions add column refreshed_at timestamptz;

update projection set version = 2 where name = 'sessions' and version = 1;

-- Serves the list of a person's live sessions: what expires sinks to the end of it.
create index sessions_user_idx on sessions (user_id, expires_at) where ended_at is null;

-- Serves the search for the sessions that a session started.
create index sessions_minted_by_idx on sessions (minted_by) where minted_by is not null and ended_at is null;
