//! What projections show to whoever scrapes them.

use metrics::{Gauge, describe_gauge, gauge};

const HALTED: &str = "tally_projection_halted";

/// Makes every metric, so that it is shown before there is anything to count. A recorder that is
/// installed later is told nothing.
pub fn register() {
    describe_gauge!(HALTED, "1 if the projection stopped at an event that it cannot fold, else 0.");
    for projection in crate::following() {
        halted(projection.name()).set(0);
    }
}

/// Whether the projection has halted: 1, or 0.
pub(crate) fn halted(projection: &'static str) -> Gauge {
    gauge!(HALTED, "projection" => projection)
}
