//! What an issuer publishes of itself, its keys included, read when it is needed and kept for a while.

use std::{sync::Arc, time::Duration};

use openidconnect::{
    AdditionalProviderMetadata, DiscoveryError, IssuerUrl, ProviderMetadata, TokenUrl,
    core::{
        CoreAuthDisplay, CoreClaimName, CoreClaimType, CoreClientAuthMethod, CoreGrantType, CoreJsonWebKey,
        CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreResponseMode, CoreResponseType,
        CoreSubjectIdentifierType,
    },
};
use serde::{Deserialize, Serialize};
use tokio::{sync::Mutex, time::Instant};
use url::Url;

use super::{
    OidcError,
    http::{HttpClient, HttpError},
};

/// After this an issuer is asked again: a key it has withdrawn counts no longer than that.
const LIFETIME: Duration = Duration::from_mins(10);
/// An issuer that was away is not asked again before: whoever waits behind the one who asked shares
/// the answer.
const PAUSE: Duration = Duration::from_secs(1);

/// What RFC 9207 adds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Additional {
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

impl AdditionalProviderMetadata for Additional {}

pub type Metadata = ProviderMetadata<
    Additional,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

/// The metadata of one issuer.
pub struct Published {
    issuer: IssuerUrl,
    latest: Mutex<Latest>,
}

#[derive(Default)]
struct Latest {
    found: Option<(Arc<Metadata>, Instant)>,
    failed_at: Option<Instant>,
}

impl Published {
    pub fn new(issuer: IssuerUrl) -> Self {
        Self { issuer, latest: Mutex::default() }
    }

    /// What was read within its lifetime, or is read now. One asks, the others wait.
    pub async fn get(&self, http: &HttpClient) -> Result<Arc<Metadata>, OidcError> {
        self.other_than(None, http).await
    }

    /// The same, where `known` turned out to lack a key: read anew, unless somebody just did.
    pub async fn newer_than(
        &self,
        known: &Arc<Metadata>,
        http: &HttpClient,
    ) -> Result<Arc<Metadata>, OidcError> {
        self.other_than(Some(known), http).await
    }

    async fn other_than(
        &self,
        known: Option<&Arc<Metadata>>,
        http: &HttpClient,
    ) -> Result<Arc<Metadata>, OidcError> {
        let mut latest = self.latest.lock().await;
        if let Some((metadata, read_at)) = &latest.found
            && read_at.elapsed() < LIFETIME
            && known.is_none_or(|known| !Arc::ptr_eq(known, metadata))
        {
            return Ok(metadata.clone());
        }
        if latest.failed_at.is_some_and(|at| at.elapsed() < PAUSE) {
            return Err(OidcError::Unavailable("it did not answer a moment ago", None));
        }
        match discover(&self.issuer, http).await {
            Ok(metadata) => {
                let metadata = Arc::new(metadata);
                *latest = Latest { found: Some((metadata.clone(), Instant::now())), failed_at: None };
                Ok(metadata)
            }
            Err(error) => {
                latest.failed_at = Some(Instant::now());
                Err(error)
            }
        }
    }
}

/// OpenID Connect Discovery 1.0 section 4, and the keys at `jwks_uri`.
async fn discover(issuer: &IssuerUrl, http: &HttpClient) -> Result<Metadata, OidcError> {
    let metadata = Metadata::discover_async(issuer.clone(), http).await.map_err(explain)?;
    // The client asks by https alone where the issuer is; the first of these is asked by browsers.
    let asked = [Some(metadata.authorization_endpoint().url()), metadata.token_endpoint().map(TokenUrl::url)];
    for endpoint in asked {
        let endpoint = endpoint.ok_or(OidcError::Unavailable("it names no token endpoint", None))?;
        if !as_protected(issuer.url(), endpoint) {
            return Err(OidcError::Unavailable("it names an endpoint without https", None));
        }
    }
    Ok(metadata)
}

/// Whether what stands at `endpoint` is reached as safely as the issuer itself.
fn as_protected(issuer: &Url, endpoint: &Url) -> bool {
    endpoint.scheme() == "https" || endpoint.scheme() == "http" && issuer.scheme() == "http"
}

/// Answers may hold anything, so none is shown.
fn explain(error: DiscoveryError<HttpError>) -> OidcError {
    match error {
        DiscoveryError::Request(error) => OidcError::Unavailable("its metadata cannot be read", Some(error)),
        DiscoveryError::Response(..) => OidcError::Unavailable("its metadata is no JSON document", None),
        DiscoveryError::Parse(_) => {
            OidcError::Unavailable("its metadata is not of the form it should be", None)
        }
        DiscoveryError::Validation(_) => OidcError::Unavailable("its metadata names another issuer", None),
        _ => OidcError::Unavailable("its metadata cannot be asked for", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_as_protected_as_its_issuer() {
        let url = |text| Url::parse(text).unwrap();
        let issuer = url("https://issuer.example");
        assert!(as_protected(&issuer, &url("https://elsewhere.example/token")));
        for worse in ["http://issuer.example/token", "javascript:alert(1)", "data:text/html,x"] {
            assert!(!as_protected(&issuer, &url(worse)), "{worse}");
        }
        let local = url("http://127.0.0.1:1");
        assert!(as_protected(&local, &url("http://127.0.0.1:1/token")));
        assert!(!as_protected(&local, &url("javascript:alert(1)")));
    }
}
