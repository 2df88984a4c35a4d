//! `users`: accounts. Inline, because authentication asks whether an account is suspended.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use tally_domain::{Action, Authorized, policy::Act};
use tally_events::{
    Event, Personal, Position, Recorded, Subject, UserEvent, UserId,
    user::{UserProfileChanged, UserRegistered},
};
use tally_store::{KeyRing, KeyRingError, Projection, ReadError};
use uuid::Uuid;

use crate::{by_id::ById, open::sealed, rows::Rows};

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

    fn keys(&self) -> &'static [&'static str] {
        &["users_pkey"]
    }

    fn makes_verdicts(&self) -> bool {
        true
    }

    async fn apply(&self, connection: &mut PgConnection, events: &[Recorded]) -> Result<(), sqlx::Error> {
        let mut accounts = ById::<Account>::new();
        for recorded in events {
            let id = recorded.stream.uuid();
            let Event::User(event) = &recorded.event else { continue };
            match event {
                UserEvent::Registered(event) => {
                    accounts.create(id).registered = Some((event, recorded.recorded_at));
                }
                UserEvent::ProfileChanged(event) => {
                    accounts.change(id).change_profile(event, recorded.recorded_at);
                }
                UserEvent::Suspended(_) => accounts.change(id).closed = Some((true, recorded.position)),
                UserEvent::Reinstated(_) => accounts.change(id).closed = Some((false, recorded.position)),
                // By which account elsewhere somebody comes in is found through the claims.
                UserEvent::IdentityLinked(_) => {}
            }
        }
        let mut registered = Rows::new(
            "copy users (id, email, name, avatar_url, language, timezone, profile_description, suspended,
                         credentials_after, created_at, updated_at) from stdin (format binary)",
        );
        let mut changed = Changed::default();
        for (id, account) in accounts.into_rows() {
            let Some((event, at)) = account.registered else {
                changed.push(id, &account);
                continue;
            };
            let (suspended, credentials_after) = account.closed.unwrap_or((false, Position::ZERO));
            registered.push(&[
                &id,
                &event.email,
                &account.name.unwrap_or(&event.name),
                &account.avatar_url,
                &account.language,
                &account.timezone,
                &account.profile_description,
                &suspended,
                &credentials_after,
                &at,
                &account.updated_at.unwrap_or(at),
            ]);
        }
        registered.append(connection).await?;
        changed.update(connection).await
    }
}

/// What a run of events says of one account.
#[derive(Default)]
struct Account<'a> {
    registered: Option<(&'a UserRegistered, DateTime<Utc>)>,
    name: Option<&'a Personal>,
    avatar_url: Option<&'a Personal>,
    language: Option<&'a Personal>,
    timezone: Option<&'a Personal>,
    profile_description: Option<&'a Personal>,
    updated_at: Option<DateTime<Utc>>,
    /// Whether it is suspended, and since which position.
    closed: Option<(bool, Position)>,
}

impl<'a> Account<'a> {
    fn change_profile(&mut self, event: &'a UserProfileChanged, at: DateTime<Utc>) {
        self.name = event.name.as_ref().or(self.name);
        self.avatar_url = event.avatar_url.as_ref().or(self.avatar_url);
        self.language = event.language.as_ref().or(self.language);
        self.timezone = event.timezone.as_ref().or(self.timezone);
        self.profile_description = event.profile_description.as_ref().or(self.profile_description);
        self.updated_at = Some(at);
    }
}

/// Changes to accounts that were registered before; what an absent value says nothing of stays.
#[derive(Default)]
struct Changed {
    ids: Vec<Uuid>,
    names: Vec<Option<String>>,
    avatar_urls: Vec<Option<String>>,
    languages: Vec<Option<String>>,
    timezones: Vec<Option<String>>,
    profile_descriptions: Vec<Option<String>>,
    updated_at: Vec<Option<DateTime<Utc>>>,
    suspended: Vec<Option<bool>>,
    credentials_after: Vec<Option<i64>>,
}

impl Changed {
    fn push(&mut self, id: Uuid, account: &Account) {
        self.ids.push(id);
        self.names.push(account.name.and_then(sealed));
        self.avatar_urls.push(account.avatar_url.and_then(sealed));
        self.languages.push(account.language.and_then(sealed));
        self.timezones.push(account.timezone.and_then(sealed));
        self.profile_descriptions.push(account.profile_description.and_then(sealed));
        self.updated_at.push(account.updated_at);
        self.suspended.push(account.closed.map(|(suspended, _)| suspended));
        self.credentials_after.push(account.closed.map(|(_, position)| position.0));
    }

    async fn update(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.ids.is_empty() {
            return Ok(());
        }
        sqlx::query!(
            r#"update users u
                  set name = coalesce(e.name, u.name),
                      avatar_url = coalesce(e.avatar_url, u.avatar_url),
                      language = coalesce(e.language, u.language),
                      timezone = coalesce(e.timezone, u.timezone),
                      profile_description = coalesce(e.profile_description, u.profile_description),
                      updated_at = coalesce(e.updated_at, u.updated_at),
                      suspended = coalesce(e.suspended, u.suspended),
                      credentials_after = coalesce(e.credentials_after, u.credentials_after)
                 from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                             $7::timestamptz[], $8::boolean[], $9::bigint[])
                   as e(id, name, avatar_url, language, timezone, profile_description, updated_at, suspended,
                        credentials_after)
                where u.id = e.id"#,
            &self.ids,
            &self.names as &[Option<String>],
            &self.avatar_urls as &[Option<String>],
            &self.languages as &[Option<String>],
            &self.timezones as &[Option<String>],
            &self.profile_descriptions as &[Option<String>],
            &self.updated_at as &[Option<DateTime<Utc>>],
            &self.suspended as &[Option<bool>],
            &self.credentials_after as &[Option<i64>],
        )
        .execute(connection)
        .await?;
        Ok(())
    }
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
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// Why a query had no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("the database did not answer")]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Log(#[from] ReadError),
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
        r#"select u.email, u.name, u.avatar_url, u.language, u.timezone, u.profile_description, u.created_at,
                  u.updated_at, k.wrapped as "wrapped?"
             from users u left join keys.subject k on k.kind = 'user' and k.id = u.id
            where u.id = $1"#,
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
    let opened = keys.open_texts_with(Subject::User(user), row.wrapped.as_deref(), &present)?;
    let mut opened = opened.into_iter();
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
