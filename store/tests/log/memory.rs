//! A store remembers streams it has seen. What it remembers may be old, and that never shows.

use tally_domain::{Command, Principal, authorize};
use tally_domain::{
    Decision,
    user::{ReinstateUser, SuspendUser},
};
use tally_events::{Event, UserId, user::UserSuspended};
use tally_store::{ExecuteError, Executed, RequestContext, Store};

use crate::support::{Do, Log, TestRefusal, register, toggle};

async fn by<C: Command>(store: &Store, command: C) -> Result<Executed<C::Outcome>, ExecuteError<C::Refusal>> {
    store.execute(&authorize(Principal::Operator, command).unwrap(), RequestContext::default()).await
}

/// Suspends a user who is not, and refuses where one is.
fn suspend_once(user: UserId) -> Do<()> {
    Do::new([user.into()], move |world, _| match world.user(user).suspended {
        true => Err(TestRefusal),
        false => Ok(Decision::of((), [(user.into(), Event::from(UserSuspended {}))])),
    })
}

/// Two replicas that remember a user, neither of whom knows what the other does.
async fn replicas(log: &Log) -> (std::sync::Arc<Store>, std::sync::Arc<Store>, UserId) {
    let (here, there) = (log.store().await, log.store().await);
    let user = UserId::new();
    register(user, "ada@example.org").by(&here).await.unwrap();
    toggle(user).by(&there).await.unwrap();
    toggle(user).by(&here).await.unwrap();
    (here, there, user)
}

#[tokio::test]
async fn a_decision_from_an_old_memory_is_made_again() {
    let log = Log::new().await;
    let (here, there, user) = replicas(&log).await;
    by(&there, SuspendUser { user }).await.unwrap();
    let command = suspend_once(user);
    let decisions = command.decisions.clone();
    let refused = command.by(&here).await.unwrap_err();
    assert!(matches!(refused, ExecuteError::Refused(TestRefusal)), "{refused:?}");
    assert_eq!(decisions.load(std::sync::atomic::Ordering::SeqCst), 2, "once from memory, once from the log");
    log.assert_sound().await;
}

#[tokio::test]
async fn a_refusal_is_never_said_from_memory() {
    let log = Log::new().await;
    let (here, there, user) = replicas(&log).await;
    by(&here, SuspendUser { user }).await.unwrap();
    by(&there, ReinstateUser { user }).await.unwrap();
    // This process still remembers the suspension.
    suspend_once(user).by(&here).await.unwrap();
    log.assert_sound().await;
}

#[tokio::test]
async fn nothing_to_do_is_never_said_from_memory() {
    let log = Log::new().await;
    let (here, there, user) = replicas(&log).await;
    by(&here, SuspendUser { user }).await.unwrap();
    by(&there, ReinstateUser { user }).await.unwrap();
    let executed = by(&here, SuspendUser { user }).await.unwrap();
    assert!(executed.appended, "the suspension that is remembered was lifted elsewhere");
    let again = by(&here, SuspendUser { user }).await.unwrap();
    assert!(!again.appended);
    assert_eq!(again.position, executed.position);
    log.assert_sound().await;
}

/// A mint's first look at its streams is its last: nothing is read that the committer reads anyway.
#[tokio::test]
async fn what_is_remembered_is_not_loaded() {
    let log = Log::new().await;
    let store = log.store().await;
    let user = UserId::new();
    register(user, "ada@example.org").by(&store).await.unwrap();
    // Whoever would read it waits for this lock, and fails.
    let mut stranger = log.connection().await;
    sqlx::query("begin").execute(&mut stranger).await.unwrap();
    sqlx::query("lock table snapshot in access exclusive mode").execute(&mut stranger).await.unwrap();
    toggle(user).by(&store).await.unwrap();
    let unknown = toggle(UserId::new()).by(&store).await.unwrap_err();
    assert!(matches!(unknown, ExecuteError::Read(_)), "{unknown:?}");
    sqlx::query("rollback").execute(&mut stranger).await.unwrap();
    log.assert_sound().await;
}
