//! Asking Postgres for verdicts, without a stampede.
//!
//! Requests wait at a gate, and a flight takes all who are there: one statement answers them all,
//! and what is found is remembered in one step. Whoever comes after it was sent waits for the next,
//! because it may have read what has been revoked since (R5). Few flights are in the air at once:
//! the more there is to ask, the more each carries, and neither a lost lease nor a flood of unknown
//! tokens takes every connection.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use sqlx::{PgConnection, PgPool};
use tally_domain::credential::CredentialHash;
use tally_events::Position;
use tally_projections::credentials::{Found, Standing, find_sessions, find_tokens};
use tokio::{sync::oneshot, time::timeout};

use crate::{
    Presented,
    outage::{Outage, TooLate},
    protocol::Machine,
};

/// Credentials one statement asks for at most.
const PASSENGERS_MAX: usize = 512;

/// What a flight brings to a passenger: what was found, or nothing when the database did not answer.
pub(crate) type Landed = Option<Found>;
/// The statement that reads credentials, each with the position of the log it was read at, in order.
pub(crate) type Look =
    Box<dyn Fn(Vec<Presented>) -> BoxFuture<'static, Result<Vec<Found>, sqlx::Error>> + Send + Sync>;

/// One plain SELECT for tokens and one for sessions, on the primary.
pub(crate) fn in_postgres(pool: PgPool) -> Look {
    Box::new(move |presented| {
        let pool = pool.clone();
        Box::pin(async move { find(&mut *pool.acquire().await?, &presented).await })
    })
}

async fn find(connection: &mut PgConnection, presented: &[Presented]) -> Result<Vec<Found>, sqlx::Error> {
    let (mut tokens, mut sessions) = (Vec::new(), Vec::new());
    for presented in presented {
        match presented {
            Presented::Token(hash) => tokens.push(*hash),
            Presented::Session { id, .. } => sessions.push(*id),
        }
    }
    let tokens = match &tokens[..] {
        [] => Vec::new(),
        tokens => find_tokens(&mut *connection, tokens).await?,
    };
    let sessions = match &sessions[..] {
        [] => Vec::new(),
        sessions => find_sessions(&mut *connection, sessions).await?,
    };
    let (mut tokens, mut sessions) = (tokens.into_iter(), sessions.into_iter());
    let found = presented.iter().filter_map(|presented| match presented {
        Presented::Token(_) => tokens.next(),
        Presented::Session { .. } => sessions.next(),
    });
    Ok(found.collect())
}

/// The flights of one replica.
pub(crate) struct Lookups {
    look: Look,
    machine: Arc<RwLock<Machine>>,
    gate: Mutex<Gate>,
    /// Flights in the air at most.
    flights_max: usize,
    deadline: Duration,
    outage: Outage,
}

/// Those who wait for a flight, and how many are in the air.
#[derive(Default)]
struct Gate {
    waiting: HashMap<CredentialHash, Passengers>,
    flights: usize,
}

/// Requests that show the same credential.
struct Passengers {
    presented: Presented,
    answers: Vec<oneshot::Sender<Found>>,
}

impl Passengers {
    /// What was found is theirs only if the credential they show is what it says.
    fn judged(self, mut found: Found) -> (Self, Found) {
        if let Standing::Live(verdict) = found.standing {
            found.standing = self.presented.limit(verdict).map_or(Standing::Invalid, Standing::Live);
        }
        (self, found)
    }
}

impl Lookups {
    pub(crate) fn new(
        look: Look,
        machine: Arc<RwLock<Machine>>,
        flights_max: usize,
        deadline: Duration,
    ) -> Self {
        Self {
            look,
            machine,
            gate: Mutex::default(),
            flights_max: flights_max.max(1),
            deadline,
            outage: Outage::new("looking up credentials"),
        }
    }

