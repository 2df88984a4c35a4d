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
    invitations::{InvitationEntry, ListOwnInvitations, find_invitations, list_own_invitations},
    members::find_member,
    users::find_profile,
};

use crate::{
    error::ApiError,
    guard::Caller,
    in_workspace::{person, refused},
    routes::{
        LOG_POSITION,
        workspaces::{
            inline_head,
            invitations::{Invitation, invitation_id},
            members::Member,
        },
    },
    state::App,
};

/// `GET /api/invitations`: those that can still be answered, newest first.
pub async fn list_invitations(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let person = person(&caller)?;
    let head = inline_head(&app, &headers).await?;
    let query =
        authorize(caller.principal, ListOwnInvitations { addressed: addressed(&app, person).await? })?;
    let entries = list_own_invitations(app.pool(), app.keys(), &query).await?;
    let invitations: Vec<Invitation> = entries.into_iter().map(Invitation::from).collect();
    Ok(([(LOG_POSITION, head.0)], Json(invitations)).into_response())
}

/// `GET /api/invitations/{id}`: whatever became of it.
pub async fn read_invitation(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let person = person(&caller)?;
    authorize(caller.principal, ListOwnInvitations { addressed: Vec::new() })?;
    let head = inline_head(&app, &headers).await?;
    let entry = own_invitation(&app, person, path).await?;
    Ok(([(LOG_POSITION, head.0)], Json(Invitation::from(entry))).into_response())
}

/// `POST /api/invitations/{id}/accept`: 200 with who the caller is in the workspace now.
pub async fn accept_invitation(
    State(app): State<App>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let person = person(&caller)?;
    let InvitationEntry { id: invitation, workspace, .. } = own_invitation(&app, person, path).await?;
    let command = AcceptInvitation { insider: person.within(workspace), invitation };
    let done = app.execute(caller.principal, command, caller.context, |refusal| refused(&refusal)).await?;
    let member = MemberId::of(workspace, person.user);
    let entry = find_member(app.pool(), app.keys(), member).await?;
    // Removed by somebody else in between.
    let entry = entry.ok_or_else(|| refused(&WorkspaceRefusal::MemberNotFound))?;
    let position = done.executed.position.0;
    Ok(([(LOG_POSITION, position)], Json(Member::from(entry))).into_response())
}

/// `POST /api/invitations/{id}/decline`: 204.
pub async fn decline_invitation(
    State(app): State<App>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let person = person(&caller)?;
    let InvitationEntry { id: invitation, .. } = own_invitation(&app, person, path).await?;
    let command = DeclineInvitation { person, invitation };
    let done = app.execute(caller.principal, command, caller.context, |refusal| refused(&refusal)).await?;
    Ok((StatusCode::NO_CONTENT, [(LOG_POSITION, done.executed.position.0)]).into_response())
}

/// The invitations for the address of an account, over or not.
async fn addressed(app: &App, person: Person) -> Result<Vec<InvitationId>, ApiError> {
    let profile =
        find_profile(app.pool(), app.keys(), person.user).await?.ok_or_else(ApiError::invalid_token)?;
    let found = app.store.indexed(Index::InvitationAddress, &profile.email).await?;
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
    let entry = entry.ok_or_else(|| refused(&WorkspaceRefusal::InvitationNotFound))?;
    if addressed(app, person).await?.contains(&id) {
        Ok(entry)
    } else {
        Err(ApiError::forbidden("invitation does not belong to you"))
    }
}
