//! Verification in a service's own process, from memory, with every live credential in it.

use std::{
    collections::HashMap,
    hint::black_box,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::FutureExt;
use sha2::{Digest, Sha256};
use tally_fanout::{Verifier, VerifierSettings};
use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};
use uuid::Uuid;

use crate::{
    Result,
    bench::{Bench, Side},
    cpu::Meter,
    report::{Figure, P50, P99, P999, Sample},
    seed::Seed,
};

/// As many bytes as every token of one kind has.
const TOKEN_BYTES: usize = 40;
/// Between two looks whether memory is full.
const LOOK: Duration = Duration::from_millis(10);
const FILL_TIMEOUT: Duration = Duration::from_mins(10);
/// Verifications between two looks at the clock.
const BATCH: usize = 1024;
/// Verifications that are timed one by one, after each round, by every thread.
const TIMED: usize = 1 << 19;
const CORES: [(usize, &str); 2] = [(1, "one core"), (2, "two cores")];

/// Measures the figure.
pub async fn measure(bench: &Bench, seed: &Seed) -> Result<Figure> {
    let settings = VerifierSettings {
        capacity: seed.tokens.len(),
        connections_max: 8,
        ..VerifierSettings::new(bench.url(&seed.database))
    };
    let verifier = Verifier::connect(settings).await?;
    let tokens = Arc::new(Tokens::of(seed)?);
    timeout(FILL_TIMEOUT, filled(&verifier, &tokens)).await?;
    let map = Arc::new(tokens.all().map(|token| (hash(token), entry())).collect::<HashMap<_, _>>());
    let mut rows = Vec::new();
    for (threads, case) in CORES {
        let side = |check| InProcess { threads, tokens: tokens.clone(), check };
        let sides: Vec<Box<dyn Side>> = vec![
            Box::new(side(Check::Verifier(verifier.clone(), Handle::current()))),
            Box::new(side(Check::Map(map.clone()))),
            Box::new(side(Check::Hash)),
        ];
        rows.extend(bench.take_turns(case, sides).await?);
    }
    verifier.shutdown().await;
    Ok(Figure {
        name: "embedded".to_owned(),
        title: format!("Embedded verification, {} tokens remembered", tokens.len()),
        command: bench.options.command("embedded"),
        machine: String::new(),
        notes: vec![
            "A verification is `Verifier::verify` of a token's text, in this process, which renews its lease meanwhile: form and checksum, SHA-256, lease, memory. Tokens come in no order, each from a buffer that is at hand, as a request's is.".to_owned(),
            "SHA-256 and a plain map: the hash of the same text, and a look into a `HashMap` of the standard library from all of the hashes to two ids and a time, which nobody writes. SHA-256: the hash alone.".to_owned(),
            format!("Rates are of untimed verifications. Latencies are of {TIMED} more on each thread, each between two readings of the clock, which are in them."),
            "Checked: every verification is a yes. One that memory could not answer, because the lease ran out on a busy machine, is asked of the database and counts as one.".to_owned(),
        ],
        rows,
    })
}

/// Tokens in no order, one after the other in one text.
struct Tokens(String);

impl Tokens {
    fn of(seed: &Seed) -> Result<Self> {
        let mut text = String::with_capacity(seed.tokens.len() * TOKEN_BYTES);
        for token in &seed.tokens {
            text.push_str(token.secret.expose());
        }
        if text.len() == seed.tokens.len() * TOKEN_BYTES {
            Ok(Self(text))
        } else {
            Err(format!("a token is not of {TOKEN_BYTES} bytes").into())
        }
    }

    fn len(&self) -> usize {
        self.0.len() / TOKEN_BYTES
    }

    fn get(&self, index: usize) -> &str {
        &self.0[index * TOKEN_BYTES..][..TOKEN_BYTES]
    }

    fn all(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|index| self.get(index))
    }
}

