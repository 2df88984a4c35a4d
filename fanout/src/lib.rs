//! Every replica: revoked means revoked, on all of them, when the call has returned.
//!
//! [`protocol`] is the whole protocol as one pure state machine. [`Replica`] drives it against
//! Postgres, which alone decides; what replicas tell each other only makes things faster.

mod bus;
mod cache;
mod keeper;
mod lookups;
pub mod metrics;
pub mod mono;
mod news;
mod outage;
mod overthrown;
pub mod protocol;
mod registry;
mod replica;

pub use async_nats::ServerAddr as NatsServer;
pub use bus::{Nats, NatsError, NatsLogin, NatsSettings};
pub use news::News;
pub use protocol::By;
pub use registry::{Registered, registered};
pub use replica::{Done, Effective, Presented, Replica, ReplicaSettings, ReplicaStatus, VerifyError};
