//! The JWTs of sessions (RFC 7519), signed with HS256. One only names a session: whether that lives
//! is looked up on every request.
//!
//! There are two kinds, each with a type of its own in its header and its own rules, so that neither
//! passes for the other (RFC 8725 sections 3.11 and 3.12). The one of an ordinary session has no
//! claim that names its kind: there are some that were signed before there was another.

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use tally_domain::{
    PersonCredential, Principal,
    credential::{CredentialKind, Plaintext},
};
use tally_events::{SessionId, UserId, seal::Key};

use crate::routes::auth::fill_random;

const ISSUER: &str = "tallystick";
/// RFC 7519 section 5.1.
const SESSION_TYPE: &str = "JWT";
/// In the form of RFC 8725 section 3.11.
const ACCESS_TYPE: &str = "console-access+jwt";

/// Signs and checks session JWTs.
#[derive(Clone)]
pub struct Signer {
    encoding: EncodingKey,
    /// What a JWT may have been signed with: the current secret, and then those that went before it or
    /// will come after it.
    verifying: Vec<Verifying>,
}

#[derive(Clone)]
struct Verifying {
    decoding: DecodingKey,
    /// Names the secret in the header, so that its successor can tell tokens apart.
    key_id: String,
}

impl Verifying {
    fn new(secret: &[u8], fingerprint: &Key) -> Self {
        Self { decoding: DecodingKey::from_secret(secret), key_id: fingerprint.fingerprint() }
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: UserId,
    sid: SessionId,
    iat: i64,
    exp: i64,
    /// Of an access token, as what follows: two that are given in one second are not the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
}

/// What a session's JWT is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    pub kind: SessionKind,
    pub user: UserId,
    pub session: SessionId,
    pub expires_at: DateTime<Utc>,
}

impl Session {
    /// Who speaks by it, if it is live: that is not known here.
    pub(crate) const fn principal(&self) -> Principal {
        let Self { kind, user, session: id, expires_at } = *self;
        let credential = match kind {
            SessionKind::Ordinary => PersonCredential::Session { id, expires_at },
            SessionKind::Console => PersonCredential::ConsoleSession { id, expires_at },
        };
        Principal::Person { user, credential }
    }
}

/// The kinds of session that a JWT shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionKind {
    Ordinary,
    Console,
}

impl SessionKind {
    pub const fn credential(self) -> CredentialKind {
        match self {
            Self::Ordinary => CredentialKind::Session,
            Self::Console => CredentialKind::ConsoleSession,
        }
    }

    const fn header_type(self) -> &'static str {
        match self {
            Self::Ordinary => SESSION_TYPE,
            Self::Console => ACCESS_TYPE,
        }
    }

    const fn claim(self) -> Option<&'static str> {
        match self {
            Self::Ordinary => None,
            Self::Console => Some(CredentialKind::ConsoleSession.row().name),
        }
    }

    /// The kind whose rules a header's type asks for. RFC 7515 section 4.1.9: in any letter case.
    fn of_type(header_type: Option<&str>) -> Option<Self> {
        let Some(named) = header_type else { return Some(Self::Ordinary) };
        [Self::Ordinary, Self::Console]
            .into_iter()
            .find(|kind| kind.header_type().eq_ignore_ascii_case(named))
    }
}

impl Signer {
    /// `secret` is the bytes of `JWT_SECRET`; `fingerprint` recognises it and reveals nothing.
    #[must_use]
    pub fn new(secret: &[u8], fingerprint: &Key) -> Self {
        let verifying = vec![Verifying::new(secret, fingerprint)];
        Self { encoding: EncodingKey::from_secret(secret), verifying }
    }

    /// The same, which also accepts what was signed with another secret and names it.
    #[must_use]
    pub fn verifying(mut self, secret: &[u8], fingerprint: &Key) -> Self {
        self.verifying.push(Verifying::new(secret, fingerprint));
        self
    }

    /// The JWT of a session.
    pub(crate) fn sign(
        &self,
        session: &Session,
        now: DateTime<Utc>,
    ) -> Result<Plaintext, jsonwebtoken::errors::Error> {
        let Session { kind, user, session, expires_at } = *session;
        let header = Header {
            typ: Some(kind.header_type().to_owned()),
            kid: Some(self.current().key_id.clone()),
            ..Header::new(Algorithm::HS256)
        };
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: user,
            sid: session,
            iat: now.timestamp(),
            exp: expires_at.timestamp(),
            jti: match kind {
                SessionKind::Ordinary => None,
                SessionKind::Console => Some(draw_id()),
            },
            kind: kind.claim().map(str::to_owned),
        };
        jsonwebtoken::encode(&header, &claims, &self.encoding).map(Plaintext::new)
    }

    /// Checks form, algorithm, key, signature and kind. Expiry is compared by the caller, who knows
    /// database time.
    pub(crate) fn check(&self, text: &str) -> Option<Session> {
        let header = jsonwebtoken::decode_header(text).ok()?;
        let kind = SessionKind::of_type(header.typ.as_deref())?;
        // One that names no key is tried with the current one alone.
        let verifying = match header.kid {
            None => Some(self.current()),
            Some(key) => self.verifying.iter().find(|known| known.key_id == key),
        };
        // RFC 8725 section 3.1: the algorithm is ours to choose, not the token's.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        let claims = jsonwebtoken::decode::<Claims>(text, &verifying?.decoding, &validation).ok()?.claims;
        if claims.kind.as_deref() != kind.claim() {
            return None;
        }
        let expires_at = DateTime::from_timestamp(claims.exp, 0)?;
        Some(Session { kind, user: claims.sub, session: claims.sid, expires_at })
    }

    fn current(&self) -> &Verifying {
        &self.verifying[0]
    }
}

