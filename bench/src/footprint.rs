//! What it takes: memory, time to start, size, and time to build.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use futures::TryStreamExt;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tally_tests::{Scratch, TempPostgres, scratch::Guarded};
use uuid::Uuid;

use crate::{
    Result,
    bare::{Before, Process},
    bench::Bench,
    cpu::resident_bytes,
    http::{Answer, Connection},
    product,
    report::{Figure, Row, compare},
    seed::Seed,
    verify::touch,
};

/// How long a server is left alone before its memory is read.
const IDLE: Duration = Duration::from_secs(2);
const START_TIMEOUT: Duration = Duration::from_mins(1);
/// Between two looks whether a server has started: the precision of its start-up time.
const LOOK: Duration = Duration::from_millis(1);
/// Tokens asked for before the memory is read that a cache grows from.
const TOUCHED_BEFORE: usize = 1000;

/// Measures the figure.
pub async fn measure(bench: &Bench, seed: &Seed) -> Result<Figure> {
    let mut rows = starts(bench).await?;
    rows.extend(cached(bench, seed).await?);
    rows.extend(warm_starts(bench, seed).await?);
    rows.extend(sizes(bench)?);
    if bench.options.builds {
        rows.extend(builds()?);
    }
    Ok(Figure {
        name: "footprint".to_owned(),
        title: "What it takes".to_owned(),
        command: bench.options.command(if bench.options.builds { "footprint --builds" } else { "footprint" }),
        machine: String::new(),
        notes: vec![
            "idle memory: resident memory of the server process, PostgreSQL not counted, two seconds after its first answer; of the bare handler as much later.".to_owned(),
            "start: from the process to the first answered `GET /readyz`; embedded: with its own PostgreSQL, on a data directory that exists. PostgreSQL alone: from its process to its first answered statement.".to_owned(),
            "warm start: every credential of the database in memory. From the first lease, as the server's log says it; and from the process. bare COPY: the same columns of the same rows by one `copy … to stdout (format binary)`, read and dropped.".to_owned(),
            "cached credential, and filling by cold verifications: without a warm start; growth of resident memory while every token is verified once, over their number. bare map: the same of a `HashMap` from a hash to two ids and a time.".to_owned(),
        ],
        rows,
    })
}

/// Start-up times and idle memory: the same starts serve both.
async fn starts(bench: &Bench) -> Result<Vec<Row>> {
    let (data, postgres_scratch) = (Scratch::new(), Scratch::new());
    let external = bench.database().await?;
    // The first start makes the cluster; those after it find it.
    drop(Started::embedded(bench, &data).await?.stop());
    let mut alone = TempPostgres::start().await;
    let [mut embedded_ms, mut external_ms, mut postgres_ms] = [Vec::new(), Vec::new(), Vec::new()];
    let [mut embedded_bytes, mut bare_bytes] = [Vec::new(), Vec::new()];
    for round in 1..=bench.options.rounds {
        let started = Started::embedded(bench, &data).await?;
        embedded_ms.push(started.took.as_secs_f64() * 1000.0);
        tokio::time::sleep(IDLE).await;
        embedded_bytes.push(mebibytes(resident_bytes(started.process.id())?));
        let like = started.answer.clone();
        started.stop()?;

        let bare = Process::start(&like, Before::Nothing, None)?;
        Connection::open(bare.url()).await?.get("/", "nobody").await?.expect(200)?;
        tokio::time::sleep(IDLE).await;
        bare_bytes.push(mebibytes(resident_bytes(bare.id())?));
        drop(bare);

        let started = Started::external(bench, &postgres_scratch, &external, true).await?;
        external_ms.push(started.took.as_secs_f64() * 1000.0);
        started.stop()?;

        postgres_ms.push(postgres_start(&mut alone).await?.as_secs_f64() * 1000.0);
        eprintln!("  round {round}: started in {:.0} ms", embedded_ms[round - 1]);
    }
    bench.drop_database(&external).await?;
    let mut memory = vec![
        Row::of_values("idle memory", "tally", false, "MiB", &embedded_bytes),
        Row::of_values("idle memory", "bare handler", true, "MiB", &bare_bytes),
    ];
    compare(&mut memory);
    let mut start = vec![
        Row::of_values("start", "tally, embedded", false, "ms", &embedded_ms),
        Row::of_values("start", "tally, external", false, "ms", &external_ms),
        Row::of_values("start", "PostgreSQL alone", true, "ms", &postgres_ms),
    ];
    compare(&mut start);
    memory.extend(start);
    Ok(memory)
}

/// A server whose first answer has come.
struct Started {
    process: Guarded,
    took: Duration,
    answer: Answer,
    url: String,
    began: Instant,
    log: PathBuf,
}

impl Started {
    async fn embedded(bench: &Bench, scratch: &Scratch) -> Result<Self> {
        Self::with(bench, scratch, &[]).await
    }

