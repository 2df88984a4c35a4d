//! The clock leases are measured with.

use rustix::time::{ClockId, clock_gettime};

use crate::protocol::Mono;

/// Now, read anew each time.
///
/// It runs through suspend, where `Instant` stands still and would prolong a lease. A cached
/// ticker would lag after SIGSTOP. A hypervisor that pauses the whole machine can freeze even this
/// clock: the protocol assumes that it does not, and the documentation says so.
#[must_use]
pub fn now() -> Mono {
    let time = clock_gettime(CLOCK);
    let (seconds, nanoseconds) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    Mono(seconds * 1_000_000_000 + nanoseconds)
}

#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
/// Elsewhere, macOS among them, the monotonic clock itself runs through sleep.
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;
