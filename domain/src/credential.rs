//! The kinds of credential, and the format they share.
//!
//! A new kind is one row of [`KINDS`]. A token is `prefix_body`: 30 base62 characters from the
//! operating system's random source, then the CRC-32 of those 30 in 6 base62 characters, so that a
//! scanner knows a leaked token offline and nonsense is refused before any lookup.

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Random characters in a token's body.
pub const BODY_CHARACTERS: usize = 30;
/// Checksum characters behind them.
pub const CHECKSUM_CHARACTERS: usize = 6;
/// Characters of a token that may be shown, prefix included.
pub const DISPLAY_CHARACTERS: usize = 12;
/// Imported tokens of an earlier product: 40 lowercase hex digits and no checksum.
const LEGACY_BODY_CHARACTERS: usize = 40;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Every kind of credential of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CredentialKind {
    Session,
    ConsoleSession,
    PersonalAccessToken,
    DaemonToken,
    TaskToken,
    CloudNodeToken,
    ApiToken,
    ServiceToken,
}

/// Who holds a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    Person,
    Machine,
}

/// How a credential looks on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A JWT signed with HS256.
    Jwt,
    /// A prefix, 30 random characters and their checksum.
    Prefixed(&'static str),
    /// One configured secret.
    Shared,
}

/// One kind of credential.
#[derive(Clone, Copy, Debug)]
pub struct KindRow {
    pub kind: CredentialKind,
    /// As answers name it to programs.
    pub name: &'static str,
    /// As the guard names it in a refusal.
    pub noun: &'static str,
    pub form: Form,
    pub holder: Holder,
}

/// The table of kinds.
pub const KINDS: [KindRow; 8] = [
    row(CredentialKind::Session, "session", "session", Form::Jwt, Holder::Person),
    row(CredentialKind::ConsoleSession, "console_session", "console session", Form::Jwt, Holder::Person),
    row(
        CredentialKind::PersonalAccessToken,
        "personal_access_token",
        "personal access token",
        Form::Prefixed("mul_"),
        Holder::Person,
    ),
    row(CredentialKind::DaemonToken, "daemon_token", "daemon token", Form::Prefixed("mdt_"), Holder::Machine),
    row(CredentialKind::TaskToken, "task_token", "task token", Form::Prefixed("mat_"), Holder::Machine),
    row(
        CredentialKind::CloudNodeToken,
        "cloud_node_token",
        "cloud-node token",
        Form::Prefixed("mcn_"),
        Holder::Machine,
    ),
    row(CredentialKind::ApiToken, "api_token", "API token", Form::Prefixed("pak_"), Holder::Machine),
    row(CredentialKind::ServiceToken, "service_token", "service token", Form::Shared, Holder::Machine),
];

const fn row(
    kind: CredentialKind,
    name: &'static str,
    noun: &'static str,
    form: Form,
    holder: Holder,
) -> KindRow {
    KindRow { kind, name, noun, form, holder }
}

impl CredentialKind {
    /// This kind's row.
    #[must_use]
    pub const fn row(self) -> &'static KindRow {
        &KINDS[self as usize]
    }

    /// What a token of this kind starts with; none for kinds of another form.
    #[must_use]
    pub const fn prefix(self) -> Option<&'static str> {
        match self.row().form {
            Form::Prefixed(prefix) => Some(prefix),
            Form::Jwt | Form::Shared => None,
        }
    }
}

/// A credential in the clear. It wipes itself and formats as its type name.
#[derive(Clone)]
pub struct Plaintext(Zeroizing<String>);

impl Plaintext {
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The SHA-256 of the whole string: all that is stored of it.
    #[must_use]
    pub fn hash(&self) -> CredentialHash {
        CredentialHash::of(&self.0)
    }

    /// The first characters, for a person to tell tokens apart.
    #[must_use]
    pub fn display_prefix(&self) -> String {
        self.0.chars().take(DISPLAY_CHARACTERS).collect()
    }
}

impl fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plaintext")
    }
}

/// SHA-256 of a credential: how it is recognised.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CredentialHash(pub [u8; 32]);

impl CredentialHash {
    /// Of a credential in the clear, whoever holds it.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    #[must_use]
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Debug for CredentialHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CredentialHash({}…)", hex::encode(&self.0[..4]))
    }
}

