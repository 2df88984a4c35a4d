//! A revocation over HTTP, from the call to the answer that says it holds on every replica.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rustix::process::Signal;
use sqlx::postgres::PgConnectOptions;
use tally_tests::{NatsServer, Server};
use uuid::Uuid;

use crate::{
    Result,
    bare::Process,
    bench::{Bench, DEVELOPMENT_CODE, Side, check_rows},
    cpu::{Meter, Spent},
    drive::sample_of_calls,
    http::{Answer, Connection},
    report::{Figure, Row, Sample},
};

/// Replicas that share a database.
const SIZES: [usize; 3] = [1, 3, 5];
/// How long a revocation may take that no lease has to run out for.
const FAST: Duration = Duration::from_millis(200);
/// How long replicas may take until they trust what they know of each other.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures the figure.
pub async fn measure(bench: &Bench) -> Result<Figure> {
    let nats = NatsServer::start(&[]).await;
    let mut rows = Vec::new();
    for size in SIZES {
        rows.extend(replicas(bench, &nats, size).await?);
    }
    rows.extend(one_hangs(bench, &nats).await?);
    Ok(Figure {
        name: "revoke".to_owned(),
        title: "A revocation, until it is effective everywhere".to_owned(),
        command: bench.options.command("revoke"),
        machine: String::new(),
        notes: vec![
            "One caller, one revocation after another: `DELETE /api/tokens/{id}` of a token minted just before, outside of what is timed. The answer says `X-Revocation: effective`. All replicas, PostgreSQL, nats-server and the caller share the machine.".to_owned(),
            "bare commit: a request to an axum handler in a process of its own that commits one small row before it answers. NATS round trip: a message from one connection to another by the same nats-server, and one back.".to_owned(),
            "one of 3 hangs: the third replica is stopped (SIGSTOP), so a revocation waits until its lease must be over: 1.05 s after the commit.".to_owned(),
            "CPU time of the process is that of the replica that is asked, for minting too.".to_owned(),
            "Checked: every answer is effective, and the log holds an event for each.".to_owned(),
        ],
        rows,
    })
}

async fn replicas(bench: &Bench, nats: &NatsServer, size: usize) -> Result<Vec<Row>> {
    let cluster = Cluster::start(bench, nats, size).await?;
    let commit = Commit::start(bench, &cluster.like).await?;
    let round_trip = RoundTrip::new(nats)?;
    let case = if size == 1 { "1 replica".to_owned() } else { format!("{size} replicas") };
    let sides: Vec<Box<dyn Side>> = vec![Box::new(cluster), Box::new(commit), Box::new(round_trip)];
    bench.take_turns(&case, sides).await
}

async fn one_hangs(bench: &Bench, nats: &NatsServer) -> Result<Vec<Row>> {
    let mut cluster = Cluster::start(bench, nats, 3).await?;
    cluster.servers[2].process().signal(Signal::STOP);
    bench.take_turns("one of 3 hangs", vec![Box::new(cluster)]).await
}

/// Replicas that hear each other by NATS; the first is asked.
pub struct Cluster {
    pub servers: Vec<Server>,
    pub database: PgConnectOptions,
    connection: Connection,
    /// Of the person whose tokens are revoked.
    pub session: String,
    /// An answer as the product gives it.
    like: Answer,
    pub revoked: u64,
}

impl Cluster {
    /// Starts them, and waits until a revocation waits for no lease.
    pub async fn start(bench: &Bench, nats: &NatsServer, size: usize) -> Result<Self> {
        let database = bench.database().await?;
        let url = format!("nats://{}", nats.address());
        let mut servers = Vec::new();
        for _ in 0..size {
            let settings =
                [("NATS_URL", url.as_str()), ("DATABASE_MAX_CONNS", "10"), ("DATABASE_MIN_CONNS", "1")];
            servers.push(bench.serve_with(&database, &settings).await?);
        }
        let mut connection = Connection::open(servers[0].url()).await?;
        let session = log_in(&mut connection).await?;
        let (mut revoked, began) = (0, Instant::now());
        loop {
            revoked += 1;
            let (took, like) = revoke(&mut connection, &session).await?;
            if took < FAST {
                return Ok(Self { servers, database, connection, session, like, revoked });
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("revocations stay slow: {took:?}").into());
            }
        }
    }
}

/// Calls that were made one after another, as if nothing else had been done between them.
fn timed(latencies: Vec<Duration>, spent: Spent) -> Sample {
    let seconds = latencies.iter().sum::<Duration>().as_secs_f64();
    sample_of_calls(latencies.len() as u64, seconds, latencies, spent)
}

async fn log_in(connection: &mut Connection) -> Result<String> {
    let email = "somebody@example.org";
    let body = serde_json::json!({ "email": email }).to_string();
    connection.post_from("198.51.100.1", "/auth/send-code", &body).await?.expect(200)?;
    let body = serde_json::json!({ "email": email, "code": DEVELOPMENT_CODE }).to_string();
    let answer = connection.post_from("198.51.100.1", "/auth/verify-code", &body).await?.expect(200)?;
    Ok(answer.json()?["token"].as_str().ok_or("no token")?.to_owned())
}

