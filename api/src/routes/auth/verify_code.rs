//! `POST /auth/verify-code`: the right code opens a session, and an account if there is none.
//!
//! With a `link_token` it also finishes a login by an issuer whose word on the address was not enough:
//! the identity opens this account from now on.

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
    identity::Identity,
    login::{Digits, TryCode, Verification, VerifyCode},
    session::Opens,
};
use tally_events::{LoginId, Position, SessionId, UserId};
use tally_projections::users::find_profile;
use tally_store::ExecuteError;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    error::{ApiError, Code},
    execute::{CLAIM_ATTEMPTS_MAX, failure},
    jwt::{Session, SessionKind},
    oidc::Link,
    request_json::RequestJson,
    routes::{
        LOG_POSITION,
        auth::{Visitor, fill_random, may_sign_up, send_code::refused},
        me::User,
    },
    state::App,
};

#[derive(Deserialize, ToSchema)]
pub struct CodeAttempt {
    #[schema(value_type = String, format = Email)]
    email: Option<String>,
    /// Six digits, from the mail.
    #[schema(value_type = String, min_length = 1, pattern = r"\S")]
    code: Option<String>,
    /// From a login by an issuer that ended in `email_verification_required`.
    link_token: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct SessionOpened {
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
        (status = 200, description = "Logged in", body = SessionOpened, headers(("Set-Cookie"), ("X-Log-Position"))),
        (status = 409),
        (status = 429)
    )
)]
pub async fn verify_code(
    State(app): State<App>,
    visitor: Visitor,
    request: Result<RequestJson<CodeAttempt>, ApiError>,
) -> Result<Response, ApiError> {
    let (session, lifetime) = (SessionId::new(), app.settings.session_lifetime);
    let opens = Opens::Session { lifetime };
    let Opened { user, expires_at, position } = log_in(&app, &visitor, request, session, opens).await?;
    answer(&app, user, session, expires_at, position).await
}

/// Somebody who typed the right code, and for whom a session opened.
pub(crate) struct Opened {
    pub user: UserId,
    /// Of the session.
    pub expires_at: DateTime<Utc>,
    pub position: Position,
}

/// The one door for everybody with a code, whatever they want opened: its limits are the same.
pub(crate) async fn log_in(
    app: &App,
    visitor: &Visitor,
    request: Result<RequestJson<CodeAttempt>, ApiError>,
    session: SessionId,
    opens: Opens,
) -> Result<Opened, ApiError> {
    visitor.count(app, "verify-code", app.settings.limits.verify).await?;
    let CodeAttempt { email, code, link_token } = request?.body;
    let present = |field: Option<String>| field.filter(|text| !text.trim().is_empty());
    let (Some(email), Some(code)) = (present(email), present(code)) else {
        return Err(ApiError::bad_request("email and code are required"));
    };
    let email = EmailAddress::parse(&email).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let link = link_token.map(|token| proven(app, visitor, &token, &email)).transpose()?;
    let attempt = Attempt { email: &email, typed: Digits::new(code.trim()), link, session, opens };
    match verify(app, visitor, &attempt).await? {
        (Verification::Verified { user, expires_at, .. }, position) => {
            Ok(Opened { user, expires_at, position })
        }
        (Verification::NoLiveCode | Verification::Wrong, _) => {
            Err(ApiError::new(Code::LoginCodeInvalid, "invalid or expired code"))
        }
        (Verification::SignupProhibited, _) => {
            Err(ApiError::new(Code::SignupProhibited, "signup prohibited"))
        }
        (Verification::AccountSuspended, _) => Err(ApiError::account_disabled()),
    }
}

/// The identity in a link token, if it was made for this address and in this browser. Looked at before
/// the code: a token of another address costs nobody an attempt, and wins nobody a session.
fn proven(app: &App, visitor: &Visitor, token: &str, email: &EmailAddress) -> Result<Identity, ApiError> {
    let browser = visitor.browser.as_deref().unwrap_or_default();
    Link::open(app.keys(), token, email, browser, app.store.clock().now())
        .ok_or_else(|| ApiError::bad_request("invalid or expired link_token"))
}

