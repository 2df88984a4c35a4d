//! `token_list`: a person's tokens, as the client lists them. Follows the log.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use tally_domain::{Action, Authorized, policy::Act};
use tally_events::{Recorded, TokenId};
use tally_store::{KeyRing, Projection};

use crate::{
    credentials::{Changed, tokens_of},
    rows::Rows,
    users::QueryError,
};

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

    fn keys(&self) -> &'static [&'static str] {
        &["token_list_pkey"]
    }

    async fn apply(&self, connection: &mut PgConnection, events: &[Recorded]) -> Result<(), sqlx::Error> {
        let mut minted = Rows::new(
            "copy token_list (id, user_id, name, prefix, minted_by, created_at, expires_at, revoked_at, position)
             from stdin (format binary)",
        );
        let mut changed = Changed::default();
        for (id, token) in tokens_of(events).into_rows() {
            let Some((event, recorded)) = token.minted else {
                changed.push(id, &token);
                continue;
            };
            minted.push(&[
                &id,
                &event.user_id.0,
                &event.name,
                &event.prefix.as_str(),
                &event.minted_by.uuid(),
                &recorded.recorded_at,
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
            r#"update token_list t
                  set expires_at = coalesce(e.expires_at, t.expires_at),
                      revoked_at = coalesce(e.revoked_at, t.revoked_at)
                 from unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) as e(id, expires_at, revoked_at)
                where t.id = e.id"#,
            &changed.ids,
            &changed.expires_at as &[Option<DateTime<Utc>>],
            &changed.revoked_at as &[Option<DateTime<Utc>>],
        )
        .execute(connection)
        .await?;
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
    /// As far as replicas have written down what it was used for.
    pub last_used_at: Option<DateTime<Utc>>,
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
        r#"select t.id, t.name, t.prefix, t.created_at, t.expires_at, u.last_used_at as "last_used_at?"
             from token_list t
             left join credential_usage u on u.credential_id = t.id
            where t.user_id = $1 and t.revoked_at is null
            order by t.position desc
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
        last_used_at: row.last_used_at,
    });
    Ok(entries.collect())
}
