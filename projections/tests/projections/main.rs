//! The projections on a real PostgreSQL: followed, halted, rebuilt, verified.

#![allow(clippy::pedantic, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod halt;
mod rebuild;
mod support;
mod verify;
