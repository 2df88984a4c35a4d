//! One issuer that people may come from, and what it says of them.

use std::{borrow::Cow, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use openidconnect::{
    AccessToken, AccessTokenHash, AdditionalClaims, AuthType, AuthorizationCode, ClaimsVerificationError,
    Client, ClientId, ClientSecret, CsrfToken, EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet,
    EndpointSet, IdTokenClaims, IdTokenFields, IssuerUrl, Nonce, OAuth2TokenResponse, PkceCodeChallenge,
    PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope, SignatureVerificationError,
    StandardErrorResponse, StandardTokenResponse, SubjectIdentifier, TokenResponse, UserInfoClaims,
    core::{
        CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreClientAuthMethod, CoreErrorResponseType,
        CoreGenderClaim, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm,
        CoreRevocableToken, CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
    },
};
use serde::{Deserialize, Serialize};
use tally_domain::{
    EmailAddress,
    credential::Plaintext,
    identity::{Assertion, Authority, Identity},
};
use tokio::time::timeout;
use url::Url;

use super::{
    OidcError,
    http::{HttpClient, HttpError},
    metadata::{Metadata, Published},
};

/// Signatures that count: by the issuer's private key alone. A shared secret would let whoever reads
/// this server's settings sign for anybody.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];
/// How far an issuer's clock may be ahead of the database's.
const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(5);
/// For all that is asked of an issuer during one login: less than a request may take here.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(12);

/// An issuer and this server's registration there.
#[derive(Clone, Debug)]
pub struct ProviderSettings {
    /// In URLs: lower case letters, digits and hyphens.
    pub name: String,
    /// On the button.
    pub label: String,
    /// A URL, letter for letter as the issuer writes it.
    pub issuer: String,
    pub client_id: String,
    pub client_secret: Plaintext,
    pub authority: Authority,
}

/// Google's own claim: whose Workspace an account belongs to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Hosted {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hd: Option<String>,
}

impl AdditionalClaims for Hosted {}

type Tokens = StandardTokenResponse<
    IdTokenFields<
        Hosted,
        EmptyExtraTokenFields,
        CoreGenderClaim,
        CoreJweContentEncryptionAlgorithm,
        CoreJwsSigningAlgorithm,
    >,
    CoreTokenType,
>;

type OidcClient = Client<
    Hosted,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    Tokens,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

type Claims = IdTokenClaims<Hosted, CoreGenderClaim>;

/// An issuer that people may come from.
pub struct Provider {
    settings: ProviderSettings,
    /// Where it sends browsers back to.
    callback: RedirectUrl,
    http: HttpClient,
    published: Published,
}

/// Why a provider cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    #[error("`{text}` is not a URL")]
    Url { text: String, source: url::ParseError },
    #[error("no client for `{name}` can be made")]
    Http { name: String, source: reqwest::Error },
}

/// What must survive the way to the issuer and back, beside the state.
pub struct Secrets {
    pub nonce: Nonce,
    pub verifier: PkceCodeVerifier,
}

/// An authorization code, and what it was asked for with.
pub struct Code<'a> {
    pub code: &'a str,
    pub redirect_uri: &'a RedirectUrl,
    /// None where a client of an older protocol asked for it, which knew neither.
    pub secrets: Option<Secrets>,
}

impl Provider {
    /// # Errors
    /// When the issuer is no URL, or the machine cannot speak TLS.
    pub(super) fn new(settings: ProviderSettings, public_origin: &str) -> Result<Self, ProviderError> {
        let issuer = IssuerUrl::new(settings.issuer.clone())
            .map_err(|source| ProviderError::Url { text: settings.issuer.clone(), source })?;
        let callback = redirect_url(format!("{public_origin}/auth/oidc/{}/callback", settings.name))?;
        let http = HttpClient::new(issuer.url().scheme() == "https")
            .map_err(|source| ProviderError::Http { name: settings.name.clone(), source })?;
        Ok(Self { settings, callback, http, published: Published::new(issuer) })
    }

    pub fn name(&self) -> &str {
        &self.settings.name
    }

    pub fn label(&self) -> &str {
        &self.settings.label
    }

    pub const fn callback(&self) -> &RedirectUrl {
        &self.callback
    }

    pub const fn authority(&self) -> &Authority {
        &self.settings.authority
    }

