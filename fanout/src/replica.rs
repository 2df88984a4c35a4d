//! One process that serves: it verifies credentials from memory or from Postgres, and says
//! "revoked" only once that is true everywhere.

use std::{pin::pin, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tally_domain::{
    Authorized, Command, PersonCredential, Principal, PrincipalKind, Verdict,
    credential::{CredentialHash, CredentialKind},
};
use tally_events::{Position, SessionId, UserId};
use tally_store::{ExecuteError, Executed, RequestContext, Store};
use tokio::{
    sync::broadcast,
    time::{sleep, timeout},
};

use crate::{
    bus::Nats,
    keeper::{self, ANSWER_TIMEOUT, Failure, RETRY_FIRST, RETRY_LAST},
    metrics::METRICS,
    mono,
    news::{self, News},
    outage::TooLate,
    participant::{Log, Participant},
    protocol::{Barrier, By, Machine, Members, Mono, RollCall, Timing},
    registry,
};

/// The shortest Δ there may be. Verifiers, which are not told what the replicas have, take this one:
/// whatever a replica then waits for, it waits longer.
pub const LEASE_MIN: Duration = Duration::from_millis(200);
/// The longest. It is waited for where nobody can tell what the replicas have: while the list of them
/// cannot be read, and for one on it that did not tell.
pub const LEASE_MAX: Duration = Duration::from_secs(10);

/// What a replica can be told.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaSettings {
    /// Δ: how long a replica may answer from memory after it last read the head, from [`LEASE_MIN`] to
    /// [`LEASE_MAX`]. Replicas that were told different ones wait for the longest among them.
    pub lease: Duration,
    /// ε: what clocks may drift apart in that time. All replicas must have the same.
    pub drift: Duration,
    /// Verdicts in memory at most.
    pub capacity: usize,
    /// Whether memory is filled with the newest tokens at the start, or by verifications alone.
    pub warm_start: bool,
    /// How long a verification waits for Postgres.
    pub verify_deadline: Duration,
}

impl Default for ReplicaSettings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(1),
            drift: Duration::from_millis(50),
            capacity: 1_000_000,
            warm_start: true,
            verify_deadline: Duration::from_secs(2),
        }
    }
}

impl ReplicaSettings {
    pub(crate) const fn timing(&self) -> Timing {
        Timing { lease: self.lease, lease_max: LEASE_MAX, drift: self.drift }
    }

