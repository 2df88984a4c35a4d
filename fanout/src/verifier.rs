//! Verification in another service's own process: its memory answers under the same lease, revocations
//! wait for it as for any replica, and it needs no key that opens or makes anything.

mod layer;

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgPool, postgres::PgConnectOptions};
use tally_domain::{
    PersonCredential, Principal, Verdict,
    credential::{CredentialHash, CredentialKind, Recognised, recognise},
};
use tally_events::{CredentialId, UserId};
use tally_store::{ConnectionLimits, ReadError};
use tokio::time::timeout;

pub use layer::{VerifierLayer, VerifierService};

use crate::{
    BusKey, LEASE_MIN, Nats, NatsError, NatsSettings, Presented, ReplicaSettings, ReplicaStatus, VerifyError,
    outage::TooLate,
    participant::{Log, Participant},
    registry,
};

/// How long the database may take to say that it lets a verifier do its work.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(4);

/// No token is longer. Nobody makes this process hash a book.
const TOKEN_BYTES_MAX: usize = 64;

/// What a verifier is told.
#[derive(Clone)]
pub struct VerifierSettings {
    /// Of the primary, `postgres://user:password@host:5432/database`. The role needs no more than
    /// `docs/embedding.md` grants it.
    pub database_url: String,
    /// Connections for lookups. Two more renew the lease and follow the log, and one fills the memory at the
    /// start.
    pub connections_max: u32,
    /// Verdicts in memory at most.
    pub capacity: usize,
    /// Whether memory is filled with the newest tokens at the start, or by verifications alone.
    pub warm_start: bool,
    /// How long a verification waits for Postgres.
    pub verify_deadline: Duration,
    /// By NATS it hears of revocations at once, and says so. Without, each of them waits until the
    /// leases from before it are over.
    pub bus: Option<(NatsSettings, BusKey)>,
}

impl VerifierSettings {
    /// Everything else as it mostly fits.
    #[must_use]
    pub fn new(database_url: impl Into<String>) -> Self {
        let ReplicaSettings { capacity, warm_start, verify_deadline, .. } = ReplicaSettings::default();
        let database_url = database_url.into();
        Self { database_url, connections_max: 4, capacity, warm_start, verify_deadline, bus: None }
    }
}

/// Why there can be no verifier, however long one waits.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It may hold a password, so it is not repeated.
    #[error("the database URL is not a PostgreSQL URL such as postgres://user:password@host:5432/database")]
    DatabaseUrl,
    #[error("a verifier needs at least one connection for its lookups: set connections_max to 1 or more")]
    NoConnections,
    /// Most often a privilege that is missing.
    #[error("the database does not let a verifier do its work: see what docs/embedding.md grants it")]
    Database(#[source] ReadError),
    #[error(transparent)]
    Nats(#[from] NatsError),
}

/// A yes: whose credential it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    pub user: UserId,
    pub credential: CredentialId,
    pub kind: CredentialKind,
    /// When it stops working by itself; none: never.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Why there is no yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// A session's JWT. To check one takes the secret that also makes them, so only the server does.
    #[error("a session is not a token that this verifier checks")]
    Session,
    /// Malformed, unknown, revoked or expired; nobody is told which.
    #[error("the token is not valid")]
    Invalid,
    #[error("the account is suspended")]
    Suspended,
    /// It cannot be known at the moment: this is no no, and never a yes.
    #[error("the token cannot be checked at the moment")]
    Unavailable,
}

impl From<VerifyError> for Unverified {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Invalid => Self::Invalid,
            VerifyError::Suspended => Self::Suspended,
            VerifyError::Unavailable => Self::Unavailable,
        }
    }
}

/// Verifies opaque tokens in this process. Cloned, it is still the same; when the last clone is
/// dropped it leaves the list of those that revocations wait for.
#[derive(Clone)]
pub struct Verifier(Participant);

