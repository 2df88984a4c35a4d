//! `/api/tokens`: personal access tokens.

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tally_domain::{
    PersonCredential, Principal, authorize,
    credential::{self, CredentialKind},
    token::{MintToken, RenewToken, RevokeTokens, TokenRefusal, TokenRequest},
};
use tally_events::{TokenId, UserId};
use tally_projections::{
    credentials::{line_below, parent_of},
    token_list::{ListTokens, TokenEntry, list_tokens as query_tokens},
};
use tally_store::Idempotency;

use crate::{
    error::ApiError,
    guard::Caller,
    request_json::RequestJson,
    routes::{LOG_POSITION, REVOCATION, auth::fill_random},
    state::App,
};

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const IDEMPOTENCY_KEY_CHARACTERS_MAX: usize = 255;
/// Tokens of one line revoked in one command; a longer line takes several.
const LINE_TOKENS: i64 = 500;

/// A token, as its owner sees it. The token itself is in the answer to its creation and nowhere else.
#[derive(Serialize)]
pub struct Token {
    id: TokenId,
    name: String,
    token_prefix: String,
    expires_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl From<TokenEntry> for Token {
    fn from(entry: TokenEntry) -> Self {
        Self {
            id: entry.id,
            name: entry.name,
            token_prefix: entry.prefix,
            expires_at: entry.expires_at,
            last_used_at: None,
            created_at: entry.created_at,
            token: None,
        }
    }
}

/// `GET /api/tokens`: newest first, revoked hidden, expired shown.
pub async fn list_tokens(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let query = authorize(caller.principal, ListTokens)?;
    let position = app.freshness.wait(app.pool(), &headers, "token_list").await?;
    let entries = query_tokens(app.pool(), app.keys(), &query).await?;
    let tokens: Vec<Token> = entries.into_iter().map(Token::from).collect();
    Ok(([(LOG_POSITION, position.0)], Json(tokens)).into_response())
}

#[derive(Deserialize)]
pub struct Creation {
    name: Option<String>,
    expires_in_days: Option<i64>,
}

/// `POST /api/tokens`: 201 with the token in the clear, this once.
pub async fn create_token(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    RequestJson { body, fingerprint }: RequestJson<Creation>,
) -> Result<Response, ApiError> {
    let request = TokenRequest::new(body.name.as_deref().unwrap_or_default(), body.expires_in_days)
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let (Some(user), Some(minted_by)) = (caller.principal.user(), caller.principal.credential()) else {
        return Err(ApiError::invalid_token());
    };
    let secret = credential::mint(CredentialKind::PersonalAccessToken, fill_random);
    let name = request.name().to_owned();
    let command = MintToken::new(user, minted_by, request, &secret);
    let (id, token_prefix) = (command.token, command.prefix.clone());
    let mut context = caller.context;
    context.idempotency = idempotency(&headers, user, fingerprint, id)?;
    let done = app.execute(caller.principal, command, context, |refusal| refused(&refusal)).await?;
    let token = Token {
        id,
        name,
        token_prefix,
        expires_at: done.executed.outcome,
        last_used_at: None,
        created_at: done.executed.at,
        token: Some(secret.expose().to_owned()),
    };
    Ok((StatusCode::CREATED, [(LOG_POSITION, done.executed.position.0)], Json(token)).into_response())
}

#[derive(Serialize)]
pub struct Renewed {
    /// Empty when the token never expires.
    expires_at: String,
    renewed: bool,
}

/// `POST /api/tokens/current/renew`: the token that asks gets 90 days when 7 or fewer remain.
pub async fn renew_token(State(app): State<App>, caller: Caller) -> Result<Response, ApiError> {
    let Principal::Person { user, credential: PersonCredential::PersonalAccessToken { id, .. } } =
        caller.principal
    else {
        return Err(ApiError::bad_request(TokenRefusal::NotRenewable.to_string()));
    };
    let command = RenewToken { user, token: id, parent: parent_of(app.pool(), id).await? };
    let done = app.execute(caller.principal, command, caller.context, |refusal| refused(&refusal)).await?;
    let renewal = done.executed.outcome;
    let expires_at = renewal.expires_at.map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true));
    let body = Renewed { expires_at: expires_at.unwrap_or_default(), renewed: renewal.renewed };
    Ok(([(LOG_POSITION, done.executed.position.0)], Json(body)).into_response())
}

#[derive(Deserialize)]
pub struct Revocation {
    /// Whether every token below it in its line goes with it.
    #[serde(default)]
    line: bool,
}

/// `DELETE /api/tokens/{id}`: 204, and no replica accepts it any more. Unknown and foreign tokens
/// answer the same, and nothing happens.
pub async fn revoke_token(
    State(app): State<App>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
    revocation: Result<Query<Revocation>, QueryRejection>,
) -> Result<Response, ApiError> {
    let root = id.ok().and_then(|Path(id)| id.parse::<TokenId>().ok());
    let root = root.ok_or_else(|| ApiError::bad_request("invalid token id"))?;
    let Query(Revocation { line }) =
        revocation.map_err(|_| ApiError::bad_request("line must be true or false"))?;
    let revoke = async |line: Vec<TokenId>| {
        let command = RevokeTokens { root, line };
        app.execute(caller.principal, command, caller.context, |refusal| refused(&refusal)).await
    };
    let owner = caller.principal.user().ok_or_else(ApiError::invalid_token)?;
    let mut done = revoke(Vec::new()).await?;
    // A token below the root may mint another while this runs, so the line is read again until
    // nothing of it was live. It ends: a revoked token mints nothing.
    let mut more = line;
    while more {
        let below = line_below(app.pool(), owner, root, LINE_TOKENS).await?;
        if below.is_empty() {
            break;
        }
        done = revoke(below).await?;
        more = !done.executed.outcome.is_empty();
    }
    let position = done.executed.position.0;
    let headers =
        [(LOG_POSITION, HeaderValue::from(position)), (REVOCATION, HeaderValue::from_static("effective"))];
    Ok((StatusCode::NO_CONTENT, headers).into_response())
}

fn refused(refusal: &TokenRefusal) -> ApiError {
    match refusal {
        TokenRefusal::NotAPerson => ApiError::insufficient_scope(refusal.to_string()),
        TokenRefusal::CredentialEnded => ApiError::invalid_token(),
        TokenRefusal::NotRenewable => ApiError::bad_request(refusal.to_string()),
        // The projection that named the parent is inline, so this is damage and not a delay.
        TokenRefusal::LineChanged => ApiError::internal(refusal),
    }
}

/// The client's key, bound to person and route, so that nobody meets another's.
fn idempotency(
    headers: &HeaderMap,
    user: UserId,
    fingerprint: [u8; 32],
    token: TokenId,
) -> Result<Option<Idempotency>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = value
        .to_str()
        .ok()
        .filter(|key| (1..=IDEMPOTENCY_KEY_CHARACTERS_MAX).contains(&key.len()))
        .ok_or_else(|| {
            ApiError::bad_request("Idempotency-Key must be 1 to 255 printable ASCII characters")
        })?;
    let bound = Sha256::new()
        .chain_update(user.0.as_bytes())
        .chain_update(b"POST /api/tokens\0")
        .chain_update(key.as_bytes())
        .finalize();
    Ok(Some(Idempotency { key: bound.into(), fingerprint, receipt: token.0 }))
}
