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
mod participant;
pub mod protocol;
mod registry;
mod replica;
pub mod request;
mod usage;
mod verifier;
mod warm_start;

pub use async_nats::ServerAddr as NatsServer;
pub use bus::{BusKey, Nats, NatsError, NatsLogin, NatsSettings, NotABusKey};
pub use news::News;
pub use protocol::{By, RollCall};
pub use registry::{Registered, registered};
pub use replica::{
    Done, Effective, LEASE_MAX, LEASE_MIN, Presented, Replica, ReplicaSettings, ReplicaStatus, VerifyError,
};
pub use tally_domain::credential::CredentialKind;
pub use tally_events::{CredentialId, UserId};
pub use usage::Usage;
pub use verifier::{
    ConnectError, Unverified, Verified, Verifier, VerifierLayer, VerifierService, VerifierSettings,
};
