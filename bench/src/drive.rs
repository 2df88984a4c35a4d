//! Callers that call again as soon as they are answered, for so long.

use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::{
    Result,
    cpu::{Spent, micros},
    report::{P50, P99, Sample},
};

/// Somebody who calls.
#[async_trait]
pub trait Caller: Send + 'static {
    /// One call; how many operations it was, 0 when this caller has nothing left to do. What is not
    /// a success is an error, and ends the run.
    async fn call(&mut self) -> Result<u64>;
}

/// What came of a drive.
#[derive(Debug)]
pub struct Load {
    pub operations: u64,
    /// From the first call to the last answer.
    pub seconds: f64,
    /// Of each call, microseconds, sorted.
    latencies: Vec<u32>,
}

impl Load {
    /// The latency that this share of calls did not exceed, microseconds.
    pub fn percentile(&self, share: f64) -> f64 {
        let Some(last) = self.latencies.len().checked_sub(1) else { return 0.0 };
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index of a list in memory"
        )]
        let index = (last as f64 * share).round() as usize;
        f64::from(self.latencies[index.min(last)])
    }

    /// Rate, expense and latency.
    pub fn sample(&self, spent: Spent) -> Sample {
        Sample::of_rate(self.operations, self.seconds, spent)
            .with(P50, self.percentile(0.5))
            .with(P99, self.percentile(0.99))
    }
}

/// The same of one caller's calls.
pub fn sample_of_calls(operations: u64, seconds: f64, latencies: Vec<Duration>, spent: Spent) -> Sample {
    let mut latencies: Vec<u32> = latencies.into_iter().map(micros).collect();
    latencies.sort_unstable();
    Load { operations, seconds, latencies }.sample(spent)
}

/// Lets all of them call at once until the time is up, and waits for their last answers. Gives the
/// callers back.
pub async fn drive<C: Caller>(callers: Vec<C>, length: Duration) -> Result<(Load, Vec<C>)> {
    let started = Instant::now();
    let deadline = started + length;
    let tasks: Vec<_> =
        callers.into_iter().map(|caller| tokio::spawn(call_until(caller, deadline))).collect();
    let mut load = Load { operations: 0, seconds: 0.0, latencies: Vec::new() };
    let mut callers = Vec::with_capacity(tasks.len());
    for task in tasks {
        let (caller, operations, latencies) = task.await??;
        callers.push(caller);
        load.operations += operations;
        load.latencies.extend(latencies);
    }
    load.seconds = started.elapsed().as_secs_f64();
    load.latencies.sort_unstable();
    Ok((load, callers))
}

async fn call_until<C: Caller>(mut caller: C, deadline: Instant) -> Result<(C, u64, Vec<u32>)> {
    let (mut operations, mut latencies) = (0, Vec::new());
    loop {
        let sent = Instant::now();
        if sent >= deadline {
            return Ok((caller, operations, latencies));
        }
        let done = caller.call().await?;
        if done == 0 {
            return Ok((caller, operations, latencies));
        }
        operations += done;
        latencies.push(micros(sent.elapsed()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_latencies() {
        let load = Load { operations: 101, seconds: 1.0, latencies: (0..=100).collect() };
        assert!((load.percentile(0.5) - 50.0).abs() < 1e-9);
        assert!((load.percentile(0.99) - 99.0).abs() < 1e-9);
        let one = Load { operations: 1, seconds: 1.0, latencies: vec![7] };
        assert!((one.percentile(0.99) - 7.0).abs() < 1e-9);
    }

    struct Failing;

    #[async_trait]
    impl Caller for Failing {
        async fn call(&mut self) -> Result<u64> {
            Err("refused".into())
        }
    }

    #[tokio::test]
    async fn a_call_that_fails_ends_the_run() {
        let ended = drive(vec![Failing], Duration::from_secs(1)).await;
        assert_eq!(ended.map(|(load, _)| load.operations).unwrap_err().to_string(), "refused");
    }
}
