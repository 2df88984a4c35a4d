//! Usage: when credentials are used, how often, and from where.
//!
//! A use is noted in memory, and that is all a request ever does for it. A task adds what was noted to
//! the database, once in an interval. What it could not add it keeps for the next time; a process that
//! dies takes its notes with it, an interval's at most.

mod notes;

use std::{error::Error, net::IpAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use sqlx::PgPool;
use tally_domain::Principal;
use tally_events::CredentialId;
use tally_store::{Clock, Hour, KeyRing, Store, Used, add_usage};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use crate::outage::{Outage, TooLate};
use notes::Notes;

/// Rows of one transaction: rows stay locked for some tens of milliseconds at most.
const BATCH_ROWS: usize = 1000;
/// How long a batch may take. The database itself gives up earlier on a statement or a lock; this is for
/// one that says nothing any more.
const BATCH_TIMEOUT: Duration = Duration::from_secs(15);

/// The notes of this process. Cloned, they are still the same.
#[derive(Clone)]
pub struct Usage(Arc<Inner>);

struct Inner {
    notes: Notes,
    clock: Clock,
    ledger: Ledger,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// Where notes go.
struct Ledger {
    pool: PgPool,
    keys: KeyRing,
    outage: Outage,
}

impl Usage {
    /// Starts the task that adds what was noted to the database, every `interval`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(store: &Store, interval: Duration) -> Self {
        let outage = Outage::new("writing down the usage of credentials");
        let ledger = Ledger { pool: store.pool().clone(), keys: store.keys().clone(), outage };
        let inner = Arc::new(Inner {
            notes: Notes::default(),
            clock: store.clock().clone(),
            ledger,
            stop: watch::Sender::new(false),
            task: Mutex::new(None),
        });
        *inner.task.lock() = Some(tokio::spawn(run(inner.clone(), interval)));
        Self(inner)
    }

    /// Notes that a credential was used now. Who shows none, uses none.
    pub fn note(&self, principal: &Principal, address: IpAddr) {
        if let (Some(credential), Some(user)) = (principal.credential(), principal.user()) {
            let now = self.0.clock.now();
            self.0.notes.add(credential, Hour::of(now), Used::once(user, now, address));
        }
    }

    /// Adds what is left to the database, and ends. What takes longer than `deadline` is lost.
    pub async fn stop(&self, deadline: Duration) {
        self.0.stop.send_replace(true);
        let Some(task) = self.0.task.lock().take() else { return };
        let abort = task.abort_handle();
        if timeout(deadline, task).await.is_err() {
            abort.abort();
            tracing::warn!("the last usage of credentials was not written down in time");
        }
    }
}

async fn run(inner: Arc<Inner>, interval: Duration) {
    let mut stop = inner.stop.subscribe();
    loop {
        let stopping = timeout(interval, stop.wait_for(|stop| *stop)).await.is_ok();
        inner.flush().await;
        if stopping {
            return;
        }
    }
}

impl Inner {
    /// Adds what was noted to the database. What cannot be added is noted again.
    async fn flush(&self) {
        let (mut noted, missed) = self.notes.take();
        if missed > 0 {
            tracing::warn!(
                uses = missed,
                "more credentials were used in one interval than there is room to note: shorten \
                 TALLY_USAGE_INTERVAL_MS"
            );
        }
        noted.sort_unstable_by_key(|(credential, hour, _)| (credential.uuid(), *hour));
        while !noted.is_empty() {
            let batch = noted.split_off(noted.len().saturating_sub(BATCH_ROWS));
            match self.ledger.add(&batch).await {
                Ok(()) => self.ledger.outage.worked(),
                Err(error) => {
                    self.ledger.outage.failed(&*error);
                    for (credential, hour, used) in batch.into_iter().chain(noted) {
                        self.notes.add(credential, hour, used);
                    }
                    return;
                }
            }
        }
    }
}

impl Ledger {
    async fn add(&self, batch: &[(CredentialId, Hour, Used)]) -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut connection = self.pool.acquire().await?;
        if let Ok(added) = timeout(BATCH_TIMEOUT, add_usage(&mut connection, &self.keys, batch)).await {
            return Ok(added?);
        }
        // It may never say anything again: it goes, and its place in the pool is free.
        drop(connection.detach());
        Err(TooLate.into())
    }
}
