//! Several replicas that hear each other by a real NATS server: a revocation is effective everywhere at
//! once, and NATS may do what it likes without one yes too many.

mod nats;

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    time::{Duration, Instant},
};

use futures::{StreamExt, future::join_all};
use regex::Regex;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use tally_tests::{Login, NatsServer, Server, TempPostgres, eventually};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use crate::{
    faults::site::external_settings,
    support::{BINARY, expect, team::slug},
};

/// Δ and ε: by then a revocation is effective whatever happened to the others.
const BOUND: Duration = Duration::from_millis(1050);
/// Far from any wait for a lease, and for a busy machine far from nothing.
const FAST: Duration = Duration::from_millis(100);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(2);

/// Replicas of one database.
struct Site {
    replicas: Vec<Server>,
    nats: NatsServer,
    _postgres: TempPostgres,
    ada: Login,
}

impl Site {
    /// Three replicas that answer from memory, and trust what they know of each other.
    async fn new() -> Self {
        let nats = NatsServer::start(&[]).await;
        Self::with(nats, &[]).await
    }

    async fn with(nats: NatsServer, settings: &[(&str, &str)]) -> Self {
        let postgres = TempPostgres::start().await;
        let database = postgres.url(&postgres.database().await);
        let url = format!("nats://{}", nats.address());
        let mut all: Vec<_> = external_settings(&database).into_iter().collect();
        all.extend([("NATS_URL", url.as_str()), ("DATABASE_MAX_CONNS", "4"), ("DATABASE_MIN_CONNS", "0")]);
        all.extend(settings);
        let mut replicas = vec![Server::start(BINARY, &all).await];
        replicas.extend(join_all((0..2).map(|_| Server::start(BINARY, &all))).await);
        let ada = replicas[0].client().login("ada@example.org").await;
        let site = Self { replicas, nats, _postgres: postgres, ada };
        site.is_fast().await;
        site
    }

    /// Waits until a revocation no longer waits for leases.
    async fn is_fast(&self) {
        eventually("revocations to be fast", async || (self.revoke().await < FAST).then_some(())).await;
    }

    /// A new token that every replica that runs has in memory.
    async fn token(&self, replicas: &[Server]) -> (String, String) {
        let (id, token) = self.replicas[0].client().mint(&self.ada.token, "laptop").await;
        for replica in replicas {
            // The first is looked up, the second remembered.
            for _ in 0..2 {
                assert!(replica.client().accepts(&token).await);
            }
        }
        (id, token)
    }

    /// How long a revocation took; afterwards no replica accepts the token, whoever was asked first.
    async fn revoke(&self) -> Duration {
        self.revoke_for(&self.replicas).await
    }

    async fn revoke_for(&self, replicas: &[Server]) -> Duration {
        let (id, token) = self.token(replicas).await;
        let request = self.replicas[0].client().request(Method::DELETE, &format!("/api/tokens/{id}"));
        let began = Instant::now();
        let answer = expect(204, request.bearer_auth(&self.ada.token)).await;
        let took = began.elapsed();
        assert_eq!(answer.header("x-revocation"), Some("effective"));
        let accepted =
            join_all(replicas.iter().map(async |replica| replica.client().accepts(&token).await)).await;
        assert!(!accepted.contains(&true), "{accepted:?}");
        took
    }
}

/// The middle one of some.
async fn median(mut one: impl AsyncFnMut() -> Duration) -> Duration {
    let mut all = Vec::new();
    for _ in 0..21 {
        all.push(one().await);
    }
    all.sort();
    all[10]
}

/// What one replica revokes, the others hear at once, and say so.
#[tokio::test]
async fn a_revocation_is_effective_everywhere_at_once() {
    let site = Site::new().await;
    let took = median(async || site.revoke().await).await;
    assert!(took < FAST, "{took:?}");
}

/// Who revokes is told how many replicas said so.
#[tokio::test]
async fn the_command_tells_who_acknowledged() {
    // However busy the machine: everybody is waited for.
    let site = Site::with(NatsServer::start(&[]).await, &[("TALLY_LEASE_MS", "5000")]).await;
    let (id, _) = site.token(&site.replicas).await;
    let home = tempfile::tempdir().expect("a directory");
    let mut command = site.replicas[0].command(&["token", "revoke", &id]);
    command.env("HOME", home.path()).env("TALLY_SERVER_URL", site.replicas[0].url());
    let output = command.env("TALLY_TOKEN", &site.ada.token).output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.trim_end().ends_with(" ms, acknowledged by 3 of 3 replicas."), "{told} {output:?}");
}

