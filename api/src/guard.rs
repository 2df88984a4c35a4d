//! The guard: from a request's credential to a principal, or a no.
//!
//! | case | answer |
//! |---|---|
//! | no credential | 401 `missing authorization` |
//! | malformed, unknown, expired, revoked | 401 `invalid token`, all four the same |
//! | suspended user | 403 `account disabled` |
//! | right credential, wrong place | 403, naming what is missing (policy says so) |
//! | cannot know | 503, never a yes |

use axum::{
    extract::{FromRequestParts, Request},
    http::{HeaderMap, Method, header, request::Parts},
};
use tally_domain::{
    Principal,
    credential::{CredentialHash, Plaintext, Recognised, recognise},
};
use tally_events::RequestId;
use tally_fanout::{Presented, VerifyError};
use tally_store::RequestContext;

use crate::{cookies, error::ApiError, jwt::Signed, state::App};

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
        let credential = credential_of(&parts.method, &parts.headers)?;
        let principal = verify(app, &credential).await?;
        Ok(Self { principal, context: context_of(parts) })
    }
}

/// What surrounds the request, for its events.
pub(crate) fn context_of(parts: &Parts) -> RequestContext {
    RequestContext { request: parts.extensions.get::<RequestId>().copied(), idempotency: None }
}

/// The one credential of a request. A Bearer, even a wrong one, is never passed over for the cookie.
pub(crate) fn credential_of(method: &Method, headers: &HeaderMap) -> Result<Plaintext, ApiError> {
    if let Some(bearer) = bearer(headers)? {
        return Ok(bearer);
    }
    let cookie = cookies::read(headers, cookies::AUTH).ok_or_else(ApiError::missing_authorization)?;
    let cookie = cookie.map_err(|_| ApiError::invalid_token())?;
    if cookie.is_empty() {
        return Err(ApiError::missing_authorization());
    }
    if !is_safe(method) {
        let token = headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !cookies::csrf_matches(&cookie, token) {
            return Err(ApiError::forbidden("CSRF validation failed"));
        }
    }
    Ok(Plaintext::new(cookie))
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

/// Asks the replica what the credential is good for.
pub(crate) async fn verify(app: &App, credential: &Plaintext) -> Result<Principal, ApiError> {
    let recognised = recognise(credential.expose()).ok_or_else(ApiError::invalid_token)?;
    let hash = credential.hash();
    if let Some(verdict) = app.replica.remembered(&hash) {
        return Ok(verdict.principal);
    }
    check(app, &presented(app, credential, recognised, hash)?).await
}

/// What a credential shows, to be [checked](check) now and again.
pub(crate) fn present(app: &App, credential: &Plaintext) -> Result<Presented, ApiError> {
    let recognised = recognise(credential.expose()).ok_or_else(ApiError::invalid_token)?;
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
            let Signed { user, session, expires_at } =
                app.settings.signer.check(credential.expose()).ok_or_else(ApiError::invalid_token)?;
            Ok(Presented::Session { hash, id: session, user, expires_at })
        }
    }
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
