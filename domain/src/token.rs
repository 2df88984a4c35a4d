//! A personal access token.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tally_events::{
    CredentialId, Event, Hidden, Personal, Position, Recorded, StreamId, TokenEvent, TokenId, UserId,
    token::{RevocationReason, TokenKind, TokenMinted, TokenRenewed, TokenRevoked},
};

use crate::{
    credential::{CredentialHash, Plaintext},
    policy::{Act, Action},
    principal::{PersonCredential, Principal},
    standing::stream_of,
    world::{Command, Context, Decision, World},
};

/// The longest lifetime that can be asked for.
pub const LIFETIME_DAYS_MAX: i64 = 3650;
/// How far a renewal moves the expiry, counted from now.
pub const RENEWAL: TimeDelta = TimeDelta::days(90);
/// How little must remain for a renewal to do anything.
pub const RENEWAL_WINDOW: TimeDelta = TimeDelta::days(7);
/// Characters in a token's name.
pub const NAME_CHARACTERS_MAX: usize = 200;

/// What decisions need to know of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub minted: Option<Minted>,
    pub revoked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Minted {
    pub user: UserId,
    /// Of the event that minted it.
    pub position: Position,
    pub minted_by: CredentialId,
    pub expires_at: Option<DateTime<Utc>>,
}

impl Token {
    pub const INITIAL: Self = Self { minted: None, revoked: false };

    pub fn evolve(&mut self, recorded: &Recorded) {
        let Event::Token(event) = &recorded.event else { return };
        match event {
            TokenEvent::Minted(e) => {
                self.minted = Some(Minted {
                    user: e.user_id,
                    position: recorded.position,
                    minted_by: e.minted_by,
                    expires_at: e.expires_at,
                });
            }
            TokenEvent::Renewed(e) => {
                if let Some(minted) = &mut self.minted {
                    minted.expires_at = Some(e.expires_at);
                }
            }
            TokenEvent::Revoked(_) => self.revoked = true,
        }
    }

    /// The token, if it is neither revoked nor expired at this moment.
    ///
    /// Whether it lets somebody in is for [`World::good`] to say: that is the account's matter too.
    #[must_use]
    pub fn live(&self, now: DateTime<Utc>) -> Option<&Minted> {
        self.minted
            .as_ref()
            .filter(|minted| !self.revoked && minted.expires_at.is_none_or(|expiry| now < expiry))
    }
}

/// The rules of a token.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenRefusal {
    #[error("a person's session or personal access token is required")]
    NotAPerson,
    /// It ended between the guard's look and the decision.
    #[error("the credential is no longer live")]
    CredentialEnded,
    #[error("only personal access tokens can be renewed")]
    NotRenewable,
    #[error("the line of the token changed")]
    LineChanged,
}

/// What a person may ask of a new token.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenRequestError {
    #[error("name is required")]
    NameMissing,
    #[error("name is longer than {NAME_CHARACTERS_MAX} characters")]
    NameTooLong,
    #[error("expires_in_days must be between 1 and {LIFETIME_DAYS_MAX}")]
    LifetimeOutOfRange,
}

/// A checked name and lifetime.
#[derive(Clone)]
pub struct TokenRequest {
    name: String,
    lifetime: Option<TimeDelta>,
}

impl std::fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenRequest")
    }
}

