//! The revocation protocol, as one pure state machine.
//!
//! No clock, no wire, no waiting: time comes in as [`Mono`], what was heard comes in as values,
//! and what to do next comes out as values. [`Replica`](crate::Replica) drives it in the product.
//!
//! The rules, each named again where it is kept:
//!
//! - **R1** Register under a fresh id, and wait for that commit, before the head is first read.
//! - **R2** A lease counts from when its renewal was sent, and is in force once the log is applied
//!   as far as the head that the renewal read. Another history, a shorter log or no row: drop all.
//! - **R3** Apply contiguously. Overthrowing and cursor are one step, and acknowledged after it.
//! - **R4** A verdict is remembered only if nothing it rests on was overthrown since it was read.
//! - **R5** One lease must hold before the look and after it. Otherwise Postgres, asked after the
//!   request arrived.
//! - **R6** What is published was committed: the store sees to it.
//! - **R7** A revocation is effective when every replica has applied it, or Δ + ε after the reply.
//! - **R8** Whatever asserts "revoked" waits for that.
//! - **R9** Leaving ends the lease first and the registration after.
//!
//! Whoever drives it holds one lock around it. A method that takes `&mut self` is one step, and
//! nothing of it may be seen half done: that is what makes verdicts fall in the step that moves the
//! cursor (R3), and the check of a fill one with its insertion (R4).
//!
//! Nothing is searched for in the cache to be removed. [`Overthrown`] knows the last position at
//! which each dependency was, and a verdict that was read below it counts as not there, to a fill
//! and to every look: what one step notes, no look after it misses.

mod barrier;
mod values;

use std::{
    collections::{HashMap, VecDeque},
    mem,
};

use chrono::{DateTime, TimeDelta, Utc};
use tally_domain::{Invalidation, Verdict, credential::CredentialHash};
use tally_events::Position;

pub use barrier::{Barrier, By, Members, RollCall};
pub use values::{
    Acknowledgement, Applied, Leaf, Lease, Message, Mono, Page, ReadSent, RenewalAnswer, RenewalSent,
    Renewed, ReplicaId, Tag, Ticket, Timing,
};

use crate::{
    cache::{Cache, Contents},
    overthrown::Overthrown,
};

/// Renewals whose head is still being caught up with. More are sent than a lease lives for only
/// when replies overtake each other.
const PENDING_LEASES_MAX: usize = 8;

/// Which part this process plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It never answers from memory, so it need not be known.
    Observing,
    Unregistered,
    Registered(ReplicaId),
    /// It has left; nothing brings it back.
    Closed,
}

/// Where in which history this replica is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cursor {
    tag: Tag,
    applied: Position,
    leaf: Leaf,
}

/// A lease that waits for the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pending {
    head: Position,
    lease: Lease,
}

/// What one replica knows.
#[derive(Clone, Debug)]
pub struct Machine {
    timing: Timing,
    standing: Standing,
    /// Moves whenever everything is dropped: what is under way from before is then void.
    generation: u64,
    cursor: Option<Cursor>,
    /// The tag that was last read, and since when it is known.
    known: Option<(Tag, Mono)>,
    /// The last reading of the database's clock.
    clock: Option<(DateTime<Utc>, Mono)>,
    lease: Option<Lease>,
    pending: VecDeque<Pending>,
    overthrown: Overthrown,
    cache: Cache,
    /// How far others have come in the history of the cursor, as they said last.
    acknowledged: HashMap<ReplicaId, Position>,
    /// Taken out of the cache, to be freed when the lock is released.
    garbage: Vec<Garbage>,
}

/// What is no longer needed, and takes a while to free.
#[derive(Clone, Debug)]
pub struct Garbage {
    _contents: Contents,
    _overthrown: Option<Overthrown>,
}

impl Machine {
    /// A replica that will register. It remembers `capacity` verdicts at most. Dependencies share
    /// `places` in which it notes what was overthrown: the fewer, the more verdicts fall with others.
    #[must_use]
    pub fn new(timing: Timing, capacity: usize, places: usize) -> Self {
        Self {
            timing,
            standing: Standing::Unregistered,
            generation: 0,
            cursor: None,
            known: None,
            clock: None,
            lease: None,
            pending: VecDeque::new(),
            overthrown: Overthrown::new(places),
            cache: Cache::new(capacity),
            acknowledged: HashMap::new(),
            garbage: Vec::new(),
        }
    }

    /// A process that asks the database each time and is in no list.
    #[must_use]
    pub fn observer(timing: Timing) -> Self {
        Self { standing: Standing::Observing, ..Self::new(timing, 0, 1) }
    }

    // R1, R2: registration and renewal.

    /// R1: the registration `replica` is committed, and that is known. False: this process has left.
    pub fn registered(&mut self, replica: ReplicaId) -> bool {
        if !self.is_unregistered() {
            return false;
        }
        self.drop_everything();
        self.standing = Standing::Registered(replica);
        true
    }

