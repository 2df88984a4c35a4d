use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tally_events::{
    Actor, CommandId, Envelope, Event, UserId,
    user::{UserReinstated, UserSuspended},
};

use super::*;
use crate::{
    committer::{Claim, Draft},
    idempotency::Idempotency,
};

fn stream(number: u8) -> StreamId {
    StreamId::User(UserId(Uuid::from_u128(number.into())))
}

fn commit(expected: &[(u8, i64)], events: &[(u8, i64)]) -> Commit {
    let event = |version: i64| -> Event {
        if version % 2 == 0 { UserReinstated {}.into() } else { UserSuspended {}.into() }
    };
    Commit {
        expected: expected.iter().map(|(number, version)| (stream(*number), Version(*version))).collect(),
        events: events
            .iter()
            .map(|(number, version)| Draft {
                stream: stream(*number),
                version: Version(*version),
                event: event(*version),
                payload: "{}".to_owned(),
            })
            .collect(),
        claims: Vec::new(),
        indexed: Vec::new(),
        keys: Vec::new(),
        idempotency: None,
        envelope: Envelope {
            actor: Actor::OPERATOR,
            credential: None,
            request: None,
            causation: CommandId(Uuid::nil()),
        },
    }
}

impl Commit {
    fn claiming(mut self, value: u8, holder: u8) -> Self {
        self.claims.push(Claim {
            namespace: Namespace::UserEmail,
            value: [value; 32],
            stream: stream(holder),
            from: None,
        });
        self
    }

    fn claiming_from(self, value: u8, holder: u8, from: u8) -> Self {
        let mut commit = self.claiming(value, holder);
        commit.claims.last_mut().unwrap().from = Some(stream(from));
        commit
    }

    fn keyed(mut self, key: u8, body: u8) -> Self {
        self.idempotency = Some(Idempotency {
            key: [key; 32],
            fingerprint: [body; 32],
            receipt: Uuid::from_u128(body.into()),
        });
        self
    }
}

#[test]
fn a_commit_stands_on_the_versions_it_saw() {
    let mut facts = Facts::default();
    facts.versions.insert(stream(1).uuid(), Version(4));
    assert_eq!(facts.judge(&commit(&[(1, 4)], &[(1, 5), (1, 6)]), Position(2)), Ok(()));
    assert_eq!(facts.versions[&stream(1).uuid()], Version(6));
}

#[test]
fn a_stream_it_only_read_must_not_have_moved_either() {
    let mut facts = Facts::default();
    facts.versions.insert(stream(2).uuid(), Version(1));
    let judged = facts.judge(&commit(&[(1, 0), (2, 0)], &[(1, 1)]), Position(1));
    assert_eq!(judged, Err(Refused::Moved(stream(2))));
    assert!(!facts.versions.contains_key(&stream(1).uuid()));
}

#[test]
fn versions_it_writes_follow_each_other() {
    for events in [&[(1, 2)][..], &[(1, 1), (1, 1)], &[(1, 1), (1, 3)], &[(1, 2), (1, 1)]] {
        for expected in [&[(1, 0)][..], &[]] {
            let judged = Facts::default().judge(&commit(expected, events), Position(2));
            assert_eq!(judged, Err(Refused::Moved(stream(1))), "{events:?} on {expected:?}");
        }
    }
}

#[test]
fn a_stream_it_did_not_read_is_new_and_may_get_several_events() {
    let mut facts = Facts::default();
    assert_eq!(facts.judge(&commit(&[], &[(1, 1), (1, 2)]), Position(2)), Ok(()));
    assert_eq!(facts.judge(&commit(&[], &[(1, 1)]), Position(3)), Err(Refused::Moved(stream(1))));
}

#[test]
fn a_claim_is_held_by_who_came_first_and_may_be_taken_again_by_its_holder() {
    let mut facts = Facts::default();
    assert_eq!(facts.judge(&commit(&[], &[(1, 1)]).claiming(7, 1), Position(1)), Ok(()));
    let late = facts.judge(&commit(&[], &[(2, 1)]).claiming(7, 2), Position(2));
    assert_eq!(late, Err(Refused::ClaimTaken(Namespace::UserEmail)));
    assert_eq!(facts.judge(&commit(&[(1, 1)], &[(1, 2)]).claiming(7, 1), Position(2)), Ok(()));
}

/// Within one commit too: two streams of it cannot hold one thing.
#[test]
fn a_commit_does_not_give_one_thing_to_two_streams() {
    let twice = commit(&[], &[(1, 1), (2, 1)]).claiming(7, 1).claiming(7, 2);
    let mut facts = Facts::default();
    assert_eq!(facts.judge(&twice, Position(2)), Err(Refused::ClaimTaken(Namespace::UserEmail)));
    assert!(facts.claims.is_empty());
}

#[test]
fn a_key_is_told_what_the_first_command_left_before_anything_else_is_looked_at() {
    let mut facts = Facts::default();
    assert_eq!(facts.judge(&commit(&[], &[(1, 1), (2, 1)]).keyed(9, 1), Position(12)), Ok(()));
    // The stream has moved as well; a retry must hear of itself and not of that.
    let earlier = Earlier { fingerprint: [1; 32], receipt: Uuid::from_u128(1), position: Position(12) };
    assert_eq!(
        facts.judge(&commit(&[], &[(1, 1)]).keyed(9, 2), Position(13)),
        Err(Refused::Duplicate(earlier))
    );
}

