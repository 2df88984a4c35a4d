//! The login door.

pub mod google;
mod identity;
pub mod logout;
pub mod oidc;
pub mod send_code;
pub mod verify;
pub mod verify_code;

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use rand::{TryRng, rngs::SysRng};
use tally_domain::{EmailAddress, session::Origin, signup::SignupMode};
use tally_projections::invitations::any_open;
use tally_store::{Limit, Limited, RequestContext};

use crate::{
    client_address::{ClientAddress, limited_as},
    cookies,
    error::ApiError,
    guard::context_of,
    routes::invitations::invitations_for,
    state::App,
};

/// Characters of a user agent that are kept.
const USER_AGENT_CHARACTERS: usize = 256;

/// A caller who has proven nothing: where the request came from, and what surrounds it.
pub struct Visitor {
    pub origin: Origin,
    pub context: RequestContext,
    /// What the cookie of a login says whose address is still to be proven.
    pub browser: Option<String>,
    limited_as: String,
}

impl FromRequestParts<App> for Visitor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let ClientAddress(address) = ClientAddress::from_request_parts(parts, app).await?;
        let user_agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        let user_agent = user_agent.map(|text| text.chars().take(USER_AGENT_CHARACTERS).collect());
        let origin = Origin { address: Some(address.to_string()), user_agent };
        let browser = cookies::read(&parts.headers, app.settings.cookies.link()).and_then(Result::ok);
        Ok(Self { origin, context: context_of(parts), browser, limited_as: limited_as(address) })
    }
}

impl Visitor {
    /// Counts this request against the limit of its address.
    pub async fn count(&self, app: &App, rule: &str, limit: Limit) -> Result<(), ApiError> {
        let key = app.keys().blind_limit(rule, &self.limited_as);
        limit.take(app.pool(), &key).await.map_err(|limited| match limited {
            Limited::TooMany { retry_after } => ApiError::too_many("too many requests", retry_after),
            Limited::Database(error) => ApiError::database(&error),
        })
    }
}

/// Whether an account may be opened for an address. Where invitations decide, they are looked for
/// whoever it is, so that the time it takes tells nothing.
pub async fn may_sign_up(app: &App, email: &EmailAddress) -> Result<bool, ApiError> {
    let signup = &app.settings.signup;
    let invited = match signup.mode {
        SignupMode::Open | SignupMode::Closed => false,
        SignupMode::Invited => any_open(app.pool(), &invitations_for(app, email.as_str()).await?).await?,
    };
    Ok(signup.admits(email, invited))
}

/// Fills a slice from the operating system's random source.
///
/// # Panics
/// When the operating system has no randomness to give: no secret may then be made.
pub fn fill_random(bytes: &mut [u8]) {
    SysRng.try_fill_bytes(bytes).expect("the operating system gives random bytes");
}
