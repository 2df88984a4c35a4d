//! How far a revocation has come by the time the server answers.

use std::fmt;
use std::time::Duration;

use reqwest::header::HeaderMap;
use serde::Serialize;

use super::http::text;

const REVOCATION: &str = "x-revocation";
const ACKNOWLEDGED: &str = "x-revocation-acknowledged";

/// What the server says of a revocation, and how long it took to say so.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Effect {
    /// No replica accepts what was revoked any more.
    effective: bool,
    /// Which of them said so. None: the server did not tell.
    replicas: Option<RollCall>,
    duration_ms: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct RollCall {
    acknowledged: u32,
    registered: u32,
}

impl Effect {
    pub(super) fn of(headers: &HeaderMap, duration: Duration) -> Self {
        Self {
            effective: text(headers, REVOCATION).is_some_and(|value| value == "effective"),
            replicas: text(headers, ACKNOWLEDGED).and_then(RollCall::parse),
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl RollCall {
    /// `2/3`.
    fn parse(text: &str) -> Option<Self> {
        let (acknowledged, registered) = text.split_once('/')?;
        Some(Self { acknowledged: acknowledged.parse().ok()?, registered: registered.parse().ok()? })
    }
}

/// Goes on after what was revoked was named, to the end of the sentence.
impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.duration_ms;
        if !self.effective {
            return write!(f, " in {ms} ms; the server did not say that it is effective everywhere.");
        }
        write!(f, "; effective everywhere in {ms} ms")?;
        if let Some(RollCall { acknowledged, registered }) = self.replicas {
            let noun = if registered == 1 { "replica" } else { "replicas" };
            write!(f, ", acknowledged by {acknowledged} of {registered} {noun}")?;
            if acknowledged < registered {
                f.write_str("; by time with the rest, whose leases are over")?;
            }
        }
        f.write_str(".")
    }
}
