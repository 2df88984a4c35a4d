//! `/api/share-links`: looking at a link one was given, and joining by it.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    response::Response,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tally_domain::{claim::Namespace, share_link::JoinByShareLink, workspace::WorkspaceRefusal};
use tally_events::{MemberId, Role, ShareLinkId};
use tally_projections::share_links::{ShareLinkEntry, find_active};
use utoipa::ToSchema;

use crate::{
    error::ApiError,
    guard::Caller,
    in_workspace::{person, refused},
    request_json::RequestJson,
    routes::{
        auth::Visitor,
        workspaces::members::{Member, RoleName, joined},
    },
    state::App,
};

/// What somebody sees of a link before they have joined: what it leads to, and no more.
#[derive(Serialize, ToSchema)]
pub struct SharedWorkspace {
    workspace_name: String,
    workspace_avatar_url: Option<String>,
    #[schema(value_type = RoleName)]
    role: Role,
    expires_at: Option<DateTime<Utc>>,
}

/// Look where a share link leads
///
/// Counted like codes that are tried: nobody finds one by trying.
#[utoipa::path(
    get,
    path = "/api/share-links/{code}",
    security(()),
    params(("code" = String, Path, description = "The code of the link")),
    responses(
        (status = 200, description = "Where it leads", body = SharedWorkspace),
        (status = 404),
        (status = 429)
    )
)]
pub async fn read_share_link(
    State(app): State<App>,
    visitor: Visitor,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<SharedWorkspace>, ApiError> {
    visitor.count(&app, "share-link", app.settings.limits.verify).await?;
    let code = path.map(|Path(code)| code).unwrap_or_default();
    let link = find(&app, &code).await?;
    Ok(Json(SharedWorkspace {
        workspace_name: link.workspace_name,
        workspace_avatar_url: link.workspace_avatar_url,
        role: link.role,
        expires_at: link.expires_at,
    }))
}

#[derive(Deserialize, ToSchema)]
pub struct Joining {
    #[schema(value_type = String, min_length = 1)]
    code: Option<String>,
}

/// Join a workspace by a share link
#[utoipa::path(
    post,
    path = "/api/share-links/join",
    request_body = Joining,
    responses(
        (status = 200, description = "Who one is in the workspace now", body = Member, headers(("X-Log-Position"))),
        (status = 404),
        (status = 409),
        (status = 429)
    )
)]
pub async fn join_by_share_link(
    State(app): State<App>,
    caller: Caller,
    visitor: Visitor,
    RequestJson { body, .. }: RequestJson<Joining>,
) -> Result<Response, ApiError> {
    let person = person(&caller)?;
    visitor.count(&app, "share-link", app.settings.limits.verify).await?;
    let code = body.code.filter(|code| !code.is_empty());
    let code = code.ok_or_else(|| ApiError::bad_request("code is required"))?;
    let ShareLinkEntry { id: link, workspace, .. } = find(&app, &code).await?;
    let command = JoinByShareLink { insider: person.within(workspace), link };
    let done = app.execute(caller.principal, command, caller.context, refused).await?;
    joined(&app, MemberId::of(workspace, person.user), done.executed.position).await
}

/// The active link of a code; one that is over looks like one that never was.
async fn find(app: &App, code: &str) -> Result<ShareLinkEntry, ApiError> {
    let holder = app.store.holder(Namespace::ShareLinkCode, code).await?;
    let link = match holder {
        Some(link) => find_active(app.pool(), app.keys(), ShareLinkId(link)).await?,
        None => None,
    };
    link.ok_or_else(|| refused(WorkspaceRefusal::ShareLinkNotFound))
}