/// The operator sees who is there, and who has gone silent.
#[tokio::test]
async fn replicas_are_listed() {
    let mut site = Site::new().await;
    let listed = |site: &Site| -> Vec<Value> {
        let output = site.replicas[0].command(&["replicas", "--json"]).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let listed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        listed["replicas"].as_array().expect("a list").clone()
    };
    let states = |site: &Site| -> Vec<String> {
        listed(site).iter().map(|replica| replica["state"].as_str().expect("a state").to_owned()).collect()
    };
    eventually("all to have a lease", async || (states(&site) == ["leased"; 3]).then_some(())).await;
    eventually("everybody to have applied all", async || {
        listed(&site).iter().all(|replica| replica["lag"] == 0).then_some(())
    })
    .await;
    let table = site.replicas[0].command(&["replicas"]).output().expect("it runs");
    let table = String::from_utf8(table.stdout).expect("text");
    assert_eq!(table.lines().count(), 4, "{table}");
    site.replicas[2].process().signal(Signal::STOP);
    eventually("the one that hangs to be silent", async || {
        let states = states(&site);
        (states.iter().filter(|state| *state == "silent").count() == 1).then_some(())
    })
    .await;
    site.replicas[2].process().signal(Signal::CONT);
    site.replicas[1].process().signal(Signal::TERM);
    assert!(site.replicas[1].process().wait().success());
    eventually("the one that left to be gone", async || (states(&site).len() == 2).then_some(())).await;
}

/// Sockets on one replica are told of what another commits, in order.
#[tokio::test]
async fn a_socket_hears_of_what_other_replicas_commit() {
    let site = Site::new().await;
    let [here, there] = [site.replicas[0].client(), site.replicas[1].client()];
    let new = here.post("/api/workspaces", &json!({ "name": "Team", "slug": slug() }));
    let workspace = expect(201, new.bearer_auth(&site.ada.token)).await.json();
    let home = format!("/api/workspaces/{}", workspace["id"].as_str().expect("an id"));
    let url = site.replicas[1].url().replace("http", "ws");
    let request = format!("{url}/ws?workspace_id={}", workspace["id"].as_str().expect("an id"));
    let mut request = request.into_client_request().expect("a URL");
    let bearer = format!("Bearer {}", site.ada.token).parse().expect("a header");
    request.headers_mut().insert("authorization", bearer);
    let (mut socket, _) = connect_async(request).await.expect("it opens");
    // From both, in turn: their messages and their own commits pass each other.
    for number in 0..20 {
        let client = if number % 2 == 0 { &here } else { &there };
        let change =
            client.request(Method::PATCH, &home).json(&json!({ "description": format!("{number}") }));
        expect(200, change.bearer_auth(&site.ada.token)).await;
    }
    let mut positions: Vec<i64> = Vec::new();
    while positions.len() < 20 {
        let frame = tokio::time::timeout(BOUND + SLACK, socket.next()).await.expect("a frame in time");
        let Some(Ok(Message::Text(text))) = frame else { continue };
        let frame: Value = serde_json::from_str(&text).expect("JSON");
        // It may have come to the other replica after the socket.
        if frame["type"] == "workspace.created" {
            continue;
        }
        assert_eq!(frame["type"], "workspace.changed", "{frame}");
        positions.push(frame["payload"]["position"].as_i64().expect("a position"));
    }
    assert!(positions.is_sorted_by(|one, next| one < next), "{positions:?}");
}

/// Without NATS everything goes on, revocations a little later and just as surely; with it again they
/// are fast again.
#[tokio::test]
async fn nats_goes_away_and_comes_back() {
    let mut site = Site::new().await;
    site.nats.down();
    for _ in 0..5 {
        let took = site.revoke().await;
        assert!(took < BOUND + SLACK, "{took:?}");
    }
    let eve = site.replicas[1].client().login("eve@example.org").await;
    site.replicas[2].client().mint(&eve.token, "laptop").await;
    site.nats.up().await;
    site.is_fast().await;
    let log = site.replicas[0].log();
    assert!(log.contains("NATS is away") && log.contains("NATS is there"), "{log}");
}

