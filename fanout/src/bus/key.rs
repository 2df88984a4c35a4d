//! The key of the bus, as an operator hands it to a verifier.

use std::{fmt, str::FromStr};

use tally_events::seal::{KEY_BYTES, Key};
use zeroize::Zeroizing;

/// What its text begins with, so that no other secret is taken for it.
const PREFIX: &str = "bus_";

/// What replicas and verifiers authenticate each other's words with. It opens nothing that is stored;
/// but whoever holds it can speak on the bus in the name of any of them.
#[derive(Clone)]
pub struct BusKey(pub(crate) Key);

/// It is the key of no bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key of the bus is `bus_` and 64 hexadecimal digits, as `tally verifier key` prints it")]
pub struct NotABusKey;

impl BusKey {
    #[must_use]
    pub const fn of(key: Key) -> Self {
        Self(key)
    }

    /// For the operator's eyes, and the verifier's settings.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", hex::encode(self.0.expose())))
    }
}

impl FromStr for BusKey {
    type Err = NotABusKey;

    fn from_str(text: &str) -> Result<Self, NotABusKey> {
        let digits = text.trim().strip_prefix(PREFIX).ok_or(NotABusKey)?;
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        hex::decode_to_slice(digits, bytes.as_mut_slice()).map_err(|_| NotABusKey)?;
        Ok(Self(Key::from_bytes(*bytes)))
    }
}

impl fmt::Debug for BusKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BusKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_printed_is_read_and_nothing_else_is() {
        let key = BusKey::of(Key::from_bytes([7; KEY_BYTES]));
        let text = key.expose().to_string();
        assert_eq!(text.parse::<BusKey>().unwrap().0.expose(), key.0.expose());
        assert_eq!(format!("{key:?}"), "BusKey");
        // A master key is one of these, and must not be taken for this one.
        for wrong in ["", "bus_", &text[4..], &text[..67], &format!("{text}0"), &text.replace("07", "0g")] {
            assert_eq!(wrong.parse::<BusKey>().map(|_| ()), Err(NotABusKey), "{wrong}");
        }
    }
}
