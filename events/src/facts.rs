//! The facts of one kind of stream: a table of names in the file of that kind, and what follows from it.

use serde_json::Value;

use crate::{
    ids::{UserId, WorkspaceId},
    personal::Personal,
    seal::Subject,
};

/// What the facts of one kind say of themselves. `Id` names a stream of the kind.
pub(crate) trait Facts {
    type Id: Copy;

    /// Whose key seals the personal data.
    fn subject(&self, stream: Self::Id) -> Option<Subject>;

    /// The person it is about; none when there is no account.
    fn concerns(&self, stream: Self::Id) -> Option<UserId>;

    /// The workspace it happened in; none for what belongs to a person alone.
    fn workspace(&self, _: Self::Id) -> Option<WorkspaceId> {
        None
    }

    /// What of it may leave the building beside its personal fields: an object. Hashes, salts and MACs
    /// never do.
    fn public_data(&self) -> Value;

    /// Personal fields that stay in the building even so.
    fn withheld(&self) -> &'static [&'static str] {
        &[]
    }
}

/// A field of personal data that is always there, or only sometimes.
pub(crate) trait PersonalField {
    fn present(&self) -> Option<&Personal>;
    fn present_mut(&mut self) -> Option<&mut Personal>;
}

impl PersonalField for Personal {
    fn present(&self) -> Option<&Personal> {
        Some(self)
    }

    fn present_mut(&mut self) -> Option<&mut Personal> {
        Some(self)
    }
}

impl PersonalField for Option<Personal> {
    fn present(&self) -> Option<&Personal> {
        self.as_ref()
    }

    fn present_mut(&mut self) -> Option<&mut Personal> {
        self.as_mut()
    }
}

/// Makes an enum of facts from a table: stored name, latest version, payload, and the fields of the
/// payload that hold personal data.
macro_rules! facts {
    (
        $(#[$doc:meta])*
        $facts:ident {
            $($name:literal v $version:literal => $variant:ident($payload:ty) { $($field:ident),* };)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(clippy::large_enum_variant, reason = "what is often read is read in place")]
        pub enum $facts {
            $($variant($payload),)*
        }

        $(impl From<$payload> for $crate::event::Event {
            fn from(fact: $payload) -> Self {
                $facts::$variant(fact).into()
            }
        })*

        impl $facts {
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

            pub(crate) fn payload(&self) -> Result<String, serde_json::Error> {
                match self {
                    $(Self::$variant(fact) => serde_json::to_string(fact),)*
                }
            }

            /// Reads a payload of the latest version; none: no fact here has this name.
            pub(crate) fn read<'de, D: serde::Deserializer<'de>>(
                name: &str,
                payload: D,
            ) -> Option<Result<Self, D::Error>> {
                match name {
                    $($name => Some(serde::Deserialize::deserialize(payload).map(Self::$variant)),)*
                    _ => None,
                }
            }

            #[allow(unused_variables, reason = "some facts hold nothing personal")]
            pub(crate) fn personal(&self) -> Vec<(&'static str, &$crate::personal::Personal)> {
                let fields: Vec<(_, Option<&$crate::personal::Personal>)> = match self {
                    $(Self::$variant(fact) => {
                        vec![$((stringify!($field), $crate::facts::PersonalField::present(&fact.$field))),*]
                    })*
                };
                fields.into_iter().filter_map(|(name, field)| Some((name, field?))).collect()
            }

            #[allow(unused_variables, reason = "some facts hold nothing personal")]
            pub(crate) fn personal_mut(&mut self) -> Vec<(&'static str, &mut $crate::personal::Personal)> {
                let fields: Vec<(_, Option<&mut $crate::personal::Personal>)> = match self {
                    $(Self::$variant(fact) => {
                        vec![$((stringify!($field), $crate::facts::PersonalField::present_mut(&mut fact.$field))),*]
                    })*
                };
                fields.into_iter().filter_map(|(name, field)| Some((name, field?))).collect()
            }

            /// The one spelling of a sealed field's event and field names, if there is such a field.
            #[allow(unused_variables, reason = "some kinds hold nothing personal")]
            pub(crate) fn sealed_field(event: &str, field: &str) -> Option<(&'static str, &'static str)> {
                $($(if event == $name && field == stringify!($field) {
                    return Some(($name, stringify!($field)));
                })*)*
                None
            }
        }
    };
}
pub(crate) use facts;
