//! A stranger in the database holds a lock that the server needs, and keeps it.

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::time::sleep;

use super::{
    SLACK,
    judge::{assert_whole, judge},
    load::{acted, people, under_load},
    long,
    pause::assert_no_pile,
    report::Report,
    seed,
    site::Site,
    slow_rounds,
};

/// What a command may wait for in turn: a connection (3 s) or its credential's lookup (2 s), a lock
/// when it reads (3 s), and the commit before its own and then its own (3 s each at the head's lock).
const COMMAND_DEADLINE: Duration = Duration::from_secs(12);

async fn lock_under_load(fault: &'static str, lock: &'static str) {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut site = Site::external().await;
    let mut report = Report::new(fault);
    let mut people = people(&site.door(), seed);
    for _ in 0..slow_rounds() {
        let held_for = Duration::from_secs(if long() { rng.random_range(4..13) } else { 4 });
        let before = rng.random_range(60..200);
        let recovery;
        (people, recovery) = under_load(people, async |acts| {
            acted(acts, before).await;
            let held_before = site.held();
            let mut most = held_before;
            let stranger = hold(&site, lock).await;
            let since = Instant::now();
            while since.elapsed() < held_for {
                sleep(Duration::from_millis(100)).await;
                most = most.most(site.held());
                let health = site.client().get("/health").timeout(SLACK).send().await;
                assert_eq!(health.expect("the server is up").status(), 200);
            }
            stranger.close().await.expect("the database answers");
            let recovery = site.back().await;
            assert_no_pile(held_before, most);
            acted(acts, 100).await;
            recovery
        })
        .await;
        people = judge(&site, people, &mut report).await;
        report.round(recovery);
    }
    let slowest = people.iter().map(|person| person.told.slowest).max().expect("people");
    assert!(slowest < COMMAND_DEADLINE, "somebody waited {slowest:?}");
    assert_whole(&site, &people).await;
    report.conclude_felt();
}

/// A transaction that holds the lock until its connection closes.
async fn hold(site: &Site, lock: &str) -> PgConnection {
    let mut stranger = site.connect().await;
    stranger.execute("begin").await.expect("the database answers");
    stranger.execute(AssertSqlSafe(lock)).await.expect("the lock");
    stranger
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_row_that_commits_take_turns_on() {
    lock_under_load("a stranger's row lock on log_head", "select from log_head for update").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_that_leases_are_read_from() {
    lock_under_load(
        "a stranger's lock table log_head in access exclusive mode",
        "lock table log_head in access exclusive mode",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_of_events() {
    lock_under_load(
        "a stranger's lock table event in access exclusive mode",
        "lock table event in access exclusive mode",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_of_credentials() {
    lock_under_load(
        "a stranger's lock table credentials in access exclusive mode",
        "lock table credentials in access exclusive mode",
    )
    .await;
}
