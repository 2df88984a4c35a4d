//! What credentials are used for is written down soon, adds up over replicas, and is in nobody's way.

use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder};
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection, postgres::PgConnectOptions};
use tally_tests::{Client, Login, Server, TempPostgres, eventually};
use tokio_tungstenite::{connect_async, tungstenite::client::IntoClientRequest};
use uuid::Uuid;

use crate::{
    faults::site::external_settings,
    support::{BINARY, delete, expect, near, now, team::slug, timestamp},
};

/// Often, so that nothing here waits for long.
const OFTEN: (&str, &str) = ("TALLY_USAGE_INTERVAL_MS", "100");
/// Not while a test runs.
const NEVER: (&str, &str) = ("TALLY_USAGE_INTERVAL_MS", "600000");
const BEHIND_A_PROXY: (&str, &str) = ("RATE_LIMIT_TRUSTED_PROXIES", "127.0.0.1");

/// A database, and replicas beside it.
struct Site {
    postgres: TempPostgres,
    options: PgConnectOptions,
    replicas: Vec<Server>,
    ada: Login,
}

impl Site {
    async fn new(replicas: &[&[(&str, &str)]]) -> Self {
        let postgres = TempPostgres::start().await;
        let options = postgres.database().await;
        let url = postgres.url(&options);
        let mut servers = Vec::new();
        for settings in replicas {
            let all: Vec<_> = external_settings(&url).into_iter().chain(settings.iter().copied()).collect();
            servers.push(Server::start(BINARY, &all).await);
        }
        let ada = servers[0].client().login("ada@example.org").await;
        Self { postgres, options, replicas: servers, ada }
    }

    fn client(&self) -> Client {
        self.replicas[0].client()
    }

    async fn token(&self) -> (Uuid, String) {
        let (id, token) = self.client().mint(&self.ada.token, "laptop").await;
        (id.parse().unwrap(), token)
    }

    async fn connection(&self) -> PgConnection {
        PgConnection::connect_with(&self.options).await.expect("the database answers")
    }

    /// The uses that are written down.
    async fn written(&self, credential: Uuid) -> i64 {
        uses(&mut self.connection().await, credential).await
    }

    /// Waits until so many are.
    async fn are_written(&self, credential: Uuid, wanted: i64) {
        let mut connection = self.connection().await;
        let mut last = 0;
        eventually(&format!("{wanted} uses to be written down"), async || {
            let written = uses(&mut connection, credential).await;
            assert!((last..=wanted).contains(&written), "{written} of {wanted} uses, after {last}");
            last = written;
            (written == wanted).then_some(())
        })
        .await;
    }

