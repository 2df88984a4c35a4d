//! The events the golden files of the latest versions are made from.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::value::RawValue;
use tally_events::{
    CodeId, CredentialId, Event, Hidden, LoginId, Personal, Place, SessionId, StreamId, TokenId, UserId,
    Version,
    login::{LoginCodeIssued, LoginCodeRefused, LoginCodeVerified, RefusalReason},
    session::{SessionEndReason, SessionEnded, SessionMethod, SessionStarted},
    token::{RevocationReason, TokenKind, TokenMinted, TokenRenewed, TokenRevoked},
    user::{UserProfileChanged, UserRegistered, UserReinstated, UserSuspended},
};
use uuid::Uuid;

use crate::file::{Golden, KEY};

const USER: UserId = UserId(id(0xA));
const LOGIN: LoginId = LoginId(id(0xB));
const CODE: CodeId = CodeId(id(0xC));
const SESSION: SessionId = SessionId(id(0xD));
const TOKEN: TokenId = TokenId(id(0xE));
const PARENT: TokenId = TokenId(id(0xF));
/// With a fraction, so that its form is frozen too; [`WHOLE`] freezes the form without.
const FRACTION: DateTime<Utc> = DateTime::from_timestamp_micros(1_767_323_045_123_450).unwrap();
const WHOLE: DateTime<Utc> = DateTime::from_timestamp_micros(1_767_323_045_000_000).unwrap();

const fn id(last: u128) -> Uuid {
    Uuid::from_u128(0x0198_e3c0_0000_7000_8000_0000_0000_0000 + last)
}

/// An event in the clear, as it goes into its stream.
pub struct Sample {
    /// What sets this one apart from others of its name; empty for the plain one.
    variant: &'static str,
    stream: StreamId,
    version: Version,
    event: Event,
}

impl Sample {
    pub fn file_name(&self) -> String {
        let (name, version) = (self.event.name(), self.event.schema_version());
        let dot = if self.variant.is_empty() { "" } else { "." };
        format!("{name}.v{version}{dot}{}.json", self.variant)
    }

    /// The file, its personal fields sealed.
    pub fn to_golden(&self) -> Golden {
        let Self { stream, version, event, .. } = self;
        let mut sealed = event.clone();
        let (event, subject) = (event.name(), event.subject(*stream).unwrap());
        let mut clear = BTreeMap::new();
        for (field, personal) in sealed.personal_mut() {
            let text = personal.as_clear().unwrap().to_owned();
            let place = Place { stream: *stream, version: *version, event, field, subject };
            *personal = Personal::Sealed(place.seal(&KEY, &text));
            clear.insert(field.to_owned(), text);
        }
        Golden {
            file: self.file_name(),
            name: sealed.name().to_owned(),
            schema_version: sealed.schema_version(),
            stream: stream.to_string(),
            stream_version: *version,
            payload: RawValue::from_string(sealed.payload().unwrap()).unwrap(),
            clear,
        }
    }
}

fn sample(
    variant: &'static str,
    stream: impl Into<StreamId>,
    version: i64,
    event: impl Into<Event>,
) -> Sample {
    Sample { variant, stream: stream.into(), version: Version(version), event: event.into() }
}

pub fn all() -> Vec<Sample> {
    [users(), logins(), sessions(), tokens()].into_iter().flatten().collect()
}

fn personal(text: &str) -> Option<Personal> {
    Some(Personal::clear(text))
}

