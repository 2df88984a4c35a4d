//! The routes, each in the file its URL names.

pub(crate) mod auth;
mod cli_token;
mod config;
mod health;
mod invitations;
mod me;
mod oauth;
mod openapi;
mod share_links;
mod tokens;
mod v1;
mod workspaces;
pub(crate) mod ws;

use std::{mem, sync::Arc};

use axum::{
    Router,
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    middleware::from_fn_with_state,
    routing::any,
};
use tally_fanout::{Done, Effective, RollCall};
use tower::Layer;
use tower_http::{
    cors::{AllowOrigin, CorsLayer},
    normalize_path::{NormalizePath, NormalizePathLayer},
};
use utoipa_axum::{router::UtoipaMethodRouter, routes};

use crate::{
    error::{ApiError, Code},
    metrics::HttpMetrics,
    middleware,
    state::App,
};

/// A path with its handlers, and what their annotations say of them.
pub(crate) type Route = UtoipaMethodRouter<App>;

/// Every route but those that proxies ask: a line for each path, which its handlers name. What is
/// here is served and is in the OpenAPI document.
pub(crate) fn listed() -> Vec<Route> {
    vec![
        routes!(auth::send_code::send_code),
        routes!(auth::verify_code::verify_code),
        routes!(auth::google::log_in_with_google),
        routes!(auth::oidc::list_providers),
        routes!(auth::oidc::begin::begin_login),
        routes!(auth::oidc::callback::finish_login),
        routes!(auth::logout::logout),
        routes!(cli_token::create_cli_token),
        routes!(me::read_me, me::change_me),
        routes!(tokens::list_tokens, tokens::create_token),
        routes!(tokens::renew_token),
        routes!(tokens::revoke_token),
        routes!(workspaces::list_workspaces, workspaces::create_workspace),
        routes!(
            workspaces::read_workspace,
            workspaces::replace_workspace,
            workspaces::change_workspace,
            workspaces::delete_workspace
        ),
        routes!(workspaces::members::list_members, workspaces::invitations::create_invitation),
        routes!(workspaces::members::change_member, workspaces::members::remove_member),
        routes!(workspaces::members::leave_workspace),
        routes!(workspaces::invitations::list_invitations),
        routes!(workspaces::invitations::revoke_invitation),
        routes!(
            workspaces::share_links::list_share_links,
            workspaces::share_links::create_share_link,
            workspaces::share_links::revoke_share_links
        ),
        routes!(workspaces::share_links::revoke_share_link),
        routes!(invitations::list_own_invitations),
        routes!(invitations::read_own_invitation),
        routes!(invitations::accept_invitation),
        routes!(invitations::decline_invitation),
        routes!(share_links::join_by_share_link),
        routes!(share_links::read_share_link),
        routes!(ws::open_socket),
        routes!(config::read_config),
        routes!(v1::me::describe_credential),
        routes!(v1::audit::read_audit),
        routes!(v1::sessions::list_sessions, v1::sessions::open::open_session),
        routes!(v1::sessions::refresh::refresh_session),
        routes!(v1::sessions::end_other_sessions),
        routes!(v1::sessions::current::end_current_session),
        routes!(v1::sessions::end_session),
        routes!(oauth::introspect::introspect),
        routes!(oauth::revoke::revoke),
        routes!(health::health),
        routes!(health::readyz),
        routes!(health::healthz),
        routes!(openapi::read_openapi),
    ]
}

/// Asked by proxies about requests that are not for us. What stands here for one method is served
/// for all of them, and for every path below: a proxy may pass both on.
pub(crate) fn asked_by_proxies() -> [Route; 2] {
    [routes!(auth::verify::verify_for_proxy), routes!(auth::verify::verify_kinds_for_proxy)]
}

/// The paths they ask at, below which may stand the original one.
const BY_PROXIES: [&str; 4] = [
    "/auth/verify",
    "/auth/verify/{*original}",
    "/auth/verify-only/{kinds}",
    "/auth/verify-only/{kinds}/{*original}",
];

