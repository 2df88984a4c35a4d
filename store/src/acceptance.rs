//! Which commits of a batch stand, decided in memory, in arrival order.
//!
//! SQL cannot decide this within one batch: `on conflict do nothing` does not see a winner of the
//! same statement, and `do update` aborts on it. So what the database holds is read first, each
//! commit is judged against it and against those accepted before it, and only the accepted are
//! written. A refused one leaves nothing behind.

use std::collections::HashMap;

use tally_domain::claim::Namespace;
use tally_events::{Position, StreamId, Version};
use uuid::Uuid;

use crate::{committer::Commit, idempotency::Earlier};

/// What the database held when the head was locked.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub versions: HashMap<Uuid, Version>,
    pub claims: HashMap<(Namespace, [u8; 32]), Uuid>,
    pub idempotency: HashMap<[u8; 32], Earlier>,
}

/// Why one commit of a batch does not stand. The others are not touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// A stream the decision rests on has moved: decide again.
    Moved(StreamId),
    /// Another stream holds the unique thing.
    ClaimTaken(Namespace),
    /// The same idempotency key was used before.
    Duplicate(Earlier),
}

impl Facts {
    /// Judges one commit; if it stands, what it will write counts as written from here on.
    ///
    /// `last` is the position of its last event if it stands.
    pub(crate) fn judge(&mut self, commit: &Commit, last: Position) -> Result<(), Refused> {
        if let Some(idempotency) = &commit.idempotency
            && let Some(earlier) = self.idempotency.get(&idempotency.key)
        {
            return Err(Refused::Duplicate(*earlier));
        }
        for (stream, expected) in &commit.expected {
            if self.version(*stream) != *expected {
                return Err(Refused::Moved(*stream));
            }
        }
        let mut written: HashMap<Uuid, Version> = HashMap::new();
        for draft in &commit.events {
            let before = written.get(&draft.stream.uuid()).copied();
            if before.unwrap_or_else(|| self.version(draft.stream)).next() != draft.version {
                return Err(Refused::Moved(draft.stream));
            }
            written.insert(draft.stream.uuid(), draft.version);
        }
        let mut claimed = HashMap::new();
        for claim in &commit.claims {
            let key = (claim.namespace, claim.value);
            let holder = claimed.get(&key).or_else(|| self.claims.get(&key));
            let ours = |holder: &Uuid| {
                *holder == claim.stream.uuid() || claim.from.is_some_and(|from| *holder == from.uuid())
            };
            if holder.is_some_and(|holder| !ours(holder)) {
                return Err(Refused::ClaimTaken(claim.namespace));
            }
            claimed.insert(key, claim.stream.uuid());
        }
        self.versions.extend(written);
        self.claims.extend(claimed);
        if let Some(idempotency) = &commit.idempotency {
            let (fingerprint, receipt) = (idempotency.fingerprint, idempotency.receipt);
            self.idempotency.insert(idempotency.key, Earlier { fingerprint, receipt, position: last });
        }
        Ok(())
    }

    fn version(&self, stream: StreamId) -> Version {
        self.versions.get(&stream.uuid()).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
