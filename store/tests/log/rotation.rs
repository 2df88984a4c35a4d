//! The signing secret is replaced by another one, replica by replica, and by no stranger's.

use tally_events::seal::Key;
use tally_store::{KeyRing, KeyRingError, Rotation};

use crate::support::{Log, MASTER};

const OLD: Key = Key::from_bytes([11; 32]);
const NEW: Key = Key::from_bytes([12; 32]);
const FOREIGN: Key = Key::from_bytes([13; 32]);

/// A replica that signs with one secret and verifies others starts, or says why not.
async fn start(log: &Log, signing: &Key, verifying: &[Key]) -> Result<(), KeyRingError> {
    KeyRing::unlock_rotated(log.pool(), &MASTER, signing, verifying, Rotation::Lead).await.map(drop)
}

async fn known(log: &Log) -> String {
    sqlx::query_scalar("select value from keys.fingerprint where name = 'JWT_SECRET'")
        .fetch_one(&log.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn the_secret_that_signs_takes_the_place_of_one_that_it_names() {
    let log = Log::new().await;
    start(&log, &OLD, &[]).await.unwrap();
    assert_eq!(known(&log).await, OLD.fingerprint());
    start(&log, &NEW, &[FOREIGN, OLD]).await.unwrap();
    assert_eq!(known(&log).await, NEW.fingerprint());
    // From now on it needs to name nothing.
    start(&log, &NEW, &[]).await.unwrap();
    assert!(start(&log, &OLD, &[]).await.is_err(), "the old one is as foreign as any");
}

/// A command starts with either secret while both are known, and the database stays as it is.
#[tokio::test]
async fn a_command_replaces_nothing() {
    let log = Log::new().await;
    start(&log, &OLD, &[]).await.unwrap();
    start(&log, &NEW, &[OLD]).await.unwrap();
    let command = async |signing: &Key, verifying: &[Key]| {
        KeyRing::unlock_rotated(log.pool(), &MASTER, signing, verifying, Rotation::Follow).await.map(drop)
    };
    command(&OLD, &[NEW]).await.unwrap();
    command(&NEW, &[]).await.unwrap();
    assert!(command(&OLD, &[]).await.is_err());
    assert_eq!(known(&log).await, NEW.fingerprint());
}

/// First every replica learns the new secret, then each signs with it, then the old one is forgotten.
/// Whenever one is started again with what it had, it starts.
#[tokio::test]
async fn replicas_are_changed_one_after_the_other() {
    let log = Log::new().await;
    start(&log, &OLD, &[]).await.unwrap();
    let (before, between, after) = ((OLD, vec![]), (OLD, vec![NEW]), (NEW, vec![OLD]));
    for (one, other) in [(&before, &between), (&between, &after), (&after, &(NEW, vec![]))] {
        for (signing, verifying) in [other, one, other, one, other] {
            start(&log, signing, verifying).await.unwrap();
        }
    }
    assert_eq!(known(&log).await, NEW.fingerprint());
}

#[tokio::test]
async fn a_foreign_secret_is_refused_whatever_it_names_and_changes_nothing() {
    let log = Log::new().await;
    start(&log, &OLD, &[]).await.unwrap();
    for verifying in [vec![], vec![FOREIGN], vec![NEW, FOREIGN]] {
        let error = start(&log, &FOREIGN, &verifying).await.unwrap_err();
        let KeyRingError::Fingerprint { what, found, expected } = &error else { panic!("{error:?}") };
        assert_eq!((*what, found, expected), ("JWT_SECRET", &FOREIGN.fingerprint(), &OLD.fingerprint()));
        assert!(error.to_string().contains("TALLY_JWT_SECRET_PREVIOUS"), "{error}");
    }
    assert_eq!(known(&log).await, OLD.fingerprint());
    start(&log, &OLD, &[]).await.unwrap();
}

/// The master key wraps every other key: to name another one beside it means nothing.
#[tokio::test]
async fn a_master_key_is_not_replaced_like_this() {
    let log = Log::new().await;
    start(&log, &OLD, &[]).await.unwrap();
    let error =
        KeyRing::unlock_rotated(log.pool(), &FOREIGN, &OLD, &[MASTER], Rotation::Lead).await.unwrap_err();
    assert!(matches!(error, KeyRingError::Fingerprint { what: "master key", .. }), "{error:?}");
    assert!(!error.to_string().contains("TALLY_JWT_SECRET_PREVIOUS"), "{error}");
}

/// Some start with the secret of before and some with the new one, at the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_start_at_once_in_the_middle_of_a_change_all_start() {
    let log = Log::new().await;
    start(&log, &OLD, &[]).await.unwrap();
    for _ in 0..10 {
        let starts = (0..8).map(|number| {
            let pool = log.pool();
            let (signing, verifying) = if number % 2 == 0 { (OLD, [NEW]) } else { (NEW, [OLD]) };
            tokio::spawn(async move {
                KeyRing::unlock_rotated(pool, &MASTER, &signing, &verifying, Rotation::Lead).await
            })
        });
        for started in futures::future::join_all(starts).await {
            started.unwrap().unwrap();
        }
    }
}
