//! What replicas tell each other. In this process only, so far: batches of the own committer.
//!
//! It makes things fast and never decides: a message that is lost is found by the next renewal,
//! and a bus that is silent leaves the lease to run out. Messages and acknowledgements of other
//! processes join here; nobody above needs to know.

use std::sync::Arc;

use tally_domain::dependency::invalidation;
use tally_store::{Batch, Store};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::protocol::{Acknowledgement, Message, Tag};

/// One subscription. It belongs to one generation of the machine: what was committed to a history
/// that is no longer followed must not be applied to the next.
pub(crate) struct Bus {
    feed: broadcast::Receiver<Arc<Batch>>,
    pub generation: u64,
}

/// What came in.
pub(crate) enum Heard {
    Batch(Arc<Batch>),
    #[expect(dead_code, reason = "only a bus between processes carries the acknowledgements of others")]
    Acknowledgement(Acknowledgement),
    /// Something was lost on the way: the log has it.
    Missed,
    Closed,
}

impl Bus {
    pub(crate) fn subscribe(store: &Store, generation: u64) -> Self {
        Self { feed: store.subscribe(), generation }
    }

    pub(crate) async fn hear(&mut self) -> Heard {
        match self.feed.recv().await {
            Ok(batch) => Heard::Batch(batch),
            Err(RecvError::Lagged(_)) => Heard::Missed,
            Err(RecvError::Closed) => Heard::Closed,
        }
    }

    /// Tells the other replicas. Within one process the barrier reads the machine itself.
    #[expect(clippy::unused_self, reason = "a bus between processes sends it")]
    pub(crate) fn acknowledge(&self, _: Option<Acknowledgement>) {}
}

/// A batch as a message. It names the history it was committed to, and only who follows that
/// history applies it.
pub(crate) fn message(batch: &Batch) -> Message {
    Message {
        tag: Tag { log_id: batch.log_id, timeline: batch.timeline.clone() },
        from: batch.from(),
        to: batch.to(),
        leaf: Some(batch.leaf_hash),
        overthrown: batch.events.iter().map(|event| (event.position, invalidation(event))).collect(),
    }
}
