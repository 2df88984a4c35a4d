//! `POST /auth/google`: a client of an older protocol had a code sent to itself, and hands it in.
//!
//! It asked for the code without PKCE and nonce, so neither can be checked here; that the code came to
//! one of the redirects of the list is what Google checks. [`oidc`](super::oidc) does better.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    error::{self, ApiError},
    oidc::{Code, OidcError},
    request_json::RequestJson,
    routes::auth::{
        Visitor,
        identity::{LoggedIn, TurnedAway, log_in},
        verify_code::{SessionOpened, answer},
    },
    state::App,
};

#[derive(Deserialize, ToSchema)]
pub struct GoogleCode {
    #[schema(value_type = String, min_length = 1, pattern = r"\S")]
    code: Option<String>,
    /// Where Google sent the code. Absent: the first that is allowed.
    redirect_uri: Option<String>,
}

/// Log in with a code of Google's
///
/// Opens a session, and an account if there is none; both cookies are set. Where the address has an
/// account and Google is not who decides whose it is: 403 with a `link_token` to send along with a code.
#[utoipa::path(
    post,
    path = "/auth/google",
    security(()),
    request_body = GoogleCode,
    responses(
        (status = 200, description = "Logged in", body = SessionOpened, headers(("Set-Cookie"), ("X-Log-Position"))),
        (status = 429),
        (status = 502)
    )
)]
pub async fn log_in_with_google(
    State(app): State<App>,
    visitor: Visitor,
    request: Result<RequestJson<GoogleCode>, ApiError>,
) -> Result<Response, ApiError> {
    visitor.count(&app, "google", app.settings.limits.send).await?;
    let provider = app.settings.providers.google().ok_or_else(not_configured)?;
    let GoogleCode { code, redirect_uri } = request?.body;
    let present = |field: Option<String>| field.filter(|text| !text.trim().is_empty());
    let code = present(code).ok_or_else(|| ApiError::bad_request("code is required"))?;
    let redirect_uri = present(redirect_uri);
    let redirect_uri = app
        .settings
        .providers
        .google_redirect(redirect_uri.as_deref())
        .ok_or_else(|| ApiError::bad_request("redirect_uri is not allowed"))?;
    let code = Code { code: &code, redirect_uri, secrets: None };
    match log_in(&app, &visitor, provider, code).await {
        Ok(LoggedIn { user, session, expires_at, position }) => {
            answer(&app, user, session, expires_at, position).await
        }
        Err(turned_away) => Ok(explain(&app, turned_away)),
    }
}

fn not_configured() -> ApiError {
    ApiError { message: "Google login is not configured".into(), ..ApiError::unavailable() }
}

fn explain(app: &App, turned_away: TurnedAway) -> Response {
    let mut browser = None;
    let error = match turned_away {
        TurnedAway::ByProvider(OidcError::Unavailable(..)) => ApiError::bad_gateway("Google does not answer"),
        TurnedAway::ByProvider(OidcError::Untrusted(_)) => {
            ApiError::bad_gateway("Google's answer could not be verified")
        }
        TurnedAway::ByProvider(OidcError::CodeRefused) => ApiError::bad_request("invalid or expired code"),
        TurnedAway::ByProvider(OidcError::NoVerifiedEmail) => {
            ApiError::bad_request("Google has not verified an email address of this account")
        }
        TurnedAway::EmailVerificationRequired { link_token, browser: drawn } => {
            browser = Some(drawn);
            ApiError::email_verification_required(link_token)
        }
        TurnedAway::SignupProhibited => ApiError::new(error::Code::SignupProhibited, "signup prohibited"),
        TurnedAway::AccountSuspended => ApiError::account_disabled(),
        TurnedAway::Failed(error) => error,
    };
    let mut response = error.into_response();
    if let Some(browser) = browser {
        app.settings.cookies.set_link(response.headers_mut(), &browser, app.store.clock().now());
    }
    response
}
