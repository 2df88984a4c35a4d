//! `credentials`: the hash lookup. Inline: a token works, or not, from its commit on.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt};
use sqlx::{PgConnection, PgExecutor, PgPool};
use tally_domain::{
    PersonCredential, Verdict,
    credential::{CredentialHash, CredentialKind},
    session::ACCESS_LIFETIME,
};
use tally_events::{
    CredentialId, Event, Position, Recorded, SessionId, TokenEvent, TokenId, UserId, token::TokenMinted,
};
use tally_store::Projection;
use uuid::Uuid;

use crate::{by_id::ById, rows::Rows};

pub struct Credentials;

#[async_trait]
impl Projection for Credentials {
    fn name(&self) -> &'static str {
        "credentials"
    }

    fn version(&self) -> i32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["credentials"]
    }

    fn keys(&self) -> &'static [&'static str] {
        &["credentials_id_key"]
    }

    fn makes_verdicts(&self) -> bool {
        true
    }

    async fn apply(&self, connection: &mut PgConnection, events: &[Recorded]) -> Result<(), sqlx::Error> {
        let mut minted = Rows::new(
            "copy credentials (hash, id, kind, user_id, minted_by, minted_by_kind, expires_at, revoked_at, position)
             from stdin (format binary)",
        );
        let mut changed = Changed::default();
        for (id, token) in tokens_of(events).into_rows() {
            let Some((event, recorded)) = token.minted else {
                changed.push(id, &token);
                continue;
            };
            let hash = hex::decode(&*event.hash).map_err(|error| sqlx::Error::Decode(error.into()))?;
            minted.push(&[
                &hash.as_slice(),
                &id,
                &event.kind.as_str(),
                &event.user_id.0,
                &event.minted_by.uuid(),
                &minted_by_kind(event.minted_by),
                &token.expires_at,
                &token.revoked_at,
                &recorded.position,
            ]);
        }
        minted.append(connection).await?;
        if changed.ids.is_empty() {
            return Ok(());
        }
        sqlx::query!(
            r#"update credentials c
                  set expires_at = coalesce(e.expires_at, c.expires_at),
                      revoked_at = coalesce(e.revoked_at, c.revoked_at)
                 from unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) as e(id, expires_at, revoked_at)
                where c.id = e.id"#,
            &changed.ids,
            &changed.expires_at as &[Option<DateTime<Utc>>],
            &changed.revoked_at as &[Option<DateTime<Utc>>],
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

const fn minted_by_kind(credential: CredentialId) -> &'static str {
    match credential {
        CredentialId::Session(_) => "session",
        CredentialId::Token(_) => "token",
    }
}

/// What a run of events says of one token.
#[derive(Default)]
pub(crate) struct Token<'a> {
    pub minted: Option<(&'a TokenMinted, &'a Recorded)>,
    /// None: nothing was said, or it never expires.
    pub expires_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
}

/// The tokens that these events are about.
pub(crate) fn tokens_of(events: &[Recorded]) -> ById<Token<'_>> {
    let mut tokens = ById::<Token>::new();
    for recorded in events {
        let id = recorded.stream.uuid();
        let Event::Token(event) = &recorded.event else { continue };
        match event {
            TokenEvent::Minted(event) => {
                let (minted, expires_at) = (Some((event, recorded)), event.expires_at);
                *tokens.create(id) = Token { minted, expires_at, revoked_at: None };
            }
            TokenEvent::Renewed(event) => tokens.change(id).expires_at = Some(event.expires_at),
            TokenEvent::Revoked(_) => tokens.change(id).revoked_at = Some(recorded.recorded_at),
        }
    }
    tokens
}

/// Renewals and revocations of tokens that were minted before.
#[derive(Default)]
pub(crate) struct Changed {
    pub ids: Vec<Uuid>,
    pub expires_at: Vec<Option<DateTime<Utc>>>,
    pub revoked_at: Vec<Option<DateTime<Utc>>>,
}

impl Changed {
    pub fn push(&mut self, id: Uuid, token: &Token) {
        self.ids.push(id);
        self.expires_at.push(token.expires_at);
        self.revoked_at.push(token.revoked_at);
    }
}

/// What the tables say of a credential, and the position of the log they said it at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub position: Position,
    pub standing: Standing,
}

