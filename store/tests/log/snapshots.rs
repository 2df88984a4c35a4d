//! A snapshot saves time and never changes an answer.

use tally_domain::{Decision, login::Login, user::User};
use tally_events::{
    CodeId, Event, LoginId, StreamId, UserId,
    login::{LoginCodeRefused, RefusalReason},
    user::{UserReinstated, UserSuspended},
};
use tally_store::{ExecuteError, Store};

use crate::support::{Do, Log, append, toggle};

/// What a command finds: the folded states, and the versions they rest on.
async fn look(store: &Store, user: UserId, login: LoginId) -> (User, Login, Vec<i64>) {
    let look = Do::new([user.into(), login.into()], move |world, _| {
        let versions = world.versions().map(|(_, version)| version.0).collect();
        Ok(Decision::unchanged((world.user(user).clone(), world.login(login).clone(), versions)))
    });
    look.by(store).await.unwrap().outcome
}

fn guess() -> Event {
    LoginCodeRefused {
        code_id: CodeId::new(),
        user_id: None,
        reason: RefusalReason::WrongCode,
        address: None,
        user_agent: None,
    }
    .into()
}

/// 200 events each in the history of a user and of a login, and snapshots of both.
async fn grown(log: &Log, store: &Store) -> (UserId, LoginId) {
    let (user, login) = (UserId::new(), LoginId::new());
    for _ in 0..10 {
        let pairs = (0..10).flat_map(|_| {
            let (suspended, reinstated): (Event, Event) = (UserSuspended {}.into(), UserReinstated {}.into());
            [
                (StreamId::from(user), suspended),
                (user.into(), reinstated),
                (login.into(), guess()),
                (login.into(), guess()),
            ]
        });
        append(pairs).by(store).await.unwrap();
    }
    let versions: Vec<i64> =
        sqlx::query_scalar("select version from snapshot").fetch_all(store.pool()).await.unwrap();
    assert!(versions.len() == 2 && versions.iter().all(|version| *version >= 64), "{versions:?}");
    assert_eq!(log.count("event").await, 400);
    (user, login)
}

async fn run(store: &Store, statement: &'static str) {
    sqlx::query(statement).execute(store.pool()).await.unwrap();
}

#[tokio::test]
async fn a_stream_loads_equal_with_and_without_its_snapshot() {
    let log = Log::new().await;
    let store = log.store().await;
    let (user, login) = grown(&log, &store).await;
    let with = look(&store, user, login).await;
    run(&store, "delete from snapshot").await;
    let without = look(&store, user, login).await;
    assert_eq!(with, without);
    assert_eq!(with.2, [200, 200]);
    assert_eq!(with.1.guessed.len(), tally_domain::login::GUESSES_MAX, "the fold says something");
}

/// A snapshot that lies is believed: so it is used.
#[tokio::test]
async fn a_snapshot_is_used() {
    let log = Log::new().await;
    let store = log.store().await;
    let (user, login) = grown(&log, &store).await;
    run(&store, r#"update snapshot set state = '{"user":{"registered":true,"suspended":true,"credentials_after":0}}', version = 200 where state::text like '%user%'"#).await;
    // The events it stands for are not read again: the last of them was a reinstatement.
    let state = look(&store, user, login).await.0;
    assert!(state.registered && state.suspended);
    // One of another shape is not.
    run(&store, "update snapshot set schema_version = 0").await;
    let (state, _, versions) = look(&store, user, login).await;
    assert!(!state.registered);
    assert_eq!(versions, [200, 200]);
    // The next change replaces it.
    toggle(user).by(&store).await.unwrap();
    let renewed: i64 = sqlx::query_scalar("select count(*) from snapshot where schema_version > 0")
        .fetch_one(store.pool())
        .await
        .unwrap();
    assert_eq!(renewed, 1);
}

#[tokio::test]
async fn a_snapshot_never_goes_back() {
    let log = Log::new().await;
    let store = log.store().await;
    let (user, _) = grown(&log, &store).await;
    run(&store, "update snapshot set version = 199 where version > 0").await;
    let before: Vec<i64> =
        sqlx::query_scalar("select version from snapshot").fetch_all(store.pool()).await.unwrap();
    toggle(user).by(&store).await.unwrap();
    let after: Vec<i64> =
        sqlx::query_scalar("select version from snapshot").fetch_all(store.pool()).await.unwrap();
    assert_eq!(before, after, "a stream that has grown by two needs no new one");
}

/// An unreadable one is not stepped over in silence: its events were left out of the statement.
#[tokio::test]
async fn an_unreadable_snapshot_is_an_error_until_it_is_deleted() {
    let log = Log::new().await;
    let store = log.store().await;
    let (user, _) = grown(&log, &store).await;
    run(&store, r#"update snapshot set state = '{"nonsense":1}'"#).await;
    // A process that does not remember the stream.
    let other = log.store().await;
    let error = toggle(user).by(&other).await.unwrap_err();
    assert!(matches!(error, ExecuteError::Read(tally_store::ReadError::Snapshot { .. })), "{error:?}");
    run(&other, "delete from snapshot").await;
    toggle(user).by(&other).await.unwrap();
    log.assert_sound().await;
}
