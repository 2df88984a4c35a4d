//! The example service verifies tokens in its own process, as the role that `docs/embedding.md` makes, and
//! refuses what was revoked when the call has returned, whatever happened to it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use reqwest::{Method, RequestBuilder, StatusCode};
use rustix::process::Signal;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, postgres::PgConnectOptions};
use tally_tests::{
    Answer, Login, NatsServer, Scratch, Server, TempPostgres, client::answer, eventually, scratch::Guarded,
};

use crate::{
    faults::site::external_settings,
    support::{BINARY, expect},
};

/// Δ and ε of the server.
const BOUND: Duration = Duration::from_millis(1050);
/// Far from any wait for a lease, and for a busy machine far from nothing.
const FAST: Duration = Duration::from_millis(150);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(2);
const ROLE: &str = "tally_verifier";

/// A server, its database, and services that verify by themselves.
struct Site {
    // Dropped in this order: the server while its database still answers.
    server: Server,
    _nats: Option<NatsServer>,
    postgres: TempPostgres,
    ada: Login,
    /// For the services: the database as their role, and the bus.
    settings: Vec<(&'static str, String)>,
    database: PgConnectOptions,
}

impl Site {
    async fn new(nats: Option<NatsServer>) -> Self {
        let postgres = TempPostgres::start().await;
        let database = postgres.database().await;
        let url = postgres.url(&database);
        let nats_url = nats.as_ref().map(|nats| format!("nats://{}", nats.address()));
        let mut all: Vec<_> = external_settings(&url).into_iter().collect();
        all.extend(nats_url.as_deref().map(|url| ("NATS_URL", url)));
        let server = Server::start(BINARY, &all).await;
        let mut owner = PgConnection::connect_with(&database).await.unwrap();
        owner.execute(AssertSqlSafe(grants())).await.unwrap();
        owner.close().await.unwrap();
        let mut settings = vec![("DATABASE_URL", url.replace("tally@", &format!("{ROLE}@")))];
        if let Some(nats_url) = nats_url {
            let output = server.command(&["verifier", "key"]).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(String::from_utf8_lossy(&output.stderr).contains("Keep it secret"));
            let key = String::from_utf8(output.stdout).unwrap().trim().to_owned();
            settings.extend([("NATS_URL", nats_url), ("TALLY_BUS_KEY", key)]);
        }
        let ada = server.client().login("ada@example.org").await;
        Self { server, _nats: nats, postgres, ada, settings, database }
    }

    async fn mint(&self) -> (String, String) {
        self.server.client().mint(&self.ada.token, "laptop").await
    }

    /// A new token that the service has in memory, and its id.
    async fn remembered(&self, service: &Service) -> (String, String) {
        let (id, token) = self.mint().await;
        eventually("the service to remember", async || {
            assert!(service.accepts(&token).await);
            let health = answer(service.get("/healthz")).await.text;
            health.starts_with("verifying from memory").then_some(())
        })
        .await;
        assert!(service.accepts(&token).await);
        (id, token)
    }

    /// Ends a token; how long that took until it was effective.
    async fn revoke(&self, id: &str) -> Duration {
        let request = self.server.client().request(Method::DELETE, &format!("/api/tokens/{id}"));
        let began = Instant::now();
        let answer = expect(204, request.bearer_auth(&self.ada.token)).await;
        assert_eq!(answer.header("x-revocation"), Some("effective"));
        began.elapsed()
    }

    /// Waits until a revocation no longer waits for any lease.
    async fn is_fast(&self, service: &Service) {
        eventually("revocations to be fast", async || {
            let (id, token) = self.remembered(service).await;
            let took = self.revoke(&id).await;
            assert!(!service.accepts(&token).await);
            (took < FAST).then_some(())
        })
        .await;
    }

    /// Those that revocations wait for.
    async fn listed(&self) -> i64 {
        let mut connection = PgConnection::connect_with(&self.database).await.unwrap();
        let listed =
            sqlx::query_scalar("select count(*) from replica").fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        listed
    }
}

/// The statements of the page, so that it says what works.
fn grants() -> String {
    let page = include_str!("../../docs/embedding.md");
    let (_, rest) = page.split_once("<!-- grants -->\n```sql\n").expect("the page has the grants");
    let (grants, _) = rest.split_once("```\n<!-- end -->").expect("they have an end");
    grants.to_owned()
}

/// The example, built with this test as `cargo test --workspace` does.
fn example() -> PathBuf {
    let path = Path::new(BINARY).with_file_name("examples/service");
    assert!(path.is_file(), "build it first: cargo build --workspace --example service");
    path
}

/// The example service, running.
struct Service {
    process: Guarded,
    url: String,
    http: reqwest::Client,
    _scratch: Scratch,
}

impl Service {
    async fn start(settings: &[(&str, String)]) -> Self {
        let scratch = Scratch::new();
        let (output, errors) = (scratch.path().join("output"), scratch.path().join("errors"));
        let mut command = Command::new(example());
        command
            .env_clear()
            .env("LISTEN", "127.0.0.1:0")
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(fs::File::create(&output).unwrap())
            .stderr(fs::File::create(&errors).unwrap());
        let mut process = scratch.spawn(&mut command).unwrap();
        let address = eventually("the service to listen", async || {
            assert!(process.is_running(), "{}", fs::read_to_string(&errors).unwrap());
            let output = fs::read_to_string(&output).unwrap();
            Some(output.trim().strip_prefix("listening on ")?.to_owned())
        })
        .await;
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { process, url: format!("http://{address}"), http, _scratch: scratch }
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("{}{path}", self.url))
    }