/// Whether a credential is good, expiry aside: that is the clock's to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    Live(Verdict),
    /// Unknown, revoked or ended; nobody is told which.
    Invalid,
    /// A good credential of an account that an operator has suspended.
    Suspended,
}

/// Looks up tokens by their hashes, all in one statement and so with one position, and in the order
/// they were asked for.
///
/// # Errors
/// When the database does not answer.
pub async fn find_tokens(
    database: impl PgExecutor<'_>,
    hashes: &[CredentialHash],
) -> Result<Vec<Found>, sqlx::Error> {
    let wanted: Vec<&[u8]> = hashes.iter().map(|hash| &hash.0[..]).collect();
    let rows = sqlx::query!(
        r#"select h.position as head, c.hash as "hash?", c.id as "id?", c.user_id as "user_id?", c.expires_at,
                  c.revoked_at, u.suspended as "suspended?",
                  (c.position > u.credentials_after) as current
             from log_head h
             left join credentials c on c.hash = any($1)
             left join users u on u.id = c.user_id"#,
        &wanted as &[&[u8]],
    )
    .fetch_all(database)
    .await?;
    let head = head(rows.first().map(|row| row.head))?;
    let live = rows.into_iter().filter_map(|row| {
        let token = TokenRow {
            id: row.id?,
            user_id: row.user_id?,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
            suspended: row.suspended,
            current: row.current,
        };
        Some((row.hash?, token.standing()))
    });
    let mut live: HashMap<Vec<u8>, Standing> = live.collect();
    let found = |hash: &CredentialHash| live.remove(&hash.0[..]);
    Ok(in_order(head, hashes, found))
}

/// A token among all there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub id: TokenId,
    pub hash: CredentialHash,
    pub found: Found,
}

/// Tokens in the order of their ids, which is that of their minting, from the last below `below` down
/// to the first; `limit` at most, all in one statement and so with one position.
pub fn tokens_below(
    connection: &mut PgConnection,
    below: TokenId,
    limit: i64,
) -> impl Stream<Item = Result<Listed, sqlx::Error>> {
    let rows = sqlx::query!(
        r#"select (select position from log_head) as "head!", c.hash, c.id, c.user_id, c.expires_at,
                  c.revoked_at, u.suspended as "suspended?", (c.position > u.credentials_after) as current
             from (select hash, id, user_id, expires_at, revoked_at, position
                     from credentials where id < $1 order by id desc limit $2) c
             left join users u on u.id = c.user_id
            order by c.id desc"#,
        below.0,
        limit,
    );
    rows.fetch(connection).map(|row| {
        let row = row?;
        let hash = <[u8; 32]>::try_from(row.hash).map_err(|hash| {
            sqlx::Error::Decode(format!("a hash of {} bytes, where 32 belong", hash.len()).into())
        })?;
        let token = TokenRow {
            id: row.id,
            user_id: row.user_id,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
            suspended: row.suspended,
            current: row.current,
        };
        let found = Found { position: Position(row.head), standing: token.standing() };
        Ok(Listed { id: TokenId(token.id), hash: CredentialHash(hash), found })
    })
}

/// What decides whether a token is good, whoever reads it and for what.
#[derive(Clone, Copy)]
struct TokenRow {
    id: Uuid,
    user_id: Uuid,
    expires_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
    /// Of the person; none when nobody of that id is there.
    suspended: Option<bool>,
    /// It was minted after the last suspension.
    current: Option<bool>,
}

impl TokenRow {
    fn standing(self) -> Standing {
        if self.revoked_at.is_some() {
            return Standing::Invalid;
        }
        let (id, expires_at) = (TokenId(self.id), self.expires_at);
        let credential = PersonCredential::PersonalAccessToken { id, expires_at };
        standing(UserId(self.user_id), credential, self.suspended, self.current)
    }
}

