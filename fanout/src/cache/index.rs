//! Where in a cache each credential's entry is, in one cache line of memory for most of them.
//!
//! A look costs what it reads from memory that no processor holds: here a bucket, and then the entry. In
//! a table that keeps control bytes apart from its values it would be three reads, each after the other.

use tally_domain::credential::CredentialHash;

/// Entries whose places one bucket knows: as many as fit in 64 bytes.
const SLOTS: usize = 10;
/// A table is made twice as large when it has more for each bucket than this.
const LOAD_MAX: usize = 8;
const EMPTY: u32 = u32::MAX;

/// A hash table of numbers, in buckets. Whoever finds no slot in the bucket they belong to goes on to the
/// next.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// A power of two of them, or none.
    buckets: Vec<Bucket>,
    len: usize,
}

/// One cache line.
#[derive(Clone, Debug)]
#[repr(align(64))]
struct Bucket {
    numbers: [u32; SLOTS],
    /// 16 bits of each hash, which tell most others apart without a look at their entries.
    tags: [u16; SLOTS],
    /// How many went on from here because every slot was taken.
    passed: u32,
}

const VACANT: Bucket = Bucket { numbers: [EMPTY; SLOTS], tags: [0; SLOTS], passed: 0 };

impl Index {
    pub(super) fn allocated_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket>()
    }

    /// The number kept under a hash, among those of which `is_it` says so.
    #[inline]
    pub(super) fn find(&self, hash: &CredentialHash, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mut place = self.home(hash)?;
        let tag = tag(hash);
        // Each may have let somebody pass at some time: then it ends where it began.
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[place];
            for (number, other) in bucket.numbers.iter().zip(bucket.tags) {
                if other == tag && *number != EMPTY && is_it(*number) {
                    return Some(*number);
                }
            }
            if bucket.passed == 0 {
                break;
            }
            place = self.after(place);
        }
        None
    }

    /// Keeps a number under a hash that has none. `hash_of` tells those of the numbers that are here.
    pub(super) fn insert(
        &mut self,
        hash: &CredentialHash,
        number: u32,
        hash_of: impl Fn(u32) -> CredentialHash,
    ) {
        if self.len >= self.buckets.len() * LOAD_MAX {
            self.grow(hash_of);
        }
        self.put(hash, number);
        self.len += 1;
    }

    /// Takes out a number that is kept under a hash.
    pub(super) fn remove(&mut self, hash: &CredentialHash, number: u32) {
        let Some(home) = self.home(hash) else { return };
        let mut place = home;
        while let Some(bucket) = self.buckets.get_mut(place) {
            if let Some(slot) = bucket.numbers.iter_mut().find(|held| **held == number) {
                *slot = EMPTY;
                self.len -= 1;
                break;
            }
            if bucket.passed == 0 {
                return;
            }
            place = self.after(place);
        }
        let mut passed = home;
        while passed != place {
            self.buckets[passed].passed -= 1;
            passed = self.after(passed);
        }
    }

    fn put(&mut self, hash: &CredentialHash, number: u32) {
        let Some(mut place) = self.home(hash) else { return };
        loop {
            let bucket = &mut self.buckets[place];
            if let Some(slot) = bucket.numbers.iter().position(|held| *held == EMPTY) {
                bucket.numbers[slot] = number;
                bucket.tags[slot] = tag(hash);
                return;
            }
            bucket.passed += 1;
            place = self.after(place);
        }
    }

    fn grow(&mut self, hash_of: impl Fn(u32) -> CredentialHash) {
        let larger = vec![VACANT; (self.buckets.len() * 2).max(1)];
        for bucket in std::mem::replace(&mut self.buckets, larger) {
            for number in bucket.numbers.into_iter().filter(|number| *number != EMPTY) {
                self.put(&hash_of(number), number);
            }
        }
    }

    /// None: there are no buckets yet.
    fn home(&self, hash: &CredentialHash) -> Option<usize> {
        let last = self.buckets.len().checked_sub(1)?;
        let bits = u32::from_ne_bytes(*hash.0.first_chunk().expect("a hash has 32 bytes"));
        Some(bits as usize & last)
    }

    fn after(&self, place: usize) -> usize {
        if place + 1 == self.buckets.len() { 0 } else { place + 1 }
    }
}

/// Of bytes that neither [`Index::home`] nor the choice of the index looks at. A SHA-256 is as even as any
/// hash of it, and nobody chooses the keys: only good credentials get in.
fn tag(hash: &CredentialHash) -> u16 {
    u16::from_ne_bytes([hash.0[4], hash.0[5]])
}

#[cfg(test)]
mod tests;
