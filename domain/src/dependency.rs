//! What a verdict rests on, and which events overthrow it.

use chrono::{DateTime, Utc};
use tally_events::{
    CredentialId, Event, InvitationEvent, LoginEvent, MemberEvent, MemberId, Recorded, SessionEvent,
    SessionId, ShareLinkEvent, StreamId, TokenEvent, TokenId, UserEvent, UserId, WorkspaceEvent, WorkspaceId,
};
use uuid::Uuid;

use crate::principal::{PersonCredential, Principal};

/// A thing that must be live for a credential to be live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dependency {
    User(UserId),
    Session(SessionId),
    Token(TokenId),
    /// A person's place in one workspace.
    Member(MemberId),
    Workspace(WorkspaceId),
}

impl Dependency {
    /// The id alone, without what it is the id of.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        match self {
            Self::User(id) => id.0,
            Self::Session(id) => id.0,
            Self::Token(id) => id.0,
            Self::Member(id) => id.0,
            Self::Workspace(id) => id.0,
        }
    }
}

impl From<CredentialId> for Dependency {
    fn from(credential: CredentialId) -> Self {
        match credential {
            CredentialId::Session(id) => Self::Session(id),
            CredentialId::Token(id) => Self::Token(id),
        }
    }
}

/// A yes: who the credential speaks for. A no is never kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub principal: Principal,
}

impl Verdict {
    /// A yes for a person's credential.
    #[must_use]
    pub const fn person(user: UserId, credential: PersonCredential) -> Self {
        Self { principal: Principal::Person { user, credential } }
    }

    /// What it rests on: the credential, and whoever it speaks for.
    pub fn depends_on(&self) -> impl Iterator<Item = Dependency> + use<> {
        match self.principal {
            Principal::Anonymous | Principal::Operator | Principal::Server => [None, None],
            Principal::Person { user, credential } => {
                [Some(credential.id().into()), Some(Dependency::User(user))]
            }
        }
        .into_iter()
        .flatten()
    }

    /// Expiry is the clock's doing, so it is asked at every read.
    #[must_use]
    pub const fn expires_at(&self) -> Option<DateTime<Utc>> {
        match &self.principal {
            Principal::Anonymous | Principal::Operator | Principal::Server => None,
            Principal::Person { credential, .. } => credential.expires_at(),
        }
    }
}

/// What an event overthrows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalidation {
    Nothing,
    /// Every verdict that rests on this.
    Of(Dependency),
    /// Every verdict there is: an event of a newer release, or one that is damaged.
    Everything,
}

/// What `recorded` overthrows. Exhaustive: a new event says what it means for verdicts.
#[must_use]
pub const fn invalidation(recorded: &Recorded) -> Invalidation {
    match (&recorded.event, recorded.stream) {
        (Event::User(event), StreamId::User(user)) => match event {
            UserEvent::Suspended(_) | UserEvent::Reinstated(_) => Invalidation::Of(Dependency::User(user)),
            UserEvent::Registered(_) | UserEvent::ProfileChanged(_) | UserEvent::IdentityLinked(_) => {
                Invalidation::Nothing
            }
        },
        (Event::Session(event), StreamId::Session(session)) => match event {
            SessionEvent::Refreshed(_) | SessionEvent::Ended(_) => {
                Invalidation::Of(Dependency::Session(session))
            }
            SessionEvent::Started(_) | SessionEvent::RefreshRepeated(_) => Invalidation::Nothing,
        },
        (Event::Token(event), StreamId::Token(token)) => match event {
            TokenEvent::Renewed(_) | TokenEvent::Revoked(_) => Invalidation::Of(Dependency::Token(token)),
            TokenEvent::Minted(_) => Invalidation::Nothing,
        },
        (Event::Login(event), StreamId::Login(_)) => match event {
            LoginEvent::CodeIssued(_)
            | LoginEvent::CodeRefused(_)
            | LoginEvent::CodeVerified(_)
            | LoginEvent::CodeUndeliverable(_) => Invalidation::Nothing,
        },
        // Also who joins again: what rested on the membership before it does not rest on this one.
        (Event::Member(event), StreamId::Member(member)) => match event {
            MemberEvent::Joined(_) | MemberEvent::RoleChanged(_) | MemberEvent::Removed(_) => {
                Invalidation::Of(Dependency::Member(member))
            }
        },
        (Event::Workspace(event), StreamId::Workspace(workspace)) => match event {
            WorkspaceEvent::Deleted(_) => Invalidation::Of(Dependency::Workspace(workspace)),
            WorkspaceEvent::Created(_) | WorkspaceEvent::Changed(_) => Invalidation::Nothing,
        },
        // No verdict rests on these: whoever comes in by them is a member.
        (Event::Invitation(event), StreamId::Invitation(_)) => match event {
            InvitationEvent::Created(_)
            | InvitationEvent::Accepted(_)
            | InvitationEvent::Declined(_)
            | InvitationEvent::Revoked(_) => Invalidation::Nothing,
        },
        (Event::ShareLink(event), StreamId::ShareLink(_)) => match event {
            ShareLinkEvent::Created(_) | ShareLinkEvent::Used(_) | ShareLinkEvent::Revoked(_) => {
                Invalidation::Nothing
            }
        },
        // An event in a stream of another kind is damage.
        (
            Event::User(_)
            | Event::Session(_)
            | Event::Token(_)
            | Event::Login(_)
            | Event::Member(_)
            | Event::Workspace(_)
            | Event::Invitation(_)
            | Event::ShareLink(_),
            _,
        ) => Invalidation::Everything,
    }
}
