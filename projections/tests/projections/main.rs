//! The projections on a real PostgreSQL: followed, halted, rebuilt, verified.

mod halt;
mod support;
mod verify;
