//! Executing a command: load, decide, seal, commit.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use sqlx::{PgPool, postgres::PgConnectOptions};
use tally_domain::{
    Authorized, Command, Context, Decision, Principal,
    claim::{self, Index, Namespace, Taken},
};
use tally_events::{CommandId, Envelope, Position, RequestId, StreamId, Subject, Version, seal::Key};
use tokio::{
    sync::{Mutex, MutexGuard, broadcast},
    task::JoinHandle,
};
use uuid::Uuid;

use crate::{
    clock::Clock,
    committer::{Batch, Claim, Commit, CommitError, Committed, Committer, Draft, Indexed, Inline, NewKey},
    idempotency::{self, Idempotency},
    keyring::{KeyRing, KeyRingError, seal_fields},
    load::{Loaded, Streams, load, world, write_snapshots},
    memory::Memory,
    metrics::METRICS,
    projection::Projection,
    read::ReadError,
};

/// Decisions made for one command before the caller is told to come back.
const DECISIONS_MAX: usize = 4;
/// Queues for commands that have met a conflict.
const STRIPES: usize = 256;
/// Streams that one value finds at most: ids are ordered by time, so these are the latest.
const FOUND_MAX: i64 = 1000;

/// What a store is made of.
pub struct StoreOptions {
    pub database: PgConnectOptions,
    pub pool: PgPool,
    pub keys: KeyRing,
    pub clock: Clock,
    /// What authentication reads, written in the transaction of the events.
    pub inline: Vec<Arc<dyn Projection>>,
    /// The version of `inline` together.
    pub inline_version: i32,
}

/// The log, and the one way to append to it.
pub struct Store {
    pool: PgPool,
    keys: KeyRing,
    clock: Clock,
    committer: Committer,
    memory: Arc<Memory>,
    /// Commands that lost a race for a stream queue here, so that the next round is theirs.
    stripes: Vec<Mutex<()>>,
}

/// What surrounds one request.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestContext {
    pub request: Option<RequestId>,
    pub idempotency: Option<Idempotency>,
}

/// What came of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executed<O> {
    pub outcome: O,
    /// The last event it appended, or the head it was decided at when there was nothing to do.
    pub position: Position,
    /// When it was recorded, or decided when there was nothing to do.
    pub at: DateTime<Utc>,
    /// Whether anything was appended.
    pub appended: bool,
}

