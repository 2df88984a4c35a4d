//! Every fact there is: its stored name, its version, and what in it is personal.

use serde::{Deserialize, Deserializer};

use crate::{
    ids::{StreamId, UserId},
    login::{LoginCodeIssued, LoginCodeRefused, LoginCodeVerified},
    personal::Personal,
    position::Version,
    seal::{Place, Subject},
    session::{SessionEnded, SessionStarted},
    token::{TokenMinted, TokenRenewed, TokenRevoked},
    upcast::{self, UpcastError},
    user::{UserProfileChanged, UserRegistered, UserReinstated, UserSuspended},
};

macro_rules! events {
    ($($name:literal v $version:literal => $variant:ident { $($field:literal),* };)*) => {
        /// A fact. Consumers know only the latest version of each: older ones are upcast when read.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Event {
            $($variant($variant),)*
        }

        $(impl From<$variant> for Event {
            fn from(event: $variant) -> Self {
                Self::$variant(event)
            }
        })*

        impl Event {
            /// Every stored name with its latest version, in the order of the table.
            pub const NAMES: &'static [(&'static str, u16)] = &[$(($name, $version)),*];

            /// The stored name: a past fact, `stream.what_happened`.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)*
                }
            }

            #[must_use]
            pub const fn schema_version(&self) -> u16 {
                match self {
                    $(Self::$variant(_) => $version,)*
                }
            }

            /// The exact text that is stored and hashed.
            ///
            /// # Errors
            /// When personal data in it is still clear.
            pub fn payload(&self) -> Result<String, serde_json::Error> {
                match self {
                    $(Self::$variant(event) => serde_json::to_string(event),)*
                }
            }

            fn read<'de>(
                name: &str,
                payload: impl Deserializer<'de, Error = serde_json::Error>,
            ) -> Result<Self, DecodeError> {
                match name {
                    $($name => $variant::deserialize(payload).map(Self::$variant).map_err(not_written(name)),)*
                    _ => Err(DecodeError::UnknownName { name: name.to_owned() }),
                }
            }

            /// The one spelling of a sealed field's event and field names, if there is such a field.
            pub(crate) fn sealed_field(event: &str, field: &str) -> Option<(&'static str, &'static str)> {
                $($(if event == $name && field == $field {
                    return Some(($name, $field));
                })*)*
                None
            }
        }
    };
}

// The table: stored name, latest version, and the fields that hold personal data.
events! {
    "user.registered" v 1 => UserRegistered { "email", "name" };
    "user.profile_changed" v 1 => UserProfileChanged { "name", "avatar_url", "language", "timezone", "profile_description" };
    "user.suspended" v 1 => UserSuspended {};
    "user.reinstated" v 1 => UserReinstated {};
    "login.code_issued" v 1 => LoginCodeIssued { "email", "address", "user_agent" };
    "login.code_refused" v 1 => LoginCodeRefused { "address", "user_agent" };
    "login.code_verified" v 1 => LoginCodeVerified {};
    "session.started" v 1 => SessionStarted { "address", "user_agent" };
    "session.ended" v 1 => SessionEnded {};
    "token.minted" v 1 => TokenMinted { "name" };
    "token.renewed" v 1 => TokenRenewed {};
    "token.revoked" v 1 => TokenRevoked {};
}

/// Why a stored event could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("no event is named `{name}` here: a newer release wrote it")]
    UnknownName { name: String },
    #[error("no actor is of kind `{kind}` here: a newer release wrote it")]
    UnknownActor { kind: String },
    #[error("version {version} of `{name}` is newer than this release knows")]
    TooNew { name: String, version: u16 },
    #[error("the payload of `{name}` is not what was written")]
    Payload { name: String, source: serde_json::Error },
    #[error(transparent)]
    Upcast(#[from] UpcastError),
}

fn not_written(name: &str) -> impl FnOnce(serde_json::Error) -> DecodeError {
    move |source| DecodeError::Payload { name: name.to_owned(), source }
}

impl Event {
    /// Reads a stored payload of any version ever written, as the latest version.
    ///
    /// # Errors
    /// Names and versions of a newer release, and payloads that are not what was written.
    pub fn decode(
        stream: StreamId,
        version: Version,
        name: &str,
        schema_version: u16,
        payload: &str,
    ) -> Result<Self, DecodeError> {
        let known = Self::NAMES.iter().find(|(known, _)| *known == name);
        let (_, latest) = *known.ok_or_else(|| DecodeError::UnknownName { name: name.to_owned() })?;
        if schema_version > latest {
            return Err(DecodeError::TooNew { name: name.to_owned(), version: schema_version });
        }
        let mut event = if schema_version == latest {
            // Nearly all events, and so without the detour over a document.
            let mut text = serde_json::Deserializer::from_str(payload);
            let event = Self::read(name, &mut text)?;
            text.end().map_err(not_written(name))?;
            event
        } else {
            let value = serde_json::from_str(payload).map_err(not_written(name))?;
            Self::read(name, upcast::to_latest(upcast::STEPS, name, schema_version..latest, value)?)?
        };
        event.place(stream, version);
        Ok(event)
    }