/// A server starts without NATS, says so, and finds it later.
#[tokio::test]
async fn nats_may_come_later() {
    let mut nats = NatsServer::start(&[]).await;
    nats.down();
    let postgres = TempPostgres::start().await;
    let database = postgres.url(&postgres.database().await);
    let url = format!("nats://{}", nats.address());
    let settings: Vec<_> =
        external_settings(&database).into_iter().chain([("NATS_URL", url.as_str())]).collect();
    let server = Server::start(BINARY, &settings).await;
    server.client().login("ada@example.org").await;
    eventually("a warning", async || server.log().contains("NATS is not there yet").then_some(())).await;
    nats.up().await;
    eventually("a connection", async || server.log().contains("NATS is there").then_some(())).await;
}

/// A replica that hangs says nothing: the revocation waits until its lease must be over, and not longer.
/// When it goes on, it does not remember what it has missed.
#[tokio::test]
async fn a_replica_that_hangs_is_waited_for_until_its_lease_is_over() {
    let mut site = Site::new().await;
    let (id, token) = site.token(&site.replicas).await;
    site.replicas[2].process().signal(Signal::STOP);
    let request = site.replicas[0].client().request(Method::DELETE, &format!("/api/tokens/{id}"));
    let began = Instant::now();
    expect(204, request.bearer_auth(&site.ada.token)).await;
    let took = began.elapsed();
    assert!(took > BOUND && took < BOUND + SLACK, "{took:?}");
    site.replicas[2].process().signal(Signal::CONT);
    assert!(!site.replicas[2].client().accepts(&token).await);
}

/// A replica that was told a longer lease than the others is waited for as long as it may remember, also
/// by those that were told a shorter one.
#[tokio::test]
async fn the_longest_lease_of_any_replica_is_waited_for() {
    const LONGER: Duration = Duration::from_millis(3050);
    let postgres = TempPostgres::start().await;
    let database = postgres.url(&postgres.database().await);
    let start = async |lease: &str| {
        let settings = external_settings(&database).into_iter().chain([("TALLY_LEASE_MS", lease)]);
        Server::start(BINARY, &settings.collect::<Vec<_>>()).await
    };
    let (short, mut long) = (start("1000").await, start("3000").await);
    let ada = short.client().login("ada@example.org").await;
    let (id, token) = short.client().mint(&ada.token, "laptop").await;
    eventually("a verdict in memory", async || long.client().accepts(&token).await.then_some(())).await;
    long.process().signal(Signal::STOP);
    let request = short.client().request(Method::DELETE, &format!("/api/tokens/{id}"));
    let began = Instant::now();
    expect(204, request.bearer_auth(&ada.token)).await;
    let took = began.elapsed();
    long.process().signal(Signal::CONT);
    assert!(took > LONGER && took < LONGER + SLACK, "{took:?}");
    assert!(!long.client().accepts(&token).await);
}

/// What `make cluster` shows: every replica says yes before, and none after.
#[test]
fn the_cluster_to_look_at_revokes_everywhere() {
    let mut script = Command::new("scripts/cluster");
    script.arg("once").env("TALLY", BINARY).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let output = script.output().expect("it runs");
    let (shown, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{shown}{wrong}");
    let round =
        Regex::new(r"(?m)^  \d: 200 200 200 -> revoked in [\d.]+ ms -> 401 401 401 $").expect("a pattern");
    assert_eq!(round.find_iter(&shown).count(), 5, "{shown}{wrong}");
}

/// A stranger on the bus, who hears everything and says what they like.
struct Stranger(TcpStream);

impl Stranger {
    fn new(nats: &NatsServer) -> Self {
        let mut stream = TcpStream::connect(nats.address()).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_millis(500))).expect("a socket");
        stream.write_all(b"CONNECT {\"verbose\":false}\r\nSUB > 1\r\nPING\r\n").expect("it takes it");
        let (mut said, mut byte) = (Vec::new(), [0]);
        while !said.ends_with(b"PONG\r\n") {
            stream.read_exact(&mut byte).expect("it answers");
            said.extend(byte);
        }
        Self(stream)
    }

    /// Everything that was said until it is quiet: subject and content.
    fn heard(&mut self) -> Vec<(String, Vec<u8>)> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 64 * 1024];
        while let Ok(count) = self.0.read(&mut buffer) {
            bytes.extend_from_slice(&buffer[..count]);
        }
        let mut messages = Vec::new();
        let mut rest = &bytes[..];
        while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
            let line = String::from_utf8_lossy(&rest[..end]).into_owned();
            rest = &rest[end + 2..];
            if let Some(message) = line.strip_prefix("MSG ") {
                let parts: Vec<&str> = message.split(' ').collect();
                let length: usize = parts.last().expect("a length").parse().expect("a number");
                messages.push((parts[0].to_owned(), rest[..length].to_vec()));
                rest = &rest[length + 2..];
            }
        }
        messages
    }

    fn say(&mut self, subject: &str, content: &[u8]) {
        let head = format!("PUB {subject} {}\r\n", content.len());
        self.0.write_all(&[head.as_bytes(), content, b"\r\n"].concat()).expect("it takes it");
    }
}