    fn whoami(&self, token: &str) -> RequestBuilder {
        self.get("/whoami").bearer_auth(token)
    }

    async fn accepts(&self, token: &str) -> bool {
        let answer = answer(self.whoami(token)).await;
        match answer.status {
            200 => true,
            401 => false,
            status => panic!("{status}: {}", answer.text),
        }
    }

    async fn refused(&self, status: StatusCode, words: &str, request: RequestBuilder) -> Answer {
        let answer = answer(request).await;
        assert_eq!((answer.status, answer.text.as_str()), (status.as_u16(), words));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        answer
    }
}

/// With NATS it hears of a revocation at once, and says so.
#[tokio::test]
async fn what_is_revoked_is_refused_at_once_in_another_process() {
    let site = Site::new(Some(NatsServer::start(&[]).await)).await;
    let mut service = Service::start(&site.settings).await;
    site.is_fast(&service).await;
    let (id, token) = site.remembered(&service).await;
    let who = expect(200, service.whoami(&token)).await.text;
    assert_eq!(who, format!("{} by token:{id}\n", site.ada.user["id"].as_str().unwrap()));
    let took = site.revoke(&id).await;
    assert!(!service.accepts(&token).await);
    assert!(took < BOUND, "{took:?}");
    // Told to stop, it leaves the list before it ends, and nobody waits for it.
    service.process.signal(Signal::TERM);
    assert!(service.process.wait().success());
    assert_eq!(site.listed().await, 1);
}

/// Without NATS nobody says how far it is: the revocation waits until no lease can be left. It does too
/// for one that hangs, or has died, and none of them says yes again.
#[tokio::test]
async fn without_nats_or_while_it_hangs_or_when_it_has_died_its_lease_is_waited_for() {
    let site = Site::new(None).await;
    let mut service = Service::start(&site.settings).await;
    let waited = |took: Duration| assert!(took >= BOUND && took < BOUND + SLACK, "{took:?}");
    let (id, token) = site.remembered(&service).await;
    waited(site.revoke(&id).await);
    assert!(!service.accepts(&token).await);

    let (id, token) = site.remembered(&service).await;
    service.process.signal(Signal::STOP);
    waited(site.revoke(&id).await);
    service.process.signal(Signal::CONT);
    assert!(!service.accepts(&token).await, "it went on and said what it remembered");

    service.process.signal(Signal::KILL);
    service.process.wait();
    let (id, _) = site.mint().await;
    waited(site.revoke(&id).await);
    eventually("the dead to be taken off the list", async || (site.listed().await == 1).then_some(())).await;
    let (id, _) = site.mint().await;
    assert!(site.revoke(&id).await < BOUND);
}

/// One that hangs, on a bus that works.
#[tokio::test]
async fn a_service_that_hangs_is_waited_for_with_nats_too() {
    let site = Site::new(Some(NatsServer::start(&[]).await)).await;
    let service = Service::start(&site.settings).await;
    site.is_fast(&service).await;
    let (id, token) = site.remembered(&service).await;
    service.process.signal(Signal::STOP);
    let took = site.revoke(&id).await;
    assert!(took >= BOUND && took < BOUND + SLACK, "{took:?}");
    service.process.signal(Signal::CONT);
    assert!(!service.accepts(&token).await, "it went on and said what it remembered");
}

