//! The steps of one replica against each other, in thousands of the orders in which threads can take them.
//!
//! The machine is the product's, behind a lock as `Replica` and `Lookups` hold it, with the few lines
//! around it that take the lock: a flight or a warm start that fills (R4), whoever applies a revocation (R3) or registers
//! anew (R2), and a request (R5).

use std::panic;

use shuttle::{
    Config, Runner,
    scheduler::RandomScheduler,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use tally_projections::credentials::{Found, Listed, Standing};

use super::*;
use crate::warm_start::let_in;

const SEED: u64 = 20_261_127;
const ORDERS: usize = 3_000;

/// What a lookup finds.
#[derive(Clone, Copy)]
struct Database {
    head: Position,
    is_live: bool,
}

struct Replica {
    machine: RwLock<Machine>,
    database: Mutex<Database>,
    is_effective: AtomicBool,
}

type Fill = fn(&RwLock<Machine>, Ticket, Position);

/// As a flight of `Lookups` does it.
fn fill(machine: &RwLock<Machine>, ticket: Ticket, position: Position) {
    machine.write().unwrap().fill(ticket, position, hash(7), verdict(7));
}

/// A piece of what one statement of a warm start read: one token.
fn piece(number: u8, position: Position) -> [Listed; 1] {
    let found = Found { position, standing: Standing::Live(verdict(number)) };
    [Listed { id: TokenId(Uuid::from_u128(number.into())), hash: hash(number), found }]
}

/// As a warm start does it: piece by piece, and each with the ticket from before the statement.
fn fill_in_pieces(machine: &RwLock<Machine>, ticket: Ticket, position: Position) {
    for number in [8, 7] {
        let_in(&mut machine.write().unwrap(), ticket, &piece(number, position), Some(START));
    }
}

/// The same, with a ticket for each piece.
fn fill_in_pieces_with_a_ticket_each(machine: &RwLock<Machine>, _: Ticket, position: Position) {
    for number in [8, 7] {
        let mut machine = machine.write().unwrap();
        if let Some(ticket) = machine.ticket() {
            let_in(&mut machine, ticket, &piece(number, position), Some(START));
        }
    }
}

/// The check under one lock, the insertion under the next.
fn fill_checked_apart(machine: &RwLock<Machine>, ticket: Ticket, position: Position) {
    let allowed = {
        let machine = machine.read().unwrap();
        ticket.generation == machine.generation && machine.overthrown.spares(&verdict(7), position)
    };
    if allowed {
        machine.write().unwrap().cache.insert(hash(7), verdict(7), position);
    }
}

/// The same, where what is in the cache counts from when it was put there.
fn fill_checked_apart_and_dated_by_insertion(machine: &RwLock<Machine>, ticket: Ticket, position: Position) {
    let allowed = {
        let machine = machine.read().unwrap();
        ticket.generation == machine.generation && machine.overthrown.spares(&verdict(7), position)
    };
    if allowed {
        let mut machine = machine.write().unwrap();
        let applied = machine.applied();
        machine.cache.insert(hash(7), verdict(7), applied);
    }
}

/// The revocation is committed as the next event, told, and applied.
fn revoke(replica: &Replica) {
    *replica.database.lock().unwrap() = Database { head: Position(6), is_live: false };
    let message = batch(6, 6, Invalidation::Of(token(7)));
    assert_eq!(replica.machine.write().unwrap().apply(&message), Applied::Yes);
}

/// The database fails over and loses its last event. In its place stands the revocation, and the replica
/// learns of the other history from its renewal.
fn revoke_in_another_history(replica: &Replica) {
    *replica.database.lock().unwrap() = Database { head: Position(5), is_live: false };
    let renew = |now| {
        let sent = replica.machine.read().unwrap().renewal_sent(now).unwrap();
        replica.machine.write().unwrap().renewal_answered(&sent, Some(head_of(2, 5)), now)
    };
    assert_eq!(renew(ms(10)), Renewed::Lost);
    assert!(replica.machine.write().unwrap().registered(OTHER));
    assert_eq!(renew(ms(11)), Renewed::Leased);
}

fn race(revoke: fn(&Replica), fill: Fill) {
    let explore = move || {
        let replica = Arc::new(Replica {
            machine: RwLock::new(at(5)),
            database: Mutex::new(Database { head: Position(5), is_live: true }),
            is_effective: AtomicBool::new(false),
        });
        let flight = replica.clone();
        let flight = thread::spawn(move || {
            let ticket = flight.machine.read().unwrap().ticket();
            let found = *flight.database.lock().unwrap();
            if let Some(ticket) = ticket.filter(|_| found.is_live) {
                fill(&flight.machine, ticket, found.head);
            }
        });
        let revoker = replica.clone();
        let revoker = thread::spawn(move || {
            revoke(&revoker);
            revoker.is_effective.store(true, Ordering::SeqCst);
        });
        let ask = || {
            let began_after = replica.is_effective.load(Ordering::SeqCst);
            let says_yes = says_yes(&replica.machine.read().unwrap(), ms(20));
            assert!(!(began_after && says_yes), "yes to a request that began after it was effective");
        };
        ask();
        flight.join().unwrap();
        revoker.join().unwrap();
        ask();
    };
    let orders = RandomScheduler::new_from_seed(SEED, ORDERS);
    Runner::new(orders, Config::new()).run(explore);
}

fn race_is_lost(revoke: fn(&Replica), fill: Fill) -> bool {
    panic::catch_unwind(|| race(revoke, fill)).is_err()
}

#[test]
fn a_fill_against_a_revocation() {
    race(revoke, fill);
}

#[test]
fn a_fill_against_another_history() {
    race(revoke_in_another_history, fill);
}

#[test]
fn a_warm_start_against_a_revocation() {
    race(revoke, fill_in_pieces);
}

#[test]
fn a_warm_start_against_another_history() {
    race(revoke_in_another_history, fill_in_pieces);
    assert!(race_is_lost(revoke_in_another_history, fill_in_pieces_with_a_ticket_each));
}

/// The races above can be lost. Within one history an entry is judged by the position it was read at
/// whenever it is looked at, and so the check at the insertion is the second of two; it alone keeps out
/// what was read in another.
#[test]
fn the_check_of_a_fill_belongs_to_its_insertion() {
    race(revoke, fill_checked_apart);
    assert!(race_is_lost(revoke, fill_checked_apart_and_dated_by_insertion));
    assert!(race_is_lost(revoke_in_another_history, fill_checked_apart));
}
