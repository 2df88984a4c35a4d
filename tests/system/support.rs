//! The server most tests share, more replicas of it, and what every contract test asks.

pub mod document;
pub mod issuers;
pub mod past;
pub mod team;

use std::{fs, path::Path};

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sha2::Sha256;
use sqlx::{
    Connection, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use tally_tests::{Answer, Client, Login, Server, client::answer, eventually};
use tokio::sync::OnceCell;

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_tally");
/// A personal access token of the right form that nobody ever minted.
pub const UNKNOWN_TOKEN: &str = "mul_0123456789ABCDEFGHIJKLMNOPQRST4PMbyp";

/// A server that tests share. Each test brings its own people, so they do not meet.
pub async fn shared() -> &'static Server {
    static SERVER: OnceCell<Server> = OnceCell::const_new();
    SERVER.get_or_init(|| Server::start(BINARY, &[])).await
}

/// A client of the shared server.
pub async fn client() -> Client {
    shared().await.client()
}

/// Another replica of the shared server: the same database and keys, its own settings. It starts
/// faster than a server with a database of its own.
pub async fn replica(settings: &[(&str, &str)]) -> Server {
    let [url, master, secret] = shared_secrets().await;
    let mut all = vec![
        ("DATABASE_URL", url.as_str()),
        ("TALLY_MASTER_KEY", &master),
        ("JWT_SECRET", &secret),
        ("DATABASE_MAX_CONNS", "4"),
        ("DATABASE_MIN_CONNS", "0"),
        ("TALLY_BIND", "127.0.0.1"),
        ("APP_ENV", "development"),
    ];
    all.extend(settings);
    Server::start(BINARY, &all).await
}

/// `DATABASE_URL`, `TALLY_MASTER_KEY` and `JWT_SECRET` for a replica of the shared server.
pub async fn shared_secrets() -> [String; 3] {
    let data = shared().await.data_dir();
    let socket = data.join("socket").display().to_string().replace('/', "%2F");
    [format!("postgres://tally@{socket}/tally"), key(&data, "master.key"), key(&data, "jwt.secret")]
}

/// The text of a generated key.
pub fn key(data_dir: &Path, name: &str) -> String {
    fs::read_to_string(data_dir.join("keys").join(name)).expect("a generated key").trim().to_owned()
}

/// The embedded database of a server, through its socket.
pub fn database(server: &Server) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(server.data_dir().join("socket"))
        .username("tally")
        .database("tally")
        .ssl_mode(PgSslMode::Disable)
}

/// A connection to the shared server's database.
pub async fn connection() -> PgConnection {
    connection_to(shared().await).await
}

/// A connection to a server's embedded database, to look at its log. Tests share one: where many run
/// at once, its places may be taken for a moment.
pub async fn connection_to(server: &Server) -> PgConnection {
    eventually("a place at the embedded database", async || {
        match PgConnection::connect_with(&database(server)).await {
            Ok(connection) => Some(connection),
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("53300") => None,
            Err(error) => panic!("the embedded database answers: {error}"),
        }
    })
    .await
}

/// An address nobody else uses.
pub fn address(name: &str) -> String {
    format!("{name}-{}@example.org", uuid::Uuid::now_v7().simple())
}

/// Somebody new, logged in.
pub async fn person(name: &str) -> Login {
    client().await.login(&address(name)).await
}

#[expect(clippy::disallowed_methods, reason = "a test compares the server's clock with its own")]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}

/// A timestamp of the wire: RFC 3339, in UTC, written `Z`.
pub fn timestamp(value: &Value) -> DateTime<Utc> {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is a text"));
    assert!(text.ends_with('Z') && text.as_bytes()[10] == b'T', "{text} is RFC 3339 in UTC");
    DateTime::parse_from_rfc3339(text).unwrap_or_else(|error| panic!("{text}: {error}")).to_utc()
}

/// Whether two moments are a test's run apart at most.
pub fn near(one: DateTime<Utc>, other: DateTime<Utc>) -> bool {
    (one - other).abs() < chrono::TimeDelta::minutes(1)
}

/// The names of an object's fields, in order.
pub fn fields(object: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = object
        .as_object()
        .unwrap_or_else(|| panic!("{object} is an object"))
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    names
}

