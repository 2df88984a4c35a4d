//! Commands that land in one transaction: each is judged alone, in the order they came.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::Executor;
use tally_domain::{Decision, claim::Namespace};
use tally_events::{RequestId, StreamId, UserId, user::UserSuspended};
use tally_store::{CommitError, ExecuteError, RequestContext, Store};
use tally_tests::eventually;
use tokio::task::JoinHandle;

use crate::support::{Do, HeadLock, Log, TestRefusal, append, idempotent, register, registered, toggle};

type Told = Result<i64, ExecuteError<TestRefusal>>;

/// Commands that wait behind the head's lock, and so will be one batch.
///
/// Runs on a runtime of one thread: a command that has decided, and needs no key from the
/// database, is in the committer's queue before any other task runs.
struct Queue<'a> {
    log: &'a Log,
    store: Arc<Store>,
    lock: HeadLock,
    decided: Arc<AtomicUsize>,
    commands: Vec<JoinHandle<Told>>,
}

impl<'a> Queue<'a> {
    async fn new(log: &'a Log, store: &Arc<Store>) -> Self {
        let lock = log.hold_head().await;
        // The committer takes this one alone and waits with it; the others gather behind it.
        let plug = store.clone();
        tokio::spawn(async move { toggle(UserId::new()).by(&plug).await.map(drop).unwrap() });
        log.committer_waits(1).await;
        Self { log, store: store.clone(), lock, decided: Arc::default(), commands: Vec::new() }
    }

    /// Queues one command behind those before it.
    async fn push<T: Send + 'static>(&mut self, command: Do<T>, request: RequestContext) {
        let (store, command) = (self.store.clone(), command.counted(&self.decided));
        self.commands.push(tokio::spawn(async move {
            command.with(&store, request).await.map(|executed| executed.position.0)
        }));
        let wanted = self.commands.len();
        let decided = self.decided.clone();
        eventually("the command to decide", async || {
            (decided.load(Ordering::SeqCst) == wanted).then_some(())
        })
        .await;
    }

    /// Lets them go; the answers in the order they were queued. The first of their positions is 2.
    async fn release(self) -> Vec<Told> {
        self.log.committer_waits(1).await;
        self.lock.release().await;
        let mut told = Vec::new();
        for command in self.commands {
            told.push(command.await.unwrap());
        }
        told
    }
}

/// How many transactions wrote the events after the first.
async fn transactions(log: &Log) -> i64 {
    sqlx::query_scalar("select count(distinct xmin::text) from event where position > 1")
        .fetch_one(&mut log.connection().await)
        .await
        .unwrap()
}

fn plain() -> RequestContext {
    RequestContext::default()
}

#[tokio::test]
async fn of_two_commands_in_one_batch_that_want_one_address_the_first_has_it() {
    let log = Log::new().await;
    let store = log.store().await;
    let (first, second, third) = (UserId::new(), UserId::new(), UserId::new());
    let mut queue = Queue::new(&log, &store).await;
    queue.push(register(first, "ada@example.org"), plain()).await;
    queue.push(register(second, "ada@example.org"), plain()).await;
    queue.push(register(third, "eve@example.org"), plain()).await;
    let told = queue.release().await;
    assert!(matches!(told[0], Ok(2)), "{told:?}");
    assert!(matches!(told[1], Err(ExecuteError::ClaimTaken(Namespace::UserEmail))), "{told:?}");
    assert!(matches!(told[2], Ok(3)), "no position is left free by the refused: {told:?}");
    assert_eq!(transactions(&log).await, 1, "they were one batch");
    assert_eq!(store.holder(Namespace::UserEmail, "ada@example.org").await.unwrap(), Some(first.0));
    log.assert_sound().await;
}

#[tokio::test]
async fn of_two_commands_in_one_batch_on_one_stream_the_second_decides_again_on_what_the_first_left() {
    let log = Log::new().await;
    let store = log.store().await;
    let user = UserId::new();
    let mut queue = Queue::new(&log, &store).await;
    queue.push(toggle(user), plain()).await;
    queue.push(toggle(user), plain()).await;
    let decided = queue.decided.clone();
    let told = queue.release().await;
    assert!(matches!(told[..], [Ok(2), Ok(3)]), "{told:?}");
    assert_eq!(decided.load(Ordering::SeqCst), 3);
    assert_eq!(log.names().await[1..], ["user.suspended", "user.reinstated"]);
    log.assert_sound().await;
}

/// Judged in memory: the table's own refusal would fail the batch and have it halved.
#[tokio::test]
async fn of_two_commands_in_one_batch_with_one_key_the_second_is_a_replay() {
    let log = Log::new().await;
    let store = log.store().await;
    let (first, second) = (uuid::Uuid::now_v7(), uuid::Uuid::now_v7());
    let mut queue = Queue::new(&log, &store).await;
    queue.push(toggle(UserId::new()), idempotent(5, 1, first)).await;
    queue.push(toggle(UserId::new()), idempotent(5, 1, second)).await;
    queue.push(toggle(UserId::new()), idempotent(5, 2, second)).await;
    queue.push(toggle(UserId::new()), plain()).await;
    let told = queue.release().await;
    assert!(matches!((&told[0], &told[3]), (Ok(2), Ok(3))), "{told:?}");
    assert!(
        matches!(told[1], Err(ExecuteError::Replayed { receipt, position }) if receipt == first && position.0 == 2),
        "{told:?}"
    );
    assert!(matches!(told[2], Err(ExecuteError::KeyReused)), "{told:?}");
    assert_eq!(transactions(&log).await, 1);
    log.assert_sound().await;
}

