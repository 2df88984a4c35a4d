//! What happens to a workspace.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    event::Event,
    facts::{Facts, facts},
    ids::{UserId, WorkspaceId},
    personal::Personal,
    seal::Subject,
};

facts! {
    /// The facts of a workspace.
    WorkspaceEvent {
        "workspace.created" v 1 => Created(Box<WorkspaceCreated>) {
            slug, name, description, context, settings, repos, issue_prefix, avatar_url
        };
        "workspace.changed" v 1 => Changed(Box<WorkspaceChanged>) {
            name, description, context, settings, repos, issue_prefix, avatar_url
        };
        "workspace.deleted" v 1 => Deleted(WorkspaceDeleted) {};
    }
}

// Rare, and several times as large as any other fact: kept apart, so that those need no more room.
impl From<WorkspaceCreated> for Event {
    fn from(fact: WorkspaceCreated) -> Self {
        Box::new(fact).into()
    }
}

impl From<WorkspaceChanged> for Event {
    fn from(fact: WorkspaceChanged) -> Self {
        Box::new(fact).into()
    }
}

impl Facts for WorkspaceEvent {
    type Id = WorkspaceId;

    fn subject(&self, workspace: WorkspaceId) -> Option<Subject> {
        Some(Subject::Workspace(workspace))
    }

    fn concerns(&self, _: WorkspaceId) -> Option<UserId> {
        None
    }

    fn workspace(&self, workspace: WorkspaceId) -> Option<WorkspaceId> {
        Some(workspace)
    }

    fn public_data(&self) -> Value {
        match self {
            Self::Created(_) | Self::Changed(_) | Self::Deleted(_) => json!({}),
        }
    }
}

/// Somebody opened a workspace. What people call and say in it is theirs, and sealed like it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceCreated {
    pub slug: Personal,
    pub name: Personal,
    pub issue_prefix: Personal,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Personal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Personal>,
    /// A JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Personal>,
    /// A JSON array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repos: Option<Personal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<Personal>,
    /// The deleted workspace whose slug this one took over.
    pub replaces: Option<WorkspaceId>,
}

/// Only the fields that were sent; an empty text clears the field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceChanged {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Personal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Personal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Personal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Personal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repos: Option<Personal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issue_prefix: Option<Personal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<Personal>,
}

/// An owner ended it: nobody is a member of it any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceDeleted {}
