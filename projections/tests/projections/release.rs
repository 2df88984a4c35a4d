//! A new release makes other rows of the same events: its versions are rolled out beside the old
//! release, rebuilt while everybody reads and writes, and stopped midway.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::TimeDelta;
use sqlx::PgConnection;
use tally_events::{Position, Recorded, WorkspaceId};
use tally_projections::{
    INLINE_VERSION,
    credentials::Standing,
    rebuild::{Progress, rebuild},
};
use tally_store::{CommitError, ConnectionLimits, ExecuteError, Projection};
use tally_tests::eventually;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    rebuild::read,
    support::{Log, all, find_token, live, store},
};

const CLIENTS: usize = 64;
/// Between two things a client does: two processors run all of them, and the database.
const PAUSE: Duration = Duration::from_millis(100);

/// The next version of a projection: every time in its rows is a day later, and all of it happened in a
/// workspace.
struct Next(Arc<dyn Projection>);

#[async_trait]
impl Projection for Next {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn version(&self) -> i32 {
        self.0.version() + 1
    }

    fn tables(&self) -> &'static [&'static str] {
        self.0.tables()
    }

    fn keys(&self) -> &'static [&'static str] {
        self.0.keys()
    }

    async fn apply(&self, connection: &mut PgConnection, events: &[Recorded]) -> Result<(), sqlx::Error> {
        let mut events = events.to_vec();
        for event in &mut events {
            event.recorded_at += TimeDelta::days(1);
            event.workspace = Some(WorkspaceId(Uuid::nil()));
        }
        self.0.apply(connection, &events).await
    }
}

fn next(projections: Vec<Arc<dyn Projection>>) -> Vec<Arc<dyn Projection>> {
    projections.into_iter().map(|projection| Arc::new(Next(projection)) as Arc<dyn Projection>).collect()
}

/// Rebuilds all of them until one has folded a page, and is then cut off.
async fn begin(log: &Log, projections: &[Arc<dyn Projection>]) {
    let folded = Arc::new(Notify::new());
    let tell = folded.clone();
    let progress = move |_, progress| match progress {
        Progress::Folding { position, .. } if position > Position::ZERO => tell.notify_one(),
        _ => {}
    };
    tokio::select! {
        outcomes = rebuild(&log.options, projections, progress) => panic!("it ended: {outcomes:?}"),
        () = folded.notified() => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_projection_is_rebuilt_to_another_version_under_load() {
    let log = Arc::new(Log::new().await);
    let known = log.people(120).await;
    let old = log.follow();
    log.all_caught_up().await;

    // The new release starts: it alone writes from here on, and its projections wait.
    log.run(format!("update log_head set inline_version = {}", INLINE_VERSION + 1)).await;
    let inline = next(tally_projections::inline());
    let new_store = store(&log.options, &log.pool, inline, INLINE_VERSION + 1).await;
    let new = log.follow_with(&new_store, next(tally_projections::following()));
    let refused = live(&log.store).await;
    assert!(matches!(refused, Err(ExecuteError::Commit(CommitError::Outdated))), "{refused:?}");

    let stop = Arc::new(AtomicBool::new(false));
    let (reads, writes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let (log, stop, reads, writes) = (log.clone(), stop.clone(), reads.clone(), writes.clone());
        let (known, new_store) = (known.clone(), new_store.clone());
        clients.push(tokio::spawn(async move {
            for person in known.iter().cycle().skip(number * 7) {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                if number % 2 == 0 {
                    read(&log, person).await;
                    reads.fetch_add(1, Ordering::SeqCst);
                } else {
                    let newcomer = live(&new_store).await.unwrap();
                    // Who has just come is known at once.
                    let found = find_token(&log.pool, newcomer.hash).await;
                    assert!(matches!(found.standing, Standing::Live(_)), "{found:?}");
                    writes.fetch_add(1, Ordering::SeqCst);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }));
    }
    let projections = next(all());
    begin(&log, &projections).await;
    let begun = log.texts("select name from rebuild.progress where position > 0").await;
    assert!(!begun.is_empty(), "it was stopped midway");
    for (name, outcome) in rebuild(&log.options, &projections, |_, _| {}).await {
        outcome.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    }
    let during = (reads.load(Ordering::SeqCst), writes.load(Ordering::SeqCst));
    eventually("reads and writes after the flip", async || {
        let after = (reads.load(Ordering::SeqCst), writes.load(Ordering::SeqCst));
        (after.0 >= during.0 + CLIENTS && after.1 >= during.1 + CLIENTS).then_some(())
    })
    .await;
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.expect("no client met an error");
    }
    assert!(during.0 > 0 && during.1 > 0, "{during:?} reads and writes beside the rebuild");

    // What follows the log is followed by the new release alone, and every row is its own.
    log.all_caught_up().await;
    for follower in old.iter().chain(&new) {
        assert!(!follower.is_finished());
        follower.abort();
    }
    for (next, old) in projections.iter().zip(all()) {
        assert_eq!(log.status(next.name()).await.version, next.version());
        let verified = log.verified(next.as_ref()).await;
        assert!(verified.holds() && verified.rows > 0, "{verified:?}");
        let verified = log.verified(old.as_ref()).await;
        assert!(!verified.holds(), "the rows of both versions are the same: {verified:?}");
    }
}

/// One connection with its statements prepared, their plans kept: the flip puts other tables under them.
#[tokio::test]
async fn prepared_statements_outlive_the_flip() {
    let log = Log::new().await;
    let people = log.people(3).await;
    let _followers = log.follow();
    log.all_caught_up().await;
    for mode in ["force_generic_plan", "force_custom_plan"] {
        let options = log.options.clone().options([("plan_cache_mode", mode)]);
        let pool = tally_store::connect(options, ConnectionLimits { min: 1, max: 1 });
        let served = Log { options: log.options.clone(), pool, store: log.store.clone() };
        for _ in 0..3 {
            for person in &people {
                read(&served, person).await;
            }
            for projection in all() {
                log.rebuild(&projection).await.unwrap();
                read(&served, &people[0]).await;
            }
        }
        let connections: i64 = sqlx::query_scalar("select count(*) from pg_prepared_statements")
            .fetch_one(&served.pool)
            .await
            .unwrap();
        assert!(connections >= 5, "the statements are prepared: {connections}");
        served.pool.close().await;
    }
}
