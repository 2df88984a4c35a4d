//! No connection to be had: the server's own pool is in use, or a stranger has all of the database's.

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use sqlx::{Connection, Executor, PgConnection};
use tally_tests::{Scratch, TempPostgres, eventually};
use tokio::time::sleep;

use super::{
    judge::{assert_whole, judge},
    load::{acted, people, under_load},
    report::Report,
    seed,
    site::Site,
    slow_rounds,
};

const DATABASE_CONNECTIONS: usize = 20;

/// Two connections for sixteen people, and then both are taken by readers that wait for a lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_is_in_use_makes_others_wait_in_bounded_time() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let site = Site::beside(
        TempPostgres::start().await,
        &[("DATABASE_MAX_CONNS", "2"), ("DATABASE_MIN_CONNS", "1")],
    )
    .await;
    let mut report = Report::new("the server's pool of 2 connections is in use");
    let mut people = people(&site.door(), seed);
    for _ in 0..slow_rounds() {
        let before = rng.random_range(60..150);
        let recovery;
        (people, recovery) = under_load(people, async |acts| {
            acted(acts, before).await;
            let mut stranger = site.connect().await;
            // Three tables, one after the other, beside commits that lock them too: they may wait for each
            // other, and then the database ends one of them.
            eventually("the locks", async || {
                stranger.execute("begin").await.expect("the database answers");
                match stranger.execute("lock table users, claim, token_list in access exclusive mode").await {
                    Ok(_) => Some(()),
                    Err(error) => {
                        let code = error.as_database_error().and_then(|error| error.code().map(Into::into));
                        assert_eq!(code, Some("40P01".to_owned()), "{error}");
                        stranger.execute("rollback").await.expect("the database answers");
                        None
                    }
                }
            })
            .await;
            let since = Instant::now();
            while since.elapsed() < Duration::from_secs(4) {
                acted(acts, 1).await;
            }
            stranger.close().await.expect("the database answers");
            let recovery = site.back().await;
            acted(acts, 100).await;
            recovery
        })
        .await;
        people = judge(&site, people, &mut report).await;
        report.round(recovery);
    }
    assert_whole(&site, &people).await;
    report.conclude_felt();
}

/// The server's connections are ended, and a stranger takes their places before it can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_with_all_connections_of_the_database_is_waited_out() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let max = format!("max_connections={DATABASE_CONNECTIONS}");
    let postgres = TempPostgres::start_in(Scratch::new(), &[&max]).await;
    let mut site = Site::beside(postgres, &[("DATABASE_MAX_CONNS", "8")]).await;
    let mut report = Report::new("a stranger has every connection the database allows");
    let mut people = people(&site.door(), seed);
    for _ in 0..slow_rounds() {
        let before = rng.random_range(60..150);
        let recovery;
        (people, recovery) = under_load(people, async |acts| {
            acted(acts, before).await;
            let strangers = take_all(&site).await;
            let since = Instant::now();
            while since.elapsed() < Duration::from_secs(4) {
                acted(acts, 1).await;
                let health = site.client().get("/health").send().await.expect("the server is up");
                assert_eq!(health.status(), 200);
            }
            assert!(site.server.process().is_running());
            for stranger in strangers {
                stranger.close().await.expect("the database answers");
            }
            let recovery = site.back().await;
            acted(acts, 100).await;
            recovery
        })
        .await;
        people = judge(&site, people, &mut report).await;
        report.round(recovery);
    }
    assert_whole(&site, &people).await;
    report.conclude_felt();
}

/// Opens connections until none is left, ending the server's meanwhile.
async fn take_all(site: &Site) -> Vec<PgConnection> {
    let mut strangers = vec![site.connect().await];
    eventually("every connection to be a stranger's", async || {
        while let Ok(connection) = PgConnection::connect_with(site.options()).await {
            strangers.push(connection);
        }
        let ended: i64 = sqlx::query_scalar(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'tally'",
        )
        .fetch_one(&mut strangers[0])
        .await
        .expect("the database answers");
        if ended > 0 {
            sleep(Duration::from_millis(1)).await;
            return None;
        }
        Some(())
    })
    .await;
    strangers
}
