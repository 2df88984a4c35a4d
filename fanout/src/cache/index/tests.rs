use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Hashes that want the same few buckets, and of which many have the same tag.
fn hash(number: u32) -> CredentialHash {
    let mut hash = [0; 32];
    hash[0] = u8::try_from(number % 3).unwrap();
    hash[4] = u8::try_from(number % 2).unwrap();
    hash[28..].copy_from_slice(&number.to_ne_bytes());
    CredentialHash(hash)
}

fn found(index: &Index, number: u32) -> Option<u32> {
    index.find(&hash(number), |held| hash(held) == hash(number))
}

#[test]
fn a_bucket_is_one_cache_line() {
    assert_eq!((size_of::<Bucket>(), align_of::<Bucket>()), (64, 64));
}

#[test]
fn in_nothing_there_is_nothing() {
    assert_eq!(found(&Index::default(), 1), None);
}

proptest! {
    /// Whatever was put in and taken out, in whatever order: what is in is found, and nothing else is.
    #[test]
    fn it_finds_what_is_in_it(steps in prop::collection::vec((0_u32..90, any::<bool>()), 0..400)) {
        let (mut index, mut model) = (Index::default(), BTreeSet::new());
        for (number, inserts) in steps {
            if inserts && model.insert(number) {
                index.insert(&hash(number), number, hash);
            } else if !inserts && model.remove(&number) {
                index.remove(&hash(number), number);
            }
            for number in 0..90 {
                prop_assert_eq!(found(&index, number), model.contains(&number).then_some(number));
            }
        }
        prop_assert_eq!(index.len, model.len());
        for number in model {
            index.remove(&hash(number), number);
        }
        let left: u32 = index.buckets.iter().map(|bucket| bucket.passed).sum();
        prop_assert_eq!(left, 0, "nobody is told to go on any more");
    }
}
