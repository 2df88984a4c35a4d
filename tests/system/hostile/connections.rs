//! Clients that connect and do not speak.

use std::time::{Duration, Instant};

use tally_tests::client::answer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{assert_calm, server, somebody};

const CONNECTIONS: usize = 200;

#[tokio::test]
async fn silent_and_half_spoken_connections_stop_nobody() {
    let (client, login) = somebody().await;
    let address = server().await.url().trim_start_matches("http://").to_owned();
    let beginnings: [&[u8]; 5] = [
        b"",
        b"G",
        b"GET /api/me HTTP/1.1\r\nHost: tal",
        b"POST /auth/send-code HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"email\":",
        b"POST /auth/verify-code HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n{",
    ];
    let mut held = Vec::new();
    for index in 0..CONNECTIONS {
        let mut connection = TcpStream::connect(&address).await.expect("the server listens");
        connection.write_all(beginnings[index % beginnings.len()]).await.expect("the server reads");
        held.push(connection);
    }
    let started = Instant::now();
    for _ in 0..20 {
        assert_eq!(answer(client.get("/api/me").bearer_auth(&login.token)).await.status, 200);
        assert_eq!(answer(client.get("/readyz")).await.status, 200);
    }
    client.login(&crate::support::address("beside")).await;
    assert!(started.elapsed() < Duration::from_secs(10), "others waited {:?}", started.elapsed());
    drop(held);
    assert_calm().await;
}

/// Says something, then nothing, and reads what the server makes of that until it hangs up.
async fn fallen_silent(beginning: &[u8]) -> String {
    let address = server().await.url().trim_start_matches("http://").to_owned();
    let mut connection = TcpStream::connect(address).await.expect("the server listens");
    connection.write_all(beginning).await.expect("the server reads");
    let mut said = Vec::new();
    let ended = timeout(Duration::from_secs(30), connection.read_to_end(&mut said)).await;
    ended.expect("the server hangs up").expect("it hangs up in order");
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn who_says_nothing_more_is_hung_up_on() {
    let body = b"POST /auth/send-code HTTP/1.1\r\nHost: tally\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{";
    let (nothing, head, body) =
        tokio::join!(fallen_silent(b""), fallen_silent(b"GET /api/me HTTP/1.1\r\nHo"), fallen_silent(body));
    assert_eq!(nothing, "");
    assert!(head.is_empty() || head.starts_with("HTTP/1.1 408"), "{head}");
    assert!(body.starts_with("HTTP/1.1 408"), "{body}");
    assert!(body.contains("the request body did not come in time"), "{body}");
    assert_calm().await;
}
