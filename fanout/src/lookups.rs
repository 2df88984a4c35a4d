//! Asking Postgres for a verdict, without a stampede.
//!
//! Requests for one credential share a flight, but only one that starts after they arrived: a
//! statement that was sent earlier may have read what has been revoked since (R5). So per
//! credential at most one flight is in the air and one is boarding, and newcomers board.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use sqlx::PgPool;
use tally_domain::credential::CredentialHash;
use tally_projections::credentials::{Found, find_session, find_token};
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};

use crate::{
    Presented,
    outage::{Outage, TooLate},
};

/// What a flight brings: what was found, or nothing when the database did not answer.
pub(crate) type Landed = Option<Arc<Found>>;
/// The statement that reads a credential, its position with it.
pub(crate) type Look = Box<dyn Fn(Presented) -> BoxFuture<'static, Result<Found, sqlx::Error>> + Send + Sync>;
type Boarding = watch::Sender<Option<Landed>>;

/// One plain SELECT, on the primary.
pub(crate) fn in_postgres(pool: PgPool) -> Look {
    Box::new(move |presented| {
        let pool = pool.clone();
        Box::pin(async move {
            match presented {
                Presented::Token(hash) => find_token(&pool, hash).await,
                Presented::Session { id, .. } => find_session(&pool, id).await,
            }
        })
    })
}

/// The flights of one replica.
pub(crate) struct Lookups {
    look: Look,
    /// Statements in the air at once: a lost lease must not take every connection.
    permits: Semaphore,
    /// One entry per credential in the air; inside, the flight that is boarding.
    flights: Mutex<HashMap<CredentialHash, Option<Boarding>>>,
    deadline: Duration,
    outage: Outage,
}

impl Lookups {
    pub(crate) fn new(look: Look, permits: usize, deadline: Duration) -> Self {
        Self {
            look,
            permits: Semaphore::new(permits.max(1)),
            flights: Mutex::new(HashMap::new()),
            deadline,
            outage: Outage::new("looking up credentials"),
        }
    }

    /// Boards the next flight for this credential. `landing` sees what it brought, once, before any
    /// passenger does; what it returns is made just before the statement is sent.
    pub(crate) async fn find<D, L>(self: &Arc<Self>, presented: Presented, departing: D) -> Landed
    where
        D: Fn() -> L + Send + Sync + 'static,
        L: FnOnce(&Found) + Send + 'static,
    {
        let mut arrival = self.board(presented, departing);
        let landed = timeout(self.deadline, arrival.wait_for(Option::is_some)).await;
        match landed {
            Ok(Ok(landed)) => landed.clone().flatten(),
            // The flight was called off.
            Ok(Err(_)) => None,
            Err(_) => {
                self.outage.failed(&TooLate);
                None
            }
        }
    }

    fn board<D, L>(self: &Arc<Self>, presented: Presented, departing: D) -> watch::Receiver<Option<Landed>>
    where
        D: Fn() -> L + Send + Sync + 'static,
        L: FnOnce(&Found) + Send + 'static,
    {
        let mut flights = self.flights.lock();
        match flights.get_mut(&presented.hash()) {
            Some(Some(boarding)) => boarding.subscribe(),
            // One is in the air and was sent before us: the next is ours.
            Some(next) => {
                let (boarding, arrival) = watch::channel(None);
                *next = Some(boarding);
                arrival
            }
            None => {
                let (boarding, arrival) = watch::channel(None);
                flights.insert(presented.hash(), Some(boarding));
                let line = Line { lookups: self.clone(), presented, ended: false };
                // A task of its own: passengers may leave, and the flight is not theirs to end.
                tokio::spawn(line.run(departing));
                arrival
            }
        }
    }

    async fn look(&self, presented: Presented) -> Landed {
        match timeout(self.deadline, (self.look)(presented)).await {
            Ok(Ok(found)) => {
                self.outage.worked();
                Some(Arc::new(found))
            }
            Ok(Err(error)) => {
                self.outage.failed(&error);
                None
            }
            Err(_) => {
                self.outage.failed(&TooLate);
                None
            }
        }
    }
}

/// The flights of one credential, one after the other, until nobody boards.
struct Line {
    lookups: Arc<Lookups>,
    presented: Presented,
    /// Its entry is gone; another line may stand there by now.
    ended: bool,
}

impl Line {
    async fn run<D, L>(mut self, departing: D)
    where
        D: Fn() -> L + Send + Sync,
        L: FnOnce(&Found) + Send,
    {
        loop {
            let lookups = self.lookups.clone();
            // The semaphore is never closed: this waits for a permit and gets one.
            let Ok(_permit) = lookups.permits.acquire().await else { return };
            let Some(passengers) = self.depart() else { return };
            if passengers.receiver_count() == 0 {
                continue;
            }
            let landing = departing();
            let landed = lookups.look(self.presented).await;
            if let Some(found) = &landed {
                landing(found);
            }
            passengers.send_replace(Some(landed));
        }
    }

    /// Closes the doors: whoever comes now takes the next one. None: nobody came, the line ends.
    fn depart(&mut self) -> Option<Boarding> {
        let mut flights = self.lookups.flights.lock();
        let passengers = flights.get_mut(&self.presented.hash()).and_then(Option::take);
        if passengers.is_none() {
            flights.remove(&self.presented.hash());
            self.ended = true;
        }
        passengers
    }
}

impl Drop for Line {
    /// A line that ends in any other way leaves nobody waiting at its gate.
    fn drop(&mut self) {
        if !self.ended {
            self.lookups.flights.lock().remove(&self.presented.hash());
        }
    }
}

#[cfg(test)]
mod tests;
