//! The log on a real PostgreSQL: every trap of the committer, and the reader beside it.

#![allow(clippy::pedantic, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod ambiguous;
mod availability;
mod batches;
mod carried;
mod concurrency;
mod crash;
mod erasure;
mod idempotency;
mod integrity;
mod limits;
mod memory;
mod nul;
mod rotation;
mod snapshots;
mod streams;
mod support;
mod tail;
mod usage;
