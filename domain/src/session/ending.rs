//! Ending sessions: one, together with those it started, or all but the one in use.
//!
//! Unlike what makes something new, nothing here asks whether the credential shown is still good: to
//! revoke is always safe, also for one that ended a moment ago.

use std::convert::Infallible;

use tally_events::{
    CredentialId, Event, SessionId, StreamId, UserId,
    session::{SessionEndReason, SessionEnded},
};

use super::Started;
use crate::{
    policy::{Act, Action},
    world::{Command, Context, Decision, World},
};

impl World {
    /// The event that ends a session of this person's; none if it has ended, or is nobody's or
    /// somebody else's: that one is left alone, as if it did not exist.
    fn end(
        &self,
        id: SessionId,
        owner: Option<UserId>,
        reason: SessionEndReason,
    ) -> Option<(StreamId, Event)> {
        self.owned(id, owner)?;
        let ended = SessionEnded { user_id: owner?, reason };
        Some((id.into(), ended.into()))
    }

    /// A session of this person's that has not ended; it may have expired.
    fn owned(&self, id: SessionId, owner: Option<UserId>) -> Option<&Started> {
        let session = self.session(id);
        session.started.as_ref().filter(|started| !session.ended && Some(started.user) == owner)
    }
}

/// The sessions that these events end.
fn ended(events: Vec<(StreamId, Event)>) -> Decision<Vec<SessionId>> {
    let ids = events.iter().map(|(stream, _)| SessionId(stream.uuid())).collect();
    Decision::of(ids, events)
}

/// A person ends a session: the one in use, which is to log out, or another of theirs.
#[derive(Clone, Debug)]
pub struct EndSession {
    pub session: SessionId,
    /// Sessions that it started. They go with it: whoever logs out of the browser means what the
    /// browser let in too, and a leaked session must leave nothing behind that goes on by itself.
    pub below: Vec<SessionId>,
}

impl Act for EndSession {
    const ACTION: Action = Action::EndSession;
}

impl Command for EndSession {
    /// Those that had not ended before.
    type Outcome = Vec<SessionId>;
    type Refusal = Infallible;
    const REVOKES: bool = true;

    fn reads(&self) -> Vec<StreamId> {
        [self.session].iter().chain(&self.below).map(|id| StreamId::from(*id)).collect()
    }

    fn decide(&self, world: &World, context: &Context) -> Result<Decision<Vec<SessionId>>, Infallible> {
        let (owner, root) = (context.principal.user(), CredentialId::Session(self.session));
        let by_itself = context.principal.credential() == Some(root);
        let reason = if by_itself { SessionEndReason::LoggedOut } else { SessionEndReason::Requested };
        let started_by_root =
            |id: &&SessionId| world.owned(**id, owner).is_some_and(|started| started.minted_by == Some(root));
        let below = self.below.iter().filter(started_by_root);
        let below = below.filter_map(|id| world.end(*id, owner, SessionEndReason::ParentEnded));
        Ok(ended(world.end(self.session, owner, reason).into_iter().chain(below).collect()))
    }
}

/// A person ends sessions because they are not the one in use.
#[derive(Clone, Debug)]
pub struct EndOtherSessions {
    pub user: UserId,
    pub sessions: Vec<SessionId>,
}

impl Act for EndOtherSessions {
    const ACTION: Action = Action::EndOtherSessions;
}

impl Command for EndOtherSessions {
    /// Those that had not ended before.
    type Outcome = Vec<SessionId>;
    type Refusal = Infallible;
    const REVOKES: bool = true;

    /// The person's stream too: that there is nothing to end is said as of a position of the log.
    fn reads(&self) -> Vec<StreamId> {
        [self.user.into()].into_iter().chain(self.sessions.iter().map(|id| StreamId::from(*id))).collect()
    }

    /// The session in use stays, whatever the command names.
    fn decide(&self, world: &World, context: &Context) -> Result<Decision<Vec<SessionId>>, Infallible> {
        let owner = context.principal.user();
        let others = self
            .sessions
            .iter()
            .filter(|id| context.principal.credential() != Some(CredentialId::Session(**id)));
        let events = others.filter_map(|id| world.end(*id, owner, SessionEndReason::OthersEnded));
        Ok(ended(events.collect()))
    }
}

#[cfg(test)]
mod tests;
