//! Whole logins over HTTP: send a code, verify it, and the first request with what came of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use tally_tests::Server;

use crate::{
    Result,
    bare::Process,
    bench::{Bench, DEVELOPMENT_CODE, Side, check_rows},
    cpu::Meter,
    drive::{Caller, drive},
    http::{Answer, Connection},
    report::{Figure, Sample},
};

/// The first request: what a client asks to greet its user.
const FIRST_REQUEST: &str = "/v1/me";

/// Measures the figure.
pub async fn measure(bench: &Bench) -> Result<Figure> {
    let mut rows = Vec::new();
    for &connections in bench.options.connections() {
        let product = Product::start(bench, connections).await?;
        let bare = Bare::start(bench, connections, &product.like).await?;
        let sides: Vec<Box<dyn Side>> = vec![Box::new(product), Box::new(bare)];
        rows.extend(bench.take_turns(&format!("{connections} callers"), sides).await?);
    }
    Ok(Figure {
        name: "login".to_owned(),
        title: "Whole logins".to_owned(),
        command: bench.options.command("login"),
        machine: String::new(),
        notes: vec![
            format!("A login is three requests on one connection: `POST /auth/send-code`, `POST /auth/verify-code`, `GET {FIRST_REQUEST}`, for an address and from a client address that nobody has used before: each opens an account. The code is the development code, so nothing is mailed; it is still made, stored and logged. The callers are this process, whose CPU time is the generator's."),
            "bare handler with commits: the same three requests to a handler that answers each as the product answers the second, and commits one small row of its own, durably, for each of the two that write; over a pool of 25 connections. (The product also counts each of the two against a limit, which is a commit more.)".to_owned(),
            "Checked: an account, a session and a verified code for every acknowledged login; two rows for every bare one.".to_owned(),
        ],
        rows,
    })
}

struct Visitor {
    connection: Connection,
    numbers: Arc<AtomicU64>,
    /// Whether the answers are the product's, and say so.
    is_product: bool,
}

#[async_trait]
impl Caller for Visitor {
    async fn call(&mut self) -> Result<u64> {
        self.log_in().await?;
        Ok(1)
    }
}

impl Visitor {
    async fn log_in(&mut self) -> Result<Answer> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let email = format!("visitor-{number}@example.org");
        let [_, a, b, c] = u32::try_from(number)?.to_be_bytes();
        let address = format!("10.{a}.{b}.{c}");
        let body = json!({ "email": email }).to_string();
        self.connection.post_from(&address, "/auth/send-code", &body).await?.expect(200)?;
        let body = json!({ "email": email, "code": DEVELOPMENT_CODE }).to_string();
        let verified = self.connection.post_from(&address, "/auth/verify-code", &body).await?.expect(200)?;
        let answer = verified.json()?;
        let token = answer["token"].as_str().ok_or("a login without a token")?;
        let first = self.connection.get(FIRST_REQUEST, token).await?.expect(200)?;
        if self.is_product && !first.body.contains(&email) {
            return Err(format!("{email} is greeted as somebody else: {}", first.body).into());
        }
        Ok(verified)
    }
}

async fn visitors(
    url: &str,
    count: usize,
    numbers: &Arc<AtomicU64>,
    is_product: bool,
) -> Result<Vec<Visitor>> {
    let mut visitors = Vec::new();
    for _ in 0..count {
        let connection = Connection::open(url).await?;
        visitors.push(Visitor { connection, numbers: numbers.clone(), is_product });
    }
    Ok(visitors)
}

struct Product {
    server: Server,
    database: PgConnectOptions,
    connections: usize,
    numbers: Arc<AtomicU64>,
    acknowledged: u64,
    like: Answer,
}

impl Product {
    async fn start(bench: &Bench, connections: usize) -> Result<Self> {
        let database = bench.database().await?;
        let server = bench.serve_with(&database, &[("RATE_LIMIT_TRUSTED_PROXIES", "127.0.0.0/8")]).await?;
        let numbers = Arc::new(AtomicU64::new(0));
        let mut first = visitors(server.url(), 1, &numbers, true).await?;
        let like = first[0].log_in().await?;
        Ok(Self { server, database, connections, numbers, acknowledged: 1, like })
    }
}

#[async_trait]
impl Side for Product {
    fn name(&self) -> String {
        "tally".to_owned()
    }

    fn is_baseline(&self) -> bool {
        false
    }

    async fn round(&mut self, bench: &Bench, length: Duration) -> Result<Sample> {
        let visitors = visitors(self.server.url(), self.connections, &self.numbers, true).await?;
        let meter = bench.measure(Meter::CalledFromHere { server: self.server.process().id() })?;
        let (load, _) = drive(visitors, length).await?;
        self.acknowledged += load.operations;
        Ok(load.sample(meter.stop()?))
    }

    async fn finish(self: Box<Self>, bench: &Bench) -> Result<()> {
        let whole = "select case when (select count(*) from users) = count(*)
                          and (select count(*) from event where name = 'login.code_verified') = count(*)
                         then count(*) else -1 end from sessions";
        check_rows(&self.database, whole, self.acknowledged).await?;
        drop(self.server);
        bench.drop_database(&self.database).await
    }
}

struct Bare {
    process: Process,
    database: PgConnectOptions,
    connections: usize,
    numbers: Arc<AtomicU64>,
    acknowledged: u64,
}

impl Bare {
    async fn start(bench: &Bench, connections: usize, like: &Answer) -> Result<Self> {
        let (process, database) = Process::committing(bench, like).await?;
        Ok(Self { process, database, connections, numbers: Arc::default(), acknowledged: 0 })
    }
}

#[async_trait]
impl Side for Bare {
    fn name(&self) -> String {
        "bare handler with commits".to_owned()
    }

    fn is_baseline(&self) -> bool {
        true
    }

    async fn round(&mut self, bench: &Bench, length: Duration) -> Result<Sample> {
        let visitors = visitors(self.process.url(), self.connections, &self.numbers, false).await?;
        let meter = bench.measure(Meter::CalledFromHere { server: self.process.id() })?;
        let (load, _) = drive(visitors, length).await?;
        self.acknowledged += load.operations;
        Ok(load.sample(meter.stop()?))
    }

    async fn finish(self: Box<Self>, bench: &Bench) -> Result<()> {
        check_rows(&self.database, "select count(*) from bare_commit", 2 * self.acknowledged).await?;
        drop(self.process);
        bench.drop_database(&self.database).await
    }
}