    fn checked(self) -> Self {
        assert!(self.lease >= LEASE_MIN, "a lease of {:?} is shorter than verifiers take", self.lease);
        assert!(self.lease <= LEASE_MAX, "a lease of {:?} is longer than others wait for", self.lease);
        self
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
    pub(crate) const fn kind(&self) -> Option<CredentialKind> {
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
    /// Who had acknowledged it by then; none when the list of replicas could not be read.
    pub roll_call: Option<RollCall>,
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
    store: Arc<Store>,
    participant: Participant,
}

impl Replica {
    /// Joins those who may answer from memory. It returns at once: until the registration and a
    /// first lease stand, verdicts come from Postgres. By NATS the others hear at once what it revokes,
    /// and say so; without, a revocation waits until every lease from before is over.
    ///
    /// # Panics
    /// Outside of a tokio runtime, and for a lease below [`LEASE_MIN`] or above [`LEASE_MAX`].
    #[must_use]
    pub fn join(store: Arc<Store>, settings: ReplicaSettings, nats: Option<Nats>) -> Self {
        let (participant, untold) = Participant::join(Log::of(store.clone()), settings.checked(), nats);
        participant.spawn(news::tell(participant.inner.clone(), untold));
        participant.spawn(keeper::clean_up(participant.inner.clone()));
        Self { store, participant }
    }

    /// A process that comes and goes, such as a command line: it is in no list and remembers nothing.
    ///
    /// # Panics
    /// For a lease below [`LEASE_MIN`] or above [`LEASE_MAX`].
    #[must_use]
    pub fn observer(store: Arc<Store>, settings: ReplicaSettings) -> Self {
        let settings = settings.checked();
        let (participant, _) =
            Participant::new(Log::of(store.clone()), settings, Machine::observer(settings.timing()), None);
        Self { store, participant }
    }

    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Whether a credential is good, and whose it is.
    ///
    /// The request has arrived when this is called; every reading that counts is taken after that
    /// (R5). Memory answers under a lease, Postgres otherwise, and nobody guesses.
    ///
    /// # Errors
    /// A no, or that it cannot be known.
    pub async fn verify(&self, presented: &Presented) -> Result<Verdict, VerifyError> {
        self.participant.verify(presented).await
    }

    /// The part of [`verify`](Self::verify) that needs no database and does not wait: a yes from
    /// memory under a valid lease. None says nothing about the credential.
    ///
    /// It asks for the hash alone: what is remembered under it was presented whole, and for a
    /// session that means that this very JWT was checked.
    #[must_use]
    pub fn remembered(&self, hash: &CredentialHash) -> Option<Verdict> {
        self.participant.remembered(hash)
    }

    /// What this replica applies from now on, in order, also where other replicas committed it. Whoever
    /// falls far behind is told so, and cannot know what they missed.
    #[must_use]
    pub fn news(&self) -> broadcast::Receiver<News> {
        self.participant.inner.publisher.subscribe()
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
        let executed = self.store.execute(command, request).await;
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
        let inner = &self.participant.inner;
        let mut barrier = Barrier { position, t0, members: None };
        let mut members = pin!(self.members());
        let mut moved = inner.moved.subscribe();
        loop {
            let now = mono::now();
            let (effective, again) = {
                let machine = inner.machine.read();
                let effective = machine.effective(&barrier, now).map(|by| (by, machine.roll_call(&barrier)));
                (effective, machine.ask_again_at(&barrier, now))
            };
            if let Some((by, roll_call)) = effective {
                let waited = now.since(t0);
                tracing::debug!(
                    event.position = position.0,
                    duration_ms = waited.as_secs_f64() * 1000.0,
                    by = ?by,
                    "a revocation is effective"
                );
                METRICS.effective(by, waited);
                return Effective { waited, by, roll_call };
            }
            tokio::select! {
                // The sender lives as long as `inner`.
                _ = moved.changed() => {}
                () = sleep(again.since(now)) => {}
                found = &mut members, if barrier.members.is_none() => barrier.members = Some(found),
            }
        }
    }

    /// R7: the list, as soon as it can be read. It is read after the commit's reply, together with the
    /// history it is of: the reply does not name that, and an epoch alone could be of another.
    async fn members(&self) -> Members {
        let mut pause = RETRY_FIRST;
        loop {
            let read = timeout(ANSWER_TIMEOUT, registry::members(&self.participant.inner.log.pool)).await;
            let error: Failure = match read {
                Ok(Ok(members)) => return members,
                Ok(Err(error)) => error.into(),
                Err(_) => TooLate.into(),
            };
            if pause == RETRY_FIRST {
                tracing::warn!(
                    error = &*error as &dyn std::error::Error,
                    "the list of replicas cannot be read: until it can, a revocation waits for the longest \
                     lease that any of them may have been told"
                );
            }
            sleep(pause).await;
            pause = RETRY_LAST.min(pause * 2);
        }
    }

    /// How far this replica has applied the log; zero for an observer.
    #[must_use]
    pub fn applied(&self) -> Position {
        self.participant.applied()
    }

    /// Waits until the log is applied as far as `position`; false when it takes too long.
    pub async fn wait_applied(&self, position: Position, deadline: Duration) -> bool {
        let mut moved = self.participant.inner.moved.subscribe();
        let reached = async { while self.applied() < position && moved.changed().await.is_ok() {} };
        timeout(deadline, reached).await.is_ok()
    }

    #[must_use]
    pub fn status(&self) -> ReplicaStatus {
        self.participant.status()
    }

    /// How long ago the renewal was sent that this replica answers from memory by; none without.
    #[must_use]
    pub fn lease_age(&self) -> Option<Duration> {
        self.participant.lease_age()
    }

    /// R9: stops answering from memory, ends the tasks and leaves the list, so that nobody waits for
    /// this process any more. Bounded in time; what could not be deleted is cleaned up by others.
    pub async fn leave(&self) {
        self.participant.leave().await;
    }
}
