//! What a replica has applied, told to those in the process who act on it.
//!
//! Verdicts need no news: they are judged by position. This is for what lasts longer than a request,
//! such as an open socket, which must end when what it rests on does.
//!
//! What other replicas say on the bus names positions and ids alone. Its events are read from the log,
//! beside the task that applies: nobody who waits for a revocation waits for that.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tally_events::{Position, Recorded};
use tally_store::Batch;
use tokio::sync::{broadcast, mpsc};

use crate::{
    bus::Said,
    keeper::{ANSWER_TIMEOUT, Failure, Link},
    participant::Inner,
    registry,
};

/// Batches a listener may fall behind before it is told that it missed some.
const BACKLOG: usize = 1024;

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

/// What was applied and not yet told, in order.
pub(crate) enum Untold {
    Batch(Arc<Batch>),
    /// Another replica said so; its events are in the log.
    Elsewhere {
        from: Position,
        to: Position,
    },
    Read(News),
    Unknown,
}

impl Untold {
    pub(crate) fn of(said: Said) -> Self {
        match said.batch {
            Some(batch) => Self::Batch(batch),
            None => Self::Elsewhere { from: said.message.from, to: said.message.to },
        }
    }
}

/// From who applies to who listens.
pub(crate) struct Publisher {
    untold: mpsc::Sender<Untold>,
    /// More was applied than could be told.
    missed: AtomicBool,
    told: broadcast::Sender<News>,
}

impl Publisher {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Untold>) {
        let (untold, receiver) = mpsc::channel(BACKLOG);
        (Self { untold, missed: AtomicBool::new(false), told: broadcast::Sender::new(BACKLOG) }, receiver)
    }

    /// Never waits: who applies has more to do.
    pub(crate) fn publish(&self, untold: Untold) {
        if self.untold.try_send(untold).is_err() {
            self.missed.store(true, Ordering::SeqCst);
        }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<News> {
        self.told.subscribe()
    }

    fn tell(&self, news: News) {
        // Nobody listening is no failure.
        drop(self.told.send(news));
    }
}

/// Tells what was applied, in order, reading what of it is in the log alone.
pub(crate) async fn tell(inner: Arc<Inner>, mut untold: mpsc::Receiver<Untold>) {
    let publisher = &inner.publisher;
    let mut link = Link::new(inner.clone());
    while let Some(next) = untold.recv().await {
        if publisher.missed.swap(false, Ordering::SeqCst) {
            publisher.tell(News::Unknown);
        }
        match next {
            Untold::Batch(batch) => publisher.tell(News::Batch(batch)),
            Untold::Read(news) => publisher.tell(news),
            Untold::Unknown => publisher.tell(News::Unknown),
            // Whoever comes later looks at what is then.
            Untold::Elsewhere { .. } if publisher.told.receiver_count() == 0 => {}
            Untold::Elsewhere { from, to } => {
                if let Err(error) = read(publisher, &mut link, from, to).await {
                    tracing::warn!(
                        error = &*error as &dyn std::error::Error,
                        "what was applied cannot be told"
                    );
                    publisher.tell(News::Unknown);
                }
            }
        }
    }
}

/// Reads and tells what stands between two positions, both among it.
async fn read(publisher: &Publisher, link: &mut Link, from: Position, to: Position) -> Result<(), Failure> {
    let mut after = Position(from.0 - 1);
    while after < to {
        let (page, news) = link.with(ANSWER_TIMEOUT, async |c| registry::page(c, after).await).await?;
        if page.last == after {
            return Err("the log ends before what was applied".into());
        }
        // No further than it was applied: whoever is told may look at once, and must not see the old.
        let news = match news {
            News::Page(events) if page.last > to => {
                News::Page(events.iter().filter(|event| event.position <= to).cloned().collect())
            }
            news => news,
        };
        publisher.tell(news);
        after = page.last;
    }
    Ok(())
}
