//! Who did it, and with which credential.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::{SessionId, TokenId, UserId};

/// What kind of actor appended an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// Nobody has proven anything yet: someone at the login door.
    Anonymous,
    /// A person, by session or personal access token.
    Person,
    /// Someone with a shell on the machine, through the command line.
    Operator,
    /// The server itself, of its own accord.
    Server,
}

impl ActorKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Person => "person",
            Self::Operator => "operator",
            Self::Server => "server",
        }
    }
}

impl FromStr for ActorKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "anonymous" => Ok(Self::Anonymous),
            "person" => Ok(Self::Person),
            "operator" => Ok(Self::Operator),
            "server" => Ok(Self::Server),
            other => Err(format!("unknown actor kind `{other}`")),
        }
    }
}

/// Who did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Actor {
    pub kind: ActorKind,
    /// The person's id; none for those who have no identity here.
    pub id: Option<Uuid>,
}

impl Actor {
    pub const ANONYMOUS: Self = Self { kind: ActorKind::Anonymous, id: None };
    pub const OPERATOR: Self = Self { kind: ActorKind::Operator, id: None };
    pub const SERVER: Self = Self { kind: ActorKind::Server, id: None };

    #[must_use]
    pub const fn person(user: UserId) -> Self {
        Self { kind: ActorKind::Person, id: Some(user.0) }
    }

    /// The person, if it was one.
    #[must_use]
    pub fn user(&self) -> Option<UserId> {
        self.id.filter(|_| self.kind == ActorKind::Person).map(UserId)
    }
}

/// A credential that acts and mints: the unit of lineage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "snake_case")]
pub enum CredentialId {
    Session(SessionId),
    Token(TokenId),
}

impl CredentialId {
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        match self {
            Self::Session(id) => id.0,
            Self::Token(id) => id.0,
        }
    }
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(id) => write!(f, "session:{id}"),
            Self::Token(id) => write!(f, "token:{id}"),
        }
    }
}
