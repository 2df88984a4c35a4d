//! What nobody should send, and what it must not do.
//!
//! These tests share a server of their own, and each ends with [`assert_calm`]: none of it was a
//! failure of the server, so its log holds neither a 5xx nor a panic.

mod audit_parameters;
mod bodies;
mod connections;
mod console;
mod credentials;
mod cross_site;
mod issuers;
mod jwt;
mod neighbours;
mod paths;
mod positions;
mod settings;
mod suspension;

use std::time::Duration;

use serde_json::{Value, json};
use tally_tests::{Answer, Client, Login, Server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::OnceCell,
    time::timeout,
};

use crate::support::{BINARY, address};

/// Where an allowed browser application lives.
const ORIGIN: &str = "https://app.example.org";

async fn server() -> &'static Server {
    static SERVER: OnceCell<Server> = OnceCell::const_new();
    SERVER.get_or_init(|| Server::start(BINARY, &[("FRONTEND_ORIGIN", ORIGIN), ("APP_ENV", "test")])).await
}

/// A client of that server, and somebody who has logged in there.
async fn somebody() -> (Client, Login) {
    let client = server().await.client();
    let login = client.login(&address("hostile")).await;
    (client, login)
}

/// Nothing in the log says that the server failed. That it was too busy may be said.
async fn assert_calm() {
    for line in server().await.log().lines() {
        assert!(!line.contains("panicked"), "{line}");
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        assert_ne!(line["level"], "ERROR", "{line}");
        let status = line["http.status"].as_u64().unwrap_or_default();
        assert!(status < 500 || status == 503, "{line}");
    }
}

/// The refusal of `/api` and `/auth`: this sentence and nothing else.
#[track_caller]
fn assert_error(answer: &Answer, status: u16, sentence: &str, about: &str) {
    assert_eq!(answer.status, status, "{about}: {}", answer.text);
    assert_eq!(answer.json(), json!({ "error": sentence }), "{about}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{about}");
}

/// The refusal of `/v1`: a problem document (RFC 9457).
#[track_caller]
fn assert_problem(answer: &Answer, status: u16, code: &str, detail: &str, about: &str) {
    assert_eq!(answer.status, status, "{about}: {}", answer.text);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{about}");
    let body = answer.json();
    assert_eq!(body["status"], status, "{about}");
    assert_eq!(body["code"], code, "{about}");
    assert_eq!(body["detail"], detail, "{about}");
    assert_eq!(body["request_id"].as_str(), answer.header("x-request-id"), "{about}");
}

/// Everything that came back for bytes as they are: what a client library would tidy up is left alone.
struct Raw {
    /// None when the connection was closed without an answer.
    status: Option<u16>,
    text: String,
}

/// Sends bytes on a connection of their own and reads to its end.
async fn raw(bytes: &[u8]) -> Raw {
    let address = server().await.url().trim_start_matches("http://");
    let (mut from, mut to) = TcpStream::connect(address).await.expect("the server listens").into_split();
    // A server that has read enough closes; what it said before counts, so both ends go at once.
    let bytes = bytes.to_vec();
    let writing = tokio::spawn(async move {
        let sent = to.write_all(&bytes).await;
        (to, sent.is_ok())
    });
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(20), async {
        let mut chunk = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut chunk).await {
            answer.extend_from_slice(&chunk[..length]);
        }
    });
    let shown = |answer: &[u8]| String::from_utf8_lossy(answer).into_owned();
    assert!(read.await.is_ok(), "the server keeps the connection: {}", shown(&answer));
    writing.abort();
    let text = shown(&answer);
    let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    Raw { status, text }
}

/// A request line and headers; the connection is closed after the answer.
async fn raw_request(line: &str, headers: &[(&str, &str)]) -> Raw {
    let mut text = format!("{line} HTTP/1.1\r\nHost: tally\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    raw(text.as_bytes()).await
}
