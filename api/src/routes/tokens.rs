//! `/api/tokens`: personal access tokens.

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tally_domain::{
    PersonCredential, Principal, authorize,
    credential::{self, CredentialKind},
    token::{MintToken, RenewToken, RevokeTokens, TokenRefusal, TokenRequest},
};
use tally_events::{CredentialId, TokenId};
use tally_fanout::Done;
use tally_projections::{
    credentials::{line_below, parent_of},
    token_list::{ListTokens, TokenEntry, list_tokens as query_tokens},
};
use utoipa::{IntoParams, ToSchema};

use crate::{
    error::ApiError,
    freshness::MinPosition,
    guard::Caller,
    idempotency::IdempotencyKey,
    request_json::{RequestJson, whole_number},
    routes::{LOG_POSITION, auth::fill_random, effective},
    state::App,
};

/// Tokens of one line revoked in one command; a longer line takes several.
const LINE_TOKENS: i64 = 500;

/// A token, as its owner sees it.
#[derive(Serialize, ToSchema)]
pub struct Token {
    #[schema(value_type = Uuid)]
    id: TokenId,
    name: String,
    token_prefix: String,
    expires_at: Option<DateTime<Utc>>,
    /// By anybody, anywhere. It is written down once in a while (`TALLY_USAGE_INTERVAL_MS`), so it may be
    /// so much behind.
    last_used_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
}

/// A new token. The secret is in this answer and nowhere else.
#[derive(Serialize, ToSchema)]
pub struct MintedToken {
    #[serde(flatten)]
    minted: Token,
    token: String,
}

impl From<TokenEntry> for Token {
    fn from(entry: TokenEntry) -> Self {
        Self {
            id: entry.id,
            name: entry.name,
            token_prefix: entry.prefix,
            expires_at: entry.expires_at,
            last_used_at: entry.last_used_at,
            created_at: entry.created_at,
        }
    }
}

/// List one's own personal access tokens
///
/// Newest first, revoked hidden, expired shown.
#[utoipa::path(
    get,
    path = "/api/tokens",
    params(MinPosition),
    responses((status = 200, description = "The tokens", body = Vec<Token>, headers(("X-Log-Position"))))
)]
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

#[derive(Deserialize, ToSchema)]
pub struct NewToken {
    /// Not blank.
    #[schema(value_type = String, min_length = 1, max_length = 200, pattern = r"\S")]
    name: Option<String>,
    /// It never expires when this is absent, unless the token it is minted with does.
    #[serde(default, deserialize_with = "whole_number")]
    #[schema(minimum = 1, maximum = 3650)]
    expires_in_days: Option<i64>,
}

/// Mint a personal access token
///
/// The answer has it in the clear, this once.
#[utoipa::path(
    post,
    path = "/api/tokens",
    params(IdempotencyKey),
    request_body = NewToken,
    responses((status = 201, description = "Minted", body = MintedToken, headers(("X-Log-Position"))))
)]
pub async fn create_token(
    State(app): State<App>,
    caller: Caller,
    key: IdempotencyKey,
    RequestJson { body, fingerprint }: RequestJson<NewToken>,
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
    let context = key.bind(&caller, fingerprint, id);
    let done = app.execute(caller.principal, command, context, |refusal| refused(&refusal)).await?;
    let minted = Token {
        id,
        name,
        token_prefix,
        expires_at: done.executed.outcome,
        last_used_at: None,
        created_at: done.executed.at,
    };
    let body = MintedToken { minted, token: secret.expose().to_owned() };
    Ok((StatusCode::CREATED, [(LOG_POSITION, done.executed.position.0)], Json(body)).into_response())
}

#[derive(Serialize, ToSchema)]
pub struct Renewal {
    /// A time, or empty when the token never expires.
    expires_at: String,
    renewed: bool,
}

/// Renew the token that asks
///
/// It gets 90 days from now when 7 or fewer remain, and stays as it is otherwise. Only personal access
/// tokens can be renewed.
#[utoipa::path(
    post,
    path = "/api/tokens/current/renew",
    responses(
        (status = 200, description = "As it is now", body = Renewal, headers(("X-Log-Position"))),
        (status = 400)
    )
)]
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
    let body = Renewal { expires_at: expires_at.unwrap_or_default(), renewed: renewal.renewed };
    Ok(([(LOG_POSITION, done.executed.position.0)], Json(body)).into_response())
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Revocation {
    /// Whether every token below it in its line goes with it.
    #[serde(default)]
    line: bool,
}

/// Revoke a personal access token
///
/// With the answer no replica accepts it any more. Unknown and foreign tokens answer the same, and
/// nothing happens.
#[utoipa::path(
    delete,
    path = "/api/tokens/{id}",
    params(("id" = Uuid, Path, description = "The token"), Revocation),
    responses((status = 204, description = "Revoked", headers(("X-Log-Position"), ("X-Revocation"))))
)]
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
    let done = revoke(&app, &caller, CredentialId::Token(root), line).await?;
    Ok((StatusCode::NO_CONTENT, effective(&done)).into_response())
}

/// Revokes what was named, and its line where that is asked for.
///
/// A token below may mint another while this runs and end itself, and somebody else may revoke some of it.
/// So the line is read again until nothing of it was live after what was named had ended: then nothing is
/// left that could mint. One more command waits for what others have revoked.
///
/// The table is written with the log. What it still calls live after a command named it, the log contradicts,
/// and to ask on and on would not mend that.
pub(crate) async fn revoke(
    app: &App,
    caller: &Caller,
    root: CredentialId,
    with_line: bool,
) -> Result<Done<Vec<TokenId>>, ApiError> {
    let owner = caller.principal.user().ok_or_else(ApiError::invalid_token)?;
    let (mut named, mut root_has_ended) = (Vec::new(), false);
    loop {
        let line =
            if with_line { line_below(app.pool(), owner, root, LINE_TOKENS).await? } else { Vec::new() };
        if let Some(token) = line.iter().find(|id| named.contains(*id)) {
            tracing::error!(token.id = %token.0, "a token is listed that the log has revoked: verify the projections");
            return Err(ApiError::unavailable());
        }
        named.clone_from(&line);
        let command = RevokeTokens { root, line };
        let done =
            app.execute(caller.principal, command, caller.context, |refusal| refused(&refusal)).await?;
        if !with_line || (root_has_ended && named.is_empty()) {
            return Ok(done);
        }
        root_has_ended = true;
    }
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
