//! Telling of an outage once, and of its end.

use std::{
    error::Error,
    sync::atomic::{AtomicBool, Ordering},
};

/// Whether one kind of work currently fails.
pub(crate) struct Outage {
    /// What does not work, as a sentence's subject.
    what: &'static str,
    failing: AtomicBool,
}

impl Outage {
    pub(crate) const fn new(what: &'static str) -> Self {
        Self { what, failing: AtomicBool::new(false) }
    }

    /// The first failure is told, with its causes.
    pub(crate) fn failed(&self, error: &(dyn Error + 'static)) {
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(error, "{} fails; it is tried again until it works", self.what);
        }
    }

    pub(crate) fn worked(&self) {
        // Read first: success is the rule, and a write would make every core wait for the others.
        if self.failing.load(Ordering::Relaxed) && self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("{} works again", self.what);
        }
    }
}

/// The database did not answer in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer in time")]
pub(crate) struct TooLate;
