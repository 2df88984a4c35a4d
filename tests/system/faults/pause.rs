//! The whole database stops where it stands (SIGSTOP), and goes on later: a hang, which no error
//! tells of.

use std::time::{Duration, Instant};

use futures::future::join_all;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use tally_tests::Client;
use tokio::time::sleep;

use super::{
    REQUEST_TIMEOUT, SLACK,
    judge::{assert_whole, judge},
    load::{acted, people, under_load},
    long,
    report::Report,
    seed,
    site::{Held, Site},
    slow_rounds,
};

/// Δ: how long a replica may answer from memory after it last heard of the database.
const LEASE: Duration = Duration::from_secs(1);
/// How long a verification waits for the database.
const VERIFY_DEADLINE: Duration = Duration::from_secs(2);
/// Requests that come while it hangs, whether or not earlier ones were answered: for three seconds.
const ARRIVALS: u64 = 200;
const BETWEEN_ARRIVALS: Duration = Duration::from_millis(15);
/// Long enough for the last of them to be told that there was no answer.
const HANG_SECONDS: u64 = 7;
/// What the server may need for them beside what it had: far less than 200 times a connection's buffers
/// and a task, if anything of theirs stayed.
const GROWTH_KIB_MAX: u64 = 48 * 1024;
const CONNECTIONS_MAX: i64 = 10;
/// The committer, the lease, the log, and one that asks what became of a COMMIT.
const OWN_CONNECTIONS: i64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_hangs_is_waited_for_in_bounded_time_and_taken_up_again() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let postgres = tally_tests::TempPostgres::start().await;
    let mut site = Site::beside(postgres, &[("DATABASE_MAX_CONNS", &CONNECTIONS_MAX.to_string())]).await;
    let mut report = Report::new("SIGSTOP of the whole database");
    let mut people = people(&site.door(), seed);
    let warm = site.client().login("warm@example.org").await.token;
    for _ in 0..slow_rounds() {
        // The long version also hangs for longer than any request is waited for.
        let hang = if long() { rng.random_range(HANG_SECONDS..26) } else { HANG_SECONDS };
        let (hang, before) = (Duration::from_secs(hang), rng.random_range(60..200));
        let recovery;
        (people, recovery) = under_load(people, async |acts| {
            acted(acts, before).await;
            eventually_warm(&site.client(), &warm).await;
            let held_before = site.held();
            let frozen = site.postgres.as_ref().expect("beside it").freeze();
            let since = Instant::now();
            let client = site.client();
            let arrivals = arrive(&client, &warm, since, since + hang);
            let watch = async {
                let mut most = site.held();
                while since.elapsed() < hang {
                    sleep(Duration::from_millis(100)).await;
                    most = most.most(site.held());
                    assert_up(&client).await;
                }
                drop(frozen);
                (most, site.back().await)
            };
            let (slowest, (most, recovery)) = tokio::join!(arrivals, watch);
            report.answered(0, slowest);
            assert_no_pile(held_before, most);
            acted(acts, 100).await;
            recovery
        })
        .await;
        assert_connections_gone(&site).await;
        people = judge(&site, people, &mut report).await;
        report.round(recovery);
    }
    assert_whole(&site, &people).await;
    // Those of the load may all be waiting for a commit, which outlasts a short hang, and be told nothing
    // of it. The arrivals have felt it: whoever came after the lease was told 503.
    report.conclude();
}

/// Until a verification needs no database. A mint without a name asks for nothing else: it is
/// refused, 400, right after the credential was found good.
async fn verified(client: &Client, credential: &str) -> u16 {
    let request = client.post("/api/tokens", &json!({ "name": "" })).bearer_auth(credential);
    let answer = request.timeout(REQUEST_TIMEOUT + SLACK).send().await.expect("the server answers in time");
    answer.status().as_u16()
}

async fn eventually_warm(client: &Client, credential: &str) {
    // Twice: the first may have read it from the database, and left it in memory.
    for _ in 0..2 {
        assert_eq!(verified(client, credential).await, 400, "the credential is good");
    }
}

/// Sends requests at a steady pace without waiting for their answers; the slowest one's time.
///
/// A yes is given under a lease from before the hang, and so to no request that came later than the
/// lease can last. After that everybody is told 503, and nobody is told no, until the database goes on.
async fn arrive(client: &Client, warm: &str, since: Instant, until: Instant) -> Duration {
    let tasks = (0..ARRIVALS).map(|number| {
        let (client, warm) = (client.clone(), warm.to_owned());
        tokio::spawn(async move {
            sleep(BETWEEN_ARRIVALS * u32::try_from(number).expect("a few")).await;
            let sent = Instant::now();
            let status = verified(&client, &warm).await;
            let took = sent.elapsed();
            if sent.duration_since(since) < LEASE || Instant::now() >= until {
                assert!([400, 503].contains(&status), "{status}");
            } else {
                assert_eq!(
                    status,
                    503,
                    "without a lease, {:?} after the last word",
                    sent.duration_since(since)
                );
            }
            assert!(took < VERIFY_DEADLINE + SLACK, "a verification took {took:?}");
            (status, took)
        })
    });
    let answers: Vec<(u16, Duration)> =
        join_all(tasks).await.into_iter().map(|answer| answer.expect("as promised")).collect();
    assert!(answers.iter().any(|(status, _)| *status == 400), "the lease was of use");
    answers.into_iter().map(|(_, took)| took).max().unwrap_or_default()
}

/// What needs no database is answered at once.
async fn assert_up(client: &Client) {
    let health = client.get("/health").timeout(SLACK).send().await.expect("the server is up");
    assert_eq!(health.status(), 200);
}

pub fn assert_no_pile(before: Held, most: Held) {
    println!("held before {before:?}, at most {most:?}");
    let growth = most.resident_kib.saturating_sub(before.resident_kib);
    assert!(growth < GROWTH_KIB_MAX, "{growth} KiB more than before");
}

/// The server's connections are those of its pool and its own few: none is left behind.
async fn assert_connections_gone(site: &Site) {
    let mut connection = site.connect().await;
    tally_tests::eventually("abandoned connections to end", async || {
        let count: i64 =
            sqlx::query_scalar("select count(*) from pg_stat_activity where application_name = 'tally'")
                .fetch_one(&mut connection)
                .await
                .expect("the database answers");
        (count <= CONNECTIONS_MAX + OWN_CONNECTIONS).then_some(())
    })
    .await;
}
