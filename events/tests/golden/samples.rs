//! The events the golden files of the latest versions are made from.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::value::RawValue;
use tally_events::{
    CodeId, CredentialId, Event, Hidden, InvitationId, LoginId, MemberId, Personal, Place, Role, SessionId,
    ShareLinkId, StreamId, TokenId, UserId, Version, WorkspaceId,
    invitation::{InvitationAccepted, InvitationCreated, InvitationDeclined, InvitationRevoked},
    login::{LoginCodeIssued, LoginCodeRefused, LoginCodeUndeliverable, LoginCodeVerified, RefusalReason},
    member::{Admission, MemberJoined, MemberRemoved, MemberRoleChanged, RemovalReason},
    session::{
        ConsoleStarted, SessionEndReason, SessionEnded, SessionMethod, SessionRefreshRepeated,
        SessionRefreshed, SessionStarted,
    },
    share_link::{ShareLinkCreated, ShareLinkRevoked, ShareLinkUsed},
    token::{RevocationReason, TokenKind, TokenMinted, TokenRenewed, TokenRevoked},
    user::{
        IdentityProof, UserIdentityLinked, UserProfileChanged, UserRegistered, UserReinstated, UserSuspended,
    },
    workspace::{WorkspaceChanged, WorkspaceCreated, WorkspaceDeleted},
};
use uuid::Uuid;

use crate::file::{Golden, KEY};

const USER: UserId = UserId(id(0xA));
const LOGIN: LoginId = LoginId(id(0xB));
const CODE: CodeId = CodeId(id(0xC));
const SESSION: SessionId = SessionId(id(0xD));
const CONSOLE: SessionId = SessionId(id(0xD2));
const TOKEN: TokenId = TokenId(id(0xE));
const PARENT: TokenId = TokenId(id(0xF));
const WORKSPACE: WorkspaceId = WorkspaceId(id(0x10));
const INVITATION: InvitationId = InvitationId(id(0x11));
const SHARE_LINK: ShareLinkId = ShareLinkId(id(0x12));
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
    [users(), logins(), sessions(), tokens(), workspaces(), members(), invitations(), share_links()]
        .into_iter()
        .flatten()
        .collect()
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
    let linked = |proof| UserIdentityLinked {
        issuer: "https://accounts.google.com".to_owned(),
        subject: Personal::clear("248289761001"),
        proof,
    };
    vec![
        sample("", USER, 1, registered),
        sample("", USER, 2, every_field),
        sample("one_field", USER, 3, one_field),
        sample("cleared_field", USER, 4, cleared),
        sample("", USER, 5, UserSuspended {}),
        sample("", USER, 6, UserReinstated {}),
        sample("registration", USER, 7, linked(IdentityProof::Registration)),
        sample("authority", USER, 8, linked(IdentityProof::Authority)),
        sample("email_code", USER, 9, linked(IdentityProof::EmailCode)),
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
        sample("", LOGIN, 6, LoginCodeUndeliverable { code_id: CODE, user_id: Some(USER) }),
        sample("no_account", LOGIN, 7, LoginCodeUndeliverable { code_id: CODE, user_id: None }),
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
        console: None,
    };
    let console = SessionStarted {
        expires_at: WHOLE + TimeDelta::days(14),
        console: Some(ConsoleStarted {
            refresh_hash: Hidden::new("c0ffee00".repeat(8)),
            ends_at: FRACTION + TimeDelta::days(90),
        }),
        ..by_code.clone()
    };
    let refreshed = SessionRefreshed {
        user_id: USER,
        used_hash: Hidden::new("c0ffee00".repeat(8)),
        refresh_hash: Hidden::new("c0ffee01".repeat(8)),
        expires_at: FRACTION + TimeDelta::days(15),
        address: personal("2001:db8::1"),
        user_agent: None,
    };
    let repeated = SessionRefreshRepeated {
        user_id: USER,
        refresh_hash: Hidden::new("c0ffee02".repeat(8)),
        address: None,
        user_agent: personal("curl/8.5.0"),
    };
    let ended = |reason| SessionEnded { user_id: USER, reason };
    let command_line = SessionStarted {
        method: SessionMethod::CommandLine,
        minted_by: Some(CredentialId::Session(SESSION)),
        expires_at: WHOLE,
        address: None,
        user_agent: None,
        ..by_code.clone()
    };
    let identity = SessionStarted { method: SessionMethod::Identity, ..by_code.clone() };
    vec![
        sample("email_code", SESSION, 1, by_code),
        sample("identity", SessionId(id(0xD2)), 1, identity),
        sample("command_line", SessionId(id(0xD1)), 1, command_line),
        sample("", SESSION, 2, ended(SessionEndReason::LoggedOut)),
        sample("console", CONSOLE, 1, console),
        sample("", CONSOLE, 2, refreshed),
        sample("", CONSOLE, 3, repeated),
        sample("requested", CONSOLE, 4, ended(SessionEndReason::Requested)),
        sample("others_ended", CONSOLE, 4, ended(SessionEndReason::OthersEnded)),
        sample("parent_ended", SessionId(id(0xD1)), 2, ended(SessionEndReason::ParentEnded)),
        sample("refresh_token_reused", CONSOLE, 4, ended(SessionEndReason::RefreshTokenReused)),
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
        sample("session", TOKEN, 3, revoked(RevocationReason::Session(SESSION))),
    ]
}

