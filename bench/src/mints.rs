//! Whole mints: load, decide, seal, the rows of event and stream, what authentication reads, and the
//! lists that follow.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use sqlx::{PgPool, postgres::PgConnectOptions};
use tally_events::CredentialId;
use tally_fanout::Replica;
use tally_tests::Server;

use crate::{
    Result,
    baselines::{Batched, PerTransaction},
    bench::{Bench, Side},
    cpu::Meter,
    drive::{Caller, drive},
    product::{self, Person, Product, mint_token},
    report::{Figure, Sample},
    rows::{MintTemplate, Work},
    wrk,
};

/// Events that the slowest projection had yet to fold when the load ended.
pub const LAG: &str = "lag_events";
/// Operations per second when the time until the last projection has caught up counts too.
pub const SUSTAINED: &str = "sustained_rate";

/// Measures the figure.
pub async fn measure(bench: &Bench) -> Result<Figure> {
    let template = template(bench).await?;
    let (inline, following) = (Work::Mint(template.clone()), Work::MintAndFollowing(template));
    let mut rows = Vec::new();
    for &callers in bench.options.callers() {
        let mut sides: Vec<Box<dyn Side>> = vec![Box::new(InProcess::start(bench, callers).await?)];
        if callers <= 256 {
            sides.push(Box::new(OverHttp::start(bench, callers).await?));
        }
        sides.push(Box::new(PerTransaction::start(bench, callers, &inline).await?));
        sides.push(Box::new(Batched::start(bench, callers, &inline).await?));
        sides.push(Box::new(Batched::start(bench, callers, &following).await?));
        rows.extend(bench.take_turns(&format!("{callers} callers"), sides).await?);
    }
    Ok(Figure {
        name: "mints".to_owned(),
        title: "Whole mints".to_owned(),
        command: bench.options.command("mints"),
        machine: String::new(),
        notes: vec![
            "tally: `Replica::execute` of a `MintToken` in this process, so its CPU time holds the callers': draw, load, decide, seal, group commit with the inline projections, and the two projections that follow the log beside it. CPU time runs until they have caught up.".to_owned(),
            "tally over HTTP: `POST /api/tokens` of `tally serve`, sent by wrk.".to_owned(),
            "one transaction each: the head's lock, the version, the rows of `stream`, `event` and `credentials`, commit; over a pool of 25 connections.".to_owned(),
            "batched SQL: the same three rows by one connection, as many mints in a transaction as there are callers. Lists too: with those of `token_list`, `audit_scope` and `audit_credential`. Its latency is a batch's.".to_owned(),
            "`lag at end`: events the slowest projection had yet to fold when the load ended. `caught up`: mints per second when the time it then needed counts too.".to_owned(),
            "Each side has a database of its own. Checked: every acknowledged mint has its rows in every table, once (over HTTP: and at most as many more as there are connections).".to_owned(),
        ],
        rows,
    })
}

/// A mint that the product made, for the baselines to copy.
async fn template(bench: &Bench) -> Result<MintTemplate> {
    let database = bench.database().await?;
    let product = Product::start(&database).await?;
    let person = product.log_in("specimen@example.org").await?;
    mint_token(&product.replica, &person, CredentialId::Session(person.session)).await?;
    product.catch_up().await?;
    let template = MintTemplate::last(product.pool()).await?;
    product.stop().await?;
    bench.drop_database(&database).await?;
    Ok(template)
}

struct InProcess {
    product: Product,
    person: Person,
    database: PgConnectOptions,
    callers: usize,
    acknowledged: u64,
}

struct Minter {
    replica: Replica,
    person: Person,
}

#[async_trait]
impl Caller for Minter {
    async fn call(&mut self) -> Result<u64> {
        mint_token(&self.replica, &self.person, CredentialId::Session(self.person.session)).await?;
        Ok(1)
    }
}

impl InProcess {
    async fn start(bench: &Bench, callers: usize) -> Result<Self> {
        let database = bench.database().await?;
        let product = Product::start(&database).await?;
        let person = product.log_in("minter@example.org").await?;
        Ok(Self { product, person, database, callers, acknowledged: 0 })
    }
}

#[async_trait]
impl Side for InProcess {
    fn name(&self) -> String {
        "tally".to_owned()
    }

    fn is_baseline(&self) -> bool {
        false
    }

