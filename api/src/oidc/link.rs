//! What somebody carries who came from an issuer and has to prove an address before that counts.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tally_domain::{
    EmailAddress,
    credential::Plaintext,
    identity::{Assertion, Identity},
    login::CODE_LIFETIME,
};
use tally_store::KeyRing;
use zeroize::Zeroizing;

const PURPOSE: &str = "identity link";
/// As long as the code that is asked for next.
pub const LINK_LIFETIME: TimeDelta = CODE_LIFETIME;

/// An identity that was proven here, and the address its issuer gave. It links nothing by itself:
/// together with a code that was mailed to this very address it does, and in the browser alone that
/// proved the identity: nobody is talked into finishing the login of another.
#[derive(Serialize, Deserialize)]
pub struct Link {
    issuer: String,
    subject: String,
    email: String,
    /// What the browser's cookie says.
    browser: String,
    expires_at: DateTime<Utc>,
}

impl Link {
    /// `browser` is drawn for this login, and goes into the cookie.
    pub fn new(assertion: &Assertion, browser: &str, now: DateTime<Utc>) -> Self {
        let Assertion { identity, email, .. } = assertion;
        Self {
            issuer: identity.issuer().to_owned(),
            subject: identity.subject().to_owned(),
            email: email.as_str().to_owned(),
            browser: browser.to_owned(),
            expires_at: now + LINK_LIFETIME,
        }
    }

    /// The `link_token` of the wire.
    pub fn seal(&self, keys: &KeyRing) -> Result<Plaintext, serde_json::Error> {
        let content = Zeroizing::new(serde_json::to_vec(self)?);
        Ok(Plaintext::new(keys.seal_carried(PURPOSE, &content)))
    }

    /// The identity in a `link_token`, if it was made for this address and this browser and is still
    /// good.
    pub fn open(
        keys: &KeyRing,
        token: &str,
        email: &EmailAddress,
        browser: &str,
        now: DateTime<Utc>,
    ) -> Option<Identity> {
        let content = keys.open_carried(PURPOSE, token)?;
        let link: Self = serde_json::from_slice(&content).ok()?;
        let same_browser = bool::from(link.browser.as_bytes().ct_eq(browser.as_bytes()));
        if !same_browser || link.email != email.as_str() || now >= link.expires_at {
            return None;
        }
        Identity::new(link.issuer, link.subject).ok()
    }
}
