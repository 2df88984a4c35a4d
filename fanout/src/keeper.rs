//! The tasks of a replica: keeping the lease, following the log, cleaning up after the dead.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sqlx::{Connection, PgConnection};
use tally_store::ReadError;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::{
    bus::{Bus, Heard, Nats, Reorder, Said},
    metrics::METRICS,
    mono,
    news::Untold,
    outage::{Outage, TooLate},
    participant::Inner,
    protocol::{Applied, RenewalAnswer, Renewed, ReplicaId},
    registry::{self, Marked},
};

/// How long opening a connection, registering, and reading a page or the list may take.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);
/// Between tries while the database is away: from the first, doubled up to the last.
pub(crate) const RETRY_FIRST: Duration = Duration::from_millis(50);
pub(crate) const RETRY_LAST: Duration = Duration::from_secs(1);
/// How often the list is searched for the dead.
const CLEANUP_PERIOD: Duration = Duration::from_secs(5);
/// A replica that was silent for longer is taken for dead; for long leases, after ten of them.
const SILENCE: Duration = Duration::from_secs(10);

/// What a task leaves behind however it ends: no lease. Without the one that follows the log or the
/// one that renews, the promise behind the lease is not kept.
struct LastWord(Arc<Inner>, &'static str);

impl Drop for LastWord {
    fn drop(&mut self) {
        let was_closed = self.0.change(|machine| {
            let was_closed = machine.is_closed();
            machine.close();
            was_closed
        });
        if !was_closed {
            tracing::error!(
                "the task that {} has ended: this replica answers from the database only until it is restarted",
                self.1
            );
        }
    }
}

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A connection of its own, so that neither a full pool nor a slow neighbour delays a renewal.
pub(crate) struct Link {
    inner: Arc<Inner>,
    connection: Option<PgConnection>,
}

impl Link {
    pub(crate) const fn new(inner: Arc<Inner>) -> Self {
        Self { inner, connection: None }
    }

    /// Runs `work` within `limit`. A connection on which anything went wrong is dropped, and with
    /// it whatever was still under way: it might belong to a history that is no longer ours.
    pub(crate) async fn with<T, E: Into<Failure>>(
        &mut self,
        limit: Duration,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
    ) -> Result<T, Failure> {
        let mut connection = if let Some(connection) = self.connection.take() {
            connection
        } else {
            let options = self.inner.log.pool.connect_options();
            timeout(ANSWER_TIMEOUT, PgConnection::connect_with(&options)).await.map_err(|_| TooLate)??
        };
        let done = timeout(limit, work(&mut connection)).await.map_err(|_| TooLate)?.map_err(Into::into)?;
        self.connection = Some(connection);
        Ok(done)
    }
}

/// Registers, and then renews the lease three times as often as it must.
pub(crate) async fn keep_lease(inner: Arc<Inner>) {
    let _last_word = LastWord(inner.clone(), "renews the lease");
    let outage = Outage::new("renewing the lease of this replica");
    let mut link = Link::new(inner.clone());
    let mut pause = RETRY_FIRST;
    while !inner.machine.read().is_closed() {
        let started = mono::now();
        match keep_once(&inner, &mut link).await {
            Ok(Renewed::Leased | Renewed::Behind) => {
                outage.worked();
                pause = RETRY_FIRST;
                let period = inner.settings.lease / 3;
                sleep(period.saturating_sub(mono::now().since(started))).await;
            }
            Ok(Renewed::Lost | Renewed::Ignored) => {
                link.connection = None;
                sleep(RETRY_FIRST).await;
            }
            Err(error) => {
                outage.failed(&*error);
                sleep(pause).await;
                pause = (pause * 2).min(RETRY_LAST);
            }
        }
    }
}

async fn keep_once(inner: &Arc<Inner>, link: &mut Link) -> Result<Renewed, Failure> {
    if inner.machine.read().is_unregistered() {
        register(inner, link).await?;
    }
    // t0 is stamped before anything is sent, and not before the registration was known.
    let Some(sent) = inner.machine.read().renewal_sent(mono::now()) else { return Ok(Renewed::Ignored) };
    let began = mono::now();
    // An answer that comes later than a lease lasts brings none.
    let renewal = link.with(inner.settings.lease, async |c| registry::renew(c, &sent).await).await?;
    let now = mono::now();
    let answer = renewal.map(|renewal| {
        inner.head.store(renewal.head.0, Ordering::Relaxed);
        inner.log.clock.observe(renewal.database_time, now.since(began));
        RenewalAnswer {
            tag: renewal.tag,
            head: renewal.head,
            leaf_at_applied: renewal.leaf_at_applied,
            leaf_at_head: renewal.leaf_at_head,
            database_time: inner.log.clock.now(),
        }
    });
    let renewed = inner.change(|machine| machine.renewal_answered(&sent, answer, now));
    match renewed {
        Renewed::Lost => {
            METRICS.registrations_lost.increment(1);
            tracing::warn!(replica.id = %sent.replica, "the registration is void; registering anew");
        }
        Renewed::Behind => inner.catch_up.notify_one(),
        Renewed::Leased if sent.applied.is_none() => {
            // The cursor has begun: who listens must subscribe to what comes after it.
            inner.catch_up.notify_one();
            inner.begun.notify_one();
            tracing::info!(replica.id = %sent.replica, "this replica may answer from memory");
        }
        Renewed::Leased | Renewed::Ignored => {}
    }
    Ok(renewed)
}

/// R1. Each try has an id of its own: whether an unanswered one was committed is never known.
async fn register(inner: &Arc<Inner>, link: &mut Link) -> Result<(), Failure> {
    let replica = ReplicaId(Uuid::new_v4());
    let former: Vec<Uuid> = {
        let mut rows = inner.rows.lock();
        let former = rows.clone();
        rows.push(replica.0);
        former
    };
    let lease = inner.settings.lease;
    link.with(ANSWER_TIMEOUT, async |c| registry::register(c, replica, lease, &former).await).await?;
    inner.rows.lock().retain(|row| !former.contains(row));
    inner.change(|machine| machine.registered(replica));
    Ok(())
}

/// Applies what is committed, and reads what was missed.
pub(crate) async fn follow_log(inner: Arc<Inner>, nats: Option<Nats>) {
    let _last_word = LastWord(inner.clone(), "follows the log");
    let outage = Outage::new("reading the log");
    let mut link = Link::new(inner.clone());
    let mut bus = Bus::new(&inner.log, inner.machine.read().generation(), nats);
    let mut early = Reorder::default();
    while !inner.machine.read().is_closed() {
        let generation = inner.machine.read().generation();
        if bus.generation != generation {
            inner.tell(Untold::Unknown);
            // What was on its way, and the connection, may be of the history that was left.
            bus.begin_anew(&inner.log, generation);
            early.clear();
            link.connection = None;
            catch_up(&inner, &bus, &mut link, &outage).await;
            bus.acknowledge(inner.machine.read().acknowledgement());
        }
        let heard = tokio::select! {
            heard = bus.hear() => heard,
            () = inner.catch_up.notified() => Heard::Missed,
            () = missing_too_long(&early) => Heard::Missed,
        };
        let moved = match heard {
            Heard::Batch(said) => take(&inner, &bus, &mut early, said),
            Heard::Acknowledgement(heard) => {
                inner.change(|machine| machine.acknowledged(&heard));
                Moved::No
            }
            Heard::Missed => Moved::Gap,
            Heard::Closed => return,
        };
        if moved == Moved::Gap {
            early.clear();
            let before = inner.machine.read().applied();
            catch_up(&inner, &bus, &mut link, &outage).await;
            if inner.machine.read().applied() > before {
                METRICS.gaps_repaired.increment(1);
            }
        }
        if moved != Moved::No {
            bus.acknowledge(inner.machine.read().acknowledgement());
        }
    }
}

/// What came of something that was heard.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moved {
    Yes,
    No,
    /// Something before it is missing: the log is to be read.
    Gap,
}

