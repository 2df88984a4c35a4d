//! COMMIT went unanswered: the caller is told success if the event is there, and nothing acts twice.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tally_events::UserId;
use tally_store::{CommitError, ExecuteError, Store};
use tally_tests::{Meddling, Proxy};
use tokio::sync::Notify;

use crate::support::{Log, toggle};

/// A log with one event, a store behind a proxy, and what its feed told so far.
pub async fn meddled_with(log: &Log) -> (Proxy, Arc<Store>, UserId) {
    let proxy = Proxy::start(&log.options);
    let store = log.store_with(proxy.options(&log.options), Vec::new()).await;
    let user = UserId::new();
    toggle(user).by(&store).await.unwrap();
    (proxy, store, user)
}

pub async fn assert_acted_once(log: &Log, store: &Store, user: UserId) {
    assert_eq!(log.names().await, ["user.suspended", "user.reinstated"]);
    toggle(user).by(store).await.expect("the committer goes on");
    assert_eq!(log.head().await, 3);
    log.assert_sound().await;
}

#[tokio::test]
async fn a_lost_reply_is_a_success() {
    let log = Log::new().await;
    let (proxy, store, user) = meddled_with(&log).await;
    let mut feed = store.subscribe();
    proxy.meddle(Meddling::LoseReply);
    let done = toggle(user).by(&store).await.unwrap();
    assert_eq!(done.position.0, 2);
    let told = feed.try_recv().expect("what became durable is published");
    assert_eq!((told.from().0, told.to().0), (2, 2));
    assert!(feed.try_recv().is_err(), "once");
    assert_acted_once(&log, &store, user).await;
}

#[tokio::test]
async fn a_lost_commit_is_written_again() {
    let log = Log::new().await;
    let (proxy, store, user) = meddled_with(&log).await;
    let mut feed = store.subscribe();
    proxy.meddle(Meddling::LoseCommit);
    let command = toggle(user);
    let decisions = command.decisions.clone();
    assert_eq!(command.by(&store).await.unwrap().position.0, 2);
    assert_eq!(decisions.load(std::sync::atomic::Ordering::SeqCst), 1, "what was decided is written again");
    assert!(feed.try_recv().is_ok() && feed.try_recv().is_err(), "published once");
    assert_acted_once(&log, &store, user).await;
}

/// "Not there" is not "aborted" while the backend that was given the COMMIT is at work.
#[tokio::test]
async fn a_commit_that_is_still_under_way_is_waited_for() {
    let log = Log::new().await;
    let (proxy, store, user) = meddled_with(&log).await;
    let gate = Arc::new(Notify::new());
    proxy.meddle(Meddling::Late(gate.clone()));
    let told = tokio::spawn({
        let store = store.clone();
        async move { toggle(user).by(&store).await }
    });
    // The first connection is the committer's; by the third it has asked and was told "not yet".
    proxy.connected(3).await;
    assert_eq!(log.head().await, 1);
    assert!(!told.is_finished());
    gate.notify_one();
    assert_eq!(told.await.unwrap().unwrap().position.0, 2);
    assert_acted_once(&log, &store, user).await;
}

#[tokio::test]
async fn a_commit_that_never_comes_is_waited_for_until_its_backend_has_ended() {
    let log = Log::new().await;
    let (proxy, store, user) = meddled_with(&log).await;
    let gate = Arc::new(Notify::new());
    proxy.meddle(Meddling::Never(gate.clone()));
    let told = tokio::spawn({
        let store = store.clone();
        async move { toggle(user).by(&store).await }
    });
    proxy.connected(3).await;
    gate.notify_one();
    assert_eq!(told.await.unwrap().unwrap().position.0, 2);
    assert_acted_once(&log, &store, user).await;
}

/// The database does not come back in time: nobody is told yes or no, and the truth stays one.
#[tokio::test]
async fn a_fate_that_cannot_be_found_out_is_told_as_such() {
    let log = Log::new().await;
    let (proxy, store, user) = meddled_with(&log).await;
    proxy.meddle(Meddling::LoseReply);
    proxy.let_in(false);
    let began = Instant::now();
    let told = toggle(user).by(&store).await.unwrap_err();
    assert!(matches!(told, ExecuteError::Commit(CommitError::Unknown)), "{told:?}");
    assert!(began.elapsed() < Duration::from_secs(15), "in bounded time: {:?}", began.elapsed());
    proxy.let_in(true);
    assert_acted_once(&log, &store, user).await;
}

#[tokio::test]
async fn a_backend_that_is_terminated_before_commit_costs_nothing() {
    let log = Log::new().await;
    let store = log.store().await;
    let user = UserId::new();
    toggle(user).by(&store).await.unwrap();
    let lock = log.hold_head().await;
    let told = tokio::spawn({
        let store = store.clone();
        async move { toggle(user).by(&store).await }
    });
    log.committer_waits(1).await;
    let ended: Vec<bool> = sqlx::query_scalar(
        "select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and query like 'update log_head%'",
    )
    .fetch_all(&mut log.connection().await)
    .await
    .unwrap();
    assert_eq!(ended, [true]);
    lock.release().await;
    assert_eq!(told.await.unwrap().unwrap().position.0, 2);
    assert_acted_once(&log, &store, user).await;
}
