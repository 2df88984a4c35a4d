//! What happens to a person in a workspace.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    facts::{Facts, facts},
    ids::{InvitationId, MemberId, ShareLinkId, UserId, WorkspaceId},
    seal::Subject,
};

facts! {
    /// The facts of one person in one workspace.
    MemberEvent {
        "member.joined" v 1 => Joined(MemberJoined) {};
        "member.role_changed" v 1 => RoleChanged(MemberRoleChanged) {};
        "member.removed" v 1 => Removed(MemberRemoved) {};
    }
}

impl MemberEvent {
    const fn place(&self) -> (WorkspaceId, UserId) {
        match self {
            Self::Joined(fact) => (fact.workspace_id, fact.user_id),
            Self::RoleChanged(fact) => (fact.workspace_id, fact.user_id),
            Self::Removed(fact) => (fact.workspace_id, fact.user_id),
        }
    }
}

impl Facts for MemberEvent {
    type Id = MemberId;

    fn subject(&self, _: MemberId) -> Option<Subject> {
        Some(Subject::User(self.place().1))
    }

    fn concerns(&self, _: MemberId) -> Option<UserId> {
        Some(self.place().1)
    }

    fn workspace(&self, _: MemberId) -> Option<WorkspaceId> {
        Some(self.place().0)
    }

    fn public_data(&self) -> Value {
        match self {
            Self::Joined(fact) => json!({ "role": fact.role, "admission": fact.admission }),
            Self::RoleChanged(fact) => json!({ "role": fact.role }),
            Self::Removed(fact) => json!({ "reason": fact.reason }),
        }
    }
}

/// What a member may do: each role may what those before it may, and more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Member,
    Admin,
    Owner,
}

impl Role {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        match text {
            "member" => Ok(Self::Member),
            "admin" => Ok(Self::Admin),
            "owner" => Ok(Self::Owner),
            _ => Err(UnknownRole),
        }
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a role is owner, admin or member")]
pub struct UnknownRole;

/// By which way somebody came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "snake_case")]
pub enum Admission {
    /// They opened the workspace.
    Creation,
    Invitation(InvitationId),
    ShareLink(ShareLinkId),
}

/// Somebody came in, perhaps again. What they could reach before they left does not come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberJoined {
    pub workspace_id: WorkspaceId,
    pub user_id: UserId,
    pub role: Role,
    pub admission: Admission,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRoleChanged {
    pub workspace_id: WorkspaceId,
    pub user_id: UserId,
    pub role: Role,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RemovalReason {
    /// They left by themselves.
    Left,
    /// Somebody who may removed them.
    Removed,
}

/// Somebody is in no longer: nothing of theirs reaches into the workspace from here on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRemoved {
    pub workspace_id: WorkspaceId,
    pub user_id: UserId,
    pub reason: RemovalReason,
}
