//! Faults: real processes are killed, stopped, locked out and starved under mixed load, and what
//! was acknowledged is compared with the log afterwards. `docs/reliability.md` says what this shows.
//!
//! One round of each by default; `TALLY_FAULT_ROUNDS` asks for more, and `make chaos` does. What is
//! left to chance follows `TALLY_SEED`, which is printed.

mod commit_points;
mod disk;
mod judge;
mod kill;
mod load;
mod locks;
mod mixed;
mod pause;
mod pool;
mod rebuild;
mod replicas;
mod report;
mod rolling_upgrade;
pub mod site;
mod teamwork;
mod two_servers;

/// After this a request is answered, whatever hangs: the server's own bound.
const REQUEST_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(20);
/// What two processors shared with the rest of a test run may add to any time.
const SLACK: std::time::Duration = std::time::Duration::from_secs(2);

#[expect(clippy::disallowed_methods, reason = "a test is told by the environment what to do")]
fn given(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// A number that another run repeats: printed, and taken from `TALLY_SEED` if that is set.
fn seed() -> u64 {
    let seed = given("TALLY_SEED").map_or_else(rand::random, |text| text.parse().expect("a number"));
    println!("TALLY_SEED={seed}");
    seed
}

/// How often something is killed.
fn rounds() -> usize {
    given("TALLY_FAULT_ROUNDS").map_or(1, |text| text.parse().expect("a number"))
}

/// How often everything else happens, which lasts for seconds by itself.
fn slow_rounds() -> usize {
    rounds().div_ceil(4)
}

/// Whether this is the long version.
fn long() -> bool {
    rounds() > 1
}
