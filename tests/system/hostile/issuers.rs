//! Issuers that are not what they should be: whatever they do, nobody is let in and nobody waits long.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;
use tally_tests::{Server, client::answer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::sleep,
};

use super::assert_error;
use crate::support::issuers::{provider, replica_with, sent_to_login};

/// A page that answers as no issuer should. What it does stands in the path.
struct Impostor {
    url: String,
    task: JoinHandle<()>,
}

impl Impostor {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let task = tokio::spawn({
            let url = url.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, url.clone()));
                }
            }
        });
        Self { url, task }
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The metadata of an issuer, as it should be but for what a test makes of it.
fn metadata(issuer: &str) -> serde_json::Value {
    json!({
        "issuer": issuer, "authorization_endpoint": format!("{issuer}/auth"), "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks"), "response_types_supported": ["code"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    })
}

async fn serve(mut stream: TcpStream, url: String) {
    let mut request = vec![0; 4096];
    let length = stream.read(&mut request).await.unwrap_or_default();
    let request = String::from_utf8_lossy(&request[..length]).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default();
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let (kind, rest) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let issuer = format!("{url}/{kind}");
    let json = |body: String| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    let answer = match (kind, rest) {
        ("silent", _) => {
            sleep(Duration::from_secs(120)).await;
            String::new()
        }
        // Whoever goes there finds a good one.
        ("elsewhere", _) if !rest.starts_with("there/") => format!(
            "HTTP/1.1 302 Found\r\nLocation: {issuer}/there/{rest}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ),
        ("elsewhere", "there/.well-known/openid-configuration") => json(metadata(&issuer).to_string()),
        ("huge", ".well-known/openid-configuration") => {
            let mut metadata = metadata(&issuer);
            metadata["padding"] = json!("x".repeat(300 * 1024));
            json(metadata.to_string())
        }
        ("endless", _) => {
            let head =
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
            let _ = stream.write_all(head.as_bytes()).await;
            while stream.write_all(b"4\r\n    \r\n").await.is_ok() {
                sleep(Duration::from_millis(100)).await;
            }
            String::new()
        }
        ("page", _) => {
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\nConnection: close\r\n\r\n<p/>"
                .to_owned()
        }
        ("named-otherwise", ".well-known/openid-configuration") => {
            json(metadata(&format!("{url}/good")).to_string())
        }
        ("without-exchange", ".well-known/openid-configuration") => {
            let mut metadata = metadata(&issuer);
            metadata.as_object_mut().expect("an object").remove("token_endpoint");
            json(metadata.to_string())
        }
        ("script", ".well-known/openid-configuration") => {
            let mut metadata = metadata(&issuer);
            metadata["authorization_endpoint"] = json!("javascript:alert(1)");
            json(metadata.to_string())
        }
        (_, ".well-known/openid-configuration") => json(metadata(&issuer).to_string()),
        (_, "jwks" | "there/jwks") => json(json!({ "keys": [] }).to_string()),
        _ => "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
    };
    let _ = stream.write_all(answer.as_bytes()).await;
}

const KINDS: [&str; 9] = [
    "good",
    "silent",
    "elsewhere",
    "huge",
    "endless",
    "page",
    "named-otherwise",
    "without-exchange",
    "script",
];

async fn server_for(impostor: &Impostor) -> Server {
    let providers = KINDS.map(|kind| provider(kind, &format!("{}/{kind}", impostor.url)));
    replica_with(&providers, &[]).await
}

#[tokio::test]
async fn an_issuer_that_is_none_is_not_gone_to() {
    let impostor = Impostor::start().await;
    let server = server_for(&impostor).await;
    let client = server.client();
    for kind in KINDS {
        let began = Instant::now();
        let answer = answer(client.get(&format!("/auth/oidc/{kind}"))).await;
        // What this proves of the others: that they fail by what they do.
        if kind == "good" {
            assert!(
                answer
                    .header("location")
                    .expect("a place")
                    .starts_with(&format!("{}/good/auth", impostor.url))
            );
        } else {
            sent_to_login(&answer, "provider_unavailable");
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{kind}: {:?}", began.elapsed());
    }
    let said = server.log();
    for kind in &KINDS[1..] {
        let told =
            said.lines().any(|line| line.contains("\"WARN\"") && line.contains(&format!("\"{kind}\"")));
        assert!(told, "the log tells of {kind}");
    }
}

/// Who waits behind the first one shares what it finds: nobody waits for a silent issuer twice.
#[tokio::test]
async fn a_crowd_at_a_silent_issuer_waits_once() {
    let impostor = Impostor::start().await;
    let server = server_for(&impostor).await;
    let client = server.client();
    let began = Instant::now();
    let answers = join_all((0..32).map(|_| answer(client.get("/auth/oidc/silent")))).await;
    for answer in &answers {
        sent_to_login(answer, "provider_unavailable");
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    // The others are not kept.
    assert!(
        answer(client.get("/auth/oidc/good"))
            .await
            .header("location")
            .expect("a place")
            .contains("/good/auth")
    );
}

/// `/auth/google` believes no impostor either.
#[tokio::test]
async fn google_by_an_impostor_is_502() {
    let impostor = Impostor::start().await;
    for kind in ["good", "elsewhere", "page"] {
        let server = replica_with(&[provider("google", &format!("{}/{kind}", impostor.url))], &[]).await;
        let answer = answer(server.client().post("/auth/google", &json!({ "code": "x" }))).await;
        assert_error(&answer, 502, "Google does not answer", kind);
    }
}