/// R3: applies a batch, and what had come before it and fits now.
fn take(inner: &Inner, bus: &Bus, early: &mut Reorder, said: Said) -> Moved {
    let mut moved = Moved::No;
    let mut next = Some(said);
    while let Some(said) = next {
        // Under the same lock as everything else: the history cannot change in between.
        let (applied, position) = inner.change(|machine| {
            let follows = machine.generation() == bus.generation;
            (follows.then(|| machine.apply(&said.message)), machine.applied())
        });
        match applied {
            Some(Applied::Yes) => {
                moved = Moved::Yes;
                inner.tell(Untold::of(said));
            }
            // With nobody to say it, what is missing is not on its way.
            Some(Applied::Gap) if !bus.is_shared() || !early.hold(said, mono::now()) => return Moved::Gap,
            Some(Applied::Gap | Applied::Duplicate | Applied::Foreign | Applied::Lost) | None => {}
        }
        next = early.next(position);
    }
    moved
}

/// Ends when what is missing has not come in time; never while nothing is missing.
async fn missing_too_long(early: &Reorder) {
    match early.deadline() {
        Some(deadline) => sleep(deadline.since(mono::now())).await,
        None => std::future::pending().await,
    }
}

/// R3: reads the log up to its end, for as long as the history is the one that the bus follows. In
/// another the cursor may stand beyond what was never told, and that is told first. What fails is tried
/// again when the next renewal finds the cursor behind, and until then no lease is published.
async fn catch_up(inner: &Arc<Inner>, bus: &Bus, link: &mut Link, outage: &Outage) {
    loop {
        let sent = inner.machine.read().read_sent();
        let Some(sent) = sent.filter(|sent| sent.generation == bus.generation) else { return };
        let page = link.with(ANSWER_TIMEOUT, async |c| registry::page(c, sent.after).await).await;
        let (page, news) = match page {
            Ok(page) => page,
            Err(error) => return tell(outage, &*error),
        };
        outage.worked();
        let full = page.last.0 - sent.after.0 >= registry::PAGE_EVENTS;
        let applied = inner.change(|machine| machine.read_answered(&sent, &page));
        if applied == Applied::Yes {
            inner.tell(Untold::Read(news));
        }
        if applied != Applied::Yes || !full {
            return;
        }
    }
}

