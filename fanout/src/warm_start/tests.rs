use std::time::Duration;

use chrono::TimeDelta;
use proptest::prelude::*;
use tally_domain::{Dependency, Invalidation, PersonCredential, Verdict, credential::CredentialHash};
use tally_events::{Position, UserId};
use tally_projections::credentials::Found;

use super::*;
use crate::protocol::{Message, Mono, RenewalAnswer, ReplicaId, Tag, Timing};

const START: DateTime<Utc> = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
const ROOM: usize = 20;

fn tag(timeline: &str) -> Tag {
    Tag { log_id: Uuid::from_u128(1), timeline: timeline.to_owned() }
}

/// Takes the head of a history for the first time.
fn begin(machine: &mut Machine, timeline: &str, head: i64) {
    assert!(machine.registered(ReplicaId(Uuid::from_u128(2))));
    let sent = machine.renewal_sent(Mono(0)).unwrap();
    let answer = RenewalAnswer {
        tag: tag(timeline),
        head: Position(head),
        leaf_at_applied: None,
        leaf_at_head: None,
        database_time: START,
    };
    machine.renewal_answered(&sent, Some(answer), Mono(0));
}

fn at(head: i64) -> Machine {
    let timing = Timing {
        lease: Duration::from_secs(1),
        lease_max: Duration::from_secs(1),
        drift: Duration::from_millis(50),
    };
    let mut machine = Machine::new(timing, ROOM, 1024);
    begin(&mut machine, "00000001", head);
    machine
}

fn hash(number: u8) -> CredentialHash {
    CredentialHash([number; 32])
}

fn id(number: u8) -> TokenId {
    TokenId(Uuid::from_u128(u128::from(number) + 100))
}

/// A good token, as a statement found it that saw the log up to `position`.
fn expiring(number: u8, position: i64, expires_at: Option<DateTime<Utc>>) -> Listed {
    let credential = PersonCredential::PersonalAccessToken { id: id(number), expires_at };
    let standing = Standing::Live(Verdict::person(UserId(Uuid::from_u128(3)), credential));
    let found = Found { position: Position(position), standing };
    Listed { id: id(number), hash: hash(number), found }
}

fn good(number: u8, position: i64) -> Listed {
    expiring(number, position, None)
}

fn of(number: u8, standing: Standing) -> Listed {
    Listed { id: id(number), hash: hash(number), found: Found { position: Position(5), standing } }
}

/// The event at `position` revokes a token.
fn revoke(machine: &mut Machine, number: u8, position: i64) {
    let overthrown = vec![(Position(position), Invalidation::Of(Dependency::Token(id(number))))];
    let (from, to) = (Position(position), Position(position));
    machine.apply(&Message { tag: tag("00000001"), from, to, leaf: None, overthrown });
}

fn remembers(machine: &Machine, number: u8) -> bool {
    machine.remembered(&hash(number), Mono(0)).is_some()
}

#[test]
fn a_token_that_was_read_before_it_was_revoked_does_not_come_in_after() {
    let mut machine = at(5);
    let ticket = machine.ticket().unwrap();
    let piece = [good(1, 5), good(2, 5)];
    revoke(&mut machine, 2, 6);
    assert_eq!(let_in(&mut machine, ticket, &piece, Some(START)), (1, None));
    assert!(remembers(&machine, 1) && !remembers(&machine, 2));
    // One that was read after, and is good, does.
    assert_eq!(let_in(&mut machine, ticket, &[good(2, 6)], Some(START)), (1, None));
    assert!(remembers(&machine, 2));
}

#[test]
fn what_was_read_in_a_history_that_is_over_does_not_come_in() {
    let mut machine = at(5);
    let ticket = machine.ticket().unwrap();
    let sent = machine.renewal_sent(Mono(0)).unwrap();
    machine.renewal_answered(&sent, None, Mono(0));
    assert_eq!(let_in(&mut machine, ticket, &[good(1, 5)], Some(START)), (0, Some(End::Void)));
    begin(&mut machine, "00000002", 5);
    assert_eq!(let_in(&mut machine, ticket, &[good(1, 5)], Some(START)), (0, Some(End::Void)));
    assert_eq!(machine.cached(), 0);
}

#[test]
fn only_what_is_good_takes_a_place() {
    let mut machine = at(5);
    let ticket = machine.ticket().unwrap();
    let piece = [
        of(1, Standing::Invalid),
        of(2, Standing::Suspended),
        expiring(3, 5, Some(START)),
        expiring(4, 5, Some(START + TimeDelta::seconds(1))),
    ];
    assert_eq!(let_in(&mut machine, ticket, &piece, Some(START)), (1, None));
    assert_eq!(machine.cached(), 1);
    assert!(remembers(&machine, 4));
}

#[test]
fn it_ends_when_memory_is_full_and_pushes_nothing_out() {
    let mut machine = at(5);
    let ticket = machine.ticket().unwrap();
    machine.fill(ticket, Position(5), hash(200), {
        let Standing::Live(verdict) = good(200, 5).found.standing else { panic!("it is good") };
        verdict
    });
    let piece: Vec<Listed> = (1..=30).map(|number| good(number, 5)).collect();
    assert_eq!(let_in(&mut machine, ticket, &piece, Some(START)), (ROOM as u64 - 1, Some(End::Full)));
    assert!(remembers(&machine, 200) && remembers(&machine, 1) && !remembers(&machine, 20));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The next statement reads all tokens.
    Read,
    /// A few of what it read are let in.
    LetIn(usize),
    /// A token is revoked, and that is applied.
    Revoke(u8),
}

proptest! {
    /// However reading, letting in and revoking take turns: what is revoked is not remembered.
    #[test]
    fn a_revoked_token_is_never_remembered(steps in prop::collection::vec(prop_oneof![
        1 => Just(Step::Read),
        4 => (1_usize..5).prop_map(Step::LetIn),
        2 => (0_u8..10).prop_map(Step::Revoke),
    ], 1..60)) {
        let mut machine = at(5);
        let ticket = machine.ticket().unwrap();
        let (mut position, mut revoked, mut read) = (5, [false; 10], Vec::new());
        for step in steps {
            match step {
                Step::Read => {
                    let live = (0_u8..).zip(revoked).filter(|(_, revoked)| !revoked);
                    read = live.map(|(number, _)| good(number, position)).collect();
                }
                Step::LetIn(some) => {
                    let piece: Vec<Listed> = read.drain(..some.min(read.len())).collect();
                    let_in(&mut machine, ticket, &piece, Some(START));
                }
                Step::Revoke(number) => {
                    position += 1;
                    revoked[usize::from(number)] = true;
                    revoke(&mut machine, number, position);
                }
            }
            for (number, revoked) in (0_u8..).zip(revoked) {
                prop_assert!(!(revoked && remembers(&machine, number)));
            }
        }
    }
}