impl TokenRequest {
    /// # Errors
    /// A blank or overlong name, a lifetime outside 1 to 3650 days.
    pub fn new(name: &str, expires_in_days: Option<i64>) -> Result<Self, TokenRequestError> {
        let name = name.trim();
        if name.is_empty() {
            return Err(TokenRequestError::NameMissing);
        }
        if name.chars().count() > NAME_CHARACTERS_MAX {
            return Err(TokenRequestError::NameTooLong);
        }
        if expires_in_days.is_some_and(|days| !(1..=LIFETIME_DAYS_MAX).contains(&days)) {
            return Err(TokenRequestError::LifetimeOutOfRange);
        }
        Ok(Self { name: name.to_owned(), lifetime: expires_in_days.map(TimeDelta::days) })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Mints a personal access token for the person who asks. The plaintext stays with the caller.
#[derive(Clone, Debug)]
pub struct MintToken {
    pub token: TokenId,
    /// The credential that mints: the head of the new token's line.
    pub minted_by: CredentialId,
    pub user: UserId,
    pub request: TokenRequest,
    pub hash: CredentialHash,
    pub prefix: String,
}

impl MintToken {
    #[must_use]
    pub fn new(user: UserId, minted_by: CredentialId, request: TokenRequest, secret: &Plaintext) -> Self {
        let (hash, prefix) = (secret.hash(), secret.display_prefix());
        Self { token: TokenId::new(), minted_by, user, request, hash, prefix }
    }
}

impl Act for MintToken {
    const ACTION: Action = Action::MintPersonalAccessToken;
}

impl Command for MintToken {
    /// When the token expires; none: never.
    type Outcome = Option<DateTime<Utc>>;
    type Refusal = TokenRefusal;

    fn reads(&self) -> Vec<StreamId> {
        vec![self.token.into(), stream_of(self.minted_by), self.user.into()]
    }

    fn begins(&self) -> Vec<StreamId> {
        vec![self.token.into()]
    }

    fn decide(&self, world: &World, context: &Context) -> Result<Decision<Self::Outcome>, TokenRefusal> {
        let Principal::Person { .. } = context.principal else {
            return Err(TokenRefusal::NotAPerson);
        };
        if !context.principal.shows(self.user, self.minted_by) {
            return Err(TokenRefusal::CredentialEnded);
        }
        // What mints must be good at the moment of minting, or a revocation of the whole line
        // could be overtaken by a token it never saw. A token never outlives the one above it.
        let ceiling = match self.minted_by {
            CredentialId::Session(id) => world.good_session(self.user, id, context.now).map(|_| None),
            CredentialId::Token(id) => {
                world.good_token(self.user, id, context.now).map(|minted| minted.expires_at)
            }
        };
        let ceiling = ceiling.ok_or(TokenRefusal::CredentialEnded)?;
        let wanted = self.request.lifetime.map(|lifetime| context.now + lifetime);
        let expires_at = earlier(wanted, ceiling);
        let event = TokenMinted {
            kind: TokenKind::PersonalAccessToken,
            user_id: self.user,
            name: Personal::clear(self.request.name.as_str()),
            hash: Hidden::new(self.hash.to_hex()),
            prefix: self.prefix.clone(),
            minted_by: self.minted_by,
            expires_at,
        };
        Ok(Decision::of(expires_at, [(self.token.into(), event.into())]))
    }
}

/// A personal access token extends itself.
#[derive(Clone, Copy, Debug)]
pub struct RenewToken {
    pub user: UserId,
    pub token: TokenId,
    /// The token above it in its line, as a projection knows it.
    pub parent: Option<TokenId>,
}

/// What came of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    pub expires_at: Option<DateTime<Utc>>,
    pub renewed: bool,
}

impl Act for RenewToken {
    const ACTION: Action = Action::RenewPersonalAccessToken;
}

impl Command for RenewToken {
    type Outcome = Renewal;
    type Refusal = TokenRefusal;

    fn reads(&self) -> Vec<StreamId> {
        let tokens = [Some(self.token), self.parent].into_iter().flatten();
        tokens.map(StreamId::from).chain([self.user.into()]).collect()
    }

