//! The login door of one address: codes, attempts and limits.

use std::convert::Infallible;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tally_events::{
    CodeId, Event, Hidden, LoginEvent, LoginId, Personal, Recorded, SessionId, StreamId, UserId,
    login::{LoginCodeIssued, LoginCodeRefused, LoginCodeUndeliverable, LoginCodeVerified, RefusalReason},
    seal::Key,
    session::SessionMethod,
    user::IdentityProof,
};
use zeroize::Zeroizing;

use crate::{
    email::EmailAddress,
    identity::Identity,
    policy::{Act, Action},
    session::{Opens, Origin},
    user,
    world::{Command, Context, Decision, World},
};

/// Digits in a code.
pub const CODE_DIGITS: usize = 6;
/// How long a code may be used.
pub const CODE_LIFETIME: TimeDelta = TimeDelta::minutes(10);
/// Wrong guesses a code survives, less one.
pub const ATTEMPTS_MAX: u32 = 5;
/// Between two codes for one address.
pub const COOLDOWN: TimeDelta = TimeDelta::seconds(60);
/// Codes for one address within [`CODE_WINDOW`].
pub const CODES_MAX: usize = 5;
pub const CODE_WINDOW: TimeDelta = TimeDelta::hours(1);
/// Wrong guesses for one address within [`GUESS_WINDOW`].
pub const GUESSES_MAX: usize = 30;
pub const GUESS_WINDOW: TimeDelta = TimeDelta::days(1);
/// How long what is readable of an attempt is kept: the code's lifetime and then an hour at most.
pub const READABLE_FOR: TimeDelta = TimeDelta::hours(1);

/// What decisions need to know of an address's logins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The one code that may be used, if there is one.
    pub live: Option<LiveCode>,
    /// When the latest codes were made, oldest first, [`CODES_MAX`] at most.
    pub issued: Vec<DateTime<Utc>>,
    /// When the latest wrong guesses came, oldest first, [`GUESSES_MAX`] at most.
    pub guessed: Vec<DateTime<Utc>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveCode {
    pub id: CodeId,
    pub salt: Hidden,
    pub mac: Hidden,
    pub expires_at: DateTime<Utc>,
    pub attempts: u32,
}

impl Login {
    pub const INITIAL: Self = Self { live: None, issued: Vec::new(), guessed: Vec::new() };

    pub fn evolve(&mut self, recorded: &Recorded) {
        let Event::Login(event) = &recorded.event else { return };
        let at = recorded.recorded_at;
        match event {
            LoginEvent::CodeIssued(e) => {
                self.live = Some(LiveCode {
                    id: e.code_id,
                    salt: e.salt.clone(),
                    mac: e.mac.clone(),
                    expires_at: e.expires_at,
                    attempts: 0,
                });
                remember(&mut self.issued, at, CODES_MAX);
            }
            LoginEvent::CodeRefused(e) => match e.reason {
                RefusalReason::WrongCode => {
                    remember(&mut self.guessed, at, GUESSES_MAX);
                    self.live = self.live.take().and_then(|code| {
                        let attempts = code.attempts + 1;
                        (attempts < ATTEMPTS_MAX).then_some(LiveCode { attempts, ..code })
                    });
                }
                RefusalReason::SignupProhibited | RefusalReason::AccountSuspended => self.live = None,
            },
            LoginEvent::CodeVerified(_) => self.live = None,
            LoginEvent::CodeUndeliverable(_) => {
                self.live = None;
                // The live code is the latest: with it goes what its making counts.
                self.issued.pop();
            }
        }
    }

    /// When the next code may be made; none: now.
    fn next_code_at(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let after_cooldown = self.issued.last().map(|last| *last + COOLDOWN);
        let after_window = (self.issued.len() == CODES_MAX).then(|| self.issued[0] + CODE_WINDOW);
        [after_cooldown, after_window, self.next_guess_at()]
            .into_iter()
            .flatten()
            .max()
            .filter(|at| *at > now)
    }

    /// When the next guess may be made; none: there was no limit to reach.
    fn next_guess_at(&self) -> Option<DateTime<Utc>> {
        (self.guessed.len() == GUESSES_MAX).then(|| self.guessed[0] + GUESS_WINDOW)
    }
}

/// Appends to a list that keeps only its latest `most` entries.
fn remember(list: &mut Vec<DateTime<Utc>>, at: DateTime<Utc>, most: usize) {
    list.push(at);
    if list.len() > most {
        list.remove(0);
    }
}

/// The rules of the login door.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LoginRefusal {
    #[error("please wait before requesting another code")]
    TooManyCodes { until: DateTime<Utc> },
    #[error("too many failed attempts for this address")]
    TooManyGuesses { until: DateTime<Utc> },
}

/// The digits somebody was mailed, or typed. Formats as nothing.
#[derive(Clone)]
pub struct Digits(Zeroizing<String>);

