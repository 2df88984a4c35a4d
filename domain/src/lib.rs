//! Decisions: what may happen, given what has happened.
//!
//! Pure: a decider is a function of state, command and context. The moment, the actor, fresh ids
//! and secrets all come in as values, so that the same history decides the same way again.

pub mod claim;
pub mod credential;
pub mod dependency;
pub mod email;
pub mod lifetime;
pub mod login;
pub mod policy;
pub mod principal;
pub mod profile;
pub mod session;
pub mod signup;
#[cfg(test)]
mod testing;
pub mod token;
pub mod user;
pub mod world;

pub use dependency::{Dependency, Invalidation, Verdict};
pub use email::EmailAddress;
pub use policy::{Action, Authorized, Denied, authorize};
pub use principal::{PersonCredential, Principal, PrincipalKind};
pub use world::{Command, Context, Decision, World};
