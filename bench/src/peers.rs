//! Event stores that a team would take from a registry, on the same PostgreSQL: the same payload,
//! as durable, by as many callers. Each peer is a program of its own under `bench/peers`.

use std::{
    io::{BufRead, BufReader, PipeReader, PipeWriter, Write},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use tally_events::SessionId;
use tally_store::Store;
use tally_tests::{Scratch, scratch::Guarded};
use tokio::{sync::Mutex, task::JoinHandle};

use crate::{
    Result,
    appends::{append, append_to, stop, template},
    bench::{Bench, POOL, Side, check_rows},
    cpu::Meter,
    drive::{Caller, drive},
    product::bare_store,
    report::{Figure, P50, P99, Sample},
};

/// Streams that exist, shared out among the callers.
const STREAMS: usize = 4096;

/// Streams to append to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Streams {
    New,
    Existing,
}

impl Streams {
    const fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Existing => "existing",
        }
    }
}

/// A program that is a peer, where it is there.
struct Harness {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<PathBuf>,
    /// What makes it.
    made_by: &'static str,
    /// Counts what it stored.
    count: &'static str,
}

fn known() -> [Harness; 2] {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    [
        Harness {
            name: "postgres-es 0.5.0",
            program: peers.join("postgres-es/target/release/peer-postgres-es"),
            arguments: Vec::new(),
            made_by: "make bench-peers",
            count: "select count(*) from events",
        },
        Harness {
            name: "emmett-postgresql 0.42.0",
            program: PathBuf::from("node"),
            arguments: vec![peers.join("emmett/peer.mjs")],
            made_by: "make bench-peers, where Node is installed",
            count: "select count(*) from emt_messages",
        },
    ]
}

impl Harness {
    fn is_there(&self) -> bool {
        match self.arguments.first() {
            Some(script) => script.with_file_name("node_modules").is_dir(),
            None => self.program.is_file(),
        }
    }
}

/// Whether there is any peer to measure.
pub fn any() -> bool {
    known().iter().any(Harness::is_there)
}

/// Measures the figure.
pub async fn measure(bench: &Bench) -> Result<Figure> {
    let payload = template(bench).await?.payload;
    let (there, missing): (Vec<_>, Vec<_>) = known().into_iter().partition(Harness::is_there);
    if there.is_empty() {
        return Err("there is no peer: `make bench-peers` makes them".into());
    }
    let mut notes = vec![
        format!("An append is one event of {} bytes, committed durably; the stream is loaded and folded before it. new: a stream of its own. existing: one of {STREAMS}, no two callers in the same.", payload.len()),
        "tally: `Store::execute` in this process, without projections. The peers: a process each, their callers in it, over a pool of 25 connections; set up and called as their own pages show.".to_owned(),
        "Checked: every acknowledged append is there.".to_owned(),
    ];
    notes.extend(missing.iter().map(|peer| format!("{} was not measured: {}.", peer.name, peer.made_by)));

    let streams = if bench.options.quick { 64 } else { STREAMS };
    let product = Arc::new(Product::start(bench, streams).await?);
    let mut peers = Vec::new();
    for harness in &there {
        peers.push(Arc::new(Mutex::new(Peer::start(bench, harness, streams, &payload).await?)));
    }
    let mut rows = Vec::new();
    for which in [Streams::New, Streams::Existing] {
        for &callers in bench.options.callers() {
            let mut sides: Vec<Box<dyn Side>> =
                vec![Box::new(ProductSide { product: product.clone(), which, callers, acknowledged: 0 })];
            for (harness, peer) in there.iter().zip(&peers) {
                sides.push(Box::new(PeerSide { name: harness.name, peer: peer.clone(), which, callers }));
            }
            rows.extend(
                bench.take_turns(&format!("{} streams, {callers} callers", which.word()), sides).await?,
            );
        }
    }
    for peer in peers {
        let peer = Arc::into_inner(peer).ok_or("a side still holds its peer")?;
        peer.into_inner().finish(bench).await?;
    }
    Arc::into_inner(product).ok_or("a side still holds the product")?.finish(bench).await?;
    Ok(Figure {
        name: "peers".to_owned(),
        title: "Beside other event stores".to_owned(),
        command: bench.options.command("peers"),
        machine: String::new(),
        notes,
        rows,
    })
}

struct Product {
    store: Arc<Store>,
    committer: JoinHandle<()>,
    database: PgConnectOptions,
    streams: Vec<SessionId>,
    acknowledged: AtomicU64,
}

impl Product {
    async fn start(bench: &Bench, streams: usize) -> Result<Self> {
        let database = bench.database().await?;
        let (store, committer) = bare_store(&database).await?;
        let mut made = Vec::new();
        for _ in 0..streams {
            made.push(append(&store).await?);
        }
        let acknowledged = (made.len() as u64).into();
        Ok(Self { store, committer, database, streams: made, acknowledged })
    }

