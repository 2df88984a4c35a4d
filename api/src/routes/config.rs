//! `GET /api/config`: what a client must know before anybody has logged in.

use axum::{Json, extract::State};
use serde::Serialize;
use tally_domain::signup::SignupMode;
use utoipa::ToSchema;

use crate::state::App;

#[derive(Serialize, ToSchema)]
pub struct Config {
    cdn_domain: &'static str,
    allow_signup: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    google_client_id: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    workspace_creation_disabled: bool,
    // This server sends nothing to anybody's analytics; the clients expect the fields.
    posthog_key: &'static str,
    posthog_host: &'static str,
    analytics_environment: &'static str,
    local_worktree_supported: bool,
    server_version: &'static str,
}

/// Read what a client must know before anybody has logged in
#[utoipa::path(
    get,
    path = "/api/config",
    security(()),
    responses((status = 200, description = "The configuration", body = Config))
)]
pub async fn read_config(State(app): State<App>) -> Json<Config> {
    let settings = &app.settings;
    Json(Config {
        cdn_domain: "",
        allow_signup: settings.signup.mode == SignupMode::Open,
        google_client_id: settings.google_client_id.clone(),
        workspace_creation_disabled: settings.workspace_creation_disabled,
        posthog_key: "",
        posthog_host: "",
        analytics_environment: "",
        local_worktree_supported: false,
        server_version: settings.server_version,
    })
}
