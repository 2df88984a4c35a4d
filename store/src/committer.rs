//! The committer: one task per replica that makes pending commits durable, together.
//!
//! While one transaction waits for the disk, new commits gather; the next transaction takes them
//! all. That is group commit: many commands share one flush, and the log stays gapless because
//! positions are assigned under the head row's lock, which is held until the transaction ends.
//!
//! The head lock comes first in every transaction. That makes committers of several replicas take
//! turns from the start, so nothing below it can deadlock, and every statement after it sees all
//! that was committed before.

use std::{collections::VecDeque, error::Error, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tally_domain::claim::{Index, Namespace};
use tally_events::{Envelope, Event, Position, Recorded, StreamId, Subject, Version};
use tokio::{
    sync::{broadcast, mpsc, oneshot},
    time::{Instant, sleep, timeout, timeout_at},
};
use uuid::Uuid;

use crate::{
    acceptance::Refused,
    clock::Clock,
    connect::with_session_settings,
    idempotency::{Earlier, Idempotency},
    memory::Memory,
    metrics::METRICS,
    projection::Projection,
    write::{self, Attempt, WriteError},
};

/// Commits in one transaction at most.
const BATCH_COMMITS_MAX: usize = 1024;
/// Commits that may wait; beyond it callers are told to come back.
const QUEUE_COMMITS_MAX: usize = 8192;
/// How long one transaction may take before the connection is given up.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(6);
/// How long the fate of a transaction whose COMMIT went unanswered is looked for.
const OUTCOME_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a batch is tried again while the database is away.
const RETRY_TIMEOUT: Duration = Duration::from_secs(3);
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// A head this far ahead of the clock means that the database's clock has jumped.
const CLOCK_JUMP_SECONDS: i64 = 30;
/// Batches a slow listener may fall behind before it must read the log instead.
const FEED_BATCHES: usize = 4096;

/// One decided command, sealed and ready to append.
#[derive(Debug)]
pub(crate) struct Commit {
    /// Every stream the decision rests on, with the version it saw.
    pub expected: Vec<(StreamId, Version)>,
    pub events: Vec<Draft>,
    pub claims: Vec<Claim>,
    pub indexed: Vec<Indexed>,
    pub keys: Vec<NewKey>,
    pub idempotency: Option<Idempotency>,
    pub envelope: Envelope,
}

/// An event that has its version, its seal and its text, and waits for its position.
#[derive(Debug)]
pub(crate) struct Draft {
    pub stream: StreamId,
    pub version: Version,
    pub event: Event,
    pub payload: String,
}

#[derive(Debug)]
pub(crate) struct Claim {
    pub namespace: Namespace,
    pub value: [u8; 32],
    pub stream: StreamId,
    /// The stream it may pass from: the decision rests on that stream's hold being over.
    pub from: Option<StreamId>,
}

/// What a stream is found by, beside others.
#[derive(Debug)]
pub(crate) struct Indexed {
    pub index: Index,
    pub value: [u8; 32],
    pub stream: StreamId,
}

#[derive(Debug)]
pub(crate) struct NewKey {
    pub subject: Subject,
    pub wrapped: Vec<u8>,
    pub delete_after: Option<DateTime<Utc>>,
}

/// What one committed transaction appended.
#[derive(Debug)]
pub struct Batch {
    pub log_id: Uuid,
    /// The database's timeline it was committed on, as it begins the names of its write-ahead files.
    pub timeline: String,
    /// Contiguous and in order; never empty.
    pub events: Vec<Recorded>,
    /// The leaf hash of the last event.
    pub leaf_hash: [u8; 32],
}

impl Batch {
    #[must_use]
    pub fn from(&self) -> Position {
        self.events.first().map_or(Position::ZERO, |event| event.position)
    }

    #[must_use]
    pub fn to(&self) -> Position {
        self.events.last().map_or(Position::ZERO, |event| event.position)
    }
}

/// Where a commit stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    /// The position of its last event.
    pub position: Position,
    pub recorded_at: DateTime<Utc>,
}

/// Why a commit is not in the log, or not known to be.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    #[error("a stream the decision rests on has moved")]
    Moved,
    #[error("the {} is held by another stream", .0.as_str())]
    ClaimTaken(Namespace),
    #[error("the idempotency key was used before")]
    Duplicate { fingerprint: [u8; 32], receipt: Uuid, position: Position },
    #[error("a newer release writes this database: this one no longer may")]
    Outdated,
    /// Nothing was written.
    #[error("the database is away")]
    Unavailable,
    /// It may have been written: the connection was lost while COMMIT was under way.
    #[error("the database went away before it said whether the command was written")]
    Unknown,
    /// The database refuses these very rows, alone as well.
    #[error("the database refused the command's rows: {0}")]
    Poison(Arc<sqlx::Error>),
}

