//! PostgreSQL itself is killed while a COMMIT is under way.

use std::sync::Arc;

use sqlx::{Connection, PgConnection};
use tally_store::{CommitError, ExecuteError};
use tally_tests::{Meddling, TempPostgres, eventually};
use tokio::sync::Notify;

use crate::{
    ambiguous::{assert_acted_once, meddled_with},
    support::{Log, toggle},
};

/// A crash forgets the ids of transactions it had not flushed, and gives them out again. So "the
/// transaction of this id has committed" may be said of a stranger's.
#[tokio::test]
async fn a_transaction_that_a_crash_forgot_is_not_taken_for_its_namesake() {
    let mut postgres = TempPostgres::start().await;
    let log = Log::on(&postgres).await;
    // Nobody but a COMMIT flushes.
    for setting in [
        "alter system set wal_writer_delay = '10s'",
        "alter system set autovacuum = off",
        "select pg_reload_conf()",
    ] {
        sqlx::query(setting).execute(&mut log.connection().await).await.unwrap();
    }
    let (proxy, store, user) = meddled_with(&log).await;
    let gate = Arc::new(Notify::new());
    proxy.meddle(Meddling::Never(gate.clone()));
    let told = tokio::spawn({
        let store = store.clone();
        async move { toggle(user).by(&store).await }
    });
    proxy.meddled().await;
    proxy.let_in(false);
    let ours: i64 = sqlx::query_scalar(
        "select backend_xid::text::bigint from pg_stat_activity where backend_xid is not null",
    )
    .fetch_one(&mut log.connection().await)
    .await
    .unwrap();

    postgres.crash().await;
    postgres.restart().await;

    let mut connection = PgConnection::connect_with(&log.options).await.unwrap();
    let next = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
    let before: i64 = sqlx::query_scalar(next).fetch_one(&mut connection).await.unwrap();
    assert!(before <= ours, "the crash forgot the id, or this test shows nothing: {before}, {ours}");
    while sqlx::query_scalar::<_, i64>(next).fetch_one(&mut connection).await.unwrap() <= ours {
        sqlx::query("select pg_current_xact_id()").execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
    proxy.let_in(true);
    gate.notify_one();

    let stands = |names: Vec<String>| names == ["user.suspended", "user.reinstated"];
    match told.await.unwrap() {
        Ok(executed) => {
            assert_eq!(executed.position.0, 2);
            assert!(stands(log.names().await), "a success is in the log");
        }
        // The restart took longer than a batch is tried again, or than its fate is looked for.
        Err(ExecuteError::Commit(CommitError::Unavailable | CommitError::Unknown)) => {
            assert_eq!(log.names().await, ["user.suspended"]);
            toggle(user).by(&store).await.unwrap();
        }
        Err(other) => panic!("{other:?}"),
    }
    assert_acted_once(&log, &store, user).await;

    // PostgreSQL stops when nobody is connected any more.
    store.pool().close().await;
    drop(store);
    let mut connection = log.connection().await;
    eventually("the committer to end", async || {
        sqlx::query("select where not exists (select from pg_stat_activity where application_name = 'tally')")
            .fetch_optional(&mut connection)
            .await
            .unwrap()
    })
    .await;
    connection.close().await.unwrap();
}
