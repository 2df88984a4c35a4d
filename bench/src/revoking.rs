//! Verification over HTTP while a thousand tokens a second are revoked, beside the same load while none is.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tally_domain::credential::Plaintext;
use tally_events::TokenId;
use tally_tests::{NatsServer, Scratch};
use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, Interval, interval},
};

use crate::{
    Result,
    bare::{Before, Process},
    bench::{Bench, Side, check_rows},
    cpu::{Meter, Spent},
    drive::{Caller, Load, drive, sample_of_calls},
    http::Connection,
    over_http::CONNECTIONS,
    product::Token,
    report::{Figure, P99, RATE, Row, Sample},
    revoke, verify, wrk,
};

/// Replicas that share a database.
const SIZES: [usize; 2] = [1, 3];
/// Revocations that are due in a second.
const REVOCATIONS: u32 = 1000;
/// Who revokes: as many as keep up although each waits for its answer.
const REVOKERS: usize = 64;
/// For a load that something else ends than its time.
const LONG: Duration = Duration::from_hours(1);

/// Revocations that were effective, per second.
pub const REVOKED: &str = "revoked_per_second";
/// How long one took since it was due, microseconds.
pub const REVOCATION_P99: &str = "revocation_p99_us";

/// Measures the figure.
pub async fn measure(bench: &Bench) -> Result<Figure> {
    let nats = NatsServer::start(&[]).await;
    let mut rows = Vec::new();
    for size in SIZES {
        rows.extend(replicas(bench, &nats, size).await?);
    }
    let revocations = revocations(bench);
    Ok(Figure {
        name: "revoking".to_owned(),
        title: format!("Verification while {revocations} tokens a second are revoked"),
        command: bench.options.command("revoking"),
        machine: String::new(),
        notes: vec![
            format!("A request is `GET {}` with any of {} tokens that stay good, each asked before; {CONNECTIONS} connections, wrk, which ask as fast as they are answered. Of three replicas they ask the last.", verify::PATH, warm_tokens(bench)),
            format!("Meanwhile {revocations} revocations are due in each second, evenly: `DELETE /api/tokens/{{id}}` of tokens that were asked before too, by {REVOKERS} callers in this process, of the first replica. `revoked per second` is what was reached, `revocation p99` counts from when one was due until its answer said `X-Revocation: effective`."),
            "nothing revoked: the same of the same servers, while they are asked for nothing else. bare handler: as for verification, once while the same servers revoke as much beside it. All replicas, PostgreSQL, nats-server and the callers share the machine.".to_owned(),
            "CPU time is per verification, of the process that is asked for them; that of one replica has the revocations in it.".to_owned(),
            "Checked: every verification is a yes; every revocation is effective, the log holds an event for each, and afterwards every replica answers 401 to every token that was revoked.".to_owned(),
        ],
        rows,
    })
}

fn revocations(bench: &Bench) -> u32 {
    if bench.options.quick { REVOCATIONS / 10 } else { REVOCATIONS }
}

/// Tokens that stay good.
fn warm_tokens(bench: &Bench) -> usize {
    verify::WARM_TOKENS.min(usize::try_from(bench.options.events).unwrap_or(usize::MAX))
}

async fn replicas(bench: &Bench, nats: &NatsServer, size: usize) -> Result<Vec<Row>> {
    let cluster = Arc::new(Cluster::start(bench, nats, size).await?);
    let like = Connection::open(cluster.asked()).await?.ask(cluster.example.expose()).await?.expect(200)?;
    let bare = || Process::start(&like, Before::Nothing, None);
    let side = |name, bare, revokes| -> Box<dyn Side> {
        Box::new(Verifying { name, cluster: cluster.clone(), bare, revokes })
    };
    let sides = vec![
        side("tally", None, true),
        side("tally, nothing revoked", None, false),
        side("bare handler", Some(bare()?), true),
        side("bare handler, nothing revoked", Some(bare()?), false),
    ];
    let case = if size == 1 { "1 replica".to_owned() } else { format!("{size} replicas") };
    let rows = bench.take_turns(&case, sides).await?;
    let cluster = Arc::into_inner(cluster).ok_or("a side outlived its turns")?;
    cluster.finish(bench).await?;
    Ok(rows)
}

