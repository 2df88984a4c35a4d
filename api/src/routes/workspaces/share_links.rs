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
use utoipa::ToSchema;

use super::{
    inline_head,
    members::{RoleName, role_of_newcomer, roles_of_newcomers},
};
use crate::{
    error::ApiError,
    execute::{CLAIM_ATTEMPTS_MAX, failure},
    freshness::MinPosition,
    idempotency::IdempotencyKey,
    in_workspace::{InWorkspace, refused},
    request_json::{RequestJson, whole_number},
    routes::{LOG_POSITION, auth::fill_random, effective},
    state::App,
};

/// Random bytes of a code; hex has twice as many characters.
const CODE_BYTES: usize = 16;

/// A share link, as those see it who manage the workspace.
#[derive(Serialize, ToSchema)]
pub struct ShareLink {
    #[schema(value_type = Uuid)]
    id: ShareLinkId,
    #[schema(value_type = Uuid)]
    workspace_id: WorkspaceId,
    code: String,
    #[schema(value_type = RoleName)]
    role: Role,
    expires_at: Option<DateTime<Utc>>,
    max_uses: Option<i32>,
    use_count: i32,
    #[schema(value_type = Option<Uuid>)]
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

#[derive(Deserialize, ToSchema)]
pub struct NewShareLink {
    #[schema(schema_with = roles_of_newcomers)]
    role: Option<String>,
    /// Hours; it does not expire when this is absent.
    #[serde(default, deserialize_with = "whole_number")]
    #[schema(minimum = 1, maximum = 8760)]
    expires_in: Option<i64>,
    /// Any number may join by it when this is absent.
    #[serde(default, deserialize_with = "whole_number")]
    #[schema(minimum = 1, maximum = 100_000)]
    max_uses: Option<i64>,
}

/// Make the share link of a workspace
///
/// For owner and admin. The link before it, if there is one, is revoked with that.
#[utoipa::path(
    post,
    path = "/api/workspaces/{id}/share-links",
    params(("id" = Uuid, Path, description = "The workspace"), IdempotencyKey),
    request_body = NewShareLink,
    responses(
        (status = 201, description = "Created", body = ShareLink, headers(("X-Log-Position"))),
        (status = 403), (status = 404)
    )
)]
pub async fn create_share_link(
    State(app): State<App>,
    member: InWorkspace,
    key: IdempotencyKey,
    RequestJson { body, fingerprint }: RequestJson<NewShareLink>,
) -> Result<Response, ApiError> {
    let role = role_of_newcomer(body.role.as_deref(), "a share link cannot make owners")?;
    let request = ShareLinkRequest::new(body.expires_in, body.max_uses)
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let mut bytes = [0; CODE_BYTES];
    fill_random(&mut bytes);
    let code = Plaintext::new(hex::encode(bytes));
    let link = ShareLinkId::new();
    let context = key.bind(&member.caller, fingerprint, link);
    // Two new links at once race for the workspace; the loser replaces the winner.
    for _ in 0..CLAIM_ATTEMPTS_MAX {
        let holder = current(&app, &member).await?;
        let (insider, code) = (member.insider, code.clone());
        let command = CreateShareLink { insider, link, code, role, request, holder };
        match member.attempt(&app, command, context).await? {
            Ok(done) => {
                let entry = find_active(app.pool(), app.keys(), link).await?;
                // Revoked by somebody else in between.
                let entry = entry.ok_or_else(|| refused(WorkspaceRefusal::ShareLinkNotFound))?;
                let position = done.executed.position.0;
                let body = Json(ShareLink::from(entry));
                return Ok((StatusCode::CREATED, [(LOG_POSITION, position)], body).into_response());
            }
            Err(ExecuteError::ClaimTaken(_)) => {}
            Err(error) => return Err(failure(error, refused)),
        }
    }
    Err(ApiError::unavailable())
}

/// Read the share link of a workspace
///
/// For owner and admin.
#[utoipa::path(
    get,
    path = "/api/workspaces/{id}/share-links",
    params(("id" = Uuid, Path, description = "The workspace"), MinPosition),
    responses(
        (status = 200, description = "The active link, or none", body = Vec<ShareLink>, headers(("X-Log-Position"))),
        (status = 403), (status = 404)
    )
)]
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

/// Revoke the share link of a workspace
///
/// For owner and admin.
#[utoipa::path(
    delete,
    path = "/api/workspaces/{id}/share-links",
    params(("id" = Uuid, Path, description = "The workspace")),
    responses(
        (status = 204, description = "Nobody joins by it any more", headers(("X-Log-Position"), ("X-Revocation"))),
        (status = 403), (status = 404)
    )
)]
pub async fn revoke_share_links(State(app): State<App>, member: InWorkspace) -> Result<Response, ApiError> {
    member.may(ReadShareLink)?;
    match current(&app, &member).await? {
        Some(link) => revoke(&app, &member, link).await,
        None => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

/// Revoke this share link of a workspace
///
/// For owner and admin.
#[utoipa::path(
    delete,
    path = "/api/workspaces/{id}/share-links/{link_id}",
    params(("id" = Uuid, Path, description = "The workspace"), ("link_id" = Uuid, Path, description = "The link")),
    responses(
        (status = 204, description = "Nobody joins by it any more", headers(("X-Log-Position"), ("X-Revocation"))),
        (status = 403), (status = 404)
    )
)]
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
