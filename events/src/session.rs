//! What happens to a session.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    actor::CredentialId,
    facts::{Facts, facts},
    hidden::Hidden,
    ids::{SessionId, UserId},
    personal::Personal,
    seal::Subject,
};

facts! {
    /// The facts of a session.
    SessionEvent {
        "session.started" v 1 => Started(SessionStarted) { address, user_agent };
        "session.refreshed" v 1 => Refreshed(SessionRefreshed) { address, user_agent };
        "session.refresh_repeated" v 1 => RefreshRepeated(SessionRefreshRepeated) { address, user_agent };
        "session.ended" v 1 => Ended(SessionEnded) {};
    }
}

impl SessionEvent {
    const fn user_id(&self) -> UserId {
        match self {
            Self::Started(fact) => fact.user_id,
            Self::Refreshed(fact) => fact.user_id,
            Self::RefreshRepeated(fact) => fact.user_id,
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
            Self::Started(fact) => {
                let mut data = json!({
                    "method": fact.method, "minted_by": fact.minted_by, "expires_at": fact.expires_at,
                });
                if let Some(console) = &fact.console {
                    data["console"] = json!({ "ends_at": console.ends_at });
                }
                data
            }
            Self::Refreshed(fact) => json!({ "expires_at": fact.expires_at }),
            Self::RefreshRepeated(_) => json!({}),
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
    /// Of a console session: unless it is refreshed before.
    pub expires_at: DateTime<Utc>,
    pub address: Option<Personal>,
    pub user_agent: Option<Personal>,
    /// What a console session has beside; none for any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<ConsoleStarted>,
}

/// A session of the web console: short access tokens, and refresh tokens that replace each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleStarted {
    /// Hex SHA-256 of its first refresh token.
    pub refresh_hash: Hidden,
    /// No refresh carries it beyond this.
    pub ends_at: DateTime<Utc>,
}

/// A refresh token was used, and another one took its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRefreshed {
    pub user_id: UserId,
    /// Hex SHA-256 of the token that was used. Every other one from before is dead with it.
    pub used_hash: Hidden,
    /// Hex SHA-256 of the one that took its place.
    pub refresh_hash: Hidden,
    pub expires_at: DateTime<Utc>,
    pub address: Option<Personal>,
    pub user_agent: Option<Personal>,
}

/// The refresh token that was used last came once more, moments later: its holder may have lost the
/// answer. There is now one more that may be used next, and the first of them that is kills the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRefreshRepeated {
    pub user_id: UserId,
    /// Hex SHA-256 of the further token.
    pub refresh_hash: Hidden,
    pub address: Option<Personal>,
    pub user_agent: Option<Personal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEndReason {
    /// By itself.
    LoggedOut,
    /// Its owner ended it with another credential.
    Requested,
    /// Its owner ended all but the one in use.
    OthersEnded,
    /// The session that had started it ended.
    ParentEnded,
    /// A refresh token came that had been used before: two hold what one was given.
    RefreshTokenReused,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEnded {
    pub user_id: UserId,
    pub reason: SessionEndReason,
}
