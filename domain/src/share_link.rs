//! A link by which whoever knows its code may join a workspace.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tally_events::{
    Event, MemberId, Personal, Position, Recorded, Role, ShareLinkEvent, ShareLinkId, StreamId, WorkspaceId,
    member::{Admission, MemberJoined},
    share_link::{ShareLinkCreated, ShareLinkRevoked, ShareLinkUsed},
};

use crate::{
    credential::Plaintext,
    membership::{Insider, Person},
    policy::{Act, Action},
    workspace::WorkspaceRefusal,
    world::{Command, Context, Decision, World},
};

/// The longest a link may last, in hours.
pub const LIFETIME_HOURS_MAX: i64 = 24 * 365;
/// The most who may join by one link, where a number is given.
pub const USES_MAX: i64 = 100_000;

/// What decisions need to know of a share link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareLink {
    pub created: Option<Created>,
    pub uses: u32,
    pub revoked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    pub workspace: WorkspaceId,
    pub role: Role,
    pub expires_at: Option<DateTime<Utc>>,
    pub max_uses: Option<u32>,
    pub position: Position,
}

impl ShareLink {
    pub const INITIAL: Self = Self { created: None, uses: 0, revoked: false };

    pub fn evolve(&mut self, recorded: &Recorded) {
        let Event::ShareLink(event) = &recorded.event else { return };
        match event {
            ShareLinkEvent::Created(e) => {
                self.created = Some(Created {
                    workspace: e.workspace_id,
                    role: e.role,
                    expires_at: e.expires_at,
                    max_uses: e.max_uses,
                    position: recorded.position,
                });
            }
            ShareLinkEvent::Used(_) => self.uses += 1,
            ShareLinkEvent::Revoked(_) => self.revoked = true,
        }
    }

    /// The link, if somebody can join by it at this moment.
    #[must_use]
    pub fn active(&self, now: DateTime<Utc>) -> Option<&Created> {
        self.created.as_ref().filter(|created| {
            !self.revoked
                && created.expires_at.is_none_or(|expiry| now < expiry)
                && created.max_uses.is_none_or(|most| self.uses < most)
        })
    }
}

/// What may be asked of a new link.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ShareLinkRequestError {
    #[error("expires_in must be between 1 and {LIFETIME_HOURS_MAX} hours")]
    LifetimeOutOfRange,
    #[error("max_uses must be between 1 and {USES_MAX}")]
    UsesOutOfRange,
}

/// Checked bounds of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareLinkRequest {
    lifetime: Option<TimeDelta>,
    max_uses: Option<u32>,
}

impl ShareLinkRequest {
    /// # Errors
    /// A lifetime or a number of uses out of range.
    pub fn new(expires_in_hours: Option<i64>, max_uses: Option<i64>) -> Result<Self, ShareLinkRequestError> {
        if expires_in_hours.is_some_and(|hours| !(1..=LIFETIME_HOURS_MAX).contains(&hours)) {
            return Err(ShareLinkRequestError::LifetimeOutOfRange);
        }
        let max_uses = max_uses
            .map(|uses| u32::try_from(uses).ok().filter(|_| (1..=USES_MAX).contains(&uses)))
            .map(|uses| uses.ok_or(ShareLinkRequestError::UsesOutOfRange))
            .transpose()?;
        Ok(Self { lifetime: expires_in_hours.map(TimeDelta::hours), max_uses })
    }
}

/// Makes a link; the one before it, if it is still active, is revoked with that.
#[derive(Clone, Debug)]
pub struct CreateShareLink {
    pub insider: Insider,
    pub link: ShareLinkId,
    pub code: Plaintext,
    /// Not owner.
    pub role: Role,
    pub request: ShareLinkRequest,
    /// The last link of the workspace, as the index of claims knows it.
    pub holder: Option<ShareLinkId>,
}

impl Act for CreateShareLink {
    const ACTION: Action = Action::CreateShareLink;
}

impl Command for CreateShareLink {
    /// When it expires; none: never.
    type Outcome = Option<DateTime<Utc>>;
    type Refusal = WorkspaceRefusal;

    fn reads(&self) -> Vec<StreamId> {
        let mut reads = self.insider.reads();
        reads.push(self.link.into());
        reads.extend(self.holder.map(StreamId::from));
        reads
    }

