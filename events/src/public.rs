//! What of an event may leave the building.
//!
//! The match is exhaustive: a new event does not compile until somebody has said, field by field,
//! what of it an auditor or a workspace feed may see. Hashes, salts and MACs never do.

use serde_json::{Map, Value, json};

use crate::{event::Event, personal::Personal, seal::Sealed};

/// The public part of an event. Personal fields are still sealed; who may read them opens them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Public {
    pub data: Map<String, Value>,
    pub sealed: Vec<(&'static str, Sealed)>,
}

impl Public {
    fn with(value: Value) -> Self {
        let Value::Object(data) = value else { return Self::default() };
        Self { data, sealed: Vec::new() }
    }

    fn sealed<'a>(mut self, fields: impl IntoIterator<Item = (&'static str, Option<&'a Personal>)>) -> Self {
        self.sealed
            .extend(fields.into_iter().filter_map(|(name, field)| Some((name, field?.sealed()?.clone()))));
        self
    }
}

impl Event {
    /// The public part of this event.
    #[must_use]
    pub fn public(&self) -> Public {
        match self {
            Self::UserRegistered(e) => {
                Public::default().sealed([("email", Some(&e.email)), ("name", Some(&e.name))])
            }
            Self::UserProfileChanged(e) => Public::default().sealed([
                ("name", e.name.as_ref()),
                ("avatar_url", e.avatar_url.as_ref()),
                ("language", e.language.as_ref()),
                ("timezone", e.timezone.as_ref()),
                ("profile_description", e.profile_description.as_ref()),
            ]),
            Self::UserSuspended(_) | Self::UserReinstated(_) => Public::default(),
            Self::LoginCodeIssued(e) => {
                Public::with(json!({ "code_id": e.code_id, "expires_at": e.expires_at })).sealed([
                    ("email", Some(&e.email)),
                    ("address", e.address.as_ref()),
                    ("user_agent", e.user_agent.as_ref()),
                ])
            }
            Self::LoginCodeRefused(e) => Public::with(json!({ "code_id": e.code_id, "reason": e.reason }))
                .sealed([("address", e.address.as_ref()), ("user_agent", e.user_agent.as_ref())]),
            Self::LoginCodeVerified(e) => {
                Public::with(json!({ "code_id": e.code_id, "session_id": e.session_id }))
            }
            Self::SessionStarted(e) => Public::with(json!({
                "method": e.method, "minted_by": e.minted_by, "expires_at": e.expires_at,
            }))
            .sealed([("address", e.address.as_ref()), ("user_agent", e.user_agent.as_ref())]),
            Self::SessionEnded(e) => Public::with(json!({ "reason": e.reason })),
            Self::TokenMinted(e) => Public::with(json!({
                "kind": e.kind, "prefix": e.prefix, "minted_by": e.minted_by, "expires_at": e.expires_at,
            }))
            .sealed([("name", Some(&e.name))]),
            Self::TokenRenewed(e) => Public::with(json!({ "expires_at": e.expires_at })),
            Self::TokenRevoked(e) => Public::with(json!({ "reason": e.reason })),
        }
    }
}