fn workspaces() -> Vec<Sample> {
    let created = WorkspaceCreated {
        slug: Personal::clear("analytical-engine"),
        name: Personal::clear("Analytical Engine"),
        issue_prefix: Personal::clear("ANAL"),
        description: personal("What the\n\"engine\" does"),
        context: personal("Notes"),
        settings: personal(r#"{"theme":"dark"}"#),
        repos: personal(r#"[{"url":"https://example.org/engine.git"}]"#),
        avatar_url: personal("https://example.org/engine.png"),
        replaces: Some(WorkspaceId(id(0xF0))),
    };
    let bare = WorkspaceCreated {
        description: None,
        context: None,
        settings: None,
        repos: None,
        avatar_url: None,
        replaces: None,
        ..created.clone()
    };
    let every_field = WorkspaceChanged {
        name: personal("Difference Engine"),
        description: personal(""),
        context: personal("More notes"),
        settings: personal("{}"),
        repos: personal("[]"),
        issue_prefix: personal("DIFF"),
        avatar_url: personal(""),
    };
    let one_field = WorkspaceChanged { name: personal("Engine"), ..WorkspaceChanged::default() };
    vec![
        sample("", WORKSPACE, 1, created),
        sample("bare", WORKSPACE, 1, bare),
        sample("", WORKSPACE, 2, every_field),
        sample("one_field", WORKSPACE, 3, one_field),
        sample("", WORKSPACE, 4, WorkspaceDeleted {}),
    ]
}

fn members() -> Vec<Sample> {
    let member = MemberId::of(WORKSPACE, USER);
    let joined = |role, admission| MemberJoined { workspace_id: WORKSPACE, user_id: USER, role, admission };
    let removed = |reason| MemberRemoved { workspace_id: WORKSPACE, user_id: USER, reason };
    let role_changed = MemberRoleChanged { workspace_id: WORKSPACE, user_id: USER, role: Role::Owner };
    vec![
        sample("creation", member, 1, joined(Role::Owner, Admission::Creation)),
        sample("invitation", member, 1, joined(Role::Admin, Admission::Invitation(INVITATION))),
        sample("share_link", member, 1, joined(Role::Member, Admission::ShareLink(SHARE_LINK))),
        sample("", member, 2, role_changed),
        sample("left", member, 3, removed(RemovalReason::Left)),
        sample("removed", member, 3, removed(RemovalReason::Removed)),
    ]
}

fn invitations() -> Vec<Sample> {
    let created = InvitationCreated {
        workspace_id: WORKSPACE,
        inviter_id: USER,
        email: Personal::clear("bob@example.org"),
        invitee_user_id: Some(UserId(id(0xA1))),
        role: Role::Admin,
        expires_at: FRACTION,
        replaces: Some(InvitationId(id(0xF1))),
    };
    let no_account =
        InvitationCreated { invitee_user_id: None, expires_at: WHOLE, replaces: None, ..created.clone() };
    let (workspace_id, user_id) = (WORKSPACE, UserId(id(0xA1)));
    vec![
        sample("", INVITATION, 1, created),
        sample("no_account", INVITATION, 1, no_account),
        sample("", INVITATION, 2, InvitationAccepted { workspace_id, user_id }),
        sample("", INVITATION, 2, InvitationDeclined { workspace_id, user_id }),
        sample("", INVITATION, 2, InvitationRevoked { workspace_id }),
    ]
}

fn share_links() -> Vec<Sample> {
    let created = ShareLinkCreated {
        workspace_id: WORKSPACE,
        code: Personal::clear("0123456789abcdefghijklmnopqrst"),
        role: Role::Member,
        expires_at: Some(FRACTION),
        max_uses: Some(10),
        replaces: Some(ShareLinkId(id(0xF2))),
    };
    let unlimited = ShareLinkCreated { expires_at: None, max_uses: None, replaces: None, ..created.clone() };
    vec![
        sample("", SHARE_LINK, 1, created),
        sample("unlimited", SHARE_LINK, 1, unlimited),
        sample("", SHARE_LINK, 2, ShareLinkUsed { workspace_id: WORKSPACE, user_id: USER }),
        sample("", SHARE_LINK, 3, ShareLinkRevoked { workspace_id: WORKSPACE }),
    ]
}