/// A code, and what is to be opened if it is right.
struct Attempt<'a> {
    email: &'a EmailAddress,
    typed: Digits,
    link: Option<Identity>,
    session: SessionId,
    opens: Opens,
}

async fn verify(
    app: &App,
    visitor: &Visitor,
    attempt: &Attempt<'_>,
) -> Result<(Verification, Position), ApiError> {
    let email = attempt.email;
    // A race for the account of an address is lost once at most; the loser finds the account there.
    for _ in 0..CLAIM_ATTEMPTS_MAX {
        let things =
            [Namespace::LoginAddress, Namespace::UserEmail].map(|namespace| (namespace, email.as_str()));
        let [login, user] = app.store.holders(things).await?;
        let link = not_yet_linked(app, attempt.link.as_ref(), user).await?;
        let Some(login) = login else { return Ok((Verification::NoLiveCode, Position::ZERO)) };
        let command = VerifyCode {
            login: LoginId(login),
            email: email.clone(),
            typed: attempt.typed.clone(),
            development: app.settings.development_code.clone(),
            key: app.keys().login_code().clone(),
            user: user.map_or_else(UserId::new, UserId),
            known: user.is_some(),
            may_sign_up: may_sign_up(app, email).await?,
            link: link.cloned(),
            session: attempt.session,
            opens: attempt.opens.clone(),
            origin: visitor.origin.clone(),
        };
        let first = TryCode(command.clone());
        let tried =
            app.execute(Principal::Anonymous, first, visitor.context, |refusal| refused(app, &refusal));
        let tried = tried.await?.executed;
        if let Some(verification) = tried.outcome {
            return Ok((verification, tried.position));
        }
        let command = tally_domain::authorize(Principal::Anonymous, command)?;
        match app.replica.execute(&command, visitor.context).await {
            Ok(done) => return Ok((done.executed.outcome, done.executed.position)),
            Err(ExecuteError::ClaimTaken(_)) => {}
            Err(error) => return Err(failure(error, |refusal| refused(app, &refusal))),
        }
    }
    Err(ApiError::unavailable())
}

/// What of an identity is still to be linked to the account of the address: nothing, if it opens that
/// account already. One that opens another account is not moved.
async fn not_yet_linked<'a>(
    app: &App,
    link: Option<&'a Identity>,
    user: Option<Uuid>,
) -> Result<Option<&'a Identity>, ApiError> {
    let Some(identity) = link else { return Ok(None) };
    match app.store.holder(Namespace::UserIdentity, &identity.unique()).await? {
        None => Ok(Some(identity)),
        holder if holder == user => Ok(None),
        Some(_) => Err(ApiError::conflict("this identity opens another account already")),
    }
}

/// To whoever just logged in: the session's JWT, the profile, and both cookies.
pub(super) async fn answer(
    app: &App,
    user: UserId,
    session: SessionId,
    expires_at: DateTime<Utc>,
    position: Position,
) -> Result<Response, ApiError> {
    let token = sign(app, user, session, expires_at)?;
    let profile = find_profile(app.pool(), app.keys(), user).await?.ok_or_else(ApiError::unavailable)?;
    let opened = SessionOpened { token: token.expose().to_owned(), user: User::from(profile) };
    let mut response = Json(opened).into_response();
    set_cookies(app, response.headers_mut(), &token);
    response.headers_mut().insert(LOG_POSITION, position.0.into());
    Ok(response)
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
    let session = Session { kind: SessionKind::Ordinary, user, session, expires_at };
    app.settings.signer.sign(&session, issued_at).map_err(|error| ApiError::internal(&error))
}

pub(super) fn set_cookies(app: &App, headers: &mut HeaderMap, token: &Plaintext) {
    let mut nonce = [0; 16];
    fill_random(&mut nonce);
    let now = app.store.clock().now();
    app.settings.cookies.set(headers, token, nonce, now, app.settings.session_lifetime);
}
