//! `DELETE /v1/sessions/current`: logs out.

use axum::{
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use tally_domain::{
    Principal, PrincipalKind,
    credential::CredentialKind,
    session::{RevokeRefreshToken, SessionRefusal},
};

use super::{current, end_with_those_below, refresh::refresh_token, refused};
use crate::{
    client_address::ClientAddress,
    error::ApiError,
    execute::never,
    guard::{context_of, credential_of, verify},
    routes::effective,
    state::App,
};

/// End the session that asks
///
/// With the answer it has ended everywhere, and the browser forgets its cookies. A console session whose
/// access token has expired shows its refresh token: to log out after a pause is to log out.
#[utoipa::path(
    delete,
    path = "/v1/sessions/current",
    responses((
        status = 204,
        description = "Logged out",
        headers(("Set-Cookie"), ("X-Log-Position"), ("X-Revocation"))
    ))
)]
pub async fn end_current_session(
    State(app): State<App>,
    address: ClientAddress,
    request: Request,
) -> Result<Response, Response> {
    let (parts, _) = request.into_parts();
    let mut is_ordinary = false;
    let shown = credential_of(&parts.method, parts.uri.path(), &parts.headers);
    let principal = match shown {
        Ok(shown) => verify(&app, &shown, address).await,
        Err(error) => Err(error),
    };
    let context = context_of(&parts);
    let ended = match principal {
        Ok(principal) => match current(&principal) {
            Some(session) => {
                is_ordinary = principal.kind() == PrincipalKind::Credential(CredentialKind::Session);
                end_with_those_below(&app, principal, context, session).await.map(|done| effective(&done))
            }
            None => Err(refused(&SessionRefusal::NotASession)),
        },
        // An invalid Bearer never falls back to a cookie.
        Err(error) if is_unauthorized(&error) && !parts.headers.contains_key(header::AUTHORIZATION) => {
            match refresh_token(&app, &parts.headers) {
                Ok(shown) => {
                    let command = RevokeRefreshToken { shown };
                    let done = app.execute(Principal::Anonymous, command, context, never).await;
                    done.map(|done| effective(&done))
                }
                Err(_) => Err(error),
            }
        }
        Err(error) => Err(error),
    };
    let clear = |mut response: Response| {
        app.settings.cookies.clear_console(response.headers_mut());
        if is_ordinary {
            app.settings.cookies.clear(response.headers_mut());
        }
        response
    };
    match ended {
        Ok(headers) => Ok(clear((StatusCode::NO_CONTENT, headers).into_response())),
        // Whoever shows nothing good has nothing to keep.
        Err(error) if is_unauthorized(&error) => Err(clear(error.into_response())),
        Err(error) => Err(error.into_response()),
    }
}

fn is_unauthorized(error: &ApiError) -> bool {
    error.status == StatusCode::UNAUTHORIZED
}
