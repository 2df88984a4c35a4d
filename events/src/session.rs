//! What happens to a session.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    actor::CredentialId,
    facts::{Facts, facts},
    ids::{SessionId, UserId},
    personal::Personal,
    seal::Subject,
};

facts! {
    /// The facts of a session.
    SessionEvent {
        "session.started" v 1 => Started(SessionStarted) { address, user_agent };
        "session.ended" v 1 => Ended(SessionEnded) {};
    }
}

impl SessionEvent {
    const fn user_id(&self) -> UserId {
        match self {
            Self::Started(fact) => fact.user_id,
            Self::Ended(fact) => fact.user_id,
        }
    }
}

impl Facts for SessionEvent {
    type Id = SessionId;

    fn subject(&self, _: SessionId) -> Option<Subject> {
        Some(Subject::User(self.user_id()))
    }

    fn concerns(&self, _: SessionId) -> Option<UserId> {
        Some(self.user_id())
    }

    fn public_data(&self) -> Value {
        match self {
            Self::Started(fact) => json!({
                "method": fact.method, "minted_by": fact.minted_by, "expires_at": fact.expires_at,
            }),
            Self::Ended(fact) => json!({ "reason": fact.reason }),
        }
    }
}

/// How the person proved who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionMethod {
    /// An e-mailed code.
    EmailCode,
    /// A browser session made this one for the command line.
    CommandLine,
    /// An account at an OpenID Connect issuer.
    Identity,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStarted {
    pub user_id: UserId,
    pub method: SessionMethod,
    /// The session that made this one; none at a login door.
    pub minted_by: Option<CredentialId>,
    pub expires_at: DateTime<Utc>,
    pub address: Option<Personal>,
    pub user_agent: Option<Personal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEndReason {
    LoggedOut,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEnded {
    pub user_id: UserId,
    pub reason: SessionEndReason,
}
