//! A session.

mod console;
mod ending;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tally_events::{
    CredentialId, Event, Hidden, Personal, Position, Recorded, SessionEvent, SessionId, StreamId, UserId,
    session::{ConsoleStarted, SessionMethod, SessionStarted},
};

use crate::{
    policy::{Act, Action},
    principal::{PersonCredential, Principal},
    world::{Command, Context, Decision, World},
};

pub use console::{
    ACCESS_LIFETIME, CONSOLE_LIFETIME_MAX, Console, REFRESH_GRACE, REFRESH_LIFETIME, REPEATS_MAX,
    RefreshRefusal, RefreshSession, Refreshed, RevokeRefreshToken, Used,
};
pub use ending::{EndOtherSessions, EndSession};

/// What decisions need to know of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub started: Option<Started>,
    pub ended: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    pub user: UserId,
    /// How the person proved who they are.
    pub method: SessionMethod,
    /// The session that made this one.
    pub minted_by: Option<CredentialId>,
    /// Of the event that started it.
    pub position: Position,
    pub expires_at: DateTime<Utc>,
    /// What a console session has beside; none for any other.
    pub console: Option<Console>,
}

impl Session {
    pub const INITIAL: Self = Self { started: None, ended: false };

    pub fn evolve(&mut self, recorded: &Recorded) {
        let Event::Session(event) = &recorded.event else { return };
        match event {
            SessionEvent::Started(e) => {
                self.started = Some(Started {
                    user: e.user_id,
                    method: e.method,
                    minted_by: e.minted_by,
                    position: recorded.position,
                    expires_at: e.expires_at,
                    console: e.console.as_ref().map(Console::started),
                });
            }
            SessionEvent::Refreshed(e) => {
                if let Some(Started { expires_at, console: Some(console), .. }) = &mut self.started {
                    *expires_at = e.expires_at;
                    console.refreshed(e, recorded.recorded_at);
                }
            }
            SessionEvent::RefreshRepeated(e) => {
                if let Some(Started { console: Some(console), .. }) = &mut self.started {
                    console.repeated(e);
                }
            }
            SessionEvent::Ended(_) => self.ended = true,
        }
    }

    /// The session, if it has neither ended nor expired at this moment.
    ///
    /// Whether it lets somebody in is for [`World::good`] to say: that is the account's matter too.
    #[must_use]
    pub fn live(&self, now: DateTime<Utc>) -> Option<&Started> {
        self.started.as_ref().filter(|started| !self.ended && now < started.expires_at)
    }
}

/// Where a session or a login attempt came from. Personal: its `Debug` is empty.
#[derive(Clone, Default)]
pub struct Origin {
    /// The client's IP address.
    pub address: Option<String>,
    pub user_agent: Option<String>,
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Origin")
    }
}

impl Origin {
    pub(crate) fn address(&self) -> Option<Personal> {
        self.address.as_deref().map(Personal::clear)
    }

    pub(crate) fn user_agent(&self) -> Option<Personal> {
        self.user_agent.as_deref().map(Personal::clear)
    }
}

/// The event that starts a session.
pub(crate) fn started(
    user_id: UserId,
    method: SessionMethod,
    minted_by: Option<CredentialId>,
    expires_at: DateTime<Utc>,
    origin: &Origin,
) -> SessionStarted {
    let (address, user_agent) = (origin.address(), origin.user_agent());
    SessionStarted { user_id, method, minted_by, expires_at, address, user_agent, console: None }
}

/// What a login opens.
#[derive(Clone, Debug)]
pub enum Opens {
    /// A session that lasts as long as the JWT that shows it.
    Session { lifetime: TimeDelta },
    /// A session of the web console, and what recognises its first refresh token.
    Console { refresh_hash: Hidden },
}

impl Opens {
    /// The event that opens it.
    pub(crate) fn started(
        &self,
        user: UserId,
        method: SessionMethod,
        now: DateTime<Utc>,
        origin: &Origin,
    ) -> SessionStarted {
        match self {
            Self::Session { lifetime } => started(user, method, None, now + *lifetime, origin),
            Self::Console { refresh_hash } => {
                let ends_at = now + CONSOLE_LIFETIME_MAX;
                let console = Some(ConsoleStarted { refresh_hash: refresh_hash.clone(), ends_at });
                SessionStarted { console, ..started(user, method, None, now + REFRESH_LIFETIME, origin) }
            }
        }
    }
}

/// The rules of a session.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SessionRefusal {
    #[error("a session is required")]
    NotASession,
    /// The command line's session was made by another one: it makes none in turn.
    #[error("a session from a login is required")]
    NotFromALogin,
    /// It ended between the guard's look and the decision.
    #[error("the session is no longer live")]
    Ended,
}

/// A session from a login makes another one for the command line.
///
/// One generation only: else a leaked session of the command line could renew itself for ever.
#[derive(Clone, Debug)]
pub struct StartCommandLineSession {
    pub user: UserId,
    pub parent: SessionId,
    pub session: SessionId,
    pub lifetime: TimeDelta,
    pub origin: Origin,
}

impl Act for StartCommandLineSession {
    const ACTION: Action = Action::StartCommandLineSession;
}

impl Command for StartCommandLineSession {
    /// When the new session expires.
    type Outcome = DateTime<Utc>;
    type Refusal = SessionRefusal;

    fn reads(&self) -> Vec<StreamId> {
        vec![self.user.into(), self.parent.into(), self.session.into()]
    }

    fn begins(&self) -> Vec<StreamId> {
        vec![self.session.into()]
    }

    fn decide(&self, world: &World, context: &Context) -> Result<Decision<DateTime<Utc>>, SessionRefusal> {
        let Principal::Person { credential: PersonCredential::Session { .. }, .. } = context.principal else {
            return Err(SessionRefusal::NotASession);
        };
        let parent = CredentialId::Session(self.parent);
        if !context.principal.shows(self.user, parent) {
            return Err(SessionRefusal::Ended);
        }
        match world.good_session(self.user, self.parent, context.now).ok_or(SessionRefusal::Ended)?.method {
            SessionMethod::EmailCode | SessionMethod::Identity => {}
            SessionMethod::CommandLine => return Err(SessionRefusal::NotFromALogin),
        }
        let expires_at = context.now + self.lifetime;
        let event = started(self.user, SessionMethod::CommandLine, Some(parent), expires_at, &self.origin);
        Ok(Decision::of(expires_at, [(self.session.into(), event.into())]))
    }
}

#[cfg(test)]
mod tests;
