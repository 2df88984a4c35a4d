//! A verdict may rest on whatever was live: an event that changes that overthrows it.
//!
//! The alphabet of the histories is every golden event, so a new event joins by having one.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::{collection::vec, prelude::*, sample::Index};
use serde::Deserialize;
use serde_json::value::RawValue;
use tally_domain::{Dependency, Invalidation, dependency::invalidation, world::State};
use tally_events::{Event, Position, Recorded, StreamId, StreamKind, Version};
use uuid::Uuid;

use crate::{START, recorded, through_a_snapshot};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../events/golden");

#[derive(Deserialize)]
struct Golden {
    name: String,
    schema_version: u16,
    stream: String,
    stream_version: Version,
    payload: Box<RawValue>,
}

/// Every golden event that goes into streams of this kind.
fn alphabet(kind: StreamKind) -> Vec<Event> {
    let prefix = format!("{}.", kind.as_str());
    let mut files: Vec<_> = std::fs::read_dir(GOLDEN).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let of_kind =
        files.iter().filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&prefix));
    of_kind
        .map(|path| {
            let golden: Golden = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
            let stream = golden.stream.parse().unwrap();
            let Golden { name, schema_version, stream_version, payload, .. } = &golden;
            Event::decode(stream, *stream_version, name, *schema_version, payload.get()).unwrap()
        })
        .collect()
}

/// Whether the stream's thing came to be: before that no verdict could rest on it.
fn exists(state: &State) -> bool {
    match state {
        State::User(user) => user.registered,
        State::Session(session) => session.started.is_some(),
        State::Token(token) => token.minted.is_some(),
        State::Workspace(workspace) => workspace.created,
        State::Member(member) => member.joined.is_some(),
        // No verdict rests on these.
        State::Login(_) | State::Invitation(_) | State::ShareLink(_) => false,
    }
}

/// Whether it is live for a credential that was made at `made`.
fn is_live(state: &State, made: Position, now: DateTime<Utc>) -> bool {
    match state {
        State::User(user) => user.admits(made),
        State::Session(session) => session.live(now).is_some(),
        State::Token(token) => token.live(now).is_some(),
        State::Workspace(workspace) => workspace.is_open(),
        State::Member(member) => member.joined.as_ref().is_some_and(|joined| made > joined.position),
        State::Login(_) | State::Invitation(_) | State::ShareLink(_) => false,
    }
}

/// A moment in each month of the years the golden expiries are in.
fn moments() -> impl Iterator<Item = DateTime<Utc>> {
    (-12..24).map(|month| START + TimeDelta::days(30 * month))
}

fn dependency(stream: StreamId) -> Option<Dependency> {
    match stream {
        StreamId::User(id) => Some(Dependency::User(id)),
        StreamId::Session(id) => Some(Dependency::Session(id)),
        StreamId::Token(id) => Some(Dependency::Token(id)),
        StreamId::Workspace(id) => Some(Dependency::Workspace(id)),
        StreamId::Member(id) => Some(Dependency::Member(id)),
        StreamId::Login(_) | StreamId::Invitation(_) | StreamId::ShareLink(_) => None,
    }
}

fn history() -> impl Strategy<Value = (StreamKind, Vec<Event>)> {
    (prop::sample::select(StreamKind::ALL), vec(any::<Index>(), 1..12)).prop_map(|(kind, picks)| {
        let alphabet = alphabet(kind);
        (kind, picks.iter().map(|pick| pick.get(&alphabet).clone()).collect())
    })
}

proptest! {
    #[test]
    fn an_event_that_changes_what_is_live_overthrows_verdicts((kind, events) in history()) {
        let stream = kind.stream(Uuid::from_u128(1));
        let initial = State::initial(stream);
        let mut state = initial.clone();
        for (index, event) in (1..).zip(events) {
            let recorded = Recorded { position: Position(2 * index), ..recorded(stream, event, START) };
            let credentials = [Position(2 * index - 1), Position(2 * index + 1)];
            let mut fresh = initial.clone();
            fresh.evolve(&recorded);
            if exists(&state) && exists(&fresh) {
                continue; // A thing comes to be once.
            }
            let before = state.clone();
            let mut resumed = through_a_snapshot(&state);
            resumed.evolve(&recorded);
            state.evolve(&recorded);
            prop_assert_eq!(&resumed, &state, "a snapshot resumes as if there had been none");
            let changed = exists(&before)
                && credentials.into_iter().any(|made| {
                    moments().any(|at| is_live(&before, made, at) != is_live(&state, made, at))
                });
            if changed {
                let expected = dependency(stream).map(Invalidation::Of);
                prop_assert_eq!(Some(invalidation(&recorded)), expected, "{}", recorded.event.name());
            }
        }
    }
}

/// The property above would hold of a world in which nothing ever changes.
#[test]
fn each_kind_of_thing_has_an_event_that_ends_it() {
    for kind in [StreamKind::User, StreamKind::Session, StreamKind::Token] {
        let stream = kind.stream(Uuid::from_u128(1));
        let ends = alphabet(kind).into_iter().filter(|event| {
            let recorded = recorded(stream, event.clone(), START);
            invalidation(&recorded) != Invalidation::Nothing
        });
        assert!(ends.count() >= 1, "{}", kind.as_str());
    }
}

#[test]
fn an_overthrowing_event_in_a_stream_of_another_kind_overthrows_everything() {
    for (kind, other) in
        StreamKind::ALL.iter().flat_map(|kind| StreamKind::ALL.iter().map(|other| (*kind, *other)))
    {
        for event in alphabet(kind) {
            let at_home = invalidation(&recorded(kind.stream(Uuid::nil()), event.clone(), START));
            let abroad = invalidation(&recorded(other.stream(Uuid::nil()), event, START));
            if kind != other && at_home != Invalidation::Nothing {
                assert_eq!(abroad, Invalidation::Everything);
            }
        }
    }
}
