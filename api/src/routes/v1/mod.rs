//! The `/v1` family: problem documents, stable codes.

pub mod audit;
pub mod me;
pub mod sessions;
