//! Rows this release cannot read are refused, and the refusal says what was wrong.

#![allow(clippy::pedantic, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use chrono::DateTime;
use tally_events::{Position, Version, recorded::Stored};
use uuid::Uuid;

fn ended() -> Stored {
    Stored {
        position: Position(1),
        stream_id: Uuid::from_u128(1),
        stream_version: Version(2),
        name: "session.ended".to_owned(),
        schema_version: 1,
        workspace_id: None,
        actor_kind: "person".to_owned(),
        actor_id: Some(Uuid::from_u128(2)),
        credential_id: Some(Uuid::from_u128(1)),
        request_id: None,
        causation: Uuid::from_u128(3),
        recorded_at: DateTime::UNIX_EPOCH,
        payload: format!(r#"{{"user_id":"{}","reason":"logged_out"}}"#, Uuid::from_u128(2)),
    }
}

#[track_caller]
fn refused(row: Stored, said: &str) {
    let error = row.decode().unwrap_err().to_string();
    assert!(error.contains(said), "{error}");
}

#[test]
fn a_row_reads_and_is_written_again_as_it_was() {
    let recorded = ended().decode().unwrap();
    let payload = recorded.event.payload().unwrap();
    assert_eq!(recorded.to_stored(payload), ended());
}

#[test]
fn a_name_of_a_newer_release_is_refused() {
    refused(Stored { name: "session.paused".to_owned(), ..ended() }, "no event is named `session.paused`");
    refused(Stored { name: "agent.born".to_owned(), ..ended() }, "no event is named `agent.born`");
    refused(Stored { name: String::new(), ..ended() }, "no event is named ``");
}

#[test]
fn a_version_of_a_newer_release_is_refused() {
    refused(Stored { schema_version: 2, ..ended() }, "version 2 of `session.ended` is newer");
}

#[test]
fn a_version_that_never_was_is_refused() {
    refused(Stored { schema_version: 0, ..ended() }, "`session.ended` has no step from version 0");
}

#[test]
fn an_actor_of_a_newer_release_is_refused_by_its_own_name() {
    refused(Stored { actor_kind: "robot".to_owned(), ..ended() }, "no actor is of kind `robot`");
}

#[test]
fn an_altered_payload_is_refused() {
    for payload in ["", "{}", "null", "{\"user_id\":1}", &ended().payload.replace("logged_out", "bored")] {
        let row = Stored { payload: payload.to_owned(), ..ended() };
        refused(row, "the payload of `session.ended` is not what was written");
    }
}