    /// Takes the next flight for this credential. What it brought is remembered by then, if R4 allows.
    pub(crate) async fn find(self: &Arc<Self>, presented: Presented) -> Landed {
        match timeout(self.deadline, self.board(presented)).await {
            Ok(Ok(found)) => Some(found),
            // The flight brought nothing.
            Ok(Err(_)) => None,
            Err(_) => {
                self.outage.failed(&TooLate);
                None
            }
        }
    }

    fn board(self: &Arc<Self>, presented: Presented) -> oneshot::Receiver<Found> {
        let (answer, arrival) = oneshot::channel();
        let mut gate = self.gate.lock();
        gate.waiting
            .entry(presented.hash())
            .or_insert_with(|| Passengers { presented, answers: Vec::new() })
            .answers
            .push(answer);
        if gate.flights < self.flights_max {
            gate.flights += 1;
            // A task of its own: passengers may leave, and the flight is not theirs to end.
            tokio::spawn(Plane { lookups: self.clone(), ended: false }.fly());
        }
        arrival
    }

    /// What the database says, as of `applied` at least.
    async fn look(&self, presented: Vec<Presented>, applied: Position) -> Option<Vec<Found>> {
        match timeout(self.deadline, (self.look)(presented)).await {
            Ok(Ok(found)) => {
                if let Some(behind) = found.iter().find(|found| found.position < applied) {
                    self.outage.failed(&Deposed { read: behind.position, applied });
                    return None;
                }
                self.outage.worked();
                Some(found)
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

/// A connection that outlived a failover: what it says was overtaken.
#[derive(Debug, thiserror::Error)]
#[error("a server that has the log up to {}, where it was applied up to {}, is no primary any more", .read.0, .applied.0)]
struct Deposed {
    read: Position,
    applied: Position,
}

/// Flights one after the other, until nobody waits.
struct Plane {
    lookups: Arc<Lookups>,
    /// It is no longer counted among those in the air.
    ended: bool,
}

impl Plane {
    async fn fly(mut self) {
        while let Some(passengers) = self.depart() {
            // Before the statement is sent: what it reads belongs to this history or to none.
            let (ticket, applied) = {
                let machine = self.lookups.machine.read();
                (machine.ticket(), machine.applied())
            };
            let presented = passengers.iter().map(|passengers| passengers.presented).collect();
            let Some(found) = self.lookups.look(presented, applied).await else { continue };
            let landed = passengers.into_iter().zip(found);
            let landed: Vec<(Passengers, Found)> =
                landed.map(|(passengers, found)| passengers.judged(found)).collect();
            if let Some(ticket) = ticket {
                let mut machine = self.lookups.machine.write();
                for (passengers, found) in &landed {
                    if let Standing::Live(verdict) = found.standing {
                        machine.fill(ticket, found.position, passengers.presented.hash(), verdict);
                    }
                }
            }
            for (passengers, found) in landed {
                for answer in passengers.answers {
                    // Whoever has left needs no answer.
                    drop(answer.send(found.clone()));
                }
            }
        }
    }

    /// Closes the doors: whoever comes now takes the next one. None: nobody waits, and this was the
    /// last flight.
    fn depart(&mut self) -> Option<Vec<Passengers>> {
        let mut gate = self.lookups.gate.lock();
        gate.waiting.retain(|_, passengers| !passengers.answers.iter().all(oneshot::Sender::is_closed));
        if gate.waiting.is_empty() {
            gate.flights -= 1;
            self.ended = true;
            return None;
        }
        let mut places = PASSENGERS_MAX;
        let boards = |_: &CredentialHash, _: &mut Passengers| {
            let free = places > 0;
            places = places.saturating_sub(1);
            free
        };
        Some(gate.waiting.extract_if(boards).map(|(_, passengers)| passengers).collect())
    }
}

impl Drop for Plane {
    /// One that ends in any other way makes room for the next.
    fn drop(&mut self) {
        if !self.ended {
            self.lookups.gate.lock().flights -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
