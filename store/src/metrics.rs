//! What the log counts, for whoever scrapes it. Where nobody does, counting costs next to nothing.

use std::{sync::LazyLock, time::Duration};

use metrics::{Counter, Histogram, counter, describe_counter, describe_histogram, histogram};

use crate::{
    committer::CommitError,
    execute::{ExecuteError, Executed},
};

const BATCH_COMMITS: &str = "tally_commit_batch_commits";
const BATCH_SECONDS: &str = "tally_commit_batch_seconds";
const EVENTS: &str = "tally_events_appended_total";
const FAILURES: &str = "tally_commit_failures_total";
const COMMANDS: &str = "tally_commands_total";
const CONFLICTS: &str = "tally_command_conflicts_total";

/// Upper bounds of the histograms' buckets.
pub const BUCKETS: [(&str, &[f64]); 2] = [
    (BATCH_COMMITS, &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0]),
    (BATCH_SECONDS, &[0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]),
];

/// Every metric, made once: looking one up costs more than counting.
pub(crate) static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// Makes every metric, so that it is shown before there is anything to count. A recorder that is
/// installed later is told nothing.
pub fn register() {
    LazyLock::force(&METRICS);
}

pub(crate) struct Metrics {
    pub conflicts: Counter,
    batch_commits: Histogram,
    batch_seconds: Histogram,
    events: Counter,
    failures: Failures,
    commands: Commands,
}

/// Commits that were not made, by why.
struct Failures {
    unavailable: Counter,
    unknown: Counter,
    outdated: Counter,
    poison: Counter,
}

/// Commands, by what came of them.
struct Commands {
    executed: Counter,
    unchanged: Counter,
    refused: Counter,
    repeated: Counter,
    contended: Counter,
    failed: Counter,
}

impl Metrics {
    fn new() -> Self {
        describe_histogram!(BATCH_COMMITS, "Commits that one transaction took together.");
        describe_histogram!(
            BATCH_SECONDS,
            "Time from the beginning of such a transaction to the database's word that it is durable."
        );
        describe_counter!(EVENTS, "Events this replica appended to the log.");
        describe_counter!(
            FAILURES,
            "Commits that were not made (unavailable, outdated, poison), or may not have been (unknown)."
        );
        describe_counter!(COMMANDS, "Commands, by what came of them.");
        describe_counter!(CONFLICTS, "Decisions that lost a race for a stream and were made again.");
        let failures = |reason| counter!(FAILURES, "reason" => reason);
        let commands = |outcome| counter!(COMMANDS, "outcome" => outcome);
        Self {
            conflicts: counter!(CONFLICTS),
            batch_commits: histogram!(BATCH_COMMITS),
            batch_seconds: histogram!(BATCH_SECONDS),
            events: counter!(EVENTS),
            failures: Failures {
                unavailable: failures("unavailable"),
                unknown: failures("unknown"),
                outdated: failures("outdated"),
                poison: failures("poison"),
            },
            commands: Commands {
                executed: commands("executed"),
                unchanged: commands("unchanged"),
                refused: commands("refused"),
                repeated: commands("repeated"),
                contended: commands("contended"),
                failed: commands("failed"),
            },
        }
    }

    pub fn committed(&self, commits: usize, events: usize, took: Duration) {
        self.batch_commits.record(u32::try_from(commits).unwrap_or(u32::MAX));
        self.batch_seconds.record(took);
        self.events.increment(events as u64);
    }

    pub fn failed(&self, error: &CommitError, commits: usize) {
        let Failures { unavailable, unknown, outdated, poison } = &self.failures;
        let failures = match error {
            // What the commit rests on is no longer so: that is an answer.
            CommitError::Moved | CommitError::ClaimTaken(_) | CommitError::Duplicate { .. } => return,
            CommitError::Unavailable => unavailable,
            CommitError::Unknown => unknown,
            CommitError::Outdated => outdated,
            CommitError::Poison(_) => poison,
        };
        failures.increment(commits as u64);
    }

    pub fn command<O, R: std::error::Error + 'static>(
        &self,
        executed: &Result<Executed<O>, ExecuteError<R>>,
    ) {
        let commands = &self.commands;
        let outcome = match executed {
            Ok(executed) if executed.appended => &commands.executed,
            Ok(_) => &commands.unchanged,
            Err(
                ExecuteError::Refused(_)
                | ExecuteError::ClaimTaken(_)
                | ExecuteError::KeyReused
                | ExecuteError::Erased,
            ) => &commands.refused,
            Err(ExecuteError::Replayed { .. }) => &commands.repeated,
            Err(ExecuteError::Contended) => &commands.contended,
            Err(
                ExecuteError::Commit(_)
                | ExecuteError::Read(_)
                | ExecuteError::Keys(_)
                | ExecuteError::Encode(_),
            ) => &commands.failed,
        };
        outcome.increment(1);
    }
}
