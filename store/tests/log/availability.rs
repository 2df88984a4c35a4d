//! A stranger holds the lock, or the database is away: callers are told in bounded time.

use std::time::{Duration, Instant};

use futures::future::join_all;
use tally_events::UserId;
use tally_store::{CommitError, ExecuteError};

use crate::support::{Log, toggle};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_with_the_heads_lock_delays_callers_for_a_bounded_time() {
    let log = Log::new().await;
    let store = log.store().await;
    let user = UserId::new();
    toggle(user).by(&store).await.unwrap();
    let lock = log.hold_head().await;
    let began = Instant::now();
    let told = join_all((0..10).map(|_| {
        let store = store.clone();
        async move { tokio::spawn(async move { toggle(UserId::new()).by(&store).await }).await.unwrap() }
    }))
    .await;
    for told in told {
        let error = told.unwrap_err();
        assert!(matches!(error, ExecuteError::Commit(CommitError::Unavailable)), "{error:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    lock.release().await;
    // What was told "nothing was written" is not written later either.
    assert_eq!(toggle(user).by(&store).await.unwrap().position.0, 2);
    assert_eq!(log.head().await, 2);
    log.assert_sound().await;
}

/// Who comes while a batch waits is told together with it, and not after another wait of his own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_behind_a_batch_that_fails_waits_no_longer_than_the_batch() {
    let log = Log::new().await;
    let store = log.store().await;
    let lock = log.hold_head().await;
    let began = Instant::now();
    let ask = || {
        let store = store.clone();
        tokio::spawn(async move { toggle(UserId::new()).by(&store).await })
    };
    let first = ask();
    log.committer_waits(1).await;
    let crowd: Vec<_> = (0..100).map(|_| ask()).collect();
    for told in join_all(crowd.into_iter().chain([first])).await {
        let error = told.unwrap().unwrap_err();
        assert!(matches!(error, ExecuteError::Commit(CommitError::Unavailable)), "{error:?}");
    }
    // The lock is waited for 3 s. Twice that would be a wait of the crowd's own.
    assert!(began.elapsed() < Duration::from_millis(5500), "{:?}", began.elapsed());
    lock.release().await;
    assert_eq!(toggle(UserId::new()).by(&store).await.unwrap().position.0, 1, "nothing was written late");
}

#[tokio::test]
async fn a_lock_that_is_given_back_in_time_costs_only_the_wait() {
    let log = Log::new().await;
    let store = log.store().await;
    let lock = log.hold_head().await;
    let told = tokio::spawn({
        let store = store.clone();
        async move { toggle(UserId::new()).by(&store).await }
    });
    log.committer_waits(1).await;
    lock.release().await;
    assert_eq!(told.await.unwrap().unwrap().position.0, 1);
}

/// The session settings the log relies on stand on the committer's connection and on the pool's.
#[tokio::test]
async fn every_connection_carries_its_timeouts() {
    let log = Log::new().await;
    let pool = log.pool();
    for (setting, expected) in [
        ("synchronous_commit", "on"),
        ("transaction_isolation", "read committed"),
        ("statement_timeout", "5s"),
        ("lock_timeout", "3s"),
        ("idle_in_transaction_session_timeout", "5s"),
    ] {
        let value: String =
            sqlx::query_scalar("select current_setting($1)").bind(setting).fetch_one(&pool).await.unwrap();
        assert_eq!(value, expected, "{setting}");
    }
}
