//! Unique things, and whose data a fact brings with it: both follow from the event alone.

use chrono::{DateTime, Utc};
use tally_events::{Event, Personal, StreamId, Subject};

use crate::login::READABLE_FOR;

/// What at most one stream may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Namespace {
    /// The account of an address.
    UserEmail,
    /// The login history of an address.
    LoginAddress,
}

impl Namespace {
    /// As stored in `claim.namespace`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UserEmail => "user.email",
            Self::LoginAddress => "login.address",
        }
    }
}

/// The unique thing an event takes, while its personal data is still clear.
#[must_use]
pub fn taken(event: &Event) -> Option<(Namespace, &str)> {
    let (namespace, value): (_, &Personal) = match event {
        Event::UserRegistered(e) => (Namespace::UserEmail, &e.email),
        Event::LoginCodeIssued(e) => (Namespace::LoginAddress, &e.email),
        Event::UserProfileChanged(_)
        | Event::UserSuspended(_)
        | Event::UserReinstated(_)
        | Event::LoginCodeRefused(_)
        | Event::LoginCodeVerified(_)
        | Event::SessionStarted(_)
        | Event::SessionEnded(_)
        | Event::TokenMinted(_)
        | Event::TokenRenewed(_)
        | Event::TokenRevoked(_) => return None,
    };
    Some((namespace, value.as_clear()?))
}

/// The subject that comes to be with an event, and until when its key is kept; none: until erased.
///
/// A subject's key is written in the transaction of its first event and never later, so two
/// writers cannot make two keys for one subject.
#[must_use]
pub fn introduced(
    stream: StreamId,
    event: &Event,
    now: DateTime<Utc>,
) -> Option<(Subject, Option<DateTime<Utc>>)> {
    let until = match event {
        Event::UserRegistered(_) => None,
        Event::LoginCodeIssued(_) => Some(now + READABLE_FOR),
        Event::UserProfileChanged(_)
        | Event::UserSuspended(_)
        | Event::UserReinstated(_)
        | Event::LoginCodeRefused(_)
        | Event::LoginCodeVerified(_)
        | Event::SessionStarted(_)
        | Event::SessionEnded(_)
        | Event::TokenMinted(_)
        | Event::TokenRenewed(_)
        | Event::TokenRevoked(_) => return None,
    };
    Some((event.subject(stream)?, until))
}
