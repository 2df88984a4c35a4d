//! Several committers on one log, as several replicas.

use std::sync::Arc;

use futures::future::join_all;
use tally_domain::claim::Namespace;
use tally_events::{StreamId, UserId, user::UserSuspended};
use tally_store::{CommitError, ExecuteError, Store};
use tally_tests::eventually;

use crate::support::{Log, append, register, registered, toggle};

async fn two_stores(log: &Log) -> [Arc<Store>; 2] {
    [log.store().await, log.store().await]
}

/// Each decision rests on the one before: a version written twice would turn two over at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_committers_never_write_one_version_of_a_stream_twice() {
    let log = Log::new().await;
    let stores = two_stores(&log).await;
    let user = UserId::new();
    let done = join_all((0..60).map(|i| {
        let store = stores[i % 2].clone();
        async move { tokio::spawn(async move { toggle(user).by(&store).await }).await.unwrap() }
    }))
    .await;
    let succeeded = done.iter().filter(|outcome| outcome.is_ok()).count();
    for failure in done.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert!(matches!(failure, ExecuteError::Contended), "{failure:?}");
    }
    let names = log.names().await;
    assert_eq!(names.len(), succeeded, "a success is one event, a failure none");
    for (index, name) in names.iter().enumerate() {
        assert_eq!(name, ["user.suspended", "user.reinstated"][index % 2], "decided on the state before it");
    }
    assert!(succeeded >= 30, "the crowd is served: {succeeded} of 60");
    log.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_of_several_committers_have_no_gap_and_none_is_told_twice() {
    let log = Log::new().await;
    let stores = [log.store().await, log.store().await, log.store().await];
    let users: Vec<UserId> = (0..30).map(|_| UserId::new()).collect();
    let told = join_all(users.iter().enumerate().map(|(i, user)| {
        let (store, user) = (stores[i % 3].clone(), *user);
        tokio::spawn(async move {
            let mut told = Vec::new();
            for _ in 0..20 {
                told.push(toggle(user).by(&store).await.expect("nobody else is at this stream").position.0);
            }
            told
        })
    }))
    .await;
    let mut all = Vec::new();
    for told in told {
        let told = told.unwrap();
        assert!(told.is_sorted(), "what was acknowledged later stands later");
        all.extend(told);
    }
    all.sort_unstable();
    assert_eq!(all, (1..=600).collect::<Vec<i64>>());
    log.assert_sound().await;
}

/// Commands over two streams and two claims each, taken in opposite orders by the two stores.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crossed_streams_and_claims_do_not_deadlock() {
    let log = Log::new().await;
    let stores = two_stores(&log).await;
    for round in 0..40 {
        let users: Vec<UserId> = (0..4).map(|_| UserId::new()).collect();
        let [first, second] = ["first", "second"].map(|name| format!("{name}-{round}@example.org"));
        let claims = |wanted: [(UserId, &str); 2]| {
            append(wanted.map(|(user, email)| (StreamId::from(user), registered(email).into())))
        };
        let (a, b) = tokio::join!(
            claims([(users[0], &first), (users[1], &second)]).by(&stores[0]),
            claims([(users[2], &second), (users[3], &first)]).by(&stores[1]),
        );
        assert!(a.is_ok() != b.is_ok(), "round {round}: one of the two has both: {a:?} {b:?}");
        for _ in 0..2 {
            let suspend = |user: UserId| (StreamId::from(user), UserSuspended {}.into());
            let (a, b) = tokio::join!(
                append([suspend(users[0]), suspend(users[1])]).by(&stores[0]),
                append([suspend(users[1]), suspend(users[0])]).by(&stores[1]),
            );
            assert!(a.is_ok() && b.is_ok(), "round {round}: {a:?} {b:?}");
        }
    }
    // A backend tells what it met when it ends.
    drop(stores);
    let mut connection = log.connection().await;
    let deadlocks: i64 = eventually("the committers to end", async || {
        sqlx::query_scalar(
            "select deadlocks from pg_stat_database
              where datname = current_database() and not exists (
                    select from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid())",
        )
        .fetch_optional(&mut connection)
        .await
        .unwrap()
    })
    .await;
    assert_eq!(deadlocks, 0);
    log.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_wanted_by_many_is_held_by_one() {
    let log = Log::new().await;
    let stores = two_stores(&log).await;
    for round in 0..5 {
        let email = format!("wanted-{round}@example.org");
        let users: Vec<UserId> = (0..16).map(|_| UserId::new()).collect();
        let done =
            join_all(
                users.iter().enumerate().map(|(i, user)| {
                    let (store, user, email) = (stores[i % 2].clone(), *user, email.clone());
                    async move {
                        tokio::spawn(async move { register(user, &email).by(&store).await }).await.unwrap()
                    }
                }),
            )
            .await;
        let winners: Vec<UserId> =
            users.iter().zip(&done).filter(|(_, done)| done.is_ok()).map(|(user, _)| *user).collect();
        assert_eq!(winners.len(), 1, "round {round}");
        for refused in done.iter().filter_map(|done| done.as_ref().err()) {
            assert!(matches!(refused, ExecuteError::ClaimTaken(Namespace::UserEmail)), "{refused:?}");
        }
        let holder = stores[1].holder(Namespace::UserEmail, &email).await.unwrap();
        assert_eq!(holder, Some(winners[0].0));
    }
    assert_eq!(log.count("claim").await, 5);
    assert_eq!(log.count("stream").await, 5, "the refused left no stream");
    assert_eq!(log.count("keys.subject").await, 5, "nor a key");
    log.assert_sound().await;
}

/// A committer of an older release may not write what it cannot project.
#[tokio::test]
async fn a_committer_of_an_older_release_refuses_to_write() {
    let log = Log::new().await;
    let store = log.store().await;
    let user = UserId::new();
    toggle(user).by(&store).await.unwrap();
    let raise = async |version: i32| {
        let statement = sqlx::query("update log_head set inline_version = $1").bind(version);
        statement.execute(&mut log.connection().await).await.unwrap();
    };
    raise(2).await;
    let outdated = toggle(user).by(&store).await.unwrap_err();
    assert!(matches!(outdated, ExecuteError::Commit(CommitError::Outdated)), "{outdated:?}");
    assert_eq!(log.head().await, 1, "no position was taken");
    raise(1).await;
    toggle(user).by(&store).await.unwrap();
    log.assert_sound().await;
}
