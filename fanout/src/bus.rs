//! What replicas tell each other: batches that this process committed, those that others did, and how
//! far each has come.
//!
//! It makes things fast and never decides: a message that is lost is found by the next renewal,
//! and a bus that is silent leaves the lease to run out. Without NATS it reaches this process alone.

mod key;
mod nats;
mod reorder;
pub(crate) mod wire;

use std::sync::Arc;

use tally_domain::dependency::invalidation;
use tally_store::Batch;
use tokio::sync::broadcast::{self, error::RecvError};

pub use key::{BusKey, NotABusKey};
pub(crate) use nats::NatsLink;
pub use nats::{Nats, NatsError, NatsLogin, NatsSettings};
pub(crate) use reorder::Reorder;

use crate::{
    metrics::METRICS,
    participant::Log,
    protocol::{Acknowledgement, Message, Tag},
};
use nats::Came;
use wire::Frame;

/// The bus as one replica hears it. What the own committer says is subscribed to for one generation of
/// the machine: what was committed to a history that is no longer followed must not be applied to the
/// next.
pub(crate) struct Bus {
    feed: Option<broadcast::Receiver<Arc<Batch>>>,
    pub generation: u64,
    nats: Option<Nats>,
    /// Somebody who is none of us spoke, and that was told.
    told_of_strangers: bool,
}

/// A batch, as whoever committed it tells it.
pub(crate) struct Said {
    pub message: Message,
    /// Its events, where this process committed it.
    pub batch: Option<Arc<Batch>>,
}

/// What came in.
pub(crate) enum Heard {
    Batch(Said),
    Acknowledgement(Acknowledgement),
    /// Something was lost on the way, or the log alone has it.
    Missed,
    Closed,
}

impl Bus {
    pub(crate) fn new(log: &Log, generation: u64, nats: Option<Nats>) -> Self {
        Self { feed: log.commits(), generation, nats, told_of_strangers: false }
    }

    /// Another history is followed from here on.
    pub(crate) fn begin_anew(&mut self, log: &Log, generation: u64) {
        (self.feed, self.generation) = (log.commits(), generation);
    }

    /// Whether others may be heard: only then can what is missing still be on its way.
    pub(crate) fn is_shared(&self) -> bool {
        self.connected().is_some()
    }

    fn connected(&self) -> Option<&Nats> {
        self.nats.as_ref().filter(|nats| nats.is_connected())
    }

    pub(crate) async fn hear(&mut self) -> Heard {
        loop {
            tokio::select! {
                batch = committed(self.feed.as_mut()) => return match batch {
                    Ok(batch) => Heard::Batch(self.pass_on(batch)),
                    Err(RecvError::Lagged(_)) => Heard::Missed,
                    Err(RecvError::Closed) => Heard::Closed,
                },
                came = next(self.nats.as_mut()) => if let Some(heard) = self.understand(came) {
                    return heard;
                },
            }
        }
    }

    /// R6: it was committed, so it is said. The others first: this process has it already.
    fn pass_on(&self, batch: Arc<Batch>) -> Said {
        let message = message(&batch);
        if let Some(nats) = self.connected() {
            nats.send(wire::batch(nats.key(), &message));
            METRICS.sent.batches.increment(1);
        }
        Said { message, batch: Some(batch) }
    }

    fn understand(&mut self, came: Came) -> Option<Heard> {
        let message = match came {
            Came::Bytes(message) => message,
            Came::Missed => return Some(Heard::Missed),
            Came::Closed => {
                tracing::error!("NATS is given up: revocations wait until every lease from before is over");
                self.nats = None;
                return Some(Heard::Missed);
            }
        };
        let read = wire::read(self.nats.as_ref()?.key(), &message.payload);
        match read.inspect(|frame| METRICS.received(frame)) {
            Ok(Frame::Batch(message)) => Some(Heard::Batch(Said { message, batch: None })),
            Ok(Frame::Acknowledgement(told)) => Some(Heard::Acknowledgement(told)),
            Ok(Frame::ReadTheLog) => Some(Heard::Missed),
            // Whoever made it may send many: it is told once, and costs a hash.
            Err(forged) => {
                METRICS.forged.increment(1);
                if !std::mem::replace(&mut self.told_of_strangers, true) {
                    tracing::warn!("{forged}: it is ignored, and so are more of them, in silence");
                }
                None
            }
        }
    }

    /// Tells the other replicas. Within one process the barrier reads the machine itself.
    pub(crate) fn acknowledge(&self, told: Option<Acknowledgement>) {
        if let (Some(nats), Some(told)) = (self.connected(), told) {
            nats.send(wire::acknowledgement(nats.key(), &told));
            METRICS.sent.acknowledgements.increment(1);
        }
    }
}

async fn committed(feed: Option<&mut broadcast::Receiver<Arc<Batch>>>) -> Result<Arc<Batch>, RecvError> {
    match feed {
        Some(feed) => feed.recv().await,
        None => std::future::pending().await,
    }
}

async fn next(nats: Option<&mut Nats>) -> Came {
    match nats {
        Some(nats) => nats.next().await,
        None => std::future::pending().await,
    }
}

/// A batch as a message. It names the history it was committed to, and only who follows that
/// history applies it.
fn message(batch: &Batch) -> Message {
    Message {
        tag: Tag { log_id: batch.log_id, timeline: batch.timeline.clone() },
        from: batch.from(),
        to: batch.to(),
        leaf: Some(batch.leaf_hash),
        overthrown: batch.events.iter().map(|event| (event.position, invalidation(event))).collect(),
    }
}
