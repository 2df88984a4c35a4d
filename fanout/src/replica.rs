//! One process that serves: it verifies credentials from memory or from Postgres, and says
//! "revoked" only once that is true everywhere.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, RwLock};
use sqlx::{Connection, PgConnection};
use tally_domain::{
    Authorized, Command, PersonCredential, Principal, PrincipalKind, Verdict,
    credential::{CredentialHash, CredentialKind},
};
use tally_events::{Position, SessionId, UserId};
use tally_projections::credentials::Standing;
use tally_store::{ExecuteError, Executed, RequestContext, Store};
use tokio::{
    sync::{Notify, broadcast, mpsc, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};
use uuid::Uuid;

use crate::{
    bus::{Nats, NatsLink},
    keeper,
    lookups::{self, Lookups},
    metrics::METRICS,
    mono,
    news::{self, News, Publisher, Untold},
    protocol::{Barrier, By, Machine, Mono, Timing},
    registry,
};

/// Where it is noted what was overthrown, in 2 MiB. A verdict has two places: at a thousand
/// revocations a second a bystander falls about every two minutes, and is looked up again.
const OVERTHROWN_PLACES: usize = 1 << 18;
/// Lookups under way at once at most: each carries all who came while the others were.
const FLIGHTS_MAX: usize = 4;
/// How long leaving may take before the row is left to those who clean up.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a replica can be told.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaSettings {
    /// Δ: how long a replica may answer from memory after it last read the head. All replicas of a
    /// database must have the same.
    pub lease: Duration,
    /// ε: what clocks may drift apart in that time. All replicas must have the same.
    pub drift: Duration,
    /// Verdicts in memory at most.
    pub capacity: usize,
    /// How long a verification waits for Postgres.
    pub verify_deadline: Duration,
}

impl Default for ReplicaSettings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(1),
            drift: Duration::from_millis(50),
            capacity: 1_000_000,
            verify_deadline: Duration::from_secs(2),
        }
    }
}

impl ReplicaSettings {
    pub(crate) const fn timing(&self) -> Timing {
        Timing { lease: self.lease, drift: self.drift }
    }
}

/// What somebody showed.
#[derive(Clone, Copy, Debug)]
pub enum Presented {
    Token(CredentialHash),
    /// A session's JWT. Its signature was checked; the rest are its claims.
    Session {
        hash: CredentialHash,
        id: SessionId,
        user: UserId,
        /// Which kind of session it says it shows.
        kind: CredentialKind,
        expires_at: DateTime<Utc>,
    },
}

impl Presented {
    pub(crate) const fn hash(&self) -> CredentialHash {
        match self {
            Self::Token(hash) | Self::Session { hash, .. } => *hash,
        }
    }

    /// Known of a session, whose JWT says so; a token is only what is found under its hash.
    const fn kind(&self) -> Option<CredentialKind> {
        match self {
            Self::Token(_) => None,
            Self::Session { kind, .. } => Some(*kind),
        }
    }

    /// A session lasts no longer than the JWT that shows it. One that names another person or another
    /// kind than its session does was not made here: none.
    pub(crate) fn limit(&self, mut verdict: Verdict) -> Option<Verdict> {
        let Self::Session { user, kind, expires_at: claimed, .. } = self else { return Some(verdict) };
        if let Principal::Person {
            credential:
                PersonCredential::Session { expires_at, .. } | PersonCredential::ConsoleSession { expires_at, .. },
            ..
        } = &mut verdict.principal
        {
            *expires_at = (*expires_at).min(*claimed);
        }
        let principal = &verdict.principal;
        let is_shown =
            principal.user() == Some(*user) && principal.kind() == PrincipalKind::Credential(*kind);
        is_shown.then_some(verdict)
    }
}

/// Why there is no yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Unknown, revoked, ended or expired; nobody is told which.
    #[error("the credential is not valid")]
    Invalid,
    #[error("the account is suspended")]
    Suspended,
    /// It cannot be known at the moment: this is no no, and never a yes.
    #[error("the credential cannot be checked at the moment")]
    Unavailable,
}

/// What came of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done<O> {
    pub executed: Executed<O>,
    /// How it became true everywhere; none for a command that revokes nothing.
    pub effective: Option<Effective>,
}

/// A revocation that holds on every replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effective {
    /// Since the database's reply.
    pub waited: Duration,
    pub by: By,
}

