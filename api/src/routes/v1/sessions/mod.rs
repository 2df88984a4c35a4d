//! `/v1/sessions`: where one is logged in, and how that ends; and the sessions of the web console.

pub mod current;
pub mod open;
pub mod refresh;

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tally_domain::{
    Principal, authorize,
    credential::{CredentialKind, Plaintext},
    session::{EndOtherSessions, EndSession, Refreshed, SessionRefusal},
};
use tally_events::{CredentialId, Position, SessionId, UserId};
use tally_fanout::Done;
use tally_projections::sessions::{
    ListSessions, SessionEntry, list_sessions as query_sessions, other_sessions, sessions_below,
};
use tally_store::RequestContext;
use utoipa::{IntoParams, ToSchema};

use crate::{
    error::ApiError,
    execute::never,
    freshness::{MinPosition, min_position},
    guard::Caller,
    jwt::{self, SessionKind},
    routes::{LOG_POSITION, auth::fill_random, effective, tokens::revoke},
    state::App,
};

/// The method of a session that another one started for the command line.
const COMMAND_LINE: &str = "command_line";
/// Sessions ended in one command; more take several.
const SESSIONS_PER_COMMAND: i64 = 100;
/// So far a clock may stand ahead without a session being left to come back when it is set right.
const CLOCKS_APART: TimeDelta = TimeDelta::days(1);
/// Commands that end nothing, one after the other, before something is wrong.
const IDLE_MAX: u32 = 3;

/// A session, as its owner sees it.
#[derive(Serialize, ToSchema)]
pub struct Session {
    #[schema(value_type = Uuid)]
    id: SessionId,
    /// `session`, `console_session`, or `command_line` for one that another session started for it.
    kind: String,
    /// How the person proved who they are.
    method: String,
    /// Where it was started from.
    address: Option<String>,
    user_agent: Option<String>,
    started_at: DateTime<Utc>,
    /// When it was used or refreshed last. Uses are written down once in a while
    /// (`TALLY_USAGE_INTERVAL_MS`), so it may be so much behind; null until then.
    last_seen_at: Option<DateTime<Utc>>,
    /// Where it was used from last; null once that is too long ago (`TALLY_USAGE_DAYS`).
    last_seen_address: Option<String>,
    expires_at: DateTime<Utc>,
    /// The session that started it.
    #[schema(value_type = Option<Uuid>)]
    minted_by: Option<SessionId>,
    /// Whether it is the one that asks. A personal access token is no session, and then none is.
    current: bool,
}

#[derive(Serialize, ToSchema)]
struct SessionList {
    sessions: Vec<Session>,
}

impl Session {
    fn new(entry: SessionEntry, current: Option<SessionId>) -> Self {
        let kind = if entry.method == COMMAND_LINE { entry.method.clone() } else { entry.kind };
        Self {
            id: entry.id,
            kind,
            method: entry.method,
            address: entry.address,
            user_agent: entry.user_agent,
            started_at: entry.started_at,
            last_seen_at: entry.last_seen_at,
            last_seen_address: entry.last_seen_address.map(|address| address.to_string()),
            expires_at: entry.expires_at,
            minted_by: entry.minted_by,
            current: current == Some(entry.id),
        }
    }
}

/// List one's own live sessions
///
/// Newest first; those that have ended or expired are not there.
#[utoipa::path(
    get,
    path = "/v1/sessions",
    params(MinPosition),
    responses((status = 200, description = "The sessions", body = SessionList, headers(("X-Log-Position"))))
)]
pub async fn list_sessions(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let query = authorize(caller.principal, ListSessions { now: app.store.clock().now() })?;
    let head = tally_store::head(app.pool()).await?.position;
    // Sessions are inline: whatever position the client has seen is there already.
    min_position(&headers, head)?;
    let current = current(&caller.principal);
    let entries = query_sessions(app.pool(), app.keys(), &query).await?;
    let sessions = entries.into_iter().map(|entry| Session::new(entry, current)).collect();
    Ok(([(LOG_POSITION, head.0)], Json(SessionList { sessions })).into_response())
}

/// End a session
///
/// And those that it started. With the answer no replica accepts any of them any more. Unknown and
/// foreign sessions answer the same, and nothing happens. Personal access tokens stay unless `line` is
/// true.
#[utoipa::path(
    delete,
    path = "/v1/sessions/{id}",
    params(("id" = Uuid, Path, description = "The session"), Ending),
    responses((status = 204, description = "Ended", headers(("X-Log-Position"), ("X-Revocation"))))
)]
pub async fn end_session(
    State(app): State<App>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
    ending: Result<Query<Ending>, QueryRejection>,
) -> Result<Response, ApiError> {
    let id = id.ok().and_then(|Path(id)| id.parse::<SessionId>().ok());
    let id = id.ok_or_else(|| ApiError::bad_request("invalid session id"))?;
    let Query(Ending { line }) = ending.map_err(|_| ApiError::bad_request("line must be true or false"))?;
    let done = end_with_those_below(&app, caller.principal, caller.context, id).await?;
    // It has ended, so it mints no other.
    let revoked =
        if line { Some(revoke(&app, &caller, CredentialId::Session(id), line).await?) } else { None };
    let headers = revoked.as_ref().map_or_else(|| effective(&done), effective);
    Ok((StatusCode::NO_CONTENT, headers).into_response())
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Ending {
    /// Whether every personal access token goes with it that it minted, and every one below those.
    #[serde(default)]
    line: bool,
}

#[derive(Serialize, ToSchema)]
struct EndedSessions {
    #[schema(value_type = Vec<Uuid>)]
    ended: Vec<SessionId>,
}

/// End all sessions but the one that asks
///
/// A personal access token is no session: asked with one, all of them end. Somebody who logs in at this
/// very moment stays.
#[utoipa::path(
    post,
    path = "/v1/sessions/end-others",
    responses((
        status = 200,
        description = "Those that had not ended before",
        body = EndedSessions,
        headers(("X-Log-Position"), ("X-Revocation"))
    ))
)]
pub async fn end_other_sessions(State(app): State<App>, caller: Caller) -> Result<Response, ApiError> {
    let user = caller.principal.user().ok_or_else(ApiError::invalid_token)?;
    let current = current(&caller.principal);
    // What starts from here on is an other one only if one that ends has started it.
    let until = tally_store::head(app.pool()).await?.position;
    let others = async || {
        let expiring_after = app.store.clock().now() - CLOCKS_APART;
        other_sessions(app.pool(), user, current, until, expiring_after, SESSIONS_PER_COMMAND).await
    };
    let (mut sessions, mut all, mut idle) = (others().await?, Vec::new(), Idle::default());
    loop {
        let command = EndOtherSessions { user, sessions: sessions.clone() };
        let done = app.execute(caller.principal, command, caller.context, never).await?;
        all.extend(&done.executed.outcome);
        let left = others().await?;
        // What was not looked at before somebody else may have ended just now: that is waited for too.
        if left.is_empty() && !is_full(&sessions) {
            return Ok((effective(&done), Json(EndedSessions { ended: all })).into_response());
        }
        idle.after(&done, &left)?;
        sessions = left;
    }
}

