//! An invitation into a workspace.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tally_events::{
    Event, InvitationEvent, InvitationId, MemberId, Personal, Position, Recorded, Role, StreamId, UserId,
    WorkspaceId,
    invitation::{InvitationAccepted, InvitationCreated, InvitationDeclined, InvitationRevoked},
    member::{Admission, MemberJoined},
};

use crate::{
    email::EmailAddress,
    membership::{Insider, Person},
    policy::{Act, Action},
    workspace::WorkspaceRefusal,
    world::{Command, Context, Decision, World},
};

/// How long an invitation can be accepted.
pub const INVITATION_LIFETIME: TimeDelta = TimeDelta::days(7);
/// How long it stays readable whom it was for, counted from the invitation.
pub const READABLE_FOR: TimeDelta = TimeDelta::days(37);

/// What decisions need to know of an invitation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    pub created: Option<Created>,
    pub status: Status,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    pub workspace: WorkspaceId,
    pub role: Role,
    pub expires_at: DateTime<Utc>,
    pub position: Position,
}

/// What became of an invitation; that it expired is for the clock to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Pending,
    Accepted,
    Declined,
    Revoked,
}

impl Status {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Accepted => "accepted",
            Self::Declined => "declined",
            Self::Revoked => "revoked",
        }
    }
}

impl Invitation {
    pub const INITIAL: Self = Self { created: None, status: Status::Pending };

    pub fn evolve(&mut self, recorded: &Recorded) {
        let Event::Invitation(event) = &recorded.event else { return };
        match event {
            InvitationEvent::Created(e) => {
                self.created = Some(Created {
                    workspace: e.workspace_id,
                    role: e.role,
                    expires_at: e.expires_at,
                    position: recorded.position,
                });
            }
            InvitationEvent::Accepted(_) => self.status = Status::Accepted,
            InvitationEvent::Declined(_) => self.status = Status::Declined,
            InvitationEvent::Revoked(_) => self.status = Status::Revoked,
        }
    }

    /// The invitation, if it can be answered at this moment.
    fn open(&self, now: DateTime<Utc>) -> Result<&Created, WorkspaceRefusal> {
        let created = self.created.as_ref().ok_or(WorkspaceRefusal::InvitationNotFound)?;
        match self.status {
            Status::Pending if now < created.expires_at => Ok(created),
            Status::Pending => Err(WorkspaceRefusal::InvitationExpired),
            Status::Accepted | Status::Declined | Status::Revoked => {
                Err(WorkspaceRefusal::InvitationNotPending)
            }
        }
    }
}

/// Invites an address.
#[derive(Clone, Debug)]
pub struct Invite {
    pub insider: Insider,
    pub invitation: InvitationId,
    pub email: EmailAddress,
    /// Not owner: that is for owners to grant to members.
    pub role: Role,
    /// The account of the address, if it has one.
    pub invitee: Option<UserId>,
    /// The last invitation of the address into this workspace, as the index of claims knows it.
    pub holder: Option<InvitationId>,
}

impl Act for Invite {
    const ACTION: Action = Action::InviteMember;
}

impl Command for Invite {
    /// When it expires.
    type Outcome = DateTime<Utc>;
    type Refusal = WorkspaceRefusal;

    fn reads(&self) -> Vec<StreamId> {
        let mut reads = self.insider.reads();
        reads.push(self.invitation.into());
        reads.extend(self.holder.map(StreamId::from));
        if let Some(invitee) = self.invitee.filter(|invitee| *invitee != self.insider.person.user) {
            reads.push(self.insider.member(invitee).into());
        }
        reads
    }

    fn begins(&self) -> Vec<StreamId> {
        vec![self.invitation.into()]
    }

    fn decide(&self, world: &World, context: &Context) -> Result<Decision<DateTime<Utc>>, WorkspaceRefusal> {
        let own = self.insider.may::<Self>(world, context)?;
        if self.role == Role::Owner || !crate::member::may_manage(own, self.role) {
            return Err(WorkspaceRefusal::RoleTooLow);
        }
        let workspace = self.insider.workspace;
        if self.invitee.is_some_and(|user| world.role_in(workspace, user).is_some()) {
            return Err(WorkspaceRefusal::AlreadyMember);
        }
        // One that the invitee can no longer come in by is in nobody's way.
        let lets_in = |created: &Created| {
            self.invitee.is_none_or(|user| world.lets_in(created.position, workspace, user))
        };
        if self.holder.is_some_and(|holder| world.invitation(holder).open(context.now).is_ok_and(lets_in)) {
            return Err(WorkspaceRefusal::AlreadyInvited);
        }
        let expires_at = context.now + INVITATION_LIFETIME;
        let event = InvitationCreated {
            workspace_id: self.insider.workspace,
            inviter_id: self.insider.person.user,
            email: Personal::clear(self.email.as_str()),
            invitee_user_id: self.invitee,
            role: self.role,
            expires_at,
            replaces: self.holder,
        };
        Ok(Decision::of(expires_at, [(self.invitation.into(), event.into())]))
    }
}