    /// What the operator is told of a credential.
    fn usage(&self, credential: Uuid) -> Value {
        let output = self.replicas[0].command(&["usage", &credential.to_string(), "--json"]).output();
        let output = output.expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// The token as its owner sees it.
    async fn listed(&self, id: Uuid) -> Value {
        let listed = expect(200, self.client().get("/api/tokens").bearer_auth(&self.ada.token)).await.json();
        let mut tokens = listed.as_array().expect("a list").iter();
        tokens.find(|token| token["id"] == json!(id)).expect("it is listed").clone()
    }
}

async fn uses(connection: &mut PgConnection, credential: Uuid) -> i64 {
    let uses = sqlx::query_scalar("select uses from credential_usage where credential_id = $1");
    let uses: Option<i64> =
        uses.bind(credential).fetch_optional(connection).await.expect("the database answers");
    uses.unwrap_or_default()
}

/// Uses a token so many times.
async fn used(client: &Client, token: &str, times: i64) {
    for _ in 0..times {
        assert!(client.accepts(token).await);
    }
}

#[tokio::test]
async fn a_use_is_shown_soon_and_a_token_without_one_shows_none() {
    let site = Site::new(&[&[OFTEN, BEHIND_A_PROXY]]).await;
    let ((id, token), (unused, _)) = (site.token().await, site.token().await);
    let client = site.client();
    let from = |address: &str, request: RequestBuilder| request.header("x-forwarded-for", address);
    // Whatever asks who it is: the guard, a proxy, a socket.
    expect(200, from("192.0.2.1", client.get("/v1/me").bearer_auth(&token))).await;
    let proxied = client.get("/auth/verify").header("x-original-method", "GET").bearer_auth(&token);
    expect(200, from("2001:db8::1", proxied)).await;
    let slug = slug();
    let request = client.post("/api/workspaces", &json!({ "name": "Team", "slug": slug }));
    expect(201, request.bearer_auth(&site.ada.token)).await;
    let url = format!("{}/ws?workspace_slug={slug}", site.replicas[0].url().replace("http", "ws"));
    let mut socket = url.into_client_request().unwrap();
    socket.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    socket.headers_mut().insert("x-forwarded-for", "192.0.2.3".parse().unwrap());
    let _socket = connect_async(socket).await.expect("the socket opens");
    // What is refused is no use.
    expect(401, client.get("/v1/me").bearer_auth(format!("{token}x"))).await;
    site.are_written(id, 3).await;

    let shown = timestamp(&site.listed(id).await["last_used_at"]);
    assert!(near(shown, now()) && shown <= now(), "{shown}");
    assert_eq!(site.listed(unused).await["last_used_at"], Value::Null);
    let usage = site.usage(id);
    assert_eq!(timestamp(&usage["last_used_at"]), shown);
    // A test that runs over the hour has two of them.
    let hours = usage["hours"].as_array().expect("a list");
    let addresses: Vec<&Value> =
        hours.iter().flat_map(|hour| hour["addresses"].as_array().unwrap()).collect();
    assert_eq!(addresses, ["192.0.2.3", "2001:db8::1", "192.0.2.1"]);
    assert_eq!(hours.iter().map(|hour| hour["uses"].as_i64().unwrap()).sum::<i64>(), 3);

    // Whoever looks into what a token did does so after it was revoked, and the log was folded anew.
    expect(204, delete(&client, &format!("/api/tokens/{id}"), &site.ada.token)).await;
    assert!(!client.accepts(&token).await);
    let rebuilt = site.replicas[0].command(&["projections", "rebuild", "--all"]).output().expect("it runs");
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    assert_eq!(site.usage(id), usage);
    let table = site.replicas[0].command(&["usage", &id.to_string()]).output().expect("it runs");
    let table = String::from_utf8(table.stdout).expect("text");
    assert!(table.contains(", 3 uses, ") && table.contains("192.0.2.1"), "{table}");
}

/// One's own sessions show when each was used last, and from where.
#[tokio::test]
async fn a_session_shows_when_and_where_it_was_seen_last() {
    let site = Site::new(&[&[OFTEN, BEHIND_A_PROXY]]).await;
    let client = site.client();
    let made = client.request(Method::POST, "/api/cli-token").bearer_auth(&site.ada.token);
    let made = made.header("x-forwarded-for", "2001:db8::5");
    let other = expect(200, made).await.json()["token"].as_str().expect("a token").to_owned();
    let ask = client.get("/v1/me").bearer_auth(&other).header("x-forwarded-for", "192.0.2.9");
    let me = expect(200, ask).await.json();
    let sessions = async || {
        let list = client.get("/v1/sessions").bearer_auth(&site.ada.token);
        let list = list.header("x-forwarded-for", "2001:db8::5");
        expect(200, list).await.json()["sessions"].as_array().expect("a list").clone()
    };
    let seen = eventually("both sessions to have been seen", async || {
        let sessions = sessions().await;
        sessions.iter().all(|session| !session["last_seen_at"].is_null()).then_some(sessions)
    })
    .await;
    let seen: Vec<_> = seen.iter().map(|session| (&session["id"], &session["last_seen_address"])).collect();
    let [(newest, theirs), (_, own)] = seen[..] else { panic!("{seen:?}") };
    assert_eq!((newest, theirs, own), (&me["credential_id"], &json!("192.0.2.9"), &json!("2001:db8::5")));
}

#[tokio::test]
async fn the_uses_of_two_replicas_add_up() {
    let site = Site::new(&[&[OFTEN], &[OFTEN]]).await;
    let (id, token) = site.token().await;
    let [one, other] = [0, 1].map(|replica| site.replicas[replica].client());
    tokio::join!(used(&one, &token, 40), used(&other, &token, 60));
    site.are_written(id, 100).await;
}

#[tokio::test]
async fn a_stop_writes_down_what_is_left() {
    let mut site = Site::new(&[&[NEVER]]).await;
    let (id, token) = site.token().await;
    used(&site.client(), &token, 7).await;
    assert_eq!(site.written(id).await, 0);
    site.replicas[0].process().signal(Signal::TERM);
    assert!(site.replicas[0].process().wait().success());
    assert_eq!(site.written(id).await, 7);
}

/// What was written down an interval before stays; what came since is lost, and it goes on from there.
#[tokio::test]
async fn a_crash_loses_an_interval_at_most() {
    let mut site = Site::new(&[&[("TALLY_USAGE_INTERVAL_MS", "2000")]]).await;
    let (id, token) = site.token().await;
    let client = site.client();
    let mut answered = Vec::new();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(7) {
        used(&client, &token, 1).await;
        answered.push(Instant::now());
    }
    let killed = Instant::now();
    site.replicas[0].process().signal(Signal::KILL);
    site.replicas[0].process().wait();
    let all = i64::try_from(answered.len()).unwrap();
    // An interval, and as much again for a batch on a busy machine.
    let safe = answered.iter().filter(|at| killed - **at > Duration::from_secs(4)).count();
    let written = site.written(id).await;
    assert!((i64::try_from(safe).unwrap()..=all).contains(&written), "{written} of {safe} to {all}");
    assert!(safe > 0);
    site.replicas[0].restart().await;
    used(&site.client(), &token, 5).await;
    site.are_written(id, written + 5).await;
}

/// A stranger's lock on the table is waited for by the task that writes, and by nobody who verifies.
#[tokio::test]
async fn nobody_waits_for_a_locked_table_and_nothing_is_lost() {
    let site = Site::new(&[&[OFTEN]]).await;
    let (id, token) = site.token().await;
    let client = site.client();
    used(&client, &token, 1).await;
    site.are_written(id, 1).await;
    let mut stranger = site.connection().await;
    stranger.execute("begin").await.unwrap();
    stranger.execute("lock table credential_usage in access exclusive mode").await.unwrap();
    let (mut uses, mut slowest) = (1, Duration::ZERO);
    // Until the task has given up at least once.
    eventually("the task to give up", async || {
        for _ in 0..20 {
            let began = Instant::now();
            used(&client, &token, 1).await;
            slowest = slowest.max(began.elapsed());
            uses += 1;
        }
        complaints(&site.replicas[0]).contains(&FAILS.to_owned()).then_some(())
    })
    .await;
    // Whoever waited for the lock did so for three seconds.
    assert!(slowest < Duration::from_millis(2500), "{slowest:?}");
    stranger.close().await.unwrap();
    site.are_written(id, uses).await;
    assert_eq!(complaints(&site.replicas[0]), [FAILS], "it is told once");
}

const FAILS: &str = "writing down the usage of credentials fails; it is tried again until it works";

/// The warnings of a server about usage.
fn complaints(server: &Server) -> Vec<String> {
    let lines = crate::support::log_lines(server).into_iter();
    let warnings = lines.filter(|line| line["level"] == "WARN");
    let told = warnings.filter_map(|line| line["message"].as_str().map(str::to_owned));
    told.filter(|message| message.contains("usage")).collect()
}

/// Memory answers for as long as its lease lasts, and what it answered comes to be written down.
#[tokio::test]
async fn uses_while_the_database_is_away_are_written_down_when_it_is_back() {
    let mut site = Site::new(&[&[OFTEN, ("TALLY_LEASE_MS", "10000")]]).await;
    let (id, token) = site.token().await;
    let client = site.client();
    // The second is answered from memory.
    used(&client, &token, 2).await;
    site.are_written(id, 2).await;
    site.postgres.crash().await;
    let mut uses = 2;
    while !complaints(&site.replicas[0]).contains(&FAILS.to_owned()) {
        // What asks the database for nothing but the verdict.
        let ask = client.get("/auth/verify").header("x-original-method", "GET").bearer_auth(&token);
        expect(200, ask).await;
        uses += 1;
    }
    site.postgres.restart().await;
    site.are_written(id, uses).await;
}

/// An operator who pastes a token instead of its id does not see it again.
#[tokio::test]
async fn what_is_no_id_is_refused_and_not_repeated() {
    let server = crate::support::shared().await;
    for (wrong, code, words) in [
        ("mul_secret", 5, "give the id of a token or a session"),
        (&*Uuid::nil().to_string(), 4, "it is unknown, or was never used"),
    ] {
        let output = server.command(&["usage", wrong]).output().expect("it runs");
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{printed}");
        assert!(printed.contains(words) && !printed.contains("mul_secret"), "{printed}");
    }
}