/// Sends it and expects this status.
pub async fn expect(status: u16, request: RequestBuilder) -> Answer {
    let answer = answer(request).await;
    assert_eq!(answer.status, status, "{} {:?}", answer.text, answer.headers);
    answer
}

/// Sends it and expects `{"error": …}` with these words and nothing else, as `/auth` and `/api` speak.
pub async fn refused(status: u16, words: &str, request: RequestBuilder) -> Answer {
    let answer = expect(status, request).await;
    assert_eq!(answer.json(), json!({ "error": words }));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    challenged(&answer);
    answer
}

/// Sends it and expects a problem document, as `/v1` speaks.
pub async fn problem(status: u16, code: &str, words: &str, request: RequestBuilder) -> Answer {
    let answer = expect(status, request).await;
    let body = answer.json();
    assert_eq!(fields(&body), ["code", "detail", "request_id", "status", "title", "type"]);
    assert_eq!(
        (&body["status"], &body["code"], &body["detail"]),
        (&json!(status), &json!(code), &json!(words))
    );
    assert_eq!(body["request_id"].as_str(), answer.header("x-request-id"));
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    challenged(&answer);
    answer
}

/// Sends it and expects an error as `/oauth` tells it (RFC 6749 section 5.2).
pub async fn oauth_error(status: u16, error: &str, words: &str, request: RequestBuilder) -> Answer {
    let answer = expect(status, request).await;
    assert_eq!(answer.json(), json!({ "error": error, "error_description": words }));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let challenge = (status == 401).then_some("Basic realm=\"tallystick\", charset=\"UTF-8\"");
    assert_eq!(answer.header("www-authenticate"), challenge);
    answer
}

/// RFC 6750 section 3: every 401 says how to do better, and when the credential was at fault says so.
fn challenged(answer: &Answer) {
    let words = if answer.text.contains("missing authorization") {
        "Bearer realm=\"tallystick\""
    } else {
        "Bearer realm=\"tallystick\", error=\"invalid_token\""
    };
    if answer.status == 401 {
        assert_eq!(answer.header("www-authenticate"), Some(words));
    }
}

/// A request with the session's cookies, and the CSRF header where one is given.
pub fn by_cookie(
    client: &Client,
    method: Method,
    path: &str,
    login: &Login,
    csrf: Option<&str>,
) -> RequestBuilder {
    let cookies = format!("multica_auth={}; multica_csrf={}", login.auth_cookie, login.csrf_cookie);
    let request = client.request(method, path).header("cookie", cookies);
    match csrf {
        Some(csrf) => request.header("x-csrf-token", csrf),
        None => request,
    }
}

pub fn delete(client: &Client, path: &str, credential: &str) -> RequestBuilder {
    client.request(Method::DELETE, path).bearer_auth(credential)
}

/// Answers that replicas and callers must not be able to tell apart: status, body and every header
/// but those that name the one request.
pub fn same(one: &Answer, other: &Answer) {
    assert_eq!((one.status, &one.text), (other.status, &other.text));
    let shape = |answer: &Answer| {
        let mut headers = answer.headers.clone();
        for own in ["x-request-id", "date", "x-log-position"] {
            headers.remove(own);
        }
        headers
    };
    assert_eq!(shape(one), shape(other));
}

/// The lines of a server's log, as JSON.
pub fn log_lines(server: &Server) -> Vec<Value> {
    server.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Which of these codes stand alone somewhere. As a part of a longer number, or behind a point, they
/// are something else.
pub fn codes_in(codes: &[String], text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let alone = |at: usize| {
        let before = text[..at].chars().next_back();
        let after = text[at + 6..].chars().next();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '.') && !after.is_some_and(char::is_alphanumeric)
    };
    codes.iter().filter(|code| text.match_indices(code.as_str()).any(|(at, _)| alone(at))).cloned().collect()
}

/// A CSRF token of one's own for a cookie, as the contract words it: `hex(nonce) "." hex(HMAC-SHA-256(key =
/// the cookie's value, nonce))`.
pub fn csrf_of(cookie: &str) -> String {
    csrf_with(cookie, &[7; 16])
}

/// The same with this nonce.
pub fn csrf_with(cookie: &str, nonce: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(cookie.as_bytes()).expect("any length");
    mac.update(nonce);
    format!("{}.{}", hex::encode(nonce), hex::encode(mac.finalize().into_bytes()))
}