fn tell(outage: &Outage, error: &(dyn std::error::Error + 'static)) {
    if matches!(error.downcast_ref(), Some(ReadError::Gap { .. })) {
        tracing::error!(error, "the log has a hole: this replica no longer answers from memory");
    }
    outage.failed(error);
}

/// R9: takes dead replicas off the list, so that revocations need not wait for them.
///
/// Nothing is deleted on the word of a clock alone: a row is first marked, so that it cannot be
/// renewed, and deleted when the last lease it can have earned is over.
pub(crate) async fn clean_up(inner: Arc<Inner>) {
    let outage = Outage::new("cleaning up after dead replicas");
    let silence = SILENCE.max(inner.settings.lease * 10);
    loop {
        sleep(CLEANUP_PERIOD).await;
        match clean_up_once(&inner, silence).await {
            Ok(()) => outage.worked(),
            Err(error) => outage.failed(&*error),
        }
    }
}

async fn clean_up_once(inner: &Inner, silence: Duration) -> Result<(), Failure> {
    let pool = &inner.log.pool;
    let marked =
        timeout(ANSWER_TIMEOUT, async { registry::mark_silent(&mut *pool.acquire().await?, silence).await });
    let marked = marked.await.map_err(|_| TooLate)??;
    let Marked { ids, lease } = marked;
    if ids.is_empty() {
        return Ok(());
    }
    sleep(inner.settings.timing().bound(Some(lease))).await;
    let removed =
        timeout(ANSWER_TIMEOUT, async { registry::remove(&mut *pool.acquire().await?, &ids).await });
    removed.await.map_err(|_| TooLate)??;
    tracing::info!(replicas = ids.len(), "dead replicas were taken off the list");
    Ok(())
}
