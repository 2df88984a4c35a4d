//! What happens at the login door of one address.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    facts::{Facts, facts},
    hidden::Hidden,
    ids::{CodeId, LoginId, SessionId, UserId},
    personal::Personal,
    seal::Subject,
};

facts! {
    /// The facts of an address's logins.
    LoginEvent {
        "login.code_issued" v 1 => CodeIssued(LoginCodeIssued) { email, address, user_agent };
        "login.code_refused" v 1 => CodeRefused(LoginCodeRefused) { address, user_agent };
        "login.code_verified" v 1 => CodeVerified(LoginCodeVerified) {};
        "login.code_undeliverable" v 1 => CodeUndeliverable(LoginCodeUndeliverable) {};
    }
}

impl Facts for LoginEvent {
    type Id = LoginId;

    fn subject(&self, _: LoginId) -> Option<Subject> {
        let code = match self {
            Self::CodeIssued(fact) => fact.code_id,
            Self::CodeRefused(fact) => fact.code_id,
            Self::CodeVerified(fact) => fact.code_id,
            Self::CodeUndeliverable(fact) => fact.code_id,
        };
        Some(Subject::Code(code))
    }

    fn concerns(&self, _: LoginId) -> Option<UserId> {
        match self {
            Self::CodeIssued(fact) => fact.user_id,
            Self::CodeRefused(fact) => fact.user_id,
            Self::CodeVerified(fact) => Some(fact.user_id),
            Self::CodeUndeliverable(fact) => fact.user_id,
        }
    }

    fn public_data(&self) -> Value {
        match self {
            Self::CodeIssued(fact) => json!({ "code_id": fact.code_id, "expires_at": fact.expires_at }),
            Self::CodeRefused(fact) => json!({ "code_id": fact.code_id, "reason": fact.reason }),
            Self::CodeVerified(fact) => json!({ "code_id": fact.code_id, "session_id": fact.session_id }),
            Self::CodeUndeliverable(fact) => json!({ "code_id": fact.code_id }),
        }
    }
}

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

/// The mail with the live code did not leave the house: nobody has the code, so it is dead, and it
/// counts against no limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginCodeUndeliverable {
    pub code_id: CodeId,
    /// The account of the address when the code was made, if there was one.
    pub user_id: Option<UserId>,
}
