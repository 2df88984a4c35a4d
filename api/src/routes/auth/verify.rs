//! `/auth/verify`: forward authentication. A proxy asks here before it lets a request through:
//! nginx `auth_request`, Caddy `forward_auth`, Traefik `ForwardAuth`, Envoy `ext_authz` over HTTP.
//!
//! A yes is 200 without a body and with the identity headers that the proxy hands on. A no is 401
//! or 403, because nginx makes 500 of anything else, and 503 when it cannot be known. Envoy sends
//! the method and, behind its `path_prefix`, the path of the original request: any of them will do.
//!
//! A location may list the kinds of credential that it takes, in the path and not in the query: what
//! proxies put in the place of a client's query differs, and some hand it on.

use std::collections::HashMap;

use axum::{
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode},
    response::{IntoResponse, Response},
};
use tally_domain::{
    Action, Principal, PrincipalKind, authorize,
    credential::{CredentialKind, KINDS},
    policy::Act,
};

use crate::{
    client_address::ClientAddress,
    error::ApiError,
    guard::{credential_of, verify},
    middleware::id_value,
    state::App,
};

/// How proxies say what the original request's method was: nginx by the first, which its
/// configuration sets, Caddy and Traefik by the second, which they set themselves.
const ORIGINAL_METHOD: [&str; 2] = ["x-original-method", "x-forwarded-method"];

/// Entering a place that a proxy guards. Machines enter none: no row of policy lets them.
#[derive(Clone, Copy, Debug)]
struct EnterByProxy;

impl Act for EnterByProxy {
    const ACTION: Action = Action::EnterByProxy;
}

/// Ask, as a proxy, whose request this is
///
/// For nginx `auth_request`, Caddy `forward_auth`, Traefik `ForwardAuth` and Envoy `ext_authz`. Any
/// method and any path below this one will do; the credential is the original request's. A yes names
/// the caller in headers, for the proxy to hand on.
#[utoipa::path(
    get,
    path = "/auth/verify",
    params(("X-Original-Method" = Option<String>, Header)),
    security(("bearer" = []), ("cookie" = []), ("cookie" = [], "csrf" = [])),
    responses((
        status = 200,
        description = "It may pass",
        headers(("X-User-ID"), ("X-Credential-ID"), ("X-Actor-Kind"), ("X-Actor-Source"))
    ))
)]
pub async fn verify_for_proxy(
    State(app): State<App>,
    address: ClientAddress,
    request: Request,
) -> Result<Response, ApiError> {
    enter(&app, address, request, None).await
}

/// Ask, as a proxy, whose request this is, where only some kinds of credential may enter
///
/// As `/auth/verify`, for a location that lists the kinds that it takes.
#[utoipa::path(
    get,
    path = "/auth/verify-only/{kinds}",
    params(
        (
            "kinds" = String,
            Path,
            description = "Separated by commas, such as `session,personal_access_token`",
            pattern = "^[a-z_]+(,[a-z_]+)*$"
        ),
        ("X-Original-Method" = Option<String>, Header)
    ),
    security(("bearer" = []), ("cookie" = []), ("cookie" = [], "csrf" = [])),
    responses((
        status = 200,
        description = "It may pass",
        headers(("X-User-ID"), ("X-Credential-ID"), ("X-Actor-Kind"), ("X-Actor-Source"))
    ))
)]
pub async fn verify_kinds_for_proxy(
    State(app): State<App>,
    Path(open): Path<HashMap<String, String>>,
    address: ClientAddress,
    request: Request,
) -> Result<Response, ApiError> {
    let kinds = kinds(open.get("kinds").map_or("", String::as_str))?;
    enter(&app, address, request, Some(&kinds)).await
}

/// The kinds that a location lists. One that is misspelt lets nobody in: 403, because nginx makes 500 of
/// what would say better whose fault it is.
fn kinds(listed: &str) -> Result<Vec<CredentialKind>, ApiError> {
    let kind = |name: &str| KINDS.iter().find(|row| row.name == name).map(|row| row.kind);
    let kinds: Option<Vec<CredentialKind>> = listed.split(',').map(kind).collect();
    kinds.ok_or_else(|| {
        let known = KINDS.map(|row| row.name).join(", ");
        ApiError::forbidden(format!("the location lists an unknown kind of credential; known are {known}"))
    })
}

async fn enter(
    app: &App,
    address: ClientAddress,
    request: Request,
    kinds: Option<&[CredentialKind]>,
) -> Result<Response, ApiError> {
    let headers = request.headers();
    let method = original_method(request.method(), headers)?;
    let shown = credential_of(&method, request.uri().path(), headers)?;
    let principal = verify(app, &shown, address).await?;
    authorize(principal, EnterByProxy)?;
    if let Some(kinds) = kinds
        && !kinds.iter().any(|kind| principal.kind() == PrincipalKind::Credential(*kind))
    {
        let nouns: Vec<&str> = kinds.iter().map(|kind| kind.row().noun).collect();
        return Err(ApiError::insufficient_scope(format!("only this may enter here: {}", nouns.join(", "))));
    }
    let mut response = StatusCode::OK.into_response();
    identify(response.headers_mut(), &principal);
    Ok(response)
}

/// The method a cookie's CSRF token is asked for. Whatever names one must name the same: a client
/// may have sent the header that this proxy does not set. A method other than GET that the proxy
/// itself uses is the original one.
fn original_method(own: &Method, headers: &HeaderMap) -> Result<Method, ApiError> {
    let missing = || {
        ApiError::forbidden(
            "the proxy must send the original method as X-Original-Method or X-Forwarded-Method",
        )
    };
    let mut named = ORIGINAL_METHOD.iter().flat_map(|name| headers.get_all(*name));
    let first = named.next().ok_or_else(missing)?;
    let method = Method::from_bytes(first.as_bytes()).map_err(|_| missing())?;
    let contradicts = !matches!(*own, Method::GET | Method::HEAD) && *own != method;
    if contradicts || named.any(|other| other != first) {
        return Err(ApiError::forbidden("the original method is named in two ways"));
    }
    Ok(method)
}

/// Who it is, for whatever stands behind the proxy.
fn identify(headers: &mut HeaderMap, principal: &Principal) {
    let Principal::Person { user, credential } = principal else { return };
    let source = credential.kind().row().name;
    headers.insert(HeaderName::from_static("x-user-id"), id_value(user.0));
    headers.insert(HeaderName::from_static("x-credential-id"), id_value(credential.id().uuid()));
    headers.insert(HeaderName::from_static("x-actor-kind"), HeaderValue::from_static("person"));
    headers.insert(HeaderName::from_static("x-actor-source"), HeaderValue::from_static(source));
}
