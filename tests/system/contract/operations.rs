//! *Operations*, and the settings that decide whether the server starts.

use std::{
    os::unix::fs::PermissionsExt,
    process::{Command, Output, Stdio},
};

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tally_tests::{Answer, Server, TempPostgres};

use crate::support::{
    BINARY, address, client, expect, fields, log_lines, person, replica, shared, shared_secrets,
};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// `/api/config` has its fields, the optional ones only when set, and says nothing to analytics.
#[tokio::test]
async fn config_has_its_fields() {
    let config = expect(200, client().await.get("/api/config")).await.json();
    let expected = json!({
        "cdn_domain": "", "allow_signup": true, "posthog_key": "", "posthog_host": "", "analytics_environment": "",
        "local_worktree_supported": false, "server_version": env!("CARGO_PKG_VERSION"),
    });
    assert_eq!(config, expected);
    let settings = [
        ("GOOGLE_CLIENT_ID", "client-id"),
        ("DISABLE_WORKSPACE_CREATION", "true"),
        ("ALLOW_SIGNUP", "false"),
    ];
    let server = replica(&settings).await;
    let config = expect(200, server.client().get("/api/config")).await.json();
    assert_eq!(config["google_client_id"], "client-id");
    assert_eq!(
        (&config["workspace_creation_disabled"], &config["allow_signup"]),
        (&json!(true), &json!(false))
    );
}

/// The OpenAPI document is served to anybody, as it is committed and as `tally openapi` prints it.
#[tokio::test]
async fn the_openapi_document_is_served() {
    let answer = expect(200, client().await.get("/openapi.json")).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.json()["openapi"], "3.1.0");
    let committed = include_str!("../../../docs/openapi.json");
    assert!(answer.text == committed, "the server's document is not docs/openapi.json");
    let printed = Command::new(BINARY).arg("openapi").env_clear().output().expect("it runs");
    assert!(printed.status.success() && printed.stdout == committed.as_bytes());
}

/// `/health` is `{"status":"ok"}`; `/readyz` and `/healthz` are status and checks.
#[tokio::test]
async fn health_and_readiness_answer() {
    let client = client().await;
    assert_eq!(expect(200, client.get("/health")).await.json(), json!({ "status": "ok" }));
    for path in ["/readyz", "/healthz"] {
        let body = expect(200, client.get(path)).await.json();
        assert_eq!(fields(&body), ["checks", "status"]);
        assert_eq!(
            (&body["status"], &body["checks"]["db"], &body["checks"]["migrations"]),
            (&json!("ok"), &json!("ok"), &json!("ok"))
        );
    }
}

/// `/metrics` is never on the public port.
#[tokio::test]
async fn metrics_are_not_on_the_public_port() {
    expect(404, client().await.get("/metrics")).await;
}

/// `serve` migrates at start, safely when several start at once; `readyz` fails while a migration is
/// pending, and says how many.
#[tokio::test]
async fn serve_migrates_at_start_and_readyz_tells_what_is_pending() {
    let postgres = TempPostgres::start().await;
    let options = postgres.database().await;
    let url = postgres.url(&options);
    let settings = [
        ("DATABASE_URL", url.as_str()),
        ("APP_ENV", "test"),
        ("JWT_SECRET", SECRET),
        ("TALLY_MASTER_KEY", "6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d"),
        ("TALLY_BIND", "127.0.0.1"),
    ];
    let (one, two) = tokio::join!(Server::start(BINARY, &settings), Server::start(BINARY, &settings));
    let login = one.client().login(&address("migrated")).await;
    assert!(two.client().accepts(&login.token).await);
    for server in [&one, &two] {
        expect(200, server.client().get("/readyz")).await;
    }
    let mut database = PgConnection::connect_with(&options).await.expect("the database");
    let forgotten =
        "delete from _sqlx_migrations where version = (select max(version) from _sqlx_migrations)";
    sqlx::query(forgotten).execute(&mut database).await.expect("the list of migrations");
    let body = expect(503, one.client().get("/readyz")).await.json();
    assert_eq!((&body["checks"]["migrations"], &body["checks"]["db"]), (&json!("1 pending"), &json!("ok")));
    assert_ne!(body["status"], "ok");
}

