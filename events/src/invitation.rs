//! What happens to an invitation.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    facts::{Facts, facts},
    ids::{InvitationId, UserId, WorkspaceId},
    member::Role,
    personal::Personal,
    seal::Subject,
};

facts! {
    /// The facts of an invitation.
    InvitationEvent {
        "invitation.created" v 1 => Created(InvitationCreated) { email };
        "invitation.accepted" v 1 => Accepted(InvitationAccepted) {};
        "invitation.declined" v 1 => Declined(InvitationDeclined) {};
        "invitation.revoked" v 1 => Revoked(InvitationRevoked) {};
    }
}

impl Facts for InvitationEvent {
    type Id = InvitationId;

    fn subject(&self, invitation: InvitationId) -> Option<Subject> {
        Some(Subject::Invitation(invitation))
    }

    fn concerns(&self, _: InvitationId) -> Option<UserId> {
        match self {
            Self::Created(fact) => fact.invitee_user_id,
            Self::Accepted(fact) => Some(fact.user_id),
            Self::Declined(fact) => Some(fact.user_id),
            Self::Revoked(_) => None,
        }
    }

    fn workspace(&self, _: InvitationId) -> Option<WorkspaceId> {
        Some(match self {
            Self::Created(fact) => fact.workspace_id,
            Self::Accepted(fact) => fact.workspace_id,
            Self::Declined(fact) => fact.workspace_id,
            Self::Revoked(fact) => fact.workspace_id,
        })
    }

    fn public_data(&self) -> Value {
        match self {
            Self::Created(fact) => json!({ "role": fact.role, "expires_at": fact.expires_at }),
            Self::Accepted(_) | Self::Declined(_) | Self::Revoked(_) => json!({}),
        }
    }
}

/// An address was invited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvitationCreated {
    pub workspace_id: WorkspaceId,
    pub inviter_id: UserId,
    pub email: Personal,
    /// The account of the address at that moment, if there was one.
    pub invitee_user_id: Option<UserId>,
    pub role: Role,
    pub expires_at: DateTime<Utc>,
    /// The earlier invitation of the address, over by then.
    pub replaces: Option<InvitationId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvitationAccepted {
    pub workspace_id: WorkspaceId,
    pub user_id: UserId,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvitationDeclined {
    pub workspace_id: WorkspaceId,
    pub user_id: UserId,
}

/// Somebody who may took it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvitationRevoked {
    pub workspace_id: WorkspaceId,
}
