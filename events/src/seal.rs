//! The seal: AES-256-GCM-SIV (RFC 8452) under a key per subject.
//!
//! Keys form a hierarchy: the master key wraps the root keys (key-encryption key, blind-index key,
//! login-code key, refresh-token key); the key-encryption key wraps one key per subject; a subject key
//! seals fields. Deleting a subject key makes every field sealed under it unreadable, everywhere, at once.
//!
//! The nonce is derived from what is authenticated. A place in the log is sealed at most once per
//! key, and should a retry seal a second text at the same place, GCM-SIV reveals at most whether
//! the two texts were equal. So sealing needs no dice, and history seals the same way twice.
//!
//! A ciphertext is as long as its plaintext, so each text is padded first: its length shows in steps
//! of 32 bytes only, and a field that was cleared looks like any other short one.

use std::{fmt, str::FromStr};

use aes_gcm_siv::{
    Aes256GcmSiv, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    event::Event,
    ids::{CodeId, InvitationId, UserId, WorkspaceId, parse_hyphenated},
    position::Version,
    stream::StreamId,
};

/// Bytes in every key of the hierarchy.
pub const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
/// A padded text is a multiple of this many bytes.
const PADDING_BYTES: usize = 32;
/// Ends the text within its padding; zeros follow (ISO/IEC 7816-4).
const PADDING_MARK: u8 = 0x80;

/// A 256 bit key. It wipes itself, and formats as nothing.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; KEY_BYTES]);

impl Key {
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub const fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// An independent key for `purpose` (HKDF-SHA-256, RFC 5869, expand only with the purpose as info).
    ///
    /// # Panics
    /// Never: 32 bytes are within what HKDF expands to.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Self {
        let mut derived = [0; KEY_BYTES];
        Hkdf::<Sha256>::new(None, &self.0)
            .expand(purpose.as_bytes(), &mut derived)
            .expect("32 bytes are within HKDF's limit of 255 blocks");
        Self(derived)
    }

    /// HMAC-SHA-256 over length-prefixed parts, so that no two part lists share a message.
    ///
    /// # Panics
    /// Never: HMAC takes a key of any length.
    #[must_use]
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac =
            <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// What may be stored to recognise this key again: 16 hex digits that reveal nothing of it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex::encode(&self.derive("fingerprint").0[..8])
    }

    /// Encrypts `key` under this one; `name` says what is wrapped and must be given again to unwrap.
    #[must_use]
    pub fn wrap(&self, name: &str, key: &Self) -> Vec<u8> {
        encrypt(self, name.as_bytes(), &key.0)
    }

    /// # Errors
    /// [`SealError::Broken`] when this is not the wrapping key, the name differs, or the bytes were altered.
    pub fn unwrap(&self, name: &str, wrapped: &[u8]) -> Result<Self, SealError> {
        let bytes = Zeroizing::new(decrypt(self, name.as_bytes(), wrapped)?);
        bytes.as_slice().try_into().map(Self).map_err(|_| SealError::Broken)
    }

    /// Encrypts something that is neither a key nor a field. `name` says what it is and must be given
    /// again to open it; a name that is used once keeps two equal contents from looking equal.
    #[must_use]
    pub fn encrypt(&self, name: &[u8], content: &[u8]) -> Vec<u8> {
        encrypt(self, name, content)
    }

    /// # Errors
    /// [`SealError::Broken`] when the key or the name is another, or the bytes were altered.
    pub fn decrypt(&self, name: &[u8], encrypted: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        decrypt(self, name, encrypted).map(Zeroizing::new)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// Whose data it is, and so whose key seals it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    User(UserId),
    /// Somebody who asked for a login code and may not even have an account.
    Code(CodeId),
    /// What the members of a workspace say of it.
    Workspace(WorkspaceId),
    /// Somebody who was invited and may not even have an account.
    Invitation(InvitationId),
}

impl Subject {
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        match self {
            Self::User(id) => id.0,
            Self::Code(id) => id.0,
            Self::Workspace(id) => id.0,
            Self::Invitation(id) => id.0,
        }
    }

    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Code(_) => "code",
            Self::Workspace(_) => "workspace",
            Self::Invitation(_) => "invitation",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind(), self.uuid())
    }
}

impl FromStr for Subject {
    type Err = SealError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, id) = text.split_once(':').ok_or(SealError::Malformed)?;
        let id = parse_hyphenated(id).map_err(|_| SealError::Malformed)?;
        match kind {
            "user" => Ok(Self::User(UserId(id))),
            "code" => Ok(Self::Code(CodeId(id))),
            "workspace" => Ok(Self::Workspace(WorkspaceId(id))),
            "invitation" => Ok(Self::Invitation(InvitationId(id))),
            _ => Err(SealError::Malformed),
        }
    }
}

