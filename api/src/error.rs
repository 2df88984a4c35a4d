//! Failures, for three readers: the client's sentence, the operator's log, the program's variant.
//!
//! A handler returns [`ApiError`]; [`render`] writes it the way the route's [`Family`] speaks.

mod codes;

use std::{borrow::Cow, error::Error, time::Duration};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tally_domain::credential::Plaintext;
use tally_events::RequestId;
use utoipa::ToSchema;

pub use codes::{CODES, Code};

/// A failure on its way out.
#[derive(Clone, Debug)]
pub struct ApiError {
    pub status: StatusCode,
    /// The stable code of `/v1` problem documents.
    pub code: Code,
    pub message: Cow<'static, str>,
    pub retry_after: Option<Duration>,
    /// RFC 6750 section 3.
    pub challenge: Option<&'static str>,
    /// The thing an earlier request with the same idempotency key made.
    pub existing: Option<String>,
    /// What a login that needs a code first is finished with.
    pub link_token: Option<Box<Plaintext>>,
}

impl ApiError {
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        let status = code.row().status;
        Self {
            status,
            code,
            message: message.into(),
            retry_after: None,
            challenge: None,
            existing: None,
            link_token: None,
        }
    }

    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::BadRequest, message)
    }

    pub fn not_found() -> Self {
        Self::missing("not found")
    }

    /// What is not there, or is none of the caller's business.
    pub fn missing(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// It contradicts what is there.
    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Conflict, message)
    }

    pub fn missing_authorization() -> Self {
        // RFC 6750 section 3: a request without credentials gets no error code.
        let error = Self::new(Code::MissingAuthorization, "missing authorization");
        Self { challenge: Some("Bearer realm=\"tallystick\""), ..error }
    }

    /// Malformed, unknown, expired and revoked look the same.
    pub fn invalid_token() -> Self {
        let error = Self::new(Code::InvalidToken, "invalid token");
        Self { challenge: Some("Bearer realm=\"tallystick\", error=\"invalid_token\""), ..error }
    }

    /// RFC 6749 section 5.2: who asks is no client here, or does not prove it.
    pub fn invalid_client() -> Self {
        let error = Self::new(Code::InvalidClient, "client authentication is required");
        Self { challenge: Some("Basic realm=\"tallystick\", charset=\"UTF-8\""), ..error }
    }

    pub fn account_disabled() -> Self {
        Self::new(Code::AccountDisabled, "account disabled")
    }

    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Forbidden, message)
    }

    /// The right credential in the wrong place; the message names what is missing.
    pub fn insufficient_scope(message: impl Into<Cow<'static, str>>) -> Self {
        let error = Self::new(Code::InsufficientScope, message);
        Self { challenge: Some("Bearer realm=\"tallystick\", error=\"insufficient_scope\""), ..error }
    }

    /// Somebody came from an issuer that does not decide whose the address is: a code does.
    pub fn email_verification_required(link_token: Plaintext) -> Self {
        let error = Self::new(
            Code::EmailVerificationRequired,
            "this address must be proven: enter the code that is sent to it",
        );
        Self { link_token: Some(Box::new(link_token)), ..error }
    }

    /// An issuer is away, or what it says does not count.
    pub fn bad_gateway(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::BadGateway, message)
    }

    pub fn too_many(message: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        let error = Self::new(Code::RateLimited, message);
        Self { retry_after: Some(retry_after.max(Duration::from_secs(1))), ..error }
    }

    /// This replica cannot know, so it does not say yes.
    pub fn unavailable() -> Self {
        let error = Self::new(Code::Unavailable, "the service cannot answer right now");
        Self { retry_after: Some(Duration::from_secs(1)), ..error }
    }

    /// A defect or damage: told to the operator with its whole chain, to the client as a fact.
    pub fn internal(error: &(dyn Error + 'static)) -> Self {
        tracing::error!(error, "a request failed");
        Self::new(Code::Internal, "internal error")
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

/// The content type of problem documents.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// How a family of routes says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `/auth`, `/api` and what else is of no other family: `{"error": …}`.
    Refusal,
    /// `/v1`: problem documents (RFC 9457).
    Problem,
    /// `/oauth`: `{"error": …, "error_description": …}` (RFC 6749 section 5.2).
    OAuth,
}

impl Family {
    pub fn of(path: &str) -> Self {
        match path.split('/').nth(1) {
            Some("v1") => Self::Problem,
            Some("oauth") => Self::OAuth,
            _ => Self::Refusal,
        }
    }
}

/// Writes failures in the words of the route's family.
pub fn render(mut response: Response, family: Family, request_id: RequestId) -> Response {
    let Some(error) = response.extensions_mut().remove::<ApiError>() else { return response };
    let (retry_after, challenge) = (error.retry_after, error.challenge);
    let mut rendered = match family {
        Family::Refusal => legacy(error),
        Family::Problem => problem(error, request_id),
        Family::OAuth => oauth(error),
    };
    // What the handler set beside the failure, such as cleared cookies or `Allow`, stays.
    for (name, value) in response.headers() {
        if name != header::CONTENT_LENGTH && name != header::CONTENT_TYPE {
            rendered.headers_mut().append(name.clone(), value.clone());
        }
    }
    let headers = rendered.headers_mut();
    if let Some(wait) = retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
    }
    if let Some(challenge) = challenge {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    rendered
}

/// Seconds, rounded up: a client that waits them is not early.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// How `/auth` and `/api` say no.
#[derive(Serialize, ToSchema)]
pub struct Refusal {
    /// What was wrong, in a sentence.
    error: Cow<'static, str>,
    /// What an earlier request with the same idempotency key made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    id: Option<String>,
    /// The stable code, where a client has something to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    code: Option<&'static str>,
    /// Beside a code: the seconds of `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    retry_after_seconds: Option<u64>,
    /// Beside `email_verification_required`: to send along with the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    link_token: Option<String>,
}

fn legacy(error: ApiError) -> Response {
    let told = error.code.is_told();
    let body = Refusal {
        error: error.message,
        id: error.existing,
        code: told.then(|| error.code.name()),
        retry_after_seconds: error.retry_after.filter(|_| told).map(whole_seconds),
        link_token: error.link_token.map(|token| token.expose().to_owned()),
    };
    (error.status, Json(body)).into_response()
}

/// How `/v1` says no (RFC 9457 section 3).
#[derive(Serialize, ToSchema)]
pub struct Problem {
    /// The stable code.
    #[schema(schema_with = codes::schema)]
    code: &'static str,
    /// What was wrong, in a sentence.
    detail: Cow<'static, str>,
    /// What an earlier request with the same idempotency key made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    id: Option<String>,
    /// The `X-Request-ID` of this answer.
    #[schema(value_type = Uuid)]
    request_id: RequestId,
    status: u16,
    /// The status in words.
    title: &'static str,
    /// A relative reference into the documentation of codes.
    #[schema(format = "uri-reference")]
    r#type: String,
}

fn problem(error: ApiError, request_id: RequestId) -> Response {
    let code = error.code.name();
    let body = Problem {
        code,
        detail: error.message,
        id: error.existing,
        request_id,
        status: error.status.as_u16(),
        title: error.status.canonical_reason().unwrap_or("Error"),
        r#type: format!("/docs/errors#{code}"),
    };
    let content_type = HeaderValue::from_static(PROBLEM_JSON);
    (error.status, [(header::CONTENT_TYPE, content_type)], Json(body)).into_response()
}

/// How `/oauth` says no (RFC 6749 section 5.2).
#[derive(Serialize, ToSchema)]
pub struct OAuthError {
    /// One of the names of RFC 6749, sections 4.1.2.1 and 5.2.
    error: &'static str,
    /// What was wrong, in a sentence.
    error_description: Cow<'static, str>,
}

fn oauth(error: ApiError) -> Response {
    let body = OAuthError { error: error.code.oauth(), error_description: error.message };
    (error.status, Json(body)).into_response()
}
