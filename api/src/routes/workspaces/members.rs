//! `/api/workspaces/{id}/members`: who is in, and as what.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tally_domain::{
    Command,
    member::{ChangeRole, LeaveWorkspace, RemoveMember, Target},
    workspace::WorkspaceRefusal,
};
use tally_events::{MemberId, Position, Role, UserId, WorkspaceId};
use tally_fanout::Done;
use tally_projections::members::{
    ListMembers, MemberEntry, find_member, list_members as query_members, other_owner, user_of,
};
use tally_store::ExecuteError;
use utoipa::{
    ToSchema,
    openapi::{ObjectBuilder, Type, schema::SchemaType},
};

use super::inline_head;
use crate::{
    error::ApiError,
    execute::failure,
    freshness::MinPosition,
    in_workspace::{InWorkspace, refused},
    request_json::RequestJson,
    routes::{LOG_POSITION, effective},
    state::App,
};

/// Owners who were to show that one remains, and did not; then others are quicker each time.
const WITNESSES_MAX: usize = 5;

/// A member, as the clients know one.
#[derive(Serialize, ToSchema)]
pub struct Member {
    #[schema(value_type = Uuid)]
    id: MemberId,
    #[schema(value_type = Uuid)]
    workspace_id: WorkspaceId,
    #[schema(value_type = Uuid)]
    user_id: UserId,
    #[schema(value_type = RoleName)]
    role: Role,
    created_at: DateTime<Utc>,
    name: String,
    email: String,
    avatar_url: Option<String>,
}

impl From<MemberEntry> for Member {
    fn from(entry: MemberEntry) -> Self {
        Self {
            id: entry.id,
            workspace_id: entry.workspace,
            user_id: entry.user,
            role: entry.role,
            created_at: entry.created_at,
            name: entry.name,
            email: entry.email,
            avatar_url: entry.avatar_url,
        }
    }
}

/// List who is in a workspace
#[utoipa::path(
    get,
    path = "/api/workspaces/{id}/members",
    params(("id" = Uuid, Path, description = "The workspace"), MinPosition),
    responses(
        (status = 200, description = "The members", body = Vec<Member>, headers(("X-Log-Position"))),
        (status = 403), (status = 404)
    )
)]
pub async fn list_members(
    State(app): State<App>,
    member: InWorkspace,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let query = member.may(ListMembers)?;
    let head = inline_head(&app, &headers).await?;
    let entries = query_members(app.pool(), app.keys(), &query).await?;
    let members: Vec<Member> = entries.into_iter().map(Member::from).collect();
    Ok(([(LOG_POSITION, head.0)], Json(members)).into_response())
}

/// The words for roles, each of which may what those after it may, and more.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only the document names them this way")]
pub enum RoleName {
    Owner,
    Admin,
    Member,
}

#[derive(Deserialize, ToSchema)]
pub struct RoleChange {
    #[schema(value_type = RoleName)]
    role: Option<String>,
}

/// Give a member another role
///
/// For owner and admin; what is about owners, for owners alone. The last owner stays one.
#[utoipa::path(
    patch,
    path = "/api/workspaces/{id}/members/{member_id}",
    params(("id" = Uuid, Path, description = "The workspace"), ("member_id" = Uuid, Path, description = "The member")),
    request_body = RoleChange,
    responses(
        (status = 200, description = "The member in the new role", body = Member, headers(("X-Log-Position"), ("X-Revocation"))),
        (status = 403), (status = 404)
    )
)]
pub async fn change_member(
    State(app): State<App>,
    member: InWorkspace,
    path: Result<Path<(String, String)>, PathRejection>,
    RequestJson { body, .. }: RequestJson<RoleChange>,
) -> Result<Response, ApiError> {
    let role = role_of(body.role.as_deref())?.ok_or_else(|| ApiError::bad_request("role is required"))?;
    let id = member_id(path)?;
    let user = find_user(&app, &member, id).await?;
    let insider = member.insider;
    let change = |witness| ChangeRole { insider, target: Target { user, witness }, role };
    let done = with_witness(&app, &member, user, change).await?;
    let entry = find_member(app.pool(), app.keys(), id).await?;
    // Removed by somebody else in between.
    let entry = entry.ok_or_else(|| refused(WorkspaceRefusal::MemberNotFound))?;
    Ok((StatusCode::OK, effective(&done), Json(Member::from(entry))).into_response())
}