fn users() -> Vec<Sample> {
    let registered =
        UserRegistered { email: Personal::clear("ada@example.org"), name: Personal::clear("ada") };
    let every_field = UserProfileChanged {
        name: personal("Ada Lovelace 🪵"),
        avatar_url: personal("https://example.org/ada.png"),
        language: personal("zh-Hans"),
        timezone: personal("Europe/London"),
        profile_description: personal("Notes on the\n\"engine\""),
    };
    let one_field = UserProfileChanged { name: personal("Ada"), ..UserProfileChanged::default() };
    let cleared = UserProfileChanged { timezone: personal(""), ..UserProfileChanged::default() };
    vec![
        sample("", USER, 1, registered),
        sample("", USER, 2, every_field),
        sample("one_field", USER, 3, one_field),
        sample("cleared_field", USER, 4, cleared),
        sample("", USER, 5, UserSuspended {}),
        sample("", USER, 6, UserReinstated {}),
    ]
}

fn logins() -> Vec<Sample> {
    let issued = LoginCodeIssued {
        code_id: CODE,
        user_id: Some(USER),
        salt: Hidden::new("0123456789abcdeffedcba9876543210"),
        mac: Hidden::new("5ca1ab1e".repeat(8)),
        expires_at: FRACTION,
        email: Personal::clear("ada@example.org"),
        address: personal("2001:db8::1"),
        user_agent: personal("Mozilla/5.0 (X11; Linux x86_64)"),
    };
    let bare = LoginCodeIssued {
        user_id: None,
        expires_at: WHOLE,
        address: None,
        user_agent: None,
        ..issued.clone()
    };
    let refused = |user_id, reason| LoginCodeRefused {
        code_id: CODE,
        user_id,
        reason,
        address: personal("192.0.2.7"),
        user_agent: None,
    };
    let verified = LoginCodeVerified { code_id: CODE, user_id: USER, session_id: SESSION };
    vec![
        sample("", LOGIN, 1, issued),
        sample("no_account", LOGIN, 1, bare),
        sample("wrong_code", LOGIN, 2, refused(Some(USER), RefusalReason::WrongCode)),
        sample("signup_prohibited", LOGIN, 3, refused(None, RefusalReason::SignupProhibited)),
        sample("account_suspended", LOGIN, 4, refused(Some(USER), RefusalReason::AccountSuspended)),
        sample("", LOGIN, 5, verified),
    ]
}

fn sessions() -> Vec<Sample> {
    let by_code = SessionStarted {
        user_id: USER,
        method: SessionMethod::EmailCode,
        minted_by: None,
        expires_at: FRACTION + TimeDelta::days(30),
        address: personal("192.0.2.7"),
        user_agent: personal("Mozilla/5.0 (X11; Linux x86_64)"),
    };
    let command_line = SessionStarted {
        method: SessionMethod::CommandLine,
        minted_by: Some(CredentialId::Session(SESSION)),
        expires_at: WHOLE,
        address: None,
        user_agent: None,
        ..by_code.clone()
    };
    vec![
        sample("email_code", SESSION, 1, by_code),
        sample("command_line", SessionId(id(0xD1)), 1, command_line),
        sample("", SESSION, 2, SessionEnded { user_id: USER, reason: SessionEndReason::LoggedOut }),
    ]
}

fn tokens() -> Vec<Sample> {
    let minted = TokenMinted {
        kind: TokenKind::PersonalAccessToken,
        user_id: USER,
        name: Personal::clear("laptop — büro"),
        hash: Hidden::new("0ff1ce00".repeat(8)),
        prefix: "mul_01234567".to_owned(),
        minted_by: CredentialId::Token(PARENT),
        expires_at: Some(FRACTION),
    };
    let forever =
        TokenMinted { minted_by: CredentialId::Session(SESSION), expires_at: None, ..minted.clone() };
    let revoked = |reason| TokenRevoked { user_id: USER, reason };
    vec![
        sample("", TOKEN, 1, minted),
        sample("never_expires", PARENT, 1, forever),
        sample("", TOKEN, 2, TokenRenewed { user_id: USER, expires_at: FRACTION + TimeDelta::days(90) }),
        sample("requested", PARENT, 2, revoked(RevocationReason::Requested)),
        sample("line", TOKEN, 3, revoked(RevocationReason::Line(PARENT))),
    ]
}
