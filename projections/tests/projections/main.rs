//! The projections on a real PostgreSQL: followed, halted, rebuilt, verified.

#![allow(clippy::pedantic, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod halt;
mod lookup;
mod rebuild;
mod release;
mod support;
mod verify;
