//! The whole system, over HTTP, against the real binary.

#![allow(clippy::pedantic, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod architecture;
mod canary;
mod contract;
mod embedding;
mod faults;
mod hostile;
mod mail;
mod metrics;
mod oracle;
mod poison;
mod races;
mod readme;
mod replicas;
mod role_matrix;
mod schemathesis;
mod support;
mod timing;
mod usage;
