//! `invitations`: who was invited where, and what became of it. Inline: whoever is invited may sign up.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use tally_domain::{Action, Authorized, invitation::Status, policy::Act};
use tally_events::{
    Event, InvitationEvent, InvitationId, Recorded, Role, UserId, WorkspaceId, invitation::InvitationCreated,
};
use tally_store::{KeyRing, Projection};
use uuid::Uuid;

use crate::{by_id::ById, members::role_of, open::open_rows, rows::Rows, users::QueryError};

/// Invitations in one answer: the contract's lists have no pages.
const INVITATIONS_MAX: i64 = 1000;

pub struct Invitations;

#[async_trait]
impl Projection for Invitations {
    fn name(&self) -> &'static str {
        "invitations"
    }

    fn version(&self) -> i32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["invitations"]
    }

    fn keys(&self) -> &'static [&'static str] {
        &["invitations_pkey"]
    }

    async fn apply(&self, connection: &mut PgConnection, events: &[Recorded]) -> Result<(), sqlx::Error> {
        let mut invitations = ById::<Invitation>::new();
        for recorded in events {
            let id = recorded.stream.uuid();
            let Event::Invitation(event) = &recorded.event else { continue };
            let mut answered = |status, user: Option<UserId>| {
                let invitation = invitations.change(id);
                invitation.answer = Some((status, recorded.recorded_at));
                invitation.invitee = user.or(invitation.invitee);
            };
            match event {
                InvitationEvent::Accepted(event) => answered(Status::Accepted, Some(event.user_id)),
                InvitationEvent::Declined(event) => answered(Status::Declined, Some(event.user_id)),
                InvitationEvent::Revoked(_) => answered(Status::Revoked, None),
                InvitationEvent::Created(event) => {
                    invitations.create(id).created = Some((event, recorded.recorded_at));
                }
            }
        }
        let mut created = Rows::new(
            "copy invitations (id, workspace_id, inviter_id, invitee_user_id, email, role, status, created_at,
                               updated_at, expires_at) from stdin (format binary)",
        );
        let mut answered = Answered::default();
        for (id, invitation) in invitations.into_rows() {
            let Some((event, at)) = invitation.created else {
                answered.push(id, &invitation);
                continue;
            };
            let (status, updated_at) = invitation.answer.unwrap_or((Status::Pending, at));
            created.push(&[
                &id,
                &event.workspace_id.0,
                &event.inviter_id.0,
                &invitation.invitee.or(event.invitee_user_id).map(|user| user.0),
                &event.email,
                &event.role.as_str(),
                &status.as_str(),
                &at,
                &updated_at,
                &event.expires_at,
            ]);
        }
        created.append(connection).await?;
        answered.update(connection).await
    }
}

/// What a run of events says of one invitation.
#[derive(Default)]
struct Invitation<'a> {
    created: Option<(&'a InvitationCreated, DateTime<Utc>)>,
    answer: Option<(Status, DateTime<Utc>)>,
    /// Who answered it.
    invitee: Option<UserId>,
}

/// Answers to invitations that were there before.
#[derive(Default)]
struct Answered {
    ids: Vec<Uuid>,
    statuses: Vec<String>,
    invitees: Vec<Option<Uuid>>,
    updated_at: Vec<DateTime<Utc>>,
}

impl Answered {
    fn push(&mut self, id: Uuid, invitation: &Invitation) {
        let Some((status, at)) = invitation.answer else { return };
        self.ids.push(id);
        self.statuses.push(status.as_str().to_owned());
        self.invitees.push(invitation.invitee.map(|user| user.0));
        self.updated_at.push(at);
    }

