//! Decisions: what may happen, given what has happened.
//!
//! A decider is a pure function of state, command and context. The moment and the actor come in with
//! the context, fresh ids and secrets with the command, so that the same history decides the same
//! way again. Some constructors of commands ([`token::MintToken::new`], [`login::IssueCode::new`])
//! draw a fresh id from the clock and dice: they are called at the edge, once per request. Random
//! secrets are drawn by the callers ([`credential::mint`] takes their source). Deciders and folds
//! never draw anything.

pub mod claim;
pub mod credential;
pub mod dependency;
pub mod email;
pub mod identity;
pub mod invitation;
pub mod lifetime;
pub mod login;
pub mod member;
pub mod membership;
pub mod policy;
pub mod principal;
pub mod profile;
pub mod refresh_token;
pub mod session;
pub mod share_link;
pub mod signup;
pub mod standing;
#[cfg(test)]
mod testing;
pub mod token;
pub mod user;
pub mod workspace;
pub mod world;

pub use dependency::{Dependency, Invalidation, Verdict};
pub use email::EmailAddress;
pub use membership::{Insider, Membership, Person};
pub use policy::{Action, Authorized, Denied, authorize, authorize_within};
pub use principal::{PersonCredential, Principal, PrincipalKind};
pub use world::{Command, Context, Decision, World};
