//! `POST /api/cli-token`: a browser session makes one for the command line.

use axum::{Json, extract::State};
use serde::Serialize;
use tally_domain::{
    PersonCredential, Principal,
    session::{SessionRefusal, StartCommandLineSession},
};
use tally_events::SessionId;
use utoipa::ToSchema;

use crate::{
    error::ApiError,
    guard::Caller,
    idempotency::{IdempotencyKey, NO_BODY},
    routes::{
        auth::{Visitor, verify_code::sign},
        v1::sessions::refused,
    },
    state::App,
};

#[derive(Serialize, ToSchema)]
pub struct CommandLineToken {
    /// The JWT of a new session. It is shown only this once.
    token: String,
}

/// Start a session for the command line
///
/// From a session that a login started, and from nothing else.
#[utoipa::path(
    post,
    path = "/api/cli-token",
    params(IdempotencyKey),
    responses((status = 200, description = "Started", body = CommandLineToken))
)]
pub async fn create_cli_token(
    State(app): State<App>,
    caller: Caller,
    visitor: Visitor,
    key: IdempotencyKey,
) -> Result<Json<CommandLineToken>, ApiError> {
    let (user, parent) = match caller.principal {
        Principal::Person { user, credential: PersonCredential::Session { id, .. } } => (user, id),
        Principal::Person { .. } | Principal::Anonymous | Principal::Operator | Principal::Server => {
            return Err(ApiError::insufficient_scope(SessionRefusal::NotASession.to_string()));
        }
    };
    let session = SessionId::new();
    let lifetime = app.settings.session_lifetime;
    let command = StartCommandLineSession { user, parent, session, lifetime, origin: visitor.origin };
    let context = key.bind(&caller, NO_BODY, session);
    let done = app.execute(caller.principal, command, context, |refusal| refused(&refusal)).await?;
    let token = sign(&app, user, session, done.executed.outcome)?;
    Ok(Json(CommandLineToken { token: token.expose().to_owned() }))
}