    fn begins(&self) -> Vec<StreamId> {
        vec![self.link.into()]
    }

    fn decide(&self, world: &World, context: &Context) -> Result<Decision<Self::Outcome>, WorkspaceRefusal> {
        let own = self.insider.may::<Self>(world, context)?;
        if self.role == Role::Owner || !crate::member::may_manage(own, self.role) {
            return Err(WorkspaceRefusal::RoleTooLow);
        }
        let workspace_id = self.insider.workspace;
        let mut events: Vec<(StreamId, Event)> = Vec::new();
        if let Some(holder) = self.holder {
            let before = world.share_link(holder);
            if before.created.as_ref().is_none_or(|created| created.workspace != workspace_id) {
                return Err(WorkspaceRefusal::ShareLinkChanged);
            }
            if !before.revoked {
                events.push((holder.into(), ShareLinkRevoked { workspace_id }.into()));
            }
        }
        let expires_at = self.request.lifetime.map(|lifetime| context.now + lifetime);
        let created = ShareLinkCreated {
            workspace_id,
            code: Personal::clear(self.code.expose()),
            role: self.role,
            expires_at,
            max_uses: self.request.max_uses,
            replaces: self.holder,
        };
        events.push((self.link.into(), created.into()));
        Ok(Decision::of(expires_at, events))
    }
}

/// Ends a link: nobody joins by it any more.
#[derive(Clone, Copy, Debug)]
pub struct RevokeShareLink {
    pub insider: Insider,
    pub link: ShareLinkId,
}

impl Act for RevokeShareLink {
    const ACTION: Action = Action::RevokeShareLink;
}

impl Command for RevokeShareLink {
    type Outcome = ();
    type Refusal = WorkspaceRefusal;
    const REVOKES: bool = true;

    fn reads(&self) -> Vec<StreamId> {
        let mut reads = self.insider.reads();
        reads.push(self.link.into());
        reads
    }

    fn decide(&self, world: &World, context: &Context) -> Result<Decision<()>, WorkspaceRefusal> {
        self.insider.may::<Self>(world, context)?;
        let link = world.share_link(self.link);
        let workspace_id = self.insider.workspace;
        if link.created.as_ref().is_none_or(|created| created.workspace != workspace_id) {
            return Err(WorkspaceRefusal::ShareLinkNotFound);
        }
        if link.revoked {
            return Ok(Decision::unchanged(()));
        }
        Ok(Decision::of((), [(self.link.into(), ShareLinkRevoked { workspace_id }.into())]))
    }
}

/// Somebody who knows the code comes in.
#[derive(Clone, Copy, Debug)]
pub struct JoinByShareLink {
    pub insider: Insider,
    pub link: ShareLinkId,
}

impl Act for JoinByShareLink {
    const ACTION: Action = Action::JoinByShareLink;
}

impl Command for JoinByShareLink {
    type Outcome = ();
    type Refusal = WorkspaceRefusal;

    fn reads(&self) -> Vec<StreamId> {
        let mut reads = self.insider.reads();
        reads.push(self.link.into());
        reads
    }

    /// A link that is over, or that somebody was put out after, looks like one that never was.
    fn decide(&self, world: &World, context: &Context) -> Result<Decision<()>, WorkspaceRefusal> {
        let Insider { person: Person { user, .. }, workspace } = self.insider;
        self.insider.person.must_stand(world, context)?;
        let active = world.share_link(self.link).active(context.now);
        let lets_in = |created: &&Created| {
            created.workspace == workspace && world.lets_in(created.position, workspace, user)
        };
        let created = active.filter(lets_in);
        let created = created.ok_or(WorkspaceRefusal::ShareLinkNotFound)?;
        if !world.workspace(workspace).is_open() {
            return Err(WorkspaceRefusal::ShareLinkNotFound);
        }
        if world.role_in(workspace, user).is_some() {
            return Err(WorkspaceRefusal::AlreadyMember);
        }
        let used = ShareLinkUsed { workspace_id: workspace, user_id: user };
        let joined = MemberJoined {
            workspace_id: workspace,
            user_id: user,
            role: created.role,
            admission: Admission::ShareLink(self.link),
        };
        let member = MemberId::of(workspace, user);
        Ok(Decision::of((), [(self.link.into(), used.into()), (member.into(), joined.into())]))
    }
}

#[cfg(test)]
mod tests;