/// Replicas with tokens, some of which are going to be revoked.
struct Cluster {
    running: revoke::Cluster,
    urls: Vec<String>,
    /// The process that verifications ask.
    process: u32,
    /// One of the tokens that stay good.
    example: Plaintext,
    /// All of them, a line each.
    file: PathBuf,
    directory: Scratch,
    doomed: Vec<Token>,
    /// How many of those were taken to be revoked.
    taken: AtomicUsize,
}

impl Cluster {
    async fn start(bench: &Bench, nats: &NatsServer, size: usize) -> Result<Self> {
        let mut running = revoke::Cluster::start(bench, nats, size).await?;
        let urls: Vec<String> = running.servers.iter().map(|server| server.url().to_owned()).collect();
        let warm = warm_tokens(bench);
        let mut tokens = mint(&urls[0], &running.session, warm + doomed(bench)?).await?;
        // Every replica remembers all, so each has something to forget.
        for url in &urls {
            verify::touch(url, &tokens).await?;
        }
        let doomed = tokens.split_off(warm);
        let directory = Scratch::new();
        let file = directory.path().join("tokens");
        let lines: Vec<&str> = tokens.iter().map(|token| token.secret.expose()).collect();
        fs::write(&file, lines.join("\n"))?;
        Ok(Self {
            process: running.servers[size - 1].process().id(),
            running,
            urls,
            example: tokens[0].secret.clone(),
            file,
            directory,
            doomed,
            taken: AtomicUsize::new(0),
        })
    }

    /// The replica that verifications ask. Of several it is not the one that revokes.
    fn asked(&self) -> &str {
        self.urls.last().expect("a cluster has a replica")
    }

    /// Shows that what was revoked is refused everywhere.
    async fn finish(self, bench: &Bench) -> Result<()> {
        let revoked = &self.doomed[..self.taken.into_inner()];
        for url in &self.urls {
            let mut callers = Vec::new();
            for tokens in revoked.chunks(revoked.len().div_ceil(CONNECTIONS)) {
                callers.push(Refused { connection: Connection::open(url).await?, tokens: tokens.to_vec() });
            }
            drive(callers, LONG).await?;
        }
        let all = self.running.revoked + revoked.len() as u64;
        let revocations = "select count(*) from event where name = 'token.revoked'";
        check_rows(&self.running.database, revocations, all).await?;
        drop(self.running.servers);
        bench.drop_database(&self.running.database).await
    }
}

/// Tokens that all rounds together may revoke: two sides do. wrk counts whole seconds, and reads its
/// tokens before they begin, for which each round has two seconds more.
fn doomed(bench: &Bench) -> Result<usize> {
    let seconds = (bench.round().as_secs() + 3) * bench.options.rounds as u64;
    Ok(usize::try_from(2 * seconds * u64::from(revocations(bench)))?)
}

/// Mints as many tokens over HTTP, for somebody.
async fn mint(url: &str, session: &str, count: usize) -> Result<Vec<Token>> {
    let mut callers = Vec::new();
    for _ in 0..CONNECTIONS {
        let connection = Connection::open(url).await?;
        callers.push(Minter { connection, session: session.to_owned(), minted: Vec::new(), left: 0 });
    }
    for number in 0..count {
        callers[number % CONNECTIONS].left += 1;
    }
    let (_, callers) = drive(callers, LONG).await?;
    Ok(callers.into_iter().flat_map(|caller| caller.minted).collect())
}

struct Minter {
    connection: Connection,
    session: String,
    minted: Vec<Token>,
    left: usize,
}

#[async_trait]
impl Caller for Minter {
    async fn call(&mut self) -> Result<u64> {
        if self.left == 0 {
            return Ok(0);
        }
        self.left -= 1;
        let answer = self.connection.post("/api/tokens", &self.session, r#"{"name":"bench"}"#).await?;
        let minted = answer.expect(201)?.json()?;
        let text = |name: &str| minted[name].as_str().ok_or_else(|| format!("a new token has no {name}"));
        let id: TokenId = text("id")?.parse()?;
        self.minted.push(Token { id, secret: Plaintext::new(text("token")?) });
        Ok(1)
    }
}

/// Asks for tokens that must be refused.
struct Refused {
    connection: Connection,
    tokens: Vec<Token>,
}

#[async_trait]
impl Caller for Refused {
    async fn call(&mut self) -> Result<u64> {
        let Some(token) = self.tokens.pop() else { return Ok(0) };
        self.connection.ask(token.secret.expose()).await?.expect(401)?;
        Ok(1)
    }
}

/// Verifications, and revocations beside them or none.
struct Verifying {
    name: &'static str,
    cluster: Arc<Cluster>,
    /// Who answers in the product's place.
    bare: Option<Process>,
    revokes: bool,
}

#[async_trait]
impl Side for Verifying {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn is_baseline(&self) -> bool {
        self.bare.is_some() || !self.revokes
    }

