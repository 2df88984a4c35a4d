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
           when 'workspace' then 'workspace:' || fact.stream_id
           when 'share_link' then 'workspace:' || (fact.payload->>'workspace_id')
           when 'invitation' then 'invitation:' || fact.stream_id
           else 'user:' || (fact.payload->>'user_id')
           end
$$;

-- A personal field as projections keep it: with its place, in the alphabet of base64url.
create function pg_temp.sealed(fact facts, field text) returns text language sql as $$
    select fact.kind || ':' || fact.stream_id || '/' || fact.stream_version || '/' || fact.name || '/' || field || '/'
        || pg_temp.subject_of(fact) || '/' || translate(fact.payload->>field, '+/', '-_')
$$;

-- The last word of a history on one field that is set by its first event and by changes.
create function pg_temp.latest(id uuid, field text) returns text language sql as $$
    select pg_temp.sealed(f, field) from facts f
     where f.stream_id = id and f.name in ('user.registered', 'user.profile_changed', 'workspace.created', 'workspace.changed')
       and f.payload->>field is not null
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
select s.stream_id as id, (s.payload->>'user_id')::uuid as user_id,
       case when s.payload ? 'console' then 'console_session' else 'session' end as kind,
       s.payload->>'method' as method, (s.payload->'minted_by'->>'id')::uuid as minted_by,
       s.recorded_at as started_at, seen.at as refreshed_at,
       coalesce(refreshed.expires_at, (s.payload->>'expires_at')::timestamptz) as expires_at,
       e.recorded_at as ended_at,
       pg_temp.sealed(s, 'address') as address, pg_temp.sealed(s, 'user_agent') as user_agent, s.position
  from facts s
  left join facts e on e.stream_id = s.stream_id and e.name = 'session.ended'
 cross join lateral (select max(r.recorded_at) as at from facts r
                      where r.stream_id = s.stream_id and r.name in ('session.refreshed', 'session.refresh_repeated')) as seen
  left join lateral (select (r.payload->>'expires_at')::timestamptz as expires_at from facts r
                      where r.stream_id = s.stream_id and r.name = 'session.refreshed'
                      order by r.position desc limit 1) as refreshed on true
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

create temporary view oracle_workspaces as
select c.stream_id as id, pg_temp.sealed(c, 'slug') as slug, pg_temp.latest(c.stream_id, 'name') as name,
       pg_temp.latest(c.stream_id, 'issue_prefix') as issue_prefix,
       pg_temp.latest(c.stream_id, 'description') as description, pg_temp.latest(c.stream_id, 'context') as context,
       pg_temp.latest(c.stream_id, 'settings') as settings, pg_temp.latest(c.stream_id, 'repos') as repos,
       pg_temp.latest(c.stream_id, 'avatar_url') as avatar_url, c.recorded_at as created_at,
       (select max(e.recorded_at) from facts e where e.stream_id = c.stream_id
           and e.name in ('workspace.created', 'workspace.changed')) as updated_at,
       d.recorded_at as deleted_at
  from facts c
  left join facts d on d.stream_id = c.stream_id and d.name = 'workspace.deleted'
 where c.name = 'workspace.created';

-- Who last came in, and has not gone since; the role is what was said last.
create temporary view oracle_members as
select j.stream_id as id, (j.payload->>'workspace_id')::uuid as workspace_id, (j.payload->>'user_id')::uuid as user_id,
       role.role, j.recorded_at as created_at, j.position
  from facts j
 cross join lateral (select f.payload->>'role' as role from facts f
                      where f.stream_id = j.stream_id and f.name in ('member.joined', 'member.role_changed')
                      order by f.position desc limit 1) as role
 where j.name = 'member.joined'
   and not exists (select from facts later where later.stream_id = j.stream_id and later.position > j.position
                      and later.name in ('member.joined', 'member.removed'));

create temporary view oracle_invitations as
select c.stream_id as id, (c.payload->>'workspace_id')::uuid as workspace_id, (c.payload->>'inviter_id')::uuid as inviter_id,
       coalesce((a.payload->>'user_id')::uuid, (c.payload->>'invitee_user_id')::uuid) as invitee_user_id,
       pg_temp.sealed(c, 'email') as email, c.payload->>'role' as role,
       case a.name when 'invitation.accepted' then 'accepted' when 'invitation.declined' then 'declined'
                   when 'invitation.revoked' then 'revoked' else 'pending' end as status,
       c.recorded_at as created_at, coalesce(a.recorded_at, c.recorded_at) as updated_at,
       (c.payload->>'expires_at')::timestamptz as expires_at
  from facts c
  left join facts a on a.stream_id = c.stream_id and a.name in ('invitation.accepted', 'invitation.declined', 'invitation.revoked')
 where c.name = 'invitation.created';

