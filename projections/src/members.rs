//! `members`: who is in which workspace, and as what. Inline: every request in a workspace reads it.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use tally_domain::{Action, Authorized, Membership, policy::Act};
use tally_events::{Event, MemberEvent, MemberId, Recorded, Role, UserId, WorkspaceId, member::MemberJoined};
use tally_store::{KeyRing, Projection};
use uuid::Uuid;

use crate::{
    by_id::ById,
    open::{Opened, open_rows},
    users::QueryError,
};

pub struct Members;

#[async_trait]
impl Projection for Members {
    fn name(&self) -> &'static str {
        "members"
    }

    fn version(&self) -> i32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["members"]
    }

    fn keys(&self) -> &'static [&'static str] {
        &["members_pkey"]
    }

    async fn apply(&self, connection: &mut PgConnection, events: &[Recorded]) -> Result<(), sqlx::Error> {
        let mut members = ById::<Member>::new();
        for recorded in events {
            let id = recorded.stream.uuid();
            let Event::Member(event) = &recorded.event else { continue };
            match event {
                // Somebody may come back: their row then is another one in the old place.
                MemberEvent::Joined(event) => {
                    let (joined, role) = (Some((event, recorded)), Some(event.role));
                    *members.change(id) = Member { joined, role, removed: false };
                }
                MemberEvent::RoleChanged(event) => members.change(id).role = Some(event.role),
                MemberEvent::Removed(_) => {
                    *members.change(id) = Member { joined: None, role: None, removed: true };
                }
            }
        }
        let (mut joined, mut changed, mut removed) =
            (Joined::default(), (Vec::new(), Vec::new()), Vec::new());
        for (id, member) in members.into_rows() {
            match member {
                Member { joined: Some((event, recorded)), role, .. } => {
                    joined.push(id, event, role.unwrap_or(event.role), recorded);
                }
                Member { removed: true, .. } => removed.push(id),
                Member { role: Some(role), .. } => {
                    changed.0.push(id);
                    changed.1.push(role.as_str().to_owned());
                }
                Member { role: None, .. } => {}
            }
        }
        joined.upsert(connection).await?;
        if !changed.0.is_empty() {
            sqlx::query!(
                r#"update members m set role = e.role
                     from unnest($1::uuid[], $2::text[]) as e(id, role) where m.id = e.id"#,
                &changed.0,
                &changed.1,
            )
            .execute(&mut *connection)
            .await?;
        }
        if !removed.is_empty() {
            sqlx::query!("delete from members where id = any($1)", &removed).execute(connection).await?;
        }
        Ok(())
    }
}

/// What a run of events leaves of one membership.
#[derive(Default)]
struct Member<'a> {
    joined: Option<(&'a MemberJoined, &'a Recorded)>,
    role: Option<Role>,
    removed: bool,
}

/// Those who came in.
#[derive(Default)]
struct Joined {
    ids: Vec<Uuid>,
    workspaces: Vec<Uuid>,
    users: Vec<Uuid>,
    roles: Vec<String>,
    created_at: Vec<DateTime<Utc>>,
    positions: Vec<i64>,
}

impl Joined {
    fn push(&mut self, id: Uuid, event: &MemberJoined, role: Role, recorded: &Recorded) {
        self.ids.push(id);
        self.workspaces.push(event.workspace_id.0);
        self.users.push(event.user_id.0);
        self.roles.push(role.as_str().to_owned());
        self.created_at.push(recorded.recorded_at);
        self.positions.push(recorded.position.0);
    }

