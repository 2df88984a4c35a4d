//! The shape of snapshots. When one of these goes red, snapshots that are stored no longer read as
//! they were meant: raise `State::SNAPSHOT_VERSION`, which makes the store refold, and then adapt.

use chrono::TimeDelta;
use tally_domain::{
    invitation::{self, Invitation},
    login::{LiveCode, Login},
    member::{Joined, Member},
    session::{Console, Session, Started, Used},
    share_link::{self, ShareLink},
    token::{Minted, Token},
    user::User,
    workspace::Workspace,
    world::State,
};
use tally_events::{
    CodeId, CredentialId, Hidden, Position, Role, SessionId, UserId, WorkspaceId, session::SessionMethod,
};
use uuid::Uuid;

use crate::{START, through_a_snapshot};

const ID: Uuid = Uuid::nil();

#[track_caller]
fn reads_back(state: &State, text: &str) {
    assert_eq!(State::SNAPSHOT_VERSION, 2);
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
    let minted_by = Some(CredentialId::Session(SessionId(ID)));
    let started = Started {
        user: UserId(ID),
        method,
        minted_by,
        position: Position(7),
        expires_at: START,
        console: None,
    };
    reads_back(
        &State::Session(Session { started: Some(started), ended: true }),
        concat!(
            r#"{"session":{"started":{"user":"00000000-0000-0000-0000-000000000000","#,
            r#""method":"command_line","#,
            r#""minted_by":{"kind":"session","id":"00000000-0000-0000-0000-000000000000"},"position":7,"#,
            r#""expires_at":"2026-01-01T00:00:00Z","console":null},"ended":true}}"#,
        ),
    );
}

#[test]
fn of_a_console_session() {
    let used = Some(Used { hash: Hidden::new("used"), at: START });
    let console = Some(Console { ends_at: START, usable: vec![Hidden::new("usable")], used });
    let started = Started {
        user: UserId(ID),
        method: SessionMethod::EmailCode,
        minted_by: None,
        position: Position(7),
        expires_at: START,
        console,
    };
    reads_back(
        &State::Session(Session { started: Some(started), ended: false }),
        concat!(
            r#"{"session":{"started":{"user":"00000000-0000-0000-0000-000000000000","#,
            r#""method":"email_code","minted_by":null,"position":7,"#,
            r#""expires_at":"2026-01-01T00:00:00Z","console":{"ends_at":"2026-01-01T00:00:00Z","#,
            r#""usable":["usable"],"used":{"hash":"used","at":"2026-01-01T00:00:00Z"}}},"ended":false}}"#,
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

#[test]
fn of_a_workspace() {
    let workspace = Workspace { created: true, deleted: false };
    reads_back(&State::Workspace(workspace), r#"{"workspace":{"created":true,"deleted":false}}"#);
}

#[test]
fn of_a_member() {
    let joined =
        Joined { workspace: WorkspaceId(ID), user: UserId(ID), role: Role::Admin, position: Position(7) };
    reads_back(
        &State::Member(Member { joined: Some(joined), reduced_at: Position(5) }),
        concat!(
            r#"{"member":{"joined":{"workspace":"00000000-0000-0000-0000-000000000000","#,
            r#""user":"00000000-0000-0000-0000-000000000000","role":"admin","position":7},"reduced_at":5}}"#
        ),
    );
}

#[test]
fn of_an_invitation() {
    let created = invitation::Created {
        workspace: WorkspaceId(ID),
        role: Role::Member,
        expires_at: START,
        position: Position(7),
    };
    let invitation = Invitation { created: Some(created), status: invitation::Status::Declined };
    reads_back(
        &State::Invitation(invitation),
        concat!(
            r#"{"invitation":{"created":{"workspace":"00000000-0000-0000-0000-000000000000","role":"member","#,
            r#""expires_at":"2026-01-01T00:00:00Z","position":7},"status":"declined"}}"#
        ),
    );
}

#[test]
fn of_a_share_link() {
    let created = share_link::Created {
        workspace: WorkspaceId(ID),
        role: Role::Member,
        expires_at: None,
        max_uses: Some(3),
        position: Position(7),
    };
    let link = ShareLink { created: Some(created), uses: 2, revoked: false };
    reads_back(
        &State::ShareLink(link),
        concat!(
            r#"{"share_link":{"created":{"workspace":"00000000-0000-0000-0000-000000000000","role":"member","#,
            r#""expires_at":null,"max_uses":3,"position":7},"uses":2,"revoked":false}}"#
        ),
    );
}
