//! What operators watch: `/metrics` on its own address, and that it tells what happens.

mod page;

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;
use tally_tests::{NatsServer, Scratch, Server, eventually};

use crate::{
    poison::poison,
    support::{BINARY, address, delete, expect, team::slug},
};
use page::{Page, fetch};

const OPERATIONS: &str = include_str!("../../../docs/operations.md");
const METRICS_ADDR: (&str, &str) = ("METRICS_ADDR", "127.0.0.1:0");

/// A server that is watched, and where.
async fn watched(settings: &[(&str, &str)]) -> (Server, String) {
    let settings = [settings, &[METRICS_ADDR]].concat();
    let mut server = Server::start(BINARY, &settings).await;
    let url = server.metrics_url().await;
    (server, url)
}

/// The page once it says what is waited for.
async fn shown(url: &str, what: &str, says: impl Fn(&Page) -> bool) -> Page {
    eventually(what, async || Some(Page::scrape(url).await).filter(|page| says(page))).await
}

/// Whatever is exported is in the table, and whatever is in the table is exported.
#[tokio::test]
async fn the_table_of_metrics_is_what_is_exported() {
    let nats = NatsServer::start(&[]).await;
    let (server, url) = watched(&[("NATS_URL", &format!("nats://{}", nats.address()))]).await;
    expect(200, server.client().get("/health")).await;
    let documented: BTreeSet<String> = OPERATIONS
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split(['`', '{']).next())
        .filter(|name| name.starts_with("tally_") || name.starts_with("process_"))
        .map(str::to_owned)
        .collect();
    assert_eq!(Page::scrape(&url).await.names, documented);
}

#[tokio::test]
async fn what_happens_is_counted() {
    // Long enough for a busy machine: what is remembered is not asked for again.
    let (server, url) = watched(&[("RATE_LIMIT_AUTH", "3"), ("TALLY_LEASE_MS", "3000")]).await;
    let client = server.client();
    let is_current = |page: &Page| {
        let head = page.value("tally_head_position", &[]);
        page.value("tally_lease_valid", &[]) == Some(1.0) && page.value("tally_applied_position", &[]) == head
    };
    let before = shown(&url, "a lease", is_current).await;
    let ada = client.login(&address("ada")).await;
    let (id, token) = client.mint(&ada.token, "laptop").await;
    for _ in 0..3 {
        assert!(client.accepts(&token).await);
    }
    expect(204, delete(&client, &format!("/api/tokens/{id}"), &ada.token)).await;
    assert!(!client.accepts(&token).await);
    assert!(!client.accepts("mul_nothing").await);
    let workspace = json!({ "name": "Team", "slug": slug() });
    for status in [201, 409] {
        expect(status, client.post("/api/workspaces", &workspace).bearer_auth(&ada.token)).await;
    }
    let brew = Method::from_bytes(b"BREW").unwrap();
    expect(404, client.request(brew, "/secrets/of/lovelace?token=darjeeling")).await;
    let send = |name: &str| client.post("/auth/send-code", &json!({ "email": address(name) }));
    expect(200, send("bob")).await;
    expect(200, send("eve")).await;
    expect(429, send("dan")).await;

    let after = shown(&url, "everything", is_current).await;
    let grew = |name: &str, labels: &[(&str, &str)]| after.sum(name, labels) - before.sum(name, labels);
    let pat = |source| [("kind", "personal_access_token"), ("outcome", "valid"), ("source", source)];
    assert_eq!(grew("tally_verdicts_total", &pat("database")), 1.0, "the first look");
    assert_eq!(grew("tally_verdicts_total", &pat("memory")), 2.0, "the others");
    let session = [("kind", "session"), ("outcome", "valid")];
    assert_eq!(grew("tally_verdicts_total", &session), 4.0, "a mint, a revocation, two workspaces");
    for source in ["database", "form"] {
        let no = [("kind", "unknown"), ("outcome", "invalid"), ("source", source)];
        assert_eq!(grew("tally_verdicts_total", &no), 1.0, "{source}");
    }
    assert_eq!(grew("tally_revocation_seconds_count", &[]), 1.0);
    assert!(grew("tally_revocation_seconds_sum", &[]) < 5.0);
    let commits = grew("tally_commit_batch_commits_sum", &[]);
    assert!(commits >= 6.0, "{commits}: two codes, a login, a mint, a revocation, a workspace");
    assert!(grew("tally_commit_batch_seconds_sum", &[]) > 0.0);
    assert_eq!(grew("tally_commands_total", &[("outcome", "executed")]), commits);
    assert_eq!(grew("tally_commands_total", &[("outcome", "refused")]), 1.0, "the slug was taken");
    let events = grew("tally_events_appended_total", &[]);
    assert!(events >= commits);
    assert_eq!(grew("tally_head_position", &[]), grew("tally_applied_position", &[]));
    assert_eq!(grew("tally_applied_position", &[]), events);
    assert_eq!(after.value("tally_applied_lag_events", &[]), Some(0.0));
    assert!(after.value("tally_lease_age_seconds", &[]).unwrap() < 5.0);
    assert!(after.value("tally_cached_verdicts", &[]).unwrap() >= 2.0);
    assert!(after.value("tally_cached_bytes", &[]).unwrap() > 0.0);

    let requests = |route, method, status| {
        let labels = [("route", route), ("method", method), ("status", status)];
        grew("tally_http_request_seconds_count", &labels)
    };
    assert_eq!(requests("/api/tokens/{id}", "DELETE", "2xx"), 1.0);
    assert_eq!(requests("/v1/me", "GET", "2xx"), 3.0);
    assert_eq!(requests("/v1/me", "GET", "4xx"), 2.0);
    assert_eq!(requests("unmatched", "other", "4xx"), 1.0);
    assert_eq!(requests("/auth/send-code", "POST", "4xx"), 1.0);
    assert_eq!(grew("tally_rate_limited_total", &[]), 1.0);
    let text = fetch(&url).await.text;
    for private in ["secrets", "BREW", "lovelace", "darjeeling", &id, ada.user["id"].as_str().unwrap()] {
        assert!(!text.contains(private), "{private} is shown");
    }
    assert_eq!(after.value("tally_bus_connected", &[]), None, "there is no NATS");
    let version = server.command(&["--version"]).output().unwrap().stdout;
    let version = String::from_utf8(version).unwrap().trim().replace("tally ", "");
    assert_eq!(after.value("tally_build_info", &[("version", &version)]), Some(1.0));
    assert!(after.value("process_resident_memory_bytes", &[]).unwrap() > 1e6);
    assert!(after.sum("tally_database_connections", &[]) >= 1.0);
}

