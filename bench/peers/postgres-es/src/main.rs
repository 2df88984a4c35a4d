//! postgres-es under the same load as the product: one event of the same payload to a stream of its
//! own, or to one that exists. It is told what to do line by line, as every peer is:
//!
//!     peer DATABASE_URL POOL STREAMS PAYLOAD     sets up STREAMS streams, prints {"ready":true}
//!     new|existing CALLERS SECONDS               works, prints {"operations", "seconds", "p50_us", "p99_us"}

use std::{
    error::Error,
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use cqrs_es::{Aggregate, DomainEvent, event_sink::EventSink};
use postgres_es::{PostgresCqrs, postgres_cqrs};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::postgres::PgPoolOptions;
use tokio::io::{AsyncBufReadExt, BufReader};
use uuid::Uuid;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// As its repository gives them for one event table; a snapshot table is not used.
const SCHEMA: &str = "create table events (
    aggregate_type text not null,
    aggregate_id text not null,
    sequence bigint check (sequence >= 0) not null,
    event_type text not null,
    event_version text not null,
    payload json not null,
    metadata json not null,
    primary key (aggregate_type, aggregate_id, sequence)
)";

#[derive(Default, Serialize, Deserialize)]
struct Session {
    events: u64,
}

/// The stored text of an event, as the product has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Happened(serde_json::Value);

impl DomainEvent for Happened {
    fn event_type(&self) -> String {
        "session.started".to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

#[derive(Debug)]
struct Refused;

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("refused")
    }
}

impl Error for Refused {}

impl Aggregate for Session {
    const TYPE: &'static str = "session";
    type Command = Happened;
    type Event = Happened;
    type Error = Refused;
    type Services = ();

    async fn handle(
        &mut self,
        command: Happened,
        (): &(),
        sink: &EventSink<Self>,
    ) -> std::result::Result<(), Refused> {
        sink.write(command, self).await;
        Ok(())
    }

    fn apply(&mut self, _: Happened) {
        self.events += 1;
    }
}

struct Peer {
    store: PostgresCqrs<Session>,
    payload: Happened,
    /// Streams that exist.
    streams: Vec<String>,
}

impl Peer {
    async fn append(&self, stream: &str) -> Result<()> {
        Ok(self.store.execute(stream, self.payload.clone()).await?)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, pool, streams, payload] = arguments.as_slice() else {
        return Err("usage: peer DATABASE_URL POOL STREAMS PAYLOAD".into());
    };
    let pool = PgPoolOptions::new()
        .min_connections(pool.parse()?)
        .max_connections(pool.parse()?)
        .acquire_timeout(Duration::from_secs(120))
        .connect(url)
        .await?;
    sqlx::query(SCHEMA).execute(&pool).await?;
    let peer = Arc::new(Peer {
        store: postgres_cqrs(pool, Vec::new(), ()),
        payload: Happened(serde_json::from_str(payload)?),
        streams: (0..streams.parse()?).map(|_| Uuid::now_v7().to_string()).collect(),
    });
    for stream in &peer.streams {
        peer.append(stream).await?;
    }
    say(&json!({ "ready": true }))?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let words: Vec<&str> = line.split(' ').collect();
        let [which, callers, seconds] = words.as_slice() else { return Err(format!("what is `{line}`?").into()) };
        let length = Duration::from_secs_f64(seconds.parse()?);
        say(&work(&peer, *which == "existing", callers.parse()?, length).await?)?;
    }
    Ok(())
}

/// Lets so many callers append until the time is up. No two of them share a stream.
async fn work(peer: &Arc<Peer>, existing: bool, callers: usize, length: Duration) -> Result<serde_json::Value> {
    let started = Instant::now();
    let deadline = started + length;
    let tasks = (0..callers).map(|caller| {
        let peer = peer.clone();
        tokio::spawn(async move {
            let mut latencies: Vec<u64> = Vec::new();
            let mut own = (caller..peer.streams.len()).step_by(callers).cycle();
            loop {
                let sent = Instant::now();
                if sent >= deadline {
                    return Ok::<_, Box<dyn Error + Send + Sync>>(latencies);
                }
                if existing {
                    let stream = own.next().ok_or("there are fewer streams than callers")?;
                    peer.append(&peer.streams[stream]).await?;
                } else {
                    peer.append(&Uuid::now_v7().to_string()).await?;
                }
                latencies.push(u64::try_from(sent.elapsed().as_micros())?);
            }
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let seconds = started.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let percentile = |hundredths: usize| latencies[(latencies.len() - 1) * hundredths / 100];
    Ok(json!({
        "operations": latencies.len(), "seconds": seconds, "p50_us": percentile(50), "p99_us": percentile(99),
    }))
}

fn say(document: &serde_json::Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{document}")?;
    out.flush()?;
    Ok(())
}
