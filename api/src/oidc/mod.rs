//! Login by way of OpenID Connect issuers. Which ones is configuration.
//!
//! [`Provider`] is one of them: it sends browsers there and takes what comes back for an assertion.
//! [`Flow`] is what a browser carries meanwhile, [`Link`] what somebody carries who has to prove an
//! address first.

mod flow;
mod http;
mod link;
mod metadata;
mod provider;

use openidconnect::RedirectUrl;

pub(crate) use flow::{FLOW_LIFETIME, Flow, ReturnTo};
use http::HttpError;
pub(crate) use link::{LINK_LIFETIME, Link};
pub(crate) use provider::{Code, Provider};
pub use provider::{ProviderError, ProviderSettings};

/// Why an issuer's word was not had, or does not count.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OidcError {
    /// It is away, slow, or not what it should be: nobody knows, so nobody is let in.
    #[error("the issuer cannot be used: {0}")]
    Unavailable(&'static str, #[source] Option<HttpError>),
    /// It answered, and the answer is not good.
    #[error("the issuer's answer does not count: {0}")]
    Untrusted(&'static str),
    #[error("the issuer does not know the code, or no longer")]
    CodeRefused,
    #[error("the issuer names no address that it has verified")]
    NoVerifiedEmail,
}

/// The one that `/auth/google` asks.
const GOOGLE: &str = "google";

/// The issuers people may come from.
pub struct Providers {
    all: Vec<Provider>,
    google_redirects: Vec<RedirectUrl>,
}

impl Providers {
    /// `public_origin` is where browsers reach this server, `google_redirects` where the clients of
    /// `/auth/google` may have had their codes sent to, letter for letter.
    ///
    /// # Errors
    /// The first that cannot be had.
    pub fn new(
        settings: Vec<ProviderSettings>,
        public_origin: &str,
        google_redirects: Vec<String>,
    ) -> Result<Self, ProviderError> {
        let all = settings.into_iter().map(|settings| Provider::new(settings, public_origin));
        let google_redirects = google_redirects.into_iter().map(provider::redirect_url);
        Ok(Self {
            all: all.collect::<Result<_, _>>()?,
            google_redirects: google_redirects.collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Provider> {
        self.all.iter()
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Provider> {
        self.iter().find(|provider| provider.name() == name)
    }

    pub(crate) fn google(&self) -> Option<&Provider> {
        self.named(GOOGLE)
    }

    /// The allowed redirect that is exactly this one; the first where none is named.
    pub(crate) fn google_redirect(&self, named: Option<&str>) -> Option<&RedirectUrl> {
        let is_named = |allowed: &&RedirectUrl| named.is_none_or(|named| allowed.as_str() == named);
        self.google_redirects.iter().find(is_named)
    }
}
