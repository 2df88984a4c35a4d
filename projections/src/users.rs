//! `users`: accounts. Inline, because authentication asks whether an account is suspended.

use async_trait::async_trait;
use sqlx::{PgConnection, PgPool};
use tally_domain::{Action, Authorized, policy::Act};
use tally_events::{Event, Personal, Recorded, UserId};
use tally_store::{KeyRing, KeyRingError, Projection};

pub struct Users;

#[async_trait]
impl Projection for Users {
    fn name(&self) -> &'static str {
        "users"
    }

    fn version(&self) -> i32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["users"]
    }

    async fn apply(&self, connection: &mut PgConnection, events: &[Recorded]) -> Result<(), sqlx::Error> {
        // Accounts change rarely, and one account may change twice in a batch: event by event, in order.
        for recorded in events {
            match &recorded.event {
                Event::UserRegistered(event) => {
                    sqlx::query!(
                        r#"insert into users (id, email, name, created_at, updated_at) values ($1, $2, $3, $4, $4)"#,
                        recorded.stream.uuid(),
                        sealed(&event.email),
                        sealed(&event.name),
                        recorded.recorded_at,
                    )
                    .execute(&mut *connection)
                    .await?;
                }
                Event::UserProfileChanged(event) => {
                    sqlx::query!(
                        r#"update users
                              set name = coalesce($2, name),
                                  avatar_url = coalesce($3, avatar_url),
                                  language = coalesce($4, language),
                                  timezone = coalesce($5, timezone),
                                  profile_description = coalesce($6, profile_description),
                                  updated_at = $7
                            where id = $1"#,
                        recorded.stream.uuid(),
                        event.name.as_ref().and_then(sealed),
                        event.avatar_url.as_ref().and_then(sealed),
                        event.language.as_ref().and_then(sealed),
                        event.timezone.as_ref().and_then(sealed),
                        event.profile_description.as_ref().and_then(sealed),
                        recorded.recorded_at,
                    )
                    .execute(&mut *connection)
                    .await?;
                }
                Event::UserSuspended(_) => {
                    sqlx::query!(
                        "update users set suspended = true, credentials_after = $2 where id = $1",
                        recorded.stream.uuid(),
                        recorded.position.0,
                    )
                    .execute(&mut *connection)
                    .await?;
                }
                Event::UserReinstated(_) => {
                    sqlx::query!(
                        "update users set suspended = false, credentials_after = $2 where id = $1",
                        recorded.stream.uuid(),
                        recorded.position.0,
                    )
                    .execute(&mut *connection)
                    .await?;
                }
                Event::LoginCodeIssued(_)
                | Event::LoginCodeRefused(_)
                | Event::LoginCodeVerified(_)
                | Event::SessionStarted(_)
                | Event::SessionEnded(_)
                | Event::TokenMinted(_)
                | Event::TokenRenewed(_)
                | Event::TokenRevoked(_) => {}
            }
        }
        Ok(())
    }
}

/// The text a projection keeps of a personal field: sealed, with its place.
pub(crate) fn sealed(personal: &Personal) -> Option<String> {
    personal.sealed().map(ToString::to_string)
}

/// The profile of the person who asks.
#[derive(Clone, Copy, Debug)]
pub struct ReadProfile;

impl Act for ReadProfile {
    const ACTION: Action = Action::ReadProfile;
}

/// An account, opened for its owner.
#[derive(Clone)]
pub struct Profile {
    pub id: UserId,
    pub email: String,
    pub name: String,
    pub avatar_url: Option<String>,
    pub language: Option<String>,
    pub timezone: Option<String>,
    pub profile_description: String,
    pub created_at: chrono::DateTime<chrono::Utc>,
    pub updated_at: chrono::DateTime<chrono::Utc>,
}

/// Why a query had no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("the database did not answer")]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Keys(#[from] KeyRingError),
}

/// Reads the asking person's profile; none when the account is gone.
///
/// # Errors
/// When the database does not answer or a field does not open.
pub async fn read_profile(
    pool: &PgPool,
    keys: &KeyRing,
    query: &Authorized<ReadProfile>,
) -> Result<Option<Profile>, QueryError> {
    match query.principal().user() {
        Some(user) => find_profile(pool, keys, user).await,
        None => Ok(None),
    }
}

/// Reads a profile for the login answer, whose caller has just proven to be `user`.
///
/// # Errors
/// As [`read_profile`].
pub async fn find_profile(
    pool: &PgPool,
    keys: &KeyRing,
    user: UserId,
) -> Result<Option<Profile>, QueryError> {
    let row = sqlx::query!(
        r#"select email, name, avatar_url, language, timezone, profile_description, created_at, updated_at
             from users where id = $1"#,
        user.0,
    )
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let columns = [
        Some(row.email),
        Some(row.name),
        row.avatar_url,
        row.language,
        row.timezone,
        row.profile_description,
    ];
    let present: Vec<&str> = columns.iter().flatten().map(String::as_str).collect();
    let mut opened = keys.open_texts(&present).await?.into_iter();
    let [email, name, avatar_url, language, timezone, description] = columns.map(|column| {
        let text = column.and_then(|_| opened.next().flatten())?;
        Some(text.as_str().to_owned()).filter(|text| !text.is_empty())
    });
    // An erased person has no e-mail any more, and so no profile.
    let Some(email) = email else { return Ok(None) };
    Ok(Some(Profile {
        id: user,
        email,
        name: name.unwrap_or_default(),
        avatar_url,
        language,
        timezone,
        profile_description: description.unwrap_or_default(),
        created_at: row.created_at,
        updated_at: row.updated_at,
    }))
}
