//! `audit_log`: who did what, when, with which credential. Follows the log.
//!
//! The log is the trail, and nothing of it is written twice; what stands here is its index. An event
//! is once in `audit_scope` for everyone who may see it, and once in `audit_credential` for each
//! credential it was done with or done to. A query walks one index, newest first, never scans, and
//! reads the events it found where they are.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::{PgConnection, PgPool};
use tally_domain::{Action, Authorized, policy::Act};
use tally_events::{Event, LoginEvent, Position, Recorded};
use tally_store::{KeyRing, Projection, events_at};
use uuid::Uuid;

use crate::{rows::Rows, users::QueryError};

/// Events on one page.
pub const PAGE_MAX: i64 = 200;
/// Credentials of one line that a query follows.
const LINE_MAX: i64 = 1000;

pub struct AuditLog;

#[async_trait]
impl Projection for AuditLog {
    fn name(&self) -> &'static str {
        "audit_log"
    }

    fn version(&self) -> i32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["audit_scope", "audit_credential"]
    }

    async fn apply(&self, connection: &mut PgConnection, events: &[Recorded]) -> Result<(), sqlx::Error> {
        let mut scopes = Rows::new(
            "copy audit_scope (scope_id, position, name, actor_id, subject_id) from stdin (format binary)",
        );
        let mut credentials =
            Rows::new("copy audit_credential (credential_id, position) from stdin (format binary)");
        for recorded in events {
            let subject = subject_of(recorded);
            let person = recorded.actor.user().map(Uuid::from);
            for scope in distinct([subject, person, recorded.workspace.map(Uuid::from)]) {
                let (position, name) = (&recorded.position, &recorded.event.name());
                scopes.push(&[&scope, position, name, &recorded.actor.id, &subject]);
            }
            for credential in distinct([recorded.credential_id, done_to(recorded)]) {
                credentials.push(&[&credential, &recorded.position]);
            }
        }
        scopes.append(connection).await?;
        credentials.append(connection).await
    }
}

/// Whom an event concerns.
fn subject_of(recorded: &Recorded) -> Option<Uuid> {
    recorded.event.concerns(recorded.stream).map(Uuid::from)
}

/// The ids among these, each once.
fn distinct<const N: usize>(ids: [Option<Uuid>; N]) -> impl Iterator<Item = Uuid> {
    (0..N).filter_map(move |at| ids[at].filter(|_| !ids[..at].contains(&ids[at])))
}

/// The credential an event was done to, beside the one it was done with.
fn done_to(recorded: &Recorded) -> Option<Uuid> {
    match &recorded.event {
        Event::Session(_) | Event::Token(_) => Some(recorded.stream.uuid()),
        Event::Login(event) => match event {
            LoginEvent::CodeVerified(event) => Some(event.session_id.0),
            LoginEvent::CodeIssued(_) | LoginEvent::CodeRefused(_) | LoginEvent::CodeUndeliverable(_) => None,
        },
        Event::User(_)
        | Event::Workspace(_)
        | Event::Member(_)
        | Event::Invitation(_)
        | Event::ShareLink(_) => None,
    }
}

/// One page of what concerns the person who asks, newest first.
#[derive(Clone, Debug)]
pub struct ReadAuditTrail {
    pub filter: AuditFilter,
    /// Only events below this position: where the page before it ended.
    pub below: Option<Position>,
    /// Only events in this range of positions, both ends included.
    pub from: Position,
    pub to: Position,
    /// Events on the page, [`PAGE_MAX`] at most.
    pub limit: i64,
}

/// What a query is narrowed by beside its range. Each has its index; there are no combinations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AuditFilter {
    #[default]
    Everything,
    Name(String),
    Actor(Uuid),
    Subject(Uuid),
    /// What was done with a credential or to it.
    Credential(Uuid),
    /// The same for a credential and every one below it in its line.
    Line(Uuid),
}

impl Act for ReadAuditTrail {
    const ACTION: Action = Action::ReadAuditTrail;
}

/// An event as an auditor sees it, its personal fields opened.
#[derive(Clone)]
pub struct AuditEntry {
    pub position: Position,
    pub recorded_at: DateTime<Utc>,
    pub name: &'static str,
    pub stream_kind: &'static str,
    pub stream_id: Uuid,
    pub workspace_id: Option<Uuid>,
    pub actor_kind: &'static str,
    pub actor_id: Option<Uuid>,
    pub credential_id: Option<Uuid>,
    pub subject_id: Option<Uuid>,
    pub request_id: Option<Uuid>,
    pub data: Map<String, Value>,
}

/// The same of what happened in a workspace, for those who manage it.
#[derive(Clone, Debug)]
pub struct ReadWorkspaceAuditTrail(pub ReadAuditTrail);

impl Act for ReadWorkspaceAuditTrail {
    const ACTION: Action = Action::ReadWorkspaceAuditTrail;
}

/// Reads a page of what concerns the person who asks.
///
/// # Errors
/// When the database does not answer in time or a field does not open.
pub async fn read_audit_trail(
    pool: &PgPool,
    keys: &KeyRing,
    query: &Authorized<ReadAuditTrail>,
) -> Result<Vec<AuditEntry>, QueryError> {
    match query.principal().user() {
        Some(user) => read(pool, keys, user.0, query.get()).await,
        None => Ok(Vec::new()),
    }
}

