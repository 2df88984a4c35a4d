use chrono::{DateTime, Utc};
use proptest::prelude::*;
use tally_domain::PersonCredential;
use tally_events::{SessionId, TokenId, UserId};
use uuid::Uuid;

use super::*;

fn hash(number: u8) -> CredentialHash {
    CredentialHash([number; 32])
}

fn token(number: u8) -> TokenId {
    TokenId(Uuid::from_u128(number.into()))
}

fn user(number: u8) -> UserId {
    UserId(Uuid::from_u128(0xADA0 + u128::from(number)))
}

/// Token `number`, of one of three people.
fn verdict(number: u8) -> Verdict {
    let credential = PersonCredential::PersonalAccessToken { id: token(number), expires_at: None };
    Verdict::person(user(number % 3), credential)
}

fn filled(capacity: usize, numbers: impl IntoIterator<Item = u8>) -> Cache {
    let mut cache = Cache::new(capacity);
    numbers.into_iter().for_each(|number| cache.insert(hash(number), verdict(number)));
    cache
}

#[test]
fn a_suspended_person_loses_every_credential_and_nobody_else_does() {
    let mut cache = filled(10, 0..6);
    cache.overthrow(Invalidation::Of(Dependency::User(user(1))));
    let left: Vec<u8> = (0..6).filter(|number| cache.get(&hash(*number)).is_some()).collect();
    assert_eq!(left, [0, 2, 3, 5]);
}

#[test]
fn a_revoked_token_goes_alone() {
    let mut cache = filled(10, 0..6);
    cache.overthrow(Invalidation::Of(Dependency::Token(token(1))));
    assert_eq!(cache.get(&hash(1)), None);
    assert_eq!(cache.len(), 5);
}

#[test]
fn a_verdict_that_was_replaced_is_overthrown_by_what_it_rests_on_now() {
    let mut cache = filled(10, [1]);
    let session =
        PersonCredential::Session { id: SessionId(Uuid::nil()), expires_at: DateTime::<Utc>::MAX_UTC };
    cache.insert(hash(1), Verdict::person(user(2), session));
    cache.overthrow(Invalidation::Of(Dependency::User(user(1))));
    assert_eq!(cache.len(), 1, "the first verdict is gone, and what it rested on with it");
    cache.overthrow(Invalidation::Of(Dependency::Session(SessionId(Uuid::nil()))));
    assert_eq!(cache.len(), 0);
}

#[test]
fn without_capacity_nothing_is_kept() {
    assert_eq!(filled(0, 0..3).len(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u8),
    Token(u8),
    User(u8),
    Everything,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0_u8..20).prop_map(Step::Insert),
        3 => (0_u8..20).prop_map(Step::Token),
        2 => (0_u8..3).prop_map(Step::User),
        1 => Just(Step::Everything),
    ];
    prop::collection::vec(step, 0..80)
}

proptest! {
    /// Whatever happens: never more than fits, never what was overthrown, and every way back from a
    /// dependency leads to a verdict that is there.
    #[test]
    fn it_holds_what_it_should(capacity in 1_usize..12, steps in steps()) {
        let mut cache = Cache::new(capacity);
        for step in steps {
            match step {
                Step::Insert(number) => {
                    cache.insert(hash(number), verdict(number));
                    prop_assert_eq!(cache.get(&hash(number)), Some(&verdict(number)));
                }
                Step::Token(number) => {
                    cache.overthrow(Invalidation::Of(Dependency::Token(token(number))));
                    prop_assert_eq!(cache.get(&hash(number)), None);
                }
                Step::User(number) => {
                    cache.overthrow(Invalidation::Of(Dependency::User(user(number))));
                    for held in (0..20).filter(|held| held % 3 == number) {
                        prop_assert_eq!(cache.get(&hash(held)), None);
                    }
                }
                Step::Everything => {
                    prop_assert!(cache.overthrow(Invalidation::Everything).is_some());
                    prop_assert_eq!(cache.len(), 0);
                }
            }
            prop_assert!(cache.len() <= capacity);
            let mut back: Vec<(Dependency, CredentialHash)> = Vec::new();
            for (dependency, holders) in &cache.holders {
                match holders {
                    Holders::One(hash) => back.push((*dependency, *hash)),
                    Holders::Many(hashes) => {
                        prop_assert!(!hashes.is_empty());
                        back.extend(hashes.iter().map(|hash| (*dependency, *hash)));
                    }
                }
            }
            prop_assert_eq!(back.len(), cache.len() * 2);
            for (dependency, hash) in back {
                prop_assert!(cache.get(&hash).is_some_and(|held| held.depends_on.contains(&dependency)));
            }
        }
    }
}
