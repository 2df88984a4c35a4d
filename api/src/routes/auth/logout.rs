//! `POST /auth/logout`: forgets the cookies, and ends the session where one was proven.

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tally_domain::{PersonCredential, Principal, session::EndSession};
use utoipa::ToSchema;

use crate::{
    error::ApiError,
    guard::{context_of, credential_of, verify},
    routes::REVOCATION,
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
        headers(("Set-Cookie"), ("X-Revocation"))
    ))
)]
pub async fn logout(State(app): State<App>, request: Request) -> Result<Response, Response> {
    let (parts, _) = request.into_parts();
    let credential = credential_of(&parts.method, &parts.headers);
    let ended = match credential {
        Ok(credential) => match verify(&app, &credential).await {
            Ok(Principal::Person { user, credential: credential @ PersonCredential::Session { id, .. } }) => {
                let principal = Principal::Person { user, credential };
                let command = EndSession { session: id };
                let refused = |refusal: tally_domain::session::SessionRefusal| ApiError::internal(&refusal);
                app.execute(principal, command, context_of(&parts), refused).await.map(|_| true)
            }
            Err(error) if error.status.is_server_error() => Err(error),
            Ok(_) | Err(_) => Ok(false),
        },
        Err(_) => Ok(false),
    };
    let clear = |mut response: Response| {
        app.settings.cookies.clear(response.headers_mut());
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
