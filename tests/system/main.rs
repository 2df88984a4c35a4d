//! The whole system, over HTTP, against the real binary.

mod support;
mod smoke;
