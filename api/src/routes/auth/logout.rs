//! `POST /auth/logout`: forgets the cookies, and ends the session where one was proven.

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tally_events::CredentialId;
use utoipa::ToSchema;

use crate::{
    client_address::ClientAddress,
    error::ApiError,
    guard::{Shown, context_of, credential_of, verify},
    routes::{effective, v1::sessions::end_with_those_below},
    state::App,
};

#[derive(Serialize, ToSchema)]
struct LoggedOut {
    message: &'static str,
}

/// Log out
///
/// Forgets the cookies, and ends the session where one was proven: by a Bearer, or by the cookie with
/// its CSRF token. Always 200 for whoever has no session to end. With a session, 200 means that it has
/// ended everywhere; if that cannot be known, 503.
#[utoipa::path(
    post,
    path = "/auth/logout",
    security((), ("bearer" = []), ("cookie" = [], "csrf" = [])),
    responses((
        status = 200,
        description = "Logged out",
        body = LoggedOut,
        headers(("Set-Cookie"), ("X-Log-Position"), ("X-Revocation"))
    ))
)]
pub async fn logout(
    State(app): State<App>,
    address: ClientAddress,
    request: Request,
) -> Result<Response, Response> {
    let (parts, _) = request.into_parts();
    let shown = credential_of(&parts.method, parts.uri.path(), &parts.headers);
    let of_console = shown.as_ref().is_ok_and(Shown::is_console_cookie);
    let ended = match shown {
        Ok(shown) => end(&app, &parts, &shown, address).await,
        Err(_) => Ok(None),
    };
    let clear = |mut response: Response| {
        app.settings.cookies.clear(response.headers_mut());
        if of_console {
            app.settings.cookies.clear_console(response.headers_mut());
        }
        response
    };
    match ended {
        Ok(ended) => {
            let mut response = clear(Json(LoggedOut { message: "logged out" }).into_response());
            response.headers_mut().extend(ended.unwrap_or_default());
            Ok(response)
        }
        Err(error) => Err(clear(error.into_response())),
    }
}

/// Ends the session that was shown; none: none was.
///
/// Also one that is over already, or whose access token is: a JWT that was signed here names a session
/// and whose it is, and "logged out" is said when that holds everywhere, as of a session that ended a
/// moment ago on another replica's word.
async fn end(
    app: &App,
    parts: &Parts,
    shown: &Shown,
    address: ClientAddress,
) -> Result<Option<HeaderMap>, ApiError> {
    let (principal, session) = match verify(app, shown, address).await {
        Ok(principal) => match principal.credential() {
            Some(CredentialId::Session(session)) => (principal, session),
            Some(CredentialId::Token(_)) | None => return Ok(None),
        },
        Err(error) if error.status.is_server_error() => return Err(error),
        Err(_) => match app.settings.signer.check(shown.credential.expose()) {
            Some(session) => (session.principal(), session.session),
            None => return Ok(None),
        },
    };
    let done = end_with_those_below(app, principal, context_of(parts), session).await?;
    Ok(Some(effective(&done)))
}
