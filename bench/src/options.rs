//! How much is measured.

use std::path::PathBuf;

use clap::Args;

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Rounds of each side; the median of them is what counts
    #[arg(long, global = true, default_value_t = 5)]
    pub rounds: usize,
    /// Seconds of a round
    #[arg(long, global = true, default_value_t = 3.0)]
    pub seconds: f64,
    /// Live credentials that are seeded, and events that are replayed
    #[arg(long, global = true, default_value_t = 1_000_000)]
    pub events: u64,
    /// Tiny sizes: shows that everything runs, measures nothing
    #[arg(long, global = true)]
    pub quick: bool,
    /// Where the report is kept; figures measured before stay in it
    #[arg(long, global = true, default_value = "target/bench.json")]
    pub report: PathBuf,
    /// The server to measure [default: `tally` beside this program]
    #[arg(long, global = true)]
    pub server: Option<PathBuf>,
    /// Measures how long builds take too, which itself takes minutes
    #[arg(long, global = true)]
    pub builds: bool,
}

impl Options {
    /// What `--quick` stands for.
    #[must_use]
    pub fn settled(self) -> Self {
        if self.quick { Self { rounds: 1, seconds: 0.2, events: 1000, ..self } } else { self }
    }

    /// How many call at once.
    pub fn callers(&self) -> &'static [usize] {
        if self.quick { &[16] } else { &[1, 16, 64, 256, 1024] }
    }

    /// How many connections over HTTP.
    pub fn connections(&self) -> &'static [usize] {
        if self.quick { &[4] } else { &[1, 16, 64, 256] }
    }

    /// The command line that measures a figure again.
    pub fn command(&self, figure: &str) -> String {
        let Self { rounds, seconds, events, .. } = self;
        let quick = if self.quick { " --quick" } else { "" };
        format!("make bench FIGURE='{figure} --rounds {rounds} --seconds {seconds} --events {events}{quick}'")
    }
}
