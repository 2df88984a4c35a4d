//! The whole system, over HTTP, against the real binary.

mod architecture;
mod readme;
mod smoke;
mod support;
