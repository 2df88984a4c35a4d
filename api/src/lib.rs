//! The door: HTTP in, commands and queries through, HTTP out.
//!
//! A request passes [`middleware`], then the [`guard`] makes a [`Principal`](tally_domain::Principal)
//! of its credential, then one file under [`routes`], named like the URL, does the rest.

mod client_address;
mod clients;
mod cookies;
mod error;
mod execute;
mod freshness;
mod guard;
mod head_timer;
mod idempotency;
mod in_workspace;
mod jwt;
pub mod mail;
mod metrics;
mod middleware;
mod oidc;
mod openapi;
mod request_body;
mod request_form;
mod request_json;
mod routes;
mod serve;
mod settings;
mod state;

pub use client_address::ProxyTrust;
pub use clients::Clients;
pub use cookies::CookieSettings;
pub use freshness::Freshness;
pub use jwt::Signer;
pub use metrics::{Exporter, ExporterError};
pub use oidc::{ProviderError, ProviderSettings, Providers};
pub use openapi::page as openapi_page;
pub use serve::serve;
pub use settings::{ApiSettings, AuthLimits};
pub use state::App;
