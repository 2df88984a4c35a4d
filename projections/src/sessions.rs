//! `sessions`: who is logged in. Inline: every request by session reads it.

use std::net::IpAddr;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use tally_domain::{Action, Authorized, credential::CredentialKind, policy::Act};
use tally_events::{
    CredentialId, Event, Position, Recorded, SessionEvent, SessionId, Subject, UserId,
    session::{SessionMethod, SessionStarted},
};
use tally_store::{KeyRing, Projection, SealedAddress};
use uuid::Uuid;

use crate::{by_id::ById, rows::Rows, users::QueryError};

/// Sessions in one answer: the list has no pages.
const SESSIONS_MAX: i64 = 1000;

pub struct Sessions;

#[async_trait]
impl Projection for Sessions {
    fn name(&self) -> &'static str {
        "sessions"
    }

    fn version(&self) -> i32 {
        2
    }

    fn tables(&self) -> &'static [&'static str] {
        &["sessions"]
    }

    fn keys(&self) -> &'static [&'static str] {
        &["sessions_pkey"]
    }

    fn makes_verdicts(&self) -> bool {
        true
    }

    async fn apply(&self, connection: &mut PgConnection, events: &[Recorded]) -> Result<(), sqlx::Error> {
        let mut sessions = ById::<Session>::new();
        for recorded in events {
            let id = recorded.stream.uuid();
            let Event::Session(event) = &recorded.event else { continue };
            match event {
                SessionEvent::Started(event) => sessions.create(id).started = Some((event, recorded)),
                SessionEvent::Refreshed(event) => {
                    let session = sessions.change(id);
                    session.refreshed_at = Some(recorded.recorded_at);
                    session.expires_at = Some(event.expires_at);
                }
                SessionEvent::RefreshRepeated(_) => {
                    sessions.change(id).refreshed_at = Some(recorded.recorded_at);
                }
                SessionEvent::Ended(_) => sessions.change(id).ended_at = Some(recorded.recorded_at),
            }
        }
        let mut started = Rows::new(
            "copy sessions (id, user_id, kind, method, minted_by, started_at, refreshed_at, expires_at, ended_at,
                            address, user_agent, position) from stdin (format binary)",
        );
        let mut changed = Changed::default();
        for (id, session) in sessions.into_rows() {
            let Some((event, recorded)) = session.started else {
                changed.push(id, &session);
                continue;
            };
            started.push(&[
                &id,
                &event.user_id.0,
                &kind(event).row().name,
                &method(event.method),
                &event.minted_by.map(CredentialId::uuid),
                &recorded.recorded_at,
                &session.refreshed_at,
                &session.expires_at.unwrap_or(event.expires_at),
                &session.ended_at,
                &event.address,
                &event.user_agent,
                &recorded.position,
            ]);
        }
        started.append(connection).await?;
        changed.update(connection).await
    }
}

/// What a run of events says of one session.
#[derive(Default)]
struct Session<'a> {
    started: Option<(&'a SessionStarted, &'a Recorded)>,
    refreshed_at: Option<DateTime<Utc>>,
    /// None: it was not moved.
    expires_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
}

/// Changes to sessions that started before; what an absent value says nothing of stays.
#[derive(Default)]
struct Changed {
    ids: Vec<Uuid>,
    refreshed_at: Vec<Option<DateTime<Utc>>>,
    expires_at: Vec<Option<DateTime<Utc>>>,
    ended_at: Vec<Option<DateTime<Utc>>>,
}

impl Changed {
    fn push(&mut self, id: Uuid, session: &Session) {
        self.ids.push(id);
        self.refreshed_at.push(session.refreshed_at);
        self.expires_at.push(session.expires_at);
        self.ended_at.push(session.ended_at);
    }