/// For metrics and health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaStatus {
    pub registered: bool,
    pub lease_valid: bool,
    pub applied: Position,
    /// Where the log ended at the last renewal.
    pub head: Position,
    /// Whether NATS is there; none where none was named.
    pub bus_connected: Option<bool>,
    /// Verdicts in memory, and the bytes they take.
    pub cached: usize,
    pub cached_bytes: usize,
}

/// A process among those that share a log. Cloned, it is still the same; when the last clone is
/// dropped its tasks end and its lease with them.
#[derive(Clone)]
pub struct Replica {
    inner: Arc<Inner>,
    tasks: Arc<Tasks>,
}

pub(crate) struct Inner {
    pub store: Arc<Store>,
    pub settings: ReplicaSettings,
    /// Readers share it; every step of the protocol has it alone.
    pub machine: Arc<RwLock<Machine>>,
    /// Told after every step.
    moved: watch::Sender<()>,
    /// The log has more than was heard.
    pub catch_up: Notify,
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

    fn database_time(&self) -> DateTime<Utc> {
        self.machine.read().database_time(mono::now()).unwrap_or_else(|| self.store.clock().now())
    }
}

struct Tasks {
    inner: Arc<Inner>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.inner.change(Machine::close);
        self.handles.get_mut().iter().for_each(JoinHandle::abort);
    }
}

