//! A retried command acts once (P6).

use futures::future::join_all;
use tally_domain::Decision;
use tally_events::{Event, UserId, user::UserSuspended};
use tally_store::ExecuteError;
use uuid::Uuid;

use crate::support::{Do, Log, idempotent, toggle};

#[tokio::test]
async fn the_second_time_is_told_what_the_first_time_made() {
    let log = Log::new().await;
    let store = log.store().await;
    let (user, receipt) = (UserId::new(), Uuid::now_v7());
    let done = toggle(user).with(&store, idempotent(1, 1, receipt)).await.unwrap();
    toggle(user).by(&store).await.unwrap();
    // Another receipt: a retry does not know what the first attempt made.
    let again = toggle(user).with(&store, idempotent(1, 1, Uuid::now_v7())).await.unwrap_err();
    let ExecuteError::Replayed { receipt: told, position } = again else { panic!("{again:?}") };
    assert_eq!((told, position), (receipt, done.position));
    // Also by another replica, which has never seen it.
    let again = toggle(user).with(&*log.store().await, idempotent(1, 1, Uuid::now_v7())).await.unwrap_err();
    assert!(matches!(again, ExecuteError::Replayed { .. }), "{again:?}");
    assert_eq!(log.head().await, 2);
}

#[tokio::test]
async fn another_body_under_the_same_key_is_a_mistake() {
    let log = Log::new().await;
    let store = log.store().await;
    let user = UserId::new();
    toggle(user).with(&store, idempotent(1, 1, user.0)).await.unwrap();
    let reused = toggle(user).with(&store, idempotent(1, 2, user.0)).await.unwrap_err();
    assert!(matches!(reused, ExecuteError::KeyReused), "{reused:?}");
    assert_eq!(log.head().await, 1);
}

/// They all find no key, decide at once, and meet in the committers of two replicas.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_at_once_act_once() {
    let log = Log::new().await;
    let stores = [log.store().await, log.store().await];
    for key in 0..5 {
        let receipts: Vec<Uuid> = (0..20).map(|_| Uuid::now_v7()).collect();
        let done = join_all(receipts.iter().enumerate().map(|(i, receipt)| {
            let (store, request) = (stores[i % 2].clone(), idempotent(key, 1, *receipt));
            // Streams of their own: nothing but the key stands between them.
            async move {
                tokio::spawn(async move { toggle(UserId::new()).with(&store, request).await }).await.unwrap()
            }
        }))
        .await;
        let acted: Vec<_> = receipts.iter().zip(&done).filter(|(_, done)| done.is_ok()).collect();
        let [(receipt, Ok(executed))] = acted[..] else { panic!("one acts: {done:?}") };
        for other in done.iter().filter_map(|done| done.as_ref().err()) {
            let ExecuteError::Replayed { receipt: told, position } = other else { panic!("{other:?}") };
            assert_eq!((told, *position), (receipt, executed.position));
        }
    }
    assert_eq!(log.head().await, 5);
    assert_eq!(log.count("idempotency").await, 5);
    log.assert_sound().await;
}

/// A key is of the command that stood: one that was refused, or changed nothing, leaves it unused.
#[tokio::test]
async fn a_key_is_not_used_up_by_a_command_that_did_nothing() {
    let log = Log::new().await;
    let store = log.store().await;
    let user = UserId::new();
    let nothing = Do::new([user.into()], |_, _| Ok(Decision::unchanged(())));
    nothing.with(&store, idempotent(1, 1, user.0)).await.unwrap();
    let refused = Do::<()>::new([user.into()], |_, _| Err(crate::support::TestRefusal));
    let refused = refused.with(&store, idempotent(1, 1, user.0)).await.unwrap_err();
    assert!(matches!(refused, ExecuteError::Refused(_)), "{refused:?}");
    toggle(user).with(&store, idempotent(1, 1, user.0)).await.unwrap();
    assert_eq!(log.count("idempotency").await, 1);
}

/// After a day a key may be used again, and the purge leaves younger ones alone.
#[tokio::test]
async fn keys_are_kept_for_a_day() {
    let log = Log::new().await;
    let store = log.store().await;
    let user = UserId::new();
    for key in [1, 2] {
        toggle(user).with(&store, idempotent(key, 1, user.0)).await.unwrap();
    }
    sqlx::query("update idempotency set recorded_at = recorded_at - interval '24 hours' where key = $1")
        .bind(&[1_u8; 32][..])
        .execute(store.pool())
        .await
        .unwrap();
    assert_eq!(tally_store::purge(store.pool(), 90).await.unwrap().idempotency_keys, 1);
    toggle(user).with(&store, idempotent(1, 9, user.0)).await.unwrap();
    let again = toggle(user).with(&store, idempotent(2, 1, user.0)).await.unwrap_err();
    assert!(matches!(again, ExecuteError::Replayed { .. }), "{again:?}");
}

/// Two events of one command are one act: the receipt's position is that of the last.
#[tokio::test]
async fn a_replay_names_the_last_event_of_its_command() {
    let log = Log::new().await;
    let store = log.store().await;
    let (one, two) = (UserId::new(), UserId::new());
    let both = || {
        Do::new([one.into(), two.into()], move |_, _| {
            let suspended = || Event::from(UserSuspended {});
            Ok(Decision::of((), [(one.into(), suspended()), (two.into(), suspended())]))
        })
    };
    assert_eq!(both().with(&store, idempotent(1, 1, one.0)).await.unwrap().position.0, 2);
    let again = both().with(&store, idempotent(1, 1, one.0)).await.unwrap_err();
    assert!(matches!(again, ExecuteError::Replayed { position, .. } if position.0 == 2), "{again:?}");
}
