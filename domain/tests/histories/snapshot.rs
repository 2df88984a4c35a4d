//! The shape of snapshots. When one of these goes red, snapshots that are stored no longer read as
//! they were meant: raise `State::SNAPSHOT_VERSION`, which makes the store refold, and then adapt.

use chrono::TimeDelta;
use tally_domain::{
    login::{LiveCode, Login},
    session::{Session, Started},
    token::{Minted, Token},
    user::User,
    world::State,
};
use tally_events::{CodeId, CredentialId, Hidden, Position, SessionId, UserId, session::SessionMethod};
use uuid::Uuid;

use crate::{START, through_a_snapshot};

const ID: Uuid = Uuid::nil();

#[track_caller]
fn reads_back(state: &State, text: &str) {
    assert_eq!(State::SNAPSHOT_VERSION, 1);
    assert_eq!(serde_json::to_string(state).unwrap(), text);
    assert_eq!(&through_a_snapshot(state), state);
}

#[test]
fn of_a_user() {
    let user = User { registered: true, suspended: false, credentials_after: Position(7) };
    reads_back(&State::User(user), r#"{"user":{"registered":true,"suspended":false,"credentials_after":7}}"#);
}

#[test]
fn of_a_login() {
    let (salt, mac) = (Hidden::new("salt"), Hidden::new("mac"));
    let live = LiveCode { id: CodeId(ID), salt, mac, expires_at: START, attempts: 4 };
    let guess = START + TimeDelta::microseconds(1);
    let login = Login { live: Some(live), issued: vec![START], guessed: vec![guess] };
    reads_back(
        &State::Login(login),
        concat!(
            r#"{"login":{"live":{"id":"00000000-0000-0000-0000-000000000000","salt":"salt","mac":"mac","#,
            r#""expires_at":"2026-01-01T00:00:00Z","attempts":4},"issued":["2026-01-01T00:00:00Z"],"#,
            r#""guessed":["2026-01-01T00:00:00.000001Z"]}}"#,
        ),
    );
}

#[test]
fn of_a_session() {
    let method = SessionMethod::CommandLine;
    let started = Started { user: UserId(ID), method, position: Position(7), expires_at: START };
    reads_back(
        &State::Session(Session { started: Some(started), ended: true }),
        concat!(
            r#"{"session":{"started":{"user":"00000000-0000-0000-0000-000000000000","#,
            r#""method":"command_line","position":7,"#,
            r#""expires_at":"2026-01-01T00:00:00Z"},"ended":true}}"#,
        ),
    );
}

#[test]
fn of_a_token() {
    let minted_by = CredentialId::Session(SessionId(ID));
    let minted = Minted { user: UserId(ID), position: Position(7), minted_by, expires_at: None };
    reads_back(
        &State::Token(Token { minted: Some(minted), revoked: true }),
        concat!(
            r#"{"token":{"minted":{"user":"00000000-0000-0000-0000-000000000000","position":7,"#,
            r#""minted_by":{"kind":"session","id":"00000000-0000-0000-0000-000000000000"},"#,
            r#""expires_at":null},"revoked":true}}"#,
        ),
    );
}
