//! The table of stable codes. No other place makes one, and `docs/errors.md` shows it row by row.

use axum::http::StatusCode;
use utoipa::openapi::{ObjectBuilder, Type};

/// What went wrong, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    BadRequest,
    LoginCodeInvalid,
    MissingAuthorization,
    InvalidToken,
    InvalidRefreshToken,
    RefreshTokenReused,
    InvalidClient,
    AccountDisabled,
    InsufficientScope,
    Forbidden,
    SignupProhibited,
    EmailVerificationRequired,
    NotFound,
    MethodNotAllowed,
    BodyTooSlow,
    Conflict,
    AlreadyExecuted,
    Expired,
    BodyTooLarge,
    UnsupportedMediaType,
    IdempotencyKeyReused,
    RateLimited,
    InvitationRateLimited,
    Internal,
    BadGateway,
    Unavailable,
}

/// One code: its name on the wire, the status it always comes with, and its meaning.
#[derive(Clone, Copy, Debug)]
pub struct CodeRow {
    pub code: Code,
    pub name: &'static str,
    pub status: StatusCode,
    pub meaning: &'static str,
}

/// Every code, by status.
pub const CODES: [CodeRow; 26] = [
    row(
        Code::BadRequest,
        "bad_request",
        StatusCode::BAD_REQUEST,
        "The request is wrong; `detail` names what, and what would be right",
    ),
    row(
        Code::LoginCodeInvalid,
        "invalid_code",
        StatusCode::BAD_REQUEST,
        "The login code is wrong, used or expired, or there is none; nobody is told which",
    ),
    row(
        Code::MissingAuthorization,
        "missing_authorization",
        StatusCode::UNAUTHORIZED,
        "No credential was sent",
    ),
    row(
        Code::InvalidToken,
        "invalid_token",
        StatusCode::UNAUTHORIZED,
        "Malformed, unknown, expired or revoked; nobody is told which",
    ),
    row(
        Code::InvalidRefreshToken,
        "invalid_refresh_token",
        StatusCode::UNAUTHORIZED,
        "Malformed, unknown, or of a session that has ended or expired; nobody is told which. Log in again",
    ),
    row(
        Code::RefreshTokenReused,
        "refresh_token_reused",
        StatusCode::UNAUTHORIZED,
        "The refresh token was used before, so its session was ended: two hold what one was given. Log in again",
    ),
    row(
        Code::InvalidClient,
        "invalid_client",
        StatusCode::UNAUTHORIZED,
        "Only a client that the operator has configured may ask, and this is none, or its secret is wrong",
    ),
    row(
        Code::AccountDisabled,
        "account_disabled",
        StatusCode::FORBIDDEN,
        "An operator has suspended the account",
    ),
    row(
        Code::InsufficientScope,
        "insufficient_scope",
        StatusCode::FORBIDDEN,
        "A good credential in the wrong place; `detail` names what is missing",
    ),
    row(
        Code::Forbidden,
        "forbidden",
        StatusCode::FORBIDDEN,
        "A CSRF token or an origin is wrong, or the role in the workspace is too low",
    ),
    row(
        Code::SignupProhibited,
        "signup_prohibited",
        StatusCode::FORBIDDEN,
        "The address may not open an account here",
    ),
    row(
        Code::EmailVerificationRequired,
        "email_verification_required",
        StatusCode::FORBIDDEN,
        "The issuer does not decide whose the address is, and that matters here: enter a code that is sent there, together with the `link_token` ([oidc.md](oidc.md))",
    ),
    row(
        Code::NotFound,
        "not_found",
        StatusCode::NOT_FOUND,
        "There is no such thing, or none that the caller may know of",
    ),
    row(
        Code::MethodNotAllowed,
        "method_not_allowed",
        StatusCode::METHOD_NOT_ALLOWED,
        "The route exists, the method does not",
    ),
    row(
        Code::BodyTooSlow,
        "body_too_slow",
        StatusCode::REQUEST_TIMEOUT,
        "The body did not come within 10 seconds",
    ),
    row(
        Code::Conflict,
        "conflict",
        StatusCode::CONFLICT,
        "It contradicts what is there; `detail` names what",
    ),
    row(
        Code::AlreadyExecuted,
        "already_executed",
        StatusCode::CONFLICT,
        "The idempotency key was used before; `id` names what it made",
    ),
    row(Code::Expired, "expired", StatusCode::GONE, "It was good for a time, and that is over"),
    row(Code::BodyTooLarge, "body_too_large", StatusCode::PAYLOAD_TOO_LARGE, "More than 1 MiB"),
    row(
        Code::UnsupportedMediaType,
        "unsupported_media_type",
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "The body is not `application/json`, or on `/oauth` not what the route takes",
    ),
    row(
        Code::IdempotencyKeyReused,
        "idempotency_key_reused",
        StatusCode::UNPROCESSABLE_ENTITY,
        "The idempotency key was used with another body",
    ),
    row(
        Code::RateLimited,
        "rate_limited",
        StatusCode::TOO_MANY_REQUESTS,
        "Come back after `Retry-After` seconds",
    ),
    row(
        Code::InvitationRateLimited,
        "invitation_rate_limited",
        StatusCode::TOO_MANY_REQUESTS,
        "By this person, into this workspace or for this address there were too many invitations",
    ),
    row(
        Code::Internal,
        "internal",
        StatusCode::INTERNAL_SERVER_ERROR,
        "A defect; the log has the chain of causes under the request's id",
    ),
    row(
        Code::BadGateway,
        "bad_gateway",
        StatusCode::BAD_GATEWAY,
        "A login provider is away, or its answer could not be verified",
    ),
    row(
        Code::Unavailable,
        "unavailable",
        StatusCode::SERVICE_UNAVAILABLE,
        "The server cannot know at the moment, so it does not say yes; come back after `Retry-After`",
    ),
];

