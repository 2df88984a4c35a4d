//! `/api/workspaces/{id}/share-links`: the one link by which whoever knows it may join.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tally_domain::{
    claim::Namespace,
    credential::Plaintext,
    share_link::{CreateShareLink, RevokeShareLink, ShareLinkRequest},
    workspace::WorkspaceRefusal,
};
use tally_events::{Role, ShareLinkId, UserId, WorkspaceId};
use tally_projections::share_links::{ReadShareLink, ShareLinkEntry, find_active};
use tally_store::ExecuteError;

use super::{inline_head, members::role_of};
use crate::{
    error::ApiError,
    execute::failure,
    in_workspace::{InWorkspace, refused},
    request_json::RequestJson,
    routes::{LOG_POSITION, auth::fill_random, effective},
    state::App,
};

/// Two new links at once race for the workspace; the loser replaces the winner.
const CLAIM_ATTEMPTS_MAX: usize = 3;
/// Random bytes of a code; hex has twice as many characters.
const CODE_BYTES: usize = 16;

/// A share link, as those see it who manage the workspace.
#[derive(Serialize)]
pub struct ShareLink {
    id: ShareLinkId,
    workspace_id: WorkspaceId,
    code: String,
    role: Role,
    expires_at: Option<DateTime<Utc>>,
    max_uses: Option<i32>,
    use_count: i32,
    created_by: Option<UserId>,
    created_at: DateTime<Utc>,
}

impl From<ShareLinkEntry> for ShareLink {
    fn from(entry: ShareLinkEntry) -> Self {
        Self {
            id: entry.id,
            workspace_id: entry.workspace,
            code: entry.code,
            role: entry.role,
            expires_at: entry.expires_at,
            max_uses: entry.max_uses,
            use_count: entry.uses,
            created_by: entry.created_by,
            created_at: entry.created_at,
        }
    }
}

#[derive(Deserialize)]
pub struct Creation {
    role: Option<String>,
    /// Hours.
    expires_in: Option<i64>,
    max_uses: Option<i64>,
}

/// `POST /api/workspaces/{id}/share-links`: 201; the link before it, if there is one, is revoked.
pub async fn create_share_link(
    State(app): State<App>,
    member: InWorkspace,
    RequestJson { body, .. }: RequestJson<Creation>,
) -> Result<Response, ApiError> {
    let role = match role_of(body.role.as_deref())? {
        None => Role::Member,
        Some(Role::Owner) => return Err(ApiError::bad_request("a share link cannot make owners")),
        Some(role) => role,
    };
    let request = ShareLinkRequest::new(body.expires_in, body.max_uses)
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let mut bytes = [0; CODE_BYTES];
    fill_random(&mut bytes);
    let code = Plaintext::new(hex::encode(bytes));
    let link = ShareLinkId::new();
    for _ in 0..CLAIM_ATTEMPTS_MAX {
        let holder = current(&app, &member).await?;
        let (insider, code) = (member.insider, code.clone());
        match member.attempt(&app, CreateShareLink { insider, link, code, role, request, holder }).await? {
            Ok(done) => {
                let entry = find_active(app.pool(), app.keys(), link).await?;
                // Revoked by somebody else in between.
                let entry = entry.ok_or_else(|| refused(&WorkspaceRefusal::ShareLinkNotFound))?;
                let position = done.executed.position.0;
                let body = Json(ShareLink::from(entry));
                return Ok((StatusCode::CREATED, [(LOG_POSITION, position)], body).into_response());
            }
            Err(ExecuteError::ClaimTaken(_)) => {}
            Err(error) => return Err(failure(error, |refusal| refused(&refusal))),
        }
    }
    Err(ApiError::unavailable())
}

/// `GET /api/workspaces/{id}/share-links`: the active link, or none.
pub async fn list_share_links(
    State(app): State<App>,
    member: InWorkspace,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    member.may(ReadShareLink)?;
    let head = inline_head(&app, &headers).await?;
    let active = match current(&app, &member).await? {
        Some(link) => find_active(app.pool(), app.keys(), link).await?,
        None => None,
    };
    let links: Vec<ShareLink> = active.into_iter().map(ShareLink::from).collect();
    Ok(([(LOG_POSITION, head.0)], Json(links)).into_response())
}

/// `DELETE /api/workspaces/{id}/share-links`: 204, and nobody joins by the link any more.
pub async fn revoke_share_links(State(app): State<App>, member: InWorkspace) -> Result<Response, ApiError> {
    member.may(ReadShareLink)?;
    match current(&app, &member).await? {
        Some(link) => revoke(&app, &member, link).await,
        None => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

/// `DELETE /api/workspaces/{id}/share-links/{link_id}`: the same, for the link of this id.
pub async fn revoke_share_link(
    State(app): State<App>,
    member: InWorkspace,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, ApiError> {
    let link = path.ok().and_then(|Path((_, id))| id.parse().ok());
    revoke(&app, &member, link.ok_or_else(|| ApiError::bad_request("invalid share link id"))?).await
}

async fn revoke(app: &App, member: &InWorkspace, link: ShareLinkId) -> Result<Response, ApiError> {
    let done = member.execute(app, RevokeShareLink { insider: member.insider, link }).await?;
    Ok((StatusCode::NO_CONTENT, effective(&done)).into_response())
}

/// The last link of the workspace, over or not.
async fn current(app: &App, member: &InWorkspace) -> Result<Option<ShareLinkId>, ApiError> {
    let workspace = member.membership.workspace.to_string();
    let holder = app.store.holder(Namespace::ShareLinkActive, &workspace).await?;
    Ok(holder.map(ShareLinkId))
}
