//! Verification over HTTP, as a proxy asks before it lets a request through: warm, from memory, and
//! cold, the first time a replica sees a credential.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use sqlx::{Connection as _, PgConnection, PgPool, Row as _};

use crate::{
    Result,
    bare::{Before, Process},
    bench::{Bench, Side, pool},
    cpu::Meter,
    drive::{Caller, drive, sample_of_calls},
    http::Connection,
    over_http::{CONNECTIONS, OverHttp, Script, TOO_FEW},
    product::Token,
    report::{Figure, POSTGRES, Row, Sample},
    seed::Seed,
};

/// Where forward authentication is asked. It says what the original method was, as a proxy would.
pub const PATH: &str = "/auth/verify";
/// Tokens that are asked for again and again.
pub const WARM_TOKENS: usize = 100_000;

/// A random token of a file for each request.
pub const WARM: &str = r#"
local texts = {}
function init(arguments)
  math.randomseed(os.time() + tonumber(tostring({}):match("0x(%x+)"), 16) % 65536)
  for token in io.lines(arguments[1]) do
    texts[#texts + 1] = wrk.format("GET", nil, { ["Authorization"] = "Bearer " .. token, ["X-Original-Method"] = "GET" })
  end
end
function request() return texts[math.random(#texts)] end
"#;

/// Each token of a file once: every thread takes the lines that are its own.
const COLD: &str = r#"
local texts, last = {}, 0
repeated = 0
function init(arguments)
  local line = 0
  for token in io.lines(arguments[1]) do
    if line % tonumber(arguments[2]) == number then
      texts[#texts + 1] = wrk.format("GET", nil, { ["Authorization"] = "Bearer " .. token, ["X-Original-Method"] = "GET" })
    end
    line = line + 1
  end
end
function request()
  if last == #texts then last, repeated = 0, repeated + 1 end
  last = last + 1
  return texts[last]
end
"#;

/// What the product asks the database about a token it has not seen.
const SELECT: &str = "select h.position as head, c.id, c.user_id, c.expires_at, c.revoked_at, u.suspended,
       (c.position > u.credentials_after) as current
  from log_head h
  left join credentials c on c.hash = $1
  left join users u on u.id = c.user_id";

/// The same about several.
const SELECT_SEVERAL: &str =
    "select h.position as head, c.hash, c.id, c.user_id, c.expires_at, c.revoked_at, u.suspended,
       (c.position > u.credentials_after) as current
  from log_head h
  left join credentials c on c.hash = any($1)
  left join users u on u.id = c.user_id";

/// Asks it; whether the token is there and good.
pub async fn select(pool: &PgPool, hash: &[u8; 32]) -> Result<bool> {
    let row = sqlx::query(SELECT).bind(&hash[..]).fetch_one(pool).await?;
    Ok(row.try_get::<Option<bool>, _>("current")? == Some(true))
}

/// Measures the figure.
pub async fn measure(bench: &Bench, seed: &Seed) -> Result<Figure> {
    let mut rows = warm(bench, seed).await?;
    let cold = cold(bench, seed).await?;
    // A quick round is so short that what PostgreSQL does by itself is most of it.
    if !bench.options.quick {
        check(&rows, &cold)?;
    }
    rows.extend(cold);
    Ok(Figure {
        name: "verify".to_owned(),
        title: format!("Verification over HTTP, {} live credentials", seed.tokens.len()),
        command: bench.options.command("verify"),
        machine: String::new(),
        notes: vec![
            format!("A request is `GET {PATH}` with a bearer token; {CONNECTIONS} connections, wrk, the same script for each side."),
            format!("warm: any of {} tokens, each asked before. bare handler: an axum handler in a process of its own, on the same hyper and the same number of threads, that answers the same status, headers and body, without a router or middleware. with metrics: the product with `METRICS_ADDR` set, so that it counts and times what it answers.", WARM_TOKENS.min(seed.tokens.len())),
            "cold: each token for the first time, in no order; every side asks for the same ones. bare handler with SELECT: hashes the token and asks the database the product's statement, prepared, over a pool as large. bare SELECT: the same statement from this process, no HTTP, by as many callers over a pool as large. SELECT of several: the same about as many tokens at once as there are callers, one statement after another on one connection; its latency is a statement's.".to_owned(),
            "Checked: every answer is a success; warm rounds cost the database next to nothing, cold ones do not.".to_owned(),
        ],
        rows,
    })
}

/// A warm answer that cost the database what a cold one does was none.
fn check(warm: &[Row], cold: &[Row]) -> Result<()> {
    let postgres =
        |rows: &[Row]| rows[0].summary.get(POSTGRES).map(|summary| summary.median).unwrap_or_default();
    let (warm, cold) = (postgres(warm), postgres(cold));
    if warm > cold / 2.0 {
        return Err(format!(
            "a warm verification cost the database {warm:.1} µs and a cold one {cold:.1} µs: not what was to be measured"
        )
        .into());
    }
    Ok(())
}

async fn warm(bench: &Bench, seed: &Seed) -> Result<Vec<Row>> {
    let tokens = &seed.tokens[..WARM_TOKENS.min(seed.tokens.len())];
    let file = seed.write_tokens("warm", tokens)?;
    let server = bench.serve(&seed.database).await?;
    touch(server.url(), tokens).await?;
    let counting = bench.serve_with(&seed.database, &[("METRICS_ADDR", "127.0.0.1:0")]).await?;
    touch(counting.url(), tokens).await?;
    let mut connection = Connection::open(server.url()).await?;
    let like = connection.verify(&tokens[0]).await?;
    let bare = Process::start(&like, Before::Nothing, None)?;
    let script = Script { path: PATH, text: WARM.to_owned(), verdicts: 1 };
    let product = OverHttp::product(server, seed, &script, file.clone());
    let counting = OverHttp::product(counting, seed, &script, file.clone()).otherwise("tally, with metrics");
    let handler = OverHttp::bare("bare handler", bare, seed, &script, file);
    bench.take_turns("warm", vec![Box::new(product), Box::new(counting), Box::new(handler)]).await
}

async fn cold(bench: &Bench, seed: &Seed) -> Result<Vec<Row>> {
    // The warm-up is a round too.
    let slices = Arc::new(Slices::cut(seed, bench.options.rounds + 1)?);
    let server = bench.serve_with(&seed.database, &[("TALLY_WARM_START", "false")]).await?;
    // The last token is in no slice that is ever reached by the product first.
    let like = Connection::open(server.url()).await?.verify(&slices.spare).await?;
    let bare = Process::start(&like, Before::Select, Some(&bench.url(&seed.database)))?;
    let script = Script { path: PATH, text: COLD.to_owned(), verdicts: 1 };
    let cold = |over_http| Cold { over_http, slices: slices.clone(), round: 0 };
    let product = cold(OverHttp::product(server, seed, &script, PathBuf::new()));
    let handler = cold(OverHttp::bare("bare handler with SELECT", bare, seed, &script, PathBuf::new()));
    let select = Select { pool: pool(&seed.database).await?, slices: slices.clone(), round: 0 };
    let options = tally_store::with_session_settings(seed.database.clone());
    let connection = PgConnection::connect_with(&options).await?;
    let several = SelectSeveral { connection, slices, round: 0 };
    bench
        .take_turns("cold", vec![Box::new(product), Box::new(handler), Box::new(select), Box::new(several)])
        .await
}

/// Asks for each token once, so that all are in memory.
pub async fn touch(url: &str, tokens: &[Token]) -> Result<()> {
    let share = tokens.len().div_ceil(CONNECTIONS);
    let mut callers = Vec::new();
    for tokens in tokens.chunks(share) {
        callers.push(Toucher { connection: Connection::open(url).await?, tokens: tokens.to_vec() });
    }
    drive(callers, Duration::from_hours(1)).await?;
    Ok(())
}

struct Toucher {
    connection: Connection,
    tokens: Vec<Token>,
}

#[async_trait]
impl Caller for Toucher {
    async fn call(&mut self) -> Result<u64> {
        let Some(token) = self.tokens.pop() else { return Ok(0) };
        self.connection.verify(&token).await?;
        Ok(1)
    }
}

/// Tokens for each cold round, which no earlier round has asked for.
struct Slices {
    tokens: Vec<Vec<Token>>,
    files: Vec<PathBuf>,
    spare: Token,
}

impl Slices {
    fn cut(seed: &Seed, rounds: usize) -> Result<Self> {
        let (spare, rest) = seed.tokens.split_last().ok_or("no tokens were seeded")?;
        let share = rest.len() / rounds;
        let tokens: Vec<Vec<Token>> = rest.chunks_exact(share).take(rounds).map(<[Token]>::to_vec).collect();
        let files = tokens
            .iter()
            .enumerate()
            .map(|(index, tokens)| seed.write_tokens(&format!("cold-{index}"), tokens));
        Ok(Self { files: files.collect::<Result<_>>()?, tokens, spare: spare.clone() })
    }
}

/// Asks for each of the tokens of the next round.
struct Cold {
    over_http: OverHttp,
    slices: Arc<Slices>,
    round: usize,
}

#[async_trait]
impl Side for Cold {
    fn name(&self) -> String {
        self.over_http.name()
    }

    fn is_baseline(&self) -> bool {
        self.over_http.is_baseline()
    }

    async fn round(&mut self, bench: &Bench, length: Duration) -> Result<Sample> {
        self.over_http.file.clone_from(&self.slices.files[self.round]);
        self.round += 1;
        self.over_http.round(bench, length).await
    }

    async fn finish(self: Box<Self>, _: &Bench) -> Result<()> {
        Ok(())
    }
}

/// The statement by itself.
struct Select {
    pool: PgPool,
    slices: Arc<Slices>,
    round: usize,
}

struct Selecter {
    pool: PgPool,
    hashes: Arc<Vec<[u8; 32]>>,
    next: Arc<AtomicUsize>,
    may_repeat: bool,
}

#[async_trait]
impl Caller for Selecter {
    async fn call(&mut self) -> Result<u64> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        if next >= self.hashes.len() && !self.may_repeat {
            return Err(TOO_FEW.into());
        }
        let hash = &self.hashes[next % self.hashes.len()];
        if select(&self.pool, hash).await? { Ok(1) } else { Err("a credential is not there".into()) }
    }
}

#[async_trait]
impl Side for Select {
    fn name(&self) -> String {
        "bare SELECT".to_owned()
    }

    fn is_baseline(&self) -> bool {
        true
    }

    async fn round(&mut self, bench: &Bench, length: Duration) -> Result<Sample> {
        let tokens = &self.slices.tokens[self.round];
        self.round += 1;
        let hashes: Arc<Vec<_>> = Arc::new(tokens.iter().map(|token| token.secret.hash().0).collect());
        let next = Arc::new(AtomicUsize::new(0));
        let caller = |_| Selecter {
            pool: self.pool.clone(),
            hashes: hashes.clone(),
            next: next.clone(),
            may_repeat: bench.options.quick,
        };
        let callers = (0..CONNECTIONS).map(caller).collect();
        let meter = bench.measure(Meter::InProcess)?;
        let (load, _) = drive(callers, length).await?;
        Ok(load.sample(meter.stop()?))
    }

    async fn finish(self: Box<Self>, _: &Bench) -> Result<()> {
        self.pool.close().await;
        Ok(())
    }
}

/// The statement about as many tokens as there are callers, one after another.
struct SelectSeveral {
    connection: PgConnection,
    slices: Arc<Slices>,
    round: usize,
}

#[async_trait]
impl Side for SelectSeveral {
    fn name(&self) -> String {
        "bare SELECT of several".to_owned()
    }

    fn is_baseline(&self) -> bool {
        true
    }

    async fn round(&mut self, bench: &Bench, length: Duration) -> Result<Sample> {
        let tokens = &self.slices.tokens[self.round];
        self.round += 1;
        let hashes: Vec<Vec<u8>> = tokens.iter().map(|token| token.secret.hash().0.to_vec()).collect();
        let mut several = hashes.chunks(CONNECTIONS);
        let meter = bench.measure(Meter::InProcess)?;
        let (started, mut latencies, mut found) = (Instant::now(), Vec::new(), 0);
        while started.elapsed() < length {
            // Far quicker than the others, it may be through before its time is up.
            let Some(asked) = several.next() else { break };
            let sent = Instant::now();
            let rows = sqlx::query(SELECT_SEVERAL).bind(asked).fetch_all(&mut self.connection).await?;
            latencies.push(sent.elapsed());
            if rows.len() != asked.len() {
                return Err("a credential is not there".into());
            }
            found += rows.len() as u64;
        }
        let seconds = started.elapsed().as_secs_f64();
        Ok(sample_of_calls(found, seconds, latencies, meter.stop()?))
    }

    async fn finish(self: Box<Self>, _: &Bench) -> Result<()> {
        self.connection.close().await?;
        Ok(())
    }
}
