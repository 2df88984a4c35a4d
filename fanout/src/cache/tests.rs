use std::collections::BTreeMap;

use proptest::prelude::*;
use tally_domain::PersonCredential;
use tally_events::{TokenId, UserId};
use uuid::Uuid;

use super::*;

/// A hash as random as those of credentials.
fn hash(number: u32) -> CredentialHash {
    let mut hash = [0; 32];
    for (part, bytes) in (0_u64..).zip(hash.chunks_exact_mut(8)) {
        let mixed = (u64::from(number) * 4 + part + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        bytes.copy_from_slice(&(mixed ^ (mixed >> 29)).to_ne_bytes());
    }
    CredentialHash(hash)
}

fn verdict(number: u32) -> Verdict {
    let id = TokenId(Uuid::from_u128(number.into()));
    Verdict::person(
        UserId(Uuid::from_u128(1)),
        PersonCredential::PersonalAccessToken { id, expires_at: None },
    )
}

#[test]
fn without_capacity_nothing_is_kept() {
    let mut cache = Cache::new(0);
    cache.insert(hash(1), verdict(1), Position(1));
    assert_eq!((cache.len(), cache.get(&hash(1))), (0, None));
}

#[test]
fn a_hash_that_differs_in_one_bit_is_another_credential() {
    let mut cache = Cache::new(10);
    cache.insert(hash(1), verdict(1), Position(1));
    for bit in 0..256 {
        let mut other = hash(1);
        other.0[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(cache.get(&other), None, "bit {bit}");
    }
}

/// What the design promises, of a cache that has just grown and of one that is full.
#[test]
fn a_verdict_takes_128_bytes_at_most() {
    let mut cache = Cache::new(120_000);
    for number in 0..200_000_u32 {
        cache.insert(hash(number), verdict(number), Position(1));
        if cache.len() >= 50_000 {
            assert!(cache.allocated_bytes() <= cache.len() * 128, "{} verdicts", cache.len());
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u32, i64),
    Clear,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let insert = (0_u32..40, 0_i64..100).prop_map(|(number, position)| Step::Insert(number, position));
    prop::collection::vec(prop_oneof![40 => insert, 1 => Just(Step::Clear)], 0..120)
}

proptest! {
    /// Whatever happens: never more than fits, the latest of each, and the latest of all is there.
    #[test]
    fn it_holds_what_it_was_given(capacity in 1_usize..12, steps in steps()) {
        let mut cache = Cache::new(capacity);
        let mut given = BTreeMap::new();
        for step in steps {
            match step {
                Step::Insert(number, position) => {
                    cache.insert(hash(number), verdict(number), Position(position));
                    given.insert(number, position);
                    prop_assert!(cache.get(&hash(number)).is_some());
                }
                Step::Clear => {
                    cache.clear();
                    given.clear();
                }
            }
            let held = (0..40).filter(|number| cache.get(&hash(*number)).is_some()).count();
            prop_assert_eq!(held, cache.len());
            prop_assert_eq!(held, given.len().min(capacity));
            for (number, position) in &given {
                if let Some(found) = cache.get(&hash(*number)) {
                    prop_assert_eq!(found, (&verdict(*number), Position(*position)));
                }
            }
        }
    }
}