/// Ends a session and those it started, everywhere. To be told of one that is somebody else's or
/// nobody's is success, and nothing happens.
pub(crate) async fn end_with_those_below(
    app: &App,
    principal: Principal,
    context: RequestContext,
    session: SessionId,
) -> Result<Done<Vec<SessionId>>, ApiError> {
    let owner = principal.user().ok_or_else(ApiError::invalid_token)?;
    let below = async |since: Position| {
        let expiring_after = app.store.clock().now() - CLOCKS_APART;
        sessions_below(app.pool(), owner, session, since, expiring_after, SESSIONS_PER_COMMAND).await
    };
    let mut looked_at = tally_store::head(app.pool()).await?.position;
    let (mut started, mut idle) = (below(looked_at).await?, Idle::default());
    loop {
        let command = EndSession { session, below: started.clone() };
        let done = app.execute(principal, command, context, never).await?;
        // One that has ended starts no other, so what is there now is all there will be. What started
        // meanwhile somebody else may have ended just now: that is waited for too.
        let head = tally_store::head(app.pool()).await?.position;
        let left = below(looked_at).await?;
        if left.is_empty() && !is_full(&started) {
            return Ok(done);
        }
        idle.after(&done, &left)?;
        (started, looked_at) = (left, head);
    }
}

/// Whether there may be more than were named.
fn is_full(named: &[SessionId]) -> bool {
    i64::try_from(named.len()).is_ok_and(|count| count >= SESSIONS_PER_COMMAND)
}

/// Counts commands that ended nothing. Another request may have ended what they named; but when that
/// goes on, the table calls live what has ended in the log, and to ask on and on would not mend it.
#[derive(Default)]
struct Idle(u32);

impl Idle {
    fn after(&mut self, done: &Done<Vec<SessionId>>, left: &[SessionId]) -> Result<(), ApiError> {
        self.0 = if done.executed.outcome.is_empty() { self.0 + 1 } else { 0 };
        if self.0 > IDLE_MAX {
            tracing::error!(sessions = ?left, "sessions are listed that the log has ended: verify the projections");
            return Err(ApiError::unavailable());
        }
        Ok(())
    }
}

/// The session that asks.
fn current(principal: &Principal) -> Option<SessionId> {
    match principal.credential()? {
        CredentialId::Session(id) => Some(id),
        CredentialId::Token(_) => None,
    }
}

pub(crate) fn refused(refusal: &SessionRefusal) -> ApiError {
    match refusal {
        SessionRefusal::NotASession | SessionRefusal::NotFromALogin => {
            ApiError::insufficient_scope(refusal.to_string())
        }
        SessionRefusal::Ended => ApiError::invalid_token(),
    }
}

/// A console session. Its tokens are in cookies alone.
#[derive(Serialize, ToSchema)]
struct ConsoleSession {
    #[schema(value_type = Uuid)]
    id: SessionId,
    kind: &'static str,
    /// When the access token ends: refresh before.
    access_expires_at: DateTime<Utc>,
    /// When the session ends, unless it is refreshed before.
    expires_at: DateTime<Utc>,
}

impl ConsoleSession {
    fn new(id: SessionId, refreshed: Refreshed) -> Self {
        let Refreshed { access_expires_at, expires_at, .. } = refreshed;
        Self { id, kind: CredentialKind::ConsoleSession.row().name, access_expires_at, expires_at }
    }
}

/// Signs an access token and puts it and the refresh token into their cookies, with a CSRF token that
/// belongs to the first.
fn set_cookies(
    app: &App,
    headers: &mut HeaderMap,
    user: UserId,
    session: SessionId,
    refreshed: Refreshed,
    refresh: &Plaintext,
) -> Result<(), ApiError> {
    let Refreshed { issued_at, access_expires_at, expires_at } = refreshed;
    let access = jwt::Session { kind: SessionKind::Console, user, session, expires_at: access_expires_at };
    let access = app.settings.signer.sign(&access, issued_at).map_err(|error| ApiError::internal(&error))?;
    let mut nonce = [0; 16];
    fill_random(&mut nonce);
    app.settings.cookies.set_console(headers, &access, refresh, nonce, issued_at, expires_at - issued_at);
    Ok(())
}
