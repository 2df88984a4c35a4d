//! An account elsewhere that lets somebody in here.
//!
//! It is known by issuer and subject together (OpenID Connect Core 1.0 section 5.7) and never by its
//! address: an address is given back and taken by somebody else, a subject is not. Its address counts
//! once, when it is linked, and only as far as its issuer's word on that address goes.

use chrono::{DateTime, TimeDelta, Utc};
use tally_events::{
    Personal, SessionId, StreamId, UserId,
    session::SessionMethod,
    user::{IdentityProof, UserIdentityLinked},
};

use crate::{
    email::EmailAddress,
    policy::{Act, Action},
    profile::NAME_CHARACTERS_MAX,
    session::{self, Origin},
    user,
    world::{Command, Context, Decision, World},
};

/// OpenID Connect Core 1.0 section 2.
pub const SUBJECT_CHARACTERS_MAX: usize = 255;

/// Somebody's account at an issuer. Personal: its `Debug` is empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    issuer: String,
    subject: String,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdentityError {
    #[error("an issuer is a URL without control characters")]
    Issuer,
    #[error("a subject has 1 to {SUBJECT_CHARACTERS_MAX} characters and no control characters")]
    Subject,
}

impl Identity {
    /// # Errors
    /// When no issuer names anybody like this.
    pub fn new(issuer: impl Into<String>, subject: impl Into<String>) -> Result<Self, IdentityError> {
        let (issuer, subject) = (issuer.into(), subject.into());
        if issuer.is_empty() || issuer.chars().any(char::is_control) {
            return Err(IdentityError::Issuer);
        }
        if !(1..=SUBJECT_CHARACTERS_MAX).contains(&subject.chars().count())
            || subject.chars().any(char::is_control)
        {
            return Err(IdentityError::Subject);
        }
        Ok(Self { issuer, subject })
    }

    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What at most one account is opened by.
    #[must_use]
    pub fn unique(&self) -> String {
        unique(&self.issuer, &self.subject)
    }

    pub(crate) fn linked(&self, proof: IdentityProof) -> UserIdentityLinked {
        UserIdentityLinked { issuer: self.issuer.clone(), subject: Personal::clear(&*self.subject), proof }
    }
}

/// Neither part holds a line break, so no two identities share a text.
pub(crate) fn unique(issuer: &str, subject: &str) -> String {
    format!("{issuer}\n{subject}")
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}

/// What an issuer says of somebody, its signature and all else checked. Personal: its `Debug` is empty.
#[derive(Clone)]
pub struct Assertion {
    pub identity: Identity,
    /// An address that the issuer says it has verified.
    pub email: EmailAddress,
    name: Option<String>,
    hosted_domain: Option<String>,
}

impl Assertion {
    /// `name` is what the issuer calls the person, `hosted_domain` the domain whose owner their account
    /// there belongs to (Google's `hd`). A name that nobody could give themselves here is left out.
    #[must_use]
    pub fn new(
        identity: Identity,
        email: EmailAddress,
        name: Option<&str>,
        hosted_domain: Option<&str>,
    ) -> Self {
        let fits = |name: &&str| {
            (1..=NAME_CHARACTERS_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control)
        };
        let name = name.map(str::trim).filter(fits).map(str::to_owned);
        Self { identity, email, name, hosted_domain: hosted_domain.map(str::to_lowercase) }
    }
}

impl std::fmt::Debug for Assertion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Assertion")
    }
}

/// For whose addresses an issuer's word is as good as a code that was mailed there: it runs the
/// mailboxes of these domains, or decides who has one. Of any other address it knows only that
/// somebody could read it once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authority {
    /// Lower case.
    pub domains: Vec<String>,
    /// Also for the domain that it says the person's account belongs to.
    pub hosted_domains: bool,
}

impl Authority {
    #[must_use]
    pub fn speaks_for(&self, assertion: &Assertion) -> bool {
        let domain = assertion.email.domain();
        let hosted = || self.hosted_domains && assertion.hosted_domain.as_deref() == Some(domain);
        self.domains.iter().any(|own| own == domain) || hosted()
    }
}

