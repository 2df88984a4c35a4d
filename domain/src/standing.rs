//! Whether a credential is good: the one rule behind every decision that rests on one.
//!
//! The guard asks the projections the same question before a command is made. Between its look and
//! the commit an account may be suspended and even reinstated, so a decision asks again, of the very
//! streams it rests on: what happens to them later fails the commit.

use chrono::{DateTime, Utc};
use tally_events::{CredentialId, Position, SessionId, StreamId, TokenId, UserId};

use crate::{session::Started, token::Minted, user::User, world::World};

impl User {
    /// Whether a credential that came to be at `position` may speak for this account.
    ///
    /// Credentials from before a suspension stay dead after the reinstatement.
    #[must_use]
    pub fn admits(&self, position: Position) -> bool {
        self.registered && !self.suspended && position > self.credentials_after
    }
}

impl World {
    /// Whether this credential of this person lets them in at this moment.
    ///
    /// Reads the person's stream and the credential's own ([`stream_of`]).
    #[must_use]
    pub fn good(&self, user: UserId, credential: CredentialId, now: DateTime<Utc>) -> bool {
        match credential {
            CredentialId::Session(id) => self.good_session(user, id, now).is_some(),
            CredentialId::Token(id) => self.good_token(user, id, now).is_some(),
        }
    }

    /// The session, if it is [good](Self::good).
    #[must_use]
    pub fn good_session(&self, user: UserId, id: SessionId, now: DateTime<Utc>) -> Option<&Started> {
        let started = self.session(id).live(now)?;
        (started.user == user && self.user(user).admits(started.position)).then_some(started)
    }

    /// The token, if it is [good](Self::good).
    #[must_use]
    pub fn good_token(&self, user: UserId, id: TokenId, now: DateTime<Utc>) -> Option<&Minted> {
        let minted = self.token(id).live(now)?;
        (minted.user == user && self.user(user).admits(minted.position)).then_some(minted)
    }
}

/// The stream a credential's history is in.
#[must_use]
pub const fn stream_of(credential: CredentialId) -> StreamId {
    match credential {
        CredentialId::Session(id) => StreamId::Session(id),
        CredentialId::Token(id) => StreamId::Token(id),
    }
}

#[cfg(test)]
mod tests;
