//! One attempt to hand a message over, and the ways it fails.

use std::{borrow::Cow, fmt};

use async_trait::async_trait;
use tokio::time::Instant;

use super::message::Message;

/// A way out of the house.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Hands one message over: one attempt, which waits for nothing beyond `until` except for the
    /// answer to a message that was already given away.
    async fn deliver(&self, message: &Message, until: Instant) -> Result<(), Failure>;
}

/// Why an attempt did not succeed. What is said of it may stand in a log: it never repeats the
/// other side's text, which likes to quote addresses.
#[derive(Debug)]
pub struct Failure {
    pub kind: FailureKind,
    /// Whether the message may have arrived all the same.
    pub may_have_arrived: bool,
    cause: Cow<'static, str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The other side is away or busy: waiting may help.
    Unreachable,
    /// It is there and will not serve us: a wrong password, a certificate nobody vouches for.
    /// Waiting seldom helps, and while the other side restarts it does.
    Unwelcome,
    /// It will not take this message, or must not be given it again: waiting does not help.
    Rejected,
}

impl Failure {
    pub fn new(kind: FailureKind, cause: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, may_have_arrived: false, cause: cause.into() }
    }

    /// The message was given away, and nobody said what became of it.
    pub fn in_doubt(kind: FailureKind, cause: impl Into<Cow<'static, str>>) -> Self {
        Self { may_have_arrived: true, ..Self::new(kind, cause) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl std::error::Error for Failure {}
