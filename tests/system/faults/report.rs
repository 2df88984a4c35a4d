//! What a fault cost, as a row of the table in `docs/reliability.md`.

use std::{fs::OpenOptions, io::Write, time::Duration};

use super::given;

/// The sum over all rounds of one fault.
#[derive(Debug)]
pub struct Report {
    fault: &'static str,
    rounds: usize,
    /// Answers that promised something and were looked up afterwards.
    pub checked: usize,
    pub lost: usize,
    pub twice: usize,
    refused: usize,
    recovery_max: Duration,
    answer_max: Duration,
}

impl Report {
    pub const fn new(fault: &'static str) -> Self {
        Self {
            fault,
            rounds: 0,
            checked: 0,
            lost: 0,
            twice: 0,
            refused: 0,
            recovery_max: Duration::ZERO,
            answer_max: Duration::ZERO,
        }
    }

    /// One round is over: from the end of the fault it took so long until a command succeeded.
    pub fn round(&mut self, recovery: Duration) {
        self.rounds += 1;
        self.recovery_max = self.recovery_max.max(recovery);
    }

    pub fn answered(&mut self, refused: usize, slowest: Duration) {
        self.refused = self.refused.max(refused);
        self.answer_max = self.answer_max.max(slowest);
    }

    /// As [`Report::conclude`], for a fault during which somebody must have been told 503: one that
    /// nobody has felt shows nothing.
    pub fn conclude_felt(self) {
        assert!(self.refused > 0, "{}: nobody was told 503", self.fault);
        self.conclude();
    }

    /// Prints the row, and adds it to the file that `TALLY_FAULT_REPORT` names.
    ///
    /// # Panics
    /// When something was lost or done twice.
    pub fn conclude(self) {
        let row = format!(
            "| {} | {} | {} | {} | {} | {} | {:.1} s | {:.1} s |",
            self.fault,
            self.rounds,
            self.checked,
            self.lost,
            self.twice,
            self.refused,
            self.recovery_max.as_secs_f64(),
            self.answer_max.as_secs_f64()
        );
        add_row("TALLY_FAULT_REPORT", &row);
        assert!(self.rounds > 0, "{}: nothing was done", self.fault);
        assert!(self.checked > 0, "{}: nothing was acknowledged, so nothing is shown", self.fault);
        assert_eq!((self.lost, self.twice), (0, 0), "{}: lost and done twice", self.fault);
    }
}

/// Prints a row of a table, and adds it to the file that this variable names.
pub fn add_row(variable: &str, row: &str) {
    println!("{row}");
    if let Some(path) = given(variable) {
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("a file");
        writeln!(file, "{row}").expect("a file that can be written");
    }
}