    async fn update(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.ids.is_empty() {
            return Ok(());
        }
        sqlx::query!(
            r#"update sessions s
                  set refreshed_at = coalesce(e.refreshed_at, s.refreshed_at),
                      expires_at = coalesce(e.expires_at, s.expires_at),
                      ended_at = coalesce(e.ended_at, s.ended_at)
                 from unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[])
                   as e(id, refreshed_at, expires_at, ended_at)
                where s.id = e.id"#,
            &self.ids,
            &self.refreshed_at as &[Option<DateTime<Utc>>],
            &self.expires_at as &[Option<DateTime<Utc>>],
            &self.ended_at as &[Option<DateTime<Utc>>],
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// What kind of credential shows a session that started so.
const fn kind(event: &SessionStarted) -> CredentialKind {
    match event.console {
        Some(_) => CredentialKind::ConsoleSession,
        None => CredentialKind::Session,
    }
}

const fn method(method: SessionMethod) -> &'static str {
    match method {
        SessionMethod::EmailCode => "email_code",
        SessionMethod::CommandLine => "command_line",
        SessionMethod::Identity => "identity",
    }
}

/// The live sessions of the person who asks, newest first.
#[derive(Clone, Copy, Debug)]
pub struct ListSessions {
    pub now: DateTime<Utc>,
}

impl Act for ListSessions {
    const ACTION: Action = Action::ListSessions;
}

/// A session, opened for its owner.
#[derive(Clone)]
pub struct SessionEntry {
    pub id: SessionId,
    /// `session` or `console_session`.
    pub kind: String,
    /// How the person proved who they are.
    pub method: String,
    /// Where it was started from, and by what.
    pub address: Option<String>,
    pub user_agent: Option<String>,
    pub started_at: DateTime<Utc>,
    /// Its last refresh or use, as far as replicas have written down what it was used for.
    pub last_seen_at: Option<DateTime<Utc>>,
    /// Where it was used from last.
    pub last_seen_address: Option<IpAddr>,
    pub expires_at: DateTime<Utc>,
    /// The session that started it.
    pub minted_by: Option<SessionId>,
}

/// Lists the asking person's live sessions: neither ended nor expired, nor from before a suspension.
///
/// # Errors
/// When the database does not answer or a field does not open.
pub async fn list_sessions(
    pool: &PgPool,
    keys: &KeyRing,
    query: &Authorized<ListSessions>,
) -> Result<Vec<SessionEntry>, QueryError> {
    let Some(user) = query.principal().user() else { return Ok(Vec::new()) };
    let rows = sqlx::query!(
        r#"select s.id, s.kind, s.method, s.minted_by, s.started_at, s.expires_at, s.address, s.user_agent,
                  greatest(s.refreshed_at, used.last_used_at) as last_seen_at,
                  used.last_used_at as "last_used_at?", hour.addresses[1] as "last_used_from?",
                  k.wrapped as "wrapped?"
             from sessions s
             join users u on u.id = s.user_id
             left join keys.subject k on k.kind = 'user' and k.id = s.user_id
             left join credential_usage used on used.credential_id = s.id
             left join credential_usage_hourly hour
               on hour.credential_id = s.id and hour.hour = date_trunc('hour', used.last_used_at, 'UTC')
            where s.user_id = $1 and s.ended_at is null and s.expires_at > $2 and s.position > u.credentials_after
            order by s.position desc
            limit $3"#,
        user.0,
        query.get().now,
        SESSIONS_MAX,
    )
    .fetch_all(pool)
    .await?;
    let wrapped = rows.first().and_then(|row| row.wrapped.clone());
    let sealed: Vec<&str> =
        rows.iter().flat_map(|row| [&row.address, &row.user_agent]).flatten().map(String::as_str).collect();
    let mut opened = keys.open_texts_with(Subject::User(user), wrapped.as_deref(), &sealed)?.into_iter();
    let used_from = rows.iter().map(|row| {
        let (used_at, sealed) = (row.last_used_at?, row.last_used_from.as_deref()?);
        Some(SealedAddress { credential: CredentialId::Session(SessionId(row.id)), used_at, sealed })
    });
    let used_from = keys.open_addresses_with(user, wrapped.as_deref(), used_from)?;
    let mut open = |column: &Option<String>| {
        let text = column.as_ref().and_then(|_| opened.next().flatten())?;
        Some(text.as_str().to_owned())
    };
    let entries = rows.iter().zip(used_from).map(|(row, last_seen_address)| SessionEntry {
        id: SessionId(row.id),
        kind: row.kind.clone(),
        method: row.method.clone(),
        address: open(&row.address),
        user_agent: open(&row.user_agent),
        started_at: row.started_at,
        last_seen_at: row.last_seen_at,
        last_seen_address,
        expires_at: row.expires_at,
        minted_by: row.minted_by.map(SessionId),
    });
    Ok(entries.collect())
}

/// Sessions of a person's other than `current` that have not ended and expire after `expiring_after`, `limit` at
/// most: those that had started when the
/// log stood at `until`, and those that an ended session had started since.
///
/// # Errors
/// When the database does not answer.
pub async fn other_sessions(
    pool: &PgPool,
    owner: UserId,
    current: Option<SessionId>,
    until: Position,
    expiring_after: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<SessionId>, sqlx::Error> {
    let rows = sqlx::query_scalar!(
        r#"select s.id
             from sessions s
             left join sessions parent on parent.id = s.minted_by
            where s.user_id = $1 and s.ended_at is null and s.expires_at > $4 and s.id is distinct from $2
              and (s.position <= $3 or parent.ended_at is not null)
            order by s.position
            limit $5"#,
        owner.0,
        current.map(Uuid::from),
        until.0,
        expiring_after,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(SessionId).collect())
}

/// The sessions of a person's that one of theirs started and that expire after `expiring_after`, `limit` at
/// most: those that have not ended, and of those that have started since the log stood at `since` also those
/// that have.
///
/// # Errors
/// When the database does not answer.
pub async fn sessions_below(
    pool: &PgPool,
    owner: UserId,
    parent: SessionId,
    since: Position,
    expiring_after: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<SessionId>, sqlx::Error> {
    let rows = sqlx::query_scalar!(
        r#"select id from sessions
            where minted_by = $1 and user_id = $2 and expires_at > $3 and (ended_at is null or position > $5)
            order by position
            limit $4"#,
        parent.0,
        owner.0,
        expiring_after,
        limit,
        since.0,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(SessionId).collect())
}

/// Whose session it is.
///
/// # Errors
/// When the database does not answer.
pub async fn owner_of(pool: &PgPool, session: SessionId) -> Result<Option<UserId>, sqlx::Error> {
    let owner = sqlx::query_scalar!("select user_id from sessions where id = $1", session.0)
        .fetch_optional(pool)
        .await?;
    Ok(owner.map(UserId))
}
