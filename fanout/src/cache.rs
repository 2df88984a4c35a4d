//! The verdict cache: credentials that were good, and at which position of the log each was.
//!
//! It only remembers. Whether it may be asked is the lease's business; what may be put in, and
//! whether what is in it still holds, is [`protocol`](crate::protocol)'s. It never holds a no: a no
//! costs a lookup, and a remembered one could outlive a mint.
//!
//! Nothing leads from a dependency back to the verdicts that rest on it: such an index costs more
//! than the verdicts themselves. What is overthrown stays until it is asked for or its place is
//! needed.

use hashbrown::HashTable;
use tally_domain::{Verdict, credential::CredentialHash};
use tally_events::Position;

/// Verdicts are kept in pieces of this many, so that growing neither copies nor over-allocates.
const CHUNK_ENTRIES: usize = 4096;
/// The index is kept in this many tables, so that one which grows stops readers for moments only.
const TABLES: usize = 256;

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
    tables: Vec<HashTable<u32>>,
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
        let tables: usize = self.contents.tables.iter().map(HashTable::allocation_size).sum();
        chunks * size_of::<Entry>()
            + self.contents.chunks.capacity() * size_of::<Vec<Entry>>()
            + tables
            + self.contents.tables.capacity() * size_of::<HashTable<u32>>()
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
            self.contents.replace(self.hand, entry);
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
        let table = self.tables.get(table_of(hash))?;
        table.find(leading(hash), |number| self.entry(*number).hash == *hash).copied()
    }

    fn push(&mut self, entry: Entry) {
        if self.tables.is_empty() {
            self.tables.resize_with(TABLES, HashTable::new);
        }
        if self.len.is_multiple_of(CHUNK_ENTRIES) {
            // The first few grow as they fill: most caches stay small.
            let room = if self.len == 0 { 0 } else { CHUNK_ENTRIES };
            self.chunks.push(Vec::with_capacity(room));
        }
        let number = self.len;
        let hash = entry.hash;
        self.chunks[number / CHUNK_ENTRIES].push(entry);
        self.len += 1;
        self.index(number, &hash);
    }

    /// Gives the place of entry `number` to another.
    fn replace(&mut self, number: usize, entry: Entry) {
        let place = &mut self.chunks[number / CHUNK_ENTRIES][number % CHUNK_ENTRIES];
        let (new, old) = (entry.hash, std::mem::replace(place, entry).hash);
        let same = |held: &u32| *held as usize == number;
        if let Ok(indexed) = self.tables[table_of(&old)].find_entry(leading(&old), same) {
            indexed.remove();
        }
        self.index(number, &new);
    }

    fn index(&mut self, number: usize, hash: &CredentialHash) {
        let Self { chunks, tables, .. } = self;
        let rehash = |held: &u32| {
            let held = *held as usize;
            leading(&chunks[held / CHUNK_ENTRIES][held % CHUNK_ENTRIES].hash)
        };
        let number = u32::try_from(number).expect("the capacity fits in 32 bits");
        tables[table_of(hash)].insert_unique(leading(hash), number, rehash);
    }
}

/// The first eight bytes of a key. A SHA-256 is as even as any hash of it, and nobody chooses the
/// keys in the table: only good credentials get in.
fn leading(hash: &CredentialHash) -> u64 {
    u64::from_ne_bytes(*hash.0.first_chunk().expect("a hash has 32 bytes"))
}

/// By a byte that [`leading`] leaves alone.
fn table_of(hash: &CredentialHash) -> usize {
    usize::from(hash.0[8])
}

#[cfg(test)]
mod tests;