/// Every refusal is in the words of the server's guard.
#[tokio::test]
async fn whoever_has_no_good_token_is_told_as_the_server_tells() {
    let site = Site::new(None).await;
    let service = Service::start(&site.settings).await;
    let (_, token) = site.remembered(&service).await;
    let (missing, invalid) = ("{\"error\":\"missing authorization\"}", "{\"error\":\"invalid token\"}");
    let challenge = |answer: &Answer| answer.header("www-authenticate").unwrap().to_owned();

    let nothing = service.refused(StatusCode::UNAUTHORIZED, missing, service.get("/whoami")).await;
    assert_eq!(challenge(&nothing), "Bearer realm=\"tallystick\"");
    let basic = service.get("/whoami").header("authorization", "Basic YTpi");
    service.refused(StatusCode::UNAUTHORIZED, missing, basic).await;
    let twice = service.whoami(&token).bearer_auth(&token);
    let misspelt = service.get("/whoami").header("authorization", format!("Bearer{token}"));
    for wrong in [twice, misspelt, service.whoami("mul_nonsense"), service.whoami("")] {
        let no = service.refused(StatusCode::UNAUTHORIZED, invalid, wrong).await;
        assert_eq!(challenge(&no), "Bearer realm=\"tallystick\", error=\"invalid_token\"");
    }
    let any_case = service.get("/whoami").header("authorization", format!("bEARER  {token}"));
    expect(200, any_case).await;
    // A session is good at the server, and only there.
    assert!(site.server.client().accepts(&site.ada.token).await);
    let words = "{\"error\":\"invalid token: a session is not accepted here, a personal access token is\"}";
    let session = service.whoami(&site.ada.token);
    let no = service.refused(StatusCode::UNAUTHORIZED, words, session).await;
    assert_eq!(challenge(&no), "Bearer realm=\"tallystick\", error=\"invalid_token\"");

    // A database that hangs: nobody is told yes, and nobody no.
    let frozen = site.postgres.freeze();
    eventually("the lease to be over", async || {
        let health = answer(service.get("/healthz")).await.text;
        health.starts_with("verifying from the database").then_some(())
    })
    .await;
    let words = "{\"error\":\"the service cannot answer right now\"}";
    let no = service.refused(StatusCode::SERVICE_UNAVAILABLE, words, service.whoami(&token)).await;
    assert_eq!(no.header("retry-after"), Some("1"));
    drop(frozen);
    eventually("the database's answer", async || {
        (answer(service.whoami(&token)).await.status == 200).then_some(())
    })
    .await;

    let suspended = site.server.command(&["user", "suspend", "ada@example.org"]).output().unwrap();
    assert!(suspended.status.success(), "{}", String::from_utf8_lossy(&suspended.stderr));
    let disabled = "{\"error\":\"account disabled\"}";
    service.refused(StatusCode::FORBIDDEN, disabled, service.whoami(&token)).await;
}

/// The role can do what a verifier does, also after the tables were made anew, and nothing else.
#[tokio::test]
async fn the_role_of_the_page_suffices_and_changes_nothing() {
    let site = Site::new(None).await;
    for projection in ["credentials", "users"] {
        let rebuilt = site.server.command(&["projections", "rebuild", projection]).output().unwrap();
        assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    }
    let service = Service::start(&site.settings).await;
    site.remembered(&service).await;

    let mut role = PgConnection::connect_with(&site.database.clone().username(ROLE)).await.unwrap();
    for refused in [
        "insert into event select * from event limit 1",
        "update event set name = name",
        "delete from event",
        "truncate event",
        "update log_head set position = position + 1",
        "update log_head set log_id = log_id",
        "update credentials set revoked_at = null",
        "update users set suspended = false",
        "insert into credentials select * from credentials limit 1",
        "select email from users",
        "select wrapped from keys.root",
        "select wrapped from keys.subject",
        "select * from sessions",
        "select * from claim",
        "update replica set leaving = true",
        "create table mine (id uuid)",
    ] {
        let error = role.execute(refused).await.expect_err(refused);
        let code = error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
        assert_eq!(code.as_deref(), Some("42501"), "{refused}: {error}");
    }
}

/// What waiting would not mend ends the start, and says what would.
#[tokio::test]
async fn a_wrong_setting_is_told_at_the_start_and_no_secret_with_it() {
    let site = Site::new(None).await;
    let mut owner = PgConnection::connect_with(&site.database).await.unwrap();
    owner.execute("create role stranger login").await.unwrap();
    owner.close().await.unwrap();
    let good = site.settings[0].1.clone();
    let scratch = Scratch::new();
    let errors = scratch.path().join("errors");
    let told = |settings: &[(&str, &str)]| {
        let mut command = Command::new(example());
        command.env_clear().env("LISTEN", "127.0.0.1:0").envs(settings.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&errors).unwrap());
        assert!(!scratch.spawn(&mut command).unwrap().wait().success());
        fs::read_to_string(&errors).unwrap()
    };
    let stranger = good.replace(ROLE, "stranger");
    let unprivileged = told(&[("DATABASE_URL", &stranger)]);
    assert!(
        unprivileged.contains("docs/embedding.md") && unprivileged.contains("permission denied"),
        "{unprivileged}"
    );
    let nobody = good.replace(ROLE, "nobody");
    assert!(told(&[("DATABASE_URL", &nobody)]).contains("docs/embedding.md"));
    let url = told(&[("DATABASE_URL", "mysql://root:hunter2@db/tally")]);
    assert!(url.contains("is not a PostgreSQL URL such as") && !url.contains("hunter2"), "{url}");
    let key = "6d".repeat(32);
    let key = told(&[("DATABASE_URL", &good), ("NATS_URL", "nats://127.0.0.1:1"), ("TALLY_BUS_KEY", &key)]);
    assert!(key.contains("`tally verifier key`") && !key.contains("6d6d6d"), "{key}");
}
