//! `/api/workspaces`: workspaces, and under each who is in it and how one comes in.

pub mod invitations;
pub mod members;
pub mod share_links;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tally_domain::{
    authorize,
    claim::Namespace,
    workspace::{
        ChangeWorkspace, CreateWorkspace, DeleteWorkspace, WorkspaceRefusal, fields::WorkspaceFields,
    },
};
use tally_events::{Position, WorkspaceId};
use tally_projections::workspaces::{
    ListWorkspaces, ReadWorkspace, WorkspaceEntry, list_workspaces as query_workspaces,
    read_workspace as query_workspace,
};
use tally_store::ExecuteError;
use utoipa::ToSchema;

use crate::{
    error::ApiError,
    execute::{CLAIM_ATTEMPTS_MAX, failure},
    freshness::{MinPosition, min_position},
    guard::Caller,
    idempotency::IdempotencyKey,
    in_workspace::{InWorkspace, person, refused},
    request_json::RequestJson,
    routes::{LOG_POSITION, effective},
    state::App,
};

/// A workspace, as the clients know one.
#[derive(Serialize, ToSchema)]
pub struct Workspace {
    #[schema(value_type = Uuid)]
    id: WorkspaceId,
    name: String,
    slug: String,
    description: Option<String>,
    context: Option<String>,
    #[schema(value_type = Object)]
    settings: Value,
    #[schema(value_type = Vec<Value>)]
    repos: Value,
    issue_prefix: String,
    avatar_url: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<WorkspaceEntry> for Workspace {
    fn from(entry: WorkspaceEntry) -> Self {
        // Written from JSON by this server.
        let document = |text: Option<String>, empty| {
            text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(empty)
        };
        Self {
            id: entry.id,
            name: entry.name,
            slug: entry.slug,
            description: entry.description,
            context: entry.context,
            settings: document(entry.settings, json!({})),
            repos: document(entry.repos, json!([])),
            issue_prefix: entry.issue_prefix,
            avatar_url: entry.avatar_url,
            created_at: entry.created_at,
            updated_at: entry.updated_at,
        }
    }
}

/// What to change. Absent and null fields stay as they are; an empty text clears one.
#[derive(Deserialize, ToSchema)]
pub struct WorkspaceChange {
    /// Not blank.
    #[schema(min_length = 1, max_length = 200, pattern = r"\S")]
    name: Option<String>,
    /// It never changes: the workspace's own is taken, and no other.
    slug: Option<String>,
    #[schema(max_length = 2000)]
    description: Option<String>,
    #[schema(max_length = 20_000)]
    context: Option<String>,
    /// An object of at most 64 KiB.
    #[schema(value_type = Option<Object>)]
    settings: Option<Value>,
    /// At most 64 KiB.
    #[schema(value_type = Option<Vec<Value>>)]
    repos: Option<Value>,
    #[schema(pattern = "^[A-Z0-9]{1,10}$")]
    issue_prefix: Option<String>,
    /// An http or https URL.
    #[schema(max_length = 2000, pattern = r"^(|https?://[^\x00-\x1f\x7f-\x9f]*)$")]
    avatar_url: Option<String>,
}

/// What is said of a new workspace.
#[derive(Deserialize, ToSchema)]
pub struct NewWorkspace {
    /// Not blank.
    #[schema(value_type = String, min_length = 1, max_length = 200, pattern = r"\S")]
    name: Option<String>,
    /// The name in URLs; it never changes.
    #[schema(value_type = String, pattern = "^[a-z0-9]+(-[a-z0-9]+)*$", max_length = 64)]
    slug: Option<String>,
    #[schema(max_length = 2000)]
    description: Option<String>,
    #[schema(max_length = 20_000)]
    context: Option<String>,
    /// An object of at most 64 KiB.
    #[schema(value_type = Option<Object>)]
    settings: Option<Value>,
    /// At most 64 KiB.
    #[schema(value_type = Option<Vec<Value>>)]
    repos: Option<Value>,
    /// Made of the first characters of the name when absent.
    #[schema(pattern = "^[A-Z0-9]{1,10}$")]
    issue_prefix: Option<String>,
    /// An http or https URL.
    #[schema(max_length = 2000, pattern = r"^(|https?://[^\x00-\x1f\x7f-\x9f]*)$")]
    avatar_url: Option<String>,
}

impl From<NewWorkspace> for WorkspaceChange {
    fn from(new: NewWorkspace) -> Self {
        let NewWorkspace { name, slug, description, context, settings, repos, issue_prefix, avatar_url } =
            new;
        Self { name, slug, description, context, settings, repos, issue_prefix, avatar_url }
    }
}

impl WorkspaceChange {
    /// The slug, and everything else.
    fn split(self) -> (Option<String>, WorkspaceFields) {
        let text = |value: Value| value.to_string();
        let fields = WorkspaceFields {
            name: self.name,
            description: self.description,
            context: self.context,
            settings: self.settings.map(text),
            repos: self.repos.map(text),
            issue_prefix: self.issue_prefix,
            avatar_url: self.avatar_url,
        };
        (self.slug, fields)
    }
}

/// List the workspaces one is in
#[utoipa::path(
    get,
    path = "/api/workspaces",
    params(MinPosition),
    responses(
        (status = 200, description = "The workspaces", body = Vec<Workspace>, headers(("X-Log-Position")))
    )
)]
pub async fn list_workspaces(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let query = authorize(caller.principal, ListWorkspaces)?;
    let head = inline_head(&app, &headers).await?;
    let entries = query_workspaces(app.pool(), app.keys(), &query).await?;
    let workspaces: Vec<Workspace> = entries.into_iter().map(Workspace::from).collect();
    Ok(([(LOG_POSITION, head.0)], Json(workspaces)).into_response())
}

