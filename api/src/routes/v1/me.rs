//! `GET /v1/me`: who this credential is.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::Serialize;
use tally_domain::{Action, Principal, authorize, policy::Act};
use tally_events::UserId;
use tally_projections::users::{Profile, find_profile};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{error::ApiError, guard::Caller, state::App};

/// The question itself, for policy.
#[derive(Clone, Copy, Debug)]
struct DescribeCredential;

impl Act for DescribeCredential {
    const ACTION: Action = Action::DescribeCredential;
}

#[derive(Serialize, ToSchema)]
pub struct CredentialDescription {
    kind: &'static str,
    credential_id: Uuid,
    user: Option<Person>,
    /// The workspace the credential is bound to; a person's is bound to none.
    org: Option<Uuid>,
    role: Option<&'static str>,
    scopes: Option<Vec<&'static str>>,
    expires_at: Option<DateTime<Utc>>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Person {
    #[schema(value_type = Uuid)]
    id: UserId,
    email: String,
    name: String,
}

impl From<Profile> for Person {
    fn from(profile: Profile) -> Self {
        Self { id: profile.id, email: profile.email, name: profile.name }
    }
}

/// Describe the credential that asks
#[utoipa::path(
    get,
    path = "/v1/me",
    responses((status = 200, description = "What it is, and whose", body = CredentialDescription))
)]
pub async fn describe_credential(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<CredentialDescription>, ApiError> {
    authorize(caller.principal, DescribeCredential)?;
    let Principal::Person { user, credential } = caller.principal else {
        return Err(ApiError::invalid_token());
    };
    let profile = find_profile(app.pool(), app.keys(), user).await?;
    Ok(Json(CredentialDescription {
        kind: credential.kind().row().name,
        credential_id: credential.id().uuid(),
        user: profile.map(Person::from),
        org: None,
        role: None,
        scopes: None,
        expires_at: credential.expires_at(),
    }))
}
