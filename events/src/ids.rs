//! Typed identifiers. No bare `Uuid` crosses a function boundary.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new identifier, ordered by time (UUID version 7, RFC 9562 section 5.7).
            ///
            /// Not pure: it reads the clock and draws dice, so it is for the edge, where commands
            /// and requests are made. Deciders and folds get their ids as values.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "a default id would hide that each is fresh")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            /// Accepts the hyphenated form alone, in any letter case.
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse_hyphenated(text).map(Self)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Uuid {
                id.0
            }
        }
    )*};
}

ids! {
    /// A person.
    UserId;
    /// The login history of one address. The address itself is never part of it.
    LoginId;
    /// One login code that was sent.
    CodeId;
    /// A session: the `sid` claim of its JWT.
    SessionId;
    /// A token a person or a machine holds.
    TokenId;
    /// A workspace; Remoco calls it an org.
    WorkspaceId;
    /// A person in a workspace, whether they are there now or were once.
    MemberId;
    /// An invitation into a workspace.
    InvitationId;
    /// A link by which whoever knows it may join a workspace.
    ShareLinkId;
    /// One request at the door.
    RequestId;
    /// One command; every event it appended carries it as `causation`.
    CommandId;
}

impl MemberId {
    /// The same for the same two, so that a person who comes back is the member they were, and no two
    /// histories can disagree on who is in (UUID version 8, RFC 9562 section 5.8).
    ///
    /// # Panics
    /// Never: a digest has more bytes than an id.
    #[must_use]
    pub fn of(workspace: WorkspaceId, user: UserId) -> Self {
        let digest = Sha256::new()
            .chain_update(b"tally member\0")
            .chain_update(workspace.0.as_bytes())
            .chain_update(user.0.as_bytes())
            .finalize();
        Self(
            uuid::Builder::from_custom_bytes(*digest.first_chunk().expect("a digest has 32 bytes"))
                .into_uuid(),
        )
    }
}

pub(crate) fn parse_hyphenated(text: &str) -> Result<Uuid, uuid::Error> {
    uuid::fmt::Hyphenated::from_str(text).map(uuid::fmt::Hyphenated::into_uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_in_any_letter_case_and_prints_in_lower_case() {
        let id: UserId = "0198E3C0-0000-7000-8000-0000000000AB".parse().unwrap();
        assert_eq!(id.to_string(), "0198e3c0-0000-7000-8000-0000000000ab");
    }

    /// Frozen: the id of every member there is follows from it.
    #[test]
    fn a_members_id_follows_from_workspace_and_person() {
        let (workspace, user) = (WorkspaceId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)));
        assert_eq!(MemberId::of(workspace, user).to_string(), "2c723eff-6ed0-84b9-b94a-9035ff7ad1b3");
        assert_ne!(MemberId::of(workspace, UserId(Uuid::from_u128(1))), MemberId::of(workspace, user));
    }

    #[test]
    fn an_id_without_hyphens_or_in_braces_is_refused() {
        for text in [
            "",
            "0198e3c00000700080000000000000ab",
            "{0198e3c0-0000-7000-8000-0000000000ab}",
            "urn:uuid:0198e3c0-0000-7000-8000-0000000000ab",
            "nonsense",
        ] {
            assert!(text.parse::<UserId>().is_err(), "{text} was accepted");
        }
    }
}