/// Remove a member
///
/// For owner and admin; owners are removed by owners alone. The last owner stays.
#[utoipa::path(
    delete,
    path = "/api/workspaces/{id}/members/{member_id}",
    params(("id" = Uuid, Path, description = "The workspace"), ("member_id" = Uuid, Path, description = "The member")),
    responses(
        (status = 204, description = "Nothing of theirs reaches into it any more", headers(("X-Log-Position"), ("X-Revocation"))),
        (status = 403), (status = 404)
    )
)]
pub async fn remove_member(
    State(app): State<App>,
    member: InWorkspace,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, ApiError> {
    let user = find_user(&app, &member, member_id(path)?).await?;
    let insider = member.insider;
    let remove = |witness| RemoveMember { insider, target: Target { user, witness } };
    let done = with_witness(&app, &member, user, remove).await?;
    Ok((StatusCode::NO_CONTENT, effective(&done)).into_response())
}

/// Leave a workspace
///
/// The last owner stays.
#[utoipa::path(
    post,
    path = "/api/workspaces/{id}/leave",
    params(("id" = Uuid, Path, description = "The workspace")),
    responses(
        (status = 204, description = "Left", headers(("X-Log-Position"), ("X-Revocation"))),
        (status = 403), (status = 404)
    )
)]
pub async fn leave_workspace(State(app): State<App>, member: InWorkspace) -> Result<Response, ApiError> {
    let insider = member.insider;
    let leave = |witness| LeaveWorkspace { insider, witness };
    let done = with_witness(&app, &member, insider.person.user, leave).await?;
    Ok((StatusCode::NO_CONTENT, effective(&done)).into_response())
}

/// To whoever has just come in: who they are there now.
pub async fn joined(app: &App, member: MemberId, position: Position) -> Result<Response, ApiError> {
    let entry = find_member(app.pool(), app.keys(), member).await?;
    // Removed by somebody else in between.
    let entry = entry.ok_or_else(|| refused(WorkspaceRefusal::MemberNotFound))?;
    Ok(([(LOG_POSITION, position.0)], Json(Member::from(entry))).into_response())
}

/// The role of whoever is to come in, for the OpenAPI document: nobody comes in as an owner.
pub(super) fn roles_of_newcomers() -> ObjectBuilder {
    let roles = [Role::Admin, Role::Member].map(|role| Some(role.as_str()));
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .enum_values(Some(roles.into_iter().chain([Some(""), None])))
        .description(Some("A member, when it is absent or empty."))
}

/// A role that was sent, or that none was.
fn role_of(text: Option<&str>) -> Result<Option<Role>, ApiError> {
    let parse = |text: &str| text.parse().map_err(|_| ApiError::bad_request("invalid member role"));
    text.filter(|text| !text.is_empty()).map(parse).transpose()
}

/// The role of whoever is to come in; `no_owner` says why it cannot be that one.
pub(super) fn role_of_newcomer(text: Option<&str>, no_owner: &'static str) -> Result<Role, ApiError> {
    match role_of(text)? {
        Some(Role::Owner) => Err(ApiError::bad_request(no_owner)),
        role => Ok(role.unwrap_or(Role::Member)),
    }
}

fn member_id(path: Result<Path<(String, String)>, PathRejection>) -> Result<MemberId, ApiError> {
    let id = path.ok().and_then(|Path((_, id))| id.parse().ok());
    id.ok_or_else(|| ApiError::bad_request("invalid member id"))
}

async fn find_user(app: &App, member: &InWorkspace, id: MemberId) -> Result<UserId, ApiError> {
    let user = user_of(app.pool(), member.membership.workspace, id).await?;
    user.ok_or_else(|| refused(WorkspaceRefusal::MemberNotFound))
}

/// Executes what may take the role of an owner from somebody: another owner is named to it, who must
/// still be one when it commits.
async fn with_witness<C: Command<Outcome = (), Refusal = WorkspaceRefusal>>(
    app: &App,
    member: &InWorkspace,
    user: UserId,
    command: impl Fn(Option<UserId>) -> C,
) -> Result<Done<()>, ApiError> {
    for _ in 0..WITNESSES_MAX {
        let witness = other_owner(app.pool(), member.membership.workspace, user).await?;
        match member.attempt(app, command(witness), member.caller.context).await? {
            Ok(done) => return Ok(done),
            Err(ExecuteError::Refused(WorkspaceRefusal::WitnessGone)) => {}
            Err(error) => return Err(failure(error, refused)),
        }
    }
    Err(refused(WorkspaceRefusal::WitnessGone))
}
