//! Who is asking: a typed value, made by the guard and by the command line's operator commands.

use chrono::{DateTime, Utc};
use tally_events::{Actor, CredentialId, SessionId, TokenId, UserId};

use crate::credential::CredentialKind;

/// Whoever makes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Nobody has proven anything: a caller of the login routes.
    Anonymous,
    /// Someone with a shell on the machine.
    Operator,
    /// The server itself, acting on what it alone knows. No request makes one.
    Server,
    Person {
        user: UserId,
        credential: PersonCredential,
    },
}

/// What a person showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersonCredential {
    Session {
        id: SessionId,
        expires_at: DateTime<Utc>,
    },
    /// By an access token; its expiry, which comes long before the session's.
    ConsoleSession {
        id: SessionId,
        expires_at: DateTime<Utc>,
    },
    PersonalAccessToken {
        id: TokenId,
        expires_at: Option<DateTime<Utc>>,
    },
}

/// What policy distinguishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PrincipalKind {
    Anonymous,
    Operator,
    Server,
    Credential(CredentialKind),
}

impl Principal {
    #[must_use]
    pub const fn kind(&self) -> PrincipalKind {
        match self {
            Self::Anonymous => PrincipalKind::Anonymous,
            Self::Operator => PrincipalKind::Operator,
            Self::Server => PrincipalKind::Server,
            Self::Person { credential, .. } => PrincipalKind::Credential(credential.kind()),
        }
    }

    /// The person behind the request, if there is one.
    #[must_use]
    pub const fn user(&self) -> Option<UserId> {
        match self {
            Self::Anonymous | Self::Operator | Self::Server => None,
            Self::Person { user, .. } => Some(*user),
        }
    }

    /// How events name this principal.
    #[must_use]
    pub const fn actor(&self) -> Actor {
        match self {
            Self::Anonymous => Actor::ANONYMOUS,
            Self::Operator => Actor::OPERATOR,
            Self::Server => Actor::SERVER,
            Self::Person { user, .. } => Actor::person(*user),
        }
    }

    #[must_use]
    pub const fn credential(&self) -> Option<CredentialId> {
        match self {
            Self::Anonymous | Self::Operator | Self::Server => None,
            Self::Person { credential, .. } => Some(credential.id()),
        }
    }

    /// Whether this is that person, by that credential.
    #[must_use]
    pub fn shows(&self, user: UserId, credential: CredentialId) -> bool {
        self.user() == Some(user) && self.credential() == Some(credential)
    }
}

impl PersonCredential {
    #[must_use]
    pub const fn id(&self) -> CredentialId {
        match self {
            Self::Session { id, .. } | Self::ConsoleSession { id, .. } => CredentialId::Session(*id),
            Self::PersonalAccessToken { id, .. } => CredentialId::Token(*id),
        }
    }

    #[must_use]
    pub const fn kind(&self) -> CredentialKind {
        match self {
            Self::Session { .. } => CredentialKind::Session,
            Self::ConsoleSession { .. } => CredentialKind::ConsoleSession,
            Self::PersonalAccessToken { .. } => CredentialKind::PersonalAccessToken,
        }
    }

    /// When it stops working by itself; none: never.
    #[must_use]
    pub const fn expires_at(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Session { expires_at, .. } | Self::ConsoleSession { expires_at, .. } => Some(*expires_at),
            Self::PersonalAccessToken { expires_at, .. } => *expires_at,
        }
    }
}
