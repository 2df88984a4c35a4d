//! Deleting a key erases what was sealed with it, and no proof notices (P9).

use tally_events::{
    CodeId, Event, LoginId, Personal, Position, Sealed, StreamId, Subject, UserId, login::LoginCodeIssued,
    seal::Key,
};
use tally_store::{ExecuteError, KeyRing, KeyRingError, Store};

use tally_tests::eventually;

use crate::support::{Log, MASTER, SIGNING, append, register, renamed, toggle};

/// Deletes a person's key, which is what erasing them comes down to.
async fn erase(store: &Store, user: UserId) {
    let erased = sqlx::query("delete from keys.subject where kind = 'user' and id = $1").bind(user.0);
    assert_eq!(erased.execute(store.pool()).await.unwrap().rows_affected(), 1);
}

/// Every sealed field in the log.
async fn sealed(log: &Log) -> Vec<Sealed> {
    let mut connection = log.connection().await;
    let events = tally_store::events_after(&mut connection, Position::ZERO, 100).await.unwrap();
    let mut fields = Vec::new();
    for mut recorded in events {
        fields.extend(
            recorded.event.personal_mut().into_iter().filter_map(|(_, field)| field.sealed().cloned()),
        );
    }
    fields
}

/// What another process can read, which has no key in memory yet.
async fn readable(log: &Log, of: Subject) -> (Vec<String>, Vec<String>) {
    let keys = KeyRing::unlock(log.pool(), &MASTER, &SIGNING).await.unwrap();
    let sealed = sealed(log).await;
    let (mut theirs, mut others) = (Vec::new(), Vec::new());
    for (field, opened) in sealed.iter().zip(keys.open(&sealed).await.unwrap()) {
        let list = if field.place.subject == of { &mut theirs } else { &mut others };
        list.extend(opened.map(|text| text.to_string()));
    }
    (theirs, others)
}

fn issued(code: CodeId, email: &str) -> Event {
    LoginCodeIssued {
        code_id: code,
        user_id: None,
        salt: tally_events::Hidden::new(""),
        mac: tally_events::Hidden::new(""),
        expires_at: chrono::DateTime::UNIX_EPOCH,
        email: Personal::clear(email),
        address: Some(Personal::clear("192.0.2.7")),
        user_agent: None,
    }
    .into()
}

#[tokio::test]
async fn after_its_key_is_gone_nothing_of_a_person_opens_and_every_hash_still_verifies() {
    let log = Log::new().await;
    let store = log.store().await;
    let (ada, eve) = (UserId::new(), UserId::new());
    register(ada, "ada@example.org").by(&store).await.unwrap();
    register(eve, "eve@example.org").by(&store).await.unwrap();
    append([(StreamId::from(ada), renamed("Ada"))]).by(&store).await.unwrap();
    let (hers, others) = readable(&log, Subject::User(ada)).await;
    assert_eq!(hers, ["ada@example.org", "Somebody", "Ada"]);
    assert_eq!(others, ["eve@example.org", "Somebody"]);

    erase(&store, ada).await;
    let (hers, others) = readable(&log, Subject::User(ada)).await;
    assert_eq!((hers.len(), others.len()), (0, 2));
    log.assert_sound().await;

    // Nothing more can be sealed for her, and what needs no seal goes on.
    let store = log.store().await;
    let refused = append([(StreamId::from(ada), renamed("Ada again"))]).by(&store).await.unwrap_err();
    assert!(matches!(refused, ExecuteError::Erased), "{refused:?}");
    toggle(ada).by(&store).await.unwrap();
}

/// A process that has opened a person's data before holds nothing back: what it could read a moment
/// ago it cannot read now.
#[tokio::test]
async fn a_process_that_has_read_a_person_forgets_them_the_moment_their_key_is_gone() {
    let log = Log::new().await;
    let (writer, reader) = (log.store().await, log.store().await);
    let ada = UserId::new();
    register(ada, "ada@example.org").by(&writer).await.unwrap();
    append([(StreamId::from(ada), renamed("Ada"))]).by(&writer).await.unwrap();
    let hers = sealed(&log).await;
    for store in [&writer, &reader] {
        assert!(store.keys().open(&hers).await.unwrap().iter().all(Option::is_some));
    }
    erase(&writer, ada).await;
    for store in [&writer, &reader] {
        assert!(store.keys().open(&hers).await.unwrap().iter().all(Option::is_none));
        // For a moment the writer may go on sealing with the key it used last.
        let refused = eventually("nothing more to be sealed for her", async || {
            append([(StreamId::from(ada), renamed("Ada again"))]).by(store).await.err()
        })
        .await;
        assert!(matches!(refused, ExecuteError::Erased), "{refused:?}");
        assert!(store.keys().open(&sealed(&log).await).await.unwrap().iter().all(Option::is_none));
    }
}