    async fn upsert(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.ids.is_empty() {
            return Ok(());
        }
        sqlx::query!(
            r#"insert into members (id, workspace_id, user_id, role, created_at, position)
               select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[], $6::bigint[])
               on conflict (id) do update
                  set role = excluded.role, created_at = excluded.created_at, position = excluded.position"#,
            &self.ids,
            &self.workspaces,
            &self.users,
            &self.roles,
            &self.created_at,
            &self.positions,
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// Somebody's live membership of a workspace; none for strangers, and where there is no such workspace.
///
/// # Errors
/// When the database does not answer.
pub async fn find_membership(
    pool: &PgPool,
    workspace: WorkspaceId,
    user: UserId,
) -> Result<Option<Membership>, sqlx::Error> {
    let role = sqlx::query_scalar!(
        r#"select m.role from members m join workspaces w on w.id = m.workspace_id
            where m.id = $1 and w.deleted_at is null"#,
        MemberId::of(workspace, user).0,
    )
    .fetch_optional(pool)
    .await?;
    Ok(role.and_then(|role| role.parse().ok()).map(|role| Membership { workspace, user, role }))
}

/// An owner of a workspace beside this person.
///
/// # Errors
/// When the database does not answer.
pub async fn other_owner(
    pool: &PgPool,
    workspace: WorkspaceId,
    user: UserId,
) -> Result<Option<UserId>, sqlx::Error> {
    let owner = sqlx::query_scalar!(
        "select user_id from members where workspace_id = $1 and role = 'owner' and user_id <> $2 limit 1",
        workspace.0,
        user.0,
    )
    .fetch_optional(pool)
    .await?;
    Ok(owner.map(UserId))
}

/// Whose membership this is, in this workspace.
///
/// # Errors
/// When the database does not answer.
pub async fn user_of(
    pool: &PgPool,
    workspace: WorkspaceId,
    member: MemberId,
) -> Result<Option<UserId>, sqlx::Error> {
    let user = sqlx::query_scalar!(
        "select user_id from members where id = $1 and workspace_id = $2",
        member.0,
        workspace.0
    )
    .fetch_optional(pool)
    .await?;
    Ok(user.map(UserId))
}

/// A member, opened for the others.
#[derive(Clone)]
pub struct MemberEntry {
    pub id: MemberId,
    pub workspace: WorkspaceId,
    pub user: UserId,
    pub role: Role,
    pub created_at: DateTime<Utc>,
    pub name: String,
    pub email: String,
    pub avatar_url: Option<String>,
}

/// A row as it is read.
struct Row {
    id: Uuid,
    workspace_id: Uuid,
    user_id: Uuid,
    role: String,
    created_at: DateTime<Utc>,
    name: String,
    email: String,
    avatar_url: Option<String>,
}

impl Row {
    fn opened(&self, [name, email, avatar_url]: Opened<3>) -> MemberEntry {
        MemberEntry {
            id: MemberId(self.id),
            workspace: WorkspaceId(self.workspace_id),
            user: UserId(self.user_id),
            role: role_of(&self.role),
            created_at: self.created_at,
            name: name.unwrap_or_default(),
            email: email.unwrap_or_default(),
            avatar_url,
        }
    }
}

/// Written from a role; what is none has no more than the least.
pub(crate) fn role_of(text: &str) -> Role {
    text.parse().unwrap_or(Role::Member)
}

async fn open(keys: &KeyRing, rows: &[Row]) -> Result<Vec<MemberEntry>, QueryError> {
    let sealed: Vec<_> =
        rows.iter().map(|row| [Some(&*row.name), Some(&*row.email), row.avatar_url.as_deref()]).collect();
    let opened = open_rows(keys, &sealed).await?;
    Ok(rows.iter().zip(opened).map(|(row, columns)| row.opened(columns)).collect())
}

/// Everybody in the workspace of a membership, who came first first.
#[derive(Clone, Copy, Debug)]
pub struct ListMembers;

impl Act for ListMembers {
    const ACTION: Action = Action::ListMembers;
}

/// Lists the members of a workspace for one of them.
///
/// # Errors
/// When the database does not answer or a field does not open.
pub async fn list_members(
    pool: &PgPool,
    keys: &KeyRing,
    query: &Authorized<ListMembers>,
) -> Result<Vec<MemberEntry>, QueryError> {
    let Some(membership) = query.membership() else { return Ok(Vec::new()) };
    let rows = sqlx::query_as!(
        Row,
        r#"select m.id, m.workspace_id, m.user_id, m.role, m.created_at, u.name, u.email, u.avatar_url
             from members m join users u on u.id = m.user_id
            where m.workspace_id = $1
            order by m.position"#,
        membership.workspace.0,
    )
    .fetch_all(pool)
    .await?;
    open(keys, &rows).await
}

/// One member, for whoever has just changed them or become them.
///
/// # Errors
/// When the database does not answer or a field does not open.
pub async fn find_member(
    pool: &PgPool,
    keys: &KeyRing,
    member: MemberId,
) -> Result<Option<MemberEntry>, QueryError> {
    let rows = sqlx::query_as!(
        Row,
        r#"select m.id, m.workspace_id, m.user_id, m.role, m.created_at, u.name, u.email, u.avatar_url
             from members m join users u on u.id = m.user_id
            where m.id = $1"#,
        member.0,
    )
    .fetch_all(pool)
    .await?;
    Ok(open(keys, &rows).await?.pop())
}
