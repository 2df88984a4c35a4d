//! A person in a workspace.
//!
//! Each has a stream of their own, so that a workspace of ten thousand costs a change of role nothing.
//! That an owner remains is shown by a witness: another owner, whose stream the decision reads too. If
//! the witness stops being an owner meanwhile, the commit fails.

use serde::{Deserialize, Serialize};
use tally_events::{
    Event, MemberEvent, Position, Recorded, Role, StreamId, UserId, WorkspaceId,
    member::{MemberRemoved, MemberRoleChanged, RemovalReason},
};

use crate::{
    membership::Insider,
    policy::{Act, Action},
    workspace::WorkspaceRefusal,
    world::{Command, Context, Decision, World},
};

/// What decisions need to know of a person in a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// None: not in, or no longer.
    pub joined: Option<Joined>,
    /// Where they were last removed or given a lower role: no invitation or link from before that
    /// lets them in. Zero: neither ever happened.
    pub reduced_at: Position,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    pub workspace: WorkspaceId,
    pub user: UserId,
    pub role: Role,
    /// Where they last came in: what was theirs before that is not theirs again.
    pub position: Position,
}

impl Member {
    pub const INITIAL: Self = Self { joined: None, reduced_at: Position::ZERO };

    pub fn evolve(&mut self, recorded: &Recorded) {
        let Event::Member(event) = &recorded.event else { return };
        match event {
            MemberEvent::Joined(e) => {
                self.joined = Some(Joined {
                    workspace: e.workspace_id,
                    user: e.user_id,
                    role: e.role,
                    position: recorded.position,
                });
            }
            MemberEvent::RoleChanged(e) => {
                if let Some(joined) = &mut self.joined {
                    if e.role < joined.role {
                        self.reduced_at = recorded.position;
                    }
                    joined.role = e.role;
                }
            }
            MemberEvent::Removed(e) => {
                self.joined = None;
                match e.reason {
                    RemovalReason::Removed => self.reduced_at = recorded.position,
                    // Whoever left by themselves may come back as they came.
                    RemovalReason::Left => {}
                }
            }
        }
    }
}

/// Somebody whose membership is to change, and who shows that an owner remains.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub user: UserId,
    /// Another owner, as a projection knows it; none: it knows no other.
    pub witness: Option<UserId>,
}

impl Target {
    fn reads(self, insider: &Insider) -> Vec<StreamId> {
        let others = [Some(self.user), self.witness].into_iter().flatten();
        let others = others.map(|user| StreamId::from(insider.member(user)));
        let mut reads = insider.reads();
        reads.extend(others.filter(|stream| *stream != StreamId::from(insider.member(insider.person.user))));
        reads
    }

    /// The role they have now, if whoever has `role` may change it.
    fn manageable_by(self, role: Role, insider: &Insider, world: &World) -> Result<Role, WorkspaceRefusal> {
        let current = world.role_in(insider.workspace, self.user).ok_or(WorkspaceRefusal::MemberNotFound)?;
        if may_manage(role, current) { Ok(current) } else { Err(WorkspaceRefusal::RoleTooLow) }
    }

    /// Whether an owner remains when this one stops being one.
    fn may_step_down(self, insider: &Insider, world: &World) -> Result<(), WorkspaceRefusal> {
        let witness =
            self.witness.filter(|witness| *witness != self.user).ok_or(WorkspaceRefusal::LastOwner)?;
        match world.role_in(insider.workspace, witness) {
            Some(Role::Owner) => Ok(()),
            Some(Role::Admin | Role::Member) | None => Err(WorkspaceRefusal::WitnessGone),
        }
    }
}

/// Only an owner grants, changes or removes an owner.
#[must_use]
pub fn may_manage(actor: Role, target: Role) -> bool {
    match target {
        Role::Owner => actor == Role::Owner,
        Role::Admin | Role::Member => actor >= Role::Admin,
    }
}

/// Gives a member another role.
#[derive(Clone, Copy, Debug)]
pub struct ChangeRole {
    pub insider: Insider,
    pub target: Target,
    pub role: Role,
}

impl Act for ChangeRole {
    const ACTION: Action = Action::ChangeMemberRole;
}

impl Command for ChangeRole {
    type Outcome = ();
    type Refusal = WorkspaceRefusal;
    /// A lower role reaches less, and that must be so everywhere.
    const REVOKES: bool = true;

    fn reads(&self) -> Vec<StreamId> {
        self.target.reads(&self.insider)
    }

    fn decide(&self, world: &World, context: &Context) -> Result<Decision<()>, WorkspaceRefusal> {
        let own = self.insider.may::<Self>(world, context)?;
        let current = self.target.manageable_by(own, &self.insider, world)?;
        if !may_manage(own, self.role) {
            return Err(WorkspaceRefusal::RoleTooLow);
        }
        if current == self.role {
            return Ok(Decision::unchanged(()));
        }
        if current == Role::Owner {
            self.target.may_step_down(&self.insider, world)?;
        }
        let (workspace_id, user_id) = (self.insider.workspace, self.target.user);
        let event = MemberRoleChanged { workspace_id, user_id, role: self.role };
        Ok(Decision::of((), [(self.insider.member(user_id).into(), event.into())]))
    }
}

/// Puts a member out of the workspace.
#[derive(Clone, Copy, Debug)]
pub struct RemoveMember {
    pub insider: Insider,
    pub target: Target,
}

impl Act for RemoveMember {
    const ACTION: Action = Action::RemoveMember;
}

impl Command for RemoveMember {
    type Outcome = ();
    type Refusal = WorkspaceRefusal;
    const REVOKES: bool = true;

    fn reads(&self) -> Vec<StreamId> {
        self.target.reads(&self.insider)
    }

    fn decide(&self, world: &World, context: &Context) -> Result<Decision<()>, WorkspaceRefusal> {
        let own = self.insider.may::<Self>(world, context)?;
        let current = self.target.manageable_by(own, &self.insider, world)?;
        removed(&self.insider, self.target, current, RemovalReason::Removed, world)
    }
}

/// Leaves the workspace by oneself.
#[derive(Clone, Copy, Debug)]
pub struct LeaveWorkspace {
    pub insider: Insider,
    pub witness: Option<UserId>,
}

impl LeaveWorkspace {
    const fn target(&self) -> Target {
        Target { user: self.insider.person.user, witness: self.witness }
    }
}

impl Act for LeaveWorkspace {
    const ACTION: Action = Action::LeaveWorkspace;
}

impl Command for LeaveWorkspace {
    type Outcome = ();
    type Refusal = WorkspaceRefusal;
    const REVOKES: bool = true;

    fn reads(&self) -> Vec<StreamId> {
        self.target().reads(&self.insider)
    }

    fn decide(&self, world: &World, context: &Context) -> Result<Decision<()>, WorkspaceRefusal> {
        let own = self.insider.may::<Self>(world, context)?;
        removed(&self.insider, self.target(), own, RemovalReason::Left, world)
    }
}

fn removed(
    insider: &Insider,
    target: Target,
    current: Role,
    reason: RemovalReason,
    world: &World,
) -> Result<Decision<()>, WorkspaceRefusal> {
    if current == Role::Owner {
        target.may_step_down(insider, world)?;
    }
    let event = MemberRemoved { workspace_id: insider.workspace, user_id: target.user, reason };
    Ok(Decision::of((), [(insider.member(target.user).into(), event.into())]))
}

#[cfg(test)]
mod tests;
