//! `/health`, `/readyz` and `/healthz`: is it up, and may it be sent requests?

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use serde_json::{Map, Value, json};
use sqlx::Connection;
use tokio::time::timeout;

use crate::state::App;

const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
const OK: &str = "ok";

/// The process is up. Says nothing about what it depends on.
pub async fn health() -> Json<Value> {
    Json(json!({ "status": OK }))
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

/// 200 when every required check is `ok`, else 503, naming the check.
pub async fn readyz(State(app): State<App>) -> (StatusCode, Json<Value>) {
    let checks = timeout(CHECK_TIMEOUT, check(&app))
        .await
        .unwrap_or_else(|_| vec![Check::required("db", "did not answer in time")]);
    let ready = checks.iter().all(|check| !check.required || check.state == OK);
    let (status, word) =
        if ready { (StatusCode::OK, OK) } else { (StatusCode::SERVICE_UNAVAILABLE, "unavailable") };
    let checks: Map<String, Value> =
        checks.into_iter().map(|check| (check.name.to_owned(), Value::String(check.state))).collect();
    (status, Json(json!({ "status": word, "checks": checks })))
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
