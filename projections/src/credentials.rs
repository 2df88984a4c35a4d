//! `credentials`: the hash lookup. Inline: a token works, or not, from its commit on.

use async_trait::async_trait;
use sqlx::{PgConnection, PgPool};
use tally_domain::{PersonCredential, Verdict, credential::CredentialHash};
use tally_events::{CredentialId, Event, Position, Recorded, SessionId, TokenId, UserId};
use tally_store::Projection;
use uuid::Uuid;

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

    async fn apply(&self, connection: &mut PgConnection, events: &[Recorded]) -> Result<(), sqlx::Error> {
        let mut minted = Minted::default();
        let mut changed = Changed::default();
        for recorded in events {
            let id = recorded.stream.uuid();
            match &recorded.event {
                Event::TokenMinted(event) => {
                    minted
                        .hashes
                        .push(hex::decode(&*event.hash).map_err(|error| sqlx::Error::Decode(error.into()))?);
                    minted.ids.push(id);
                    minted.kinds.push(event.kind.as_str().to_owned());
                    minted.users.push(event.user_id.0);
                    minted.minted_by.push(event.minted_by.uuid());
                    minted.minted_by_kinds.push(minted_by_kind(event.minted_by).to_owned());
                    minted.expires_at.push(event.expires_at);
                    minted.positions.push(recorded.position.0);
                }
                Event::TokenRenewed(event) => changed.push(id, Some(event.expires_at), None),
                Event::TokenRevoked(_) => changed.push(id, None, Some(recorded.recorded_at)),
                Event::UserRegistered(_)
                | Event::UserProfileChanged(_)
                | Event::UserSuspended(_)
                | Event::UserReinstated(_)
                | Event::LoginCodeIssued(_)
                | Event::LoginCodeRefused(_)
                | Event::LoginCodeVerified(_)
                | Event::SessionStarted(_)
                | Event::SessionEnded(_) => {}
            }
        }
        if !minted.ids.is_empty() {
            minted.insert(connection).await?;
        }
        if !changed.ids.is_empty() {
            changed.update(connection).await?;
        }
        Ok(())
    }
}

const fn minted_by_kind(credential: CredentialId) -> &'static str {
    match credential {
        CredentialId::Session(_) => "session",
        CredentialId::Token(_) => "token",
    }
}

#[derive(Default)]
struct Minted {
    hashes: Vec<Vec<u8>>,
    ids: Vec<Uuid>,
    kinds: Vec<String>,
    users: Vec<Uuid>,
    minted_by: Vec<Uuid>,
    minted_by_kinds: Vec<String>,
    expires_at: Vec<Option<chrono::DateTime<chrono::Utc>>>,
    positions: Vec<i64>,
}

impl Minted {
    async fn insert(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query!(
            r#"insert into credentials (hash, id, kind, user_id, minted_by, minted_by_kind, expires_at, position)
               select * from unnest($1::bytea[], $2::uuid[], $3::text[], $4::uuid[], $5::uuid[], $6::text[],
                                    $7::timestamptz[], $8::bigint[])"#,
            &self.hashes,
            &self.ids,
            &self.kinds,
            &self.users,
            &self.minted_by,
            &self.minted_by_kinds,
            &self.expires_at as &[Option<chrono::DateTime<chrono::Utc>>],
            &self.positions,
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// Renewals and revocations, the last word on each token of a batch.
#[derive(Default)]
struct Changed {
    ids: Vec<Uuid>,
    expires_at: Vec<Option<chrono::DateTime<chrono::Utc>>>,
    revoked_at: Vec<Option<chrono::DateTime<chrono::Utc>>>,
}

impl Changed {
    fn push(
        &mut self,
        id: Uuid,
        expires_at: Option<chrono::DateTime<chrono::Utc>>,
        revoked_at: Option<chrono::DateTime<chrono::Utc>>,
    ) {
        if let Some(at) = self.ids.iter().position(|known| *known == id) {
            self.expires_at[at] = expires_at.or(self.expires_at[at]);
            self.revoked_at[at] = revoked_at.or(self.revoked_at[at]);
        } else {
            self.ids.push(id);
            self.expires_at.push(expires_at);
            self.revoked_at.push(revoked_at);
        }
    }

    async fn update(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query!(
            r#"update credentials c
                  set expires_at = coalesce(e.expires_at, c.expires_at),
                      revoked_at = coalesce(e.revoked_at, c.revoked_at)
                 from unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) as e(id, expires_at, revoked_at)
                where c.id = e.id"#,
            &self.ids,
            &self.expires_at as &[Option<chrono::DateTime<chrono::Utc>>],
            &self.revoked_at as &[Option<chrono::DateTime<chrono::Utc>>],
        )
        .execute(connection)
        .await?;
        Ok(())
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

/// Looks up a token by its hash, in one statement and so with its own position.
///
/// # Errors
/// When the database does not answer.
pub async fn find_token(pool: &PgPool, hash: CredentialHash) -> Result<Found, sqlx::Error> {
    let row = sqlx::query!(
        r#"select h.position as head, c.id as "id?", c.user_id as "user_id?", c.expires_at, c.revoked_at,
                  u.suspended as "suspended?",
                  (c.position > u.credentials_after) as current
             from log_head h
             left join credentials c on c.hash = $1
             left join users u on u.id = c.user_id"#,
        &hash.0[..],
    )
    .fetch_one(pool)
    .await?;
    let standing = match (row.id, row.user_id) {
        (Some(id), Some(user)) if row.revoked_at.is_none() => {
            let credential =
                PersonCredential::PersonalAccessToken { id: TokenId(id), expires_at: row.expires_at };
            standing(UserId(user), credential, row.suspended, row.current)
        }
        _ => Standing::Invalid,
    };
    Ok(Found { position: Position(row.head), standing })
}

/// Looks up a session by its id, in one statement and so with its own position.
///
/// # Errors
/// When the database does not answer.
pub async fn find_session(pool: &PgPool, session: SessionId) -> Result<Found, sqlx::Error> {
    let row = sqlx::query!(
        r#"select h.position as head, s.user_id as "user_id?", s.expires_at as "expires_at?", s.ended_at,
                  u.suspended as "suspended?",
                  (s.position > u.credentials_after) as current
             from log_head h
             left join sessions s on s.id = $1
             left join users u on u.id = s.user_id"#,
        session.0,
    )
    .fetch_one(pool)
    .await?;
    let standing = match (row.user_id, row.expires_at) {
        (Some(user), Some(expires_at)) if row.ended_at.is_none() => {
            let credential = PersonCredential::Session { id: session, expires_at };
            standing(UserId(user), credential, row.suspended, row.current)
        }
        _ => Standing::Invalid,
    };
    Ok(Found { position: Position(row.head), standing })
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

/// The live tokens below a person's token in its line, nearest first, `limit` at most. What is no
/// token of theirs, such as a session, has nothing below it here.
///
/// # Errors
/// When the database does not answer.
pub async fn line_below(
    pool: &PgPool,
    owner: UserId,
    root: TokenId,
    limit: i64,
) -> Result<Vec<TokenId>, sqlx::Error> {
    let rows = sqlx::query_scalar!(
        r#"with recursive line(id, revoked_at) as (
               select c.id, c.revoked_at
                 from credentials root join credentials c on c.minted_by = root.id
                where root.id = $1 and root.user_id = $2
               union
               select c.id, c.revoked_at from line l join credentials c on c.minted_by = l.id
           )
           select id as "id!" from line where revoked_at is null limit $3"#,
        root.0,
        owner.0,
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