impl std::fmt::Debug for Digits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Digits")
    }
}

impl Digits {
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Six digits from a number drawn evenly from 0 to 999,999.
    #[must_use]
    pub fn from_number(number: u32) -> Self {
        Self::new(format!("{number:0CODE_DIGITS$}"))
    }

    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored of a code: an HMAC-SHA-256 over code id, salt and digits, in hex.
    #[must_use]
    pub fn mac(&self, key: &Key, code: CodeId, salt: &str) -> Hidden {
        Hidden::new(hex::encode(key.mac(&[code.0.as_bytes(), salt.as_bytes(), self.0.as_bytes()])))
    }

    /// Whether both are the same, in a time that tells nothing.
    fn matches(&self, other: &Self) -> bool {
        bool::from(self.0.as_bytes().ct_eq(other.0.as_bytes()))
    }
}

/// Makes a code for an address; every earlier one is dead.
#[derive(Clone, Debug)]
pub struct IssueCode {
    pub login: LoginId,
    pub code: CodeId,
    /// The account of the address, if it has one.
    pub user: Option<UserId>,
    pub email: EmailAddress,
    pub salt: Hidden,
    pub mac: Hidden,
    pub origin: Origin,
}

impl IssueCode {
    /// `salt` is hex of random bytes that were drawn for this code alone.
    #[must_use]
    pub fn new(
        login: LoginId,
        user: Option<UserId>,
        email: EmailAddress,
        digits: &Digits,
        salt: String,
        key: &Key,
        origin: Origin,
    ) -> Self {
        let code = CodeId::new();
        let mac = digits.mac(key, code, &salt);
        Self { login, code, user, email, salt: Hidden::new(salt), mac, origin }
    }
}

impl Act for IssueCode {
    const ACTION: Action = Action::IssueLoginCode;
}

impl Command for IssueCode {
    type Outcome = ();
    type Refusal = LoginRefusal;

    fn reads(&self) -> Vec<StreamId> {
        vec![self.login.into()]
    }

    fn decide(&self, world: &World, context: &Context) -> Result<Decision<()>, LoginRefusal> {
        if let Some(until) = world.login(self.login).next_code_at(context.now) {
            return Err(LoginRefusal::TooManyCodes { until });
        }
        let event = LoginCodeIssued {
            code_id: self.code,
            user_id: self.user,
            salt: self.salt.clone(),
            mac: self.mac.clone(),
            expires_at: context.now + CODE_LIFETIME,
            email: Personal::clear(self.email.as_str()),
            address: self.origin.address(),
            user_agent: self.origin.user_agent(),
        };
        Ok(Decision::of((), [(self.login.into(), event.into())]))
    }
}

/// Somebody types a code.
#[derive(Clone, Debug)]
pub struct VerifyCode {
    pub login: LoginId,
    pub email: EmailAddress,
    pub typed: Digits,
    /// A code that always fits, where an operator configured one outside production.
    pub development: Option<Digits>,
    /// The server's login-code key.
    pub key: Key,
    /// The account of the address, or the id it gets if it has none.
    pub user: UserId,
    /// Whether it has one.
    pub known: bool,
    pub may_sign_up: bool,
    /// An account elsewhere that opens this one from now on, if the code is right. It was proven by
    /// whoever types the code, and names this very address.
    pub link: Option<Identity>,
    pub session: SessionId,
    pub opens: Opens,
    pub origin: Origin,
}

/// What came of it. All but the first leave a trace in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verification {
    /// There is no live code: nothing could have fitted.
    NoLiveCode,
    Wrong,
    SignupProhibited,
    AccountSuspended,
    /// A session started.
    Verified {
        user: UserId,
        session: SessionId,
        expires_at: DateTime<Utc>,
    },
}

impl Act for VerifyCode {
    const ACTION: Action = Action::VerifyLoginCode;
}

impl Command for VerifyCode {
    type Outcome = Verification;
    type Refusal = LoginRefusal;

    /// [`TryCode`] does.
    const ANSWERS_STRANGERS: bool = false;

    fn reads(&self) -> Vec<StreamId> {
        vec![self.login.into(), self.user.into(), self.session.into()]
    }

    fn begins(&self) -> Vec<StreamId> {
        let account = (!self.known).then(|| self.user.into());
        [self.session.into()].into_iter().chain(account).collect()
    }

