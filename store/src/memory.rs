//! Folded streams kept in memory, so that a command need not load what this process saw last.
//!
//! What is remembered may be old: another replica may have appended since. That is safe, because a
//! commit names the version of every stream its decision rests on, and the committer compares them
//! under the head's lock. So memory may say what to append, and never that something is refused or
//! already so: for these the log is read.

use quick_cache::sync::Cache;
use tally_domain::Command;
use tally_events::{Recorded, StreamId, Version};

use crate::load::{Folded, Streams};

/// Streams remembered at once.
const STREAMS_MAX: usize = 16_384;

pub(crate) struct Memory {
    streams: Cache<StreamId, Folded>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self { streams: Cache::new(STREAMS_MAX) }
    }

    /// What a command reads, if all of it is remembered.
    pub(crate) fn recall<C: Command>(&self, command: &C) -> Option<Streams> {
        let begins = command.begins();
        let recall = |stream: StreamId| {
            let folded =
                if begins.contains(&stream) { Folded::initial(stream) } else { self.streams.get(&stream)? };
            Some((stream, folded))
        };
        command.reads().into_iter().map(recall).collect()
    }

    /// Remembers what was loaded. An older state may replace a newer one; the commit that rests on
    /// it fails, and what is then loaded replaces it in turn.
    pub(crate) fn learn(&self, streams: &Streams) {
        for (stream, folded) in streams {
            // That nothing has happened in a stream is seldom asked twice.
            if folded.version != Version::ZERO {
                self.streams.insert(*stream, folded.clone());
            }
        }
    }

    /// Follows what this process has committed.
    pub(crate) fn apply(&self, events: &[Recorded]) {
        for recorded in events {
            let begun =
                || (recorded.version == Version::ZERO.next()).then(|| Folded::initial(recorded.stream));
            match self.streams.get(&recorded.stream).or_else(begun) {
                Some(mut folded) if folded.version.next() == recorded.version => {
                    folded.evolve(recorded);
                    self.streams.insert(recorded.stream, folded);
                }
                Some(_) => drop(self.streams.remove(&recorded.stream)),
                None => {}
            }
        }
    }

    /// Takes note of new snapshots.
    pub(crate) fn snapshotted(&self, streams: &Streams) {
        for (stream, snapshot) in streams {
            if let Some(mut folded) = self.streams.get(stream) {
                folded.snapshot = snapshot.version;
                self.streams.insert(*stream, folded);
            }
        }
    }
}