impl Replica {
    /// Joins those who may answer from memory. It returns at once: until the registration and a
    /// first lease stand, verdicts come from Postgres. By NATS the others hear at once what it revokes,
    /// and say so; without, a revocation waits until every lease from before is over.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn join(store: Arc<Store>, settings: ReplicaSettings, nats: Option<Nats>) -> Self {
        let machine = Machine::new(settings.timing(), settings.capacity, OVERTHROWN_PLACES);
        let (replica, untold) = Self::of(store, settings, machine, nats.as_ref().map(Nats::link));
        replica.tasks.handles.lock().extend([
            tokio::spawn(keeper::keep_lease(replica.inner.clone())),
            tokio::spawn(keeper::follow_log(replica.inner.clone(), nats)),
            tokio::spawn(news::tell(replica.inner.clone(), untold)),
            tokio::spawn(keeper::clean_up(replica.inner.clone())),
        ]);
        replica
    }

    /// A process that comes and goes, such as a command line: it is in no list and remembers nothing.
    #[must_use]
    pub fn observer(store: Arc<Store>, settings: ReplicaSettings) -> Self {
        Self::of(store, settings, Machine::observer(settings.timing()), None).0
    }

    fn of(
        store: Arc<Store>,
        settings: ReplicaSettings,
        machine: Machine,
        bus: Option<NatsLink>,
    ) -> (Self, mpsc::Receiver<Untold>) {
        let machine = Arc::new(RwLock::new(machine));
        // A quarter of the pool stays for commands, and for everything else that uses it.
        let flights_max = FLIGHTS_MAX.min(store.pool().options().get_max_connections() as usize * 3 / 4);
        let look = lookups::in_postgres(store.pool().clone());
        let lookups = Lookups::new(look, machine.clone(), flights_max, settings.verify_deadline);
        let (publisher, untold) = Publisher::new();
        let inner = Inner {
            store,
            settings,
            machine,
            moved: watch::Sender::new(()),
            catch_up: Notify::new(),
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

    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.inner.store
    }

    /// Whether a credential is good, and whose it is.
    ///
    /// The request has arrived when this is called; every reading that counts is taken after that
    /// (R5). Memory answers under a lease, Postgres otherwise, and nobody guesses.
    ///
    /// # Errors
    /// A no, or that it cannot be known.
    pub async fn verify(&self, presented: &Presented) -> Result<Verdict, VerifyError> {
        if let Some(verdict) = self.remembered(&presented.hash()) {
            return Ok(verdict);
        }
        let verdict = self.look_up(presented).await;
        METRICS.looked_up(&verdict, presented.kind());
        verdict
    }

    async fn look_up(&self, presented: &Presented) -> Result<Verdict, VerifyError> {
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

    /// The part of [`verify`](Self::verify) that needs no database and does not wait: a yes from
    /// memory under a valid lease. None says nothing about the credential.
    ///
    /// It asks for the hash alone: what is remembered under it was presented whole, and for a
    /// session that means that this very JWT was checked.
    #[must_use]
    pub fn remembered(&self, hash: &CredentialHash) -> Option<Verdict> {
        let verdict = self.inner.machine.read().answer(hash, mono::now)?;
        METRICS.remembered(&verdict);
        Some(verdict)
    }

    /// What this replica applies from now on, in order, also where other replicas committed it. Whoever
    /// falls far behind is told so, and cannot know what they missed.
    #[must_use]
    pub fn news(&self) -> broadcast::Receiver<News> {
        self.inner.publisher.subscribe()
    }

    /// Executes a command; one that revokes is answered only when no replica says yes any more.
    ///
    /// # Errors
    /// As [`Store::execute`]. A repeated revocation waits as the first did.
    pub async fn execute<C: Command>(
        &self,
        command: &Authorized<C>,
        request: RequestContext,
    ) -> Result<Done<C::Outcome>, ExecuteError<C::Refusal>> {
        let executed = self.inner.store.execute(command, request).await;
        // Never earlier: a lease may be taken until the commit is visible.
        let t0 = mono::now();
        // R8: whatever asserts "revoked" waits, and "already so" and a replay assert it too.
        let asserted = match &executed {
            Ok(executed) => Some(executed.position),
            Err(ExecuteError::Replayed { position, .. }) => Some(*position),
            Err(_) => None,
        };
        let effective = match asserted.filter(|_| C::REVOKES) {
            Some(position) => Some(self.make_effective(position, t0).await),
            None => None,
        };
        executed.map(|executed| Done { executed, effective })
    }

    /// R7: waits until everyone has acknowledged, or until no lease from before can be valid.
    async fn make_effective(&self, position: Position, t0: Mono) -> Effective {
        let inner = &self.inner;
        let by_time = t0.after(inner.settings.timing().bound());
        // Read after the reply, together with the history it is of: a commit's own reply does not
        // name that, and an epoch alone could be of another.
        let members = timeout(by_time.since(mono::now()), registry::members(inner.store.pool())).await;
        let members = match members {
            Ok(Ok(members)) => Some(members),
            Ok(Err(error)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the list of replicas cannot be read: a revocation becomes effective by time"
                );
                None
            }
            Err(_) => None,
        };
        let barrier = Barrier { position, t0, members };
        let mut moved = inner.moved.subscribe();
        loop {
            let now = mono::now();
            let (effective, again) = {
                let machine = inner.machine.read();
                (machine.effective(&barrier, now), machine.ask_again_at(&barrier, now))
            };
            if let Some(by) = effective {
                let waited = now.since(t0);
                tracing::debug!(
                    event.position = position.0,
                    duration_ms = waited.as_secs_f64() * 1000.0,
                    by = ?by,
                    "a revocation is effective"
                );
                METRICS.effective(by, waited);
                return Effective { waited, by };
            }
            tokio::select! {
                // The sender lives as long as `inner`.
                _ = moved.changed() => {}
                () = sleep(again.since(now)) => {}
            }
        }
    }

    /// How far this replica has applied the log; zero for an observer.
    #[must_use]
    pub fn applied(&self) -> Position {
        self.inner.machine.read().applied()
    }

    /// Waits until the log is applied as far as `position`; false when it takes too long.
    pub async fn wait_applied(&self, position: Position, deadline: Duration) -> bool {
        let mut moved = self.inner.moved.subscribe();
        let reached = async { while self.applied() < position && moved.changed().await.is_ok() {} };
        timeout(deadline, reached).await.is_ok()
    }

    #[must_use]
    pub fn status(&self) -> ReplicaStatus {
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

    /// How long ago the renewal was sent that this replica answers from memory by; none without.
    #[must_use]
    pub fn lease_age(&self) -> Option<Duration> {
        let lease = self.inner.machine.read().lease()?;
        Some(mono::now().since(lease.since))
    }

    /// R9: stops answering from memory, ends the tasks and leaves the list, so that nobody waits for
    /// this process any more. Bounded in time; what could not be deleted is cleaned up by others.
    pub async fn leave(&self) {
        self.inner.change(Machine::close);
        let tasks = std::mem::take(&mut *self.tasks.handles.lock());
        for task in &tasks {
            task.abort();
        }
        let leaving = async {
            for task in tasks {
                // Aborted: that it says so is no news.
                drop(task.await);
            }
            let rows = std::mem::take(&mut *self.inner.rows.lock());
            if rows.is_empty() {
                return Ok(());
            }
            let mut connection =
                PgConnection::connect_with(&self.inner.store.pool().connect_options()).await?;
            registry::remove(&mut connection, &rows).await?;
            connection.close().await
        };
        match timeout(LEAVE_TIMEOUT, leaving).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "this replica did not leave the list; the others will take it off"
            ),
            Err(_) => tracing::warn!("leaving the list took too long; the others will take this replica off"),
        }
    }
}