/// Makes a new token of a prefixed kind. `fill` fills a slice from the operating system's random
/// source; bytes that would bias the alphabet are thrown away.
///
/// # Panics
/// When the kind has no prefix: such credentials are not minted in this form.
pub fn mint(kind: CredentialKind, mut fill: impl FnMut(&mut [u8])) -> Plaintext {
    const UNBIASED: u8 = 248; // the largest multiple of 62 that fits in a byte
    let prefix = kind.prefix().expect("only kinds with a prefix are minted in this form");
    let mut body = Zeroizing::new(String::with_capacity(BODY_CHARACTERS));
    let mut bytes = Zeroizing::new([0; BODY_CHARACTERS]);
    while body.len() < BODY_CHARACTERS {
        let missing = &mut bytes[body.len()..];
        fill(missing);
        let fair = missing.iter().filter(|byte| **byte < UNBIASED);
        body.extend(fair.map(|byte| char::from(ALPHABET[usize::from(byte % 62)])));
    }
    Plaintext::new(format!("{prefix}{}{}", body.as_str(), checksum(&body)))
}

/// The checksum of a body: CRC-32 (IEEE) in base62, left-padded with `0`.
#[must_use]
pub fn checksum(body: &str) -> String {
    checksum_digits(body).map(char::from).iter().collect()
}

fn checksum_digits(body: &str) -> [u8; CHECKSUM_CHARACTERS] {
    let mut value = crc32fast::hash(body.as_bytes());
    let mut digits = [b'0'; CHECKSUM_CHARACTERS];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(value % 62) as usize];
        value /= 62;
    }
    digits
}

/// What somebody showed at the door, as far as its form tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognised {
    /// A well-formed token of a prefixed kind.
    Token(CredentialKind),
    /// Three dot-separated parts: a JWT, its signature still to be checked.
    Jwt,
}

/// The form of a credential. None: no kind looks like this, and no lookup is needed.
#[must_use]
pub fn recognise(text: &str) -> Option<Recognised> {
    let prefixed = KINDS.iter().find_map(|row| match row.form {
        Form::Prefixed(prefix) => Some((row.kind, text.strip_prefix(prefix)?)),
        Form::Jwt | Form::Shared => None,
    });
    match prefixed {
        Some((kind, body)) => well_formed(body).then_some(Recognised::Token(kind)),
        None if text.split('.').count() == 3 => Some(Recognised::Jwt),
        None => None,
    }
}

fn well_formed(body: &str) -> bool {
    let checksummed = body.len() == BODY_CHARACTERS + CHECKSUM_CHARACTERS
        && body.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && checksum_digits(&body[..BODY_CHARACTERS]) == body.as_bytes()[BODY_CHARACTERS..];
    let legacy = body.len() == LEGACY_BODY_CHARACTERS
        && body.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    checksummed || legacy
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting() -> impl FnMut(&mut [u8]) {
        let mut next = 0_u8;
        move |slice| {
            for byte in slice {
                *byte = next;
                next = next.wrapping_add(1);
            }
        }
    }

    #[test]
    fn the_table_is_in_the_order_of_the_kinds() {
        for row in KINDS {
            assert_eq!(row.kind.row().kind, row.kind);
        }
    }

    #[test]
    fn a_minted_token_has_30_characters_and_their_checksum() {
        let token = mint(CredentialKind::PersonalAccessToken, counting());
        assert_eq!(token.expose(), "mul_0123456789ABCDEFGHIJKLMNOPQRST4PMbyp");
        assert_eq!(recognise(token.expose()), Some(Recognised::Token(CredentialKind::PersonalAccessToken)));
        assert_eq!(token.display_prefix(), "mul_01234567");
    }

    #[test]
    fn every_character_of_the_alphabet_is_equally_likely() {
        let mut fill = counting();
        let mut seen = [0_u32; 256];
        for _ in 0..62 * 248 {
            for character in mint(CredentialKind::ApiToken, &mut fill).expose()[4..34].bytes() {
                seen[usize::from(character)] += 1;
            }
        }
        let used: Vec<u32> = ALPHABET.iter().map(|c| seen[usize::from(*c)]).collect();
        let (least, most) = (used.iter().min().unwrap(), used.iter().max().unwrap());
        assert!(f64::from(*most) / f64::from(*least) < 1.02, "{least} to {most}");
    }

    #[test]
    fn a_cut_lengthened_or_altered_token_is_not_recognised() {
        let token = mint(CredentialKind::PersonalAccessToken, counting());
        let token = token.expose();
        let altered = token.replace("0123", "0124");
        for wrong in
            [&token[..39], &format!("{token}0"), &altered, "mul_", "", "mul_é", &token.to_uppercase()]
        {
            assert_eq!(recognise(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_imported_legacy_body_of_40_lowercase_hex_digits_is_recognised() {
        let legacy = format!("mul_{}", "0123456789abcdef0123456789abcdef01234567");
        assert_eq!(recognise(&legacy), Some(Recognised::Token(CredentialKind::PersonalAccessToken)));
        assert_eq!(recognise(&legacy.to_uppercase().replace("MUL", "mul")), None);
    }

    #[test]
    fn the_plaintext_formats_as_nothing() {
        assert_eq!(format!("{:?}", Plaintext::new("mul_secret")), "Plaintext");
    }
}
