//! Login by an identity: what `/auth/google` and `/auth/oidc/{name}/callback` have in common.

use chrono::{DateTime, Utc};
use tally_domain::{
    Principal,
    claim::Namespace,
    credential::Plaintext,
    identity::{Account, Assertion, Entry, IdentityRefusal, LogInByIdentity},
};
use tally_events::{Position, SessionId, UserId};
use tally_store::ExecuteError;

use crate::{
    error::ApiError,
    execute::{CLAIM_ATTEMPTS_MAX, failure},
    oidc::{Code, Link, OidcError, Provider},
    routes::auth::{Visitor, fill_random, may_sign_up},
    state::App,
};

/// A session that started.
pub struct LoggedIn {
    pub user: UserId,
    pub session: SessionId,
    pub expires_at: DateTime<Utc>,
    pub position: Position,
}

/// Why somebody was not let in.
pub enum TurnedAway {
    ByProvider(OidcError),
    /// Both are asked for beside the code: the token in the request, the other in its cookie.
    EmailVerificationRequired {
        link_token: Plaintext,
        browser: String,
    },
    SignupProhibited,
    AccountSuspended,
    Failed(ApiError),
}

impl<E: Into<ApiError>> From<E> for TurnedAway {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Asks the provider who it is that came with this code, and logs them in.
pub async fn log_in(
    app: &App,
    visitor: &Visitor,
    provider: &Provider,
    code: Code<'_>,
) -> Result<LoggedIn, TurnedAway> {
    let asserted = provider.identify(code, app.store.clock().now()).await;
    let assertion = asserted.map_err(|error| {
        report(provider, &error);
        TurnedAway::ByProvider(error)
    })?;
    let (entry, position) = enter(app, visitor, provider, &assertion).await?;
    match entry {
        Entry::LoggedIn { user, session, expires_at } => Ok(LoggedIn { user, session, expires_at, position }),
        Entry::SignupProhibited => Err(TurnedAway::SignupProhibited),
        Entry::AccountSuspended => Err(TurnedAway::AccountSuspended),
        Entry::EmailVerificationRequired => {
            let mut drawn = [0; 16];
            fill_random(&mut drawn);
            let browser = hex::encode(drawn);
            let link = Link::new(&assertion, &browser, app.store.clock().now());
            let link_token = link.seal(app.keys()).map_err(|error| ApiError::internal(&error))?;
            Err(TurnedAway::EmailVerificationRequired { link_token, browser })
        }
    }
}

async fn enter(
    app: &App,
    visitor: &Visitor,
    provider: &Provider,
    assertion: &Assertion,
) -> Result<(Entry, Position), ApiError> {
    let unique = assertion.identity.unique();
    // Two first logins of one identity, or of one address, race for a claim: the loser finds the account.
    for _ in 0..CLAIM_ATTEMPTS_MAX {
        let things =
            [(Namespace::UserIdentity, unique.as_str()), (Namespace::UserEmail, assertion.email.as_str())];
        let [identity, address] = app.store.holders(things).await?;
        let command = LogInByIdentity {
            assertion: assertion.clone(),
            account: Account::of(identity.map(UserId), address.map(UserId)),
            authoritative: provider.authority().speaks_for(assertion),
            may_sign_up: may_sign_up(app, &assertion.email).await?,
            signup_rests_on_address: app.settings.signup.rests_on_the_address(),
            session: SessionId::new(),
            lifetime: app.settings.session_lifetime,
            origin: visitor.origin.clone(),
        };
        let command = tally_domain::authorize(Principal::Anonymous, command)?;
        match app.replica.execute(&command, visitor.context).await {
            Ok(done) => return Ok((done.executed.outcome, done.executed.position)),
            Err(ExecuteError::ClaimTaken(_)) => {}
            Err(error) => return Err(failure(error, |IdentityRefusal::Gone| ApiError::unavailable())),
        }
    }
    Err(ApiError::unavailable())
}

/// Tells the operator what a provider did wrong. That a code or an address does not count is between
/// it and the person.
pub fn report(provider: &Provider, error: &OidcError) {
    match error {
        OidcError::Unavailable(..) | OidcError::Untrusted(_) => {
            let error = error as &dyn std::error::Error;
            tracing::warn!(oidc.provider = provider.name(), error, "a login by a provider failed");
        }
        OidcError::CodeRefused | OidcError::NoVerifiedEmail => {}
    }
}
