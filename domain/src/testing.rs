//! Given/when/then: a decision told as a story.

use std::fmt::Debug;

use chrono::{DateTime, TimeDelta, Utc};
use tally_events::{
    Actor, CodeId, CommandId, CredentialId, Event, Hidden, LoginId, MemberId, Personal, Position, Recorded,
    Role, SessionId, StreamId, TokenId, UserId, Version, WorkspaceId,
    member::{Admission, MemberJoined, MemberRemoved, MemberRoleChanged, RemovalReason},
    session::{SessionEndReason, SessionEnded, SessionMethod, SessionStarted},
    token::{TokenKind, TokenMinted},
    user::{UserRegistered, UserReinstated, UserSuspended},
    workspace::{WorkspaceCreated, WorkspaceDeleted},
};
use uuid::Uuid;

use crate::{
    membership::Person,
    principal::{PersonCredential, Principal},
    world::{Command, Context, Decision, World},
};

/// When every story begins.
pub(crate) const START: DateTime<Utc> = DateTime::from_timestamp(1_767_225_600, 0).unwrap();

pub(crate) const ADA: UserId = UserId(Uuid::from_u128(0xADA));
pub(crate) const EVE: UserId = UserId(Uuid::from_u128(0xE7E));
pub(crate) const BOB: UserId = UserId(Uuid::from_u128(0xB0B));
pub(crate) const WORKSPACE: WorkspaceId = WorkspaceId(Uuid::from_u128(0x3037));
pub(crate) const LOGIN: LoginId = LoginId(Uuid::from_u128(0x106));

pub(crate) const fn code(number: u32) -> CodeId {
    CodeId(Uuid::from_u128(0xC0DE_0000 + number as u128))
}

pub(crate) const fn session(number: u32) -> SessionId {
    SessionId(Uuid::from_u128(0x5E55_0000 + number as u128))
}

pub(crate) const fn token(number: u32) -> TokenId {
    TokenId(Uuid::from_u128(0x7013_0000 + number as u128))
}

/// This long after the story began.
pub(crate) fn after(time: TimeDelta) -> DateTime<Utc> {
    START + time
}

/// Ada, by a session that the guard found to last.
pub(crate) const fn by_session(id: SessionId) -> Principal {
    person(ADA, PersonCredential::Session { id, expires_at: DateTime::<Utc>::MAX_UTC })
}

/// Ada, by an access token of a console session.
pub(crate) const fn by_console(id: SessionId) -> Principal {
    person(ADA, PersonCredential::ConsoleSession { id, expires_at: DateTime::<Utc>::MAX_UTC })
}

/// Ada, by a personal access token.
pub(crate) const fn by_token(id: TokenId) -> Principal {
    person(ADA, PersonCredential::PersonalAccessToken { id, expires_at: None })
}

pub(crate) const fn person(user: UserId, credential: PersonCredential) -> Principal {
    Principal::Person { user, credential }
}

/// Something that happened: where, what, and how long after the story began.
#[derive(Clone, Debug)]
pub(crate) struct Fact(StreamId, Event, TimeDelta);

pub(crate) fn fact(stream: impl Into<StreamId>, event: impl Into<Event>) -> Fact {
    Fact(stream.into(), event.into(), TimeDelta::zero())
}

impl Fact {
    pub(crate) fn at(self, time: TimeDelta) -> Self {
        Self(self.0, self.1, time)
    }

    /// As the log holds it.
    pub(crate) fn recorded(self, position: i64) -> Recorded {
        let Self(stream, event, time) = self;
        Recorded {
            position: Position(position),
            stream,
            version: Version(position),
            event,
            workspace: None,
            actor: Actor::ANONYMOUS,
            credential_id: None,
            request_id: None,
            causation: CommandId(Uuid::nil()),
            recorded_at: after(time),
        }
    }
}

/// The log of these facts, in their order.
pub(crate) fn log(history: impl IntoIterator<Item = Fact>) -> Vec<Recorded> {
    (1..).zip(history).map(|(position, fact)| fact.recorded(position)).collect()
}

/// Ada has an account.
pub(crate) fn registered() -> Fact {
    let (email, name) = (Personal::clear("ada@example.org"), Personal::clear("ada"));
    fact(ADA, UserRegistered { email, name })
}

/// Eve has one too.
pub(crate) fn eve_registered() -> Fact {
    let (email, name) = (Personal::clear("eve@example.org"), Personal::clear("eve"));
    fact(EVE, UserRegistered { email, name })
}

/// The event of a token of Ada's that expires so many days after the story began.
pub(crate) fn minted_event(minted_by: CredentialId, expires: Option<i64>) -> TokenMinted {
    TokenMinted {
        kind: TokenKind::PersonalAccessToken,
        user_id: ADA,
        name: Personal::clear("laptop"),
        hash: Hidden::new("0ff1ce00".repeat(8)),
        prefix: "mul_01234567".to_owned(),
        minted_by,
        expires_at: expires.map(|count| after(TimeDelta::days(count))),
    }
}

/// Token `number` was minted by session 1 of Ada's.
pub(crate) fn minted(number: u32, expires: Option<i64>) -> Fact {
    fact(token(number), minted_event(CredentialId::Session(session(1)), expires))
}

/// Ada's account was closed.
pub(crate) fn suspended() -> Fact {
    fact(ADA, UserSuspended {})
}