    /// Every token was asked before, which is as good.
    fn warms_up(&self) -> bool {
        false
    }

    async fn round(&mut self, bench: &Bench, length: Duration) -> Result<Sample> {
        let cluster = &self.cluster;
        let (url, server) = match &self.bare {
            Some(bare) => (bare.url(), bare.id()),
            None => (cluster.asked(), cluster.process),
        };
        let url = format!("{url}{}", verify::PATH);
        let connections = if bench.options.quick { 4 } else { CONNECTIONS };
        let file = cluster.file.to_str().ok_or("a temporary path is not UTF-8")?;
        let directory = cluster.directory.path();
        let revoking =
            if self.revokes { Some(Revoking::start(cluster, revocations(bench)).await?) } else { None };
        let meter = bench.measure(Meter::CalledByChild { server })?;
        let counted = wrk::run(directory, &url, connections, length, verify::WARM, &[file]);
        let spent = meter.stop()?;
        // Before anything that can fail: whoever revokes ends when it is told to.
        let revoked = match revoking {
            Some(revoking) => Some(revoking.end().await?),
            None => None,
        };
        let sample = counted?.sample(1, spent);
        Ok(match revoked {
            Some((load, latencies)) => {
                let revoked = sample_of_calls(load.operations, load.seconds, latencies, Spent::default());
                let of = |quantity| revoked.get(quantity).unwrap_or_default();
                sample.with(REVOKED, of(RATE)).with(REVOCATION_P99, of(P99))
            }
            None => sample,
        })
    }

    async fn finish(self: Box<Self>, _: &Bench) -> Result<()> {
        Ok(())
    }
}

/// Revocations under way.
struct Revoking {
    pace: Arc<Pace>,
    task: JoinHandle<Result<(Load, Vec<Revoker>)>>,
}

impl Revoking {
    async fn start(cluster: &Arc<Cluster>, per_second: u32) -> Result<Self> {
        let mut connections = Vec::new();
        for _ in 0..REVOKERS {
            connections.push(Connection::open(&cluster.urls[0]).await?);
        }
        let pace = Arc::new(Pace {
            ticks: Mutex::new(interval(Duration::from_secs(1) / per_second)),
            ended: AtomicBool::new(false),
        });
        let revoker = |connection| Revoker {
            connection,
            cluster: cluster.clone(),
            pace: pace.clone(),
            latencies: Vec::new(),
        };
        let callers = connections.into_iter().map(revoker).collect();
        Ok(Self { pace: pace.clone(), task: tokio::spawn(drive(callers, LONG)) })
    }

    /// What was done, and how long each took.
    async fn end(self) -> Result<(Load, Vec<Duration>)> {
        self.pace.ended.store(true, Ordering::Relaxed);
        let (load, callers) = self.task.await??;
        Ok((load, callers.into_iter().flat_map(|caller| caller.latencies).collect()))
    }
}

/// Moments at which something is due. They wait for nobody: what is late is due at once.
struct Pace {
    ticks: Mutex<Interval>,
    ended: AtomicBool,
}

impl Pace {
    /// The next of them, when it has come; none after the end.
    async fn next(&self) -> Option<Instant> {
        let mut ticks = self.ticks.lock().await;
        if self.ended.load(Ordering::Relaxed) {
            return None;
        }
        Some(ticks.tick().await)
    }
}

struct Revoker {
    connection: Connection,
    cluster: Arc<Cluster>,
    pace: Arc<Pace>,
    latencies: Vec<Duration>,
}

#[async_trait]
impl Caller for Revoker {
    async fn call(&mut self) -> Result<u64> {
        let Some(due) = self.pace.next().await else { return Ok(0) };
        let cluster = &self.cluster;
        let token = cluster.doomed.get(cluster.taken.fetch_add(1, Ordering::Relaxed));
        let token = token.ok_or("there are no tokens left to revoke")?;
        revoke::effectively(&mut self.connection, &token.id.to_string(), &cluster.running.session).await?;
        self.latencies.push(due.elapsed());
        Ok(1)
    }
}
