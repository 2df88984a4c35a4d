//! The log: append, load, read, and what must be decided together with an append.
//!
//! The only way to change anything is [`Store::execute`], and it takes only an
//! [`Authorized`](tally_domain::Authorized) command. [`committer`] explains how it becomes durable.

mod acceptance;
mod clock;
pub mod committer;
mod connect;
mod execute;
mod idempotency;
mod keyring;
mod limits;
mod load;
mod memory;
pub mod metrics;
mod migrate;
mod projection;
mod purge;
mod read;
mod usage;
mod write;

pub use clock::Clock;
pub use committer::{Batch, CommitError};
pub use connect::{ConnectionLimits, connect, connect_alone, with_session_settings};
pub use execute::{ExecuteError, Executed, RequestContext, Store, StoreOptions};
pub use idempotency::Idempotency;
pub use keyring::{KeyRing, KeyRingError, Rotation};
pub use limits::{Limit, Limited};
pub use migrate::{MigrateError, Unknown, inline_version, migrate, pending_migrations};
pub use projection::Projection;
pub use purge::{Purged, purge};
pub use read::{Head, ReadError, events_after, events_at, head, position_at_time};
pub use usage::{ADDRESSES_MAX, CredentialUsage, Hour, SealedAddress, Used, UsedHour, add_usage, usage_of};
