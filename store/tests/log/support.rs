//! A log of a test's own, and commands that do what the test says.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use sqlx::{Connection, PgConnection, PgPool, postgres::PgConnectOptions};
use tally_domain::{
    Action, Authorized, Command, Context, Decision, Principal, World, authorize, policy::Act,
};
use tally_events::{
    Event, Personal, StreamId, UserId,
    seal::Key,
    user::{UserProfileChanged, UserRegistered, UserReinstated, UserSuspended},
};
use tally_store::{
    Clock, ConnectionLimits, ExecuteError, Executed, KeyRing, Projection, RequestContext, Store, StoreOptions,
};
use tally_tests::{TempPostgres, eventually};
use tokio::sync::OnceCell;

pub const MASTER: Key = Key::from_bytes([1; 32]);
pub const SIGNING: Key = Key::from_bytes([2; 32]);

pub async fn postgres() -> &'static TempPostgres {
    static POSTGRES: OnceCell<TempPostgres> = OnceCell::const_new();
    POSTGRES.get_or_init(TempPostgres::start).await
}

/// A database of a test's own.
pub struct Log {
    pub options: PgConnectOptions,
}

impl Log {
    pub async fn new() -> Self {
        Self::on(postgres().await).await
    }

    pub async fn on(postgres: &TempPostgres) -> Self {
        let options = postgres.database().await;
        tally_store::migrate(&options).await.expect("an empty database migrates");
        Self { options }
    }

    /// A store, as another replica has one.
    pub async fn store(&self) -> Arc<Store> {
        self.store_with(self.options.clone(), Vec::new()).await
    }

    /// A store whose committer connects by way of `committing`.
    pub async fn store_with(
        &self,
        committing: PgConnectOptions,
        inline: Vec<Arc<dyn Projection>>,
    ) -> Arc<Store> {
        let pool = self.pool();
        let keys = KeyRing::unlock(pool.clone(), &MASTER, &SIGNING).await.expect("the keys of this database");
        let (store, _) = Store::start(StoreOptions {
            database: committing,
            pool,
            keys,
            clock: Clock::default(),
            inline,
            inline_version: 1,
        });
        Arc::new(store)
    }

    pub fn pool(&self) -> PgPool {
        tally_store::connect(self.options.clone(), ConnectionLimits { min: 0, max: 8 })
    }

    /// A connection that is nobody's but the test's.
    pub async fn connection(&self) -> PgConnection {
        PgConnection::connect_with(&self.options).await.expect("the cluster answers")
    }

    pub async fn assert_sound(&self) {
        tally_tests::log::assert_sound(&mut self.connection().await).await;
    }

    /// Every event's name, in order.
    pub async fn names(&self) -> Vec<String> {
        sqlx::query_scalar("select name from event order by position")
            .fetch_all(&mut self.connection().await)
            .await
            .expect("the log can be read")
    }

    pub async fn count(&self, table: &'static str) -> i64 {
        sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) from {table}")))
            .fetch_one(&mut self.connection().await)
            .await
            .expect("the table can be read")
    }

    pub async fn head(&self) -> i64 {
        tally_store::head(&mut self.connection().await).await.expect("the head can be read").position.0
    }

    /// Holds the head's lock until dropped or released, as a stranger would.
    pub async fn hold_head(&self) -> HeadLock {
        let mut connection = self.connection().await;
        sqlx::query("begin").execute(&mut connection).await.expect("a transaction begins");
        sqlx::query("select 1 from log_head for update")
            .execute(&mut connection)
            .await
            .expect("the lock is free");
        HeadLock { connection }
    }

    /// Waits until a committer waits for the head's lock.
    pub async fn committer_waits(&self, waiting: i64) {
        let mut connection = self.connection().await;
        eventually("a committer to wait for the head", async || {
            let found: i64 = sqlx::query_scalar(
                "select count(*) from pg_stat_activity
                  where datname = current_database() and wait_event_type = 'Lock' and query like 'update log_head%'",
            )
            .fetch_one(&mut connection)
            .await
            .expect("the cluster answers");
            (found == waiting).then_some(())
        })
        .await;
    }
}

