//! What every request passes: ids, removed headers, one log line, and an end in time.

use std::time::Duration;

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tally_events::RequestId;
use tokio::time::{Instant, timeout};

use crate::error::ApiError;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A handler that takes longer is not waited for: its client is told to come back.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Identity headers. Only the server sets them, outbound; whoever sends one in is not believed.
const IDENTITY: [&str; 12] = [
    "x-user-id",
    "x-user-email",
    "x-user-name",
    "x-agent-id",
    "x-task-id",
    "x-actor-source",
    "x-actor-kind",
    "x-credential-id",
    "x-daemon-id",
    "x-workspace-role",
    "x-scopes",
    "x-principal",
];

/// Removes client-sent identity headers, in the underscore forms too that some servers fold in.
pub async fn strip_identity(mut request: Request, next: Next) -> Response {
    let forged: Vec<HeaderName> = request
        .headers()
        .keys()
        .filter(|name| IDENTITY.contains(&name.as_str().replace('_', "-").as_str()))
        .cloned()
        .collect();
    for name in forged {
        request.headers_mut().remove(name);
    }
    next.run(request).await
}

/// Names the request, in its events, its log line and its answer. A client's own UUID is kept.
pub async fn name_request(mut request: Request, next: Next) -> Response {
    let sent = request.headers().get(&REQUEST_ID).and_then(|value| value.to_str().ok()?.parse().ok());
    let id = sent.unwrap_or_else(RequestId::new);
    request.extensions_mut().insert(id);
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// One line per request: the route's pattern, never its query or its headers.
pub async fn log_request(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let id = request.extensions().get::<RequestId>().map(ToString::to_string).unwrap_or_default();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let duration_ms = (started.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    if route.ends_with("/health") || route.ends_with('z') {
        tracing::debug!(request.id = id, http.method = %method, http.route = route, http.status = status, duration_ms, "request");
    } else {
        tracing::info!(request.id = id, http.method = %method, http.route = route, http.status = status, duration_ms, "request");
    }
    response
}

/// Answers 503 when a handler does not end.
pub async fn end_in_time(request: Request, next: Next) -> Response {
    match timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::unavailable().into_response(),
    }
}

/// Answers may hold secrets: nobody keeps a copy, and nobody guesses a type.
pub async fn forbid_storing(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A panicking handler is a defect: a 500 without a word about the inside.
pub fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    tracing::error!("a handler panicked");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal error").into_response()
}