/// The account a login is for, as the claims say at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// The identity opens it.
    Linked(UserId),
    /// It has the address, and the identity opens none.
    OfAddress(UserId),
    /// There is none: it would get this id.
    New(UserId),
}

impl Account {
    /// From the holders of identity and address. The identity's goes first: it may have another
    /// address here than there.
    #[must_use]
    pub fn of(identity: Option<UserId>, address: Option<UserId>) -> Self {
        match (identity, address) {
            (Some(user), _) => Self::Linked(user),
            (None, Some(user)) => Self::OfAddress(user),
            (None, None) => Self::New(UserId::new()),
        }
    }

    #[must_use]
    pub const fn user(self) -> UserId {
        match self {
            Self::Linked(user) | Self::OfAddress(user) | Self::New(user) => user,
        }
    }
}

/// Somebody comes from an issuer.
#[derive(Clone, Debug)]
pub struct LogInByIdentity {
    pub assertion: Assertion,
    pub account: Account,
    /// Whether the issuer [speaks for](Authority::speaks_for) the address.
    pub authoritative: bool,
    pub may_sign_up: bool,
    /// Whether that [rests on the address](crate::signup::SignupPolicy::rests_on_the_address).
    pub signup_rests_on_address: bool,
    pub session: SessionId,
    pub lifetime: TimeDelta,
    pub origin: Origin,
}

/// What came of it. Only the last leaves a trace in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Somebody has this address here already, or its owner alone may open an account, and the issuer
    /// is not who decides that it is they.
    EmailVerificationRequired,
    SignupProhibited,
    AccountSuspended,
    /// A session started.
    LoggedIn {
        user: UserId,
        session: SessionId,
        expires_at: DateTime<Utc>,
    },
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdentityRefusal {
    /// Between the look at the claims and the decision.
    #[error("the account is gone")]
    Gone,
}

impl Act for LogInByIdentity {
    const ACTION: Action = Action::LogInByIdentity;
}

impl Command for LogInByIdentity {
    type Outcome = Entry;
    type Refusal = IdentityRefusal;

    fn reads(&self) -> Vec<StreamId> {
        vec![self.account.user().into(), self.session.into()]
    }

    /// That the identity opens this account, or none, is held by the claim its link takes: of two
    /// first logins at once, one finds it taken and decides again on what is then there.
    fn decide(&self, world: &World, context: &Context) -> Result<Decision<Entry>, IdentityRefusal> {
        let id = self.account.user();
        let user = world.user(id);
        let (opens, proof) = match self.account {
            Account::Linked(_) | Account::OfAddress(_) if !user.registered => {
                return Err(IdentityRefusal::Gone);
            }
            // Said first: of an account that is not theirs, nobody learns more than that it is there.
            Account::OfAddress(_) if !self.authoritative => {
                return Ok(Decision::unchanged(Entry::EmailVerificationRequired));
            }
            // And whether it may have one, whoever has the mail is told after the code.
            Account::New(_) if self.signup_rests_on_address && !self.authoritative => {
                return Ok(Decision::unchanged(Entry::EmailVerificationRequired));
            }
            Account::New(_) if !self.may_sign_up => return Ok(Decision::unchanged(Entry::SignupProhibited)),
            Account::Linked(_) => (false, None),
            Account::OfAddress(_) => (false, Some(IdentityProof::Authority)),
            Account::New(_) => (true, Some(IdentityProof::Registration)),
        };
        if user.suspended {
            return Ok(Decision::unchanged(Entry::AccountSuspended));
        }
        let Assertion { identity, email, name, .. } = &self.assertion;
        let registered = opens.then(|| (id.into(), user::registered(email, name.as_deref()).into()));
        let linked = proof.map(|proof| (id.into(), identity.linked(proof).into()));
        let expires_at = context.now + self.lifetime;
        let started = session::started(id, SessionMethod::Identity, None, expires_at, &self.origin);
        let outcome = Entry::LoggedIn { user: id, session: self.session, expires_at };
        let events = registered.into_iter().chain(linked).chain([(self.session.into(), started.into())]);
        Ok(Decision::of(outcome, events))
    }
}

#[cfg(test)]
mod tests;
