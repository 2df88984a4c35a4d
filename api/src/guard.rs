//! The guard: from a request's credential to a principal, or a no.
//!
//! | case | answer |
//! |---|---|
//! | no credential | 401 `missing authorization` |
//! | malformed, unknown, expired, revoked | 401 `invalid token`, all four the same |
//! | suspended user | 403 `account disabled` |
//! | right credential, wrong place | 403, naming what is missing (policy says so) |
//! | cannot know | 503, never a yes |
//!
//! A browser may hold the cookies of an ordinary session and of a console session at once, and of two
//! people. Which counts is the route's to say and nothing else's: on `/v1`, where the console speaks,
//! its own, and everywhere else the other. One that is alone counts everywhere; one that counts and is
//! no good is not passed over for the other.

use axum::{
    extract::{FromRequestParts, Request},
    http::{HeaderMap, Method, header, request::Parts},
};
use tally_domain::{
    Principal, PrincipalKind,
    credential::{CredentialHash, CredentialKind, Plaintext, Recognised, recognise},
};
use tally_events::RequestId;
use tally_fanout::{
    Presented, VerifyError,
    request::{MalformedAuthorization, bearer},
};
use tally_store::RequestContext;

use crate::{
    client_address::ClientAddress,
    cookies,
    error::{ApiError, Family},
    jwt::Session,
    state::App,
};

const CSRF_HEADER: &str = "x-csrf-token";

/// Whoever makes this request, proven.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    pub principal: Principal,
    pub context: RequestContext,
}

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let shown = credential_of(&parts.method, parts.uri.path(), &parts.headers)?;
        let address = ClientAddress::from_request_parts(parts, app).await?;
        let principal = verify(app, &shown, address).await?;
        Ok(Self { principal, context: context_of(parts) })
    }
}

/// What surrounds the request, for its events.
pub(crate) fn context_of(parts: &Parts) -> RequestContext {
    RequestContext { request: parts.extensions.get::<RequestId>().copied(), idempotency: None }
}

/// What a request shows, and where.
#[derive(Debug)]
pub(crate) struct Shown {
    pub credential: Plaintext,
    by: By,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Bearer,
    SessionCookie,
    ConsoleCookie,
}

impl Shown {
    pub(crate) fn is_console_cookie(&self) -> bool {
        self.by == By::ConsoleCookie
    }

    /// Shown by itself, which is as good as a Bearer.
    pub(crate) const fn bearer(credential: Plaintext) -> Self {
        Self { credential, by: By::Bearer }
    }

    /// What stands in the cookie of one kind of session never shows one of the other.
    pub(crate) fn admits(&self, principal: Principal) -> Result<Principal, ApiError> {
        let of_console = principal.kind() == PrincipalKind::Credential(CredentialKind::ConsoleSession);
        let belongs = match self.by {
            By::Bearer => true,
            By::SessionCookie => !of_console,
            By::ConsoleCookie => of_console,
        };
        if belongs { Ok(principal) } else { Err(ApiError::invalid_token()) }
    }
}

/// The one credential of a request. A Bearer, even a wrong one, is never passed over for a cookie.
pub(crate) fn credential_of(method: &Method, path: &str, headers: &HeaderMap) -> Result<Shown, ApiError> {
    if let Some(credential) = bearer(headers).map_err(|MalformedAuthorization| ApiError::invalid_token())? {
        return Ok(Shown::bearer(Plaintext::new(credential)));
    }
    let (cookie, by) = cookie(path, headers)?.ok_or_else(ApiError::missing_authorization)?;
    if !is_safe(method) {
        check_csrf(&cookie, headers)?;
    }
    Ok(Shown { credential: Plaintext::new(cookie), by })
}

