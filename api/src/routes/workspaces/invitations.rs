//! `/api/workspaces/{id}/invitations`, and `POST /api/workspaces/{id}/members`, which makes one.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tally_domain::{
    EmailAddress,
    claim::{Namespace, invited},
    invitation::{Invite, RevokeInvitation},
    workspace::WorkspaceRefusal,
};
use tally_events::{InvitationId, Role, UserId, WorkspaceId};
use tally_projections::invitations::{
    InvitationEntry, ListInvitations, find_invitations, list_invitations as query_invitations,
};
use tally_store::{ExecuteError, Limit, Limited};

use super::{inline_head, members::role_of};
use crate::{
    error::ApiError,
    execute::failure,
    in_workspace::{InWorkspace, refused},
    request_json::RequestJson,
    routes::{LOG_POSITION, effective},
    state::App,
};

/// An address whose last invitation is over has its next one; whoever loses that race finds the winner.
const CLAIM_ATTEMPTS_MAX: usize = 3;
/// Invitations by one person.
const BY_ACTOR: Limit = Limit { count: 10, period: Duration::from_mins(10) };
/// Invitations into one workspace.
const INTO_WORKSPACE: Limit = Limit { count: 50, period: Duration::from_hours(24) };
/// Invitations for one address.
const FOR_RECIPIENT: Limit = Limit { count: 6, period: Duration::from_hours(24) };

/// An invitation, as the clients know one.
#[derive(Serialize)]
pub struct Invitation {
    id: InvitationId,
    workspace_id: WorkspaceId,
    inviter_id: UserId,
    invitee_email: String,
    invitee_user_id: Option<UserId>,
    role: Role,
    status: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inviter_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inviter_email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workspace_name: Option<String>,
}

impl From<InvitationEntry> for Invitation {
    fn from(entry: InvitationEntry) -> Self {
        Self {
            id: entry.id,
            workspace_id: entry.workspace,
            inviter_id: entry.inviter,
            invitee_email: entry.email,
            invitee_user_id: entry.invitee,
            role: entry.role,
            status: entry.status,
            created_at: entry.created_at,
            updated_at: entry.updated_at,
            expires_at: entry.expires_at,
            inviter_name: entry.inviter_name,
            inviter_email: entry.inviter_email,
            workspace_name: entry.workspace_name,
        }
    }
}

/// `GET /api/workspaces/{id}/invitations`: those that can still be answered.
pub async fn list_invitations(
    State(app): State<App>,
    member: InWorkspace,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let query = member.may(ListInvitations)?;
    let head = inline_head(&app, &headers).await?;
    let entries = query_invitations(app.pool(), app.keys(), &query).await?;
    let invitations: Vec<Invitation> = entries.into_iter().map(Invitation::from).collect();
    Ok(([(LOG_POSITION, head.0)], Json(invitations)).into_response())
}

#[derive(Deserialize)]
pub struct Creation {
    email: Option<String>,
    role: Option<String>,
}

/// `POST /api/workspaces/{id}/members`: 201 with the invitation. Nobody becomes a member unasked.
pub async fn create_invitation(
    State(app): State<App>,
    member: InWorkspace,
    RequestJson { body, .. }: RequestJson<Creation>,
) -> Result<Response, ApiError> {
    let email = EmailAddress::parse(body.email.as_deref().unwrap_or_default())
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let role = match role_of(body.role.as_deref())? {
        None => Role::Member,
        Some(Role::Owner) => return Err(ApiError::bad_request("cannot invite as owner")),
        Some(role) => role,
    };
    let (workspace, inviter) = (member.membership.workspace, member.membership.user);
    let pending = invited(workspace, email.as_str());
    let command = async |invitation| {
        let things =
            [(Namespace::UserEmail, email.as_str()), (Namespace::InvitationPending, pending.as_str())];
        let [invitee, holder] = app.store.holders(things).await?;
        let (invitee, holder) = (invitee.map(UserId), holder.map(InvitationId));
        let (insider, email) = (member.insider, email.clone());
        Ok::<_, ApiError>(Invite { insider, invitation, email, role, invitee, holder })
    };
    let id = InvitationId::new();
    // Who may not invite, or nobody new, is told so before it counts.
    member.may(command(id).await?)?;
    count(&app, inviter, workspace, &email).await?;
    for _ in 0..CLAIM_ATTEMPTS_MAX {
        match member.attempt(&app, command(id).await?).await? {
            Ok(done) => {
                let entry = find_invitations(app.pool(), app.keys(), &[id]).await?.pop();
                let entry = entry.ok_or_else(ApiError::unavailable)?;
                let position = done.executed.position.0;
                let body = Json(Invitation::from(entry));
                return Ok((StatusCode::CREATED, [(LOG_POSITION, position)], body).into_response());
            }
            Err(ExecuteError::ClaimTaken(_)) => {}
            Err(error) => return Err(failure(error, |refusal| refused(&refusal))),
        }
    }
    Err(refused(&WorkspaceRefusal::AlreadyInvited))
}

/// Counts an invitation against all three limits, or against none when one of them is reached.
async fn count(
    app: &App,
    inviter: UserId,
    workspace: WorkspaceId,
    email: &EmailAddress,
) -> Result<(), ApiError> {
    let key = |rule, what: &str| app.keys().blind_limit(rule, what);
    let limits = [
        (BY_ACTOR, key("invite by", &inviter.to_string())),
        (INTO_WORKSPACE, key("invite into", &workspace.to_string())),
        (FOR_RECIPIENT, key("invite", email.as_str())),
    ];
    Limit::take_all(app.pool(), &limits).await.map_err(|limited| match limited {
        Limited::TooMany { retry_after } => {
            let error = ApiError::too_many("too many invitations", retry_after);
            ApiError { code: "invitation_rate_limited", shows_code: true, ..error }
        }
        Limited::Database(error) => ApiError::database(&error),
    })
}

/// `DELETE /api/workspaces/{id}/invitations/{invitation_id}`: 204, and nobody accepts it any more.
pub async fn revoke_invitation(
    State(app): State<App>,
    member: InWorkspace,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, ApiError> {
    let invitation = invitation_id(path.ok().map(|Path((_, id))| id))?;
    let done = member.execute(&app, RevokeInvitation { insider: member.insider, invitation }).await?;
    Ok((StatusCode::NO_CONTENT, effective(&done)).into_response())
}

/// The invitation that a path names.
pub fn invitation_id(text: Option<String>) -> Result<InvitationId, ApiError> {
    text.and_then(|id| id.parse().ok()).ok_or_else(|| ApiError::bad_request("invalid invitation id"))
}
