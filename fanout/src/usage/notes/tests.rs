use std::net::Ipv4Addr;

use chrono::{DateTime, TimeDelta, Utc};
use tally_events::{TokenId, UserId};
use uuid::Uuid;

use super::*;

fn token(number: u128) -> CredentialId {
    CredentialId::Token(TokenId(Uuid::from_u128(number)))
}

fn note(notes: &Notes, credential: CredentialId, at: DateTime<Utc>) {
    let user = UserId(Uuid::from_u128(1));
    notes.add(credential, Hour::of(at), Used::once(user, at, Ipv4Addr::LOCALHOST.into()));
}

#[test]
fn an_hour_that_begins_between_two_uses_has_a_note_of_its_own() {
    let notes = Notes::default();
    let noon = DateTime::UNIX_EPOCH + TimeDelta::hours(12);
    let moments = [-2, -1, 0, 1, 2].map(|microseconds| noon + TimeDelta::microseconds(microseconds));
    for at in moments {
        note(&notes, token(1), at);
    }
    let (mut noted, missed) = notes.take();
    noted.sort_by_key(|(_, hour, _)| *hour);
    let [(_, eleven, before), (_, twelve, after)] = &noted[..] else { panic!("{noted:?}") };
    assert_eq!((eleven.begins(), twelve.begins()), (noon - TimeDelta::hours(1), noon));
    assert_eq!((before.uses, before.first_at, before.last_at), (2, moments[0], moments[1]));
    assert_eq!((after.uses, after.first_at, after.last_at), (3, moments[2], moments[4]));
    assert_eq!(missed, 0);
}

#[test]
fn what_is_taken_is_gone() {
    let notes = Notes::default();
    note(&notes, token(1), DateTime::UNIX_EPOCH);
    assert_eq!(notes.take().0.len(), 1);
    assert_eq!(notes.take(), (Vec::new(), 0));
}

#[test]
fn more_credentials_than_there_is_room_for_are_counted_and_those_that_have_a_place_go_on() {
    let notes = Notes::default();
    let (room, more) = (SHARDS * SHARD_CREDENTIALS_MAX, 1000);
    for number in 0..room + more {
        note(&notes, token(number as u128), DateTime::UNIX_EPOCH);
    }
    for number in 0..10 {
        note(&notes, token(number), DateTime::UNIX_EPOCH);
    }
    let (noted, missed) = notes.take();
    assert_eq!((noted.len(), missed), (room, more as u64));
    assert_eq!(noted.iter().map(|(.., used)| used.uses).sum::<u32>() as usize, room + 10);
    note(&notes, token(1_000_000), DateTime::UNIX_EPOCH);
    assert_eq!(notes.take().1, 0, "there is room again");
}