/// Whether a route is asked once for each request that somebody sends elsewhere.
pub(crate) fn is_asked_per_request(route: &str) -> bool {
    route == "/oauth/introspect" || BY_PROXIES.contains(&route)
}

/// Everything behind the door. Collections answer with and without a trailing slash.
pub fn router(app: App) -> NormalizePath<Router> {
    let (mut routes, mut by_services) = (Router::new(), Router::new());
    let mut patterns: Vec<String> = BY_PROXIES.map(str::to_owned).into();
    for (_, documented, handlers) in listed() {
        for path in documented.paths.keys() {
            let router = if is_asked_per_request(path) { &mut by_services } else { &mut routes };
            *router = mem::take(router).route(path, handlers.clone());
            patterns.push(path.clone());
        }
    }
    let metrics = app.settings.count_requests.then(|| Arc::new(HttpMetrics::new(patterns)));
    let routes =
        routes.fallback(async || ApiError::not_found()).method_not_allowed_fallback(method_not_allowed);
    let by_services = by_services.method_not_allowed_fallback(method_not_allowed);
    // No browser's preflight is answered here, because that would be a yes, and the origins of
    // others are theirs to judge.
    let (people, listed) = (any(auth::verify::verify_for_proxy), any(auth::verify::verify_kinds_for_proxy));
    let by_proxies = BY_PROXIES
        .into_iter()
        .zip([people.clone(), people, listed.clone(), listed])
        .fold(Router::new(), |routes, (path, handler)| routes.route(path, handler));
    let routes = routes.layer(from_fn_with_state(app.clone(), middleware::admit)).layer(cors(&app));
    let all = routes.merge(by_services).merge(by_proxies);
    let all = all.layer(middleware::Pass { metrics }).with_state(app);
    NormalizePathLayer::trim_trailing_slash().layer(all)
}

async fn method_not_allowed() -> ApiError {
    ApiError::new(Code::MethodNotAllowed, "method not allowed")
}

/// Browsers may call with credentials from the allowed origins, and from nowhere else.
fn cors(app: &App) -> CorsLayer {
    let allowed = app.settings.allowed_origins.clone();
    let is_allowed = move |origin: &HeaderValue, _: &axum::http::request::Parts| {
        origin.to_str().is_ok_and(|origin| allowed.iter().any(|known| known == origin))
    };
    let requested = [
        "authorization",
        "content-type",
        "x-csrf-token",
        "x-workspace-id",
        "x-workspace-slug",
        "x-request-id",
        "idempotency-key",
        "if-match",
        "x-min-position",
    ];
    let exposed = ["x-request-id", "x-log-position", "x-revocation", "x-revocation-acknowledged"];
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(is_allowed))
        .allow_credentials(true)
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
        ])
        .allow_headers(requested.map(HeaderName::from_static))
        .expose_headers(
            exposed.map(HeaderName::from_static).into_iter().chain([header::RETRY_AFTER]).collect::<Vec<_>>(),
        )
}

/// `X-Log-Position`: where in the log this answer stands.
pub(crate) const LOG_POSITION: HeaderName = HeaderName::from_static("x-log-position");
/// Where a revocation stands in the log, and that no replica accepts what it ended any more.
pub(crate) fn effective<O>(done: &Done<O>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(LOG_POSITION, HeaderValue::from(done.executed.position.0));
    if let Some(Effective { roll_call, .. }) = done.effective {
        headers.insert(REVOCATION, HeaderValue::from_static("effective"));
        let acknowledged = roll_call.map(|RollCall { acknowledged, registered }| {
            HeaderValue::try_from(format!("{acknowledged}/{registered}")).expect("digits are a header")
        });
        headers.extend(acknowledged.map(|value| (ACKNOWLEDGED, value)));
    }
    headers
}

/// `X-Revocation: effective`: no replica accepts it any more.
const REVOCATION: HeaderName = HeaderName::from_static("x-revocation");
/// How many replicas said so, and of how many. The leases of the others are over.
const ACKNOWLEDGED: HeaderName = HeaderName::from_static("x-revocation-acknowledged");