/// The cookie that counts on this path, if there is any. An empty one is none.
fn cookie(path: &str, headers: &HeaderMap) -> Result<Option<(String, By)>, ApiError> {
    let mut order = [(cookies::AUTH, By::SessionCookie), (cookies::CONSOLE_AUTH, By::ConsoleCookie)];
    if Family::of(path) == Family::Problem {
        order.reverse();
    }
    for (name, by) in order {
        match cookies::read(headers, name) {
            Some(Ok(value)) if value.is_empty() => {}
            Some(Ok(value)) => return Ok(Some((value, by))),
            Some(Err(_)) => return Err(ApiError::invalid_token()),
            None => {}
        }
    }
    Ok(None)
}

/// A change by cookie carries a token that belongs to that very cookie.
pub(crate) fn check_csrf(cookie: &str, headers: &HeaderMap) -> Result<(), ApiError> {
    let token = headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if cookies::csrf_matches(cookie, token) { Ok(()) } else { Err(csrf_failed()) }
}

pub(crate) fn csrf_failed() -> ApiError {
    ApiError::forbidden("CSRF validation failed")
}

/// Asks the replica what the credential is good for, where it was shown. A yes is a use of it.
pub(crate) async fn verify(
    app: &App,
    shown: &Shown,
    ClientAddress(address): ClientAddress,
) -> Result<Principal, ApiError> {
    let principal = judge(app, &shown.credential).await.map_err(worded)?;
    let principal = shown.admits(principal)?;
    app.usage.note(&principal, address);
    Ok(principal)
}

/// Whether a credential is good, and whose it is.
pub(crate) async fn judge(app: &App, credential: &Plaintext) -> Result<Principal, VerifyError> {
    let recognised = recognise(credential.expose()).ok_or_else(malformed)?;
    let hash = credential.hash();
    let verdict = match app.replica.remembered(&hash) {
        Some(verdict) => verdict,
        None => app.replica.verify(&presented(app, credential, recognised, hash)?).await?,
    };
    Ok(verdict.principal)
}

/// What a credential shows, to be [checked](check) now and again.
pub(crate) fn present(app: &App, credential: &Plaintext) -> Result<Presented, ApiError> {
    let recognised = recognise(credential.expose()).ok_or_else(malformed);
    let presented = recognised.and_then(|form| presented(app, credential, form, credential.hash()));
    presented.map_err(worded)
}

fn presented(
    app: &App,
    credential: &Plaintext,
    recognised: Recognised,
    hash: CredentialHash,
) -> Result<Presented, VerifyError> {
    match recognised {
        Recognised::Token(_) => Ok(Presented::Token(hash)),
        Recognised::Jwt => {
            let Session { kind, user, session, expires_at } =
                app.settings.signer.check(credential.expose()).ok_or_else(malformed)?;
            Ok(Presented::Session { hash, id: session, user, kind: kind.credential(), expires_at })
        }
    }
}

/// Nobody need be asked about it.
fn malformed() -> VerifyError {
    tally_fanout::metrics::malformed();
    VerifyError::Invalid
}

/// Asks the replica what it is good for at this moment.
pub(crate) async fn check(app: &App, presented: &Presented) -> Result<Principal, ApiError> {
    let verdict = app.replica.verify(presented).await.map_err(worded)?;
    Ok(verdict.principal)
}

fn worded(error: VerifyError) -> ApiError {
    match error {
        VerifyError::Invalid => ApiError::invalid_token(),
        VerifyError::Suspended => ApiError::account_disabled(),
        VerifyError::Unavailable => ApiError::unavailable(),
    }
}

const fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// A state-changing request that says where it comes from must come from an allowed place.
pub(crate) fn check_origin(app: &App, request: &Request) -> Result<(), ApiError> {
    if !is_safe(request.method())
        && let Some(origin) = request.headers().get(header::ORIGIN)
    {
        let allowed = origin
            .to_str()
            .is_ok_and(|origin| app.settings.allowed_origins.iter().any(|known| known == origin));
        if !allowed {
            return Err(ApiError::forbidden("origin not allowed"));
        }
    }
    Ok(())
}
