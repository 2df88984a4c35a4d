//! The verdict cache: credentials that were good, and at which position of the log each was.
//!
//! It only remembers. Whether it may be asked is the lease's business; what may be put in, and
//! whether what is in it still holds, is [`protocol`](crate::protocol)'s. It never holds a no: a no
//! costs a lookup, and a remembered one could outlive a mint.
//!
//! Nothing leads from a dependency back to the verdicts that rest on it: such an index costs more
//! than the verdicts themselves. What is overthrown stays until it is asked for or its place is
//! needed.

mod index;

use index::Index;
use tally_domain::{Verdict, credential::CredentialHash};
use tally_events::Position;

/// Verdicts are kept in pieces of this many, so that growing neither copies nor over-allocates.
const CHUNK_ENTRIES: usize = 4096;
/// The index is kept in this many parts, so that one which grows stops readers for moments only.
const PARTS: usize = 256;

/// A verdict in memory.
#[derive(Clone, Debug)]
struct Entry {
    hash: CredentialHash,
    verdict: Verdict,
    /// The statement that read it saw the log up to here.
    position: Position,
}

/// A bounded map from credential to verdict.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    capacity: usize,
    contents: Contents,
    /// Whose place is given away next.
    hand: usize,
}

/// What is in a cache: taken out under the lock, to be freed outside of it.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    chunks: Vec<Vec<Entry>>,
    len: usize,
    /// Where each credential's entry is; chosen by one byte of the hash, empty before the first.
    index: Vec<Index>,
}

impl Cache {
    /// A cache of at most `capacity` verdicts. It grows as it fills.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        // Entries are numbered in 32 bits.
        Self { capacity: capacity.min(u32::MAX as usize), ..Self::default() }
    }

    /// Verdicts in memory, the overthrown ones among them included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.contents.len
    }

    #[must_use]
    pub fn is_full(&self) -> bool {
        self.contents.len >= self.capacity
    }

    /// What is allocated, in bytes.
    #[must_use]
    pub fn allocated_bytes(&self) -> usize {
        let chunks: usize = self.contents.chunks.iter().map(Vec::capacity).sum();
        let index: usize = self.contents.index.iter().map(Index::allocated_bytes).sum();
        chunks * size_of::<Entry>()
            + self.contents.chunks.capacity() * size_of::<Vec<Entry>>()
            + index
            + self.contents.index.capacity() * size_of::<Index>()
    }

    /// A verdict, and the position it was read at.
    #[must_use]
    pub fn get(&self, hash: &CredentialHash) -> Option<(&Verdict, Position)> {
        let entry = self.contents.entry(self.contents.find(hash)?);
        Some((&entry.verdict, entry.position))
    }

    /// Puts a verdict in, and another out when there is no room. No order of use is kept, because
    /// keeping it would make every reader a writer: the places are given away in turn.
    pub fn insert(&mut self, hash: CredentialHash, verdict: Verdict, position: Position) {
        let entry = Entry { hash, verdict, position };
        if let Some(number) = self.contents.find(&hash) {
            *self.contents.entry_mut(number) = entry;
        } else if self.contents.len < self.capacity {
            self.contents.push(entry);
        } else if self.capacity > 0 {
            self.hand = if self.hand < self.capacity { self.hand } else { 0 };
            self.contents.replace(numbered(self.hand), entry);
            self.hand += 1;
        }
    }

    /// Takes out everything.
    pub fn clear(&mut self) -> Contents {
        self.hand = 0;
        std::mem::take(&mut self.contents)
    }
}

impl Contents {
    fn entry(&self, number: u32) -> &Entry {
        let number = number as usize;
        &self.chunks[number / CHUNK_ENTRIES][number % CHUNK_ENTRIES]
    }

    fn entry_mut(&mut self, number: u32) -> &mut Entry {
        let number = number as usize;
        &mut self.chunks[number / CHUNK_ENTRIES][number % CHUNK_ENTRIES]
    }

    fn find(&self, hash: &CredentialHash) -> Option<u32> {
        let index = self.index.get(part_of(hash))?;
        index.find(hash, |number| self.entry(number).hash == *hash)
    }

    fn push(&mut self, entry: Entry) {
        if self.index.is_empty() {
            self.index.resize_with(PARTS, Index::default);
        }
        if self.len.is_multiple_of(CHUNK_ENTRIES) {
            // The first few grow as they fill: most caches stay small.
            let room = if self.len == 0 { 0 } else { CHUNK_ENTRIES };
            self.chunks.push(Vec::with_capacity(room));
        }
        let number = numbered(self.len);
        let hash = entry.hash;
        self.chunks[self.len / CHUNK_ENTRIES].push(entry);
        self.len += 1;
        self.note(number, &hash);
    }

    /// Gives the place of an entry to another.
    fn replace(&mut self, number: u32, entry: Entry) {
        let new = entry.hash;
        let old = std::mem::replace(self.entry_mut(number), entry).hash;
        self.index[part_of(&old)].remove(&old, number);
        self.note(number, &new);
    }

    fn note(&mut self, number: u32, hash: &CredentialHash) {
        let Self { chunks, index, .. } = self;
        let hash_of = |held: u32| {
            let held = held as usize;
            chunks[held / CHUNK_ENTRIES][held % CHUNK_ENTRIES].hash
        };
        index[part_of(hash)].insert(hash, number, hash_of);
    }
}

fn numbered(place: usize) -> u32 {
    u32::try_from(place).expect("the capacity fits in 32 bits")
}

/// By a byte that the index itself leaves alone.
fn part_of(hash: &CredentialHash) -> usize {
    usize::from(hash.0[8])
}

#[cfg(test)]
mod tests;