/// A command that had sealed when the person was erased: it may still commit, and what it wrote
/// is as unreadable as the rest. No write brings a deleted key back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sealed_before_an_erasure_and_committed_after_it_is_unreadable() {
    let log = Log::new().await;
    let store = log.store().await;
    let ada = UserId::new();
    register(ada, "ada@example.org").by(&store).await.unwrap();
    let lock = log.hold_head().await;
    let late = tokio::spawn({
        let store = store.clone();
        async move { append([(StreamId::from(ada), renamed("Ada"))]).by(&store).await }
    });
    log.committer_waits(1).await;
    erase(&store, ada).await;
    lock.release().await;
    late.await.unwrap().unwrap();
    assert_eq!(log.names().await, ["user.registered", "user.profile_changed"]);
    let hers = sealed(&log).await;
    assert_eq!(hers.len(), 3);
    assert!(store.keys().open(&hers).await.unwrap().iter().all(Option::is_none));
    assert_eq!(log.count("keys.subject").await, 0);
    log.assert_sound().await;
}

/// Nowhere in the database does anything personal stand in the clear.
#[tokio::test]
async fn nothing_personal_is_stored_in_the_clear() {
    let log = Log::new().await;
    let store = log.store().await;
    let ada = UserId::new();
    register(ada, "ada@example.org").by(&store).await.unwrap();
    append([(LoginId::new().into(), issued(CodeId::new(), "ada@example.org"))]).by(&store).await.unwrap();
    let rows: Vec<String> = sqlx::query_scalar(
        "select event::text from event union all select claim::text from claim
         union all select stream::text from stream union all select s::text from keys.subject s",
    )
    .fetch_all(store.pool())
    .await
    .unwrap();
    assert_eq!(rows.len(), 2 + 2 + 2 + 2);
    for row in rows {
        for personal in ["ada@", "@example", "Somebody", "192.0.2.7"] {
            assert!(!row.contains(personal), "{personal}: {row}");
            assert!(!row.contains(&hex::encode(personal)), "{personal}: {row}");
        }
    }
}

#[tokio::test]
async fn the_key_of_a_login_attempt_goes_when_its_time_is_over() {
    let log = Log::new().await;
    let store = log.store().await;
    let (old, young) = (CodeId::new(), CodeId::new());
    append([(LoginId::new().into(), issued(old, "old@example.org"))]).by(&store).await.unwrap();
    append([(LoginId::new().into(), issued(young, "young@example.org"))]).by(&store).await.unwrap();
    register(UserId::new(), "ada@example.org").by(&store).await.unwrap();
    let all = sealed(&log).await;
    assert!(store.keys().open(&all).await.unwrap().iter().all(Option::is_some));
    assert_eq!(tally_store::purge(store.pool(), 90).await.unwrap().subject_keys, 0);
    sqlx::query("update keys.subject set delete_after = delete_after - interval '1 hour' where id = $1")
        .bind(old.0)
        .execute(store.pool())
        .await
        .unwrap();
    assert_eq!(tally_store::purge(store.pool(), 90).await.unwrap().subject_keys, 1);
    let (olds, others) = readable(&log, Subject::Code(old)).await;
    assert_eq!((olds.len(), others.len()), (0, 4));
    // Also in this process, which has opened it.
    let opened = store.keys().open(&all).await.unwrap();
    assert_eq!(opened.iter().filter(|text| text.is_none()).count(), 2);
    log.assert_sound().await;
}

#[tokio::test]
async fn another_master_key_or_signing_secret_is_refused() {
    let log = Log::new().await;
    let pool = log.pool();
    KeyRing::unlock(pool.clone(), &MASTER, &SIGNING).await.unwrap();
    let other = Key::from_bytes([9; 32]);
    for (what, outcome) in [
        ("master key", KeyRing::unlock(pool.clone(), &other, &SIGNING).await),
        ("JWT_SECRET", KeyRing::unlock(pool.clone(), &MASTER, &other).await),
    ] {
        let error = outcome.unwrap_err();
        assert!(matches!(&error, KeyRingError::Fingerprint { what: told, .. } if *told == what), "{error:?}");
    }
    KeyRing::unlock(pool, &MASTER, &SIGNING).await.unwrap();
}

/// Replicas that start at once on a new database agree on the keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_start_at_once_agree_on_the_keys() {
    let log = Log::new().await;
    let rings = futures::future::join_all((0..8).map(|_| {
        let pool = log.pool();
        async move {
            tokio::spawn(async move { KeyRing::unlock(pool, &MASTER, &SIGNING).await })
                .await
                .unwrap()
                .unwrap()
        }
    }))
    .await;
    let blind: std::collections::BTreeSet<[u8; 32]> = rings
        .iter()
        .map(|ring| ring.blind(tally_domain::claim::Namespace::UserEmail, "ada@example.org"))
        .collect();
    assert_eq!(blind.len(), 1);
}
