//! What a fault cost, and what became of each kind of revocation, as rows of tables in
//! `docs/reliability.md`.

use std::time::Duration;

use super::{super::report::add_row, judge::Tally, subject::Kind};

/// The sum over all rounds of one fault.
pub struct Row {
    fault: String,
    replicas: usize,
    pub rounds: usize,
    pub tally: Tally,
    works_max: Duration,
    fast_max: Duration,
}

impl Row {
    pub fn new(fault: String, replicas: usize) -> Self {
        let (works_max, fast_max) = (Duration::ZERO, Duration::ZERO);
        Self { fault, replicas, rounds: 0, tally: Tally::default(), works_max, fast_max }
    }

    /// One round is over: so long after all was mended everything worked, and after the load had ended
    /// revocations were fast.
    pub fn round(&mut self, works: Duration, is_fast: Duration) {
        self.rounds += 1;
        self.works_max = self.works_max.max(works);
        self.fast_max = self.fast_max.max(is_fast);
    }

    /// Prints it, and adds it to the file that `TALLY_REPLICAS_REPORT` names.
    ///
    /// # Panics
    /// When nothing was shown.
    pub fn conclude(&self) {
        let tally = &self.tally;
        let row = format!(
            "| {} | {} | {} | {} | {:.1} s | {:.1} ms | {:.0} ms | {:.1} s | {:.1} s |",
            self.fault,
            self.replicas,
            self.rounds,
            counts(tally),
            tally.socket_max.as_secs_f64(),
            tally.took_at(50).as_secs_f64() * 1000.0,
            tally.took_at(99).as_secs_f64() * 1000.0,
            self.works_max.as_secs_f64(),
            self.fast_max.as_secs_f64(),
        );
        add_row("TALLY_REPLICAS_REPORT", &row);
        assert!(!tally.took.is_empty(), "{}: nothing was revoked, so nothing is shown", self.fault);
        assert!(tally.after > 0, "{}: nobody asked for what was revoked", self.fault);
    }
}

/// Prints what became of one kind, and adds it to the file that `TALLY_KINDS_REPORT` names.
///
/// # Panics
/// When nothing was shown.
pub fn conclude_kind(kind: Kind, tally: Option<&Tally>) {
    let none = Tally::default();
    let tally = tally.unwrap_or(&none);
    let row = format!("| {} | {} |", kind.name(), counts(tally));
    add_row("TALLY_KINDS_REPORT", &row);
    assert!(tally.after > 0, "{}: never revoked, or nobody asked for it", kind.name());
    assert!(tally.sockets > 0 || kind == Kind::MemberDemoted, "{}: nobody listened", kind.name());
}

/// The columns that both tables have.
fn counts(tally: &Tally) -> String {
    let counts = [
        tally.took.len(),
        tally.verifies,
        tally.racing,
        tally.near,
        tally.after,
        tally.accepted,
        tally.unavailable,
        tally.sockets,
    ];
    counts.map(|count| count.to_string()).join(" | ")
}
