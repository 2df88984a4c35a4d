-- What every projection must hold, recomputed from `event` alone. It shares no code with the
-- projections, so that one wrong fold cannot agree with itself. Run in one transaction; all it
-- makes is temporary.

create temporary table facts on commit drop as
select position, stream_id, stream_version, name, split_part(name, '.', 1) as kind, workspace_id, actor_kind,
       actor_id, credential_id, request_id, recorded_at, payload::jsonb as payload
  from event;
create unique index on facts (position);
create index on facts (stream_id, position);

-- Whose key seals the personal fields of a fact.
create function pg_temp.subject_of(fact facts) returns text language sql as $$
    select case fact.kind
           when 'user' then 'user:' || fact.stream_id
           when 'login' then 'code:' || (fact.payload->>'code_id')
           else 'user:' || (fact.payload->>'user_id')
           end
$$;

-- A personal field as projections keep it: with its place, in the alphabet of base64url.
create function pg_temp.sealed(fact facts, field text) returns text language sql as $$
    select fact.kind || ':' || fact.stream_id || '/' || fact.stream_version || '/' || fact.name || '/' || field || '/'
        || pg_temp.subject_of(fact) || '/' || translate(fact.payload->>field, '+/', '-_')
$$;

-- The last word of a user's history on one field of the profile.
create function pg_temp.latest(id uuid, field text) returns text language sql as $$
    select pg_temp.sealed(f, field) from facts f
     where f.stream_id = id and f.name in ('user.registered', 'user.profile_changed') and f.payload->>field is not null
     order by f.position desc limit 1
$$;

create temporary view oracle_users as
select r.stream_id as id, pg_temp.sealed(r, 'email') as email, pg_temp.latest(r.stream_id, 'name') as name,
       pg_temp.latest(r.stream_id, 'avatar_url') as avatar_url, pg_temp.latest(r.stream_id, 'language') as language,
       pg_temp.latest(r.stream_id, 'timezone') as timezone,
       pg_temp.latest(r.stream_id, 'profile_description') as profile_description,
       coalesce(closed.name = 'user.suspended', false) as suspended, coalesce(closed.position, 0) as credentials_after,
       r.recorded_at as created_at, changed.recorded_at as updated_at
  from facts r
 cross join lateral (select max(c.recorded_at) as recorded_at from facts c
                      where c.stream_id = r.stream_id and c.name in ('user.registered', 'user.profile_changed')) as changed
  left join lateral (select c.name, c.position from facts c
                      where c.stream_id = r.stream_id and c.name in ('user.suspended', 'user.reinstated')
                      order by c.position desc limit 1) as closed on true
 where r.name = 'user.registered';

create temporary view oracle_sessions as
select s.stream_id as id, (s.payload->>'user_id')::uuid as user_id, s.payload->>'method' as method,
       (s.payload->'minted_by'->>'id')::uuid as minted_by, s.recorded_at as started_at,
       (s.payload->>'expires_at')::timestamptz as expires_at, e.recorded_at as ended_at,
       pg_temp.sealed(s, 'address') as address, pg_temp.sealed(s, 'user_agent') as user_agent, s.position
  from facts s
  left join facts e on e.stream_id = s.stream_id and e.name = 'session.ended'
 where s.name = 'session.started';

create temporary view oracle_tokens as
select m as minted, m.stream_id as id, m.payload, m.recorded_at as created_at, m.position,
       coalesce(renewed.expires_at, (m.payload->>'expires_at')::timestamptz) as expires_at, r.recorded_at as revoked_at
  from facts m
  left join facts r on r.stream_id = m.stream_id and r.name = 'token.revoked'
  left join lateral (select (n.payload->>'expires_at')::timestamptz as expires_at from facts n
                      where n.stream_id = m.stream_id and n.name = 'token.renewed'
                      order by n.position desc limit 1) as renewed on true
 where m.name = 'token.minted';

create temporary view oracle_credentials as
select decode(payload->>'hash', 'hex') as hash, id, payload->>'kind' as kind, (payload->>'user_id')::uuid as user_id,
       (payload->'minted_by'->>'id')::uuid as minted_by, payload->'minted_by'->>'kind' as minted_by_kind,
       expires_at, revoked_at, position
  from oracle_tokens;

create temporary view oracle_token_list as
select id, (payload->>'user_id')::uuid as user_id, pg_temp.sealed(minted, 'name') as name, payload->>'prefix' as prefix,
       (payload->'minted_by'->>'id')::uuid as minted_by, created_at, expires_at, revoked_at, position
  from oracle_tokens;

-- What of each fact an auditor may see: in the clear, and sealed. A fact without a row here is seen
-- with nothing, and a name that is missing makes the comparison fail.
create temporary view visible (name, clear, sealed) as values
    ('user.registered', '{}'::text[], '{email,name}'::text[]),
    ('user.profile_changed', '{}', '{name,avatar_url,language,timezone,profile_description}'),
    ('user.suspended', '{}', '{}'),
    ('user.reinstated', '{}', '{}'),
    ('login.code_issued', '{code_id,expires_at}', '{email,address,user_agent}'),
    ('login.code_refused', '{code_id,reason}', '{address,user_agent}'),
    ('login.code_verified', '{code_id,session_id}', '{}'),
    ('session.started', '{method,minted_by,expires_at}', '{address,user_agent}'),
    ('session.ended', '{reason}', '{}'),
    ('token.minted', '{kind,prefix,minted_by,expires_at}', '{name}'),
    ('token.renewed', '{expires_at}', '{}'),
    ('token.revoked', '{reason}', '{}');

create temporary view oracle_trail as
select f.position, f.name, f.kind as stream_kind, f.stream_id, f.workspace_id, f.actor_kind, f.actor_id,
       f.credential_id,
       case f.kind when 'user' then f.stream_id else (f.payload->>'user_id')::uuid end as subject_id, f.request_id,
       (select coalesce(jsonb_object_agg(field, f.payload->field), '{}') from unnest(v.clear) as field) as data,
       array(select field from unnest(v.sealed) as field where f.payload->>field is not null) as personal
  from facts f join visible v using (name);

create temporary view oracle_audit_scope as
select distinct scope.id as scope_id, f.position, f.name, f.actor_id, f.subject_id
  from oracle_trail f
 cross join lateral (values (f.subject_id), (case when f.actor_kind = 'person' then f.actor_id end), (f.workspace_id))
       as scope (id)
 where scope.id is not null;

create temporary view oracle_audit_credential as
select distinct c.id as credential_id, f.position
  from facts f
 cross join lateral (values (f.credential_id),
                            (case when f.kind in ('session', 'token') then f.stream_id end),
                            (case when f.name = 'login.code_verified' then (f.payload->>'session_id')::uuid end))
       as c (id)
 where c.id is not null;