/// Ada's account was opened again.
pub(crate) fn reinstated() -> Fact {
    fact(ADA, UserReinstated {})
}

/// Somebody has an account and the session of their own.
pub(crate) fn logged_in(user: UserId) -> [Fact; 2] {
    let (email, name) = (Personal::clear("somebody@example.org"), Personal::clear("somebody"));
    let started = SessionStarted {
        user_id: user,
        method: SessionMethod::EmailCode,
        minted_by: None,
        expires_at: after(TimeDelta::days(30)),
        address: None,
        user_agent: None,
        console: None,
    };
    [fact(user, UserRegistered { email, name }), fact(session_of(user), started)]
}

/// The session of [`logged_in`].
pub(crate) const fn session_of(user: UserId) -> SessionId {
    SessionId(user.0)
}

/// Somebody, by the session of [`logged_in`].
pub(crate) const fn by(user: UserId) -> Principal {
    let (id, expires_at) = (session_of(user), DateTime::<Utc>::MAX_UTC);
    person(user, PersonCredential::Session { id, expires_at })
}

/// The same, as commands name them.
pub(crate) const fn acting(user: UserId) -> Person {
    Person { user, credential: CredentialId::Session(session_of(user)) }
}

/// The session of [`logged_in`] ended.
pub(crate) fn logged_out(user: UserId) -> Fact {
    fact(session_of(user), SessionEnded { user_id: user, reason: SessionEndReason::LoggedOut })
}

/// The workspace is there, and nobody in it yet.
pub(crate) fn opened() -> Fact {
    let event = WorkspaceCreated {
        slug: Personal::clear("team"),
        name: Personal::clear("Team"),
        issue_prefix: Personal::clear("TEAM"),
        description: None,
        context: None,
        settings: None,
        repos: None,
        avatar_url: None,
        replaces: None,
    };
    fact(WORKSPACE, event)
}

/// The workspace was deleted.
pub(crate) fn deleted() -> Fact {
    fact(WORKSPACE, WorkspaceDeleted {})
}

pub(crate) fn member(user: UserId) -> MemberId {
    MemberId::of(WORKSPACE, user)
}

/// Somebody came into the workspace.
pub(crate) fn joined(user: UserId, role: Role) -> Fact {
    let (workspace_id, admission) = (WORKSPACE, Admission::Creation);
    fact(member(user), MemberJoined { workspace_id, user_id: user, role, admission })
}

pub(crate) fn role_changed(user: UserId, role: Role) -> (StreamId, Event) {
    (member(user).into(), MemberRoleChanged { workspace_id: WORKSPACE, user_id: user, role }.into())
}

pub(crate) fn removed(user: UserId, reason: RemovalReason) -> (StreamId, Event) {
    (member(user).into(), MemberRemoved { workspace_id: WORKSPACE, user_id: user, reason }.into())
}

impl From<(StreamId, Event)> for Fact {
    fn from((stream, event): (StreamId, Event)) -> Self {
        fact(stream, event)
    }
}

/// What has happened, who asks, and when.
pub(crate) struct Given {
    history: Vec<Fact>,
    principal: Principal,
    time: TimeDelta,
}

/// The history of a story; without more, nobody asks, at its very beginning.
pub(crate) fn given(history: impl IntoIterator<Item = Fact>) -> Given {
    Given { history: history.into_iter().collect(), principal: Principal::Anonymous, time: TimeDelta::zero() }
}

impl Given {
    pub(crate) fn at(self, time: TimeDelta) -> Self {
        Self { time, ..self }
    }

    pub(crate) fn by(self, principal: Principal) -> Self {
        Self { principal, ..self }
    }

    /// Decides as the store does: on the streams the command says it reads, and on no other.
    pub(crate) fn when<C: Command>(&self, command: &C) -> Then<C> {
        let reads = command.reads();
        let world = World::given(&reads, &log(self.history.clone()));
        let context = Context { now: after(self.time), principal: self.principal };
        let decided = command.decide(&world, &context);
        for (stream, event) in decided.iter().flat_map(|decision| &decision.events) {
            assert!(reads.contains(stream), "{} goes to a stream that was not read", event.name());
            assert_eq!(event.name().split('.').next(), Some(stream.kind().as_str()), "a stream of its kind");
        }
        Then(decided)
    }
}

/// What was decided.
pub(crate) struct Then<C: Command>(Result<Decision<C::Outcome>, C::Refusal>);

impl<C: Command> Then<C>
where
    C::Outcome: Debug + PartialEq,
    C::Refusal: PartialEq,
{
    /// The command did this and said that.
    #[track_caller]
    pub(crate) fn then(self, outcome: C::Outcome, events: impl IntoIterator<Item = (StreamId, Event)>) {
        assert_eq!(self.0, Ok(Decision::of(outcome, events)));
    }

    /// The command succeeded, and nothing happened.
    #[track_caller]
    pub(crate) fn unchanged(self, outcome: C::Outcome) {
        assert_eq!(self.0, Ok(Decision::unchanged(outcome)));
    }

    /// Why it was refused, for a story of several commands.
    #[track_caller]
    pub(crate) fn refusal(self) -> C::Refusal {
        self.0.expect_err("the command is refused")
    }

    #[track_caller]
    pub(crate) fn refused(self, refusal: C::Refusal) {
        assert_eq!(self.0, Err(refusal));
    }
}