    fn decide(&self, world: &World, context: &Context) -> Result<Decision<Renewal>, TokenRefusal> {
        let Principal::Person { credential: PersonCredential::PersonalAccessToken { .. }, .. } =
            context.principal
        else {
            return Err(TokenRefusal::NotRenewable);
        };
        if !context.principal.shows(self.user, CredentialId::Token(self.token)) {
            return Err(TokenRefusal::CredentialEnded);
        }
        let good = |token| world.good_token(self.user, token, context.now);
        let minted = good(self.token).ok_or(TokenRefusal::CredentialEnded)?;
        let parent = match minted.minted_by {
            CredentialId::Token(parent) => Some(parent),
            CredentialId::Session(_) => None,
        };
        if parent != self.parent {
            return Err(TokenRefusal::LineChanged);
        }
        let unchanged = Renewal { expires_at: minted.expires_at, renewed: false };
        let Some(expiry) = minted.expires_at.filter(|expiry| *expiry - context.now <= RENEWAL_WINDOW) else {
            return Ok(Decision::unchanged(unchanged));
        };
        // A token whose parent is gone lives out its days and no more.
        let ceiling = match parent.map(good) {
            None => None,
            Some(None) => return Ok(Decision::unchanged(unchanged)),
            Some(Some(parent)) => parent.expires_at,
        };
        let expires_at = earlier(Some(context.now + RENEWAL), ceiling).filter(|renewed| *renewed > expiry);
        let Some(expires_at) = expires_at else { return Ok(Decision::unchanged(unchanged)) };
        let event = TokenRenewed { user_id: self.user, expires_at };
        let renewal = Renewal { expires_at: Some(expires_at), renewed: true };
        Ok(Decision::of(renewal, [(self.token.into(), event.into())]))
    }
}

/// The owner revokes tokens: one, one and its line, or all that an ended session had minted.
///
/// Unlike what makes something new, this does not ask whether the credential shown is still good:
/// to revoke is always safe, also for one that ended a moment ago.
#[derive(Clone, Debug)]
pub struct RevokeTokens {
    /// What was named. A token is revoked itself; a session ends by a command of its own.
    pub root: CredentialId,
    /// Tokens below it that go with it.
    pub line: Vec<TokenId>,
}

impl Act for RevokeTokens {
    const ACTION: Action = Action::RevokePersonalAccessToken;
}

impl Command for RevokeTokens {
    /// The tokens that were not revoked until now; some of them may have expired.
    type Outcome = Vec<TokenId>;
    type Refusal = TokenRefusal;
    const REVOKES: bool = true;

    /// The root in any case: that there is nothing to revoke is said as of a position of the log.
    fn reads(&self) -> Vec<StreamId> {
        let root = stream_of(self.root);
        let below = self.each().map(StreamId::from).filter(|stream| *stream != root);
        [root].into_iter().chain(below).collect()
    }

    /// Unknown and foreign tokens are left alone, as if they did not exist.
    fn decide(&self, world: &World, context: &Context) -> Result<Decision<Vec<TokenId>>, TokenRefusal> {
        let owner = context.principal.user().ok_or(TokenRefusal::NotAPerson)?;
        let ours: Vec<TokenId> = self
            .each()
            .filter(|id| {
                let token = world.token(*id);
                !token.revoked && token.minted.as_ref().is_some_and(|minted| minted.user == owner)
            })
            .collect();
        let events = ours.iter().map(|id| {
            let reason = match self.root {
                CredentialId::Token(root) if *id == root => RevocationReason::Requested,
                CredentialId::Token(root) => RevocationReason::Line(root),
                CredentialId::Session(session) => RevocationReason::Session(session),
            };
            (StreamId::from(*id), TokenRevoked { user_id: owner, reason }.into())
        });
        Ok(Decision::of(ours.clone(), events))
    }
}

impl RevokeTokens {
    /// The root, if it is a token, then its line; each once, however often it was named.
    fn each(&self) -> impl Iterator<Item = TokenId> {
        let root = match self.root {
            CredentialId::Token(root) => Some(root),
            CredentialId::Session(_) => None,
        };
        let mut seen = HashSet::new();
        root.into_iter().chain(self.line.iter().copied()).filter(move |id| seen.insert(*id))
    }
}

/// The earlier of two expiries, where none is never.
fn earlier(a: Option<DateTime<Utc>>, b: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests;
