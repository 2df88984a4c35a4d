//! What a replica has applied, told to those in the process who act on it.
//!
//! Verdicts need no news: they are judged by position. This is for what lasts longer than a request,
//! such as an open socket, which must end when what it rests on does.

use std::sync::Arc;

use tally_events::Recorded;
use tally_store::Batch;

/// Batches a listener may fall behind before it is told that it missed some.
pub(crate) const BACKLOG: usize = 1024;

/// Something was applied.
#[derive(Clone, Debug)]
pub enum News {
    Batch(Arc<Batch>),
    /// Read from the log, because another replica committed it.
    Page(Arc<[Recorded]>),
    /// It cannot be said what: events of a newer release, or another history.
    Unknown,
}

impl News {
    /// The events, in order. Of a batch some may have been told before.
    #[must_use]
    pub fn events(&self) -> &[Recorded] {
        match self {
            Self::Batch(batch) => &batch.events,
            Self::Page(events) => events,
            Self::Unknown => &[],
        }
    }
}
