//! `POST /v1/sessions`: the right code opens a console session, and an account if there is none.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tally_domain::{
    refresh_token::RefreshToken,
    session::{Opens, REFRESH_LIFETIME, Refreshed},
};
use tally_events::SessionId;
use tally_projections::users::find_profile;
use utoipa::ToSchema;

use super::{ConsoleSession, set_cookies};
use crate::{
    error::ApiError,
    request_json::RequestJson,
    routes::{
        LOG_POSITION,
        auth::{
            Visitor, fill_random,
            verify_code::{CodeAttempt, Opened, log_in},
        },
        v1::me::Person,
    },
    state::App,
};

#[derive(Serialize, ToSchema)]
struct OpenedSession {
    #[serde(flatten)]
    session: ConsoleSession,
    user: Person,
}

/// Log in to the web console with a code
///
/// The right code opens a console session, and an account if there is none: an access token for 15
/// minutes and a refresh token for 14 days, both in cookies that no script can read. Whatever cookies
/// came with the request, the session and everything that shows it are new.
#[utoipa::path(
    post,
    path = "/v1/sessions",
    security(()),
    request_body = CodeAttempt,
    responses(
        (status = 201, description = "Logged in", body = OpenedSession, headers(("Set-Cookie"), ("X-Log-Position"))),
        (status = 429)
    )
)]
pub async fn open_session(
    State(app): State<App>,
    visitor: Visitor,
    request: Result<RequestJson<CodeAttempt>, ApiError>,
) -> Result<Response, ApiError> {
    let id = SessionId::new();
    let (refresh, drawn) = RefreshToken::draw(id, app.keys().refresh_token(), fill_random);
    let opens = Opens::Console { refresh_hash: drawn.hash().clone() };
    let Opened { user, expires_at, position } = log_in(&app, &visitor, request, id, opens).await?;
    // The moment of the decision: another reading of the clock could be a second later.
    let opened = Refreshed::at(expires_at - REFRESH_LIFETIME, expires_at);
    let profile = find_profile(app.pool(), app.keys(), user).await?.ok_or_else(ApiError::unavailable)?;
    let body = OpenedSession { session: ConsoleSession::new(id, opened), user: Person::from(profile) };
    let mut response = (StatusCode::CREATED, Json(body)).into_response();
    let headers = response.headers_mut();
    set_cookies(&app, headers, user, id, opened, &refresh)?;
    headers.insert(LOG_POSITION, position.0.into());
    Ok(response)
}