/// Create a workspace
///
/// Whoever creates it is its owner.
#[utoipa::path(
    post,
    path = "/api/workspaces",
    params(IdempotencyKey),
    request_body = NewWorkspace,
    responses(
        (status = 201, description = "Created", body = Workspace, headers(("X-Log-Position"))),
        (status = 403)
    )
)]
pub async fn create_workspace(
    State(app): State<App>,
    caller: Caller,
    key: IdempotencyKey,
    RequestJson { body, fingerprint }: RequestJson<NewWorkspace>,
) -> Result<Response, ApiError> {
    if app.settings.workspace_creation_disabled {
        return Err(ApiError::forbidden("workspace creation is disabled for this instance"));
    }
    let person = person(&caller)?;
    let (slug, fields) = WorkspaceChange::from(body).split();
    let (slug, fields) =
        fields.of_new(slug.as_deref()).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let workspace = WorkspaceId::new();
    let context = key.bind(&caller, fingerprint, workspace);
    // A slug whose holder is over passes; whoever loses the race for it finds the winner there.
    for _ in 0..CLAIM_ATTEMPTS_MAX {
        let holder = app.store.holder(Namespace::WorkspaceSlug, slug.as_str()).await?.map(WorkspaceId);
        let command =
            CreateWorkspace { person, workspace, slug: slug.clone(), fields: fields.clone(), holder };
        let command = authorize(caller.principal, command)?;
        match app.replica.execute(&command, context).await {
            Ok(done) => {
                let member = InWorkspace::of(&app, caller, workspace).await?;
                return show(&app, &member, StatusCode::CREATED, done.executed.position).await;
            }
            Err(ExecuteError::ClaimTaken(_)) => {}
            Err(error) => return Err(failure(error, refused)),
        }
    }
    Err(refused(WorkspaceRefusal::SlugTaken))
}

/// Read a workspace
#[utoipa::path(
    get,
    path = "/api/workspaces/{id}",
    params(("id" = Uuid, Path, description = "The workspace"), MinPosition),
    responses(
        (status = 200, description = "The workspace", body = Workspace, headers(("X-Log-Position"))),
        (status = 403), (status = 404)
    )
)]
pub async fn read_workspace(
    State(app): State<App>,
    member: InWorkspace,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let head = inline_head(&app, &headers).await?;
    show(&app, &member, StatusCode::OK, head).await
}

/// Change what is said of a workspace
///
/// For owner and admin.
#[utoipa::path(
    patch,
    path = "/api/workspaces/{id}",
    params(("id" = Uuid, Path, description = "The workspace")),
    request_body = WorkspaceChange,
    responses(
        (status = 200, description = "Changed", body = Workspace, headers(("X-Log-Position"))),
        (status = 403), (status = 404)
    )
)]
pub async fn change_workspace(
    State(app): State<App>,
    member: InWorkspace,
    RequestJson { body, .. }: RequestJson<WorkspaceChange>,
) -> Result<Response, ApiError> {
    change(&app, &member, body).await
}

/// Change what is said of a workspace
///
/// The same as `PATCH`: what is not sent stays.
#[utoipa::path(
    put,
    path = "/api/workspaces/{id}",
    params(("id" = Uuid, Path, description = "The workspace")),
    request_body = WorkspaceChange,
    responses(
        (status = 200, description = "Changed", body = Workspace, headers(("X-Log-Position"))),
        (status = 403), (status = 404)
    )
)]
pub async fn replace_workspace(
    State(app): State<App>,
    member: InWorkspace,
    RequestJson { body, .. }: RequestJson<WorkspaceChange>,
) -> Result<Response, ApiError> {
    change(&app, &member, body).await
}

async fn change(app: &App, member: &InWorkspace, body: WorkspaceChange) -> Result<Response, ApiError> {
    let (slug, fields) = body.split();
    let fields = fields.validated().map_err(|error| ApiError::bad_request(error.to_string()))?;
    if let Some(slug) = slug {
        let current = query_workspace(app.pool(), app.keys(), &member.may(ReadWorkspace)?).await?;
        // A client may send back all it was shown.
        if current.is_some_and(|current| current.slug != slug) {
            return Err(ApiError::bad_request("slug cannot be changed"));
        }
    }
    let done = member.execute(app, ChangeWorkspace { insider: member.insider, fields }).await?;
    show(app, member, StatusCode::OK, done.executed.position).await
}

/// Delete a workspace
///
/// For the owner.
#[utoipa::path(
    delete,
    path = "/api/workspaces/{id}",
    params(("id" = Uuid, Path, description = "The workspace")),
    responses(
        (status = 204, description = "Nothing reaches into it any more", headers(("X-Log-Position"), ("X-Revocation"))),
        (status = 403), (status = 404)
    )
)]
pub async fn delete_workspace(State(app): State<App>, member: InWorkspace) -> Result<Response, ApiError> {
    let done = member.execute(&app, DeleteWorkspace { insider: member.insider }).await?;
    Ok((StatusCode::NO_CONTENT, effective(&done)).into_response())
}

async fn show(
    app: &App,
    member: &InWorkspace,
    status: StatusCode,
    position: Position,
) -> Result<Response, ApiError> {
    let entry = query_workspace(app.pool(), app.keys(), &member.may(ReadWorkspace)?).await?;
    let entry = entry.ok_or_else(|| refused(WorkspaceRefusal::NotFound))?;
    Ok((status, [(LOG_POSITION, position.0)], Json(Workspace::from(entry))).into_response())
}

/// The head, for what is read from inline tables: whatever position the client has seen is there.
pub async fn inline_head(app: &App, headers: &HeaderMap) -> Result<Position, ApiError> {
    let head = tally_store::head(app.pool()).await?.position;
    min_position(headers, head)?;
    Ok(head)
}
