//! `tally replicas`: who answers from memory, and how far each has come.

use std::time::Duration;

use comfy_table::{Table, presets};
use serde_json::json;
use tally_fanout::{Registered, registered};

use super::{Failure, session::Session};

pub async fn run(json: bool) -> Result<(), Failure> {
    let session = Session::open().await?;
    let outcome = registered(&session.pool).await.map_err(Failure::Database);
    let lease = session.config.lease;
    let replicas = session.close(outcome).await?;
    if json {
        let documents: Vec<_> = replicas.iter().map(|replica| document(replica, lease)).collect();
        println!("{}", json!({ "replicas": documents }));
    } else if replicas.is_empty() {
        eprintln!("No replica is on the list: every verification asks the database.");
    } else {
        println!("{}", table(&replicas, lease));
    }
    Ok(())
}

/// What a replica is doing, as far as the list tells. Which of them a revocation waits for, is all of
/// them.
const fn state(replica: &Registered, lease: Duration) -> &'static str {
    if replica.leaving {
        "leaving"
    } else if replica.silent.as_nanos() < lease.as_nanos() {
        "leased"
    } else {
        "silent"
    }
}

fn document(replica: &Registered, lease: Duration) -> serde_json::Value {
    json!({
        "id": replica.id,
        "state": state(replica, lease),
        "registered_at": replica.registered_at,
        "renewed_ms_ago": u64::try_from(replica.silent.as_millis()).unwrap_or(u64::MAX),
        "applied": replica.applied,
        "lag": replica.lag,
    })
}

fn table(replicas: &[Registered], lease: Duration) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["ID", "STATE", "RENEWED", "APPLIED", "LAG", "SINCE"]);
    for replica in replicas {
        table.add_row([
            replica.id.to_string(),
            state(replica, lease).to_owned(),
            format!("{} ms ago", replica.silent.as_millis()),
            replica.applied.to_string(),
            replica.lag.to_string(),
            replica.registered_at.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        ]);
    }
    table
}
