//! The shape of a decision: what a command reads, what it decides, what it appends.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tally_events::{
    Event, InvitationId, LoginId, MemberId, Recorded, SessionId, ShareLinkId, StreamId, TokenId, UserId,
    Version, WorkspaceId,
};

use crate::{
    invitation::Invitation, login::Login, member::Member, policy::Act, principal::Principal,
    session::Session, share_link::ShareLink, token::Token, user::User, workspace::Workspace,
};

/// What a decision may know beside history: the moment and who asks.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    pub now: DateTime<Utc>,
    pub principal: Principal,
}

/// A wish to change something.
pub trait Command: Act + Send + Sync {
    /// What the caller is told on success.
    type Outcome: Send;
    /// The rule that was broken.
    type Refusal: std::error::Error + Send + Sync + 'static;
    /// Whether success asserts that something is revoked, and so waits until every replica knows.
    const REVOKES: bool = false;
    /// Whether it is the first that hears of somebody who has proven nothing. Then it reads what it rests
    /// on anew: from the time it takes they must not learn what is remembered.
    const ANSWERS_STRANGERS: bool = true;

    /// Every stream the decision rests on. It holds only if none of them moved meanwhile.
    fn reads(&self) -> Vec<StreamId>;

    /// Those of [`reads`](Self::reads) that this command begins, with ids just drawn for it.
    /// Nobody looks for history in them; should there be some, the commit finds out.
    fn begins(&self) -> Vec<StreamId> {
        Vec::new()
    }

    /// Decides. "Already so" is a success without events.
    ///
    /// # Errors
    /// The rule that was broken; then nothing happens.
    fn decide(&self, world: &World, context: &Context) -> Result<Decision<Self::Outcome>, Self::Refusal>;
}

/// What to append, all or nothing, and what to tell the caller once it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<O> {
    pub events: Vec<(StreamId, Event)>,
    pub outcome: O,
}

impl<O> Decision<O> {
    /// Success without a change.
    #[must_use]
    pub const fn unchanged(outcome: O) -> Self {
        Self { events: Vec::new(), outcome }
    }

    #[must_use]
    pub fn of(outcome: O, events: impl IntoIterator<Item = (StreamId, Event)>) -> Self {
        Self { events: events.into_iter().collect(), outcome }
    }
}

// The table: the name by which a decision asks for a stream, its id, and its state.
macro_rules! states {
    ($($name:ident($id:ident): $state:ident;)*) => {
        /// The folded state of one stream.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum State {
            $($state($state),)*
        }

        impl State {
            /// The state of a stream in which nothing has happened.
            #[must_use]
            pub const fn initial(stream: StreamId) -> Self {
                match stream {
                    $(StreamId::$state(_) => Self::$state($state::INITIAL),)*
                }
            }

            /// Folds one event. It cannot fail: it believes history.
            pub fn evolve(&mut self, recorded: &Recorded) {
                match self {
                    $(Self::$state(state) => state.evolve(recorded),)*
                }
            }
        }

        // To look at a stream that `reads` forgot is a bug: nothing would notice the stream moving
        // before the commit. Tests fail at it. In a release the stream looks as if nothing had happened
        // in it: there is no account, session or token to let anybody in, and a commit that appends to
        // it expects version 0 of it and fails.
        impl World {
            $(/// The state of a stream that the command reads.
            ///
            /// # Panics
            /// In debug builds, when the command's `reads` does not name the stream.
            #[must_use]
            pub fn $name(&self, id: $id) -> &$state {
                let stream = StreamId::$state(id);
                let read = self.streams.get(&stream);
                debug_assert!(read.is_some(), "{stream} was not read");
                match read {
                    Some((_, State::$state(state))) => state,
                    _ => const { &$state::INITIAL },
                }
            })*
        }
    };
}
states! {
    user(UserId): User;
    login(LoginId): Login;
    session(SessionId): Session;
    token(TokenId): Token;
    workspace(WorkspaceId): Workspace;
    member(MemberId): Member;
    invitation(InvitationId): Invitation;
    share_link(ShareLinkId): ShareLink;
}

impl State {
    /// Raise it when the shape or meaning of any state changes: older snapshots are then ignored.
    pub const SNAPSHOT_VERSION: i16 = 2;
}

/// The streams a command reads, folded, each with the version the decision rests on.
#[derive(Clone, Debug, Default)]
pub struct World {
    streams: BTreeMap<StreamId, (Version, State)>,
}

impl World {
    pub fn insert(&mut self, stream: StreamId, version: Version, state: State) {
        self.streams.insert(stream, (version, state));
    }

    /// Each stream with the version the decision rests on.
    pub fn versions(&self) -> impl Iterator<Item = (StreamId, Version)> {
        self.streams.iter().map(|(stream, (version, _))| (*stream, *version))
    }

    /// A world told as a story, for given/when/then tests: the streams that are read, and no other.
    #[must_use]
    pub fn given(reads: &[StreamId], history: &[Recorded]) -> Self {
        let mut world = Self::default();
        for stream in reads {
            world.insert(*stream, Version::ZERO, State::initial(*stream));
        }
        for recorded in history {
            if let Some((version, state)) = world.streams.get_mut(&recorded.stream) {
                *version = version.next();
                state.evolve(recorded);
            }
        }
        world
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ADA, EVE};

    #[test]
    fn a_stream_that_was_read_and_is_empty_is_in_its_initial_state() {
        assert_eq!(World::given(&[ADA.into()], &[]).user(ADA), &User::INITIAL);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "was not read")]
    fn a_forgotten_read_is_noticed() {
        let _ = World::given(&[ADA.into()], &[]).user(EVE);
    }

    #[test]
    #[cfg(not(debug_assertions))]
    fn in_a_release_a_forgotten_read_lets_nobody_in() {
        assert_eq!(World::given(&[ADA.into()], &[]).user(EVE), &User::INITIAL);
    }
}
