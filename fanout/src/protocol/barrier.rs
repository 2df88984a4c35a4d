//! R7: when a revocation is effective.

use std::time::Duration;

use tally_events::Position;

use super::{Machine, Mono, ReplicaId, Standing, Tag};

/// The timeline of a database that never failed over and was never restored to a moment.
const FIRST_TIMELINE: &str = "00000001";

/// Who may be answering from memory, read after the commit's reply, and of which history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    pub tag: Tag,
    pub replicas: Vec<ReplicaId>,
    /// The longest Δ among them.
    pub lease: Duration,
}

/// A revocation on its way to being effective.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Barrier {
    pub position: Position,
    /// Read after the reply to the commit, or to the load of what was so already.
    pub t0: Mono,
    /// None until the list is read.
    pub members: Option<Members>,
}

/// How a revocation became effective.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Everyone who may answer from memory has applied it.
    Acknowledged,
    /// Every lease from before it is over.
    Time,
}

/// Who of those that may answer from memory said that a revocation holds with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollCall {
    pub acknowledged: usize,
    /// All on the list, whoever asks among them.
    pub registered: usize,
}

impl Machine {
    /// R7: whether a revocation is effective at `now`, and by what.
    #[must_use]
    pub fn effective(&self, barrier: &Barrier, now: Mono) -> Option<By> {
        if self.everyone_has(barrier, now) {
            Some(By::Acknowledged)
        } else if now >= barrier.t0.after(self.bound(barrier)) {
            Some(By::Time)
        } else {
            None
        }
    }

    /// When to ask again, if nothing is heard before.
    #[must_use]
    pub fn ask_again_at(&self, barrier: &Barrier, now: Mono) -> Mono {
        let by_time = barrier.t0.after(self.bound(barrier));
        let trusted = self.known.as_ref().map(|(_, since)| since.after(self.bound(barrier)));
        trusted.filter(|trusted| *trusted > now).map_or(by_time, |trusted| trusted.min(by_time))
    }

    fn bound(&self, barrier: &Barrier) -> Duration {
        self.timing.bound(barrier.members.as_ref().map(|members| members.lease))
    }

    fn everyone_has(&self, barrier: &Barrier, now: Mono) -> bool {
        let Some(members) = &barrier.members else { return false };
        let own = match self.standing {
            // Nobody answers from memory, this process least of all. An observer has not known the
            // tag for long, but on the first timeline no tail of a log was ever lost.
            Standing::Observing | Standing::Closed => {
                return members.replicas.is_empty() && members.tag.timeline == FIRST_TIMELINE;
            }
            Standing::Unregistered => return false,
            Standing::Registered(own) => own,
        };
        // A list may have lost its latest rows with the tail of the log: only when every lease from
        // before that must be over does it name everyone.
        let trusted = self
            .known
            .as_ref()
            .is_some_and(|(tag, since)| *tag == members.tag && now >= since.after(self.bound(barrier)));
        let has = |replica| self.has(replica, barrier.position, &members.tag);
        trusted && has(own) && members.replicas.iter().copied().all(has)
    }

    /// Whether a replica, this one or another, has applied the log as far as `position`, as far as
    /// that is known here.
    fn has(&self, replica: ReplicaId, position: Position, tag: &Tag) -> bool {
        let Some(cursor) = &self.cursor else { return false };
        let applied = if self.replica() == Some(replica) {
            Some(&cursor.applied)
        } else {
            self.acknowledged.get(&replica)
        };
        cursor.tag == *tag && applied.is_some_and(|applied| *applied >= position)
    }

    /// Who has acknowledged a revocation by now; none as long as the list is not read.
    #[must_use]
    pub fn roll_call(&self, barrier: &Barrier) -> Option<RollCall> {
        let members = barrier.members.as_ref()?;
        let has = |replica: &&ReplicaId| self.has(**replica, barrier.position, &members.tag);
        let acknowledged = members.replicas.iter().filter(has).count();
        Some(RollCall { acknowledged, registered: members.replicas.len() })
    }
}