/// A row is found by its place, so every code has one and it is its own.
const _: () = {
    let mut place = 0;
    while place < CODES.len() {
        assert!(CODES[place].code as usize == place, "a row stands elsewhere than its code");
        place += 1;
    }
};

const fn row(code: Code, name: &'static str, status: StatusCode, meaning: &'static str) -> CodeRow {
    CodeRow { code, name, status, meaning }
}

impl Code {
    /// This code's row.
    #[must_use]
    pub const fn row(self) -> &'static CodeRow {
        &CODES[self as usize]
    }

    /// Whether `/auth` and `/api` tell it too, beside the sentence: clients do something about it.
    #[must_use]
    pub const fn is_told(self) -> bool {
        matches!(self, Self::InvitationRateLimited | Self::EmailVerificationRequired)
    }

    /// As `/oauth` tells it (RFC 6749 sections 4.1.2.1 and 5.2).
    #[must_use]
    pub const fn oauth(self) -> &'static str {
        match self.row().status {
            StatusCode::UNAUTHORIZED => "invalid_client",
            StatusCode::FORBIDDEN => "access_denied",
            StatusCode::INTERNAL_SERVER_ERROR => "server_error",
            StatusCode::SERVICE_UNAVAILABLE => "temporarily_unavailable",
            _ => "invalid_request",
        }
    }

    /// As the wire and the page name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().name
    }
}

/// Any of the names, for the OpenAPI document.
pub fn schema() -> ObjectBuilder {
    let names = CODES.iter().map(|row| row.name);
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(names))
        .description(Some("The stable code, from the list in `docs/errors.md`."))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const PAGE: &str = include_str!("../../../docs/errors.md");

    #[test]
    fn every_code_has_its_own_name() {
        let names: HashSet<&str> = CODES.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), CODES.len(), "a name is one code's");
        assert!(CODES.is_sorted_by_key(|row| row.status.as_u16()), "codes stand by status");
    }

    /// A code that is missing in the page or in the table, or is told in other words, fails here.
    #[test]
    fn the_page_shows_the_table() {
        let expected: Vec<String> = CODES
            .iter()
            .map(|CodeRow { name, status, meaning, .. }| {
                format!("| <a id=\"{name}\"></a>`{name}` | {} | {meaning} |", status.as_u16())
            })
            .collect();
        let shown: Vec<&str> = PAGE.lines().filter(|line| line.starts_with("| <a id=")).collect();
        assert_eq!(shown, expected, "docs/errors.md and api/src/error/codes.rs tell the same");
    }
}
