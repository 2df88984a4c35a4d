//! On what it was measured.

use std::fs;

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tally_store::Clock;

use crate::Result;

/// Above this, somebody else is using the machine.
const LOAD_MAX: f64 = 0.5;

/// One line: when, cores, memory, kernel, PostgreSQL, load, build.
pub async fn describe(database: &PgConnectOptions, load: f64) -> Result<String> {
    let mut connection = PgConnection::connect_with(database).await?;
    let postgres: String = sqlx::query_scalar("show server_version").fetch_one(&mut connection).await?;
    let buffers: String = sqlx::query_scalar("show shared_buffers").fetch_one(&mut connection).await?;
    connection.close().await?;
    let cores = std::thread::available_parallelism()?;
    let build =
        if cfg!(debug_assertions) { "DEBUG BUILD, its figures mean nothing" } else { "release build" };
    Ok(format!(
        "{date}, {cores} cores ({model}), {memory:.0} GiB, Linux {kernel}, PostgreSQL {postgres} (shared_buffers {buffers}, fsync on), load average before start {load:.2}, {build}",
        date = Clock::default().now().format("%Y-%m-%d %H:%M UTC"),
        model = model().unwrap_or_else(|| "unknown processor".to_owned()),
        memory = memory_gibibytes().unwrap_or_default(),
        kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
    ))
}

/// The load average of the last minute. To be read before anything is started.
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or_default()
}

/// Says loudly what would make the figures worthless.
pub fn warn(load: f64) {
    if load > LOAD_MAX {
        eprintln!(
            "\n*** THE MACHINE IS BUSY: load average {load:.2}. Ratios may still mean something, absolute figures do not. ***\n"
        );
    }
    if cfg!(debug_assertions) {
        eprintln!("\n*** THIS IS A DEBUG BUILD: its figures mean nothing. Use `make bench`. ***\n");
    }
}

fn model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory_gibibytes() -> Option<f64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kibibytes / 1024.0 / 1024.0)
}