    async fn external(
        bench: &Bench,
        scratch: &Scratch,
        database: &PgConnectOptions,
        warm_start: bool,
    ) -> Result<Self> {
        let secrets = product::secrets().into_iter();
        let mut settings: Vec<_> = secrets.collect();
        settings.push(("DATABASE_URL", bench.url(database)));
        settings.push(("TALLY_BIND", "127.0.0.1".to_owned()));
        settings.push(("TALLY_WARM_START", warm_start.to_string()));
        Self::with(bench, scratch, &settings).await
    }

    async fn with(bench: &Bench, scratch: &Scratch, settings: &[(&str, String)]) -> Result<Self> {
        let log = scratch.path().join(format!("serve-{}.log", Uuid::now_v7()));
        let mut command = Command::new(&bench.server);
        #[expect(clippy::disallowed_methods, reason = "the server finds PostgreSQL where this program does")]
        let search_path = std::env::var("PATH").unwrap_or_default();
        command
            .arg("serve")
            .env_clear()
            .env("PATH", search_path)
            .env("PORT", "0")
            .env("APP_ENV", "development")
            .env("TALLY_LOG_FORMAT", "json")
            .env("TALLY_DATA_DIR", scratch.path().join("data"))
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?);
        let started = Instant::now();
        let mut process = scratch.spawn(&mut command)?;
        let (url, answer) = loop {
            if let Some(url) = listening(&log) {
                let answer = Connection::open(&url).await?.get("/readyz", "nobody").await?;
                if answer.status == 200 {
                    break (url, answer);
                }
            }
            if !process.is_running() || started.elapsed() > START_TIMEOUT {
                return Err(format!("the server did not start: {}", fs::read_to_string(&log)?).into());
            }
            tokio::time::sleep(LOOK).await;
        };
        Ok(Self { process, took: started.elapsed(), answer, url, began: started, log })
    }

    fn stop(mut self) -> Result<()> {
        self.process.signal(rustix::process::Signal::TERM);
        let ended = self.process.wait();
        if ended.success() { Ok(()) } else { Err(format!("the server ended with {ended}").into()) }
    }
}

/// Where it listens, once its log says so.
fn listening(log: &Path) -> Option<String> {
    let line = said(log, |line| line["message"] == "listening")?;
    Some(format!("http://{}", line["address"].as_str()?))
}

/// The first such line of a log, once it is there.
fn said(log: &Path, is_it: impl Fn(&Value) -> bool) -> Option<Value> {
    let text = fs::read_to_string(log).ok()?;
    let mut lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
    lines.find(is_it)
}

/// From nothing in memory to every credential.
async fn warm_starts(bench: &Bench, seed: &Seed) -> Result<Vec<Row>> {
    let [mut leased, mut process, mut bare] = [Vec::new(), Vec::new(), Vec::new()];
    for round in 1..=bench.options.rounds {
        let scratch = Scratch::new();
        let server = Started::external(bench, &scratch, &seed.database, true).await?;
        let line = loop {
            let warm =
                |line: &Value| line["message"].as_str().is_some_and(|text| text.starts_with("memory "));
            match said(&server.log, warm) {
                Some(line) => break line,
                None if server.began.elapsed() > START_TIMEOUT => return Err("memory was not filled".into()),
                None => tokio::time::sleep(LOOK).await,
            }
        };
        process.push(server.began.elapsed().as_secs_f64());
        if line["credentials"].as_u64() != Some(seed.tokens.len() as u64) {
            return Err(format!("of {} credentials came into memory: {line}", seed.tokens.len()).into());
        }
        leased.push(line["duration_ms"].as_f64().ok_or("the log does not say how long it took")? / 1000.0);
        server.stop()?;
        bare.push(copy_out(seed).await?.as_secs_f64());
        eprintln!("  round {round}: warm in {:.2} s, COPY {:.2} s", leased[round - 1], bare[round - 1]);
    }
    let case = format!("warm start of {} credentials", seed.tokens.len());
    let mut rows = vec![
        Row::of_values(&case, "tally, from its first lease", false, "s", &leased),
        Row::of_values(&case, "bare COPY", true, "s", &bare),
    ];
    compare(&mut rows);
    rows.insert(1, Row::of_values(&case, "tally, from its process", false, "s", &process));
    Ok(rows)
}

/// Reads what a warm start reads, in one go, and drops it.
async fn copy_out(seed: &Seed) -> Result<Duration> {
    let mut connection = PgConnection::connect_with(&seed.database).await?;
    let started = Instant::now();
    let rows = "copy (select c.hash, c.id, c.user_id, c.expires_at, c.revoked_at, u.suspended,
                             c.position > u.credentials_after
                        from credentials c join users u on u.id = c.user_id)
                  to stdout (format binary)";
    let read =
        connection.copy_out_raw(rows).await?.try_fold(0, async |sum, piece| Ok(sum + piece.len())).await?;
    let took = started.elapsed();
    connection.close().await?;
    if read > seed.tokens.len() { Ok(took) } else { Err("COPY gave next to nothing".into()) }
}