/// Encrypted bytes with their tag. Not readable, so it may be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ciphertext(pub Vec<u8>);

/// The one place in the log a sealed field belongs to: the associated data of its seal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub stream: StreamId,
    pub version: Version,
    /// The event's stored name.
    pub event: &'static str,
    pub field: &'static str,
    pub subject: Subject,
}

impl Place {
    /// Frozen: whatever was sealed opens only under this very text.
    fn associated_data(&self) -> Vec<u8> {
        format!("{}/{}/{}/{}/{}", self.stream, self.version, self.event, self.field, self.subject)
            .into_bytes()
    }

    /// Encrypts a field for this place, its length hidden up to steps of 32 bytes.
    #[must_use]
    pub fn seal(&self, key: &Key, text: &str) -> Sealed {
        Sealed {
            ciphertext: Ciphertext(encrypt(key, &self.associated_data(), &pad(text))),
            place: self.clone(),
        }
    }
}

/// A sealed field together with its place. As text it can stand in any table and still be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub place: Place,
    pub ciphertext: Ciphertext,
}

/// Why a sealed value could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SealError {
    #[error("the seal does not open: another key, another place, or altered bytes")]
    Broken,
    #[error("not a sealed field")]
    Malformed,
}

impl Sealed {
    /// Decrypts the field with its subject's key.
    ///
    /// # Errors
    /// [`SealError::Broken`] when the key is another, or the ciphertext was altered or moved.
    pub fn open(&self, key: &Key) -> Result<Zeroizing<String>, SealError> {
        let padded = Zeroizing::new(decrypt(key, &self.place.associated_data(), &self.ciphertext.0)?);
        let text = unpad(&padded).ok_or(SealError::Broken)?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}

impl fmt::Display for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { stream, version, event, field, subject } = &self.place;
        let text = URL_SAFE_NO_PAD.encode(&self.ciphertext.0);
        write!(f, "{stream}/{version}/{event}/{field}/{subject}/{text}")
    }
}

impl FromStr for Sealed {
    type Err = SealError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('/').collect();
        let [stream, version, event, field, subject, ciphertext] = parts[..] else {
            return Err(SealError::Malformed);
        };
        let (event, field) = Event::sealed_field(event, field).ok_or(SealError::Malformed)?;
        Ok(Self {
            place: Place {
                stream: stream.parse().map_err(|_| SealError::Malformed)?,
                version: Version(version.parse().map_err(|_| SealError::Malformed)?),
                event,
                field,
                subject: subject.parse()?,
            },
            ciphertext: Ciphertext(URL_SAFE_NO_PAD.decode(ciphertext).map_err(|_| SealError::Malformed)?),
        })
    }
}

fn pad(text: &str) -> Zeroizing<Vec<u8>> {
    let length = (text.len() + 1).next_multiple_of(PADDING_BYTES);
    let mut padded = Zeroizing::new(Vec::with_capacity(length));
    padded.extend_from_slice(text.as_bytes());
    padded.push(PADDING_MARK);
    padded.resize(length, 0);
    padded
}

fn unpad(padded: &[u8]) -> Option<&str> {
    let mark = padded.iter().rposition(|byte| *byte != 0).filter(|mark| padded[*mark] == PADDING_MARK)?;
    std::str::from_utf8(&padded[..mark]).ok()
}

fn nonce(associated_data: &[u8]) -> Nonce {
    let digest = Sha256::digest(associated_data);
    let bytes: [u8; NONCE_BYTES] =
        digest[..NONCE_BYTES].try_into().expect("a SHA-256 digest is longer than a nonce");
    Nonce::from(bytes)
}

fn encrypt(key: &Key, associated_data: &[u8], plaintext: &[u8]) -> Vec<u8> {
    Aes256GcmSiv::new(&key.0.into())
        .encrypt(&nonce(associated_data), Payload { msg: plaintext, aad: associated_data })
        .expect("a field is far below the 2^36 bytes at which AES-GCM-SIV refuses")
}