/// Looks up sessions by their ids, all in one statement and so with one position, and in the order
/// they were asked for.
///
/// # Errors
/// When the database does not answer.
pub async fn find_sessions(
    database: impl PgExecutor<'_>,
    sessions: &[SessionId],
) -> Result<Vec<Found>, sqlx::Error> {
    let wanted: Vec<Uuid> = sessions.iter().map(|session| session.0).collect();
    let rows = sqlx::query!(
        r#"select h.position as head, s.id as "id?", s.user_id as "user_id?", s.kind as "kind?",
                  s.expires_at as "expires_at?", s.ended_at,
                  coalesce(s.refreshed_at, s.started_at) as "refreshed_at?", u.suspended as "suspended?",
                  (s.position > u.credentials_after) as current
             from log_head h
             left join sessions s on s.id = any($1)
             left join users u on u.id = s.user_id"#,
        &wanted,
    )
    .fetch_all(database)
    .await?;
    let head = head(rows.first().map(|row| row.head))?;
    let live = rows.into_iter().filter(|row| row.ended_at.is_none()).filter_map(|row| {
        let (id, expires_at) = (SessionId(row.id?), row.expires_at?);
        let credential = if row.kind? == CredentialKind::ConsoleSession.row().name {
            // Whatever an access token says of itself, none is given but with a refresh.
            let expires_at = expires_at.min(row.refreshed_at? + ACCESS_LIFETIME);
            PersonCredential::ConsoleSession { id, expires_at }
        } else {
            PersonCredential::Session { id, expires_at }
        };
        Some((id.0, standing(UserId(row.user_id?), credential, row.suspended, row.current)))
    });
    let live: HashMap<Uuid, Standing> = live.collect();
    // Several credentials may show the same session.
    let found = |session: &SessionId| live.get(&session.0).cloned();
    Ok(in_order(head, sessions, found))
}

/// The head is in every row, and there is a row even when nothing was found.
fn head(position: Option<i64>) -> Result<Position, sqlx::Error> {
    position.map(Position).ok_or(sqlx::Error::RowNotFound)
}

fn in_order<T>(head: Position, wanted: &[T], mut found: impl FnMut(&T) -> Option<Standing>) -> Vec<Found> {
    let found = |wanted| Found { position: head, standing: found(wanted).unwrap_or(Standing::Invalid) };
    wanted.iter().map(found).collect()
}

fn standing(
    user: UserId,
    credential: PersonCredential,
    suspended: Option<bool>,
    current: Option<bool>,
) -> Standing {
    match (suspended, current) {
        (Some(true), _) => Standing::Suspended,
        (Some(false), Some(true)) => Standing::Live(Verdict::person(user, credential)),
        // Made before a suspension, or of an account that is not there.
        _ => Standing::Invalid,
    }
}

/// Whose a token is, whether or not it is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    pub user: UserId,
    pub id: TokenId,
    pub expires_at: Option<DateTime<Utc>>,
}

/// The token of a hash, for whoever holds it to end; none: nobody ever minted it.
///
/// # Errors
/// When the database does not answer.
pub async fn find_holding(pool: &PgPool, hash: CredentialHash) -> Result<Option<Holding>, sqlx::Error> {
    let row = sqlx::query!("select id, user_id, expires_at from credentials where hash = $1", &hash.0[..],)
        .fetch_optional(pool)
        .await?;
    Ok(row.map(|row| Holding { user: UserId(row.user_id), id: TokenId(row.id), expires_at: row.expires_at }))
}

/// The live tokens below a person's credential in its line, `limit` at most. Below a session is also what
/// the sessions that it started have minted.
///
/// # Errors
/// When the database does not answer.
pub async fn line_below(
    pool: &PgPool,
    owner: UserId,
    root: CredentialId,
    limit: i64,
) -> Result<Vec<TokenId>, sqlx::Error> {
    let rows = sqlx::query_scalar!(
        r#"with recursive line(id, revoked_at) as (
               select c.id, c.revoked_at
                 from credentials c
                where c.user_id = $2 and c.minted_by_kind = $3
                  and c.minted_by = any(array(select $1::uuid union all
                                              select s.id from sessions s
                                               where s.minted_by = $1 and s.user_id = $2))
               union
               select c.id, c.revoked_at from line l join credentials c on c.minted_by = l.id
           )
           select id as "id!" from line where revoked_at is null limit $4"#,
        root.uuid(),
        owner.0,
        minted_by_kind(root),
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(TokenId).collect())
}

/// The token above a token in its line; none when a session minted it.
///
/// # Errors
/// When the database does not answer.
pub async fn parent_of(pool: &PgPool, token: TokenId) -> Result<Option<TokenId>, sqlx::Error> {
    let parent = sqlx::query_scalar!(
        "select minted_by from credentials where id = $1 and minted_by_kind = 'token'",
        token.0
    )
    .fetch_optional(pool)
    .await?;
    Ok(parent.map(TokenId))
}
