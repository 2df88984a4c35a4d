//! Personal data inside an event.
//!
//! In memory it is clear until the event is stored and sealed afterwards. A clear value has no
//! stored form: serialising one is an error, so an event that was not sealed cannot be written.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use zeroize::Zeroizing;

use crate::seal::{Ciphertext, Sealed};

/// One field of personal data. Its `Debug` says its state and never its content.
#[derive(Clone, PartialEq, Eq)]
pub enum Personal {
    /// Readable; not yet sealed, or opened by somebody who may.
    Clear(Zeroizing<String>),
    /// Read from a payload, its place in the log not yet attached: only `Event::decode` sees it.
    Stored(Ciphertext),
    /// Sealed, with the place that authenticates it.
    Sealed(Sealed),
}

impl Personal {
    #[must_use]
    pub fn clear(text: impl Into<String>) -> Self {
        Self::Clear(Zeroizing::new(text.into()))
    }

    /// The sealed form; none while the value is clear.
    #[must_use]
    pub const fn sealed(&self) -> Option<&Sealed> {
        match self {
            Self::Sealed(sealed) => Some(sealed),
            Self::Clear(_) | Self::Stored(_) => None,
        }
    }

    /// The readable text; none while the value is sealed.
    #[must_use]
    pub fn as_clear(&self) -> Option<&str> {
        match self {
            Self::Clear(text) => Some(text),
            Self::Sealed(_) | Self::Stored(_) => None,
        }
    }
}

impl fmt::Debug for Personal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clear(_) => "Personal(clear)",
            Self::Stored(_) => "Personal(stored)",
            Self::Sealed(_) => "Personal(sealed)",
        })
    }
}

impl Serialize for Personal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Clear(_) => Err(ser::Error::custom("personal data is stored only sealed")),
            Self::Stored(ciphertext) => serializer.serialize_str(&STANDARD_NO_PAD.encode(&ciphertext.0)),
            Self::Sealed(sealed) => serializer.serialize_str(&STANDARD_NO_PAD.encode(&sealed.ciphertext.0)),
        }
    }
}

impl<'de> Deserialize<'de> for Personal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let bytes = STANDARD_NO_PAD.decode(text.as_bytes()).map_err(de::Error::custom)?;
        Ok(Self::Stored(Ciphertext(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clear_value_cannot_be_stored() {
        let error = serde_json::to_string(&Personal::clear("ada@example.org")).unwrap_err();
        assert_eq!(error.to_string(), "personal data is stored only sealed");
    }

    #[test]
    fn debug_output_holds_no_content() {
        assert_eq!(format!("{:?}", Personal::clear("ada@example.org")), "Personal(clear)");
    }
}
