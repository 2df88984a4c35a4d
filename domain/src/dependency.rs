//! What a verdict rests on, and which events overthrow it.

use chrono::{DateTime, Utc};
use tally_events::{CredentialId, Event, Recorded, SessionId, StreamId, TokenId, UserId};

use crate::principal::Principal;

/// A thing that must be live for a credential to be live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dependency {
    User(UserId),
    Session(SessionId),
    Token(TokenId),
}

impl From<CredentialId> for Dependency {
    fn from(credential: CredentialId) -> Self {
        match credential {
            CredentialId::Session(id) => Self::Session(id),
            CredentialId::Token(id) => Self::Token(id),
        }
    }
}

/// A yes: who the credential speaks for, and what that rests on. A no is never kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub principal: Principal,
    pub depends_on: Vec<Dependency>,
}

impl Verdict {
    /// A yes for a person's credential: it rests on the credential and on the account.
    #[must_use]
    pub fn person(user: UserId, credential: crate::principal::PersonCredential) -> Self {
        let depends_on = vec![credential.id().into(), Dependency::User(user)];
        Self { principal: Principal::Person { user, credential }, depends_on }
    }

    /// Expiry is the clock's doing, so it is asked at every read.
    #[must_use]
    pub const fn expires_at(&self) -> Option<DateTime<Utc>> {
        match &self.principal {
            Principal::Anonymous | Principal::Operator => None,
            Principal::Person { credential, .. } => credential.expires_at(),
        }
    }
}

/// What an event overthrows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalidation {
    Nothing,
    /// Every verdict that rests on this.
    Of(Dependency),
    /// Every verdict there is: an event of a newer release, a repaired projection.
    Everything,
}

/// What `recorded` overthrows. Exhaustive: a new event says what it means for verdicts.
#[must_use]
pub const fn invalidation(recorded: &Recorded) -> Invalidation {
    match &recorded.event {
        Event::UserSuspended(_) | Event::UserReinstated(_) => match recorded.stream {
            StreamId::User(user) => Invalidation::Of(Dependency::User(user)),
            StreamId::Login(_) | StreamId::Session(_) | StreamId::Token(_) => Invalidation::Everything,
        },
        Event::SessionEnded(_) => match recorded.stream {
            StreamId::Session(session) => Invalidation::Of(Dependency::Session(session)),
            StreamId::Login(_) | StreamId::User(_) | StreamId::Token(_) => Invalidation::Everything,
        },
        Event::TokenRenewed(_) | Event::TokenRevoked(_) => match recorded.stream {
            StreamId::Token(token) => Invalidation::Of(Dependency::Token(token)),
            StreamId::Login(_) | StreamId::User(_) | StreamId::Session(_) => Invalidation::Everything,
        },
        Event::UserRegistered(_)
        | Event::UserProfileChanged(_)
        | Event::LoginCodeIssued(_)
        | Event::LoginCodeRefused(_)
        | Event::LoginCodeVerified(_)
        | Event::SessionStarted(_)
        | Event::TokenMinted(_) => Invalidation::Nothing,
    }
}
