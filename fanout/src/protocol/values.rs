//! What the machine is told, and what it answers.

use std::{fmt, time::Duration};

use chrono::{DateTime, Utc};
use tally_domain::Invalidation;
use tally_events::Position;
use uuid::Uuid;

/// A moment of a clock that runs through suspend, in nanoseconds since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero when it is still to come.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// One registration of one process. A process that registers again gets another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub Uuid);

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which history it is. It changes whenever a suffix of the log can have been lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tag {
    pub log_id: Uuid,
    /// The database's timeline, as it begins the names of its write-ahead files.
    pub timeline: String,
}

/// The leaf hash of an event; none at position 0.
pub type Leaf = Option<[u8; 32]>;

/// Δ and ε. All replicas of a log must use the same ε and the same bound of Δ; of a Δ that differs, the
/// longest is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Δ: how long a lease lasts from the moment its renewal was sent.
    pub lease: Duration,
    /// The longest Δ that any replica may have been told.
    pub lease_max: Duration,
    /// ε: how far clocks may drift apart in the longest Δ, ≥ 2ρΔ/(1−ρ).
    pub drift: Duration,
}

impl Timing {
    /// Δ + ε of whoever has the longest lease: after this, no lease taken before the beginning is valid
    /// on anybody's clock. The others have `longest` at most; where that is not known, `lease_max`.
    #[must_use]
    pub fn bound(self, longest: Option<Duration>) -> Duration {
        self.lease.max(longest.unwrap_or(self.lease_max)).saturating_add(self.drift)
    }
}

/// One committed batch, as it is told to replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub tag: Tag,
    pub from: Position,
    pub to: Position,
    /// The leaf hash at `to`.
    pub leaf: Leaf,
    /// What it overthrows, in order.
    pub overthrown: Vec<(Position, Invalidation)>,
}

/// A replica has applied the log this far: its cache holds nothing that is overthrown up to here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    pub replica: ReplicaId,
    pub tag: Tag,
    pub applied: Position,
    pub leaf: Leaf,
}

/// The right to answer from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// When the renewal that earned it was sent.
    pub since: Mono,
    pub until: Mono,
}

impl Lease {
    #[must_use]
    pub fn holds(self, now: Mono) -> bool {
        now < self.until
    }
}

/// A renewal that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenewalSent {
    pub replica: ReplicaId,
    /// a0; none before the first head read of a registration.
    pub applied: Option<Position>,
    pub(super) t0: Mono,
    pub(super) leaf: Leaf,
    pub(super) generation: u64,
}

/// What the database said to a renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenewalAnswer {
    pub tag: Tag,
    pub head: Position,
    /// The leaf hash the log has at a0, and the one at its head.
    pub leaf_at_applied: Leaf,
    pub leaf_at_head: Leaf,
    /// Database time at the moment of the answer.
    pub database_time: DateTime<Utc>,
}

/// What came of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// It belonged to another registration, or to one that has ended.
    Ignored,
    /// The registration is void, and all that rested on it is dropped: register anew.
    Lost,
    /// The lease is in force.
    Leased,
    /// The lease waits until the log is applied as far as the head that was read.
    Behind,
}

/// A read of the log that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadSent {
    pub after: Position,
    pub(crate) generation: u64,
}

/// What the log has after a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub tag: Tag,
    /// The last event that was returned; where the read began when there was none.
    pub last: Position,
    pub leaf: Leaf,
    pub overthrown: Vec<(Position, Invalidation)>,
}

/// What came of a message or a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The cursor moved.
    Yes,
    /// All of it was applied before.
    Duplicate,
    /// Something before it is missing: read the log.
    Gap,
    /// It is of another history, or of another registration.
    Foreign,
    /// It shows that the registration is void: register anew.
    Lost,
}

/// The permission to offer a verdict, taken before it is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(super) generation: u64,
}
