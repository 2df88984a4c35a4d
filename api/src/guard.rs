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
use tally_fanout::{Presented, VerifyError};
use tally_store::RequestContext;

use crate::{
    cookies,
    error::{self, ApiError},
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
        let principal = verify(app, &shown).await?;
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
    if let Some(credential) = bearer(headers)? {
        return Ok(Shown::bearer(credential));
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
    if error::is_v1(path) {
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

/// RFC 6750 section 2.1, the scheme in any letter case (RFC 9110 section 11.1).
///
/// Whatever begins like a Bearer was meant as one: misspelt, it is invalid and not absent, or the
/// cookie would be used in its place. So are two headers, of which one reader takes the first and
/// another the last.
fn bearer(headers: &HeaderMap) -> Result<Option<Plaintext>, ApiError> {
    const SCHEME: &str = "bearer";
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::invalid_token());
    }
    let text = value.to_str().map_err(|_| ApiError::invalid_token())?.trim();
    let Some((scheme, rest)) = text.split_at_checked(SCHEME.len()) else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Ok(None);
    }
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(ApiError::invalid_token());
    }
    Ok(Some(Plaintext::new(rest.trim())))
}

/// Asks the replica what the credential is good for, where it was shown.
pub(crate) async fn verify(app: &App, shown: &Shown) -> Result<Principal, ApiError> {
    shown.admits(principal(app, &shown.credential).await?)
}

async fn principal(app: &App, credential: &Plaintext) -> Result<Principal, ApiError> {
    let recognised = recognise(credential.expose()).ok_or_else(malformed)?;
    let hash = credential.hash();
    if let Some(verdict) = app.replica.remembered(&hash) {
        return Ok(verdict.principal);
    }
    check(app, &presented(app, credential, recognised, hash)?).await
}

/// What a credential shows, to be [checked](check) now and again.
pub(crate) fn present(app: &App, credential: &Plaintext) -> Result<Presented, ApiError> {
    let recognised = recognise(credential.expose()).ok_or_else(malformed)?;
    presented(app, credential, recognised, credential.hash())
}

fn presented(
    app: &App,
    credential: &Plaintext,
    recognised: Recognised,
    hash: CredentialHash,
) -> Result<Presented, ApiError> {
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
fn malformed() -> ApiError {
    tally_fanout::metrics::malformed();
    ApiError::invalid_token()
}

/// Asks the replica what it is good for at this moment.
pub(crate) async fn check(app: &App, presented: &Presented) -> Result<Principal, ApiError> {
    let verdict = app.replica.verify(presented).await.map_err(|error| match error {
        VerifyError::Invalid => ApiError::invalid_token(),
        VerifyError::Suspended => ApiError::account_disabled(),
        VerifyError::Unavailable => ApiError::unavailable(),
    })?;
    Ok(verdict.principal)
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
