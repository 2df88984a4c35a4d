//! What happens to a share link.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    facts::{Facts, facts},
    ids::{ShareLinkId, UserId, WorkspaceId},
    member::Role,
    personal::Personal,
    seal::Subject,
};

facts! {
    /// The facts of a share link.
    ShareLinkEvent {
        "share_link.created" v 1 => Created(ShareLinkCreated) { code };
        "share_link.used" v 1 => Used(ShareLinkUsed) {};
        "share_link.revoked" v 1 => Revoked(ShareLinkRevoked) {};
    }
}

impl Facts for ShareLinkEvent {
    type Id = ShareLinkId;

    fn subject(&self, _: ShareLinkId) -> Option<Subject> {
        let workspace = match self {
            Self::Created(fact) => fact.workspace_id,
            Self::Used(fact) => fact.workspace_id,
            Self::Revoked(fact) => fact.workspace_id,
        };
        Some(Subject::Workspace(workspace))
    }

    fn concerns(&self, _: ShareLinkId) -> Option<UserId> {
        match self {
            Self::Used(fact) => Some(fact.user_id),
            Self::Created(_) | Self::Revoked(_) => None,
        }
    }

    fn workspace(&self, _: ShareLinkId) -> Option<WorkspaceId> {
        Some(match self {
            Self::Created(fact) => fact.workspace_id,
            Self::Used(fact) => fact.workspace_id,
            Self::Revoked(fact) => fact.workspace_id,
        })
    }

    fn public_data(&self) -> Value {
        match self {
            Self::Created(fact) => json!({
                "role": fact.role, "expires_at": fact.expires_at, "max_uses": fact.max_uses,
            }),
            Self::Used(_) | Self::Revoked(_) => json!({}),
        }
    }

    /// Whoever knows the code may join, and who reads the trail need not.
    fn withheld(&self) -> &'static [&'static str] {
        &["code"]
    }
}

/// A link came to be. Its code can be shown again to those who manage the workspace, and so it is
/// sealed and not hashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareLinkCreated {
    pub workspace_id: WorkspaceId,
    pub code: Personal,
    pub role: Role,
    pub expires_at: Option<DateTime<Utc>>,
    /// How many may join by it; none: any number.
    pub max_uses: Option<u32>,
    /// The link of the workspace before it, over by then.
    pub replaces: Option<ShareLinkId>,
}

/// Somebody joined by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareLinkUsed {
    pub workspace_id: WorkspaceId,
    pub user_id: UserId,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareLinkRevoked {
    pub workspace_id: WorkspaceId,
}
