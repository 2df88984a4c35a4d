//! The refresh token of a console session: opaque to whoever holds it.
//!
//! It is base64url of the session's id, 256 random bits, and a tag. Nothing of a token is kept but
//! what recognises the few that may be used next; the tag says that this server made it, and so one
//! that was used long ago is still told from one that never was. Without it, ending a session
//! because somebody shows a used token would need every token there ever was, or would let anybody
//! end a session whose id they know.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use subtle::ConstantTimeEq;
use tally_events::{Hidden, SessionId, seal::Key};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::credential::Plaintext;

const ID_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;
/// An HMAC-SHA-256, cut in half (RFC 2104 section 5).
const TAG_BYTES: usize = 16;
const TOKEN_BYTES: usize = ID_BYTES + SECRET_BYTES + TAG_BYTES;

/// A refresh token that this server made, whether or not it may still be used. Only the token itself
/// or the dice make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshToken {
    session: SessionId,
    hash: Hidden,
}

impl RefreshToken {
    /// A new one for a session. `fill` fills a slice from the operating system's random source.
    pub fn draw(session: SessionId, key: &Key, fill: impl FnOnce(&mut [u8])) -> (Plaintext, Self) {
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
        bytes[..ID_BYTES].copy_from_slice(session.0.as_bytes());
        fill(&mut bytes[ID_BYTES..ID_BYTES + SECRET_BYTES]);
        let tag = tag(key, &bytes[..ID_BYTES + SECRET_BYTES]);
        bytes[ID_BYTES + SECRET_BYTES..].copy_from_slice(&tag);
        let token = Plaintext::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()));
        let hash = hash(&token);
        (token, Self { session, hash })
    }

    /// Reads what somebody showed. None: this server never made it.
    #[must_use]
    pub fn read(token: &Plaintext, key: &Key) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
        // Its one spelling: padding and stray bits are refused, so a token has one hash.
        let length = URL_SAFE_NO_PAD.decode_slice(token.expose(), bytes.as_mut_slice()).ok()?;
        let (named, shown) = bytes.split_at(ID_BYTES + SECRET_BYTES);
        let genuine = length == TOKEN_BYTES && bool::from(tag(key, named).ct_eq(shown));
        let session = SessionId(Uuid::from_slice(&named[..ID_BYTES]).ok()?);
        genuine.then(|| Self { session, hash: hash(token) })
    }

    /// The session it carries on.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// Hex SHA-256 of the whole token: all that is stored of it.
    #[must_use]
    pub const fn hash(&self) -> &Hidden {
        &self.hash
    }
}

fn hash(token: &Plaintext) -> Hidden {
    Hidden::new(token.hash().to_hex())
}

fn tag(key: &Key, named: &[u8]) -> [u8; TAG_BYTES] {
    let mac = key.mac(&[named]);
    *mac.first_chunk().expect("a MAC has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key::from_bytes([3; 32]);
    const SESSION: SessionId = SessionId(Uuid::from_u128(0x5E55));

    fn drawn(secret: u8) -> (Plaintext, RefreshToken) {
        RefreshToken::draw(SESSION, &KEY, |bytes| bytes.fill(secret))
    }

    fn read(text: &str) -> Option<RefreshToken> {
        RefreshToken::read(&Plaintext::new(text), &KEY)
    }

    #[test]
    fn a_token_reads_as_it_was_drawn() {
        let (token, made) = drawn(7);
        assert_eq!(read(token.expose()), Some(made.clone()));
        assert_eq!(made.session(), SESSION);
        assert_eq!(**made.hash(), token.hash().to_hex());
        assert_ne!(made, drawn(8).1);
    }

    #[test]
    fn all_256_bits_come_from_the_dice() {
        let mut asked = 0;
        RefreshToken::draw(SESSION, &KEY, |bytes| asked = bytes.len());
        assert_eq!(asked * 8, 256);
    }

    /// Every character carries something, and no other spelling of a token reads.
    #[test]
    fn what_was_altered_anywhere_is_not_ours() {
        let (token, _) = drawn(7);
        let text = token.expose();
        for at in 0..text.len() {
            for other in ["A", "B", "_", "=", ".", "é", ""] {
                let altered = format!("{}{other}{}", &text[..at], &text[at + 1..]);
                assert!(altered == text || read(&altered).is_none(), "{altered}");
            }
        }
        for wrong in
            ["", "A", &format!("{text}A"), &format!("{text}=="), &format!("{text}{text}"), &text[1..]]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_another_server_made_is_not_ours() {
        let (token, _) = RefreshToken::draw(SESSION, &Key::from_bytes([4; 32]), |bytes| bytes.fill(7));
        assert_eq!(RefreshToken::read(&token, &KEY), None);
    }

    /// It is no credential for anything but refreshing, so nothing looks one up.
    #[test]
    fn it_has_the_form_of_no_credential() {
        for secret in 0..=255 {
            assert_eq!(crate::credential::recognise(drawn(secret).0.expose()), None);
        }
    }

    #[test]
    fn it_formats_as_nothing() {
        let formatted = format!("{:?}", drawn(7));
        assert!(
            !formatted.contains(drawn(7).0.expose()) && !formatted.contains(&**drawn(7).1.hash()),
            "{formatted}"
        );
    }
}