impl From<Refused> for CommitError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Moved(_) => Self::Moved,
            Refused::ClaimTaken(namespace) => Self::ClaimTaken(namespace),
            Refused::Duplicate(Earlier { fingerprint, receipt, position }) => {
                Self::Duplicate { fingerprint, receipt, position }
            }
        }
    }
}

/// What is written in the transaction of the events.
pub(crate) struct Inline {
    pub projections: Arc<[Arc<dyn Projection>]>,
    /// The version of all of them together.
    pub version: i32,
}

pub(crate) struct Pending {
    pub commit: Commit,
    reply: oneshot::Sender<Result<Committed, CommitError>>,
}

/// The sending side: cloned into every request.
#[derive(Clone)]
pub(crate) struct Committer {
    queue: mpsc::Sender<Pending>,
    feed: broadcast::Sender<Arc<Batch>>,
}

impl Committer {
    /// Starts the task. It ends when the last sender is gone and the queue is empty.
    pub(crate) fn start(
        options: &PgConnectOptions,
        inline: Inline,
        clock: Clock,
        memory: Arc<Memory>,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, pending) = mpsc::channel(QUEUE_COMMITS_MAX);
        let (feed, _) = broadcast::channel(FEED_BATCHES);
        let worker = Worker {
            options: with_session_settings(options.clone()),
            connection: None,
            inline,
            clock,
            memory,
            feed: feed.clone(),
            outdated: false,
        };
        (Self { queue, feed }, tokio::spawn(worker.run(pending)))
    }

    /// Waits until the commit is durable, refused, or its fate is unknown.
    pub(crate) async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        let (reply, answer) = oneshot::channel();
        // A full queue means the database is behind by thousands of commits: say so at once.
        self.queue.try_send(Pending { commit, reply }).map_err(|_| {
            METRICS.failed(&CommitError::Unavailable, 1);
            CommitError::Unavailable
        })?;
        answer.await.unwrap_or(Err(CommitError::Unknown))
    }

    /// Every batch committed here from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<Batch>> {
        self.feed.subscribe()
    }
}

/// What trying a batch has shown.
enum Settled {
    Told,
    /// The database took nothing for as long as anybody may be kept waiting.
    Away,
}

/// Tells those who came meanwhile the same at once. They have waited beside the batch that failed, and
/// would wait as long again for theirs, and those behind them for longer.
fn turn_away(pending: &mut mpsc::Receiver<Pending>) {
    for _ in 0..pending.len() {
        let Ok(waiting) = pending.try_recv() else { return };
        refuse(vec![waiting], &CommitError::Unavailable);
    }
}

struct Worker {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    inline: Inline,
    clock: Clock,
    memory: Arc<Memory>,
    feed: broadcast::Sender<Arc<Batch>>,
    /// A newer release writes the database, and that was told.
    outdated: bool,
}

impl Worker {
    async fn run(mut self, mut pending: mpsc::Receiver<Pending>) {
        let mut gathered = Vec::with_capacity(BATCH_COMMITS_MAX);
        while pending.recv_many(&mut gathered, BATCH_COMMITS_MAX).await > 0 {
            if let Settled::Away = self.settle(std::mem::take(&mut gathered)).await {
                turn_away(&mut pending);
            }
        }
        if let Some(connection) = self.connection.take() {
            // The log is durable already; a connection that does not say goodbye changes nothing.
            drop(connection.close().await);
        }
    }

    /// Gives every commit its answer. Rows the database refuses are searched for by halving, so
    /// that one poisoned commit does not fail its neighbours.
    async fn settle(&mut self, batch: Vec<Pending>) -> Settled {
        let mut settled = Settled::Told;
        let mut halves = VecDeque::from([batch]);
        while let Some(batch) = halves.pop_front() {
            match self.commit_batch(&batch).await {
                Ok(verdicts) => {
                    if std::mem::take(&mut self.outdated) {
                        tracing::info!("the newer release is gone: this server writes again");
                    }
                    answer(batch, verdicts);
                }
                Err(WriteError::Outdated) => {
                    if !std::mem::replace(&mut self.outdated, true) {
                        tracing::error!(
                            "a newer release writes this database: this server goes on reading and refuses every \
                             command; replace it by the newer release"
                        );
                    }
                    refuse(batch, &CommitError::Outdated);
                }
                Err(WriteError::Poison(error)) if batch.len() > 1 => {
                    tracing::warn!(
                        commits = batch.len(),
                        error = &error as &dyn Error,
                        "a batch is halved to find the rows the database refuses"
                    );
                    let mut first = batch;
                    let second = first.split_off(first.len() / 2);
                    halves.push_front(second);
                    halves.push_front(first);
                }
                Err(error) => {
                    tracing::error!(
                        commits = batch.len(),
                        error = &error as &dyn Error,
                        "a batch was not committed"
                    );
                    if !matches!(error, WriteError::Poison(_)) {
                        settled = Settled::Away;
                    }
                    refuse(batch, &CommitError::from(error));
                }
            }
        }
        settled
    }

