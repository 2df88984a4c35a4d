//! What the door needs to know of its surroundings, decided once by the binary.

use chrono::TimeDelta;
use tally_domain::{login::Digits, signup::SignupPolicy};
use tally_store::Limit;

use url::Url;

use crate::{
    client_address::ProxyTrust, clients::Clients, cookies::CookieSettings, jwt::Signer, oidc::Providers,
};

/// Requests to the login routes from one address.
#[derive(Clone, Copy, Debug)]
pub struct AuthLimits {
    /// Sending a code.
    pub send: Limit,
    /// Trying a code.
    pub verify: Limit,
}

pub struct ApiSettings {
    pub signer: Signer,
    pub cookies: CookieSettings,
    /// Origins that browsers may call from, such as `https://app.example.org`.
    pub allowed_origins: Vec<String>,
    pub session_lifetime: TimeDelta,
    pub signup: SignupPolicy,
    pub limits: AuthLimits,
    pub proxies: ProxyTrust,
    /// A code that fits every live one; only outside production.
    pub development_code: Option<Digits>,
    /// Who may introspect credentials.
    pub clients: Clients,
    pub google_client_id: Option<String>,
    /// Issuers that people may come from.
    pub providers: Providers,
    /// Where the web client lives.
    pub frontend: Url,
    pub workspace_creation_disabled: bool,
    /// Whether requests are counted, because somebody may ask for metrics.
    pub count_requests: bool,
    pub server_version: &'static str,
}