fn preflight(client: &tally_tests::Client, origin: &str, path: &str) -> reqwest::RequestBuilder {
    client
        .request(Method::OPTIONS, path)
        .header("origin", origin.to_owned())
        .header("access-control-request-method", "PATCH")
        .header("access-control-request-headers", "authorization,content-type,x-csrf-token")
}

/// What a CORS header lists, in lower case.
fn listed(answer: &Answer, name: &str) -> Vec<String> {
    let text = answer.header(name).unwrap_or_default();
    text.split(',').map(|item| item.trim().to_lowercase()).collect()
}

/// Preflights are answered for allowed origins, with credentials and the documented headers.
#[tokio::test]
async fn cors_preflights_are_answered() {
    let client = client().await;
    for path in ["/api/me", "/auth/send-code", "/v1/me"] {
        let answer = expect(200, preflight(&client, "http://localhost:3000", path)).await;
        assert_eq!(answer.header("access-control-allow-origin"), Some("http://localhost:3000"));
        assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
        let headers = listed(&answer, "access-control-allow-headers");
        for name in [
            "Authorization",
            "Content-Type",
            "X-CSRF-Token",
            "X-Workspace-ID",
            "X-Workspace-Slug",
            "X-Request-ID",
            "Idempotency-Key",
            "If-Match",
            "X-Min-Position",
        ] {
            assert!(headers.contains(&name.to_lowercase()), "{name} in {headers:?}");
        }
        let methods = listed(&answer, "access-control-allow-methods");
        for method in ["get", "post", "put", "patch", "delete"] {
            assert!(methods.contains(&method.to_owned()), "{method} in {methods:?}");
        }
    }
}

/// Refusals carry the headers too, or a browser could not read them; other origins get none, and
/// never `*`.
#[tokio::test]
async fn cors_is_for_allowed_origins_alone_and_never_any() {
    let client = client().await;
    let login = person("cors").await;
    let refused = expect(401, client.get("/api/me").header("origin", "http://localhost:3000")).await;
    assert_eq!(refused.header("access-control-allow-origin"), Some("http://localhost:3000"));
    assert_eq!(refused.header("access-control-allow-credentials"), Some("true"));
    for foreign in ["https://evil.example", "null", "http://localhost:1"] {
        let read = client.get("/api/me").bearer_auth(&login.token).header("origin", foreign);
        for answer in [expect(200, read).await, expect(200, preflight(&client, foreign, "/api/me")).await] {
            assert_eq!(answer.header("access-control-allow-origin"), None, "{foreign}");
        }
    }
    let plain = expect(200, client.get("/api/me").bearer_auth(&login.token)).await;
    assert_eq!(plain.header("access-control-allow-origin"), None);
}

/// The default is FRONTEND_ORIGIN, plus localhost outside production; a list of one's own replaces it.
#[rstest]
#[case::default(&[], &["https://app.example.org", "http://localhost:3000"], &["https://other.example"])]
#[case::production(&[("APP_ENV", "production")], &["https://app.example.org"], &["http://localhost:3000"])]
#[case::a_list(
    &[("CORS_ALLOWED_ORIGINS", "https://One.example, https://two.example")],
    &["https://one.example", "https://two.example"],
    &["https://app.example.org", "http://localhost:3000"],
)]
#[tokio::test]
async fn cors_origins_follow_the_settings(
    #[case] settings: &[(&str, &str)],
    #[case] allowed: &[&str],
    #[case] foreign: &[&str],
) {
    let mut all = vec![("FRONTEND_ORIGIN", "https://app.example.org")];
    all.extend(settings);
    let server = replica(&all).await;
    let client = server.client();
    for (origins, expected) in [(allowed, true), (foreign, false)] {
        for origin in origins {
            let answer = expect(200, preflight(&client, origin, "/api/me")).await;
            assert_eq!(answer.header("access-control-allow-origin"), expected.then_some(*origin));
            let change = client.post("/auth/logout", &json!({})).header("origin", *origin);
            expect(if expected { 200 } else { 403 }, change).await;
        }
    }
}

