//! How a body comes in, whatever it is written in: of bounded size, and in time.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use tokio::time::timeout;

use crate::error::{ApiError, Code};

/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes in a body at most.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// The media type of a body without its parameters, in lower case; empty when none is named.
pub fn media_type(headers: &HeaderMap) -> String {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// All of a body.
pub async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    let late = || ApiError::new(Code::BodyTooSlow, "the request body did not come in time");
    let bytes = timeout(BODY_TIMEOUT, Bytes::from_request(request, state)).await.map_err(|_| late())?;
    bytes.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            ApiError::new(Code::BodyTooLarge, "request body is larger than 1 MiB")
        } else {
            ApiError::bad_request("invalid request body")
        }
    })
}
