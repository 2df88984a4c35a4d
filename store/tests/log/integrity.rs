//! What the log never does: change, run backwards, hold what SQL cannot read.

use std::sync::Mutex;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Executor;
use tally_events::{StreamId, UserId};

use crate::support::{Log, append, register, renamed, toggle};

#[tokio::test]
async fn events_are_never_changed_deleted_or_truncated() {
    let log = Log::new().await;
    let store = log.store().await;
    toggle(UserId::new()).by(&store).await.unwrap();
    for attempt in [
        "update event set name = 'user.reinstated'",
        "update event set payload = payload",
        "delete from event",
        "truncate event",
        "truncate event cascade",
    ] {
        let refused = log.connection().await.execute(attempt).await.unwrap_err();
        let code = refused.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned());
        assert_eq!(code.as_deref(), Some("42501"), "{attempt}: {refused}");
    }
    log.assert_sound().await;
}

/// The checks that everything here leans on can fail: each kind of damage is seen.
#[tokio::test]
async fn damage_is_seen() {
    let damages = [
        ("positions", "update event set position = 9 where position = 3"),
        ("positions", "update log_head set position = 4"),
        ("versions", "update event set stream_version = 4 where position = 3"),
        ("each stream", "update stream set version = 1"),
        ("time", "update event set recorded_at = recorded_at - interval '1 day' where position = 2"),
        ("every leaf", "update event set payload = '{ }' where position = 2"),
        ("every leaf", "update event set request_id = gen_random_uuid() where position = 1"),
        ("every leaf", "update event set causation = gen_random_uuid() where position = 1"),
        ("every leaf", "update event set actor_kind = 'person' where position = 1"),
    ];
    let log = Log::new().await;
    let store = log.store().await;
    let user = UserId::new();
    for _ in 0..3 {
        toggle(user).by(&store).await.unwrap();
    }
    log.assert_sound().await;
    let mut connection = log.connection().await;
    connection.execute("alter table event disable trigger event_insert_only").await.unwrap();
    for (promise, damage) in damages {
        connection.execute("begin").await.unwrap();
        connection.execute(damage).await.unwrap();
        let seen = tally_tests::log::damage(&mut connection).await;
        assert!(seen.iter().any(|line| line.starts_with(promise)), "{damage}: {seen:?}");
        connection.execute("rollback").await.unwrap();
    }
}

/// The hash in a row is that of the product's encoding too, optional columns present and absent.
#[tokio::test]
async fn leaf_hashes_are_made_of_what_is_stored() {
    let log = Log::new().await;
    let store = log.store().await;
    let user = UserId::new();
    register(user, "ada@example.org").by(&store).await.unwrap();
    let request =
        tally_store::RequestContext { request: Some(tally_events::RequestId::new()), idempotency: None };
    append([(StreamId::from(user), renamed("Ada \u{1F511} \"\\\u{7f}"))])
        .with(&store, request)
        .await
        .unwrap();
    log.assert_sound().await;
    let events = tally_store::events_after(&mut log.connection().await, tally_events::Position::ZERO, 10)
        .await
        .unwrap();
    let stored: Vec<(String, Vec<u8>)> =
        sqlx::query_as("select payload::text, leaf_hash from event order by position")
            .fetch_all(store.pool())
            .await
            .unwrap();
    for (recorded, (payload, leaf_hash)) in events.iter().zip(stored) {
        assert_eq!(recorded.event.payload().unwrap(), payload, "the stored text is the event's own");
        assert_eq!(recorded.to_stored(payload).leaf_hash().to_vec(), leaf_hash);
    }
}

async fn recorded_at(log: &Log) -> Vec<DateTime<Utc>> {
    sqlx::query_scalar("select recorded_at from event order by position")
        .fetch_all(&mut log.connection().await)
        .await
        .unwrap()
}

/// What was logged on this thread.
#[derive(Clone, Default)]
struct Told(std::sync::Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Told {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Told {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// The database's clock jumped ahead and came back. One thread, so that the committer logs here.
#[tokio::test]
async fn time_does_not_run_backwards_and_somebody_is_told() {
    let told = Told::default();
    let writer = told.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _logging = tracing::subscriber::set_default(subscriber);

    let log = Log::new().await;
    let store = log.store().await;
    let user = UserId::new();
    toggle(user).by(&store).await.unwrap();
    assert!(!told.text().contains("ERROR"), "a clock that keeps time alarms nobody: {}", told.text());
    let jumped: DateTime<Utc> = sqlx::query_scalar(
        "update log_head set recorded_at = recorded_at + interval '1 hour' returning recorded_at",
    )
    .fetch_one(store.pool())
    .await
    .unwrap();
    for _ in 0..3 {
        toggle(user).by(&store).await.unwrap();
    }
    let times = recorded_at(&log).await;
    assert_eq!(times[1..], [jumped; 3], "it stands still until the clock has caught up");
    assert!(times[0] < jumped);
    let alarms: Vec<String> =
        told.text().lines().filter(|line| line.contains("ERROR")).map(str::to_owned).collect();
    assert!(
        alarms.len() == 3 && alarms.iter().all(|line| line.contains("the database's clock has jumped")),
        "{}",
        told.text()
    );
    log.assert_sound().await;
}

#[tokio::test]
async fn a_time_maps_to_the_last_position_before_it() {
    let log = Log::new().await;
    let store = log.store().await;
    let user = UserId::new();
    for _ in 0..3 {
        toggle(user).by(&store).await.unwrap();
    }
    let times = recorded_at(&log).await;
    let at = async |time| tally_store::position_at_time(store.pool(), time).await.unwrap().0;
    assert_eq!(at(times[0]).await, 0);
    assert_eq!(at(times[1]).await, 1);
    assert_eq!(at(times[2] + TimeDelta::days(1)).await, 3);
}

/// A gap is damage; no reader may step over it.
#[tokio::test]
async fn a_reader_stops_at_a_gap() {
    let log = Log::new().await;
    let store = log.store().await;
    let user = UserId::new();
    for _ in 0..4 {
        toggle(user).by(&store).await.unwrap();
    }
    let mut connection = log.connection().await;
    connection
        .execute("set session_replication_role = replica; delete from event where position = 3")
        .await
        .unwrap();
    let read =
        tally_store::events_after(&mut connection, tally_events::Position::ZERO, 10).await.unwrap_err();
    assert_eq!(read.to_string(), "the log has no event at position 3, but has one at 4");
}