    async fn update(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.ids.is_empty() {
            return Ok(());
        }
        sqlx::query!(
            r#"update invitations i
                  set status = e.status, updated_at = e.updated_at,
                      invitee_user_id = coalesce(e.invitee, i.invitee_user_id)
                 from unnest($1::uuid[], $2::text[], $3::uuid[], $4::timestamptz[])
                   as e(id, status, invitee, updated_at)
                where i.id = e.id"#,
            &self.ids,
            &self.statuses,
            &self.invitees as &[Option<Uuid>],
            &self.updated_at,
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// An invitation, opened for those it is between.
#[derive(Clone)]
pub struct InvitationEntry {
    pub id: InvitationId,
    pub workspace: WorkspaceId,
    pub inviter: UserId,
    pub invitee: Option<UserId>,
    pub email: String,
    pub role: Role,
    pub status: String,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub inviter_name: Option<String>,
    pub inviter_email: Option<String>,
    pub workspace_name: Option<String>,
}

/// A row as it is read.
struct Row {
    id: Uuid,
    workspace_id: Uuid,
    inviter_id: Uuid,
    invitee_user_id: Option<Uuid>,
    email: String,
    role: String,
    status: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    inviter_name: Option<String>,
    inviter_email: Option<String>,
    workspace_name: Option<String>,
}

async fn open(keys: &KeyRing, rows: Vec<Row>) -> Result<Vec<InvitationEntry>, QueryError> {
    let sealed: Vec<_> = rows
        .iter()
        .map(|row| {
            let (name, email) = (row.inviter_name.as_deref(), row.inviter_email.as_deref());
            [Some(&*row.email), name, email, row.workspace_name.as_deref()]
        })
        .collect();
    let opened = open_rows(keys, &sealed).await?;
    let entry = |(row, [email, inviter_name, inviter_email, workspace_name]): (Row, [Option<String>; 4])| {
        InvitationEntry {
            id: InvitationId(row.id),
            workspace: WorkspaceId(row.workspace_id),
            inviter: UserId(row.inviter_id),
            invitee: row.invitee_user_id.map(UserId),
            email: email.unwrap_or_default(),
            role: role_of(&row.role),
            status: row.status,
            created_at: row.created_at,
            updated_at: row.updated_at,
            expires_at: row.expires_at,
            inviter_name,
            inviter_email,
            workspace_name,
        }
    };
    Ok(rows.into_iter().zip(opened).map(entry).collect())
}

/// The invitations into the workspace of a membership that can still be answered, newest first.
#[derive(Clone, Copy, Debug)]
pub struct ListInvitations;

impl Act for ListInvitations {
    const ACTION: Action = Action::ListInvitations;
}

/// Lists the open invitations of a workspace.
///
/// # Errors
/// When the database does not answer or a field does not open.
pub async fn list_invitations(
    pool: &PgPool,
    keys: &KeyRing,
    query: &Authorized<ListInvitations>,
) -> Result<Vec<InvitationEntry>, QueryError> {
    let Some(membership) = query.membership() else { return Ok(Vec::new()) };
    let rows = sqlx::query_as!(
        Row,
        r#"select i.id, i.workspace_id, i.inviter_id, i.invitee_user_id, i.email, i.role, i.status, i.created_at,
                  i.updated_at, i.expires_at, u.name as "inviter_name?", u.email as "inviter_email?",
                  w.name as "workspace_name?"
             from invitations i
             left join users u on u.id = i.inviter_id
             left join workspaces w on w.id = i.workspace_id
            where i.workspace_id = $1 and i.status = 'pending' and i.expires_at > clock_timestamp()
            order by i.id desc
            limit $2"#,
        membership.workspace.0,
        INVITATIONS_MAX,
    )
    .fetch_all(pool)
    .await?;
    open(keys, rows).await
}

/// What the one who asks was invited to. Which invitations are theirs, the index of addresses says.
#[derive(Clone, Debug)]
pub struct ListOwnInvitations;

impl Act for ListOwnInvitations {
    const ACTION: Action = Action::ListOwnInvitations;
}

/// Lists those of a person's invitations that can still be answered, newest first.
///
/// # Errors
/// When the database does not answer or a field does not open.
pub async fn list_own_invitations(
    pool: &PgPool,
    keys: &KeyRing,
    _query: &Authorized<ListOwnInvitations>,
    addressed: &[InvitationId],
) -> Result<Vec<InvitationEntry>, QueryError> {
    let rows = select(pool, addressed, true).await?;
    open(keys, rows).await
}

/// Invitations by their ids, newest first, whatever became of them; those into deleted workspaces are
/// gone with them.
///
/// # Errors
/// When the database does not answer or a field does not open.
pub async fn find_invitations(
    pool: &PgPool,
    keys: &KeyRing,
    ids: &[InvitationId],
) -> Result<Vec<InvitationEntry>, QueryError> {
    let rows = select(pool, ids, false).await?;
    open(keys, rows).await
}

/// Rows of invitations into workspaces that are there; those alone that can be answered, or all.
async fn select(pool: &PgPool, ids: &[InvitationId], open_only: bool) -> Result<Vec<Row>, sqlx::Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    sqlx::query_as!(
        Row,
        r#"select i.id, i.workspace_id, i.inviter_id, i.invitee_user_id, i.email, i.role, i.status, i.created_at,
                  i.updated_at, i.expires_at, u.name as "inviter_name?", u.email as "inviter_email?",
                  w.name as "workspace_name?"
             from invitations i
             join workspaces w on w.id = i.workspace_id and w.deleted_at is null
             left join users u on u.id = i.inviter_id
            where i.id = any($1) and (not $2 or (i.status = 'pending' and i.expires_at > clock_timestamp()))
            order by i.id desc"#,
        &ids,
        open_only,
    )
    .fetch_all(pool)
    .await
}

/// Whether any of these invitations can still be accepted.
///
/// # Errors
/// When the database does not answer.
pub async fn any_open(pool: &PgPool, ids: &[InvitationId]) -> Result<bool, sqlx::Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    sqlx::query_scalar!(
        r#"select exists (
               select from invitations i join workspaces w on w.id = i.workspace_id and w.deleted_at is null
                where i.id = any($1) and i.status = 'pending' and i.expires_at > clock_timestamp()) as "open!""#,
        &ids,
    )
    .fetch_one(pool)
    .await
}