/// What a refused command would have written: an event, a stream, a claim, a key, an idempotency key.
#[tokio::test]
async fn a_refused_command_leaves_nothing_behind() {
    let log = Log::new().await;
    let store = log.store().await;
    let (ada, eve, receipt) = (UserId::new(), UserId::new(), uuid::Uuid::now_v7());
    let mut queue = Queue::new(&log, &store).await;
    queue.push(register(ada, "taken@example.org"), plain()).await;
    // Its first claim is free, its second is not: nothing of it may stand.
    let half = append([
        (StreamId::from(eve), registered("free@example.org").into()),
        (StreamId::from(UserId::new()), registered("taken@example.org").into()),
    ]);
    queue.push(half, idempotent(7, 7, receipt)).await;
    // What it would have claimed and used is free for who comes after it in the same batch.
    let heir = UserId::new();
    queue.push(register(heir, "free@example.org"), idempotent(7, 8, heir.0)).await;
    let told = queue.release().await;
    assert!(matches!(told[1], Err(ExecuteError::ClaimTaken(_))), "{told:?}");
    assert!(matches!((&told[0], &told[2]), (Ok(2), Ok(3))), "{told:?}");
    assert_eq!(transactions(&log).await, 1);
    assert_eq!(store.holder(Namespace::UserEmail, "free@example.org").await.unwrap(), Some(heir.0));
    let rows = [("claim", 2), ("keys.subject", 2), ("stream", 3), ("idempotency", 1), ("event", 3)];
    for (table, expected) in rows {
        assert_eq!(log.count(table).await, expected, "rows of {table}");
    }
    assert_eq!(log.head().await, 3);
    log.assert_sound().await;
}

/// A batch of which nothing stands gives back the positions it reserved.
#[tokio::test]
async fn a_batch_of_refused_commands_takes_no_position() {
    let log = Log::new().await;
    let store = log.store().await;
    register(UserId::new(), "taken@example.org").by(&store).await.unwrap();
    let told = register(UserId::new(), "taken@example.org").by(&store).await;
    assert!(matches!(told, Err(ExecuteError::ClaimTaken(_))), "{told:?}");
    assert_eq!(log.head().await, 1);
    log.assert_sound().await;
}

/// The stranger is a trigger that refuses one marked row, with a data exception and by `raise`.
#[tokio::test]
async fn rows_the_database_refuses_fail_their_own_command_and_no_other() {
    for sqlstate in ["22023", "23514", "P0001"] {
        let log = Log::new().await;
        let store = log.store().await;
        let marked = RequestId::new();
        let trigger = format!(
            "create function refuse() returns trigger language plpgsql as $$
             begin raise exception 'poison' using errcode = '{sqlstate}'; end $$;
             create trigger refuse before insert on event for each row when (new.request_id = '{marked}')
             execute function refuse()"
        );
        log.connection().await.execute(sqlx::AssertSqlSafe(trigger)).await.unwrap();
        let mut queue = Queue::new(&log, &store).await;
        for index in 0..12 {
            let request = (index == 7).then_some(marked);
            let email = format!("person-{index}@example.org");
            queue.push(register(UserId::new(), &email), RequestContext { request, idempotency: None }).await;
        }
        let told = queue.release().await;
        for (index, told) in told.iter().enumerate() {
            match told {
                Ok(_) => assert_ne!(index, 7, "{sqlstate}"),
                Err(ExecuteError::Commit(CommitError::Poison(_))) => assert_eq!(index, 7, "{sqlstate}"),
                Err(other) => panic!("{sqlstate}, command {index}: {other:?}"),
            }
        }
        let positions: Vec<i64> = told.iter().filter_map(|told| told.as_ref().ok().copied()).collect();
        assert_eq!(positions, (2..=12).collect::<Vec<i64>>(), "in the order they came");
        assert_eq!(log.count("claim").await, 11);
        log.assert_sound().await;
    }
}

/// A decision that changes nothing takes no part in a batch, and needs no lock.
#[tokio::test]
async fn a_decision_without_events_does_not_wait_for_the_head() {
    let log = Log::new().await;
    let store = log.store().await;
    let user = UserId::new();
    append([(StreamId::from(user), UserSuspended {}.into())]).by(&store).await.unwrap();
    let lock = log.hold_head().await;
    let nothing = Do::new([user.into()], |_, _| Ok(Decision::unchanged(())));
    let told =
        tokio::time::timeout(Duration::from_secs(2), nothing.by(&store)).await.expect("no lock is needed");
    let executed = told.unwrap();
    assert_eq!((executed.position.0, executed.appended), (1, false));
    lock.release().await;
}