    /// Where to send a browser, and what to keep until it comes back with `state`.
    pub async fn authorization_url(&self, state: String) -> Result<(Url, Secrets), OidcError> {
        let metadata = timeout(LOGIN_TIMEOUT, self.published.get(&self.http)).await.map_err(|_| slow())??;
        let client = self.client(&metadata)?.set_redirect_uri(self.callback.clone());
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let (url, _, nonce) = client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                move || CsrfToken::new(state),
                Nonce::new_random,
            )
            .add_scope(Scope::new("email".to_owned()))
            .add_scope(Scope::new("profile".to_owned()))
            .set_pkce_challenge(challenge)
            .url();
        Ok((url, Secrets { nonce, verifier }))
    }

    /// RFC 9207 section 2.4: an answer from another issuer than the one that was asked is a mix-up,
    /// and so is one without a name where the issuer is known to give it.
    pub async fn check_issuer(&self, iss: Option<&str>) -> Result<(), OidcError> {
        let metadata = timeout(LOGIN_TIMEOUT, self.published.get(&self.http)).await.map_err(|_| slow())??;
        match iss {
            Some(iss) if iss == self.settings.issuer => Ok(()),
            Some(_) => Err(OidcError::Untrusted("the answer is another issuer's")),
            None if metadata.additional_metadata().authorization_response_iss_parameter_supported => {
                Err(OidcError::Untrusted("the answer does not name its issuer"))
            }
            None => Ok(()),
        }
    }

    /// Exchanges a code for what the issuer says of whoever it was given to.
    pub async fn identify(&self, code: Code<'_>, now: DateTime<Utc>) -> Result<Assertion, OidcError> {
        timeout(LOGIN_TIMEOUT, self.exchange(code, now)).await.map_err(|_| slow())?
    }

    async fn exchange(&self, code: Code<'_>, now: DateTime<Utc>) -> Result<Assertion, OidcError> {
        let metadata = self.published.get(&self.http).await?;
        let client = self.client(&metadata)?;
        let Code { code, redirect_uri, secrets } = code;
        let mut request = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .map_err(|_| OidcError::Unavailable("it names no token endpoint", None))?
            .set_redirect_uri(Cow::Borrowed(redirect_uri));
        let mut nonce = None;
        if let Some(secrets) = secrets {
            request = request.set_pkce_verifier(secrets.verifier);
            nonce = Some(secrets.nonce);
        }
        let tokens = request.request_async(&self.http).await.map_err(refused)?;
        match self.verified(&client, &tokens, nonce.as_ref(), now) {
            Ok(claims) => self.assertion(&client, &tokens, claims).await,
            // The issuer may have changed its keys since they were read.
            Err(Distrust::Signature) => {
                let metadata = self.published.newer_than(&metadata, &self.http).await?;
                let client = self.client(&metadata)?;
                let claims = self.verified(&client, &tokens, nonce.as_ref(), now)?;
                self.assertion(&client, &tokens, claims).await
            }
            Err(distrust) => Err(distrust.into()),
        }
    }

    fn client(&self, metadata: &Metadata) -> Result<OidcClient, OidcError> {
        let secret = ClientSecret::new(self.settings.client_secret.expose().to_owned());
        let id = ClientId::new(self.settings.client_id.clone());
        let client = OidcClient::from_provider_metadata(metadata.clone(), id, Some(secret));
        // Discovery 1.0 section 3: who lists none takes the first.
        let listed = metadata.token_endpoint_auth_methods_supported();
        let takes = |method| listed.is_none_or(|methods| methods.contains(&method));
        if takes(CoreClientAuthMethod::ClientSecretBasic) {
            Ok(client.set_auth_type(AuthType::BasicAuth))
        } else if takes(CoreClientAuthMethod::ClientSecretPost) {
            Ok(client.set_auth_type(AuthType::RequestBody))
        } else {
            Err(OidcError::Unavailable("it takes no client secret", None))
        }
    }

    /// The claims of the ID token, if all of OpenID Connect Core 1.0 section 3.1.3.7 holds.
    fn verified<'t>(
        &self,
        client: &OidcClient,
        tokens: &'t Tokens,
        nonce: Option<&Nonce>,
        now: DateTime<Utc>,
    ) -> Result<&'t Claims, Distrust> {
        let id_token = tokens.id_token().ok_or(Distrust::Token("there is no ID token"))?;
        let verifier = client
            .id_token_verifier()
            .set_allowed_algs(ALGORITHMS)
            .set_time_fn(move || now)
            .set_issue_time_verifier_fn(move |at| {
                if at > now + CLOCK_SKEW { Err("issued in the future".to_owned()) } else { Ok(()) }
            });
        let claims = match nonce {
            Some(nonce) => id_token.claims(&verifier, nonce),
            None => id_token.claims(&verifier, |_: Option<&Nonce>| Ok(())),
        }
        .map_err(|error| distrust(&error))?;
        // Step 5. The verifier has refused any other audience, and leaves this one to us.
        if claims.authorized_party().is_some_and(|party| **party != self.settings.client_id) {
            return Err(Distrust::Token("the ID token was made for another party"));
        }
        // Section 3.1.3.8.
        if let Some(expected) = claims.access_token_hash() {
            let algorithm = id_token.signing_alg().map_err(|_| Distrust::Signature)?;
            let key = id_token.signing_key(&verifier).map_err(|_| Distrust::Signature)?;
            let hash = AccessTokenHash::from_token(tokens.access_token(), algorithm, key);
            if hash.ok().as_ref() != Some(expected) {
                return Err(Distrust::Token("the access token is not the ID token's"));
            }
        }
        Ok(claims)
    }

    /// What the claims say of the person: those of the ID token, or those of the UserInfo endpoint
    /// where the ID token has no address. The two are never mixed.
    async fn assertion(
        &self,
        client: &OidcClient,
        tokens: &Tokens,
        claims: &Claims,
    ) -> Result<Assertion, OidcError> {
        let identity = Identity::new(&*self.settings.issuer, claims.subject().as_str())
            .map_err(|_| OidcError::Untrusted("the subject is none"))?;
        if let Some(email) = claims.email() {
            let name = claims.name().and_then(|name| name.get(None)).map(|name| name.as_str());
            let hd = claims.additional_claims().hd.as_deref();
            return assertion(identity, Some(email.as_str()), claims.email_verified(), name, hd);
        }
        let said = self.user_info(client, tokens.access_token(), claims.subject()).await?;
        let name = said.name().and_then(|name| name.get(None)).map(|name| name.as_str());
        let hd = said.additional_claims().hd.as_deref();
        assertion(identity, said.email().map(|email| email.as_str()), said.email_verified(), name, hd)
    }

    async fn user_info(
        &self,
        client: &OidcClient,
        token: &AccessToken,
        subject: &SubjectIdentifier,
    ) -> Result<UserInfoClaims<Hosted, CoreGenderClaim>, OidcError> {
        // It goes into a header (RFC 6750 section 2.1).
        if !token.secret().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(OidcError::Untrusted("the access token is none"));
        }
        let request =
            client.user_info(token.clone(), Some(subject.clone())).map_err(|_| OidcError::NoVerifiedEmail)?;
        request.request_async(&self.http).await.map_err(|error| match error {
            openidconnect::UserInfoError::Request(error) => {
                OidcError::Unavailable("its UserInfo endpoint does not answer", Some(error))
            }
            openidconnect::UserInfoError::ClaimsVerification(_) => {
                OidcError::Untrusted("its UserInfo endpoint speaks of somebody else")
            }
            _ => OidcError::Unavailable("its UserInfo endpoint does not answer as it should", None),
        })
    }
}

