//! kill -9, of whatever runs, under load.

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tally_tests::eventually;
use tokio::time::sleep;

use super::{
    judge::{assert_whole, judge},
    load::{acted, people, under_load},
    report::Report,
    rounds, seed,
    site::Site,
};

#[derive(Clone, Copy, PartialEq)]
enum Victim {
    Server,
    Postmaster,
    /// One process of PostgreSQL that serves a connection: the postmaster then ends all others too.
    Backend,
    Both,
}

async fn kill_under_load(fault: &'static str, mut site: Site, victim: Victim) {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut report = Report::new(fault);
    let mut people = people(&site.door(), seed);
    // What is revoked before the kill must be so after it: somebody has to have done so.
    while people.iter().all(|person| person.told.revoked.is_empty()) {
        (people, ()) = under_load(people, async |acts| acted(acts, 20).await).await;
    }
    for _ in 0..rounds() {
        let (acts_before, instant) =
            (rng.random_range(60..200), Duration::from_micros(rng.random_range(0..30_000)));
        let recovery;
        (people, recovery) = under_load(people, async |acts| {
            acted(acts, acts_before).await;
            // Whatever the committer is at by then.
            sleep(instant).await;
            match victim {
                Victim::Server => site.kill_server(),
                Victim::Postmaster => site.kill_postmaster().await,
                Victim::Backend => kill_a_backend(&site).await,
                Victim::Both => site.kill_both().await,
            }
            let killed = Instant::now();
            // Everybody meets what is left.
            acted(acts, 30).await;
            site.start_again().await;
            site.back().await;
            let recovery = killed.elapsed();
            acted(acts, 40).await;
            recovery
        })
        .await;
        people = judge(&site, people, &mut report).await;
        report.round(recovery);
    }
    assert_whole(&site, &people).await;
    report.conclude();
}

/// Kills the process that serves the committer.
async fn kill_a_backend(site: &Site) {
    let mut connection = site.connect().await;
    let process = eventually("the committer to be at work", async || {
        let found: Option<i32> = sqlx::query_scalar(
            "select pid from pg_stat_activity
              where application_name = 'tally' and (query in ('commit', 'begin') or query like 'update log_head%')
              order by query_start desc limit 1",
        )
        .fetch_optional(&mut connection)
        .await
        .expect("the database answers");
        found
    })
    .await;
    drop(connection);
    let process = rustix::process::Pid::from_raw(process).expect("an id");
    rustix::process::kill_process(process, rustix::process::Signal::KILL).expect("it runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_its_own_database() {
    kill_under_load("kill -9 of the server, embedded database", Site::embedded().await, Victim::Server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_postmaster_of_a_servers_own_database() {
    let site = Site::embedded().await;
    kill_under_load("kill -9 of the embedded postmaster", site, Victim::Postmaster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_together_with_its_own_database() {
    let site = Site::embedded().await;
    kill_under_load("kill -9 of server and embedded postmaster together", site, Victim::Both).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_beside_its_database() {
    let site = Site::external().await;
    kill_under_load("kill -9 of the server, external database", site, Victim::Server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_postmaster_beside_a_server() {
    let site = Site::external().await;
    kill_under_load("kill -9 of an external postmaster", site, Victim::Postmaster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backend_of_the_committer() {
    let site = Site::external().await;
    kill_under_load("kill -9 of the backend that serves the committer", site, Victim::Backend).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_together_with_the_postmaster_beside_it() {
    let site = Site::external().await;
    kill_under_load("kill -9 of server and external postmaster together", site, Victim::Both).await;
}
