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
use utoipa::ToSchema;

use super::{
    inline_head,
    members::{RoleName, role_of_newcomer, roles_of_newcomers},
};
use crate::{
    error::{ApiError, Code},
    execute::{CLAIM_ATTEMPTS_MAX, failure},
    freshness::MinPosition,
    idempotency::IdempotencyKey,
    in_workspace::{InWorkspace, refused},
    mail::{self, Letter, Mail},
    request_json::RequestJson,
    routes::{LOG_POSITION, effective},
    state::App,
};

/// Invitations by one person.
const BY_ACTOR: Limit = Limit { count: 10, period: Duration::from_mins(10) };
/// Invitations into one workspace.
const INTO_WORKSPACE: Limit = Limit { count: 50, period: Duration::from_hours(24) };
/// Invitations for one address.
const FOR_RECIPIENT: Limit = Limit { count: 6, period: Duration::from_hours(24) };

/// An invitation, as the clients know one.
#[derive(Serialize, ToSchema)]
pub struct Invitation {
    #[schema(value_type = Uuid)]
    id: InvitationId,
    #[schema(value_type = Uuid)]
    workspace_id: WorkspaceId,
    #[schema(value_type = Uuid)]
    inviter_id: UserId,
    invitee_email: String,
    #[schema(value_type = Option<Uuid>)]
    invitee_user_id: Option<UserId>,
    #[schema(value_type = RoleName)]
    role: Role,
    /// `pending`, `accepted`, `declined` or `revoked`; that it expired says `expires_at`.
    status: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    inviter_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    inviter_email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
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

/// List the invitations of a workspace that can still be answered
///
/// For owner and admin.
#[utoipa::path(
    get,
    path = "/api/workspaces/{id}/invitations",
    params(("id" = Uuid, Path, description = "The workspace"), MinPosition),
    responses(
        (status = 200, description = "The invitations", body = Vec<Invitation>, headers(("X-Log-Position"))),
        (status = 403), (status = 404)
    )
)]
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

#[derive(Deserialize, ToSchema)]
pub struct NewInvitation {
    #[schema(value_type = String, format = Email)]
    email: Option<String>,
    #[schema(schema_with = roles_of_newcomers)]
    role: Option<String>,
}

/// Invite somebody into a workspace
///
/// For owner and admin. Nobody becomes a member unasked; an invitation is good for seven days.
#[utoipa::path(
    post,
    path = "/api/workspaces/{id}/members",
    params(("id" = Uuid, Path, description = "The workspace"), IdempotencyKey),
    request_body = NewInvitation,
    responses(
        (status = 201, description = "Invited", body = Invitation, headers(("X-Log-Position"))),
        (status = 403), (status = 404),
        (status = 409),
        (status = 429)
    )
)]
pub async fn create_invitation(
    State(app): State<App>,
    member: InWorkspace,
    key: IdempotencyKey,
    RequestJson { body, fingerprint }: RequestJson<NewInvitation>,
) -> Result<Response, ApiError> {
    let email = EmailAddress::parse(body.email.as_deref().unwrap_or_default())
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let role = role_of_newcomer(body.role.as_deref(), "cannot invite as owner")?;
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
    let context = key.bind(&member.caller, fingerprint, id);
    // Who may not invite is told so before it counts.
    member.may(command(id).await?)?;
    let place = app.mailer.place().map_err(|_| ApiError::unavailable())?;
    count(&app, inviter, workspace, &email).await?;
    // An address whose last invitation is over has its next one; whoever loses that race finds the winner.
    for _ in 0..CLAIM_ATTEMPTS_MAX {
        match member.attempt(&app, command(id).await?, context).await? {
            Ok(done) => {
                let entry = find_invitations(app.pool(), app.keys(), &[id]).await?.pop();
                let entry = entry.ok_or_else(ApiError::unavailable)?;
                let mail = Mail::Invitation(announced(&entry));
                app.mailer.post(place, Letter { to: email, mail, request: context.request });
                let position = done.executed.position.0;
                let body = Json(Invitation::from(entry));
                return Ok((StatusCode::CREATED, [(LOG_POSITION, position)], body).into_response());
            }
            Err(ExecuteError::ClaimTaken(_)) => {}
            Err(error) => return Err(failure(error, refused)),
        }
    }
    Err(refused(WorkspaceRefusal::AlreadyInvited))
}

/// What the mail says of it; the names are opened for the one who is invited.
fn announced(entry: &InvitationEntry) -> mail::Invitation {
    let inviter = entry.inviter_name.clone().or_else(|| entry.inviter_email.clone());
    mail::Invitation {
        id: entry.id,
        workspace: entry.workspace_name.clone().unwrap_or_default(),
        inviter: inviter.unwrap_or_default(),
        role: entry.role,
        expires_at: entry.expires_at,
    }
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
            ApiError { code: Code::InvitationRateLimited, ..error }
        }
        Limited::Database(error) => ApiError::database(&error),
    })
}

/// Take an invitation back
///
/// For owner and admin.
#[utoipa::path(
    delete,
    path = "/api/workspaces/{id}/invitations/{invitation_id}",
    params(("id" = Uuid, Path, description = "The workspace"), ("invitation_id" = Uuid, Path, description = "The invitation")),
    responses(
        (status = 204, description = "Nobody accepts it any more", headers(("X-Log-Position"))),
        (status = 403), (status = 404)
    )
)]
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