/// What is said holds nothing of anybody, and what a stranger says counts for nothing: neither that a
/// replica has applied what it has not, nor that a batch overthrew nothing, nor what was true before.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_on_the_bus_learns_nothing_and_is_not_believed() {
    let mut site = Site::new().await;
    let mut stranger = Stranger::new(&site.nats);
    site.revoke().await;
    let heard = stranger.heard();
    let kinds = |kind: &str| heard.iter().filter(|(_, content)| text(content).contains(kind)).count();
    assert!(kinds("\"batch\"") >= 2 && kinds("\"acknowledgement\"") >= 3, "{} messages", heard.len());
    for (_, content) in &heard {
        // Her name with its quotes: the digits of an id may well spell it.
        for secret in ["\"ada\"", "ada@", "example", "laptop", "mul_", "127.0.0.1"] {
            assert!(!text(content).contains(secret), "{}", text(content));
        }
    }

    let (id, token) = site.token(&site.replicas).await;
    site.replicas[2].process().signal(Signal::STOP);
    let request = site.replicas[0].client().request(Method::DELETE, &format!("/api/tokens/{id}"));
    let began = Instant::now();
    let revoking = tokio::spawn(expect(204, request.bearer_auth(&site.ada.token)));
    let positions = Regex::new(r#""(applied|to|from)":\d+"#).expect("a pattern");
    let overthrown = Regex::new(r#""overthrown":\[.*\]"#).expect("a pattern");
    for (subject, content) in heard.iter().chain(&stranger.heard()) {
        let (mac, body) = (&content[..32], text(&content[32..]));
        // As it was said, as if everything had been applied, and as if nothing were overthrown.
        let everything = positions.replace_all(&body, r#""$1":9000000"#);
        let nothing = overthrown.replace_all(&body, r#""overthrown":[]"#);
        for forged in [&body[..], &everything, &nothing] {
            stranger.say(subject, &[mac, forged.as_bytes()].concat());
        }
    }
    let answer = revoking.await.expect("no panic");
    assert_eq!(answer.header("x-revocation"), Some("effective"));
    assert_eq!(answer.header("x-revocation-acknowledged"), Some("2/3"));
    assert!(
        began.elapsed() > BOUND - FAST,
        "nobody waited for the replica that hangs: {:?}",
        began.elapsed()
    );
    site.replicas[2].process().signal(Signal::CONT);
    for replica in &site.replicas {
        assert!(!replica.client().accepts(&token).await);
    }
    site.is_fast().await;
    let told = site.replicas[0].log().matches("does not carry the MAC").count();
    assert_eq!(told, 1, "once, however many there were");
}

fn text(content: &[u8]) -> String {
    String::from_utf8_lossy(content).into_owned()
}

/// With a password, in its own settings or in the URL.
#[tokio::test]
async fn a_nats_server_that_asks_who_it_is_is_told() {
    let nats = NatsServer::start(&["--user", "tally", "--pass", "hunter2hunter2"]).await;
    let site = Site::with(nats, &[("NATS_USER", "tally"), ("NATS_PASSWORD", "hunter2hunter2")]).await;
    site.revoke().await;
    for replica in &site.replicas {
        assert!(!replica.log().contains("hunter2"), "no password in the log");
    }
}