/// Waits until its warm start has all in memory.
async fn filled(verifier: &Verifier, tokens: &Tokens) {
    while verifier.status().cached < tokens.len() {
        sleep(LOOK).await;
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn entry() -> (Uuid, Uuid, i64) {
    (Uuid::now_v7(), Uuid::now_v7(), rand::random())
}

/// What is done with a token.
#[derive(Clone)]
enum Check {
    Verifier(Verifier, Handle),
    Map(Arc<HashMap<[u8; 32], (Uuid, Uuid, i64)>>),
    Hash,
}

impl Check {
    /// Whether it is a good one.
    #[inline]
    fn check(&self, token: &str) -> bool {
        match self {
            Self::Verifier(verifier, runtime) => match verifier.verify(token).now_or_never() {
                Some(verified) => black_box(verified).is_ok(),
                None => runtime.block_on(verifier.verify(token)).is_ok(),
            },
            Self::Map(map) => black_box(map.get(&hash(token))).is_some(),
            Self::Hash => {
                black_box(hash(token));
                true
            }
        }
    }
}

struct InProcess {
    threads: usize,
    tokens: Arc<Tokens>,
    check: Check,
}

/// A thread's way through the tokens.
struct Walker {
    tokens: Arc<Tokens>,
    check: Check,
    next: usize,
}

impl Walker {
    fn step(&mut self) -> bool {
        let good = self.check.check(self.tokens.get(self.next));
        self.next = if self.next + 1 == self.tokens.len() { 0 } else { self.next + 1 };
        good
    }

    /// Verifications until the time is up; none when one was a no.
    fn walk(&mut self, length: Duration) -> Option<u64> {
        let started = Instant::now();
        let mut done = 0;
        while started.elapsed() < length {
            for _ in 0..BATCH {
                if !self.step() {
                    return None;
                }
            }
            done += BATCH as u64;
        }
        Some(done)
    }

    /// How long each of some takes, nanoseconds.
    fn time(&mut self, count: usize) -> Vec<u32> {
        let one = |_| {
            let began = Instant::now();
            black_box(self.step());
            u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX)
        };
        (0..count).map(one).collect()
    }
}

impl InProcess {
    /// On every thread at once.
    fn on_threads<T: Send>(&self, work: impl Fn(&mut Walker) -> T + Sync) -> Vec<T> {
        let share = self.tokens.len() / self.threads;
        let walker = |thread| {
            let runtime = match &self.check {
                Check::Verifier(_, runtime) => Some(runtime.clone()),
                Check::Map(_) | Check::Hash => None,
            };
            let mut walker =
                Walker { tokens: self.tokens.clone(), check: self.check.clone(), next: thread * share };
            let work = &work;
            move || {
                let _entered = runtime.as_ref().map(Handle::enter);
                work(&mut walker)
            }
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads).map(|thread| scope.spawn(walker(thread))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a panic was told by itself")).collect()
        })
    }
}

#[async_trait]
impl Side for InProcess {
    fn name(&self) -> String {
        let name = match self.check {
            Check::Verifier(..) => "tally",
            Check::Map(_) => "SHA-256 and a plain map",
            Check::Hash => "SHA-256",
        };
        name.to_owned()
    }

    fn is_baseline(&self) -> bool {
        !matches!(self.check, Check::Verifier(..))
    }

    async fn round(&mut self, bench: &Bench, length: Duration) -> Result<Sample> {
        let timed = if bench.options.quick { TIMED / 64 } else { TIMED };
        let meter = bench.measure(Meter::InProcess)?;
        let began = Instant::now();
        // The runtime's other threads renew the lease meanwhile.
        let walked = tokio::task::block_in_place(|| self.on_threads(|walker| walker.walk(length)));
        let (seconds, spent) = (began.elapsed().as_secs_f64(), meter.stop()?);
        let walked: Option<Vec<u64>> = walked.into_iter().collect();
        let done = walked.ok_or("a good token was refused")?.iter().sum();
        let mut latencies =
            tokio::task::block_in_place(|| self.on_threads(|walker| walker.time(timed))).concat();
        latencies.sort_unstable();
        // In parts of 1,000, as microseconds.
        let percentile = |parts: usize| f64::from(latencies[(latencies.len() - 1) * parts / 1000]) / 1000.0;
        let sample = Sample::of_rate(done, seconds, spent);
        Ok(sample.with(P50, percentile(500)).with(P99, percentile(990)).with(P999, percentile(999)))
    }

    async fn finish(self: Box<Self>, _: &Bench) -> Result<()> {
        Ok(())
    }
}
