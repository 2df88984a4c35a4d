//! Who acts, by which credential, and in which workspace: what every decision there rests on.

use tally_events::{CredentialId, MemberId, Position, Role, StreamId, UserId, WorkspaceId};

use crate::{
    policy::{self, Act},
    principal::Principal,
    standing::stream_of,
    workspace::WorkspaceRefusal,
    world::{Context, World},
};

/// A live membership, as a projection knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    pub workspace: WorkspaceId,
    pub user: UserId,
    pub role: Role,
}

/// A person, by the credential they showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Person {
    pub user: UserId,
    pub credential: CredentialId,
}

impl Person {
    /// The person behind a principal; none for nobody and for operators.
    #[must_use]
    pub fn of(principal: &Principal) -> Option<Self> {
        Some(Self { user: principal.user()?, credential: principal.credential()? })
    }

    pub(crate) fn reads(&self) -> [StreamId; 2] {
        [self.user.into(), stream_of(self.credential)]
    }

    /// A credential that ended between the guard's look and the decision speaks for nobody.
    pub(crate) fn must_stand(&self, world: &World, context: &Context) -> Result<(), WorkspaceRefusal> {
        let stands = context.principal.shows(self.user, self.credential)
            && world.good(self.user, self.credential, context.now);
        if stands { Ok(()) } else { Err(WorkspaceRefusal::CredentialEnded) }
    }

    #[must_use]
    pub const fn within(self, workspace: WorkspaceId) -> Insider {
        Insider { person: self, workspace }
    }
}

/// A person who acts in a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insider {
    pub person: Person,
    pub workspace: WorkspaceId,
}

impl Insider {
    /// The stream of anybody's membership here.
    pub(crate) fn member(&self, user: UserId) -> MemberId {
        MemberId::of(self.workspace, user)
    }

    pub(crate) fn reads(&self) -> Vec<StreamId> {
        let [user, credential] = self.person.reads();
        vec![user, credential, self.workspace.into(), self.member(self.person.user).into()]
    }

    /// The role of the one who asks, if it is what policy wants for such a command: asked again of the
    /// streams the decision rests on, because roles change between the guard's look and the commit.
    pub(crate) fn may<C: Act>(&self, world: &World, context: &Context) -> Result<Role, WorkspaceRefusal> {
        self.person.must_stand(world, context)?;
        let role = world.role_in(self.workspace, self.person.user).ok_or(WorkspaceRefusal::NotFound)?;
        if policy::role_needed(C::ACTION).is_some_and(|needed| role >= needed) {
            Ok(role)
        } else {
            Err(WorkspaceRefusal::RoleTooLow)
        }
    }
}

impl World {
    /// Somebody's role in a workspace that is still there; reads the streams of both.
    #[must_use]
    pub fn role_in(&self, workspace: WorkspaceId, user: UserId) -> Option<Role> {
        let joined = self.member(MemberId::of(workspace, user)).joined.as_ref()?;
        self.workspace(workspace).is_open().then_some(joined.role)
    }

    /// Whether what was given out at this position can let somebody into a workspace: they were neither
    /// removed nor given a lower role since. Reads the stream of the membership.
    pub(crate) fn lets_in(&self, given_out: Position, workspace: WorkspaceId, user: UserId) -> bool {
        given_out > self.member(MemberId::of(workspace, user)).reduced_at
    }
}
