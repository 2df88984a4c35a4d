//! What happens to a token.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    actor::CredentialId,
    facts::{Facts, facts},
    hidden::Hidden,
    ids::{SessionId, TokenId, UserId},
    personal::Personal,
    seal::Subject,
};

facts! {
    /// The facts of a token.
    TokenEvent {
        "token.minted" v 1 => Minted(TokenMinted) { name };
        "token.renewed" v 1 => Renewed(TokenRenewed) {};
        "token.revoked" v 1 => Revoked(TokenRevoked) {};
    }
}

impl TokenEvent {
    const fn user_id(&self) -> UserId {
        match self {
            Self::Minted(fact) => fact.user_id,
            Self::Renewed(fact) => fact.user_id,
            Self::Revoked(fact) => fact.user_id,
        }
    }
}

impl Facts for TokenEvent {
    type Id = TokenId;

    fn subject(&self, _: TokenId) -> Option<Subject> {
        Some(Subject::User(self.user_id()))
    }

    fn concerns(&self, _: TokenId) -> Option<UserId> {
        Some(self.user_id())
    }

    fn public_data(&self) -> Value {
        match self {
            Self::Minted(fact) => json!({
                "kind": fact.kind, "prefix": fact.prefix, "minted_by": fact.minted_by, "expires_at": fact.expires_at,
            }),
            Self::Renewed(fact) => json!({ "expires_at": fact.expires_at }),
            Self::Revoked(fact) => json!({ "reason": fact.reason }),
        }
    }
}

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
    /// The session that minted it, or a token above it, was ended together with all it had minted.
    Session(SessionId),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRevoked {
    pub user_id: UserId,
    pub reason: RevocationReason,
}
