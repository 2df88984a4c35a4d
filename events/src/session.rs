//! What happens to a session.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{actor::CredentialId, ids::UserId, personal::Personal};

/// How the person proved who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionMethod {
    /// An e-mailed code.
    EmailCode,
    /// A browser session made this one for the command line.
    CommandLine,
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
