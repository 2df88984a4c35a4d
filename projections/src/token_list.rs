//! `token_list`: a person's tokens, as the client lists them. Follows the log.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use tally_domain::{Action, Authorized, policy::Act};
use tally_events::{Event, Recorded, TokenId};
use tally_store::{KeyRing, Projection};

use crate::users::{QueryError, sealed};

/// Tokens in one answer: the contract's list has no pages.
const TOKENS_MAX: i64 = 1000;

pub struct TokenList;

#[async_trait]
impl Projection for TokenList {
    fn name(&self) -> &'static str {
        "token_list"
    }

    fn version(&self) -> i32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["token_list"]
    }

    async fn apply(&self, connection: &mut PgConnection, events: &[Recorded]) -> Result<(), sqlx::Error> {
        for recorded in events {
            let id = recorded.stream.uuid();
            match &recorded.event {
                Event::TokenMinted(event) => {
                    sqlx::query!(
                        r#"insert into token_list (id, user_id, name, prefix, minted_by, created_at, expires_at, position)
                           values ($1, $2, $3, $4, $5, $6, $7, $8)"#,
                        id,
                        event.user_id.0,
                        sealed(&event.name),
                        event.prefix,
                        event.minted_by.uuid(),
                        recorded.recorded_at,
                        event.expires_at,
                        recorded.position.0,
                    )
                    .execute(&mut *connection)
                    .await?;
                }
                Event::TokenRenewed(event) => {
                    sqlx::query!("update token_list set expires_at = $2 where id = $1", id, event.expires_at)
                        .execute(&mut *connection)
                        .await?;
                }
                Event::TokenRevoked(_) => {
                    sqlx::query!(
                        "update token_list set revoked_at = $2 where id = $1",
                        id,
                        recorded.recorded_at
                    )
                    .execute(&mut *connection)
                    .await?;
                }
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
        Ok(())
    }
}

/// The tokens of the person who asks: newest first, revoked hidden, expired shown.
#[derive(Clone, Copy, Debug)]
pub struct ListTokens;

impl Act for ListTokens {
    const ACTION: Action = Action::ListPersonalAccessTokens;
}

/// A token as its owner sees it.
#[derive(Clone)]
pub struct TokenEntry {
    pub id: TokenId,
    pub name: String,
    pub prefix: String,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
}

/// Lists the asking person's tokens.
///
/// # Errors
/// When the database does not answer or a name does not open.
pub async fn list_tokens(
    pool: &PgPool,
    keys: &KeyRing,
    query: &Authorized<ListTokens>,
) -> Result<Vec<TokenEntry>, QueryError> {
    let Some(user) = query.principal().user() else { return Ok(Vec::new()) };
    let rows = sqlx::query!(
        r#"select id, name, prefix, created_at, expires_at from token_list
            where user_id = $1 and revoked_at is null
            order by position desc
            limit $2"#,
        user.0,
        TOKENS_MAX,
    )
    .fetch_all(pool)
    .await?;
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    let names = keys.open_texts(&names).await?;
    let entries = rows.iter().zip(names).map(|(row, name)| TokenEntry {
        id: TokenId(row.id),
        name: name.map(|name| name.as_str().to_owned()).unwrap_or_default(),
        prefix: row.prefix.clone(),
        created_at: row.created_at,
        expires_at: row.expires_at,
    });
    Ok(entries.collect())
}