/// Takes an invitation back.
#[derive(Clone, Copy, Debug)]
pub struct RevokeInvitation {
    pub insider: Insider,
    pub invitation: InvitationId,
}

impl Act for RevokeInvitation {
    const ACTION: Action = Action::RevokeInvitation;
}

impl Command for RevokeInvitation {
    type Outcome = ();
    type Refusal = WorkspaceRefusal;

    fn reads(&self) -> Vec<StreamId> {
        let mut reads = self.insider.reads();
        reads.push(self.invitation.into());
        reads
    }

    /// One of another workspace is not found, and one that was revoked before stays so.
    fn decide(&self, world: &World, context: &Context) -> Result<Decision<()>, WorkspaceRefusal> {
        self.insider.may::<Self>(world, context)?;
        let invitation = world.invitation(self.invitation);
        let here = |created: &Created| created.workspace == self.insider.workspace;
        if !invitation.created.as_ref().is_some_and(here) {
            return Err(WorkspaceRefusal::InvitationNotFound);
        }
        match invitation.status {
            Status::Pending => {
                let event = InvitationRevoked { workspace_id: self.insider.workspace };
                Ok(Decision::of((), [(self.invitation.into(), event.into())]))
            }
            Status::Revoked => Ok(Decision::unchanged(())),
            Status::Accepted | Status::Declined => Err(WorkspaceRefusal::InvitationNotPending),
        }
    }
}

/// The person an invitation is for comes in. That it is for them, the caller has made sure of: the
/// address of an invitation never changes, nor does that of an account.
#[derive(Clone, Copy, Debug)]
pub struct AcceptInvitation {
    pub insider: Insider,
    pub invitation: InvitationId,
}

impl Act for AcceptInvitation {
    const ACTION: Action = Action::AnswerInvitation;
}

impl Command for AcceptInvitation {
    type Outcome = ();
    type Refusal = WorkspaceRefusal;

    fn reads(&self) -> Vec<StreamId> {
        let mut reads = self.insider.reads();
        reads.push(self.invitation.into());
        reads
    }

    fn decide(&self, world: &World, context: &Context) -> Result<Decision<()>, WorkspaceRefusal> {
        let Insider { person: Person { user, .. }, workspace } = self.insider;
        self.insider.person.must_stand(world, context)?;
        let created = world.invitation(self.invitation).open(context.now)?;
        if created.workspace != workspace || !world.workspace(workspace).is_open() {
            return Err(WorkspaceRefusal::InvitationNotFound);
        }
        let accepted = InvitationAccepted { workspace_id: workspace, user_id: user };
        let mut events: Vec<(StreamId, Event)> = vec![(self.invitation.into(), accepted.into())];
        // Who came in by another way meanwhile keeps the role they have.
        if world.role_in(workspace, user).is_none() {
            if !world.lets_in(created.position, workspace, user) {
                return Err(WorkspaceRefusal::InvitationNotPending);
            }
            let joined = MemberJoined {
                workspace_id: workspace,
                user_id: user,
                role: created.role,
                admission: Admission::Invitation(self.invitation),
            };
            events.push((MemberId::of(workspace, user).into(), joined.into()));
        }
        Ok(Decision::of((), events))
    }
}

/// The person an invitation is for does not want it. As with [`AcceptInvitation`], that it is for them
/// is known.
#[derive(Clone, Copy, Debug)]
pub struct DeclineInvitation {
    pub person: Person,
    pub invitation: InvitationId,
}

impl Act for DeclineInvitation {
    const ACTION: Action = Action::AnswerInvitation;
}

impl Command for DeclineInvitation {
    type Outcome = ();
    type Refusal = WorkspaceRefusal;

    fn reads(&self) -> Vec<StreamId> {
        let [user, credential] = self.person.reads();
        vec![user, credential, self.invitation.into()]
    }

    fn decide(&self, world: &World, context: &Context) -> Result<Decision<()>, WorkspaceRefusal> {
        self.person.must_stand(world, context)?;
        let created = world.invitation(self.invitation).open(context.now)?;
        let event = InvitationDeclined { workspace_id: created.workspace, user_id: self.person.user };
        Ok(Decision::of((), [(self.invitation.into(), event.into())]))
    }
}

#[cfg(test)]
mod tests;
