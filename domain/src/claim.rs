//! What an event is found by, what of it is unique, and whose data it brings with it: all of it follows
//! from the event alone.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use tally_events::{
    Event, InvitationEvent, LoginEvent, Personal, ShareLinkEvent, StreamId, Subject, UserEvent,
    WorkspaceEvent, WorkspaceId,
};

use crate::{identity, invitation, login};

/// What at most one stream may hold at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Namespace {
    /// The account of an address.
    UserEmail,
    /// The login history of an address.
    LoginAddress,
    /// The account that somebody's account at an issuer opens.
    UserIdentity,
    /// The workspace of a slug.
    WorkspaceSlug,
    /// The last invitation of an address into a workspace.
    InvitationPending,
    /// The last share link of a workspace.
    ShareLinkActive,
    /// The share link of a code.
    ShareLinkCode,
}

impl Namespace {
    /// As stored in `claim.namespace`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UserEmail => "user.email",
            Self::LoginAddress => "login.address",
            Self::UserIdentity => "user.identity",
            Self::WorkspaceSlug => "workspace.slug",
            Self::InvitationPending => "invitation.pending",
            Self::ShareLinkActive => "share_link.active",
            Self::ShareLinkCode => "share_link.code",
        }
    }
}

/// A unique thing that an event takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken<'a> {
    pub namespace: Namespace,
    pub value: Cow<'a, str>,
    /// The stream it passes from. The decision has read that stream, and found that its hold is over.
    pub from: Option<StreamId>,
}

/// What [`Namespace::InvitationPending`] holds one of.
#[must_use]
pub fn invited(workspace: WorkspaceId, email: &str) -> String {
    format!("{workspace}/{email}")
}

/// The unique things an event takes, while its personal data is still clear.
#[must_use]
pub fn taken(event: &Event) -> Vec<Taken<'_>> {
    match event {
        Event::User(event) => match event {
            UserEvent::Registered(e) => one(Namespace::UserEmail, &e.email, None),
            UserEvent::IdentityLinked(e) => {
                let subject = e.subject.as_clear().map(|subject| Taken {
                    namespace: Namespace::UserIdentity,
                    value: identity::unique(&e.issuer, subject).into(),
                    from: None,
                });
                subject.into_iter().collect()
            }
            UserEvent::ProfileChanged(_) | UserEvent::Suspended(_) | UserEvent::Reinstated(_) => Vec::new(),
        },
        Event::Login(event) => match event {
            LoginEvent::CodeIssued(e) => one(Namespace::LoginAddress, &e.email, None),
            LoginEvent::CodeRefused(_) | LoginEvent::CodeVerified(_) | LoginEvent::CodeUndeliverable(_) => {
                Vec::new()
            }
        },
        Event::Workspace(event) => match event {
            WorkspaceEvent::Created(e) => {
                one(Namespace::WorkspaceSlug, &e.slug, e.replaces.map(StreamId::from))
            }
            WorkspaceEvent::Changed(_) | WorkspaceEvent::Deleted(_) => Vec::new(),
        },
        Event::Invitation(event) => match event {
            InvitationEvent::Created(e) => {
                let email = e.email.as_clear().map(|email| Taken {
                    namespace: Namespace::InvitationPending,
                    value: invited(e.workspace_id, email).into(),
                    from: e.replaces.map(StreamId::from),
                });
                email.into_iter().collect()
            }
            InvitationEvent::Accepted(_) | InvitationEvent::Declined(_) | InvitationEvent::Revoked(_) => {
                Vec::new()
            }
        },
        Event::ShareLink(event) => match event {
            ShareLinkEvent::Created(e) => {
                let mut both = one(Namespace::ShareLinkCode, &e.code, None);
                both.push(Taken {
                    namespace: Namespace::ShareLinkActive,
                    value: e.workspace_id.to_string().into(),
                    from: e.replaces.map(StreamId::from),
                });
                both
            }
            ShareLinkEvent::Used(_) | ShareLinkEvent::Revoked(_) => Vec::new(),
        },
        Event::Session(_) | Event::Token(_) | Event::Member(_) => Vec::new(),
    }
}

fn one(namespace: Namespace, value: &Personal, from: Option<StreamId>) -> Vec<Taken<'_>> {
    let taken = value.as_clear().map(|value| Taken { namespace, value: value.into(), from });
    taken.into_iter().collect()
}

/// What many streams may be found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Index {
    /// Invitations, by the address they are for.
    InvitationAddress,
}

impl Index {
    /// As stored in `blind_index.name`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvitationAddress => "invitation.address",
        }
    }
}

/// What an event's stream is found by from then on, while its personal data is still clear.
#[must_use]
pub fn indexed(event: &Event) -> Option<(Index, &str)> {
    match event {
        Event::Invitation(InvitationEvent::Created(e)) => {
            Some((Index::InvitationAddress, e.email.as_clear()?))
        }
        Event::Invitation(
            InvitationEvent::Accepted(_) | InvitationEvent::Declined(_) | InvitationEvent::Revoked(_),
        )
        | Event::User(_)
        | Event::Login(_)
        | Event::Session(_)
        | Event::Token(_)
        | Event::Workspace(_)
        | Event::Member(_)
        | Event::ShareLink(_) => None,
    }
}

/// The subject that comes to be with an event, and until when its key is kept; none: until erased.
///
/// A subject's key is written in the transaction of its first event and never later, so two
/// writers cannot make two keys for one subject.
#[must_use]
pub fn introduced(
    stream: StreamId,
    event: &Event,
    now: DateTime<Utc>,
) -> Option<(Subject, Option<DateTime<Utc>>)> {
    let until = match event {
        Event::User(UserEvent::Registered(_)) | Event::Workspace(WorkspaceEvent::Created(_)) => None,
        Event::Login(LoginEvent::CodeIssued(_)) => Some(now + login::READABLE_FOR),
        Event::Invitation(InvitationEvent::Created(_)) => Some(now + invitation::READABLE_FOR),
        Event::User(
            UserEvent::ProfileChanged(_)
            | UserEvent::Suspended(_)
            | UserEvent::Reinstated(_)
            | UserEvent::IdentityLinked(_),
        )
        | Event::Login(
            LoginEvent::CodeRefused(_) | LoginEvent::CodeVerified(_) | LoginEvent::CodeUndeliverable(_),
        )
        | Event::Workspace(WorkspaceEvent::Changed(_) | WorkspaceEvent::Deleted(_))
        | Event::Invitation(
            InvitationEvent::Accepted(_) | InvitationEvent::Declined(_) | InvitationEvent::Revoked(_),
        )
        | Event::Session(_)
        | Event::Token(_)
        | Event::Member(_)
        | Event::ShareLink(_) => return None,
    };
    Some((event.subject(stream)?, until))
}