/// The sockets a process listens on.
fn listening(process: u32) -> usize {
    let fds = fs::read_dir(format!("/proc/{process}/fd")).expect("a process of ours").flatten();
    let own: Vec<String> = fds
        .filter_map(|fd| fs::read_link(fd.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let tables =
        ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default());
    let listens = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // State 0A is LISTEN; the tenth field is the socket's number.
        fields.get(3) == Some(&"0A") && fields.get(9).is_some_and(|inode| own.iter().any(|own| own == inode))
    };
    tables.iter().flat_map(|table| table.lines()).filter(listens).count()
}

#[tokio::test]
async fn metrics_are_served_on_their_own_address_alone_and_only_where_one_is_set() {
    let (mut server, url) = watched(&[]).await;
    assert_eq!(listening(server.process().id()), 2);
    expect(404, server.client().get("/metrics")).await;
    let scraped = fetch(&url).await;
    assert_eq!(scraped.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(scraped.header("cache-control"), Some("no-store"));
    let client = reqwest::Client::new();
    let elsewhere = url.replace("/metrics", "/api/me");
    assert_eq!(client.get(elsewhere).send().await.unwrap().status(), 404, "nothing else is there");
    assert_eq!(client.post(&url).send().await.unwrap().status(), 405);
    // The scraper's connection is open, and holds nothing up.
    let stopped = Instant::now();
    server.process().signal(Signal::TERM);
    assert!(server.process().wait().success());
    assert!(stopped.elapsed() < Duration::from_secs(8), "{:?}", stopped.elapsed());
    assert!(client.get(&url).send().await.is_err(), "nobody is there");

    let mut server = Server::start(BINARY, &[]).await;
    assert_eq!(listening(server.process().id()), 1);
    expect(404, server.client().get("/metrics")).await;
}

#[tokio::test]
async fn an_address_that_is_taken_stops_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|address| (address.to_string(), taken)).unwrap();
    let scratch = Scratch::new();
    let (data, log) = (scratch.path().join("data"), scratch.path().join("log"));
    let mut command = Command::new(BINARY);
    command
        .arg("serve")
        .env_clear()
        .env("TALLY_DATA_DIR", data)
        .env("PATH", "/usr/bin:/bin")
        .env("PORT", "0");
    command.env("METRICS_ADDR", &taken.0).stdin(Stdio::null()).stderr(fs::File::create(&log).unwrap());
    let ended = scratch.spawn(&mut command).expect("the binary runs").wait();
    let said = fs::read_to_string(&log).unwrap();
    assert!(!ended.success(), "{said}");
    let wrong = format!("METRICS_ADDR: {} cannot be listened on: choose another", taken.0);
    assert!(said.contains(&wrong), "{said}");
}

/// A projection that stopped, and how far it stays behind.
#[tokio::test]
async fn a_projection_that_halted_is_shown() {
    let (server, url) = watched(&[]).await;
    server.client().login(&address("ada")).await;
    let page = shown(&url, "the projections to follow", |page| {
        page.sum("tally_projection_lag_events", &[]) == 0.0 && page.sum("tally_head_position", &[]) > 0.0
    })
    .await;
    assert_eq!(page.sum("tally_projection_halted", &[]), 0.0);
    let poison = poison(&server).await as f64;
    server.client().login(&address("eve")).await;
    let page = shown(&url, "the projections to halt", |page| {
        page.sum("tally_projection_halted", &[]) == 2.0 && page.sum("tally_head_position", &[]) > poison
    })
    .await;
    let applied = page.value("tally_applied_position", &[]).unwrap();
    for projection in ["token_list", "audit_log"] {
        let of = [("projection", projection)];
        assert_eq!(page.value("tally_projection_position", &of), Some(poison - 1.0));
        let lag = page.value("tally_projection_lag_events", &of).unwrap();
        assert!(lag >= 2.0 && lag >= applied - poison, "{lag}");
    }
}

/// Whether replicas hear each other, and what they say.
#[tokio::test]
async fn nats_that_goes_away_is_shown() {
    let mut nats = NatsServer::start(&[]).await;
    let (server, url) = watched(&[("NATS_URL", &format!("nats://{}", nats.address()))]).await;
    let is = |connected: f64| move |page: &Page| page.value("tally_bus_connected", &[]) == Some(connected);
    shown(&url, "NATS to be there", is(1.0)).await;
    server.client().login(&address("ada")).await;
    for kind in ["batch", "acknowledgement"] {
        let sent = [("direction", "sent"), ("kind", kind)];
        shown(&url, kind, |page| page.sum("tally_bus_messages_total", &sent) > 0.0).await;
    }
    nats.down();
    shown(&url, "NATS to be away", is(0.0)).await;
    nats.up().await;
    shown(&url, "NATS to be back", is(1.0)).await;
}
