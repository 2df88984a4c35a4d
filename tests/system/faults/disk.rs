//! The disk is full, and later it is not.
//!
//! A file system of its own is filled: on a loop device, or in memory where root has none. Another
//! user has neither, so the test runs itself again in a user namespace, in which it may mount. Where
//! that is forbidden too, the test fails and says so; `TALLY_FAULT_NO_VOLUME=1` lets it pass unproven.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use sqlx::Executor;
use tally_tests::{Scratch, TempPostgres, eventually};
use tokio::time::sleep;
use uuid::Uuid;

use super::{
    REQUEST_TIMEOUT, SLACK, given,
    judge::{assert_whole, judge},
    load::{acted, people, under_load},
    report::Report,
    seed,
    site::Site,
    slow_rounds,
};

/// Room for a new cluster (40 MB), its write-ahead log as far as it grows by default (80 MB and more
/// under load), and the events of many rounds.
const VOLUME_BYTES: u64 = 400 << 20;
/// How long it stays full after somebody has noticed: a batch is tried for 3 s.
const FULL: Duration = Duration::from_secs(4);
/// Set where the test runs itself in a namespace of its own.
const INSIDE: &str = "TALLY_FAULT_INSIDE_NAMESPACE";
const WITHOUT: &str = "TALLY_FAULT_NO_VOLUME";

/// A volume, or nothing when the test's work was done elsewhere, or was allowed to be left out.
fn volume(test: &str) -> Option<Scratch> {
    let refused = match Scratch::with_volume(VOLUME_BYTES) {
        Ok(scratch) => return Some(scratch),
        Err(refused) => refused,
    };
    let refused = if given(INSIDE).is_some() || rustix::process::geteuid().is_root() {
        refused
    } else {
        match inside_namespace(test) {
            Ok(()) => return None,
            Err(other) => format!("{refused}; in a user namespace: {other}"),
        }
    };
    assert!(
        given(WITHOUT).is_some(),
        "a full disk cannot be tested here, for nothing can be mounted ({refused}). Run it as root, or where user \
         namespaces are allowed, or set {WITHOUT}=1 to go without"
    );
    println!("NOT TESTED: a full disk, for nothing can be mounted here ({refused})");
    None
}

/// Runs one test of this binary in a user namespace, where this user may mount.
fn inside_namespace(test: &str) -> Result<(), String> {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-current-user", "--keep-caps", "--mount"]).arg(program);
    let test = format!("faults::disk::{test}");
    command.args([test.as_str(), "--exact", "--nocapture"]).env(INSIDE, "1");
    let output = command.output().map_err(|error| error.to_string())?;
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{text}");
    if output.status.success() && text.contains("1 passed") { Ok(()) } else { Err(text) }
}

/// What takes the room that others need.
struct Ballast(PathBuf);

impl Ballast {
    /// Fills the volume up to the last block but for `left` bytes.
    fn fill(volume: &Path, left: u64) -> Self {
        let free = rustix::fs::statvfs(volume).map(|of| of.f_bavail * of.f_frsize).expect("a volume");
        let ballast = Self(volume.join("ballast"));
        let file = File::create(&ballast.0).expect("room for a name");
        let mut size = free.saturating_sub(left);
        // What the file system needs for itself is not told; and others write meanwhile.
        while rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size.max(1)).is_err() {
            size = size.saturating_sub(64 << 10);
        }
        println!("{} KiB of {} KiB taken", size >> 10, free >> 10);
        ballast
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        fs::remove_file(&self.0).expect("our own file");
    }
}

async fn fill_under_load(fault: &'static str, volume: PathBuf, mut site: Site, write_ahead_log: bool) {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut report = Report::new(fault);
    let mut people = people(&site.door(), seed);
    let process = site.server.process().id();
    for _ in 0..slow_rounds() {
        let before = rng.random_range(60..150);
        // The load itself takes the last of it, now here, now there.
        let left = rng.random_range(0..64) << 10;
        let recovery;
        (people, recovery) = under_load(people, async |acts| {
            acted(acts, before).await;
            let ballast = Ballast::fill(&volume, left);
            if write_ahead_log {
                use_up_write_ahead_log(&site).await;
            }
            eventually("a command to meet the full disk", async || {
                (try_command(&site).await == Some(503)).then_some(())
            })
            .await;
            let since = Instant::now();
            while since.elapsed() < FULL {
                if write_ahead_log {
                    use_up_write_ahead_log(&site).await;
                }
                sleep(Duration::from_millis(100)).await;
                assert!(site.server.process().is_running(), "a full disk ends no server");
                let health = site.client().get("/health").timeout(SLACK).send().await;
                assert_eq!(health.expect("the server is up").status(), 200);
            }
            drop(ballast);
            let room = Instant::now();
            // The server looks after its own database. One beside it may have ended for good, when its
            // recovery found no room either; its operator, or what he has for it, starts it again.
            site.start_again().await;
            site.back().await;
            let recovery = room.elapsed();
            acted(acts, 100).await;
            recovery
        })
        .await;
        assert_eq!(site.server.process().id(), process, "it is the same process all the time");
        people = judge(&site, people, &mut report).await;
        report.round(recovery);
    }
    assert_whole(&site, &people).await;
    report.conclude_felt();
}

/// Begins a new file of the write-ahead log, for which there is no room. PostgreSQL then ends all
/// its processes and recovers.
async fn use_up_write_ahead_log(site: &Site) {
    let Ok(mut connection) = <sqlx::PgConnection as sqlx::Connection>::connect_with(site.options()).await
    else {
        return;
    };
    // It may well end with the database.
    drop(connection.execute("select pg_switch_wal() from pg_create_restore_point('full')").await);
}

/// The status of a command that writes, if an answer came.
async fn try_command(site: &Site) -> Option<u16> {
    let body = json!({ "email": format!("full-{}@example.org", Uuid::now_v7().simple()) });
    let answer = site.client().post("/auth/send-code", &body).timeout(REQUEST_TIMEOUT + SLACK).send().await;
    Some(answer.ok()?.status().as_u16())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_the_tables_of_a_servers_own_database() {
    let Some(scratch) = volume("under_the_tables_of_a_servers_own_database") else { return };
    let volume = scratch.volume().expect("a volume");
    let site = Site::embedded_in(scratch).await;
    fill_under_load("a full disk under the data directory", volume, site, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_the_write_ahead_log_of_a_servers_own_database() {
    let Some(scratch) = volume("under_the_write_ahead_log_of_a_servers_own_database") else { return };
    let volume = scratch.volume().expect("a volume");
    let site = Site::embedded_in(scratch).await;
    fill_under_load("a full disk under the data directory, also for the write-ahead log", volume, site, true)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_database_beside_the_server() {
    let Some(scratch) = volume("under_a_database_beside_the_server") else { return };
    let volume = scratch.volume().expect("a volume");
    let site = Site::beside(TempPostgres::start_in(scratch, &[]).await, &[]).await;
    fill_under_load("a full disk under an external database", volume, site, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_the_write_ahead_log_of_a_database_beside_the_server() {
    let Some(scratch) = volume("under_the_write_ahead_log_of_a_database_beside_the_server") else { return };
    let volume = scratch.volume().expect("a volume");
    let site = Site::beside(TempPostgres::start_in(scratch, &[]).await, &[]).await;
    fill_under_load(
        "a full disk under an external database, also for its write-ahead log",
        volume,
        site,
        true,
    )
    .await;
}
