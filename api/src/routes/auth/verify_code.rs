//! `POST /auth/verify-code`: the right code opens a session, and an account if there is none.

use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tally_domain::{
    EmailAddress, Principal,
    claim::Namespace,
    credential::Plaintext,
    login::{Digits, Verification, VerifyCode},
};
use tally_events::{LoginId, Position, SessionId, UserId};
use tally_projections::users::find_profile;
use tally_store::ExecuteError;
use utoipa::ToSchema;

use crate::{
    error::ApiError,
    execute::failure,
    request_json::RequestJson,
    routes::{
        LOG_POSITION,
        auth::{Visitor, fill_random, may_sign_up, send_code::refused},
        me::User,
    },
    state::App,
};

/// A race for the account of an address is lost once at most; the loser finds the account there.
const CLAIM_ATTEMPTS_MAX: usize = 3;

#[derive(Deserialize, ToSchema)]
pub struct CodeAttempt {
    #[schema(value_type = String, format = Email)]
    email: Option<String>,
    /// Six digits, from the mail.
    #[schema(value_type = String, min_length = 1, pattern = r"\S")]
    code: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct LoggedIn {
    /// The session's JWT, as the cookie `multica_auth` has it.
    token: String,
    user: User,
}

/// Log in with a code
///
/// The right code opens a session, and an account if there is none. Both cookies are set.
#[utoipa::path(
    post,
    path = "/auth/verify-code",
    security(()),
    request_body = CodeAttempt,
    responses(
        (status = 200, description = "Logged in", body = LoggedIn, headers(("Set-Cookie"), ("X-Log-Position"))),
        (status = 429)
    )
)]

pub async fn verify_code(
    State(app): State<App>,
    visitor: Visitor,
    request: Result<RequestJson<CodeAttempt>, ApiError>,
) -> Result<Response, ApiError> {
    visitor.count(&app, "verify-code", app.settings.limits.verify).await?;
    let CodeAttempt { email, code } = request?.body;
    let present = |field: Option<String>| field.filter(|text| !text.trim().is_empty());
    let (Some(email), Some(code)) = (present(email), present(code)) else {
        return Err(ApiError::bad_request("email and code are required"));
    };
    let email = EmailAddress::parse(&email).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let (verification, position) = verify(&app, &visitor, &email, &Digits::new(code.trim())).await?;
    match verification {
        Verification::Verified { user, session, expires_at } => {
            let token = sign(&app, user, session, expires_at)?;
            let profile =
                find_profile(app.pool(), app.keys(), user).await?.ok_or_else(ApiError::unavailable)?;
            let mut response = Json(LoggedIn { token: token.expose().to_owned(), user: User::from(profile) })
                .into_response();
            set_cookies(&app, response.headers_mut(), &token);
            response.headers_mut().insert(LOG_POSITION, position.0.into());
            Ok(response)
        }
        Verification::NoLiveCode | Verification::Wrong => {
            Err(ApiError::bad_request("invalid or expired code"))
        }
        Verification::SignupProhibited => Err(ApiError::forbidden("signup prohibited")),
        Verification::AccountSuspended => Err(ApiError::account_disabled()),
    }
}

async fn verify(
    app: &App,
    visitor: &Visitor,
    email: &EmailAddress,
    typed: &Digits,
) -> Result<(Verification, Position), ApiError> {
    for _ in 0..CLAIM_ATTEMPTS_MAX {
        let things =
            [Namespace::LoginAddress, Namespace::UserEmail].map(|namespace| (namespace, email.as_str()));
        let [login, user] = app.store.holders(things).await?;
        let Some(login) = login else { return Ok((Verification::NoLiveCode, Position::ZERO)) };
        let command = VerifyCode {
            login: LoginId(login),
            email: email.clone(),
            typed: typed.clone(),
            development: app.settings.development_code.clone(),
            key: app.keys().login_code().clone(),
            user: user.map_or_else(UserId::new, UserId),
            may_sign_up: may_sign_up(app, email).await?,
            session: SessionId::new(),
            lifetime: app.settings.session_lifetime,
            origin: visitor.origin.clone(),
        };
        let command = tally_domain::authorize(Principal::Anonymous, command)?;
        match app.replica.execute(&command, visitor.context).await {
            Ok(done) => return Ok((done.executed.outcome, done.executed.position)),
            Err(ExecuteError::ClaimTaken(_)) => {}
            Err(error) => return Err(failure(error, |refusal| refused(app, &refusal))),
        }
    }
    Err(ApiError::unavailable())
}

/// The JWT of a session that just started.
pub fn sign(
    app: &App,
    user: UserId,
    session: SessionId,
    expires_at: DateTime<Utc>,
) -> Result<Plaintext, ApiError> {
    // The moment of the decision: another reading of the clock could be a second later.
    let issued_at = expires_at - app.settings.session_lifetime;
    app.settings.signer.sign(user, session, issued_at, expires_at).map_err(|error| ApiError::internal(&error))
}

fn set_cookies(app: &App, headers: &mut HeaderMap, token: &Plaintext) {
    let mut nonce = [0; 16];
    fill_random(&mut nonce);
    let now = app.store.clock().now();
    app.settings.cookies.set(headers, token, nonce, now, app.settings.session_lifetime);
}
