//! Unique things, and whose data a fact brings with it: both follow from the event alone.

use chrono::{DateTime, Utc};
use tally_events::{Event, LoginEvent, Personal, StreamId, Subject, UserEvent};

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
        Event::User(event) => match event {
            UserEvent::Registered(e) => (Namespace::UserEmail, &e.email),
            UserEvent::ProfileChanged(_) | UserEvent::Suspended(_) | UserEvent::Reinstated(_) => return None,
        },
        Event::Login(event) => match event {
            LoginEvent::CodeIssued(e) => (Namespace::LoginAddress, &e.email),
            LoginEvent::CodeRefused(_) | LoginEvent::CodeVerified(_) => return None,
        },
        Event::Session(_) | Event::Token(_) => return None,
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
        Event::User(event) => match event {
            UserEvent::Registered(_) => None,
            UserEvent::ProfileChanged(_) | UserEvent::Suspended(_) | UserEvent::Reinstated(_) => return None,
        },
        Event::Login(event) => match event {
            LoginEvent::CodeIssued(_) => Some(now + READABLE_FOR),
            LoginEvent::CodeRefused(_) | LoginEvent::CodeVerified(_) => return None,
        },
        Event::Session(_) | Event::Token(_) => return None,
    };
    Some((event.subject(stream)?, until))
}