    #[must_use]
    pub const fn is_unregistered(&self) -> bool {
        matches!(self.standing, Standing::Unregistered)
    }

    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self.standing, Standing::Closed)
    }

    #[must_use]
    pub const fn replica(&self) -> Option<ReplicaId> {
        match self.standing {
            Standing::Registered(replica) => Some(replica),
            Standing::Observing | Standing::Unregistered | Standing::Closed => None,
        }
    }

    /// R2: `now` is read before anything is sent, and the lease will count from it.
    #[must_use]
    pub fn renewal_sent(&self, now: Mono) -> Option<RenewalSent> {
        let (applied, leaf) = match &self.cursor {
            Some(cursor) => (Some(cursor.applied), cursor.leaf),
            None => (None, None),
        };
        Some(RenewalSent { replica: self.replica()?, applied, t0: now, leaf, generation: self.generation })
    }

    /// R2: the reply to a renewal; none when it found no row to renew.
    pub fn renewal_answered(
        &mut self,
        sent: &RenewalSent,
        answer: Option<RenewalAnswer>,
        now: Mono,
    ) -> Renewed {
        if sent.generation != self.generation {
            return Renewed::Ignored;
        }
        let Some(answer) = answer else {
            self.lose();
            return Renewed::Lost;
        };
        if self.known.as_ref().is_none_or(|(tag, _)| *tag != answer.tag) {
            self.known = Some((answer.tag.clone(), now));
        }
        self.clock = Some((answer.database_time, now));
        if let Some(cursor) = &self.cursor {
            let shorter = sent.applied.is_some_and(|applied| answer.head < applied);
            let other_leaf = sent.applied.is_some() && answer.leaf_at_applied != sent.leaf;
            if cursor.tag != answer.tag || shorter || other_leaf {
                self.lose();
                return Renewed::Lost;
            }
        } else {
            // Nothing is remembered from before the head, so nothing below it can be missed; and
            // what was looked up before it may not come in.
            self.generation += 1;
            self.overthrown.everything(answer.head);
            self.cursor = Some(Cursor { tag: answer.tag, applied: answer.head, leaf: answer.leaf_at_head });
        }
        let lease = Lease { since: sent.t0, until: sent.t0.after(self.timing.lease) };
        if self.pending.len() == PENDING_LEASES_MAX {
            self.pending.pop_front();
        }
        self.pending.push_back(Pending { head: answer.head, lease });
        self.publish_leases();
        if self.applied() >= answer.head { Renewed::Leased } else { Renewed::Behind }
    }

    /// R2: a lease is in force only once the log is applied as far as the head it was read with.
    fn publish_leases(&mut self) {
        let applied = self.applied();
        let ready = self.pending.iter().filter(|pending| pending.head <= applied);
        let newest = ready.map(|pending| pending.lease).chain(self.lease).max_by_key(|lease| lease.until);
        self.lease = newest;
        self.pending.retain(|pending| pending.head > applied);
    }

    // R3: applying the log.

    /// R3: a batch that was committed. Only a contiguous one moves the cursor.
    pub fn apply(&mut self, message: &Message) -> Applied {
        let Some(cursor) = &self.cursor else { return Applied::Foreign };
        if cursor.tag != message.tag {
            return Applied::Foreign;
        }
        if message.to <= cursor.applied {
            let same = message.to < cursor.applied || message.leaf == cursor.leaf;
            return if same { Applied::Duplicate } else { Applied::Foreign };
        }
        if message.from > cursor.applied.next() {
            return Applied::Gap;
        }
        self.advance(message.to, message.leaf, &message.overthrown)
    }

    /// R3: the log will be read from here; none when there is nothing to follow.
    #[must_use]
    pub fn read_sent(&self) -> Option<ReadSent> {
        let cursor = self.cursor.as_ref()?;
        Some(ReadSent { after: cursor.applied, generation: self.generation })
    }

    /// R3: what the log has. The cursor goes to the last event that was returned, and no further.
    pub fn read_answered(&mut self, sent: &ReadSent, page: &Page) -> Applied {
        if sent.generation != self.generation {
            return Applied::Foreign;
        }
        let Some(cursor) = &self.cursor else { return Applied::Foreign };
        if cursor.tag != page.tag {
            self.lose();
            return Applied::Lost;
        }
        if page.last <= cursor.applied {
            return Applied::Duplicate;
        }
        self.advance(page.last, page.leaf, &page.overthrown)
    }

    /// Overthrowing and cursor: one step, and acknowledged only after it.
    fn advance(&mut self, to: Position, leaf: Leaf, overthrown: &[(Position, Invalidation)]) -> Applied {
        let Some(cursor) = &mut self.cursor else { return Applied::Foreign };
        for (position, invalidation) in overthrown.iter().filter(|(at, _)| *at > cursor.applied) {
            match invalidation {
                Invalidation::Nothing => {}
                Invalidation::Of(dependency) => self.overthrown.note(*dependency, *position),
                Invalidation::Everything => {
                    self.overthrown.everything(*position);
                    self.garbage.push(Garbage { _contents: self.cache.clear(), _overthrown: None });
                }
            }
        }
        (cursor.applied, cursor.leaf) = (to, leaf);
        self.publish_leases();
        Applied::Yes
    }

    /// What to tell the others, once a step is done.
    #[must_use]
    pub fn acknowledgement(&self) -> Option<Acknowledgement> {
        let (replica, cursor) = (self.replica()?, self.cursor.as_ref()?);
        Some(Acknowledgement { replica, tag: cursor.tag.clone(), applied: cursor.applied, leaf: cursor.leaf })
    }

    /// What another replica said of itself. One that stands where we stand on another leaf follows
    /// another history under the same name, and is not believed.
    pub fn acknowledged(&mut self, heard: &Acknowledgement) {
        let contradicts = |cursor: &Cursor| cursor.applied == heard.applied && cursor.leaf != heard.leaf;
        let follows = |cursor: &Cursor| cursor.tag == heard.tag && !contradicts(cursor);
        if self.cursor.as_ref().is_some_and(follows) {
            let known = self.acknowledged.entry(heard.replica).or_default();
            *known = heard.applied.max(*known);
        }
    }

    // R4: filling.

    /// R4: taken before the lookup is sent; none when nothing may be remembered.
    #[must_use]
    pub fn ticket(&self) -> Option<Ticket> {
        self.cursor.as_ref()?;
        self.replica()?;
        Some(Ticket { generation: self.generation })
    }

    /// R4: a verdict, looked up at `position` by the statement that read it. It is remembered only
    /// if nothing it rests on was overthrown above that position.
    pub fn fill(
        &mut self,
        ticket: Ticket,
        position: Position,
        hash: CredentialHash,
        verdict: Verdict,
    ) -> bool {
        let allowed = self.honours(ticket) && self.overthrown.spares(&verdict, position);
        if allowed {
            self.cache.insert(hash, verdict, position);
        }
        allowed
    }

    /// Whether what is offered with it can still be remembered.
    #[must_use]
    pub fn honours(&self, ticket: Ticket) -> bool {
        ticket.generation == self.generation
    }

    /// Whether another verdict would take the place of one that is remembered.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.cache.is_full()
    }

    // R5: verifying.

    /// R5: the lease as it is now.
    #[must_use]
    pub const fn lease(&self) -> Option<Lease> {
        self.lease
    }

    /// What is remembered of a credential, if it was not overthrown and its time is not over.
    #[must_use]
    pub fn remembered(&self, hash: &CredentialHash, now: Mono) -> Option<&Verdict> {
        let (verdict, position) = self.cache.get(hash)?;
        let holds = self.overthrown.spares(verdict, position)
            && match verdict.expires_at() {
                None => true,
                Some(at) => self.database_time(now)? < at,
            };
        holds.then_some(verdict)
    }

    /// R5, whole: a yes from memory, or nothing. One lease is taken, and it must hold before the
    /// look and after it.
    pub fn answer(&self, hash: &CredentialHash, mut mono: impl FnMut() -> Mono) -> Option<Verdict> {
        let lease = self.lease()?;
        let before = mono();
        if !lease.holds(before) {
            return None;
        }
        let verdict = *self.remembered(hash, before)?;
        lease.holds(mono()).then_some(verdict)
    }

    /// Database time, as the last renewal and the time since tell it.
    #[must_use]
    pub fn database_time(&self, now: Mono) -> Option<DateTime<Utc>> {
        let (database_time, at) = self.clock?;
        Some(database_time + TimeDelta::from_std(now.since(at)).unwrap_or(TimeDelta::MAX))
    }

    // R9: leaving.

    /// R9: closes for good. Replies that are still under way find nothing to change.
    pub fn close(&mut self) {
        self.lose();
        self.standing = Standing::Closed;
    }

    /// The registration is void: nothing that rested on it may be used.
    fn lose(&mut self) {
        self.drop_everything();
        if self.replica().is_some() {
            self.standing = Standing::Unregistered;
        }
    }

    fn drop_everything(&mut self) {
        self.generation += 1;
        self.lease = None;
        self.cursor = None;
        self.pending.clear();
        self.acknowledged.clear();
        let fresh = self.overthrown.of_another_history();
        let overthrown = mem::replace(&mut self.overthrown, fresh);
        self.garbage.push(Garbage { _contents: self.cache.clear(), _overthrown: Some(overthrown) });
    }

    // What is seen from outside.

    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    #[must_use]
    pub fn applied(&self) -> Position {
        self.cursor.as_ref().map_or(Position::ZERO, |cursor| cursor.applied)
    }

    #[must_use]
    pub fn tag(&self) -> Option<&Tag> {
        self.cursor.as_ref().map(|cursor| &cursor.tag)
    }

    #[must_use]
    pub fn cached(&self) -> usize {
        self.cache.len()
    }

    /// What the cache has allocated.
    #[must_use]
    pub fn cached_bytes(&self) -> usize {
        self.cache.allocated_bytes()
    }

    /// What is no longer needed and not yet freed.
    pub fn take_garbage(&mut self) -> Vec<Garbage> {
        mem::take(&mut self.garbage)
    }
}

#[cfg(test)]
mod tests;