pub struct HeadLock {
    connection: PgConnection,
}

impl HeadLock {
    pub async fn release(mut self) {
        sqlx::query("rollback").execute(&mut self.connection).await.expect("the cluster answers");
        self.connection.close().await.expect("the cluster answers");
    }
}

/// The rule of a test's command.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("refused by the test")]
pub struct TestRefusal;

type Decide<T> = dyn Fn(&World, &Context) -> Result<Decision<T>, TestRefusal> + Send + Sync;

/// A command that reads and decides what the test says, and counts its decisions.
#[derive(Clone)]
pub struct Do<T> {
    reads: Vec<StreamId>,
    decide: Arc<Decide<T>>,
    pub decisions: Arc<AtomicUsize>,
}

impl<T: Send + 'static> Do<T> {
    pub fn new(
        reads: impl IntoIterator<Item = StreamId>,
        decide: impl Fn(&World, &Context) -> Result<Decision<T>, TestRefusal> + Send + Sync + 'static,
    ) -> Self {
        Self { reads: reads.into_iter().collect(), decide: Arc::new(decide), decisions: Arc::default() }
    }

    /// The same command, its decisions counted together with others.
    pub fn counted(self, decisions: &Arc<AtomicUsize>) -> Self {
        Self { decisions: decisions.clone(), ..self }
    }

    pub async fn by(self, store: &Store) -> Result<Executed<T>, ExecuteError<TestRefusal>> {
        self.with(store, RequestContext::default()).await
    }

    pub async fn with(
        self,
        store: &Store,
        request: RequestContext,
    ) -> Result<Executed<T>, ExecuteError<TestRefusal>> {
        let command: Authorized<Self> = authorize(Principal::Operator, self).expect("an operator may");
        store.execute(&command, request).await
    }
}

impl<T> Act for Do<T> {
    const ACTION: Action = Action::SuspendUser;
}

impl<T: Send + 'static> Command for Do<T> {
    type Outcome = T;
    type Refusal = TestRefusal;

    fn reads(&self) -> Vec<StreamId> {
        self.reads.clone()
    }

    fn decide(&self, world: &World, context: &Context) -> Result<Decision<T>, TestRefusal> {
        self.decisions.fetch_add(1, Ordering::SeqCst);
        (self.decide)(world, context)
    }
}

/// Appends these events to streams it has read.
pub fn append(events: impl IntoIterator<Item = (StreamId, Event)>) -> Do<()> {
    let events: Vec<_> = events.into_iter().collect();
    let reads: Vec<StreamId> = events.iter().map(|(stream, _)| *stream).collect();
    Do::new(reads, move |_, _| Ok(Decision::of((), events.clone())))
}

/// Turns a user's suspension over: always one event, without personal data.
pub fn toggle(user: UserId) -> Do<bool> {
    Do::new([user.into()], move |world, _| {
        let suspended = world.user(user).suspended;
        let event: Event = if suspended { UserReinstated {}.into() } else { UserSuspended {}.into() };
        Ok(Decision::of(!suspended, [(user.into(), event)]))
    })
}

/// Registers a user under an address: claims the address and brings the user's key.
pub fn register(user: UserId, email: &str) -> Do<()> {
    append([(user.into(), registered(email).into())])
}

pub fn registered(email: &str) -> UserRegistered {
    UserRegistered { email: Personal::clear(email), name: Personal::clear("Somebody") }
}

pub fn renamed(name: &str) -> Event {
    UserProfileChanged { name: Some(Personal::clear(name)), ..UserProfileChanged::default() }.into()
}

/// An idempotency key.
pub fn idempotent(key: u8, body: u8, receipt: uuid::Uuid) -> RequestContext {
    let idempotency = tally_store::Idempotency { key: [key; 32], fingerprint: [body; 32], receipt };
    RequestContext { request: None, idempotency: Some(idempotency) }
}
