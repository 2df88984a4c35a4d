//! CPU time, as Linux counts it per process.
//!
//! A rate alone hides what it cost: on a machine with few cores the load generator, the database
//! and the server share them.

use std::{fs, time::Duration};

use crate::Result;

/// `/proc` counts in hundredths of a second on every Linux architecture (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Whose time is read, beside the database's.
#[derive(Clone, Copy, Debug)]
pub enum Meter {
    /// What is measured runs in this process, and so do those who call it: their time is one.
    InProcess,
    /// A server, called by a program that this process started and waited for.
    CalledByChild { server: u32 },
    /// A server, called by this process.
    CalledFromHere { server: u32 },
    /// A program that this process started and waited for does all of the work.
    Child,
    /// A program that runs beside this process does all of the work, its callers in it.
    Beside { program: u32 },
}

/// CPU time spent, seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// By the server, or by this process where there is none.
    pub process: f64,
    /// By the postmaster and all it started.
    pub postgres: f64,
    /// By the load generator, where it is a process of its own.
    pub generator: Option<f64>,
}

/// A meter that runs.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    meter: Meter,
    postmaster: u32,
    started: Reading,
}

#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    server: f64,
    postgres: f64,
    own: f64,
    children: f64,
}

impl Meter {
    pub fn start(self, postmaster: u32) -> Result<Running> {
        Ok(Running { meter: self, postmaster, started: self.read(postmaster)? })
    }

    fn read(self, postmaster: u32) -> Result<Reading> {
        let server = match self {
            Self::CalledByChild { server: id }
            | Self::CalledFromHere { server: id }
            | Self::Beside { program: id } => Times::of(id)?.own,
            Self::InProcess | Self::Child => 0.0,
        };
        let this = Times::of(std::process::id())?;
        Ok(Reading { server, postgres: postgres(postmaster)?, own: this.own, children: this.waited_for })
    }
}

impl Running {
    /// What was spent since the start.
    pub fn stop(&self) -> Result<Spent> {
        let (from, to) = (self.started, self.meter.read(self.postmaster)?);
        let postgres = to.postgres - from.postgres;
        let (process, generator) = match self.meter {
            Meter::InProcess => (to.own - from.own, None),
            Meter::Child => (to.children - from.children, None),
            Meter::Beside { .. } => (to.server - from.server, None),
            Meter::CalledByChild { .. } => (to.server - from.server, Some(to.children - from.children)),
            Meter::CalledFromHere { .. } => (to.server - from.server, Some(to.own - from.own)),
        };
        Ok(Spent { process, postgres, generator })
    }
}

/// The whole cluster: the postmaster, its children that ended, and its children that live.
fn postgres(postmaster: u32) -> Result<f64> {
    let parent = Times::of(postmaster)?;
    let mut total = parent.own + parent.waited_for;
    for child in children(postmaster)? {
        // One that has ended meanwhile is in its parent's time, at the next reading at the latest.
        if let Ok(times) = Times::of(child) {
            total += times.own + times.waited_for;
        }
    }
    Ok(total)
}

fn children(parent: u32) -> Result<Vec<u32>> {
    let list = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
    Ok(list.split_whitespace().filter_map(|id| id.parse().ok()).collect())
}

/// User and system time of one process, seconds.
struct Times {
    own: f64,
    waited_for: f64,
}

impl Times {
    fn of(process: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        Self::parse(&stat).ok_or_else(|| format!("/proc/{process}/stat is in another form").into())
    }

    /// The name is in parentheses and may hold anything. Behind it the state is field 3 of
    /// proc(5), so utime, stime, cutime and cstime (14 to 17) stand at 11 to 14.
    fn parse(stat: &str) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let seconds = |index: usize| Some(fields.get(index)?.parse::<f64>().ok()? / TICKS_PER_SECOND);
        Some(Self { own: seconds(11)? + seconds(12)?, waited_for: seconds(13)? + seconds(14)? })
    }
}

/// Resident memory of a process, bytes.
pub fn resident_bytes(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes * 1024)
}

/// Seconds of a duration per operation, as microseconds.
pub fn micros_per(seconds: f64, operations: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "operations of a benchmark are far below 2^52")]
    let operations = operations.max(1) as f64;
    seconds * 1e6 / operations
}

/// A duration as whole microseconds, for a list of very many.
pub fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 10 0 0 0 150 25 300 50 20 0 1 0 1 2 3";
        let times = Times::parse(stat).unwrap();
        assert!((times.own - 1.75).abs() < 1e-9 && (times.waited_for - 3.5).abs() < 1e-9);
    }

    #[test]
    fn time_that_is_spent_here_is_seen() {
        let meter = Meter::InProcess.start(std::process::id()).unwrap();
        let deadline = Instant::now() + Duration::from_mins(1);
        while meter.stop().unwrap().process < 0.1 {
            assert!(Instant::now() < deadline, "a busy loop spends CPU time");
        }
    }
}
