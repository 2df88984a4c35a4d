//! A workspace.

use serde::{Deserialize, Serialize};
use tally_events::{
    Event, MemberId, Personal, Recorded, Role, StreamId, WorkspaceEvent, WorkspaceId,
    member::{Admission, MemberJoined},
    workspace::{WorkspaceChanged, WorkspaceCreated, WorkspaceDeleted},
};

use crate::{
    membership::{Insider, Person},
    policy::{Act, Action},
    world::{Command, Context, Decision, World},
};

pub mod fields;

use fields::{Slug, WorkspaceFields};

/// What decisions need to know of a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workspace {
    pub created: bool,
    pub deleted: bool,
}

impl Workspace {
    pub const INITIAL: Self = Self { created: false, deleted: false };

    pub fn evolve(&mut self, recorded: &Recorded) {
        let Event::Workspace(event) = &recorded.event else { return };
        match event {
            WorkspaceEvent::Created(_) => self.created = true,
            WorkspaceEvent::Deleted(_) => self.deleted = true,
            WorkspaceEvent::Changed(_) => {}
        }
    }

    /// Whether anybody can be in it.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.created && !self.deleted
    }
}

/// The rules of workspaces and of all that is in them, in the words clients know.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum WorkspaceRefusal {
    /// It ended between the guard's look and the decision.
    #[error("the credential is no longer live")]
    CredentialEnded,
    /// It is not there, or the one who asks is not in it: nobody is told which.
    #[error("workspace not found")]
    NotFound,
    #[error("insufficient permissions")]
    RoleTooLow,
    #[error("workspace slug already exists")]
    SlugTaken,
    #[error("workspace must have at least one owner")]
    LastOwner,
    /// Whoever was to show that an owner remains is no owner any more: look for another.
    #[error("the owners of the workspace changed")]
    WitnessGone,
    #[error("member not found")]
    MemberNotFound,
    #[error("user is already a member")]
    AlreadyMember,
    #[error("invitation already pending for this email")]
    AlreadyInvited,
    #[error("invitation not found")]
    InvitationNotFound,
    #[error("invitation is not pending")]
    InvitationNotPending,
    #[error("invitation has expired")]
    InvitationExpired,
    #[error("share link not found")]
    ShareLinkNotFound,
    /// Another link took the place of the one that was to be replaced.
    #[error("the share link of the workspace changed")]
    ShareLinkChanged,
}

/// Opens a workspace; the one who asks is its first owner.
#[derive(Clone, Debug)]
pub struct CreateWorkspace {
    pub person: Person,
    pub workspace: WorkspaceId,
    pub slug: Slug,
    /// With a name and an issue prefix.
    pub fields: WorkspaceFields,
    /// Who holds the slug, as the index of claims knows it.
    pub holder: Option<WorkspaceId>,
}

impl Act for CreateWorkspace {
    const ACTION: Action = Action::CreateWorkspace;
}

impl Command for CreateWorkspace {
    type Outcome = ();
    type Refusal = WorkspaceRefusal;

    fn reads(&self) -> Vec<StreamId> {
        let new = [self.workspace.into(), MemberId::of(self.workspace, self.person.user).into()];
        let holder = self.holder.map(StreamId::from);
        self.person.reads().into_iter().chain(new).chain(holder).collect()
    }

    fn begins(&self) -> Vec<StreamId> {
        vec![self.workspace.into()]
    }

    fn decide(&self, world: &World, context: &Context) -> Result<Decision<()>, WorkspaceRefusal> {
        self.person.must_stand(world, context)?;
        // The slug of a deleted workspace may be had again.
        if self.holder.is_some_and(|holder| world.workspace(holder).is_open()) {
            return Err(WorkspaceRefusal::SlugTaken);
        }
        let created = self.fields.created(&self.slug, self.holder);
        let joined = MemberJoined {
            workspace_id: self.workspace,
            user_id: self.person.user,
            role: Role::Owner,
            admission: Admission::Creation,
        };
        let member = MemberId::of(self.workspace, self.person.user);
        Ok(Decision::of((), [(self.workspace.into(), created.into()), (member.into(), joined.into())]))
    }
}

impl WorkspaceFields {
    fn created(&self, slug: &Slug, replaces: Option<WorkspaceId>) -> WorkspaceCreated {
        let text = |field: &Option<String>| Personal::clear(field.as_deref().unwrap_or_default());
        let given =
            |field: &Option<String>| field.as_deref().filter(|text| !text.is_empty()).map(Personal::clear);
        WorkspaceCreated {
            slug: Personal::clear(slug.as_str()),
            name: text(&self.name),
            issue_prefix: text(&self.issue_prefix),
            description: given(&self.description),
            context: given(&self.context),
            settings: given(&self.settings),
            repos: given(&self.repos),
            avatar_url: given(&self.avatar_url),
            replaces,
        }
    }
}

/// Changes what is said of a workspace.
#[derive(Clone, Debug)]
pub struct ChangeWorkspace {
    pub insider: Insider,
    pub fields: WorkspaceFields,
}

impl Act for ChangeWorkspace {
    const ACTION: Action = Action::ChangeWorkspace;
}

impl Command for ChangeWorkspace {
    type Outcome = ();
    type Refusal = WorkspaceRefusal;

    fn reads(&self) -> Vec<StreamId> {
        self.insider.reads()
    }

    fn decide(&self, world: &World, context: &Context) -> Result<Decision<()>, WorkspaceRefusal> {
        self.insider.may::<Self>(world, context)?;
        let personal = |field: &Option<String>| field.as_deref().map(Personal::clear);
        let changed = WorkspaceChanged {
            name: personal(&self.fields.name),
            description: personal(&self.fields.description),
            context: personal(&self.fields.context),
            settings: personal(&self.fields.settings),
            repos: personal(&self.fields.repos),
            issue_prefix: personal(&self.fields.issue_prefix),
            avatar_url: personal(&self.fields.avatar_url),
        };
        if changed == WorkspaceChanged::default() {
            return Ok(Decision::unchanged(()));
        }
        Ok(Decision::of((), [(self.insider.workspace.into(), changed.into())]))
    }
}

/// Ends a workspace: nobody is a member of it any more, and nothing reaches into it.
#[derive(Clone, Copy, Debug)]
pub struct DeleteWorkspace {
    pub insider: Insider,
}

impl Act for DeleteWorkspace {
    const ACTION: Action = Action::DeleteWorkspace;
}

impl Command for DeleteWorkspace {
    type Outcome = ();
    type Refusal = WorkspaceRefusal;
    const REVOKES: bool = true;

    fn reads(&self) -> Vec<StreamId> {
        self.insider.reads()
    }

    fn decide(&self, world: &World, context: &Context) -> Result<Decision<()>, WorkspaceRefusal> {
        self.insider.may::<Self>(world, context)?;
        Ok(Decision::of((), [(self.insider.workspace.into(), WorkspaceDeleted {}.into())]))
    }
}

#[cfg(test)]
mod tests;
