//! `POST /v1/sessions/refresh`: the next access token and the next refresh token for a refresh token.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use tally_domain::{
    Principal,
    credential::Plaintext,
    refresh_token::RefreshToken,
    session::{RefreshRefusal, RefreshSession, RevokeRefreshToken},
};
use tally_events::SessionId;
use tally_projections::sessions::owner_of;
use tally_store::{ExecuteError, Limit, Limited};

use super::{ConsoleSession, set_cookies};
use crate::{
    cookies,
    error::{ApiError, Code},
    execute::{failure, never},
    guard::{check_csrf, csrf_failed},
    routes::{
        LOG_POSITION,
        auth::{Visitor, fill_random},
    },
    state::App,
};

/// Every refresh is an event of the session, and whoever wants to end it must get a word in.
const REFRESHES: Limit = Limit { count: 60, period: Duration::from_mins(1) };
/// How long a client waits that has asked too often with one token.
const REPEATS_PAUSE: Duration = Duration::from_secs(1);

/// Refresh a console session
///
/// The refresh token in its cookie is the credential here, and the only one that is looked at; a CSRF
/// token goes with it. It is used once: the answer sets the next one, with a new access token. One that
/// was used before ends the session. For 10 seconds after its use it gets another answer, because the
/// first may be lost.
#[utoipa::path(
    post,
    path = "/v1/sessions/refresh",
    security((), ("refresh" = [], "csrf" = [])),
    responses(
        (status = 200, description = "Refreshed", body = ConsoleSession, headers(("Set-Cookie"), ("X-Log-Position"))),
        (status = 401),
        (status = 429)
    )
)]
pub async fn refresh_session(
    State(app): State<App>,
    visitor: Visitor,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let shown = refresh_token(&app, &headers)?;
    let session = shown.session();
    limit(&app, session).await?;
    let user = owner_of(app.pool(), session).await?.ok_or_else(invalid)?;
    let (refresh, next) = RefreshToken::draw(session, app.keys().refresh_token(), fill_random);
    let command = RefreshSession { user, shown: shown.clone(), next, origin: visitor.origin.clone() };
    let command = tally_domain::authorize(Principal::Anonymous, command)?;
    let done = match app.replica.execute(&command, visitor.context).await {
        Ok(done) => done.executed,
        Err(ExecuteError::Refused(RefreshRefusal::Reused)) => {
            let command = RevokeRefreshToken { shown };
            app.execute(Principal::Anonymous, command, visitor.context, never).await?;
            tracing::warn!(session.id = %session, "a refresh token came that was used before: its session has ended");
            return Err(reused());
        }
        Err(error) => return Err(failure(error, |refusal| worded(&refusal))),
    };
    let mut response = Json(ConsoleSession::new(session, done.outcome)).into_response();
    let headers = response.headers_mut();
    set_cookies(&app, headers, user, session, done.outcome, &refresh)?;
    headers.insert(LOG_POSITION, done.position.0.into());
    Ok(response)
}

/// The refresh token of a request, which carries a CSRF token too: the one that belongs to the cookie
/// of the access token, also when that has expired.
pub(super) fn refresh_token(app: &App, headers: &HeaderMap) -> Result<RefreshToken, ApiError> {
    let read = |name| cookies::read(headers, name).transpose().map_err(|_| invalid());
    let refresh = read(cookies::CONSOLE_REFRESH)?.filter(|value| !value.is_empty());
    let refresh = refresh.map(Plaintext::new).ok_or_else(ApiError::missing_authorization)?;
    // Without it there is nothing that a CSRF token could belong to: of no cookie anybody can make one.
    let access = read(cookies::CONSOLE_AUTH)?.filter(|value| !value.is_empty());
    check_csrf(&access.ok_or_else(csrf_failed)?, headers)?;
    RefreshToken::read(&refresh, app.keys().refresh_token()).ok_or_else(invalid)
}

async fn limit(app: &App, session: SessionId) -> Result<(), ApiError> {
    let key = app.keys().blind_limit("refresh", &session.to_string());
    REFRESHES.take(app.pool(), &key).await.map_err(|limited| match limited {
        Limited::TooMany { retry_after } => {
            ApiError::too_many("too many refreshes of this session", retry_after)
        }
        Limited::Database(error) => ApiError::database(&error),
    })
}

fn worded(refusal: &RefreshRefusal) -> ApiError {
    match refusal {
        RefreshRefusal::Invalid => invalid(),
        RefreshRefusal::Suspended => ApiError::account_disabled(),
        RefreshRefusal::Reused => reused(),
        RefreshRefusal::TooManyRepeats => ApiError::too_many(refusal.to_string(), REPEATS_PAUSE),
    }
}

/// Malformed, unknown, expired and of an ended session look the same.
fn invalid() -> ApiError {
    let error = ApiError::new(Code::InvalidRefreshToken, RefreshRefusal::Invalid.to_string());
    ApiError { challenge: ApiError::invalid_token().challenge, ..error }
}

fn reused() -> ApiError {
    let error = ApiError::new(Code::RefreshTokenReused, RefreshRefusal::Reused.to_string());
    ApiError { challenge: ApiError::invalid_token().challenge, ..error }
}
