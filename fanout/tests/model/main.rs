//! Random histories of commands, by the real deciders on a real PostgreSQL, against a reference
//! that knows the promises and none of the product's code.
//!
//! `TALLY_CASES` says how many histories, `TALLY_SEED` which; a failure prints its seed.

#![allow(clippy::pedantic, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod concurrent;
mod reference;
mod sequential;
mod system;

use std::sync::OnceLock;

use proptest::test_runner::{Config, RngSeed};
use tokio::runtime::Runtime;

/// The runtime all histories share: a database connection belongs to one.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().expect("a runtime")
    })
}

/// `histories` of them, or as many as were asked for, from a seed that is printed.
fn config(histories: u32) -> Config {
    static SEED: OnceLock<u64> = OnceLock::new();
    let cases = number("TALLY_CASES").map_or(histories, |cases| u32::try_from(cases).expect("a count"));
    let given = || number("TALLY_SEED").unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().1);
    let seed = *SEED.get_or_init(given);
    println!("TALLY_CASES={cases} TALLY_SEED={seed}");
    Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 2_000,
        max_shrink_time: 120_000,
        ..Config::default()
    }
}

#[expect(clippy::disallowed_methods, reason = "a test is told what to repeat")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a whole number"))
}
