//! Failures, for three readers: the client's sentence, the operator's log, the program's variant.
//!
//! A handler returns [`ApiError`]; [`render`] writes it the way the route's family speaks:
//! `{"error": …}` on `/auth` and `/api`, RFC 9457 problem documents on `/v1`.

use std::{borrow::Cow, error::Error, time::Duration};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tally_events::RequestId;

/// A failure on its way out.
#[derive(Clone, Debug)]
pub struct ApiError {
    pub status: StatusCode,
    /// The stable code of `/v1` problem documents.
    pub code: &'static str,
    pub message: Cow<'static, str>,
    pub retry_after: Option<Duration>,
    /// RFC 6750 section 3.
    pub challenge: Option<&'static str>,
    /// The thing an earlier request with the same idempotency key made.
    pub existing: Option<String>,
    /// Whether `/auth` and `/api` tell the code too, and how long to wait.
    pub shows_code: bool,
}

impl ApiError {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retry_after: None,
            challenge: None,
            existing: None,
            shows_code: false,
        }
    }

    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub fn not_found() -> Self {
        Self::missing("not found")
    }

    /// What is not there, or is none of the caller's business.
    pub fn missing(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// It contradicts what is there.
    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    pub fn missing_authorization() -> Self {
        // RFC 6750 section 3: a request without credentials gets no error code.
        let error = Self::new(StatusCode::UNAUTHORIZED, "missing_authorization", "missing authorization");
        Self { challenge: Some("Bearer realm=\"tallystick\""), ..error }
    }

    /// Malformed, unknown, expired and revoked look the same.
    pub fn invalid_token() -> Self {
        let error = Self::new(StatusCode::UNAUTHORIZED, "invalid_token", "invalid token");
        Self { challenge: Some("Bearer realm=\"tallystick\", error=\"invalid_token\""), ..error }
    }

    pub fn account_disabled() -> Self {
        Self::new(StatusCode::FORBIDDEN, "account_disabled", "account disabled")
    }

    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// The right credential in the wrong place; the message names what is missing.
    pub fn insufficient_scope(message: impl Into<Cow<'static, str>>) -> Self {
        let error = Self::new(StatusCode::FORBIDDEN, "insufficient_scope", message);
        Self { challenge: Some("Bearer realm=\"tallystick\", error=\"insufficient_scope\""), ..error }
    }

    pub fn too_many(message: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message);
        Self { retry_after: Some(retry_after.max(Duration::from_secs(1))), ..error }
    }

    /// This replica cannot know, so it does not say yes.
    pub fn unavailable() -> Self {
        let error =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the service cannot answer right now");
        Self { retry_after: Some(Duration::from_secs(1)), ..error }
    }

    /// A defect or damage: told to the operator with its whole chain, to the client as a fact.
    pub fn internal(error: &(dyn Error + 'static)) -> Self {
        tracing::error!(error, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal error")
    }

    /// The database did not answer: told to the operator, a 503 to the client.
    pub fn database(error: &(dyn Error + 'static)) -> Self {
        tracing::warn!(error, "the database did not answer a request");
        Self::unavailable()
    }
}

impl From<tally_domain::Denied> for ApiError {
    fn from(denied: tally_domain::Denied) -> Self {
        match denied {
            tally_domain::Denied::Credential { needs, .. } => Self::insufficient_scope(needs),
            tally_domain::Denied::Role { .. } => Self::forbidden(denied.to_string()),
        }
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        Self::database(&error)
    }
}

impl From<tally_projections::users::QueryError> for ApiError {
    fn from(error: tally_projections::users::QueryError) -> Self {
        use tally_projections::users::QueryError;
        use tally_store::{KeyRingError, ReadError};
        match &error {
            QueryError::Database(_)
            | QueryError::Log(ReadError::Database(_))
            | QueryError::Keys(KeyRingError::Database(_)) => Self::database(&error),
            QueryError::Log(_)
            | QueryError::Keys(KeyRingError::Fingerprint { .. } | KeyRingError::Seal(_)) => {
                Self::internal(&error)
            }
        }
    }
}

impl IntoResponse for ApiError {
    /// Carries the failure outwards; [`render`] gives it its body.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Whether a path is of the family that speaks in problem documents.
pub fn is_v1(path: &str) -> bool {
    path.starts_with("/v1/") || path == "/v1"
}

/// Writes failures in the words of the route's family.
pub fn render(mut response: Response, is_v1: bool, request_id: RequestId) -> Response {
    let Some(error) = response.extensions_mut().remove::<ApiError>() else { return response };
    let body = if is_v1 { problem(&error, request_id) } else { legacy(&error) };
    let mut rendered = body;
    // What the handler set beside the failure, such as cleared cookies or `Allow`, stays.
    for (name, value) in response.headers() {
        if name != header::CONTENT_LENGTH && name != header::CONTENT_TYPE {
            rendered.headers_mut().append(name.clone(), value.clone());
        }
    }
    let headers = rendered.headers_mut();
    if let Some(wait) = error.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
    }
    if let Some(challenge) = error.challenge {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    rendered
}

/// Seconds, rounded up: a client that waits them is not early.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

fn legacy(error: &ApiError) -> Response {
    let mut body = json!({ "error": error.message });
    if let Some(existing) = &error.existing {
        body["id"] = json!(existing);
    }
    if error.shows_code {
        body["code"] = json!(error.code);
        if let Some(wait) = error.retry_after {
            body["retry_after_seconds"] = json!(whole_seconds(wait));
        }
    }
    (error.status, Json(body)).into_response()
}

/// RFC 9457 section 3. The type is a relative reference into the documentation of codes.
fn problem(error: &ApiError, request_id: RequestId) -> Response {
    let title = error.status.canonical_reason().unwrap_or("Error");
    let mut body = json!({
        "type": format!("/docs/errors#{}", error.code),
        "title": title,
        "status": error.status.as_u16(),
        "detail": error.message,
        "code": error.code,
        "request_id": request_id,
    });
    if let Some(existing) = &error.existing {
        body["id"] = json!(existing);
    }
    let content_type = HeaderValue::from_static("application/problem+json");
    (error.status, [(header::CONTENT_TYPE, content_type)], body.to_string()).into_response()
}