#[test]
fn a_claim_passes_from_the_stream_that_the_decision_names_and_from_no_other() {
    let mut facts = Facts::default();
    assert_eq!(facts.judge(&commit(&[], &[(1, 1)]).claiming(7, 1), Position(1)), Ok(()));
    let wrong = facts.judge(&commit(&[(1, 1)], &[(2, 1)]).claiming_from(7, 2, 3), Position(2));
    assert_eq!(wrong, Err(Refused::ClaimTaken(Namespace::UserEmail)));
    assert_eq!(facts.judge(&commit(&[(1, 1)], &[(2, 1)]).claiming_from(7, 2, 1), Position(2)), Ok(()));
    // Once: the next one must name who holds it now.
    let late = facts.judge(&commit(&[(1, 1)], &[(3, 1)]).claiming_from(7, 3, 1), Position(3));
    assert_eq!(late, Err(Refused::ClaimTaken(Namespace::UserEmail)));
}

/// The rules once more, in other words: a list of what was accepted, searched each time.
#[derive(Default)]
struct Model {
    accepted: Vec<Wish>,
}

/// A wish to append one event each to some streams.
#[derive(Clone, Debug)]
struct Wish {
    /// Streams, each with how far behind the truth the decision was.
    streams: BTreeMap<u8, u8>,
    /// Streams it only read.
    only_read: BTreeMap<u8, u8>,
    claim: Option<u8>,
    key: Option<u8>,
}

impl Model {
    fn version(&self, number: u8) -> i64 {
        self.accepted.iter().filter(|wish| wish.streams.contains_key(&number)).count().try_into().unwrap()
    }

    /// What the wish looks like when it arrives: decided on versions that may be old.
    fn arrive(&self, wish: &Wish) -> Commit {
        let seen =
            |(number, behind): (&u8, &u8)| (*number, (self.version(*number) - i64::from(*behind)).max(0));
        let written: Vec<(u8, i64)> = wish.streams.iter().map(seen).collect();
        let read = wish.only_read.iter().filter(|(number, _)| !wish.streams.contains_key(number)).map(seen);
        let expected: Vec<(u8, i64)> = written.iter().copied().chain(read).collect();
        let events: Vec<(u8, i64)> = written.iter().map(|(number, version)| (*number, version + 1)).collect();
        let mut commit = commit(&expected, &events);
        if let (Some(claim), Some(holder)) = (wish.claim, wish.streams.keys().next()) {
            commit = commit.claiming(claim, *holder);
        }
        match wish.key {
            Some(key) => commit.keyed(key, 1),
            None => commit,
        }
    }

    fn stands(&self, wish: &Wish) -> bool {
        let fresh = |(number, behind): (&u8, &u8)| *behind == 0 || self.version(*number) == 0;
        let holder = |wish: &Wish| wish.claim.and(wish.streams.keys().next().copied());
        let used = self.accepted.iter().any(|earlier| wish.key.is_some() && earlier.key == wish.key);
        let held = self.accepted.iter().any(|earlier| {
            wish.claim.is_some() && earlier.claim == wish.claim && holder(earlier) != holder(wish)
        });
        let read: BTreeMap<u8, u8> = wish
            .only_read
            .iter()
            .filter(|(n, _)| !wish.streams.contains_key(n))
            .map(|(n, b)| (*n, *b))
            .collect();
        !used && !held && wish.streams.iter().all(fresh) && read.iter().all(fresh)
    }
}

fn wish() -> impl Strategy<Value = Wish> {
    let behind = || prop_oneof![4 => Just(0_u8), 1 => 1..3_u8];
    (
        prop::collection::btree_map(0..4_u8, behind(), 1..3),
        prop::collection::btree_map(0..4_u8, behind(), 0..2),
        prop::option::weighted(0.4, 0..3_u8),
        prop::option::weighted(0.3, 0..4_u8),
    )
        .prop_map(|(streams, only_read, claim, key)| Wish { streams, only_read, claim, key })
}

type Picture = (BTreeMap<Uuid, Version>, BTreeMap<[u8; 32], Uuid>, BTreeSet<[u8; 32]>);

fn picture(facts: &Facts) -> Picture {
    (
        facts.versions.iter().map(|(id, version)| (*id, *version)).collect(),
        facts.claims.iter().map(|((_, value), holder)| (*value, *holder)).collect(),
        facts.idempotency.keys().copied().collect(),
    )
}

proptest! {
    /// Any run of commits is judged as the model says, and a refused one changes no fact.
    #[test]
    fn commits_are_judged_in_the_order_they_arrive(wishes in prop::collection::vec(wish(), 1..40)) {
        let (mut model, mut facts, mut position) = (Model::default(), Facts::default(), Position::ZERO);
        for wish in wishes {
            let commit = model.arrive(&wish);
            let before = picture(&facts);
            let last = Position(position.0 + i64::try_from(commit.events.len()).unwrap());
            let judged = facts.judge(&commit, last);
            prop_assert_eq!(judged.is_ok(), model.stands(&wish), "{:?}: {:?}", wish, judged);
            if judged.is_ok() {
                position = last;
                model.accepted.push(wish);
            } else {
                prop_assert_eq!(picture(&facts), before);
            }
        }
        for number in 0..4 {
            let version = facts.versions.get(&stream(number).uuid()).copied().unwrap_or_default();
            prop_assert_eq!(version.0, model.version(number));
        }
    }
}
