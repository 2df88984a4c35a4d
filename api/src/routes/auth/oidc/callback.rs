//! `GET /auth/oidc/{name}/callback`: a browser comes back from the issuer.

use std::time::Duration;

use axum::{
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::HeaderMap,
    response::Response,
};
use serde::Deserialize;
use tally_store::{Limit, Limited};
use utoipa::IntoParams;

use super::{send_to, send_to_login, unknown};
use crate::{
    cookies,
    error::ApiError,
    oidc::{Code, FLOW_LIFETIME, Flow, OidcError, Provider},
    routes::{
        LOG_POSITION,
        auth::{
            Visitor,
            identity::{LoggedIn, TurnedAway, log_in, report},
            verify_code::{set_cookies, sign},
        },
    },
    state::App,
};

/// What an issuer answers (RFC 6749 sections 4.1.2 and 4.1.2.1, RFC 9207 section 2).
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CallbackParameters {
    code: Option<String>,
    state: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

/// Finish a login by a provider
///
/// For a browser that comes back from the issuer: it is sent on to the frontend, logged in, or to the
/// frontend's login page with an error. Whatever comes of it, the login is over: the browser forgets
/// its cookie.
#[utoipa::path(
    get,
    path = "/auth/oidc/{name}/callback",
    security(()),
    params(("name" = String, Path, description = "Of a login provider"), CallbackParameters),
    responses(
        (status = 302, description = "On to the frontend", headers(("Location"), ("Set-Cookie"), ("X-Log-Position"))),
        (status = 404)
    )
)]
pub async fn finish_login(
    State(app): State<App>,
    visitor: Visitor,
    name: Result<Path<String>, PathRejection>,
    parameters: Result<Query<CallbackParameters>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Path(name) = name.map_err(|_| unknown())?;
    let provider = app.settings.providers.named(&name).ok_or_else(unknown)?;
    let parameters = parameters.ok().map(|Query(parameters)| parameters);
    let mut response = match finish(&app, &visitor, provider, parameters, &headers).await {
        Ok(response) => response,
        Err(refused) => {
            if let Refused::TurnedAway(TurnedAway::EmailVerificationRequired { link_token, browser }) =
                &refused
            {
                let mut response = send_to_login(&app, refused.word(), Some(link_token.expose()));
                app.settings.cookies.set_link(response.headers_mut(), browser, app.store.clock().now());
                response
            } else {
                send_to_login(&app, refused.word(), None)
            }
        }
    };
    app.settings.cookies.clear_flow(response.headers_mut());
    Ok(response)
}

async fn finish(
    app: &App,
    visitor: &Visitor,
    provider: &Provider,
    parameters: Option<CallbackParameters>,
    headers: &HeaderMap,
) -> Result<Response, Refused> {
    visitor.count(app, "oidc", app.settings.limits.verify).await?;
    let CallbackParameters { code, state, iss, error } = parameters.ok_or(Refused::InvalidState)?;
    let state = state.ok_or(Refused::InvalidState)?;
    let flow = flow(app, headers, provider, &state)?;
    take(app, &state).await?;
    provider.check_issuer(iss.as_deref()).await.map_err(|error| {
        report(provider, &error);
        TurnedAway::ByProvider(error)
    })?;
    let code = match (error.as_deref(), code) {
        (None, Some(code)) => code,
        (Some("access_denied"), _) => return Err(Refused::AccessDenied),
        (Some(_), _) | (None, None) => return Err(Refused::NoCode),
    };
    let code = Code { code: &code, redirect_uri: provider.callback(), secrets: Some(flow.secrets()) };
    let LoggedIn { user, session, expires_at, position } = log_in(app, visitor, provider, code).await?;
    let token = sign(app, user, session, expires_at)?;
    let mut response = send_to(&flow.return_to().within(&app.settings.frontend));
    set_cookies(app, response.headers_mut(), &token);
    response.headers_mut().insert(LOG_POSITION, position.0.into());
    Ok(response)
}

/// The login this browser began here with this state.
fn flow(app: &App, headers: &HeaderMap, provider: &Provider, state: &str) -> Result<Flow, Refused> {
    let cookie = cookies::read(headers, cookies::FLOW).and_then(Result::ok).ok_or(Refused::InvalidState)?;
    Flow::open(app.keys(), &cookie, provider.name(), state, app.store.clock().now())
        .ok_or(Refused::InvalidState)
}

/// Once per login, on whichever replica: whoever kept the cookie cannot come back with it.
async fn take(app: &App, state: &str) -> Result<(), Refused> {
    let once = Limit { count: 1, period: Duration::from_secs(FLOW_LIFETIME.num_seconds().unsigned_abs()) };
    once.take(app.pool(), &app.keys().blind_limit("oidc state", state)).await.map_err(|limited| match limited
    {
        Limited::TooMany { .. } => Refused::InvalidState,
        Limited::Database(error) => ApiError::from(error).into(),
    })
}

/// Why a browser is sent to the login page.
enum Refused {
    /// No login is under way in this browser that this would be the answer to.
    InvalidState,
    /// The person said no at the issuer.
    AccessDenied,
    NoCode,
    TurnedAway(TurnedAway),
}

impl<E: Into<TurnedAway>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::TurnedAway(error.into())
    }
}

impl Refused {
    /// The word the login page is told.
    fn word(&self) -> &'static str {
        match self {
            Self::InvalidState => "invalid_state",
            Self::AccessDenied => "access_denied",
            Self::NoCode => "provider_error",
            Self::TurnedAway(turned_away) => match turned_away {
                TurnedAway::ByProvider(OidcError::Unavailable(..)) => "provider_unavailable",
                TurnedAway::ByProvider(OidcError::Untrusted(_) | OidcError::CodeRefused) => "provider_error",
                TurnedAway::ByProvider(OidcError::NoVerifiedEmail) => "email_not_verified",
                TurnedAway::EmailVerificationRequired { .. } => "email_verification_required",
                TurnedAway::SignupProhibited => "signup_prohibited",
                TurnedAway::AccountSuspended => "account_disabled",
                TurnedAway::Failed(error) => error.code.name(),
            },
        }
    }
}
