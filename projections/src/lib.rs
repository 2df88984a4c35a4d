//! Answers: tables that are folds of the log, and the queries that read them.
//!
//! Inline projections are written in the transaction of the events: what a credential is good for, and
//! what a member may do in a workspace, never lags. The others follow the log, driven by
//! [`runner`]. [`rebuild`] and [`verify`] run the same code over other tables.
//!
//! A new projection is one file here, one line in [`inline`] or [`following`], and a migration.

pub mod audit_log;
mod by_id;
pub mod credentials;
mod fold;
pub mod invitations;
pub mod members;
pub mod metrics;
mod open;
mod pages;
pub mod rebuild;
mod rows;
pub mod runner;
pub mod sessions;
mod shadow;
pub mod share_links;
pub mod status;
pub mod token_list;
pub mod users;
pub mod verify;
pub mod workspaces;

use std::sync::Arc;

use tally_store::Projection;

/// Raise it whenever the version of an inline projection rises: an older release that still runs
/// then refuses to write what it cannot project.
pub const INLINE_VERSION: i32 = 3;

/// What is written in the transaction of the events, in the order it is written.
#[must_use]
pub fn inline() -> Vec<Arc<dyn Projection>> {
    vec![
        Arc::new(users::Users),
        Arc::new(sessions::Sessions),
        Arc::new(credentials::Credentials),
        Arc::new(workspaces::Workspaces),
        Arc::new(members::Members),
        Arc::new(invitations::Invitations),
        Arc::new(share_links::ShareLinks),
    ]
}

/// What follows the log.
#[must_use]
pub fn following() -> Vec<Arc<dyn Projection>> {
    vec![Arc::new(token_list::TokenList), Arc::new(audit_log::AuditLog)]
}

/// Whether a projection is written inline.
#[must_use]
pub fn is_inline(name: &str) -> bool {
    inline().iter().any(|projection| projection.name() == name)
}
