//! `POST /auth/logout`: forgets the cookies, and ends the session where one was proven.

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tally_domain::{PrincipalKind, credential::CredentialKind};
use tally_events::CredentialId;
use utoipa::ToSchema;

use crate::{
    guard::{context_of, credential_of, verify},
    routes::{REVOCATION, v1::sessions::end_with_those_below},
    state::App,
};

const CONSOLE: PrincipalKind = PrincipalKind::Credential(CredentialKind::ConsoleSession);

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
        headers(("Set-Cookie"), ("X-Revocation"))
    ))
)]
pub async fn logout(State(app): State<App>, request: Request) -> Result<Response, Response> {
    let (parts, _) = request.into_parts();
    let shown = credential_of(&parts.method, parts.uri.path(), &parts.headers);
    let principal = match shown {
        Ok(shown) => verify(&app, &shown).await,
        Err(error) => Err(error),
    };
    let mut of_console = false;
    let ended = match principal {
        Ok(principal) => match principal.credential() {
            Some(CredentialId::Session(session)) => {
                of_console = principal.kind() == CONSOLE;
                end_with_those_below(&app, principal, context_of(&parts), session).await.map(|_| true)
            }
            Some(CredentialId::Token(_)) | None => Ok(false),
        },
        Err(error) if error.status.is_server_error() => Err(error),
        Err(_) => Ok(false),
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
            if ended {
                response.headers_mut().insert(REVOCATION, axum::http::HeaderValue::from_static("effective"));
            }
            Ok(response)
        }
        Err(error) => Err(clear(error.into_response())),
    }
}