    async fn finish(self, bench: &Bench) -> Result<()> {
        let acknowledged = self.acknowledged.into_inner();
        check_rows(&self.database, "select count(*) from event", acknowledged).await?;
        stop(self.store, self.committer).await?;
        bench.drop_database(&self.database).await
    }
}

struct ProductSide {
    product: Arc<Product>,
    which: Streams,
    callers: usize,
    acknowledged: u64,
}

struct ProductCaller {
    store: Arc<Store>,
    /// Streams of its own; none: new ones.
    streams: Vec<SessionId>,
    turn: usize,
}

#[async_trait]
impl Caller for ProductCaller {
    async fn call(&mut self) -> Result<u64> {
        if self.streams.is_empty() {
            append(&self.store).await?;
        } else {
            self.turn += 1;
            append_to(&self.store, self.streams[self.turn % self.streams.len()]).await?;
        }
        Ok(1)
    }
}

#[async_trait]
impl Side for ProductSide {
    fn name(&self) -> String {
        "tally".to_owned()
    }

    fn is_baseline(&self) -> bool {
        false
    }

    async fn round(&mut self, bench: &Bench, length: Duration) -> Result<Sample> {
        let product = &self.product;
        let caller = |number: usize| {
            let streams = match self.which {
                Streams::New => Vec::new(),
                Streams::Existing => {
                    product.streams.iter().skip(number).step_by(self.callers).copied().collect()
                }
            };
            ProductCaller { store: product.store.clone(), streams, turn: 0 }
        };
        let callers = (0..self.callers).map(caller).collect();
        let meter = bench.measure(Meter::InProcess)?;
        let (load, callers) = drive(callers, length).await?;
        drop(callers);
        self.acknowledged += load.operations;
        Ok(load.sample(meter.stop()?))
    }

    async fn finish(self: Box<Self>, _: &Bench) -> Result<()> {
        self.product.acknowledged.fetch_add(self.acknowledged, Ordering::Relaxed);
        Ok(())
    }
}

/// A peer, running.
struct Peer {
    process: Guarded,
    tell: PipeWriter,
    told: BufReader<PipeReader>,
    database: PgConnectOptions,
    count: &'static str,
    acknowledged: u64,
    // Last to be dropped: its guard ends the process.
    _scratch: Scratch,
}

/// What a peer says of a round.
#[derive(Deserialize)]
struct Told {
    operations: u64,
    seconds: f64,
    p50_us: f64,
    p99_us: f64,
}

impl Peer {
    async fn start(bench: &Bench, harness: &Harness, streams: usize, payload: &str) -> Result<Self> {
        let database = bench.empty_database().await;
        let scratch = Scratch::new();
        let ((read_commands, tell), (told, write_answers)) = (std::io::pipe()?, std::io::pipe()?);
        let mut command = Command::new(&harness.program);
        command
            .args(&harness.arguments)
            .arg(bench.url(&database))
            .args([POOL.to_string(), streams.to_string(), payload.to_owned()])
            .stdin(read_commands)
            .stdout(write_answers);
        let process = scratch.spawn(&mut command)?;
        // With it goes this end of the pipes: when the peer ends, reading ends.
        drop(command);
        let mut peer = Self {
            process,
            tell,
            told: BufReader::new(told),
            database,
            count: harness.count,
            acknowledged: streams as u64,
            _scratch: scratch,
        };
        let ready: Value = peer.answer()?;
        if ready["ready"] == true {
            Ok(peer)
        } else {
            Err(format!("{} is not ready: {ready}", harness.name).into())
        }
    }

    fn answer<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.told.read_line(&mut line)?;
        serde_json::from_str(&line)
            .map_err(|error| format!("the peer said `{}`: {error}", line.trim()).into())
    }

    fn work(&mut self, which: Streams, callers: usize, length: Duration) -> Result<Told> {
        writeln!(self.tell, "{} {callers} {}", which.word(), length.as_secs_f64())?;
        let told: Told = self.answer()?;
        self.acknowledged += told.operations;
        Ok(told)
    }

    async fn finish(self, bench: &Bench) -> Result<()> {
        check_rows(&self.database, self.count, self.acknowledged).await?;
        let Self { mut process, tell, database, .. } = self;
        // Nothing more to do: it ends.
        drop(tell);
        process.wait();
        bench.drop_database(&database).await
    }
}

struct PeerSide {
    name: &'static str,
    peer: Arc<Mutex<Peer>>,
    which: Streams,
    callers: usize,
}

#[async_trait]
impl Side for PeerSide {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn is_baseline(&self) -> bool {
        true
    }

    async fn round(&mut self, bench: &Bench, length: Duration) -> Result<Sample> {
        let mut peer = self.peer.lock().await;
        let meter = bench.measure(Meter::Beside { program: peer.process.id() })?;
        let told = peer.work(self.which, self.callers, length)?;
        let sample = Sample::of_rate(told.operations, told.seconds, meter.stop()?);
        Ok(sample.with(P50, told.p50_us).with(P99, told.p99_us))
    }

    async fn finish(self: Box<Self>, _: &Bench) -> Result<()> {
        Ok(())
    }
}