/// Why a command had no success.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError<R: std::error::Error + 'static> {
    #[error(transparent)]
    Refused(R),
    /// Other commands changed the same streams each time: worth another try by the caller.
    #[error("the command met too many conflicts")]
    Contended,
    #[error("the {} is held by another stream", .0.as_str())]
    ClaimTaken(Namespace),
    /// The same command was executed before.
    #[error("the command was executed before")]
    Replayed { receipt: Uuid, position: Position },
    #[error("the idempotency key was used with another body")]
    KeyReused,
    #[error("the person was erased")]
    Erased,
    #[error(transparent)]
    Commit(CommitError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Keys(#[from] KeyRingError),
    #[error("an event has no stored form")]
    Encode(#[from] serde_json::Error),
}

impl Store {
    /// Starts the committer. Its task ends when every clone of the store is gone.
    #[must_use]
    pub fn start(options: StoreOptions) -> (Self, JoinHandle<()>) {
        let StoreOptions { database, pool, keys, clock, inline, inline_version } = options;
        let memory = Arc::new(Memory::new());
        let inline = Inline { projections: inline.into(), version: inline_version };
        let (committer, task) = Committer::start(&database, inline, clock.clone(), memory.clone());
        let stripes = (0..STRIPES).map(|_| Mutex::new(())).collect();
        (Self { pool, keys, clock, committer, memory, stripes }, task)
    }

    #[must_use]
    pub const fn pool(&self) -> &PgPool {
        &self.pool
    }

    #[must_use]
    pub const fn keys(&self) -> &KeyRing {
        &self.keys
    }

    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Every batch this store commits from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Batch>> {
        self.committer.subscribe()
    }

    /// Which stream holds a unique thing.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn holder(&self, namespace: Namespace, value: &str) -> Result<Option<Uuid>, sqlx::Error> {
        let [holder] = self.holders([(namespace, value)]).await?;
        Ok(holder)
    }

    /// Which streams hold several unique things, in one statement.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn holders<const N: usize>(
        &self,
        things: [(Namespace, &str); N],
    ) -> Result<[Option<Uuid>; N], sqlx::Error> {
        let namespaces = things.map(|(namespace, _)| namespace.as_str().to_owned());
        let values = things.map(|(namespace, value)| self.keys.blind(namespace, value).to_vec());
        let rows = sqlx::query!(
            r#"select wanted.number as "number!", c.stream_id
                 from unnest($1::text[], $2::bytea[]) with ordinality as wanted(namespace, value, number)
                 join claim c on c.namespace = wanted.namespace and c.value = wanted.value"#,
            &namespaces[..],
            &values[..],
        )
        .fetch_all(&self.pool)
        .await?;
        let mut holders = [None; N];
        for row in rows {
            if let Some(holder) = usize::try_from(row.number - 1).ok().and_then(|at| holders.get_mut(at)) {
                *holder = Some(row.stream_id);
            }
        }
        Ok(holders)
    }

    /// Which streams are found by a value, over or not; the latest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn indexed(&self, index: Index, value: &str) -> Result<Vec<Uuid>, sqlx::Error> {
        let value = self.keys.blind_index(index, value);
        let found = sqlx::query_scalar!(
            "select stream_id from blind_index where name = $1 and value = $2 order by stream_id desc limit $3",
            index.as_str(),
            &value[..],
            FOUND_MAX,
        );
        found.fetch_all(&self.pool).await
    }

    /// Executes a command: all of its events become durable, or none.
    ///
    /// The first decision is optimistic. One that lost a race queues behind others of its streams,
    /// so that a crowd at one stream is served one by one and not sent away.
    ///
    /// # Errors
    /// The broken rule, a conflict that would not end, or a database that is away.
    pub async fn execute<C: Command>(
        &self,
        command: &Authorized<C>,
        request: RequestContext,
    ) -> Result<Executed<C::Outcome>, ExecuteError<C::Refusal>> {
        let executed = self.execute_remembered(command, request).await;
        METRICS.command(&executed);
        executed
    }

    async fn execute_remembered<C: Command>(
        &self,
        command: &Authorized<C>,
        request: RequestContext,
    ) -> Result<Executed<C::Outcome>, ExecuteError<C::Refusal>> {
        // Whoever has not proven who they are must not learn from the time it takes what is remembered.
        let is_strangers = matches!(command.principal(), Principal::Anonymous) && C::ANSWERS_STRANGERS;
        if !is_strangers && let Some(streams) = self.memory.recall(command.get()) {
            let context = self.context(command);
            if let Ok(decision) = command.get().decide(&world(&streams), &context)
                && !decision.events.is_empty()
            {
                match self.append(command, streams, &HashMap::new(), decision, &context, request).await {
                    Err(ExecuteError::Commit(CommitError::Moved)) => METRICS.conflicts.increment(1),
                    // Somebody who was erased since may be repeating what was executed before.
                    Err(ExecuteError::Erased) => {}
                    outcome => return outcome,
                }
            }
        }
        self.execute_loaded(command, request).await
    }

    async fn execute_loaded<C: Command>(
        &self,
        command: &Authorized<C>,
        request: RequestContext,
    ) -> Result<Executed<C::Outcome>, ExecuteError<C::Refusal>> {
        if let Some(wanted) = &request.idempotency
            && let Some(earlier) =
                idempotency::find(&self.pool, &wanted.key).await.map_err(ReadError::from)?
        {
            return Err(replayed(wanted, earlier.fingerprint, earlier.receipt, earlier.position));
        }
        let streams = command.get().reads();
        let mut queued: Vec<MutexGuard<'_, ()>> = Vec::new();
        for decision in 0..DECISIONS_MAX {
            if decision == 1 {
                queued = self.queue(&streams).await;
            }
            match self.decide_once(command, &streams, request).await {
                Err(ExecuteError::Commit(CommitError::Moved)) => METRICS.conflicts.increment(1),
                outcome => return outcome,
            }
        }
        drop(queued);
        Err(ExecuteError::Contended)
    }

    fn context<C: Command>(&self, command: &Authorized<C>) -> Context {
        Context { now: self.clock.now(), principal: *command.principal() }
    }

    async fn decide_once<C: Command>(
        &self,
        command: &Authorized<C>,
        streams: &[StreamId],
        request: RequestContext,
    ) -> Result<Executed<C::Outcome>, ExecuteError<C::Refusal>> {
        let Loaded { streams, head, keys } = load(&self.pool, streams).await?;
        self.memory.learn(&streams);
        let context = self.context(command);
        let decision = command.get().decide(&world(&streams), &context).map_err(ExecuteError::Refused)?;
        if decision.events.is_empty() {
            let (outcome, at) = (decision.outcome, context.now);
            return Ok(Executed { outcome, position: head, at, appended: false });
        }
        self.append(command, streams, &keys, decision, &context, request).await
    }

    /// Appends what was decided, if none of the streams it rests on has moved.
    async fn append<C: Command>(
        &self,
        command: &Authorized<C>,
        streams: Streams,
        keys: &HashMap<Subject, Vec<u8>>,
        decision: Decision<C::Outcome>,
        context: &Context,
        request: RequestContext,
    ) -> Result<Executed<C::Outcome>, ExecuteError<C::Refusal>> {
        let Decision { events, outcome } = decision;
        let principal = command.principal();
        let envelope = Envelope {
            actor: principal.actor(),
            credential: principal.credential(),
            request: request.request,
            causation: CommandId::new(),
        };
        let commit = Commit {
            expected: streams.iter().map(|(stream, folded)| (*stream, folded.version)).collect(),
            events: Vec::with_capacity(events.len()),
            claims: Vec::new(),
            indexed: Vec::new(),
            keys: Vec::new(),
            idempotency: request.idempotency,
            envelope,
        };
        let commit = self.prepare(commit, events, keys, context.now).await?;
        let committed = self.committer.commit(commit).await.map_err(|error| match error {
            CommitError::ClaimTaken(namespace) => ExecuteError::ClaimTaken(namespace),
            CommitError::Duplicate { fingerprint, receipt, position } => match &request.idempotency {
                Some(wanted) => replayed(wanted, fingerprint, receipt, position),
                None => ExecuteError::Contended,
            },
            other => ExecuteError::Commit(other),
        })?;
        let grown: Streams = streams.into_iter().filter(|(_, folded)| folded.has_grown()).collect();
        if !grown.is_empty() {
            self.memory.snapshotted(&grown);
            write_snapshots(&self.pool, grown).await;
        }
        let Committed { position, recorded_at } = committed;
        Ok(Executed { outcome, position, at: recorded_at, appended: true })
    }

    /// Gives each event its version, its claims and its seal.
    async fn prepare<R: std::error::Error + 'static>(
        &self,
        mut commit: Commit,
        events: Vec<(StreamId, tally_events::Event)>,
        loaded: &HashMap<Subject, Vec<u8>>,
        now: DateTime<Utc>,
    ) -> Result<Commit, ExecuteError<R>> {
        let mut versions: HashMap<StreamId, Version> = commit.expected.iter().copied().collect();
        let mut introduced: HashMap<Subject, Key> = HashMap::new();
        for (stream, mut event) in events {
            let version = versions.entry(stream).or_default();
            *version = version.next();
            for Taken { namespace, value, from } in claim::taken(&event) {
                let value = self.keys.blind(namespace, &value);
                commit.claims.push(Claim { namespace, value, stream, from });
            }
            if let Some((index, value)) = claim::indexed(&event) {
                commit.indexed.push(Indexed { index, value: self.keys.blind_index(index, value), stream });
            }
            if let Some((subject, delete_after)) = claim::introduced(stream, &event, now) {
                let (key, wrapped) = self.keys.introduce(subject);
                introduced.insert(subject, key);
                commit.keys.push(NewKey { subject, wrapped, delete_after });
            }
            if let Some(subject) = event.subject(stream)
                && !event.personal_mut().is_empty()
            {
                let key = match (introduced.get(&subject), loaded.get(&subject)) {
                    (Some(key), _) => key.clone(),
                    (None, Some(wrapped)) => self.keys.unwrap(subject, wrapped)?,
                    (None, None) => self.keys.for_sealing(subject).await?.ok_or(ExecuteError::Erased)?,
                };
                seal_fields(&mut event, stream, *version, &key);
            }
            let payload = event.payload()?;
            if holds_nul(&payload) {
                let nul = format!("{} holds a NUL character", event.name());
                return Err(<serde_json::Error as serde::ser::Error>::custom(nul).into());
            }
            commit.events.push(Draft { stream, version: *version, event, payload });
        }
        Ok(commit)
    }

    /// Waits for the turn at every stream, in one order for all callers.
    async fn queue(&self, streams: &[StreamId]) -> Vec<MutexGuard<'_, ()>> {
        let mut stripes: Vec<usize> =
            streams.iter().map(|stream| (stream.uuid().as_u128() % STRIPES as u128) as usize).collect();
        stripes.sort_unstable();
        stripes.dedup();
        let mut guards = Vec::with_capacity(stripes.len());
        for stripe in stripes {
            guards.push(self.stripes[stripe].lock().await);
        }
        guards
    }
}

/// Whether a JSON text holds an escaped NUL: type `json` would keep it, and `->>` would fail on the
/// row for ever. The door refuses it in requests; this is for what comes from elsewhere.
fn holds_nul(payload: &str) -> bool {
    let mut rest = payload;
    while let Some((_, escape)) = rest.split_once('\\') {
        if escape.starts_with("u0000") {
            return true;
        }
        // The character after the backslash is ASCII, and may be a backslash itself.
        rest = escape.get(1..).unwrap_or_default();
    }
    false
}

fn replayed<R: std::error::Error + 'static>(
    wanted: &Idempotency,
    fingerprint: [u8; 32],
    receipt: Uuid,
    position: Position,
) -> ExecuteError<R> {
    if wanted.fingerprint == fingerprint {
        ExecuteError::Replayed { receipt, position }
    } else {
        ExecuteError::KeyReused
    }
}