/// Reads a page of what happened in the workspace of a membership.
///
/// # Errors
/// When the database does not answer in time or a field does not open.
pub async fn read_workspace_audit_trail(
    pool: &PgPool,
    keys: &KeyRing,
    query: &Authorized<ReadWorkspaceAuditTrail>,
) -> Result<Vec<AuditEntry>, QueryError> {
    match query.membership() {
        Some(membership) => read(pool, keys, membership.workspace.0, &query.get().0).await,
        None => Ok(Vec::new()),
    }
}

async fn read(
    pool: &PgPool,
    keys: &KeyRing,
    scope: Uuid,
    trail: &ReadAuditTrail,
) -> Result<Vec<AuditEntry>, QueryError> {
    let ReadAuditTrail { filter, below, from, to, limit } = trail;
    let below = below.map_or(i64::MAX, |below| below.0).min(to.0.saturating_add(1));
    let positions = find_positions(pool, scope, filter, from.0, below, (*limit).clamp(1, PAGE_MAX)).await?;
    open(keys, &events_at(pool, &positions).await?).await
}

/// The positions on the page: one index walk each, `from` included and `below` excluded.
async fn find_positions(
    pool: &PgPool,
    scope: Uuid,
    filter: &AuditFilter,
    from: i64,
    below: i64,
    limit: i64,
) -> Result<Vec<i64>, sqlx::Error> {
    match filter {
        AuditFilter::Everything => {
            sqlx::query_scalar!(
                r#"select position from audit_scope
                    where scope_id = $1 and position >= $2 and position < $3
                    order by position desc limit $4"#,
                scope,
                from,
                below,
                limit
            )
            .fetch_all(pool)
            .await
        }
        AuditFilter::Name(name) => {
            sqlx::query_scalar!(
                r#"select position from audit_scope
                    where scope_id = $1 and name = $5 and position >= $2 and position < $3
                    order by position desc limit $4"#,
                scope,
                from,
                below,
                limit,
                name
            )
            .fetch_all(pool)
            .await
        }
        AuditFilter::Actor(actor) => {
            sqlx::query_scalar!(
                r#"select position from audit_scope
                    where scope_id = $1 and actor_id = $5 and position >= $2 and position < $3
                    order by position desc limit $4"#,
                scope,
                from,
                below,
                limit,
                actor
            )
            .fetch_all(pool)
            .await
        }
        AuditFilter::Subject(subject) => {
            sqlx::query_scalar!(
                r#"select position from audit_scope
                    where scope_id = $1 and subject_id = $5 and position >= $2 and position < $3
                    order by position desc limit $4"#,
                scope,
                from,
                below,
                limit,
                subject
            )
            .fetch_all(pool)
            .await
        }
        AuditFilter::Credential(credential) => {
            find_credential_positions(pool, scope, &[*credential], from, below, limit).await
        }
        AuditFilter::Line(root) => {
            let line = sqlx::query_scalar!(
                r#"with recursive line(id) as (
                       select $1::uuid
                       union
                       select child.id from line
                         join lateral (select c.id from credentials c where c.minted_by = line.id
                                       union all
                                       select s.id from sessions s where s.minted_by = line.id) as child on true
                   )
                   select id as "id!" from line limit $2"#,
                root,
                LINE_MAX,
            )
            .fetch_all(pool)
            .await?;
            find_credential_positions(pool, scope, &line, from, below, limit).await
        }
    }
}

/// Walks the index of each credential no further than a page, and takes the newest of all.
async fn find_credential_positions(
    pool: &PgPool,
    scope: Uuid,
    credentials: &[Uuid],
    from: i64,
    below: i64,
    limit: i64,
) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select distinct a.position as "position!"
             from unnest($5::uuid[]) as wanted(id)
            cross join lateral (
                select c.position from audit_credential c
                  join audit_scope s on s.scope_id = $1 and s.position = c.position
                 where c.credential_id = wanted.id and c.position >= $2 and c.position < $3
                 order by c.position desc limit $4) as a
            order by 1 desc limit $4"#,
        scope,
        from,
        below,
        limit,
        credentials
    )
    .fetch_all(pool)
    .await
}

/// Shows what of a page's events may be seen, their personal fields opened in one go; those of an
/// erased subject stay absent.
async fn open(keys: &KeyRing, events: &[Recorded]) -> Result<Vec<AuditEntry>, QueryError> {
    let (mut entries, mut fields, mut sealed) = (Vec::new(), Vec::new(), Vec::new());
    for recorded in events {
        let public = recorded.event.public();
        for (field, text) in public.sealed {
            fields.push((entries.len(), field));
            sealed.push(text);
        }
        entries.push(AuditEntry::of(recorded, public.data));
    }
    for ((index, field), text) in fields.into_iter().zip(keys.open(&sealed).await?) {
        if let Some(text) = text {
            entries[index].data.insert(field.to_owned(), Value::String(text.as_str().to_owned()));
        }
    }
    Ok(entries)
}

impl AuditEntry {
    fn of(recorded: &Recorded, data: Map<String, Value>) -> Self {
        Self {
            position: recorded.position,
            recorded_at: recorded.recorded_at,
            name: recorded.event.name(),
            stream_kind: recorded.stream.kind().as_str(),
            stream_id: recorded.stream.uuid(),
            workspace_id: recorded.workspace.map(Uuid::from),
            actor_kind: recorded.actor.kind.as_str(),
            actor_id: recorded.actor.id,
            credential_id: recorded.credential_id,
            subject_id: subject_of(recorded),
            request_id: recorded.request_id.map(Uuid::from),
            data,
        }
    }
}
