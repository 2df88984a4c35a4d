//! What happens at the login door of one address.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    hidden::Hidden,
    ids::{CodeId, SessionId, UserId},
    personal::Personal,
};

/// A code was made for the address; every earlier one is dead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginCodeIssued {
    pub code_id: CodeId,
    /// The account of the address at that moment, if there was one.
    pub user_id: Option<UserId>,
    /// Hex of 16 random bytes.
    pub salt: Hidden,
    /// Hex of the HMAC-SHA-256 of salt and code under the server's login-code key.
    pub mac: Hidden,
    pub expires_at: DateTime<Utc>,
    pub email: Personal,
    pub address: Option<Personal>,
    pub user_agent: Option<Personal>,
}

/// Why a code did not let somebody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalReason {
    /// The digits were wrong: one attempt of the live code is gone.
    WrongCode,
    /// The digits were right, and the address may not sign up: the code is used.
    SignupProhibited,
    /// The digits were right, and the account is suspended: the code is used.
    AccountSuspended,
}

/// Somebody tried the live code and was not let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginCodeRefused {
    pub code_id: CodeId,
    pub user_id: Option<UserId>,
    pub reason: RefusalReason,
    pub address: Option<Personal>,
    pub user_agent: Option<Personal>,
}

/// The right code came: it is used, and a session starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginCodeVerified {
    pub code_id: CodeId,
    pub user_id: UserId,
    pub session_id: SessionId,
}
