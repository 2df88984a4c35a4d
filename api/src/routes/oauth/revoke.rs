//! `POST /oauth/revoke`: whoever holds a credential may end it (RFC 7009).

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use tally_domain::{
    PersonCredential, Principal,
    credential::{Plaintext, Recognised, recognise},
    refresh_token::RefreshToken,
    session::RevokeRefreshToken,
};
use tally_events::CredentialId;
use tally_projections::credentials::{Holding, find_holding};
use tally_store::RequestContext;
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use crate::{
    error::ApiError,
    execute::never,
    guard::{Caller, context_of},
    request_form::RequestForm,
    routes::{effective, tokens, v1::sessions::end_with_those_below},
    state::App,
};

/// Tokens that are looked up at once at most. Anybody may show any, so a flood of made-up ones must leave
/// connections to everybody else.
static LOOKUPS: Semaphore = Semaphore::const_new(2);

/// What ends.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a form is read parameter by parameter; this tells the document of them")]
struct RevocationForm {
    /// A token, a session's JWT, or a refresh token.
    #[schema(min_length = 1)]
    token: String,
    /// Whether every token below it in its line goes with it, which is possible as long as it has not
    /// expired. What is dead otherwise may be shown again, to be sure of its line.
    #[schema(nullable = false)]
    line: Option<bool>,
}

/// End the credential that is shown
///
/// To hold it is enough: no other credential is asked for, and cookies are not looked at. With the
/// answer no replica accepts it any more. Unknown ones answer the same, and nothing happens (RFC 7009
/// section 2.2). A refresh token ends its session. `token_type_hint` is not needed.
#[utoipa::path(
    post,
    path = "/oauth/revoke",
    request_body(content = RevocationForm, content_type = "application/x-www-form-urlencoded"),
    security(()),
    responses((status = 200, description = "It is revoked", headers(("X-Log-Position"), ("X-Revocation"))))
)]
pub async fn revoke(State(app): State<App>, parts: Parts, form: RequestForm) -> Result<Response, ApiError> {
    let context = context_of(&parts);
    let shown = Plaintext::new(form.require("token")?);
    let line = match form.get("line")?.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(ApiError::bad_request("line must be true or false")),
    };
    let headers = match recognise(shown.expose()) {
        Some(Recognised::Token(_)) => revoke_token(&app, &shown, line, context).await?,
        Some(Recognised::Jwt) => end_session(&app, &shown, line, context).await?,
        None => end_by_refresh_token(&app, &shown, line, context).await?,
    };
    Ok((StatusCode::OK, headers.unwrap_or_default()).into_response())
}

/// Also one that is revoked already or has expired, and one of a suspended account: it is told when that
/// holds everywhere.
async fn revoke_token(
    app: &App,
    shown: &Plaintext,
    line: bool,
    context: RequestContext,
) -> Result<Option<HeaderMap>, ApiError> {
    let found = {
        let _permit = LOOKUPS.acquire().await.expect("nobody closes it");
        find_holding(app.pool(), shown.hash()).await?
    };
    let Some(Holding { user, id, expires_at }) = found else { return Ok(None) };
    let credential = PersonCredential::PersonalAccessToken { id, expires_at };
    let caller = Caller { principal: Principal::Person { user, credential }, context };
    let done = tokens::revoke(app, &caller, CredentialId::Token(id), line).await?;
    Ok(Some(effective(&done)))
}

async fn end_session(
    app: &App,
    shown: &Plaintext,
    line: bool,
    context: RequestContext,
) -> Result<Option<HeaderMap>, ApiError> {
    let Some(named) = app.settings.signer.check(shown.expose()) else { return Ok(None) };
    let caller = Caller { principal: named.principal(), context };
    if line && app.store.clock().now() >= named.expires_at {
        return Err(ApiError::bad_request(
            "a JWT that has expired ends its session alone: leave out line, and revoke by their ids the tokens \
             that were minted in it",
        ));
    }
    let done = end_with_those_below(app, caller.principal, context, named.session).await?;
    if !line {
        return Ok(Some(effective(&done)));
    }
    // It has ended, so it mints no other.
    let revoked = tokens::revoke(app, &caller, CredentialId::Session(named.session), line).await?;
    Ok(Some(effective(&revoked)))
}

async fn end_by_refresh_token(
    app: &App,
    shown: &Plaintext,
    line: bool,
    context: RequestContext,
) -> Result<Option<HeaderMap>, ApiError> {
    let Some(shown) = RefreshToken::read(shown, app.keys().refresh_token()) else { return Ok(None) };
    if line {
        return Err(ApiError::bad_request(
            "a refresh token ends its session alone: line goes with a token or a session's JWT",
        ));
    }
    let command = RevokeRefreshToken { shown };
    let done = app.execute(Principal::Anonymous, command, context, never).await?;
    Ok(Some(effective(&done)))
}
