//! The projections on a real PostgreSQL: followed, halted, rebuilt, verified.

mod halt;
mod rebuild;
mod support;
mod verify;
