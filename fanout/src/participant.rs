//! A process that takes part in the protocol: the machine, driven against Postgres.
//!
//! A [`Replica`](crate::Replica), which commits too, and a [`Verifier`](crate::Verifier), which only
//! asks, each have one, and all that keeps the promise is here and below.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, RwLock};
use sqlx::{Connection, PgConnection, PgPool};
use tally_domain::{Verdict, credential::CredentialHash};
use tally_events::Position;
use tally_projections::credentials::Standing;
use tally_store::{Batch, Clock, Store};
use tokio::{
    runtime::Handle,
    sync::{Notify, broadcast, mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use uuid::Uuid;

use crate::{
    Presented, ReplicaSettings, ReplicaStatus, VerifyError,
    bus::{Nats, NatsLink},
    keeper,
    lookups::{self, Lookups},
    metrics::METRICS,
    mono,
    news::{Publisher, Untold},
    protocol::Machine,
    registry, warm_start,
};

/// Where it is noted what was overthrown, in 2 MiB. A verdict has two places: at a thousand
/// revocations a second a bystander falls about every two minutes, and is looked up again.
const OVERTHROWN_PLACES: usize = 1 << 18;
/// Lookups under way at once at most: each carries all who came while the others were.
const FLIGHTS_MAX: usize = 4;
/// How long leaving may take before the row is left to those who clean up.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The log, as far as a participant has to do with it.
pub(crate) struct Log {
    pub pool: PgPool,
    pub clock: Clock,
    /// What commits in this process; none where nothing does.
    store: Option<Arc<Store>>,
}

impl Log {
    /// Of a process that commits to it.
    pub(crate) fn of(store: Arc<Store>) -> Self {
        Self { pool: store.pool().clone(), clock: store.clock().clone(), store: Some(store) }
    }

    /// Of a process that only reads it.
    pub(crate) fn read_by(pool: PgPool) -> Self {
        Self { pool, clock: Clock::default(), store: None }
    }

    /// What this process commits from now on.
    pub(crate) fn commits(&self) -> Option<broadcast::Receiver<Arc<Batch>>> {
        self.store.as_ref().map(|store| store.subscribe())
    }
}

/// Cloned, it is still the same; when the last clone is dropped its tasks end and its lease with
/// them.
#[derive(Clone)]
pub(crate) struct Participant {
    pub inner: Arc<Inner>,
    tasks: Arc<Tasks>,
}

pub(crate) struct Inner {
    pub log: Log,
    pub settings: ReplicaSettings,
    /// Readers share it; every step of the protocol has it alone.
    pub machine: Arc<RwLock<Machine>>,
    /// Told after every step.
    pub moved: watch::Sender<()>,
    /// The log has more than was heard.
    pub catch_up: Notify,
    /// The cursor has begun, and nothing is remembered.
    pub begun: Notify,
    pub publisher: Publisher,
    /// Rows of the list this process may have made.
    pub rows: Mutex<Vec<Uuid>>,
    lookups: Arc<Lookups>,
    /// The position that the log ended at when the lease was last renewed.
    pub head: AtomicI64,
    bus: Option<NatsLink>,
}

impl Inner {
    /// One step of the protocol, and then everybody who waits for it.
    pub(crate) fn change<T>(&self, step: impl FnOnce(&mut Machine) -> T) -> T {
        let (done, garbage) = {
            let mut machine = self.machine.write();
            (step(&mut machine), machine.take_garbage())
        };
        // A million verdicts take a while to free; readers need not wait for that.
        drop(garbage);
        self.moved.send_replace(());
        done
    }

    /// Tells those in the process who act on what was applied.
    pub(crate) fn tell(&self, untold: Untold) {
        self.publisher.publish(untold);
    }

    pub(crate) fn database_time(&self) -> DateTime<Utc> {
        self.machine.read().database_time(mono::now()).unwrap_or_else(|| self.log.clock.now())
    }
}

struct Tasks {
    inner: Arc<Inner>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Tasks {
    /// Nobody waits for what is done about the list, and whoever ends without it is taken off by the
    /// others.
    fn drop(&mut self) {
        self.inner.change(Machine::close);
        let handles = std::mem::take(self.handles.get_mut());
        handles.iter().for_each(JoinHandle::abort);
        if let (false, Ok(runtime)) = (self.inner.rows.lock().is_empty(), Handle::try_current()) {
            runtime.spawn(leave_the_list(self.inner.clone(), handles));
        }
    }
}

impl Participant {
    /// One that is in no list and remembers nothing, unless its tasks make it.
    pub(crate) fn new(
        log: Log,
        settings: ReplicaSettings,
        machine: Machine,
        bus: Option<NatsLink>,
    ) -> (Self, mpsc::Receiver<Untold>) {
        let machine = Arc::new(RwLock::new(machine));
        // A quarter of the pool stays for commands, and for everything else that uses it.
        let flights_max = FLIGHTS_MAX.min(log.pool.options().get_max_connections() as usize * 3 / 4);
        let look = lookups::in_postgres(log.pool.clone());
        let lookups = Lookups::new(look, machine.clone(), flights_max, settings.verify_deadline);
        let (publisher, untold) = Publisher::new();
        let inner = Inner {
            log,
            settings,
            machine,
            moved: watch::Sender::new(()),
            catch_up: Notify::new(),
            begun: Notify::new(),
            publisher,
            rows: Mutex::new(Vec::new()),
            lookups: Arc::new(lookups),
            head: AtomicI64::new(Position::ZERO.0),
            bus,
        };
        let inner = Arc::new(inner);
        let tasks = Tasks { inner: inner.clone(), handles: Mutex::new(Vec::new()) };
        (Self { inner, tasks: Arc::new(tasks) }, untold)
    }

    /// One that registers, keeps a lease and follows the log. It returns at once: until the
    /// registration and a first lease stand, verdicts come from Postgres.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub(crate) fn join(
        log: Log,
        settings: ReplicaSettings,
        nats: Option<Nats>,
    ) -> (Self, mpsc::Receiver<Untold>) {
        let machine = Machine::new(settings.timing(), settings.capacity, OVERTHROWN_PLACES);
        let (participant, untold) = Self::new(log, settings, machine, nats.as_ref().map(Nats::link));
        participant.spawn(keeper::keep_lease(participant.inner.clone()));
        participant.spawn(keeper::follow_log(participant.inner.clone(), nats));
        if settings.warm_start {
            participant.spawn(warm_start::warm_start(participant.inner.clone()));
        }
        (participant, untold)
    }

    /// A task that ends with the participant.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.handles.lock().push(tokio::spawn(task));
    }

    /// R5, whole: from memory under a lease, from Postgres otherwise, and nobody guesses.
    pub(crate) async fn verify(&self, presented: &Presented) -> Result<Verdict, VerifyError> {
        if let Some(verdict) = self.remembered(&presented.hash()) {
            return Ok(verdict);
        }
        self.look_up(presented).await
    }

    /// The part of it that needs no database and does not wait: a yes, or nothing.
    pub(crate) fn remembered(&self, hash: &CredentialHash) -> Option<Verdict> {
        let verdict = self.inner.machine.read().answer(hash, mono::now)?;
        METRICS.remembered(&verdict);
        Some(verdict)
    }

    /// The part of it that asks Postgres.
    pub(crate) async fn look_up(&self, presented: &Presented) -> Result<Verdict, VerifyError> {
        let verdict = self.found(presented).await;
        METRICS.looked_up(&verdict, presented.kind());
        verdict
    }

    async fn found(&self, presented: &Presented) -> Result<Verdict, VerifyError> {
        let found = self.inner.lookups.find(*presented).await.ok_or(VerifyError::Unavailable)?;
        match found.standing {
            Standing::Invalid => Err(VerifyError::Invalid),
            Standing::Suspended => Err(VerifyError::Suspended),
            Standing::Live(verdict) => {
                let now = self.inner.database_time();
                if verdict.expires_at().is_none_or(|at| now < at) {
                    Ok(verdict)
                } else {
                    Err(VerifyError::Invalid)
                }
            }
        }
    }

    pub(crate) fn applied(&self) -> Position {
        self.inner.machine.read().applied()
    }

    pub(crate) fn status(&self) -> ReplicaStatus {
        let machine = self.inner.machine.read();
        ReplicaStatus {
            registered: machine.replica().is_some(),
            lease_valid: machine.lease().is_some_and(|lease| lease.holds(mono::now())),
            applied: machine.applied(),
            head: Position(self.inner.head.load(Ordering::Relaxed)),
            bus_connected: self.inner.bus.as_ref().map(NatsLink::is_connected),
            cached: machine.cached(),
            cached_bytes: machine.cached_bytes(),
        }
    }

    /// How long ago the renewal was sent that memory answers by; none without.
    pub(crate) fn lease_age(&self) -> Option<Duration> {
        let lease = self.inner.machine.read().lease()?;
        Some(mono::now().since(lease.since))
    }

    /// R9: stops answering from memory, ends the tasks and leaves the list, so that nobody waits for
    /// this process any more. Bounded in time; what could not be deleted is cleaned up by others.
    pub(crate) async fn leave(&self) {
        self.inner.change(Machine::close);
        let tasks = std::mem::take(&mut *self.tasks.handles.lock());
        tasks.iter().for_each(JoinHandle::abort);
        leave_the_list(self.inner.clone(), tasks).await;
    }
}

/// R9: the rows go when the tasks are gone that could make others, and the lease before both.
async fn leave_the_list(inner: Arc<Inner>, tasks: Vec<JoinHandle<()>>) {
    let leaving = async {
        for task in tasks {
            // Aborted: that it says so is no news.
            drop(task.await);
        }
        let rows = std::mem::take(&mut *inner.rows.lock());
        if rows.is_empty() {
            return Ok(());
        }
        let mut connection = PgConnection::connect_with(&inner.log.pool.connect_options()).await?;
        registry::remove(&mut connection, &rows).await?;
        connection.close().await
    };
    match timeout(LEAVE_TIMEOUT, leaving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(
            error = &error as &dyn std::error::Error,
            "this process did not leave the list; the others will take it off"
        ),
        Err(_) => tracing::warn!("leaving the list took too long; the others will take this process off"),
    }
}
