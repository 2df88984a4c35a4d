//! The log on a real PostgreSQL: every trap of the committer, and the reader beside it.

mod ambiguous;
mod availability;
mod batches;
mod concurrency;
mod crash;
mod erasure;
mod idempotency;
mod integrity;
mod limits;
mod nul;
mod proxy;
mod snapshots;
mod streams;
mod support;
mod tail;
