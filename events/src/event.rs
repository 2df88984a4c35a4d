//! Every fact there is, as it is read from the log and written to it.
//!
//! [`stream`](crate::stream) has the table of stream kinds; each kind's file has the table of its facts.

use serde::Deserializer;

use crate::{
    facts::Facts,
    ids::{UserId, WorkspaceId},
    invitation::InvitationEvent,
    login::LoginEvent,
    member::MemberEvent,
    personal::Personal,
    position::Version,
    public::Public,
    seal::{Place, Sealed, Subject},
    session::SessionEvent,
    share_link::ShareLinkEvent,
    stream::{StreamId, for_each_kind},
    token::TokenEvent,
    upcast::{self, UpcastError},
    user::UserEvent,
    workspace::WorkspaceEvent,
};

macro_rules! events {
    ($($kind:ident($id:ident, $facts:ident) $word:literal;)*) => {
        /// A fact. Consumers know only the latest version of each: older ones are upcast when read.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Event {
            $($kind($facts),)*
        }

        $(impl From<$facts> for Event {
            fn from(facts: $facts) -> Self {
                Self::$kind(facts)
            }
        })*

        impl Event {
            /// Every stored name with its latest version.
            pub fn names() -> impl Iterator<Item = (&'static str, u16)> {
                [$($facts::NAMES),*].into_iter().flatten().copied()
            }

            /// The stored name: a past fact, `stream.what_happened`.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$kind(facts) => facts.name(),)*
                }
            }

            #[must_use]
            pub const fn schema_version(&self) -> u16 {
                match self {
                    $(Self::$kind(facts) => facts.schema_version(),)*
                }
            }

            /// The exact text that is stored and hashed.
            ///
            /// # Errors
            /// When personal data in it is still clear.
            pub fn payload(&self) -> Result<String, serde_json::Error> {
                match self {
                    $(Self::$kind(facts) => facts.payload(),)*
                }
            }

            fn read<'de>(
                stream: StreamId,
                name: &str,
                payload: impl Deserializer<'de, Error = serde_json::Error>,
            ) -> Result<Self, DecodeError> {
                let read = match stream {
                    $(StreamId::$kind(_) => $facts::read(name, payload).map(|read| read.map(Self::$kind)),)*
                };
                read.ok_or_else(|| DecodeError::UnknownName { name: name.to_owned() })?
                    .map_err(not_written(name))
            }

            /// Whose key seals the personal data of this event.
            #[must_use]
            pub fn subject(&self, stream: StreamId) -> Option<Subject> {
                match (self, stream) {
                    $((Self::$kind(facts), StreamId::$kind(id)) => facts.subject(id),)*
                    _ => None,
                }
            }

            /// The person this event is about; none when the address had no account.
            #[must_use]
            pub fn concerns(&self, stream: StreamId) -> Option<UserId> {
                match (self, stream) {
                    $((Self::$kind(facts), StreamId::$kind(id)) => facts.concerns(id),)*
                    _ => None,
                }
            }

            /// The workspace it happened in; none for what belongs to a person alone.
            #[must_use]
            pub fn workspace(&self, stream: StreamId) -> Option<WorkspaceId> {
                match (self, stream) {
                    $((Self::$kind(facts), StreamId::$kind(id)) => facts.workspace(id),)*
                    _ => None,
                }
            }

            /// The fields that hold personal data, as they are now.
            pub fn personal_mut(&mut self) -> Vec<(&'static str, &mut Personal)> {
                match self {
                    $(Self::$kind(facts) => facts.personal_mut(),)*
                }
            }

            /// What of it may leave the building.
            #[must_use]
            pub fn public(&self) -> Public {
                match self {
                    $(Self::$kind(facts) => {
                        Public::new(facts.public_data(), &facts.personal(), facts.withheld())
                    })*
                }
            }

            /// The one spelling of a sealed field's event and field names, if there is such a field.
            pub(crate) fn sealed_field(event: &str, field: &str) -> Option<(&'static str, &'static str)> {
                None$(.or_else(|| $facts::sealed_field(event, field)))*
            }
        }
    };
}
for_each_kind!(events);

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
        let known = Self::names().find(|(known, _)| *known == name);
        let (_, latest) = known.ok_or_else(|| DecodeError::UnknownName { name: name.to_owned() })?;
        if schema_version > latest {
            return Err(DecodeError::TooNew { name: name.to_owned(), version: schema_version });
        }
        let mut event = if schema_version == latest {
            // Nearly all events, and so without the detour over a document.
            let mut text = serde_json::Deserializer::from_str(payload);
            let event = Self::read(stream, name, &mut text)?;
            text.end().map_err(not_written(name))?;
            event
        } else {
            let value = serde_json::from_str(payload).map_err(not_written(name))?;
            Self::read(stream, name, upcast::to_latest(upcast::STEPS, name, schema_version..latest, value)?)?
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
                *personal = Personal::Sealed(Sealed { place, ciphertext: ciphertext.clone() });
            }
        }
    }
}
