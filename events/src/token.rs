//! What happens to a token.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    actor::CredentialId,
    hidden::Hidden,
    ids::{TokenId, UserId},
    personal::Personal,
};

/// The kinds of token that live in streams of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    PersonalAccessToken,
}

impl TokenKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PersonalAccessToken => "personal_access_token",
        }
    }
}

/// A token came to be. Its plaintext is in no event: `hash` is what recognises it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenMinted {
    pub kind: TokenKind,
    pub user_id: UserId,
    pub name: Personal,
    /// Hex SHA-256 of the whole token.
    pub hash: Hidden,
    /// The first 12 characters, for display.
    pub prefix: String,
    pub minted_by: CredentialId,
    pub expires_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRenewed {
    pub user_id: UserId,
    pub expires_at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "ancestor", rename_all = "snake_case")]
pub enum RevocationReason {
    /// Its owner asked for it.
    Requested,
    /// A token above it in the line was revoked together with all it had minted.
    Line(TokenId),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRevoked {
    pub user_id: UserId,
    pub reason: RevocationReason,
}
