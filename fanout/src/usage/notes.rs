//! What was noted and is not in the database yet.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tally_events::CredentialId;
use tally_store::{Hour, Used};

/// Requests that are noted at the same moment rarely meet in one of so many maps.
const SHARDS: usize = 64;
/// Credentials in one of them at most: as many as fill 1,024 places, which is where the map would double.
/// All together are 57,344 credentials in an interval, in some 8 MB.
const SHARD_CREDENTIALS_MAX: usize = 896;

type Shard = HashMap<(CredentialId, Hour), Used>;

/// A bounded map from credential and hour to what is known of it.
pub(super) struct Notes {
    shards: [Mutex<Shard>; SHARDS],
    /// Uses that found no room.
    missed: AtomicU64,
}

impl Default for Notes {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), missed: AtomicU64::new(0) }
    }
}

impl Notes {
    /// Adds to what is known of a credential. When there is no room for one more, its uses are missed.
    pub(super) fn add(&self, credential: CredentialId, hour: Hour, used: Used) {
        // The last byte of an id is random, whichever of the common versions it is of.
        let [.., byte] = *credential.uuid().as_bytes();
        let mut shard = self.shards[usize::from(byte) % SHARDS].lock();
        let has_room = shard.len() < SHARD_CREDENTIALS_MAX;
        match shard.entry((credential, hour)) {
            Entry::Occupied(mut known) => known.get_mut().add(used),
            Entry::Vacant(place) if has_room => {
                place.insert(used);
            }
            Entry::Vacant(_) => {
                self.missed.fetch_add(u64::from(used.uses), Ordering::Relaxed);
            }
        }
    }

    /// Takes everything, and how many uses were missed meanwhile.
    pub(super) fn take(&self) -> (Vec<(CredentialId, Hour, Used)>, u64) {
        let shards = self.shards.iter().map(|shard| std::mem::take(&mut *shard.lock()));
        let noted = shards.flatten().map(|((credential, hour), used)| (credential, hour, used)).collect();
        (noted, self.missed.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests;