fn decrypt(key: &Key, associated_data: &[u8], ciphertext: &[u8]) -> Result<Vec<u8>, SealError> {
    Aes256GcmSiv::new(&key.0.into())
        .decrypt(&nonce(associated_data), Payload { msg: ciphertext, aad: associated_data })
        .map_err(|_| SealError::Broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TokenId;

    fn place() -> Place {
        Place {
            stream: StreamId::Token(TokenId(Uuid::from_u128(1))),
            version: Version(1),
            event: "token.minted",
            field: "name",
            subject: Subject::User(UserId(Uuid::from_u128(2))),
        }
    }

    const KEY: Key = Key::from_bytes([7; 32]);

    #[test]
    fn a_sealed_field_opens_with_its_key_at_its_place() {
        let sealed = place().seal(&KEY, "laptop");
        assert_eq!(sealed.open(&KEY).unwrap().as_str(), "laptop");
    }

    #[test]
    fn any_text_comes_back_as_it_was() {
        let long = "ü".repeat(1000);
        for text in ["", "\0", "a\0\0", "\u{80}", "\u{80}\0", &"x".repeat(31), &"x".repeat(32), &long] {
            assert_eq!(place().seal(&KEY, text).open(&KEY).unwrap().as_str(), text);
        }
    }

    #[test]
    fn the_length_of_a_text_shows_in_steps_of_32_bytes_only() {
        const TAG_BYTES: usize = 16;
        for (bytes, sealed_bytes) in [(0, 32), (1, 32), (31, 32), (32, 64), (63, 64), (64, 96)] {
            let sealed = place().seal(&KEY, &"x".repeat(bytes));
            assert_eq!(sealed.ciphertext.0.len(), sealed_bytes + TAG_BYTES, "{bytes}");
        }
    }

    #[test]
    fn what_was_sealed_without_padding_does_not_open() {
        for plaintext in [&b""[..], b"laptop", b"\0\0", b"\xff\x80\0"] {
            let ciphertext = Ciphertext(encrypt(&KEY, &place().associated_data(), plaintext));
            let sealed = Sealed { place: place(), ciphertext };
            assert_eq!(sealed.open(&KEY).unwrap_err(), SealError::Broken);
        }
    }

    /// A renamed event or field, a reordered part: everything sealed before would stay shut.
    #[test]
    fn the_associated_data_is_frozen() {
        let expected = "token:00000000-0000-0000-0000-000000000001/1/token.minted/name/\
                        user:00000000-0000-0000-0000-000000000002";
        assert_eq!(String::from_utf8(place().associated_data()).unwrap(), expected);
        let of_a_code = Place { subject: Subject::Code(CodeId(Uuid::from_u128(3))), ..place() };
        assert!(of_a_code.associated_data().ends_with(b"/code:00000000-0000-0000-0000-000000000003"));
    }

    #[test]
    fn another_key_opens_nothing() {
        let sealed = place().seal(&KEY, "laptop");
        assert_eq!(sealed.open(&Key::from_bytes([8; 32])).unwrap_err(), SealError::Broken);
    }

    #[test]
    fn a_field_moved_to_another_place_does_not_open() {
        let sealed = place().seal(&KEY, "laptop");
        let moves: [fn(&mut Place); 5] = [
            |p| p.stream = StreamId::Token(TokenId(Uuid::from_u128(9))),
            |p| p.version = Version(2),
            |p| p.event = "user.registered",
            |p| p.field = "email",
            |p| p.subject = Subject::Code(CodeId(Uuid::from_u128(2))),
        ];
        for change in moves {
            let mut other = sealed.clone();
            change(&mut other.place);
            assert_eq!(other.open(&KEY).unwrap_err(), SealError::Broken);
        }
    }

    #[test]
    fn the_text_form_reads_back_and_rubbish_is_refused() {
        let sealed = place().seal(&KEY, "laptop");
        assert_eq!(sealed.to_string().parse::<Sealed>(), Ok(sealed));
        for text in ["", "a/b/c/d/e/f", "token:x/1/token.minted/name/user:y/AA"] {
            assert_eq!(text.parse::<Sealed>(), Err(SealError::Malformed));
        }
    }

    #[test]
    fn a_wrapped_key_unwraps_only_under_its_name_and_wrapping_key() {
        let wrapped = KEY.wrap("subject/1", &Key::from_bytes([9; 32]));
        assert_eq!(KEY.unwrap("subject/1", &wrapped).unwrap().expose(), &[9; 32]);
        assert!(KEY.unwrap("subject/2", &wrapped).is_err());
        assert!(Key::from_bytes([8; 32]).unwrap("subject/1", &wrapped).is_err());
    }

    #[test]
    fn the_mac_tells_where_one_part_ends() {
        assert_ne!(KEY.mac(&[b"ab", b"c"]), KEY.mac(&[b"a", b"bc"]));
    }
}