    /// Attaches to each sealed field the place that authenticates it.
    fn place(&mut self, stream: StreamId, version: Version) {
        let (event, Some(subject)) = (self.name(), self.subject(stream)) else { return };
        for (field, personal) in self.personal_mut() {
            if let Personal::Stored(ciphertext) = personal {
                let place = Place { stream, version, event, field, subject };
                *personal = Personal::Sealed(crate::seal::Sealed { place, ciphertext: ciphertext.clone() });
            }
        }
    }

    /// Whose key seals the personal data of this event.
    #[must_use]
    pub const fn subject(&self, stream: StreamId) -> Option<Subject> {
        match self {
            Self::UserRegistered(_)
            | Self::UserProfileChanged(_)
            | Self::UserSuspended(_)
            | Self::UserReinstated(_) => match stream {
                StreamId::User(user) => Some(Subject::User(user)),
                StreamId::Login(_) | StreamId::Session(_) | StreamId::Token(_) => None,
            },
            Self::LoginCodeIssued(event) => Some(Subject::Code(event.code_id)),
            Self::LoginCodeRefused(event) => Some(Subject::Code(event.code_id)),
            Self::LoginCodeVerified(event) => Some(Subject::Code(event.code_id)),
            Self::SessionStarted(event) => Some(Subject::User(event.user_id)),
            Self::SessionEnded(event) => Some(Subject::User(event.user_id)),
            Self::TokenMinted(event) => Some(Subject::User(event.user_id)),
            Self::TokenRenewed(event) => Some(Subject::User(event.user_id)),
            Self::TokenRevoked(event) => Some(Subject::User(event.user_id)),
        }
    }

    /// The person this event is about; none when the address had no account.
    #[must_use]
    pub const fn concerns(&self, stream: StreamId) -> Option<UserId> {
        match self {
            Self::LoginCodeIssued(event) => event.user_id,
            Self::LoginCodeRefused(event) => event.user_id,
            Self::LoginCodeVerified(event) => Some(event.user_id),
            Self::UserRegistered(_)
            | Self::UserProfileChanged(_)
            | Self::UserSuspended(_)
            | Self::UserReinstated(_)
            | Self::SessionStarted(_)
            | Self::SessionEnded(_)
            | Self::TokenMinted(_)
            | Self::TokenRenewed(_)
            | Self::TokenRevoked(_) => match self.subject(stream) {
                Some(Subject::User(user)) => Some(user),
                Some(Subject::Code(_)) | None => None,
            },
        }
    }

    /// The fields that hold personal data, as they are now.
    pub fn personal_mut(&mut self) -> Vec<(&'static str, &mut Personal)> {
        fn present<'a>(
            fields: impl IntoIterator<Item = (&'static str, &'a mut Option<Personal>)>,
        ) -> Vec<(&'static str, &'a mut Personal)> {
            fields.into_iter().filter_map(|(name, field)| Some((name, field.as_mut()?))).collect()
        }
        match self {
            Self::UserRegistered(e) => vec![("email", &mut e.email), ("name", &mut e.name)],
            Self::UserProfileChanged(e) => present([
                ("name", &mut e.name),
                ("avatar_url", &mut e.avatar_url),
                ("language", &mut e.language),
                ("timezone", &mut e.timezone),
                ("profile_description", &mut e.profile_description),
            ]),
            Self::LoginCodeIssued(e) => {
                let mut fields = vec![("email", &mut e.email)];
                fields.extend(present([("address", &mut e.address), ("user_agent", &mut e.user_agent)]));
                fields
            }
            Self::LoginCodeRefused(e) => {
                present([("address", &mut e.address), ("user_agent", &mut e.user_agent)])
            }
            Self::SessionStarted(e) => {
                present([("address", &mut e.address), ("user_agent", &mut e.user_agent)])
            }
            Self::TokenMinted(e) => vec![("name", &mut e.name)],
            Self::UserSuspended(_)
            | Self::UserReinstated(_)
            | Self::LoginCodeVerified(_)
            | Self::SessionEnded(_)
            | Self::TokenRenewed(_)
            | Self::TokenRevoked(_) => Vec::new(),
        }
    }
}