/// Mints a token and revokes it; how long the second took.
async fn revoke(connection: &mut Connection, session: &str) -> Result<(Duration, Answer)> {
    let minted = connection.post("/api/tokens", session, r#"{"name":"bench"}"#).await?.expect(201)?.json()?;
    let id = minted["id"].as_str().ok_or("no id")?;
    let asked = Instant::now();
    let answer = effectively(connection, id, session).await?;
    Ok((asked.elapsed(), answer))
}

/// Revokes a token; fails unless that is effective.
pub async fn effectively(connection: &mut Connection, id: &str, session: &str) -> Result<Answer> {
    let answer = connection.delete(&format!("/api/tokens/{id}"), session).await?.expect(204)?;
    if answer.headers().contains(&("x-revocation".to_owned(), "effective".to_owned())) {
        Ok(answer)
    } else {
        Err("a revocation is not effective".into())
    }
}

#[async_trait]
impl Side for Cluster {
    fn name(&self) -> String {
        "tally".to_owned()
    }

    fn is_baseline(&self) -> bool {
        false
    }

    async fn round(&mut self, bench: &Bench, length: Duration) -> Result<Sample> {
        // The server hangs up on who was idle while the others had their turn.
        self.connection = Connection::open(self.servers[0].url()).await?;
        let meter = bench.measure(Meter::CalledFromHere { server: self.servers[0].process().id() })?;
        let (mut latencies, began) = (Vec::new(), Instant::now());
        while began.elapsed() < length || latencies.is_empty() {
            latencies.push(revoke(&mut self.connection, &self.session).await?.0);
        }
        self.revoked += latencies.len() as u64;
        Ok(timed(latencies, meter.stop()?))
    }

    async fn finish(mut self: Box<Self>, bench: &Bench) -> Result<()> {
        for server in &mut self.servers {
            server.process().signal(Signal::CONT);
        }
        let revocations = "select count(*) from event where name = 'token.revoked'";
        check_rows(&self.database, revocations, self.revoked).await?;
        drop(self.servers);
        bench.drop_database(&self.database).await
    }
}

/// A commit behind a handler that does nothing else.
struct Commit {
    bare: Process,
    database: PgConnectOptions,
    acknowledged: u64,
}

impl Commit {
    async fn start(bench: &Bench, like: &Answer) -> Result<Self> {
        let (bare, database) = Process::committing(bench, like).await?;
        Ok(Self { bare, database, acknowledged: 0 })
    }
}

#[async_trait]
impl Side for Commit {
    fn name(&self) -> String {
        "bare commit".to_owned()
    }

    fn is_baseline(&self) -> bool {
        true
    }

    async fn round(&mut self, bench: &Bench, length: Duration) -> Result<Sample> {
        let mut connection = Connection::open(self.bare.url()).await?;
        let meter = bench.measure(Meter::CalledFromHere { server: self.bare.id() })?;
        let (mut latencies, began) = (Vec::new(), Instant::now());
        while began.elapsed() < length {
            let asked = Instant::now();
            connection.post("/", "", "{}").await?.expect(204)?;
            latencies.push(asked.elapsed());
        }
        self.acknowledged += latencies.len() as u64;
        Ok(timed(latencies, meter.stop()?))
    }

    async fn finish(self: Box<Self>, bench: &Bench) -> Result<()> {
        check_rows(&self.database, "select count(*) from bare_commit", self.acknowledged).await?;
        drop(self.bare);
        bench.drop_database(&self.database).await
    }
}

/// Two strangers to the product, who pass one message to and fro by the same nats-server.
struct RoundTrip {
    here: TcpStream,
    /// The other one, who answers in a thread of its own.
    there: TcpStream,
    ping: String,
}

impl RoundTrip {
    fn new(nats: &NatsServer) -> Result<Self> {
        // Of this pair alone: another that is left over would answer too.
        let pair = Uuid::new_v4();
        let here = subscriber(nats, &format!("{pair}.here"))?;
        let there = subscriber(nats, &format!("{pair}.there"))?;
        let (answers, pong) = (there.try_clone()?, message(&format!("{pair}.here")));
        std::thread::spawn(move || echo(answers, &pong));
        Ok(Self { here, there, ping: message(&format!("{pair}.there")) })
    }
}

impl Drop for RoundTrip {
    fn drop(&mut self) {
        // The thread ends with it. One that is closed already has nothing to close.
        drop(self.there.shutdown(Shutdown::Both));
    }
}

fn message(subject: &str) -> String {
    format!("PUB {subject} 2\r\nhi\r\n")
}

/// A connection that hears one subject, and nothing but messages from then on.
fn subscriber(nats: &NatsServer, subject: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(nats.address())?;
    stream.set_nodelay(true)?;
    let hello = format!("CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB {subject} 1\r\nPING\r\n");
    stream.write_all(hello.as_bytes())?;
    let mut greeting = Vec::new();
    while !greeting.ends_with(b"PONG\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        greeting.extend(byte);
    }
    Ok(stream)
}

/// Reads one message, whose content is `hi`, or a PING of the server's.
fn hear(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut heard = Vec::new();
    while !heard.ends_with(b"\r\nhi\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        heard.extend(byte);
        if heard.ends_with(b"PING\r\n") {
            stream.write_all(b"PONG\r\n")?;
            heard.clear();
        }
    }
    Ok(())
}

/// Answers each message until the other side hangs up.
fn echo(mut there: TcpStream, pong: &str) {
    while hear(&mut there).is_ok() && there.write_all(pong.as_bytes()).is_ok() {}
}

#[async_trait]
impl Side for RoundTrip {
    fn name(&self) -> String {
        "NATS round trip".to_owned()
    }

    fn is_baseline(&self) -> bool {
        true
    }

    async fn round(&mut self, bench: &Bench, length: Duration) -> Result<Sample> {
        let meter = bench.measure(Meter::InProcess)?;
        let (mut latencies, began) = (Vec::new(), Instant::now());
        while began.elapsed() < length {
            let sent = Instant::now();
            self.here.write_all(self.ping.as_bytes())?;
            hear(&mut self.here)?;
            latencies.push(sent.elapsed());
        }
        Ok(timed(latencies, meter.stop()?))
    }

    async fn finish(self: Box<Self>, _: &Bench) -> Result<()> {
        Ok(())
    }
}
