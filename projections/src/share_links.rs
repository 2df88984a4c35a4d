//! `share_links`: links by which one may join, and how often each was used. Inline, so that a link that
//! is over is over for whoever looks at it.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use tally_domain::{Action, policy::Act};
use tally_events::{
    Event, Recorded, Role, ShareLinkEvent, ShareLinkId, UserId, WorkspaceId, share_link::ShareLinkCreated,
};
use tally_store::{KeyRing, Projection};
use uuid::Uuid;

use crate::{by_id::ById, members::role_of, open::open_rows, rows::Rows, users::QueryError};

pub struct ShareLinks;

#[async_trait]
impl Projection for ShareLinks {
    fn name(&self) -> &'static str {
        "share_links"
    }

    fn version(&self) -> i32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["share_links"]
    }

    fn keys(&self) -> &'static [&'static str] {
        &["share_links_pkey"]
    }

    async fn apply(&self, connection: &mut PgConnection, events: &[Recorded]) -> Result<(), sqlx::Error> {
        let mut links = ById::<Link>::new();
        for recorded in events {
            let id = recorded.stream.uuid();
            let Event::ShareLink(event) = &recorded.event else { continue };
            match event {
                ShareLinkEvent::Created(event) => links.create(id).created = Some((event, recorded)),
                ShareLinkEvent::Used(_) => links.change(id).uses += 1,
                ShareLinkEvent::Revoked(_) => links.change(id).revoked_at = Some(recorded.recorded_at),
            }
        }
        let mut created = Rows::new(
            "copy share_links (id, workspace_id, code, role, created_by, created_at, expires_at, max_uses, uses,
                               revoked_at) from stdin (format binary)",
        );
        let (mut ids, mut uses, mut revoked_at) = (Vec::new(), Vec::new(), Vec::new());
        for (id, link) in links.into_rows() {
            let Some((event, recorded)) = link.created else {
                ids.push(id);
                uses.push(link.uses);
                revoked_at.push(link.revoked_at);
                continue;
            };
            let person = recorded.actor.user().map(Uuid::from);
            created.push(&[
                &id,
                &event.workspace_id.0,
                &event.code,
                &event.role.as_str(),
                &person,
                &recorded.recorded_at,
                &event.expires_at,
                &event.max_uses.map(u32::cast_signed),
                &link.uses,
                &link.revoked_at,
            ]);
        }
        created.append(connection).await?;
        if !ids.is_empty() {
            sqlx::query!(
                r#"update share_links l
                      set uses = l.uses + e.uses, revoked_at = coalesce(e.revoked_at, l.revoked_at)
                     from unnest($1::uuid[], $2::integer[], $3::timestamptz[]) as e(id, uses, revoked_at)
                    where l.id = e.id"#,
                &ids,
                &uses,
                &revoked_at as &[Option<DateTime<Utc>>],
            )
            .execute(connection)
            .await?;
        }
        Ok(())
    }
}

/// What a run of events says of one link.
#[derive(Default)]
struct Link<'a> {
    created: Option<(&'a ShareLinkCreated, &'a Recorded)>,
    uses: i32,
    revoked_at: Option<DateTime<Utc>>,
}

/// Reading the link of a workspace, its code included.
#[derive(Clone, Copy, Debug)]
pub struct ReadShareLink;

impl Act for ReadShareLink {
    const ACTION: Action = Action::ReadShareLink;
}

/// A link that somebody can join by now.
#[derive(Clone)]
pub struct ShareLinkEntry {
    pub id: ShareLinkId,
    pub workspace: WorkspaceId,
    pub workspace_name: String,
    pub workspace_avatar_url: Option<String>,
    pub code: String,
    pub role: Role,
    pub created_by: Option<UserId>,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub max_uses: Option<i32>,
    pub uses: i32,
}

/// A link by its id, if it is active; who may know the id is the caller's matter.
///
/// # Errors
/// When the database does not answer or a field does not open.
pub async fn find_active(
    pool: &PgPool,
    keys: &KeyRing,
    link: ShareLinkId,
) -> Result<Option<ShareLinkEntry>, QueryError> {
    let row = sqlx::query!(
        r#"select l.id, l.workspace_id, l.code, l.role, l.created_by, l.created_at, l.expires_at, l.max_uses, l.uses,
                  w.name, w.avatar_url
             from share_links l join workspaces w on w.id = l.workspace_id and w.deleted_at is null
            where l.id = $1 and l.revoked_at is null
              and (l.expires_at is null or l.expires_at > clock_timestamp())
              and (l.max_uses is null or l.uses < l.max_uses)"#,
        link.0,
    )
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let sealed = [Some(&*row.code), Some(&*row.name), row.avatar_url.as_deref()];
    let Some([code, name, avatar_url]) = open_rows(keys, &[sealed]).await?.pop() else { return Ok(None) };
    Ok(Some(ShareLinkEntry {
        id: ShareLinkId(row.id),
        workspace: WorkspaceId(row.workspace_id),
        workspace_name: name.unwrap_or_default(),
        workspace_avatar_url: avatar_url,
        code: code.unwrap_or_default(),
        role: role_of(&row.role),
        created_by: row.created_by.map(UserId),
        created_at: row.created_at,
        expires_at: row.expires_at,
        max_uses: row.max_uses,
        uses: row.uses,
    }))
}