    /// One batch, tried again while the database is away and nothing can have been written.
    async fn commit_batch(&mut self, batch: &[Pending]) -> Result<Verdicts, WriteError> {
        let deadline = Instant::now() + RETRY_TIMEOUT;
        loop {
            match self.attempt(batch).await {
                Err(WriteError::NotWritten(error)) if Instant::now() + RETRY_PAUSE < deadline => {
                    tracing::warn!(
                        error = &error as &dyn Error,
                        "the database did not take a batch; trying again"
                    );
                    sleep(RETRY_PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn attempt(&mut self, batch: &[Pending]) -> Result<Verdicts, WriteError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => timeout(TRANSACTION_TIMEOUT, PgConnection::connect_with(&self.options))
                .await
                .map_err(|_| WriteError::NotWritten(sqlx::Error::PoolTimedOut))?
                .map_err(WriteError::NotWritten)?,
        };
        let began = Instant::now();
        let deadline = began + TRANSACTION_TIMEOUT;
        let commits: Vec<&Commit> = batch.iter().map(|pending| &pending.commit).collect();

        let written = timeout_at(deadline, write::write(&mut connection, &commits, &self.inline));
        // A connection that failed or timed out is dropped, and with it its transaction.
        let attempt = match written.await {
            Ok(Ok(attempt)) => attempt,
            Ok(Err(error)) => {
                if error.leaves_connection_usable()
                    && timeout_at(deadline, connection.ping()).await.is_ok_and(|answer| answer.is_ok())
                {
                    self.connection = Some(connection);
                }
                return Err(error);
            }
            Err(_) => return Err(WriteError::NotWritten(sqlx::Error::PoolTimedOut)),
        };

        let committed = timeout_at(deadline, sqlx::query("commit").execute(&mut connection)).await;
        if let Ok(Ok(_)) = committed {
            self.connection = Some(connection);
        } else {
            drop(connection);
            self.find_outcome(&attempt).await?;
        }
        if let Some(batch) = &attempt.batch {
            METRICS.committed(commits.len(), batch.events.len(), began.elapsed());
        }
        self.publish(&attempt);
        Ok(attempt.verdicts)
    }

    /// COMMIT went unanswered. The transaction may stand, or may stand soon: "not yet" is not "no"
    /// until its backend has ended.
    async fn find_outcome(&mut self, attempt: &Attempt) -> Result<(), WriteError> {
        // Nothing was to be written; that all was refused is true either way.
        let Some(batch) = &attempt.batch else { return Ok(()) };
        let deadline = Instant::now() + OUTCOME_TIMEOUT;
        while Instant::now() < deadline {
            let outcome = timeout_at(deadline, write::outcome(&self.options, attempt, batch)).await;
            match outcome {
                Ok(Ok(write::Outcome::Committed)) => return Ok(()),
                Ok(Ok(write::Outcome::Aborted)) => {
                    return Err(WriteError::NotWritten(sqlx::Error::WorkerCrashed));
                }
                Ok(Ok(write::Outcome::Unknown)) => break,
                Ok(Ok(write::Outcome::InProgress) | Err(_)) | Err(_) => sleep(RETRY_PAUSE).await,
            }
        }
        Err(WriteError::Unknown)
    }

    fn publish(&self, attempt: &Attempt) {
        if let Some(batch) = &attempt.batch {
            let recorded_at = batch.events[0].recorded_at;
            let ahead = recorded_at - self.clock.now();
            if ahead > TimeDelta::seconds(CLOCK_JUMP_SECONDS) {
                tracing::error!(
                    ahead_seconds = ahead.num_seconds(),
                    "the log's time is ahead of the clock: the database's clock has jumped"
                );
            }
            self.memory.apply(&batch.events);
            // Nobody listening is no failure: who comes later reads the log.
            drop(self.feed.send(batch.clone()));
        }
    }
}

pub(crate) type Verdicts = Vec<Result<Committed, CommitError>>;

fn answer(batch: Vec<Pending>, verdicts: Verdicts) {
    for (pending, verdict) in batch.into_iter().zip(verdicts) {
        // A caller that went away no longer wants to know.
        drop(pending.reply.send(verdict));
    }
}

fn refuse(batch: Vec<Pending>, error: &CommitError) {
    METRICS.failed(error, batch.len());
    let all = batch.iter().map(|_| Err(error.clone())).collect();
    answer(batch, all);
}

impl From<WriteError> for CommitError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::NotWritten(_) => Self::Unavailable,
            WriteError::Unknown => Self::Unknown,
            WriteError::Outdated => Self::Outdated,
            WriteError::Poison(error) => Self::Poison(Arc::new(error)),
        }
    }
}
