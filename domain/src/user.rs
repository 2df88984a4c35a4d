//! A person's account.

use serde::{Deserialize, Serialize};
use tally_events::{
    CredentialId, Event, Personal, Position, Recorded, StreamId, UserEvent, UserId,
    user::{UserProfileChanged, UserRegistered, UserReinstated, UserSuspended},
};

use crate::{
    email::EmailAddress,
    policy::{Act, Action},
    profile::ProfileChange,
    standing::stream_of,
    world::{Command, Context, Decision, World},
};

/// What decisions need to know of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub registered: bool,
    pub suspended: bool,
    /// Where it was last suspended or reinstated: credentials from up to there are dead for ever.
    pub credentials_after: Position,
}

impl User {
    pub const INITIAL: Self = Self { registered: false, suspended: false, credentials_after: Position::ZERO };

    pub fn evolve(&mut self, recorded: &Recorded) {
        let Event::User(event) = &recorded.event else { return };
        match event {
            UserEvent::Registered(_) => self.registered = true,
            UserEvent::Suspended(_) => {
                self.suspended = true;
                self.credentials_after = recorded.position;
            }
            UserEvent::Reinstated(_) => {
                self.suspended = false;
                self.credentials_after = recorded.position;
            }
            UserEvent::ProfileChanged(_) | UserEvent::IdentityLinked(_) => {}
        }
    }
}

/// The event that opens an account. Who did not say what they are called is called like their address.
pub(crate) fn registered(email: &EmailAddress, name: Option<&str>) -> UserRegistered {
    let name = name.unwrap_or_else(|| email.local_part());
    UserRegistered { email: Personal::clear(email.as_str()), name: Personal::clear(name) }
}

/// The rules of an account.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UserRefusal {
    #[error("user not found")]
    Unknown,
}

/// The person changes what is shown of them.
#[derive(Clone, Debug)]
pub struct ChangeProfile {
    pub user: UserId,
    /// The credential they do it with.
    pub credential: CredentialId,
    pub change: ProfileChange,
}

impl Act for ChangeProfile {
    const ACTION: Action = Action::ChangeProfile;
}

impl Command for ChangeProfile {
    type Outcome = ();
    type Refusal = UserRefusal;

    fn reads(&self) -> Vec<StreamId> {
        vec![self.user.into(), stream_of(self.credential)]
    }

    /// A credential that ended between the guard's look and the decision speaks for nobody.
    fn decide(&self, world: &World, context: &Context) -> Result<Decision<()>, UserRefusal> {
        if !context.principal.shows(self.user, self.credential)
            || !world.good(self.user, self.credential, context.now)
        {
            return Err(UserRefusal::Unknown);
        }
        let personal = |field: &Option<String>| field.as_deref().map(Personal::clear);
        let changed = UserProfileChanged {
            name: personal(&self.change.name),
            avatar_url: personal(&self.change.avatar_url),
            language: personal(&self.change.language),
            timezone: personal(&self.change.timezone),
            profile_description: personal(&self.change.profile_description),
        };
        if changed == UserProfileChanged::default() {
            return Ok(Decision::unchanged(()));
        }
        Ok(Decision::of((), [(self.user.into(), changed.into())]))
    }
}

/// An operator closes an account: every credential of it is dead at once.
#[derive(Clone, Copy, Debug)]
pub struct SuspendUser {
    pub user: UserId,
}

impl Act for SuspendUser {
    const ACTION: Action = Action::SuspendUser;
}

impl Command for SuspendUser {
    type Outcome = ();
    type Refusal = UserRefusal;
    const REVOKES: bool = true;

    fn reads(&self) -> Vec<StreamId> {
        vec![self.user.into()]
    }

    fn decide(&self, world: &World, _: &Context) -> Result<Decision<()>, UserRefusal> {
        let user = world.user(self.user);
        match (user.registered, user.suspended) {
            (false, _) => Err(UserRefusal::Unknown),
            (true, true) => Ok(Decision::unchanged(())),
            (true, false) => Ok(Decision::of((), [(self.user.into(), UserSuspended {}.into())])),
        }
    }
}

/// An operator opens an account again. Credentials from before stay dead: the person logs in anew.
#[derive(Clone, Copy, Debug)]
pub struct ReinstateUser {
    pub user: UserId,
}

impl Act for ReinstateUser {
    const ACTION: Action = Action::ReinstateUser;
}

impl Command for ReinstateUser {
    type Outcome = ();
    type Refusal = UserRefusal;

    fn reads(&self) -> Vec<StreamId> {
        vec![self.user.into()]
    }

    fn decide(&self, world: &World, _: &Context) -> Result<Decision<()>, UserRefusal> {
        let user = world.user(self.user);
        match (user.registered, user.suspended) {
            (false, _) => Err(UserRefusal::Unknown),
            (true, false) => Ok(Decision::unchanged(())),
            (true, true) => Ok(Decision::of((), [(self.user.into(), UserReinstated {}.into())])),
        }
    }
}

#[cfg(test)]
mod tests;
