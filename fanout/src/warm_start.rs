//! Filling the memory at the start, so that a replica need not be shown every token once before it
//! knows them.
//!
//! It reads the newest tokens in short statements, one after the other on a connection of its own. To
//! the protocol each is what a lookup is: a ticket from before it was sent, what it read, and the
//! position it was read at; and each verdict is let in or refused under the lock under which the log is
//! applied (R4). It takes no place from what was looked up, and ends when there is none left.
//!
//! Sessions are not among what it brings: they are remembered by the hash of a JWT, which no table has.

use std::{pin::pin, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use sqlx::{Connection, PgConnection};
use tally_events::TokenId;
use tally_projections::credentials::{Listed, Standing, tokens_below};
use tokio::{
    task::yield_now,
    time::{sleep, timeout},
};
use uuid::Uuid;

use crate::{
    keeper::{ANSWER_TIMEOUT, Failure, RETRY_FIRST, RETRY_LAST},
    metrics::METRICS,
    mono,
    outage::{Outage, TooLate},
    participant::Inner,
    protocol::{Machine, Ticket},
};

/// Tokens in one statement. The database holds what it sees until all are read: some 20 ms.
const CHUNK_TOKENS: usize = 16_384;
/// Tokens let in while the lock is held once, for some 50 µs: readers wait no longer.
const PIECE_TOKENS: usize = 256;

/// Fills the memory whenever the cursor has begun: after the first registration, and after each that
/// followed the loss of everything. What is overthrown at once, by an event nobody here knows, comes
/// back by lookups.
pub(crate) async fn warm_start(inner: Arc<Inner>) {
    loop {
        inner.begun.notified().await;
        // Before any statement is sent: what they read belongs to this history or to none.
        let ticket = inner.machine.read().ticket();
        if let Some(ticket) = ticket {
            WarmStart::new(&inner, ticket).run().await;
        }
    }
}

/// Why it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// No token is left.
    All,
    /// No place is.
    Full,
    /// It began in a history, or under a registration, that is over.
    Void,
}

struct WarmStart<'a> {
    inner: &'a Inner,
    ticket: Ticket,
    connection: Option<PgConnection>,
    /// Those from here on have been seen.
    below: TokenId,
    let_in: u64,
}

impl<'a> WarmStart<'a> {
    fn new(inner: &'a Inner, ticket: Ticket) -> Self {
        Self { inner, ticket, connection: None, below: TokenId(Uuid::max()), let_in: 0 }
    }

    async fn run(mut self) {
        let began = mono::now();
        let outage = Outage::new("filling the memory with the newest tokens");
        let mut pause = RETRY_FIRST;
        let end = loop {
            match timeout(ANSWER_TIMEOUT, self.chunk()).await.unwrap_or_else(|_| Err(TooLate.into())) {
                Ok(None) => {
                    outage.worked();
                    pause = RETRY_FIRST;
                }
                Ok(Some(end)) => break end,
                Err(error) => {
                    outage.failed(&*error);
                    // And with it whatever is still under way on it.
                    self.connection = None;
                    sleep(pause).await;
                    pause = (pause * 2).min(RETRY_LAST);
                }
            }
        };
        if let Some(connection) = self.connection {
            // It has said all there is to say.
            drop(timeout(ANSWER_TIMEOUT, connection.close()).await);
        }
        tell(end, self.let_in, mono::now().since(began));
    }

    /// One statement, and what it read; where the last one ended if that one did not come to its end.
    async fn chunk(&mut self) -> Result<Option<End>, Failure> {
        if let Some(end) = self.end() {
            return Ok(Some(end));
        }
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(tally_store::connect_alone(&self.inner.log.pool.connect_options()).await?),
        };
        let limit = i64::try_from(CHUNK_TOKENS).unwrap_or(i64::MAX);
        let mut pieces = pin!(tokens_below(connection, self.below, limit).try_chunks(PIECE_TOKENS));
        let mut read = 0;
        while let Some(piece) = pieces.try_next().await.map_err(|error| error.1)? {
            read += piece.len();
            let (let_in, end) = {
                let mut machine = self.inner.machine.write();
                let now = machine.database_time(mono::now());
                let_in(&mut machine, self.ticket, &piece, now)
            };
            self.let_in += let_in;
            METRICS.warm_start_verdicts.increment(let_in);
            if end.is_some() {
                return Ok(end);
            }
            if let Some(last) = piece.last() {
                self.below = last.id;
            }
            // Requests on this thread come first.
            yield_now().await;
        }
        Ok((read < CHUNK_TOKENS).then_some(End::All))
    }

    fn end(&self) -> Option<End> {
        ended(&self.inner.machine.read(), self.ticket)
    }
}

fn ended(machine: &Machine, ticket: Ticket) -> Option<End> {
    if !machine.honours(ticket) {
        Some(End::Void)
    } else if machine.is_full() {
        Some(End::Full)
    } else {
        None
    }
}

/// R4, for each: how many were let in, and whether it ends with that.
pub(crate) fn let_in(
    machine: &mut Machine,
    ticket: Ticket,
    piece: &[Listed],
    now: Option<DateTime<Utc>>,
) -> (u64, Option<End>) {
    let mut count = 0;
    for Listed { hash, found, .. } in piece {
        if let Some(end) = ended(machine, ticket) {
            return (count, Some(end));
        }
        let Standing::Live(verdict) = found.standing else { continue };
        // It would only take a place: every look asks the clock.
        let is_over = verdict.expires_at().is_some_and(|at| now.is_some_and(|now| at <= now));
        if !is_over && machine.fill(ticket, found.position, *hash, verdict) {
            count += 1;
        }
    }
    (count, None)
}

fn tell(end: End, let_in: u64, took: Duration) {
    let what = match end {
        End::All => "memory holds every token",
        End::Full => "memory is full of the newest tokens",
        // Another has begun by now, or will.
        End::Void => return,
    };
    METRICS.warm_starts.increment(1);
    tracing::info!(credentials = let_in, duration_ms = took.as_secs_f64() * 1000.0, "{what}");
}

#[cfg(test)]
mod tests;