    fn decide(&self, world: &World, context: &Context) -> Result<Decision<Verification>, LoginRefusal> {
        let user = world.user(self.user);
        let code = match self.try_code(world, context, user.registered)? {
            Ok(code) => code,
            Err(decision) => return Ok(decision),
        };
        if user.suspended {
            let reason = RefusalReason::AccountSuspended;
            return Ok(self.refused(code, true, reason, Verification::AccountSuspended));
        }
        if !user.registered && !self.may_sign_up {
            let reason = RefusalReason::SignupProhibited;
            return Ok(self.refused(code, false, reason, Verification::SignupProhibited));
        }
        let verified = LoginCodeVerified { code_id: code.id, user_id: self.user, session_id: self.session };
        let mut events: Vec<(StreamId, Event)> = vec![(self.login.into(), verified.into())];
        if !user.registered {
            events.push((self.user.into(), user::registered(&self.email, None).into()));
        }
        if let Some(identity) = &self.link {
            events.push((self.user.into(), identity.linked(IdentityProof::EmailCode).into()));
        }
        let method = SessionMethod::EmailCode;
        let started = self.opens.started(self.user, method, context.now, &self.origin);
        let (user, session, expires_at) = (self.user, self.session, started.expires_at);
        events.push((session.into(), started.into()));
        let outcome = Verification::Verified { user, session, expires_at };
        Ok(Decision::of(outcome, events))
    }
}

/// The first half of typing a code, for which the history of the address is enough: one that does not fit
/// is refused and counted.
///
/// Nothing of an account is read for it, so whoever has no code is answered in the same time whether there
/// is one or not.
#[derive(Clone, Debug)]
pub struct TryCode(pub VerifyCode);

impl Act for TryCode {
    const ACTION: Action = Action::VerifyLoginCode;
}

impl Command for TryCode {
    /// None: it fits, and [`VerifyCode`] says what comes of that.
    type Outcome = Option<Verification>;
    type Refusal = LoginRefusal;

    fn reads(&self) -> Vec<StreamId> {
        vec![self.0.login.into()]
    }

    fn decide(
        &self,
        world: &World,
        context: &Context,
    ) -> Result<Decision<Option<Verification>>, LoginRefusal> {
        Ok(match self.0.try_code(world, context, self.0.known)? {
            Ok(_) => Decision::unchanged(None),
            Err(Decision { outcome, events }) => Decision { outcome: Some(outcome), events },
        })
    }
}

impl VerifyCode {
    /// The live code, if this is it; else what comes of that.
    fn try_code<'a>(
        &self,
        world: &'a World,
        context: &Context,
        known: bool,
    ) -> Result<Result<&'a LiveCode, Decision<Verification>>, LoginRefusal> {
        let login = world.login(self.login);
        if let Some(until) = login.next_guess_at().filter(|at| *at > context.now) {
            return Err(LoginRefusal::TooManyGuesses { until });
        }
        let Some(code) = login.live.as_ref().filter(|code| context.now < code.expires_at) else {
            return Ok(Err(Decision::unchanged(Verification::NoLiveCode)));
        };
        if self.fits(code) {
            return Ok(Ok(code));
        }
        Ok(Err(self.refused(code, known, RefusalReason::WrongCode, Verification::Wrong)))
    }

    /// Both comparisons always run: how long they take tells nothing.
    fn fits(&self, code: &LiveCode) -> bool {
        let mac = self.typed.mac(&self.key, code.id, &code.salt);
        let mailed = bool::from(mac.as_bytes().ct_eq(code.mac.as_bytes()));
        let development = self.development.as_ref().is_some_and(|fixed| fixed.matches(&self.typed));
        mailed | development
    }

    fn refused(
        &self,
        code: &LiveCode,
        known: bool,
        reason: RefusalReason,
        outcome: Verification,
    ) -> Decision<Verification> {
        let event = LoginCodeRefused {
            code_id: code.id,
            user_id: known.then_some(self.user),
            reason,
            address: self.origin.address(),
            user_agent: self.origin.user_agent(),
        };
        Decision::of(outcome, [(self.login.into(), event.into())])
    }
}

/// A code as the log knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IssuedCode {
    pub login: LoginId,
    pub code: CodeId,
    /// The account of the address when the code was made, if there was one.
    pub user: Option<UserId>,
}

/// The mail with this code did not leave the house, and will not.
#[derive(Clone, Copy, Debug)]
pub struct DeclareUndeliverable(pub IssuedCode);

impl Act for DeclareUndeliverable {
    const ACTION: Action = Action::DeclareLoginCodeUndeliverable;
}

impl Command for DeclareUndeliverable {
    type Outcome = ();
    type Refusal = Infallible;

    fn reads(&self) -> Vec<StreamId> {
        vec![self.0.login.into()]
    }

    /// Only a code that could still be used may be declared so. One that was used has arrived, and
    /// one that was guessed to its end has cost somebody attempts: what they count stands.
    fn decide(&self, world: &World, context: &Context) -> Result<Decision<()>, Infallible> {
        let IssuedCode { login, code, user } = self.0;
        let live = world.login(login).live.as_ref();
        if live.is_none_or(|live| live.id != code || live.expires_at <= context.now) {
            return Ok(Decision::unchanged(()));
        }
        let event = LoginCodeUndeliverable { code_id: code, user_id: user };
        Ok(Decision::of((), [(login.into(), event.into())]))
    }
}

#[cfg(test)]
mod tests;