create temporary view oracle_share_links as
select c.stream_id as id, (c.payload->>'workspace_id')::uuid as workspace_id, pg_temp.sealed(c, 'code') as code,
       c.payload->>'role' as role, case when c.actor_kind = 'person' then c.actor_id end as created_by,
       c.recorded_at as created_at, (c.payload->>'expires_at')::timestamptz as expires_at,
       (c.payload->>'max_uses')::integer as max_uses,
       (select count(*) from facts u where u.stream_id = c.stream_id and u.name = 'share_link.used')::integer as uses,
       r.recorded_at as revoked_at
  from facts c
  left join facts r on r.stream_id = c.stream_id and r.name = 'share_link.revoked'
 where c.name = 'share_link.created';

-- What of each fact an auditor may see: in the clear, and sealed. A fact without a row here is seen
-- with nothing, and a name that is missing makes the comparison fail.
create temporary view visible (name, clear, sealed) as values
    ('user.registered', '{}'::text[], '{email,name}'::text[]),
    ('user.profile_changed', '{}', '{name,avatar_url,language,timezone,profile_description}'),
    ('user.suspended', '{}', '{}'),
    ('user.reinstated', '{}', '{}'),
    ('user.identity_linked', '{issuer,proof}', '{subject}'),
    ('login.code_issued', '{code_id,expires_at}', '{email,address,user_agent}'),
    ('login.code_refused', '{code_id,reason}', '{address,user_agent}'),
    ('login.code_verified', '{code_id,session_id}', '{}'),
    ('login.code_undeliverable', '{code_id}', '{}'),
    ('session.started', '{method,minted_by,expires_at}', '{address,user_agent}'),
    ('session.refreshed', '{expires_at}', '{address,user_agent}'),
    ('session.refresh_repeated', '{}', '{address,user_agent}'),
    ('session.ended', '{reason}', '{}'),
    ('token.minted', '{kind,prefix,minted_by,expires_at}', '{name}'),
    ('token.renewed', '{expires_at}', '{}'),
    ('token.revoked', '{reason}', '{}'),
    ('workspace.created', '{}', '{slug,name,issue_prefix,description,context,settings,repos,avatar_url}'),
    ('workspace.changed', '{}', '{name,description,context,settings,repos,issue_prefix,avatar_url}'),
    ('workspace.deleted', '{}', '{}'),
    ('member.joined', '{role,admission}', '{}'),
    ('member.role_changed', '{role}', '{}'),
    ('member.removed', '{reason}', '{}'),
    ('invitation.created', '{role,expires_at}', '{email}'),
    ('invitation.accepted', '{}', '{}'),
    ('invitation.declined', '{}', '{}'),
    ('invitation.revoked', '{}', '{}'),
    ('share_link.created', '{role,expires_at,max_uses}', '{}'),
    ('share_link.used', '{}', '{}'),
    ('share_link.revoked', '{}', '{}');

-- Whom a fact is about; nobody in particular for much of what happens in a workspace.
create function pg_temp.concerned(fact facts) returns uuid language sql as $$
    select case
           when fact.kind = 'user' then fact.stream_id
           when fact.kind = 'workspace' or fact.name in ('invitation.revoked', 'share_link.created', 'share_link.revoked') then null
           when fact.name = 'invitation.created' then (fact.payload->>'invitee_user_id')::uuid
           else (fact.payload->>'user_id')::uuid
           end
$$;

-- Where it happened.
create function pg_temp.workspace_of(fact facts) returns uuid language sql as $$
    select case fact.kind when 'workspace' then fact.stream_id else (fact.payload->>'workspace_id')::uuid end
$$;

create temporary view oracle_trail as
select f.position, f.name, f.kind as stream_kind, f.stream_id, pg_temp.workspace_of(f) as workspace_id, f.actor_kind,
       f.actor_id, f.credential_id, pg_temp.concerned(f) as subject_id, f.request_id,
       (select coalesce(jsonb_object_agg(field, f.payload->field), '{}') from unnest(v.clear) as field)
           -- What recognises a refresh token is nobody's to see.
           || case when f.name = 'session.started' and f.payload ? 'console'
                   then jsonb_build_object('console', (f.payload->'console') - 'refresh_hash')
                   else '{}' end as data,
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
