//! A session of the web console: access tokens of minutes, and refresh tokens that replace each other.
//!
//! A refresh token is used once. One that comes again was given to one and is held by two, and ends
//! the session (RFC 9700 section 4.14.2). The exception is the moment after: its holder may have lost
//! the answer, and gets another token beside the one that may be on its way. Whichever is used first
//! kills the other, so if two people hold them after all, the slower one's next refresh says so.

use std::convert::Infallible;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tally_events::{
    Hidden, StreamId, UserId,
    session::{ConsoleStarted, SessionEndReason, SessionEnded, SessionRefreshRepeated, SessionRefreshed},
};

use super::Origin;
use crate::{
    policy::{Act, Action},
    refresh_token::RefreshToken,
    world::{Command, Context, Decision, World},
};

/// How long an access token works.
pub const ACCESS_LIFETIME: TimeDelta = TimeDelta::minutes(15);
/// How long a session lives that is not refreshed.
pub const REFRESH_LIFETIME: TimeDelta = TimeDelta::days(14);
/// How long it lives however often it is refreshed: then a person logs in again.
pub const CONSOLE_LIFETIME_MAX: TimeDelta = TimeDelta::days(90);
/// How long after its use a refresh token may come again.
pub const REFRESH_GRACE: TimeDelta = TimeDelta::seconds(10);
/// How often it may.
pub const REPEATS_MAX: usize = 16;

/// What a console session has beside what every session has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Console {
    /// No refresh carries it beyond this.
    pub ends_at: DateTime<Utc>,
    /// The hashes of the refresh tokens that may be used; the first one used kills the others.
    pub usable: Vec<Hidden>,
    /// The one that was used last.
    pub used: Option<Used>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    pub hash: Hidden,
    pub at: DateTime<Utc>,
}

/// What a refresh token that this server made is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It may be used.
    Usable,
    /// It was used a moment ago, and no other since.
    JustUsed,
    /// It was used, or another one in its place.
    Spent,
}

impl Console {
    pub(super) fn started(event: &ConsoleStarted) -> Self {
        Self { ends_at: event.ends_at, usable: vec![event.refresh_hash.clone()], used: None }
    }

    pub(super) fn refreshed(&mut self, event: &SessionRefreshed, at: DateTime<Utc>) {
        self.usable = vec![event.refresh_hash.clone()];
        self.used = Some(Used { hash: event.used_hash.clone(), at });
    }

    pub(super) fn repeated(&mut self, event: &SessionRefreshRepeated) {
        self.usable.push(event.refresh_hash.clone());
    }

    fn standing(&self, token: &RefreshToken, now: DateTime<Utc>) -> Standing {
        let just_used = |used: &Used| used.hash == *token.hash() && now < used.at + REFRESH_GRACE;
        if self.usable.contains(token.hash()) {
            Standing::Usable
        } else if self.used.as_ref().is_some_and(just_used) {
            Standing::JustUsed
        } else {
            Standing::Spent
        }
    }
}

/// Why a refresh token refreshes nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RefreshRefusal {
    /// Its session has ended or expired, or has never been.
    #[error("invalid refresh token")]
    Invalid,
    #[error("account disabled")]
    Suspended,
    /// Now the session must end: [`RevokeRefreshToken`].
    #[error("the refresh token was used before, so its session was ended; log in again")]
    Reused,
    #[error("the refresh token was used too often in a moment")]
    TooManyRepeats,
}

/// Somebody shows a refresh token, for an access token and the next refresh token.
#[derive(Clone, Debug)]
pub struct RefreshSession {
    /// Whose session it is.
    pub user: UserId,
    pub shown: RefreshToken,
    /// Drawn for this command.
    pub next: RefreshToken,
    pub origin: Origin,
}