pub(super) fn redirect_url(text: String) -> Result<RedirectUrl, ProviderError> {
    RedirectUrl::new(text.clone()).map_err(|source| ProviderError::Url { text, source })
}

const fn slow() -> OidcError {
    OidcError::Unavailable("it does not answer in time", None)
}

fn assertion(
    identity: Identity,
    email: Option<&str>,
    verified: Option<bool>,
    name: Option<&str>,
    hosted_domain: Option<&str>,
) -> Result<Assertion, OidcError> {
    let email = email.filter(|_| verified == Some(true)).ok_or(OidcError::NoVerifiedEmail)?;
    let email = EmailAddress::parse(email).map_err(|_| OidcError::NoVerifiedEmail)?;
    Ok(Assertion::new(identity, email, name, hosted_domain))
}

/// Why an ID token does not count.
enum Distrust {
    /// Not with the keys that are known.
    Signature,
    Token(&'static str),
}

impl From<Distrust> for OidcError {
    fn from(distrust: Distrust) -> Self {
        match distrust {
            Distrust::Signature => Self::Untrusted("the ID token's signature is not the issuer's"),
            Distrust::Token(why) => Self::Untrusted(why),
        }
    }
}

/// The words of the library quote what they complain of, so they are not passed on.
fn distrust(error: &ClaimsVerificationError) -> Distrust {
    match error {
        ClaimsVerificationError::SignatureVerification(
            SignatureVerificationError::NoMatchingKey | SignatureVerificationError::CryptoError(_),
        ) => Distrust::Signature,
        ClaimsVerificationError::SignatureVerification(_) => {
            Distrust::Token("the ID token is not signed as it must be")
        }
        ClaimsVerificationError::InvalidIssuer(_) => Distrust::Token("the ID token is another issuer's"),
        ClaimsVerificationError::InvalidAudience(_) => Distrust::Token("the ID token is for somebody else"),
        ClaimsVerificationError::InvalidNonce(_) => Distrust::Token("the ID token is of another login"),
        ClaimsVerificationError::Expired(_) => Distrust::Token("the ID token is not of this moment"),
        _ => Distrust::Token("the ID token does not count"),
    }
}

/// What the token endpoint's no means. Its own words are not passed on.
fn refused(error: RequestTokenError<HttpError, StandardErrorResponse<CoreErrorResponseType>>) -> OidcError {
    match error {
        RequestTokenError::ServerResponse(answer) => match answer.error() {
            CoreErrorResponseType::InvalidGrant => OidcError::CodeRefused,
            CoreErrorResponseType::InvalidClient | CoreErrorResponseType::UnauthorizedClient => {
                OidcError::Unavailable("it does not know this client, or by another secret", None)
            }
            _ => OidcError::Unavailable("it refuses the exchange", None),
        },
        RequestTokenError::Request(error) => {
            OidcError::Unavailable("its token endpoint does not answer", Some(error))
        }
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
            OidcError::Unavailable("its token endpoint does not answer as it should", None)
        }
    }
}
