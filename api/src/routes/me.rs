//! `/api/me`: the profile of the person who asks.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tally_domain::{
    authorize,
    profile::{LANGUAGES, ProfileChange},
    user::{ChangeProfile, UserRefusal},
};
use tally_events::{Position, UserId};
use tally_projections::users::{Profile, ReadProfile, read_profile};
use utoipa::{
    ToSchema,
    openapi::{ObjectBuilder, Type, schema::SchemaType},
};

use crate::{
    error::ApiError,
    freshness::{MinPosition, min_position},
    guard::Caller,
    request_json::RequestJson,
    routes::LOG_POSITION,
    state::App,
};

/// A person, as the clients know one. The onboarding fields belong to the clients; here they stay empty.
#[derive(Serialize, ToSchema)]
pub struct User {
    #[schema(value_type = Uuid)]
    id: UserId,
    name: String,
    email: String,
    avatar_url: Option<String>,
    language: Option<String>,
    timezone: Option<String>,
    onboarded_at: Option<DateTime<Utc>>,
    #[schema(value_type = Object)]
    onboarding_questionnaire: Map<String, Value>,
    starter_content_state: Option<String>,
    profile_description: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Profile> for User {
    fn from(profile: Profile) -> Self {
        Self {
            id: profile.id,
            name: profile.name,
            email: profile.email,
            avatar_url: profile.avatar_url,
            language: profile.language,
            timezone: profile.timezone,
            onboarded_at: None,
            onboarding_questionnaire: Map::new(),
            starter_content_state: None,
            profile_description: profile.profile_description,
            created_at: profile.created_at,
            updated_at: profile.updated_at,
        }
    }
}

type Positioned<T> = ([(HeaderName, i64); 1], Json<T>);

fn positioned<T>(position: Position, body: T) -> Positioned<T> {
    ([(LOG_POSITION, position.0)], Json(body))
}

/// Read one's own profile
#[utoipa::path(
    get,
    path = "/api/me",
    params(MinPosition),
    responses((status = 200, description = "The profile", body = User, headers(("X-Log-Position"))))
)]
pub async fn read_me(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Positioned<User>, ApiError> {
    let query = authorize(caller.principal, ReadProfile)?;
    let head = tally_store::head(app.pool()).await?.position;
    // Profiles are inline: whatever position the client has seen is there already.
    min_position(&headers, head)?;
    let profile = read_profile(app.pool(), app.keys(), &query).await?.ok_or_else(ApiError::invalid_token)?;
    Ok(positioned(head, User::from(profile)))
}

/// Absent and null fields stay as they are; an empty text clears a field.
#[derive(Deserialize, ToSchema)]
pub struct UserChange {
    /// Not blank.
    #[schema(min_length = 1, max_length = 200, pattern = r"\S")]
    name: Option<String>,
    /// An http or https URL, or a path that begins with a single `/`.
    #[schema(max_length = 2000, pattern = r"^(|(https?://|/(?![/\\]))[^\x00-\x1f\x7f-\x9f]*)$")]
    avatar_url: Option<String>,
    #[schema(schema_with = language)]
    language: Option<String>,
    /// A name of the IANA time zone database.
    timezone: Option<String>,
    /// At most 2000 characters.
    #[schema(max_length = 2000)]
    profile_description: Option<String>,
}

/// One of the languages the clients speak.
fn language() -> ObjectBuilder {
    let languages = LANGUAGES.into_iter().map(Some).chain([None]);
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .enum_values(Some(languages))
}

/// Change one's own profile
#[utoipa::path(
    patch,
    path = "/api/me",
    request_body = UserChange,
    responses((status = 200, description = "The profile as it is now", body = User, headers(("X-Log-Position"))))
)]
pub async fn change_me(
    State(app): State<App>,
    caller: Caller,
    RequestJson { body, .. }: RequestJson<UserChange>,
) -> Result<Positioned<User>, ApiError> {
    let UserChange { name, avatar_url, language, timezone, profile_description } = body;
    let change = ProfileChange { name, avatar_url, language, timezone, profile_description }
        .validated()
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let (Some(user), Some(credential)) = (caller.principal.user(), caller.principal.credential()) else {
        return Err(ApiError::invalid_token());
    };
    let refused = |UserRefusal::Unknown| ApiError::invalid_token();
    let command = ChangeProfile { user, credential, change };
    let done = app.execute(caller.principal, command, caller.context, refused).await?;
    let query = authorize(caller.principal, ReadProfile)?;
    let profile = read_profile(app.pool(), app.keys(), &query).await?.ok_or_else(ApiError::invalid_token)?;
    Ok(positioned(done.executed.position, User::from(profile)))
}