/// What the holder of a refresh token gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refreshed {
    pub issued_at: DateTime<Utc>,
    /// Of the access token.
    pub access_expires_at: DateTime<Utc>,
    /// Of the session, unless it is refreshed before.
    pub expires_at: DateTime<Utc>,
}

impl Refreshed {
    /// An access token never outlives its session.
    #[must_use]
    pub fn at(issued_at: DateTime<Utc>, expires_at: DateTime<Utc>) -> Self {
        Self { issued_at, access_expires_at: expires_at.min(issued_at + ACCESS_LIFETIME), expires_at }
    }
}

impl Act for RefreshSession {
    const ACTION: Action = Action::RefreshSession;
}

impl Command for RefreshSession {
    type Outcome = Refreshed;
    type Refusal = RefreshRefusal;

    fn reads(&self) -> Vec<StreamId> {
        vec![self.user.into(), self.shown.session().into()]
    }

    fn decide(&self, world: &World, context: &Context) -> Result<Decision<Refreshed>, RefreshRefusal> {
        let (now, id) = (context.now, self.shown.session());
        let live = world.session(id).live(now).filter(|started| started.user == self.user);
        let started = live.ok_or(RefreshRefusal::Invalid)?;
        if world.user(self.user).suspended {
            return Err(RefreshRefusal::Suspended);
        }
        let good = world.good_session(self.user, id, now).is_some() && self.next.session() == id;
        let console = started.console.as_ref().filter(|_| good).ok_or(RefreshRefusal::Invalid)?;
        let (address, user_agent) = (self.origin.address(), self.origin.user_agent());
        let (user_id, refresh_hash) = (self.user, self.next.hash().clone());
        match console.standing(&self.shown, now) {
            Standing::Usable => {
                let expires_at = console.ends_at.min(now + REFRESH_LIFETIME);
                let used_hash = self.shown.hash().clone();
                let event =
                    SessionRefreshed { user_id, used_hash, refresh_hash, expires_at, address, user_agent };
                Ok(Decision::of(Refreshed::at(now, expires_at), [(id.into(), event.into())]))
            }
            Standing::JustUsed if console.usable.len() > REPEATS_MAX => Err(RefreshRefusal::TooManyRepeats),
            Standing::JustUsed => {
                let event = SessionRefreshRepeated { user_id, refresh_hash, address, user_agent };
                Ok(Decision::of(Refreshed::at(now, started.expires_at), [(id.into(), event.into())]))
            }
            Standing::Spent => Err(RefreshRefusal::Reused),
        }
    }
}

/// Ends the session that a refresh token carries on: its holder logs out, or it was used before.
///
/// Any token that this server made will do (RFC 7009 section 2.1): whoever holds one was given it, or
/// has stolen it, and the session must end in either case.
#[derive(Clone, Debug)]
pub struct RevokeRefreshToken {
    pub shown: RefreshToken,
}

impl Act for RevokeRefreshToken {
    const ACTION: Action = Action::RevokeRefreshToken;
}

impl Command for RevokeRefreshToken {
    type Outcome = ();
    type Refusal = Infallible;
    const REVOKES: bool = true;

    fn reads(&self) -> Vec<StreamId> {
        vec![self.shown.session().into()]
    }

    fn decide(&self, world: &World, context: &Context) -> Result<Decision<()>, Infallible> {
        let session = world.session(self.shown.session());
        let started = session.started.as_ref().filter(|_| !session.ended);
        let Some((started, console)) = started.and_then(|started| Some((started, started.console.as_ref()?)))
        else {
            return Ok(Decision::unchanged(()));
        };
        let reason = match console.standing(&self.shown, context.now) {
            Standing::Usable | Standing::JustUsed => SessionEndReason::LoggedOut,
            Standing::Spent => SessionEndReason::RefreshTokenReused,
        };
        let event = SessionEnded { user_id: started.user, reason };
        Ok(Decision::of((), [(self.shown.session().into(), event.into())]))
    }
}

#[cfg(test)]
mod tests;