/// Loopback with the embedded database, all addresses otherwise.
#[tokio::test]
async fn serve_binds_loopback_with_the_embedded_database_only() {
    let address = |server: &Server| {
        let lines = log_lines(server);
        let line = lines.iter().find(|line| line["message"] == "listening").expect("the line").clone();
        line["address"].as_str().expect("an address").to_owned()
    };
    assert!(address(shared().await).starts_with("127.0.0.1:"));
    let server = replica(&[("TALLY_BIND", "")]).await;
    assert!(address(&server).starts_with("[::]:"));
    expect(200, server.client().get("/health")).await;
}

/// The data directory is one directory that nobody else looks into, and its keys are the server's alone.
#[tokio::test]
async fn data_directory_is_private() {
    let data = shared().await.data_dir();
    let mode = |path| std::fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    // As root, the group of PostgreSQL's own account passes through.
    let expected = if rustix::process::geteuid().is_root() { 0o710 } else { 0o700 };
    assert_eq!(mode(data.clone()), expected);
    assert_eq!(mode(data.join("keys")), 0o700);
    for name in ["master.key", "jwt.secret"] {
        assert_eq!(mode(data.join("keys").join(name)), 0o600);
    }
}

/// Starts the server where it must refuse.
fn refuses(settings: &[(&str, &str)]) -> String {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(BINARY);
    command.arg("serve").env_clear().stdin(Stdio::null());
    command.env("PORT", "0").env("TALLY_DATA_DIR", directory.path()).envs(settings.iter().copied());
    let Output { status, stderr, .. } = command.output().expect("the binary runs");
    let words = String::from_utf8_lossy(&stderr).into_owned();
    assert!(!status.success(), "{words}");
    words
}

/// In production an empty, short or published JWT_SECRET refuses to start. APP_ENV unset is
/// production with an external database, and with the embedded one off loopback.
#[rstest]
#[case::missing(&[("APP_ENV", "production")], "JWT_SECRET is required in production")]
#[case::empty(&[("APP_ENV", "production"), ("JWT_SECRET", " ")], "JWT_SECRET is required in production")]
#[case::short(&[("APP_ENV", "production"), ("JWT_SECRET", "short")], "JWT_SECRET is shorter than 32 characters")]
#[case::published(
    &[("APP_ENV", "production"), ("JWT_SECRET", "multica-dev-secret-change-in-production")],
    "JWT_SECRET is a published default",
)]
#[case::external(&[("DATABASE_URL", "postgres://tally@db.invalid/tally")], "JWT_SECRET is required in production")]
#[case::off_loopback(&[("TALLY_BIND", "0.0.0.0")], "JWT_SECRET is required in production")]
fn start_refuses_a_weak_jwt_secret_in_production(#[case] settings: &[(&str, &str)], #[case] words: &str) {
    let said = refuses(settings);
    assert!(said.contains(words), "{said}");
}

/// A setting that is wrong is named, all of them at once.
#[test]
fn start_refuses_wrong_settings_and_names_them() {
    let said = refuses(&[("PORT", "http"), ("CORS_ALLOWED_ORIGINS", "*"), ("ALLOW_SIGNUP", "perhaps")]);
    for name in ["PORT", "CORS_ALLOWED_ORIGINS", "ALLOW_SIGNUP"] {
        assert!(said.contains(name), "{said}");
    }
}

/// An external database set up with another master key or secret refuses to start.
#[tokio::test]
async fn start_refuses_a_database_of_other_keys() {
    let [url, master, secret] = shared_secrets().await;
    let other = "6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d";
    for (master, secret, what) in
        [(other, secret.as_str(), "master key"), (master.as_str(), SECRET, "JWT_SECRET")]
    {
        let said = refuses(&[("DATABASE_URL", &url), ("TALLY_MASTER_KEY", master), ("JWT_SECRET", secret)]);
        assert!(said.contains(what) && said.contains("fingerprint"), "{said}");
        assert!(!said.contains(master) && !said.contains(secret), "{said}");
    }
}

/// A setting of no effect is told, so that nobody waits for it.
#[tokio::test]
async fn start_warns_of_settings_without_effect() {
    const NAME: &str = "MULTICA_CLOUD_FLEET_URL";
    let server = replica(&[(NAME, "https://fleet.example.org")]).await;
    let lines = log_lines(&server);
    let told: Vec<&Value> = lines.iter().filter(|line| line.to_string().contains(NAME)).collect();
    assert_eq!((told.len(), &told[0]["level"]), (1, &json!("WARN")));
}
