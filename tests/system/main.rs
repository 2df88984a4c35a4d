//! The whole system, over HTTP, against the real binary.

mod architecture;
mod contract;
mod hostile;
mod load;
mod oracle;
mod races;
mod readme;
mod support;
