//! wrk, the load generator of the HTTP figures: a process of its own, with a script for what it sends.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use serde::Deserialize;

use crate::{
    Result,
    cpu::Spent,
    report::{P50, P99, Sample},
};

/// What every script ends with: each thread knows its `number`, from 0, and may count what it had to
/// send again as `repeated`; the sums come on a line of their own.
const DONE: &str = r#"
local all = {}
function setup(thread)
  thread:set("number", #all)
  all[#all + 1] = thread
end
function done(summary, latency, requests)
  local e, repeated = summary.errors, 0
  for _, thread in ipairs(all) do repeated = repeated + (thread:get("repeated") or 0) end
  io.write(string.format(
    '\nRESULT {"requests":%d,"micros":%d,"refused":%d,"broken":%d,"repeated":%d,"p50":%d,"p99":%d}\n',
    summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout, repeated,
    latency:percentile(50), latency:percentile(99)))
end
"#;

/// What wrk counted.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Counted {
    /// Answers that came.
    pub requests: u64,
    micros: u64,
    /// Answers with a status of 400 or more.
    refused: u64,
    /// Connections that failed, and answers that did not come in time.
    broken: u64,
    /// Requests that were to be sent once and were sent again.
    pub repeated: u64,
    p50: f64,
    p99: f64,
}

impl Counted {
    pub fn seconds(&self) -> f64 {
        Duration::from_micros(self.micros).as_secs_f64()
    }

    /// As a rate of operations, of which each request was so many.
    pub fn sample(&self, operations: u64, spent: Spent) -> Sample {
        Sample::of_rate(self.requests * operations, self.seconds(), spent)
            .with(P50, self.p50)
            .with(P99, self.p99)
    }
}

/// Runs wrk. A single answer that is no success fails it. `init` of the script
/// is given the arguments.
pub fn run(
    directory: &Path,
    url: &str,
    connections: usize,
    length: Duration,
    script: &str,
    arguments: &[&str],
) -> Result<Counted> {
    let path = directory.join("wrk.lua");
    fs::write(&path, format!("{script}\n{DONE}"))?;
    let output = Command::new("wrk")
        .arg(format!("-t{}", threads(connections)))
        .arg(format!("-c{connections}"))
        // wrk counts whole seconds.
        .arg(format!("-d{}s", length.as_secs_f64().ceil().max(1.0)))
        .args(["--timeout", "10s", "-s"])
        .arg(&path)
        .arg(url)
        .arg("--")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("wrk does not run ({error}): `make bench` installs it"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let counted = text.lines().find_map(|line| line.strip_prefix("RESULT "));
    let counted = counted.ok_or_else(|| {
        format!("wrk said nothing of use: {text}{}", String::from_utf8_lossy(&output.stderr))
    })?;
    let counted: Counted = serde_json::from_str(counted)?;
    if counted.refused > 0 || counted.broken > 0 || counted.requests == 0 {
        return Err(format!("not every answer was a success: {counted:?}").into());
    }
    Ok(counted)
}

/// Threads of wrk: as many as this machine has cores, but no more than connections.
pub fn threads(connections: usize) -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(2).min(connections)
}
