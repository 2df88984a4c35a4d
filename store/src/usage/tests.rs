use std::net::Ipv4Addr;

use chrono::TimeDelta;

use super::*;

const USER: UserId = UserId(Uuid::from_u128(1));
const KEY: Key = Key::from_bytes([7; 32]);

fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, number).into()
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
}

fn used(uses: &[(i64, u8)]) -> Used {
    let mut uses = uses.iter().map(|(second, number)| Used::once(USER, at(*second), address(*number)));
    let mut used = uses.next().unwrap();
    uses.for_each(|other| used.add(other));
    used
}

fn addresses(used: &Used) -> Vec<IpAddr> {
    used.addresses.iter().collect()
}

#[test]
fn an_hour_begins_on_the_hour_and_ends_before_the_next() {
    for (second, hour) in [(0, 0), (3599, 0), (3600, 1), (7199, 1), (1_800_000_000, 500_000)] {
        assert_eq!(Hour::of(at(second)), Hour(hour));
    }
    assert_eq!(Hour(500_000).begins(), at(1_800_000_000));
}

#[test]
fn uses_add_up_and_the_last_address_comes_first() {
    let all = used(&[(5, 1), (7, 2), (9, 1)]);
    assert_eq!((all.uses, all.first_at, all.last_at), (3, at(5), at(9)));
    assert_eq!(addresses(&all), [address(1), address(2)]);
}

#[test]
fn it_makes_no_difference_in_which_order_they_are_added() {
    let (one, other) = (used(&[(5, 1), (9, 2)]), used(&[(7, 3), (8, 1)]));
    let (mut forwards, mut backwards) = (one.clone(), other.clone());
    forwards.add(other);
    backwards.add(one);
    assert_eq!(forwards, backwards);
    assert_eq!(addresses(&forwards), [address(2), address(1), address(3)]);
}

#[test]
fn the_last_few_addresses_are_kept() {
    let many: Vec<(i64, u8)> = (1..=200).map(|number| (i64::from(number), number)).collect();
    let expected: Vec<IpAddr> = (193..=200).rev().map(address).collect();
    assert_eq!(addresses(&used(&many)), expected);
    assert_eq!(expected.len(), ADDRESSES_MAX);
}

#[test]
fn a_count_that_is_full_stays_so() {
    let mut full = Used { uses: u32::MAX, ..used(&[(1, 1)]) };
    full.add(used(&[(2, 1)]));
    assert_eq!(full.uses, u32::MAX);
}

#[test]
fn an_address_opens_for_its_credential_and_hour_alone() {
    let (credential, hour) = (Uuid::from_u128(2), Hour(500_000));
    for address in ["192.0.2.7", "2001:db8::7"].map(|text| text.parse::<IpAddr>().unwrap()) {
        let sealed = seal(&KEY, credential, hour, address);
        assert_eq!(sealed.len(), 32, "its length tells nothing of it");
        assert_eq!(sealed, seal(&KEY, credential, hour, address), "so that it is seen to be known");
        assert_eq!(open(&KEY, credential, hour, &sealed), Ok(address));
        let elsewhere = [
            open(&KEY, Uuid::from_u128(3), hour, &sealed),
            open(&KEY, credential, Hour(500_001), &sealed),
            open(&Key::from_bytes([8; 32]), credential, hour, &sealed),
        ];
        assert_eq!(elsewhere, [Err(SealError::Broken), Err(SealError::Broken), Err(SealError::Broken)]);
    }
}

/// What was sealed years ago is still opened.
#[test]
fn the_place_of_an_address_is_frozen() {
    let place = place(Uuid::from_u128(2), Hour(500_000));
    assert_eq!(place, b"usage/00000000-0000-0000-0000-000000000002/500000");
}