fn draw_id() -> String {
    let mut bytes = [0; 16];
    fill_random(&mut bytes);
    hex::encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(secret: &[u8]) -> Key {
        let mut bytes = [0; 32];
        bytes[..secret.len()].copy_from_slice(secret);
        Key::from_bytes(bytes)
    }

    fn signer(secret: &[u8]) -> Signer {
        Signer::new(secret, &fingerprint(secret))
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn session(kind: SessionKind) -> Session {
        Session { kind, user: UserId::new(), session: SessionId::new(), expires_at: at(100) }
    }

    #[test]
    fn a_jwt_says_what_was_signed() {
        let signer = signer(b"one secret");
        for kind in [SessionKind::Ordinary, SessionKind::Console] {
            let session = session(kind);
            let text = signer.sign(&session, at(1)).unwrap();
            assert_eq!(signer.check(text.expose()), Some(session));
            let again = signer.sign(&session, at(1)).unwrap();
            assert_eq!(again.expose() == text.expose(), kind == SessionKind::Ordinary);
        }
    }

    #[test]
    fn another_secret_another_algorithm_or_an_altered_text_is_no() {
        let text = signer(b"one secret").sign(&session(SessionKind::Ordinary), at(1)).unwrap();
        assert_eq!(signer(b"other secret").check(text.expose()), None);
        let [_, claims, signature] = text.expose().split('.').collect::<Vec<_>>()[..] else {
            panic!("three parts")
        };
        // {"alg":"none","typ":"JWT"}
        let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.");
        let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.{signature}");
        for forged in [none, unsigned, format!("{}x", text.expose()), "a.b.c".to_owned(), "..".to_owned()] {
            assert_eq!(signer(b"one secret").check(&forged), None, "{forged}");
        }
    }

    /// The current secret signs; every one that is named verifies, by its name alone.
    #[test]
    fn what_another_known_secret_signed_is_good_and_what_it_signs_is_the_current_ones() {
        let (old, new) = (signer(b"old secret"), signer(b"new secret"));
        let rotated = signer(b"new secret").verifying(b"old secret", &fingerprint(b"old secret"));
        let session = session(SessionKind::Ordinary);
        let [by_old, by_new, by_rotated] =
            [&old, &new, &rotated].map(|signer| signer.sign(&session, at(1)).unwrap());
        for text in [&by_old, &by_new, &by_rotated] {
            assert_eq!(rotated.check(text.expose()), Some(session));
        }
        assert_eq!(by_rotated.expose(), by_new.expose());
        assert_eq!(old.check(by_rotated.expose()), None);
        assert_eq!(new.check(by_old.expose()), None);
    }

    /// Whoever knows one secret cannot speak in the name of another.
    #[test]
    fn a_name_of_one_secret_over_a_signature_of_the_other_is_no() {
        let rotated = signer(b"new secret").verifying(b"old secret", &fingerprint(b"old secret"));
        let claims = serde_json::json!({
            "iss": ISSUER, "sub": UserId::new(), "sid": SessionId::new(), "iat": 1, "exp": 100,
        });
        let sign = |kid: Option<String>, secret: &[u8]| {
            let header = Header { kid, ..Header::new(Algorithm::HS256) };
            jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret)).unwrap()
        };
        let name = |secret: &[u8]| Some(fingerprint(secret).fingerprint());
        assert!(rotated.check(&sign(name(b"old secret"), b"old secret")).is_some());
        assert!(rotated.check(&sign(None, b"new secret")).is_some());
        for (kid, secret) in [
            (name(b"old secret"), &b"new secret"[..]),
            (name(b"new secret"), b"old secret"),
            (name(b"no secret"), b"new secret"),
            (Some(String::new()), b"new secret"),
            (None, b"old secret"),
        ] {
            assert_eq!(rotated.check(&sign(kid, secret)), None);
        }
    }

    /// Type and claim must both say so: one that was made by other rules passes neither.
    #[test]
    fn a_jwt_of_one_kind_does_not_pass_for_the_other() {
        let (secret, signer) = (b"one secret", signer(b"one secret"));
        let check = |typ: Option<&str>, kind: Option<&str>| {
            let mut claims = serde_json::json!({
                "iss": ISSUER, "sub": UserId::new(), "sid": SessionId::new(), "iat": 1, "exp": 100,
            });
            if let Some(kind) = kind {
                claims["kind"] = kind.into();
            }
            let header = Header { typ: typ.map(str::to_owned), ..Header::new(Algorithm::HS256) };
            let text = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret)).unwrap();
            signer.check(&text).map(|session| session.kind)
        };
        for typ in [None, Some("JWT"), Some("jwt")] {
            assert_eq!(check(typ, None), Some(SessionKind::Ordinary));
            for kind in ["session", "console_session", ""] {
                assert_eq!(check(typ, Some(kind)), None, "{typ:?} {kind}");
            }
        }
        assert_eq!(check(Some("console-access+jwt"), Some("console_session")), Some(SessionKind::Console));
        for kind in [None, Some("session"), Some("Console_Session"), Some("")] {
            assert_eq!(check(Some("console-access+jwt"), kind), None, "{kind:?}");
        }
        for typ in ["", "at+jwt", "application/console-access+jwt", "console-access"] {
            assert_eq!(check(Some(typ), Some("console_session")), None, "{typ}");
            assert_eq!(check(Some(typ), None), None, "{typ}");
        }
    }
}