impl Verifier {
    /// Begins, and returns as soon as the settings are known to be good: until a first lease stands,
    /// verdicts come from Postgres. A database or a NATS server that is away is no error, and is tried
    /// again until it is there.
    ///
    /// # Errors
    /// When it can never work.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(settings: VerifierSettings) -> Result<Self, ConnectError> {
        let VerifierSettings { database_url, connections_max, capacity, warm_start, verify_deadline, bus } =
            settings;
        if connections_max == 0 {
            return Err(ConnectError::NoConnections);
        }
        let limits = ConnectionLimits { min: 0, max: connections_max };
        let pool = tally_store::connect(options(&database_url)?, limits);
        try_out(&pool).await?;
        let nats = match bus {
            Some((settings, key)) => Some(Nats::connect(settings, &key.0).await?),
            None => None,
        };
        // Whatever the servers' lease is: none has a shorter one.
        let settings = ReplicaSettings {
            lease: LEASE_MIN,
            capacity,
            warm_start,
            verify_deadline,
            ..ReplicaSettings::default()
        };
        // Nobody listens to what it applies, and the dead are the servers' to take off the list: they
        // know for how long a lease may last.
        let (participant, _) = Participant::join(Log::read_by(pool), settings, nats);
        Ok(Self(participant))
    }

    /// Whether a token is good, and whose it is: from memory under a lease, else from Postgres by a
    /// statement sent after this was called.
    ///
    /// # Errors
    /// A no, or that it cannot be known.
    pub async fn verify(&self, token: &str) -> Result<Verified, Unverified> {
        if let Some(verified) = self.remembered(token) {
            return Ok(verified);
        }
        verified(self.0.look_up(&Presented::Token(hash_of(token)?)).await?)
    }

    /// The part of [`verify`](Self::verify) that does not wait: a yes from memory under a valid lease.
    /// None says nothing about the token.
    #[must_use]
    pub fn remembered(&self, token: &str) -> Option<Verified> {
        // What is remembered under its hash was well-formed when it was minted: only what is not needs a
        // look at its form, before anybody is asked.
        let hash = (token.len() <= TOKEN_BYTES_MAX).then(|| CredentialHash::of(token))?;
        verified(self.0.remembered(&hash)?).ok()
    }

    /// For health and metrics.
    #[must_use]
    pub fn status(&self) -> ReplicaStatus {
        self.0.status()
    }

    /// How long ago the renewal was sent that memory answers by; none without.
    #[must_use]
    pub fn lease_age(&self) -> Option<Duration> {
        self.0.lease_age()
    }

    /// Stops answering from memory and leaves the list, so that no revocation waits for this process.
    /// Bounded in time. What is asked afterwards is asked of Postgres.
    pub async fn shutdown(&self) {
        self.0.leave().await;
    }
}

/// Nonsense and sessions are known by their form, and cost nobody a lookup.
fn hash_of(token: &str) -> Result<CredentialHash, Unverified> {
    match recognise(token) {
        Some(Recognised::Token(_)) => Ok(CredentialHash::of(token)),
        Some(Recognised::Jwt) => Err(Unverified::Session),
        None => Err(Unverified::Invalid),
    }
}

/// A token speaks for a person; nobody else has one.
fn verified(verdict: Verdict) -> Result<Verified, Unverified> {
    match verdict.principal {
        Principal::Person { user, credential: credential @ PersonCredential::PersonalAccessToken { .. } } => {
            Ok(Verified {
                user,
                credential: credential.id(),
                kind: credential.kind(),
                expires_at: credential.expires_at(),
            })
        }
        Principal::Person {
            credential: PersonCredential::Session { .. } | PersonCredential::ConsoleSession { .. },
            ..
        }
        | Principal::Anonymous
        | Principal::Operator
        | Principal::Server => Err(Unverified::Invalid),
    }
}

fn options(url: &str) -> Result<PgConnectOptions, ConnectError> {
    let is_postgres = url.starts_with("postgres://") || url.starts_with("postgresql://");
    url.parse().ok().filter(|_| is_postgres).ok_or(ConnectError::DatabaseUrl)
}

/// Asks everything that a verifier will ask, once. A no is told now; that nobody answers is told, and
/// may be otherwise in a moment.
async fn try_out(pool: &PgPool) -> Result<(), ConnectError> {
    let tried = timeout(TRIAL_TIMEOUT, async { registry::try_out(&mut *pool.acquire().await?).await });
    match tried.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) if is_final(&error) => return Err(ConnectError::Database(error)),
        Ok(Err(error)) => tell_away(&error),
        Err(_) => tell_away(&TooLate),
    }
    Ok(())
}

fn tell_away(error: &(dyn std::error::Error + 'static)) {
    tracing::warn!(error, "the database does not answer yet: until it does, no token can be verified");
}

/// Whether trying again cannot help: who may not come in (class 28 of SQLSTATE), a database that does
/// not exist (3D), a table that is not there or may not be touched (42), a standby.
fn is_final(error: &ReadError) -> bool {
    match error {
        ReadError::Database(sqlx::Error::Database(error)) => {
            error.code().is_some_and(|code| ["28", "3D", "42"].iter().any(|class| code.starts_with(class)))
        }
        ReadError::Database(sqlx::Error::Configuration(_)) => true,
        ReadError::Database(_)
        | ReadError::Decode { .. }
        | ReadError::Snapshot { .. }
        | ReadError::Gap { .. } => false,
    }
}
