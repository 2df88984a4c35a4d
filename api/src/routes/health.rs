//! `/health`, `/readyz` and `/healthz`: is it up, and may it be sent requests?

use std::{collections::BTreeMap, time::Duration};

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use sqlx::Connection;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::state::App;

const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
const OK: &str = "ok";

#[derive(Serialize, ToSchema)]
pub struct Health {
    status: &'static str,
}

/// Is the process up?
///
/// Says nothing about what it depends on.
#[utoipa::path(
    get,
    path = "/health",
    security(()),
    responses((status = 200, description = "It is", body = Health))
)]
pub async fn health() -> Json<Health> {
    Json(Health { status: OK })
}

#[derive(Serialize, ToSchema)]
pub struct Readiness {
    /// `ok` or `unavailable`.
    status: &'static str,
    /// What was looked at, and how it is: `ok`, or a word about what is wrong.
    checks: BTreeMap<&'static str, String>,
}

/// What was looked at, and how it is.
struct Check {
    name: &'static str,
    state: String,
    /// Whether a replica without it should get no requests. A list that halted or a lease that
    /// lapsed leaves every answer right, so those are only told.
    required: bool,
}

impl Check {
    fn required(name: &'static str, state: impl Into<String>) -> Self {
        Self { name, state: state.into(), required: true }
    }

    fn told(name: &'static str, state: impl Into<String>) -> Self {
        Self { name, state: state.into(), required: false }
    }
}

/// May it be sent requests?
///
/// 200 when every required check is `ok`, else 503, naming the check.
#[utoipa::path(
    get,
    path = "/readyz",
    security(()),
    responses(
        (status = 200, description = "It may", body = Readiness),
        (status = 503, description = "It may not", body = Readiness)
    )
)]
pub async fn readyz(State(app): State<App>) -> (StatusCode, Json<Readiness>) {
    let checks = timeout(CHECK_TIMEOUT, check(&app))
        .await
        .unwrap_or_else(|_| vec![Check::required("db", "did not answer in time")]);
    let ready = checks.iter().all(|check| !check.required || check.state == OK);
    let (status, word) =
        if ready { (StatusCode::OK, OK) } else { (StatusCode::SERVICE_UNAVAILABLE, "unavailable") };
    let checks = checks.into_iter().map(|check| (check.name, check.state)).collect();
    (status, Json(Readiness { status: word, checks }))
}

/// The same as `/readyz`
#[utoipa::path(
    get,
    path = "/healthz",
    security(()),
    responses(
        (status = 200, description = "It may be sent requests", body = Readiness),
        (status = 503, description = "It may not", body = Readiness)
    )
)]
pub async fn healthz(app: State<App>) -> (StatusCode, Json<Readiness>) {
    readyz(app).await
}

async fn check(app: &App) -> Vec<Check> {
    let unreachable = || vec![Check::required("db", "unreachable")];
    let Ok(mut connection) = app.pool().acquire().await else { return unreachable() };
    // The pool takes a connection that was in use a moment ago for alive.
    if connection.ping().await.is_err() {
        return unreachable();
    }
    let migrations = match tally_store::pending_migrations(&mut connection).await {
        Ok(0) => OK.to_owned(),
        Ok(pending) => format!("{pending} pending"),
        Err(_) => "unreadable".to_owned(),
    };
    drop(connection);
    let projections = match tally_projections::status::status(app.pool()).await {
        Ok(all) => {
            let halted: Vec<String> =
                all.into_iter().filter(|status| status.halted.is_some()).map(|status| status.name).collect();
            if halted.is_empty() { OK.to_owned() } else { format!("halted: {}", halted.join(", ")) }
        }
        Err(_) => "unreadable".to_owned(),
    };
    let lease = if app.replica.status().lease_valid { OK } else { "none" };
    vec![
        Check::required("db", OK),
        Check::required("migrations", migrations),
        Check::told("projections", projections),
        Check::told("lease", lease),
    ]
}
