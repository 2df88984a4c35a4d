//! `/api/invitations`: what the caller was invited to, by the address of their account.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use tally_domain::{
    Person, authorize,
    claim::Index,
    invitation::{AcceptInvitation, DeclineInvitation},
    workspace::WorkspaceRefusal,
};
use tally_events::{InvitationId, MemberId};
use tally_projections::{
    invitations::{
        InvitationEntry, ListOwnInvitations, find_invitations, list_own_invitations as query_own_invitations,
    },
    users::find_profile,
};

use crate::{
    error::ApiError,
    freshness::MinPosition,
    guard::Caller,
    in_workspace::{person, refused},
    routes::{
        LOG_POSITION,
        workspaces::{
            inline_head,
            invitations::{Invitation, invitation_id},
            members::{Member, joined},
        },
    },
    state::App,
};

/// List the invitations for the address of one's account that can still be answered
#[utoipa::path(
    get,
    path = "/api/invitations",
    params(MinPosition),
    responses(
        (status = 200, description = "The invitations", body = Vec<Invitation>, headers(("X-Log-Position")))
    )
)]
pub async fn list_own_invitations(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let person = person(&caller)?;
    let head = inline_head(&app, &headers).await?;
    let query = authorize(caller.principal, ListOwnInvitations)?;
    let addressed = addressed(&app, person).await?;
    let entries = query_own_invitations(app.pool(), app.keys(), &query, &addressed).await?;
    let invitations: Vec<Invitation> = entries.into_iter().map(Invitation::from).collect();
    Ok(([(LOG_POSITION, head.0)], Json(invitations)).into_response())
}

/// Read an invitation, whatever became of it
#[utoipa::path(
    get,
    path = "/api/invitations/{id}",
    params(("id" = Uuid, Path, description = "The invitation"), MinPosition),
    responses(
        (status = 200, description = "The invitation", body = Invitation, headers(("X-Log-Position"))),
        (status = 403), (status = 404)
    )
)]
pub async fn read_own_invitation(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let person = person(&caller)?;
    authorize(caller.principal, ListOwnInvitations)?;
    let head = inline_head(&app, &headers).await?;
    let entry = own_invitation(&app, person, path).await?;
    Ok(([(LOG_POSITION, head.0)], Json(Invitation::from(entry))).into_response())
}

/// Accept an invitation
#[utoipa::path(
    post,
    path = "/api/invitations/{id}/accept",
    params(("id" = Uuid, Path, description = "The invitation")),
    responses(
        (status = 200, description = "Who one is in the workspace now", body = Member, headers(("X-Log-Position"))),
        (status = 403), (status = 404),
        (status = 410)
    )
)]
pub async fn accept_invitation(
    State(app): State<App>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let person = person(&caller)?;
    let InvitationEntry { id: invitation, workspace, .. } = own_invitation(&app, person, path).await?;
    let command = AcceptInvitation { insider: person.within(workspace), invitation };
    let done = app.execute(caller.principal, command, caller.context, refused).await?;
    joined(&app, MemberId::of(workspace, person.user), done.executed.position).await
}

/// Decline an invitation
#[utoipa::path(
    post,
    path = "/api/invitations/{id}/decline",
    params(("id" = Uuid, Path, description = "The invitation")),
    responses(
        (status = 204, description = "Declined", headers(("X-Log-Position"))),
        (status = 403), (status = 404),
        (status = 410)
    )
)]
pub async fn decline_invitation(
    State(app): State<App>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let person = person(&caller)?;
    let InvitationEntry { id: invitation, .. } = own_invitation(&app, person, path).await?;
    let command = DeclineInvitation { person, invitation };
    let done = app.execute(caller.principal, command, caller.context, refused).await?;
    Ok((StatusCode::NO_CONTENT, [(LOG_POSITION, done.executed.position.0)]).into_response())
}

/// The invitations for the address of an account, over or not.
async fn addressed(app: &App, person: Person) -> Result<Vec<InvitationId>, ApiError> {
    let profile =
        find_profile(app.pool(), app.keys(), person.user).await?.ok_or_else(ApiError::invalid_token)?;
    invitations_for(app, &profile.email).await
}

/// The invitations for an address, over or not.
pub(super) async fn invitations_for(app: &App, email: &str) -> Result<Vec<InvitationId>, ApiError> {
    let found = app.store.indexed(Index::InvitationAddress, email).await?;
    Ok(found.into_iter().map(InvitationId).collect())
}

/// The invitation of the path, if it is for the address of this person.
async fn own_invitation(
    app: &App,
    person: Person,
    path: Result<Path<String>, PathRejection>,
) -> Result<InvitationEntry, ApiError> {
    let id = invitation_id(path.ok().map(|Path(id)| id))?;
    let entry = find_invitations(app.pool(), app.keys(), &[id]).await?.pop();
    let entry = entry.ok_or_else(|| refused(WorkspaceRefusal::InvitationNotFound))?;
    if addressed(app, person).await?.contains(&id) {
        Ok(entry)
    } else {
        Err(ApiError::forbidden("invitation does not belong to you"))
    }
}
