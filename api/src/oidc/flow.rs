//! What a browser carries to an issuer and back, in one cookie that it cannot read.

use chrono::{DateTime, TimeDelta, Utc};
use openidconnect::{Nonce, PkceCodeVerifier};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tally_store::KeyRing;
use url::Url;
use zeroize::Zeroizing;

use super::provider::Secrets;

const PURPOSE: &str = "oidc flow";
/// How long somebody may take at the issuer.
pub const FLOW_LIFETIME: TimeDelta = TimeDelta::minutes(10);
/// With all else a cookie stays below the 4096 bytes that browsers keep.
const RETURN_TO_BYTES_MAX: usize = 1024;

/// A login that is under way.
#[derive(Serialize, Deserialize)]
pub struct Flow {
    provider: String,
    state: String,
    nonce: String,
    verifier: String,
    return_to: ReturnTo,
    expires_at: DateTime<Utc>,
}

impl Flow {
    pub fn new(
        provider: &str,
        state: String,
        secrets: &Secrets,
        return_to: ReturnTo,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            provider: provider.to_owned(),
            state,
            nonce: secrets.nonce.secret().clone(),
            verifier: secrets.verifier.secret().clone(),
            return_to,
            expires_at: now + FLOW_LIFETIME,
        }
    }

    /// The value of the cookie.
    pub fn seal(&self, keys: &KeyRing) -> Result<String, serde_json::Error> {
        Ok(keys.seal_carried(PURPOSE, &Zeroizing::new(serde_json::to_vec(self)?)))
    }

    /// The flow in a cookie, if it is under way, at this provider, with this state.
    pub fn open(
        keys: &KeyRing,
        cookie: &str,
        provider: &str,
        state: &str,
        now: DateTime<Utc>,
    ) -> Option<Self> {
        let content = keys.open_carried(PURPOSE, cookie)?;
        let flow: Self = serde_json::from_slice(&content).ok()?;
        let same_state = bool::from(flow.state.as_bytes().ct_eq(state.as_bytes()));
        (same_state && flow.provider == provider && now < flow.expires_at).then_some(flow)
    }

    pub fn secrets(&self) -> Secrets {
        let verifier = PkceCodeVerifier::new(self.verifier.clone());
        Secrets { nonce: Nonce::new(self.nonce.clone()), verifier }
    }

    pub const fn return_to(&self) -> &ReturnTo {
        &self.return_to
    }
}

/// Where in the frontend somebody goes after the login: a path of its own origin and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnTo(String);

impl Default for ReturnTo {
    fn default() -> Self {
        Self("/".to_owned())
    }
}

impl ReturnTo {
    /// A path with a query and a fragment, if this is one. Browsers read `//host` and `/\\host` as
    /// another host, and pass over tabs and line breaks.
    pub fn parse(text: &str) -> Option<Self> {
        let local = text.starts_with('/')
            && !text.starts_with("//")
            && !text.contains('\\')
            && !text.chars().any(|c| c.is_control() || c.is_whitespace());
        (local && text.len() <= RETURN_TO_BYTES_MAX).then(|| Self(text.to_owned()))
    }

    /// The place in the frontend. Whatever a URL parser makes of the path, its origin stays.
    pub fn within(&self, frontend: &Url) -> Url {
        match frontend.join(&self.0) {
            Ok(url) if url.origin() == frontend.origin() => url,
            Ok(_) | Err(_) => frontend.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("/", "https://app.example.org/")]
    #[case("/acme/issues?page=2#last", "https://app.example.org/acme/issues?page=2#last")]
    #[case("/a/../b", "https://app.example.org/b")]
    #[case("/.//evil.example", "https://app.example.org//evil.example")]
    #[case("/login?next=https://evil.example", "https://app.example.org/login?next=https://evil.example")]
    #[case("/%5Cevil.example", "https://app.example.org/%5Cevil.example")]
    #[case("/@evil.example", "https://app.example.org/@evil.example")]
    fn a_path_stays_in_the_frontend(#[case] text: &str, #[case] place: &str) {
        let frontend = Url::parse("https://app.example.org").unwrap();
        assert_eq!(ReturnTo::parse(text).unwrap().within(&frontend).as_str(), place);
    }

    #[rstest]
    #[case("")]
    #[case("acme")]
    #[case("//evil.example")]
    #[case("///evil.example")]
    #[case("/\\evil.example")]
    #[case("/a\\..\\b")]
    #[case("/\t/evil.example")]
    #[case("/\n/evil.example")]
    #[case("https://evil.example")]
    #[case("javascript:alert(1)")]
    #[case(" /acme")]
    #[case("/ acme")]
    fn what_is_no_path_is_refused(#[case] text: &str) {
        assert_eq!(ReturnTo::parse(text), None);
    }

    #[test]
    fn a_path_that_a_cookie_could_not_hold_is_refused() {
        let longest = format!("/{}", "a".repeat(RETURN_TO_BYTES_MAX - 1));
        assert!(ReturnTo::parse(&longest).is_some());
        assert_eq!(ReturnTo::parse(&format!("{longest}a")), None);
    }
}
