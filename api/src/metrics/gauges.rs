//! How things are when a scraper asks. Nothing here is kept up to date while nobody does.

use std::fs;

use metrics::{describe_gauge, gauge};
use rustix::process::{Resource, getrlimit};
use tally_store::Clock;
use tokio::time::Instant;

use crate::state::App;

const BUILD_INFO: &str = "tally_build_info";
const LEASE_VALID: &str = "tally_lease_valid";
const LEASE_AGE: &str = "tally_lease_age_seconds";
const HEAD: &str = "tally_head_position";
const APPLIED: &str = "tally_applied_position";
const APPLIED_LAG: &str = "tally_applied_lag_events";
const BUS_CONNECTED: &str = "tally_bus_connected";
const CACHED: &str = "tally_cached_verdicts";
const CACHED_BYTES: &str = "tally_cached_bytes";
const PROJECTION: &str = "tally_projection_position";
const PROJECTION_LAG: &str = "tally_projection_lag_events";
const CONNECTIONS: &str = "tally_database_connections";
const CONNECTIONS_MAX: &str = "tally_database_connections_max";
const SOCKETS: &str = "tally_web_sockets_open";
const MAILS: &str = "tally_mails_under_way";
const MEMORY: &str = "process_resident_memory_bytes";
const FILES: &str = "process_open_fds";
const FILES_MAX: &str = "process_max_fds";
const STARTED: &str = "process_start_time_seconds";

/// Every gauge, in words.
const HELP: [(&str, &str); 19] = [
    (BUILD_INFO, "1, with the version of this server."),
    (LEASE_VALID, "1 while this replica may answer from memory, else 0."),
    (LEASE_AGE, "Time since the renewal was sent that the lease counts from; NaN without a lease."),
    (HEAD, "Where the log ended when the lease was last renewed."),
    (APPLIED, "How far this replica has applied the log."),
    (APPLIED_LAG, "Events up to that head which this replica has not applied."),
    (BUS_CONNECTED, "1 while NATS is connected, else 0; absent without NATS_URL."),
    (CACHED, "Verdicts in memory, those that no longer hold among them."),
    (CACHED_BYTES, "Memory that they take."),
    (PROJECTION, "How far a projection that follows the log has come."),
    (PROJECTION_LAG, "Events of the log that it has not folded."),
    (CONNECTIONS, "Connections to the database, in use and idle."),
    (CONNECTIONS_MAX, "The most there may be."),
    (SOCKETS, "WebSockets that are open."),
    (MAILS, "Mails that are neither handed over nor given up."),
    (MEMORY, "Memory of the process that is in RAM."),
    (FILES, "Files and connections that the process has open."),
    (FILES_MAX, "The most it may have open."),
    (STARTED, "When the process started, in seconds since 1970."),
];

pub(super) fn register(version: &'static str) {
    for (name, help) in HELP {
        describe_gauge!(name, help);
    }
    gauge!(BUILD_INFO, "version" => version).set(1);
}

/// Tells when the process began to count, by the clock of the log.
pub(super) fn set_start(clock: &Clock, installed: Instant) {
    let since_1970 = number(clock.now().timestamp_millis()) / 1e3;
    gauge!(STARTED).set(since_1970 - installed.elapsed().as_secs_f64());
}

/// Sets everything that is read at the moment of a scrape.
pub(super) fn set(app: &App) {
    set_replica(app);
    set_database(app);
    gauge!(SOCKETS).set(count(app.sockets.taken()));
    gauge!(MAILS).set(count(app.mailer.under_way()));
    set_process();
}

fn set_replica(app: &App) {
    let status = app.replica.status();
    gauge!(LEASE_VALID).set(u32::from(status.lease_valid));
    gauge!(LEASE_AGE).set(app.replica.lease_age().map_or(f64::NAN, |age| age.as_secs_f64()));
    gauge!(HEAD).set(number(status.head.0));
    gauge!(APPLIED).set(number(status.applied.0));
    gauge!(APPLIED_LAG).set(number((status.head.0 - status.applied.0).max(0)));
    if let Some(connected) = status.bus_connected {
        gauge!(BUS_CONNECTED).set(u32::from(connected));
    }
    gauge!(CACHED).set(count(status.cached));
    gauge!(CACHED_BYTES).set(count(status.cached_bytes));
    // What was applied since the renewal is in the log as well.
    let head = status.head.max(status.applied);
    for (projection, position) in app.freshness.checkpoints() {
        gauge!(PROJECTION, "projection" => projection).set(number(position.0));
        let lag = (head.0 - position.0).max(0);
        gauge!(PROJECTION_LAG, "projection" => projection).set(number(lag));
    }
}

fn set_database(app: &App) {
    let pool = app.pool();
    let (all, idle) = (pool.size(), pool.num_idle());
    gauge!(CONNECTIONS, "state" => "idle").set(count(idle));
    gauge!(CONNECTIONS, "state" => "in_use").set(count((all as usize).saturating_sub(idle)));
    gauge!(CONNECTIONS_MAX).set(pool.options().get_max_connections());
}

/// What the system says of this process. Where it says nothing the gauge is absent.
fn set_process() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    if let Some(kibibytes) = resident.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok()) {
        gauge!(MEMORY).set(number(kibibytes) * 1024.0);
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        // One of them is the directory itself.
        gauge!(FILES).set(count(files.count().saturating_sub(1)));
    }
    if let Some(files) = getrlimit(Resource::Nofile).current.and_then(|files| i64::try_from(files).ok()) {
        gauge!(FILES_MAX).set(number(files));
    }
}

fn count(things: usize) -> f64 {
    number(i64::try_from(things).unwrap_or(i64::MAX))
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and exact up to 2^53")]
const fn number(number: i64) -> f64 {
    number as f64
}