/// Stops a cluster in order and starts it again.
async fn postgres_start(postgres: &mut TempPostgres) -> Result<Duration> {
    postgres.process().signal(rustix::process::Signal::TERM);
    postgres.process().wait();
    let started = Instant::now();
    postgres.restart().await;
    let mut connection = PgConnection::connect_with(&postgres.options("postgres")).await?;
    sqlx::query("select 1").execute(&mut connection).await?;
    let took = started.elapsed();
    connection.close().await?;
    Ok(took)
}

/// Bytes per cached credential. Once per run: a cache is filled once.
async fn cached(bench: &Bench, seed: &Seed) -> Result<Vec<Row>> {
    let scratch = Scratch::new();
    let server = Started::external(bench, &scratch, &seed.database, false).await?;
    // What is asked for now is in both readings, and so are the pool and the connections' buffers.
    let (before, rest) = seed.tokens.split_at(TOUCHED_BEFORE.min(seed.tokens.len() / 2));
    touch(&server.url, before).await?;
    let from = resident_bytes(server.process.id())?;
    let started = Instant::now();
    touch(&server.url, rest).await?;
    let filled = started.elapsed().as_secs_f64();
    let to = resident_bytes(server.process.id())?;
    server.stop()?;
    let bytes = per(to.saturating_sub(from), rest.len());

    let output =
        Command::new(std::env::current_exe()?).args(["bare-map", &rest.len().to_string()]).output()?;
    let bare: u64 = String::from_utf8_lossy(&output.stdout).trim().parse()?;
    let mut rows = vec![
        Row::of_values(&format!("cached credential, of {}", rest.len()), "tally", false, "bytes", &[bytes]),
        Row::of_values("cached credential", "bare map", true, "bytes", &[per(bare, rest.len())]),
    ];
    compare(&mut rows);
    rows.push(Row::of_values("filling the cache by cold verifications", "tally", false, "s", &[filled]));
    Ok(rows)
}

/// Fills a plain map, in a process of its own, and prints what its resident memory grew by.
pub fn bare_map(entries: usize) -> Result<()> {
    let process = std::process::id();
    let before = resident_bytes(process)?;
    let mut map: HashMap<[u8; 32], (Uuid, Uuid, i64)> = HashMap::new();
    while map.len() < entries {
        map.insert(rand::random(), (Uuid::now_v7(), Uuid::now_v7(), rand::random()));
    }
    let after = resident_bytes(process)?;
    println!("{}", after.saturating_sub(before));
    Ok(())
}

fn sizes(bench: &Bench) -> Result<Vec<Row>> {
    let built = fs::metadata(&bench.server)?.len();
    let mut rows = vec![Row::of_values("binary", "tally, as built", false, "MiB", &[mebibytes(built)])];
    let scratch = Scratch::new();
    let copy = scratch.path().join("tally");
    fs::copy(&bench.server, &copy)?;
    // Without binutils there is nothing to strip with, and one row less.
    if Command::new("strip").arg(&copy).status().is_ok_and(|status| status.success()) {
        let stripped = fs::metadata(&copy)?.len();
        rows.push(Row::of_values("binary", "tally, stripped", false, "MiB", &[mebibytes(stripped)]));
    }
    Ok(rows)
}

/// A release build from nothing, and one after a change in the room that everything rests on, and in
/// the door.
fn builds() -> Result<Vec<Row>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the bench stands in a workspace")?;
    let scratch = Scratch::new();
    let target = scratch.path().join("target");
    let mut rows = Vec::new();
    let changed: [(&str, Option<PathBuf>); 4] = [
        ("cold", None),
        ("after a change in `cli`", Some(root.join("cli/src/main.rs"))),
        ("after a change in `api`", Some(root.join("api/src/lib.rs"))),
        ("after a change in `events`", Some(root.join("events/src/lib.rs"))),
    ];
    for (side, touched) in changed {
        if let Some(path) = touched {
            fs::File::options().append(true).open(path)?.set_modified(newest())?;
        }
        let started = Instant::now();
        let built = Command::new("cargo")
            .args(["build", "--release", "--quiet", "--locked", "--package", "tally"])
            .current_dir(root)
            .env("CARGO_TARGET_DIR", &target)
            .env("SQLX_OFFLINE", "true")
            .status()?;
        if !built.success() {
            return Err("the build failed".into());
        }
        let seconds = started.elapsed().as_secs_f64();
        eprintln!("  release build, {side}: {seconds:.0} s");
        rows.push(Row::of_values("release build", side, false, "s", &[seconds]));
    }
    Ok(rows)
}

#[expect(clippy::disallowed_methods, reason = "cargo compares a file's time with the machine's clock")]
fn newest() -> std::time::SystemTime {
    std::time::SystemTime::now()
}

fn mebibytes(bytes: u64) -> f64 {
    per(bytes, 1024 * 1024)
}

fn per(bytes: u64, count: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "sizes of files and processes are far below 2^52")]
    let per = bytes as f64 / count as f64;
    per
}
