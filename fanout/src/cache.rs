//! The verdict cache: credentials that were good, and what each verdict rests on.
//!
//! It only remembers. Whether it may be asked is the lease's business, what may be put in is
//! [`protocol`](crate::protocol)'s. It never holds a no: a no costs a lookup, and a remembered one
//! could outlive a mint.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

use indexmap::IndexMap;
use tally_domain::{Dependency, Invalidation, Verdict, credential::CredentialHash};

/// A bounded map from credential to verdict, with the way back from each dependency.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    capacity: usize,
    entries: Entries,
    holders: HashMap<Dependency, Holders>,
    /// Where the next victim is looked for.
    hand: usize,
}

type Entries = IndexMap<CredentialHash, Verdict, BuildHasherDefault<Leading>>;
type Hashes = HashSet<CredentialHash, BuildHasherDefault<Leading>>;

/// The credentials that rest on one dependency. A token's own dependency has one.
#[derive(Clone, Debug)]
enum Holders {
    One(CredentialHash),
    Many(Box<Hashes>),
}

/// What was in a cache: taken out under the lock, to be freed outside of it.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    _entries: Entries,
    _holders: HashMap<Dependency, Holders>,
}

impl Cache {
    /// A cache of at most `capacity` verdicts. It grows as it fills.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity, ..Self::default() }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn get(&self, hash: &CredentialHash) -> Option<&Verdict> {
        self.entries.get(hash)
    }

    /// Puts a verdict in, and another out when there is no room.
    pub fn insert(&mut self, hash: CredentialHash, verdict: Verdict) {
        if self.capacity == 0 {
            return;
        }
        self.remove(&hash);
        while self.entries.len() >= self.capacity {
            self.evict();
        }
        for dependency in &verdict.depends_on {
            match self.holders.get_mut(dependency) {
                None => drop(self.holders.insert(*dependency, Holders::One(hash))),
                Some(holders) => holders.add(hash),
            }
        }
        self.entries.insert(hash, verdict);
    }

    /// Takes out every verdict that `invalidation` overthrows; what is large is handed out.
    pub fn overthrow(&mut self, invalidation: Invalidation) -> Option<Contents> {
        match invalidation {
            Invalidation::Nothing => None,
            Invalidation::Everything => Some(self.clear()),
            Invalidation::Of(dependency) => {
                match self.holders.remove(&dependency) {
                    None => {}
                    Some(Holders::One(hash)) => self.remove(&hash),
                    Some(Holders::Many(hashes)) => hashes.iter().for_each(|hash| self.remove(hash)),
                }
                None
            }
        }
    }

    /// Takes out everything.
    pub fn clear(&mut self) -> Contents {
        self.hand = 0;
        Contents { _entries: std::mem::take(&mut self.entries), _holders: std::mem::take(&mut self.holders) }
    }

    fn remove(&mut self, hash: &CredentialHash) {
        if let Some(verdict) = self.entries.swap_remove(hash) {
            self.forget(hash, &verdict);
        }
    }

    /// Takes out one verdict in constant time. The hand goes round the table: no order of use is
    /// kept, because keeping it would make every reader a writer.
    fn evict(&mut self) {
        self.hand = if self.hand < self.entries.len() { self.hand } else { 0 };
        if let Some((hash, verdict)) = self.entries.swap_remove_index(self.hand) {
            self.forget(&hash, &verdict);
        }
        self.hand += 1;
    }

    fn forget(&mut self, hash: &CredentialHash, verdict: &Verdict) {
        for dependency in &verdict.depends_on {
            if self.holders.get_mut(dependency).is_some_and(|holders| holders.take(hash)) {
                self.holders.remove(dependency);
            }
        }
    }
}

impl Holders {
    fn add(&mut self, hash: CredentialHash) {
        match self {
            Self::One(only) if *only == hash => {}
            Self::One(only) => *self = Self::Many(Box::new([*only, hash].into_iter().collect())),
            Self::Many(hashes) => drop(hashes.insert(hash)),
        }
    }

    /// Takes `hash` out; true when none is left.
    fn take(&mut self, hash: &CredentialHash) -> bool {
        match self {
            Self::One(only) => only == hash,
            Self::Many(hashes) => {
                hashes.remove(hash);
                hashes.is_empty()
            }
        }
    }
}

/// The first eight bytes of a key. A SHA-256 is as even as any hash of it, and nobody chooses the
/// keys in the table: only good credentials get in.
#[derive(Clone, Debug, Default)]
pub struct Leading(u64);

impl Hasher for Leading {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_ne_bytes(*first);
        }
    }

    /// The length of the key, which is always the same.
    fn write_usize(&mut self, _: usize) {}
}

#[cfg(test)]
mod tests;
