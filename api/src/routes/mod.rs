//! The routes, each in the file its URL names.

mod auth;
mod cli_token;
mod config;
mod health;
mod invitations;
mod me;
mod share_links;
mod tokens;
mod v1;
mod workspaces;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{from_fn, from_fn_with_state},
    routing::{any, delete, get, patch, post},
};
use tally_fanout::Done;
use tower::Layer;
use tower_http::{
    cors::{AllowOrigin, CorsLayer},
    normalize_path::{NormalizePath, NormalizePathLayer},
};

use crate::{error::ApiError, middleware, request_json::BODY_BYTES_MAX, state::App};

/// Everything behind the door. Collections answer with and without a trailing slash.
pub fn router(app: App) -> NormalizePath<Router> {
    let routes = Router::new()
        .route("/auth/send-code", post(auth::send_code::send_code))
        .route("/auth/verify-code", post(auth::verify_code::verify_code))
        .route("/auth/logout", post(auth::logout::logout))
        .route("/api/cli-token", post(cli_token::create_cli_token))
        .route("/api/me", get(me::read_me).patch(me::change_me))
        .route("/api/tokens", get(tokens::list_tokens).post(tokens::create_token))
        .route("/api/tokens/current/renew", post(tokens::renew_token))
        .route("/api/tokens/{id}", delete(tokens::revoke_token))
        .route("/api/workspaces", get(workspaces::list_workspaces).post(workspaces::create_workspace))
        .route(
            "/api/workspaces/{id}",
            get(workspaces::read_workspace)
                .put(workspaces::change_workspace)
                .patch(workspaces::change_workspace)
                .delete(workspaces::delete_workspace),
        )
        .route(
            "/api/workspaces/{id}/members",
            get(workspaces::members::list_members).post(workspaces::invitations::create_invitation),
        )
        .route(
            "/api/workspaces/{id}/members/{member_id}",
            patch(workspaces::members::change_member).delete(workspaces::members::remove_member),
        )
        .route("/api/workspaces/{id}/leave", post(workspaces::members::leave))
        .route("/api/workspaces/{id}/invitations", get(workspaces::invitations::list_invitations))
        .route(
            "/api/workspaces/{id}/invitations/{invitation_id}",
            delete(workspaces::invitations::revoke_invitation),
        )
        .route(
            "/api/workspaces/{id}/share-links",
            get(workspaces::share_links::list_share_links)
                .post(workspaces::share_links::create_share_link)
                .delete(workspaces::share_links::revoke_share_links),
        )
        .route(
            "/api/workspaces/{id}/share-links/{link_id}",
            delete(workspaces::share_links::revoke_share_link),
        )
        .route("/api/invitations", get(invitations::list_invitations))
        .route("/api/invitations/{id}", get(invitations::read_invitation))
        .route("/api/invitations/{id}/accept", post(invitations::accept_invitation))
        .route("/api/invitations/{id}/decline", post(invitations::decline_invitation))
        .route("/api/share-links/join", post(share_links::join_by_share_link))
        .route("/api/share-links/{code}", get(share_links::read_share_link))
        .route("/api/config", get(config::read_config))
        .route("/v1/me", get(v1::me::read_me))
        .route("/v1/audit", get(v1::audit::read_audit))
        .route("/health", get(health::health))
        .route("/readyz", get(health::readyz))
        .route("/healthz", get(health::readyz))
        .fallback(async || ApiError::not_found())
        .method_not_allowed_fallback(async || {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "method not allowed")
        });
    // Asked by proxies about requests that are not for us: no browser's preflight is answered here,
    // because that would be a yes, and the origins of others are theirs to judge.
    let by_proxies = Router::new()
        .route("/auth/verify", any(auth::verify::verify_for_proxy))
        .route("/auth/verify/{*original}", any(auth::verify::verify_for_proxy));
    let routes = routes
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(app.clone(), middleware::admit))
        .layer(cors(&app));
    let all = routes.merge(by_proxies).layer(from_fn(middleware::pass)).with_state(app);
    NormalizePathLayer::trim_trailing_slash().layer(all)
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
    let exposed = ["x-request-id", "x-log-position", "x-revocation"];
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
    if done.effective.is_some() {
        headers.insert(REVOCATION, HeaderValue::from_static("effective"));
    }
    headers
}

/// `X-Revocation: effective`: no replica accepts it any more.
pub(crate) const REVOCATION: HeaderName = HeaderName::from_static("x-revocation");
