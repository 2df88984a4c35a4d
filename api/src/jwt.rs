//! The JWT of a session (RFC 7519), signed with HS256. It only names a session: whether that
//! lives is looked up on every request.

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use tally_domain::credential::Plaintext;
use tally_events::{SessionId, UserId, seal::Key};

const ISSUER: &str = "tallystick";

/// Signs and checks session JWTs.
#[derive(Clone)]
pub struct Signer {
    encoding: EncodingKey,
    decoding: DecodingKey,
    /// Names the secret in the header, so that its successor can tell tokens apart.
    key_id: String,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: UserId,
    sid: SessionId,
    iat: i64,
    exp: i64,
}

/// What a well-signed JWT says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    pub user: UserId,
    pub session: SessionId,
    pub expires_at: DateTime<Utc>,
}

impl Signer {
    /// `secret` is the bytes of `JWT_SECRET`; `fingerprint` recognises it and reveals nothing.
    #[must_use]
    pub fn new(secret: &[u8], fingerprint: &Key) -> Self {
        Self {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            key_id: fingerprint.fingerprint(),
        }
    }

    /// The JWT of a session.
    pub(crate) fn sign(
        &self,
        user: UserId,
        session: SessionId,
        now: DateTime<Utc>,
        expires_at: DateTime<Utc>,
    ) -> Result<Plaintext, jsonwebtoken::errors::Error> {
        let header = Header { kid: Some(self.key_id.clone()), ..Header::new(Algorithm::HS256) };
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: user,
            sid: session,
            iat: now.timestamp(),
            exp: expires_at.timestamp(),
        };
        jsonwebtoken::encode(&header, &claims, &self.encoding).map(Plaintext::new)
    }

    /// Checks form, algorithm, key and signature. Expiry is compared by the caller, who knows
    /// database time.
    pub(crate) fn check(&self, text: &str) -> Option<Signed> {
        let header = jsonwebtoken::decode_header(text).ok()?;
        if header.kid.is_some_and(|key| key != self.key_id) {
            return None;
        }
        // RFC 8725 section 3.1: the algorithm is ours to choose, not the token's.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        let claims = jsonwebtoken::decode::<Claims>(text, &self.decoding, &validation).ok()?.claims;
        let expires_at = DateTime::from_timestamp(claims.exp, 0)?;
        Some(Signed { user: claims.sub, session: claims.sid, expires_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(secret: &[u8]) -> Signer {
        let mut bytes = [0; 32];
        bytes[..secret.len()].copy_from_slice(secret);
        Signer::new(secret, &Key::from_bytes(bytes))
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn a_jwt_says_what_was_signed() {
        let signer = signer(b"one secret");
        let (user, session) = (UserId::new(), SessionId::new());
        let text = signer.sign(user, session, at(1), at(100)).unwrap();
        assert_eq!(signer.check(text.expose()), Some(Signed { user, session, expires_at: at(100) }));
    }

    #[test]
    fn another_secret_another_algorithm_or_an_altered_text_is_no() {
        let text = signer(b"one secret").sign(UserId::new(), SessionId::new(), at(1), at(100)).unwrap();
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
}
