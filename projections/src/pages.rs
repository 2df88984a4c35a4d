//! Reading the log ahead of those who fold it.
//!
//! One connection reads and decodes page after page for all of them, while each writes through its
//! own. Who falls behind holds the reader up, so that no more than a few pages are in memory. When
//! the reader ends, at the end of the log or at something it cannot read, each goes on by itself,
//! and meets it.

use std::sync::Arc;

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tally_events::{Position, Recorded};
use tokio::sync::mpsc;

use crate::fold::{FoldError, read};

/// Events on a page. Larger ones fold no faster, and hold more memory.
const PAGE_EVENTS: i64 = 4096;
/// On the first page; each one after it has twice as many, so that all begin to fold soon.
const FIRST_PAGE_EVENTS: i64 = 256;
/// Pages that wait for one who folds them.
const PAGES_AHEAD: usize = 2;

type Page = Arc<Vec<Recorded>>;

/// The log from a position on, for one who folds it.
pub(crate) struct Pages {
    ahead: mpsc::Receiver<Page>,
    current: Page,
}

/// Reads the log once for all who begin after these positions. The reader ends when all are gone.
pub(crate) fn read_ahead(options: &PgConnectOptions, from: &[Position]) -> Vec<Pages> {
    let (mut senders, mut pages) = (Vec::new(), Vec::new());
    for &from in from {
        let (sender, ahead) = mpsc::channel(PAGES_AHEAD);
        senders.push((from, sender));
        pages.push(Pages { ahead, current: Page::default() });
    }
    let options = options.clone();
    // Whatever stops it, the others meet as well.
    drop(tokio::spawn(async move { send_pages(&options, senders).await }));
    pages
}

async fn send_pages(
    options: &PgConnectOptions,
    mut to: Vec<(Position, mpsc::Sender<Page>)>,
) -> Result<(), FoldError> {
    let mut connection = PgConnection::connect_with(options).await?;
    let mut position = to.iter().map(|(from, _)| *from).min().unwrap_or(Position::ZERO);
    let mut limit = FIRST_PAGE_EVENTS;
    while !to.is_empty() {
        let page = Arc::new(read(&mut connection, position, limit).await?);
        limit = (limit * 2).min(PAGE_EVENTS);
        let Some(last) = page.last().map(|last| last.position) else { break };
        position = last;
        let mut staying = Vec::with_capacity(to.len());
        for (from, sender) in to {
            // Who is beyond it has no use for it; who is gone has no use for any.
            let taken =
                if from >= last { !sender.is_closed() } else { sender.send(page.clone()).await.is_ok() };
            if taken {
                staying.push((from, sender));
            }
        }
        to = staying;
    }
    Ok(connection.close().await?)
}

impl Pages {
    /// The events right after `position`, some at least if there are any in the log.
    pub async fn after(
        &mut self,
        connection: &mut PgConnection,
        position: Position,
    ) -> Result<&[Recorded], FoldError> {
        loop {
            let known = self.current.first().map(|first| position.0 + 1 - first.position.0);
            let known = known.and_then(|known| usize::try_from(known).ok());
            if let Some(known) = known.filter(|known| *known < self.current.len()) {
                return Ok(&self.current[known..]);
            }
            self.current = match self.ahead.recv().await {
                Some(page) => page,
                None => Arc::new(read(connection, position, PAGE_EVENTS).await?),
            };
            if self.current.is_empty() {
                return Ok(&[]);
            }
        }
    }
}