    async fn round(&mut self, bench: &Bench, length: Duration) -> Result<Sample> {
        let caller = |_| Minter { replica: self.product.replica.clone(), person: self.person };
        let callers = (0..self.callers).map(caller).collect();
        let meter = bench.measure(Meter::InProcess)?;
        let (load, callers) = drive(callers, length).await?;
        drop(callers);
        self.acknowledged += load.operations;
        let caught_up = CaughtUp::after(self.product.pool()).await?;
        Ok(caught_up.add_to(load.sample(meter.stop()?), load.operations, load.seconds))
    }

    async fn finish(self: Box<Self>, bench: &Bench) -> Result<()> {
        let minted = minted(self.product.pool()).await?;
        if minted != self.acknowledged {
            return Err(format!("{} mints were acknowledged, {minted} are there", self.acknowledged).into());
        }
        self.product.stop().await?;
        bench.drop_database(&self.database).await
    }
}

/// How the projections stood when a load had ended.
struct CaughtUp {
    lag: i64,
    took: Duration,
}

impl CaughtUp {
    async fn after(pool: &PgPool) -> Result<Self> {
        let lag = product::lag(pool).await?;
        let since = Instant::now();
        product::catch_up(pool).await?;
        Ok(Self { lag, took: since.elapsed() })
    }

    fn add_to(&self, sample: Sample, operations: u64, seconds: f64) -> Sample {
        #[expect(clippy::cast_precision_loss, reason = "operations of a benchmark are far below 2^52")]
        let (lag, operations) = (self.lag as f64, operations as f64);
        sample.with(LAG, lag).with(SUSTAINED, operations / (seconds + self.took.as_secs_f64()))
    }
}

/// Mints that every table has: -1 rows for those that only some have.
async fn minted(pool: &PgPool) -> Result<u64> {
    let minted: i64 = sqlx::query_scalar(
        "select case when (select count(*) from credentials) = count(*) and (select count(*) from token_list) = count(*)
                      and (select count(*) from audit_scope where name = 'token.minted') = count(*)
                     then count(*) else -1 end
           from event where name = 'token.minted'",
    )
    .fetch_one(pool)
    .await?;
    u64::try_from(minted).map_err(|_| "the tables of mints do not hold the same mints".into())
}

/// What wrk sends: the same body each time, as a client that mints for a machine would.
const SCRIPT: &str = r#"
function init(arguments)
  request_text = wrk.format("POST", "/api/tokens",
    { ["Authorization"] = "Bearer " .. arguments[1], ["Content-Type"] = "application/json" },
    '{"name":"laptop","expires_in_days":30}')
end
function request() return request_text end
"#;

struct OverHttp {
    server: Server,
    pool: PgPool,
    database: PgConnectOptions,
    directory: PathBuf,
    token: String,
    connections: usize,
    acknowledged: u64,
    wrk_runs: u64,
}

impl OverHttp {
    async fn start(bench: &Bench, connections: usize) -> Result<Self> {
        let database = bench.database().await?;
        let server = bench.serve(&database).await?;
        let token = server.client().login("minter@example.org").await.token;
        let pool = crate::bench::pool(&database).await?;
        let directory = server.scratch().to_owned();
        Ok(Self { server, pool, database, directory, token, connections, acknowledged: 0, wrk_runs: 0 })
    }
}

#[async_trait]
impl Side for OverHttp {
    fn name(&self) -> String {
        "tally over HTTP".to_owned()
    }

    fn is_baseline(&self) -> bool {
        false
    }

    async fn round(&mut self, bench: &Bench, length: Duration) -> Result<Sample> {
        let server = self.server.process().id();
        let meter = bench.measure(Meter::CalledByChild { server })?;
        let counted =
            wrk::run(&self.directory, self.server.url(), self.connections, length, SCRIPT, &[&self.token])?;
        self.acknowledged += counted.requests;
        self.wrk_runs += 1;
        let caught_up = CaughtUp::after(&self.pool).await?;
        let sample = counted.sample(1, meter.stop()?);
        Ok(caught_up.add_to(sample, counted.requests, counted.seconds()))
    }

    async fn finish(mut self: Box<Self>, bench: &Bench) -> Result<()> {
        let minted = minted(&self.pool).await?;
        // What was under way on a connection when wrk hung up may have been minted, uncounted.
        let uncounted = self.connections as u64 * self.wrk_runs;
        if !(self.acknowledged..=self.acknowledged + uncounted).contains(&minted) {
            return Err(format!("{} mints were acknowledged, {minted} are there", self.acknowledged).into());
        }
        self.pool.close().await;
        drop(self.server);
        bench.drop_database(&self.database).await
    }
}
