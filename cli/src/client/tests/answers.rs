use rstest::rstest;

use super::{Canned, Reply, client};
use crate::client::http::Call;
use crate::client::token::Revocation;
use crate::client::{Client, ExitCode, Failure};

const PROFILE: &str = r#"{"token":"mul_secret"}"#;

/// One request with the profile's token, and what came of it.
async fn ask(reply: Reply) -> (Failure, Canned) {
    let home = tempfile::tempdir().expect("a directory");
    let server = Canned::start([reply]).await;
    let client = client(home.path(), &server.url, PROFILE);
    let call = Call::get("/v1/me").token(client.token().expect("a token"));
    let failure = match client.server.send(call).await {
        Ok(answer) => answer.json::<Vec<String>>().expect_err("refused"),
        Err(failure) => failure,
    };
    let shown = format!("{failure} {failure:?}");
    assert!(!shown.contains("mul_secret"), "{shown}");
    (failure, server)
}

#[rstest]
#[case(400, ExitCode::BadInput)]
#[case(401, ExitCode::Auth)]
#[case(403, ExitCode::Auth)]
#[case(404, ExitCode::NotFound)]
#[case(409, ExitCode::Other)]
#[case(422, ExitCode::BadInput)]
#[case(429, ExitCode::Other)]
#[case(500, ExitCode::Other)]
#[case(503, ExitCode::Other)]
#[tokio::test]
async fn contract_a_status_becomes_an_exit_code(#[case] status: u16, #[case] code: ExitCode) {
    let (failure, _) = ask(Reply::new(status, r#"{"error":"so it is"}"#)).await;
    assert_eq!(failure.exit_code(), code);
    let text = failure.to_string();
    assert!(text.starts_with("so it is"), "{text}");
    assert_eq!(text.contains("run `tally login`"), code == ExitCode::Auth, "{text}");
}

#[tokio::test]
async fn contract_problem_documents_are_told_with_their_request_id() {
    let body = r#"{"title":"Scope missing","detail":"the token needs audit","code":"x","request_id":"r-1"}"#;
    let (failure, _) = ask(Reply::new(403, body)).await;
    let told =
        "Scope missing: the token needs audit; to act as somebody else, run `tally login` (request r-1)";
    assert_eq!(failure.to_string(), told);
}

#[tokio::test]
async fn the_request_id_is_also_taken_from_the_header() {
    let (failure, _) = ask(Reply::new(500, "<html>mul_secret</html>").header("X-Request-ID", "r-2")).await;
    assert_eq!(failure.to_string(), "the server answered 500 Internal Server Error (request r-2)");
}

#[tokio::test]
async fn contract_too_many_requests_says_how_long_to_wait() {
    let reply = Reply::new(429, r#"{"error":"please wait"}"#).header("Retry-After", "75");
    assert_eq!(ask(reply).await.0.to_string(), "please wait; try again in 1m 15s");
    let reply = Reply::new(429, r#"{"error":"please wait","retry_after_seconds":9}"#);
    assert_eq!(ask(reply).await.0.to_string(), "please wait; try again in 9s");
}

#[tokio::test]
async fn a_message_stays_on_one_line_and_off_the_terminal() {
    let (failure, _) = ask(Reply::new(400, r#"{"error":"a\nb\u001b[2J"}"#)).await;
    assert_eq!(failure.to_string(), "a\u{fffd}b\u{fffd}[2J");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (failure, server) = ask(Reply::new(302, "").header("Location", "http://127.0.0.1:1/x")).await;
    assert_eq!(failure.exit_code(), ExitCode::Other);
    assert!(failure.to_string().contains("redirects to http://127.0.0.1:1/x"), "{failure}");
    assert_eq!(server.lines(), ["GET /v1/me"]);
}

#[tokio::test]
async fn a_body_of_another_shape_is_not_quoted() {
    let (failure, _) = ask(Reply::new(200, r#"{"token":"mul_secret"}"#)).await;
    assert_eq!(failure.exit_code(), ExitCode::Other);
    assert!(failure.to_string().contains("does not answer as a Tallystick server does"), "{failure}");
}

#[tokio::test]
async fn contract_who_cannot_be_reached_is_a_network_failure_that_names_the_url() {
    let home = tempfile::tempdir().expect("a directory");
    let nobody = tally_tests::Port::new();
    let url = format!("http://{}", nobody.address());
    let client = client(home.path(), &url, PROFILE);
    let failure = client.server.send(Call::delete("/api/tokens/x")).await.err().expect("refused");
    assert_eq!(failure.exit_code(), ExitCode::Network);
    assert!(matches!(failure, Failure::Unreachable { .. }) && failure.is_passing());
    assert!(failure.to_string().contains(&url) && failure.to_string().contains("refused"), "{failure}");
}

/// The listener takes the request and hangs up.
#[tokio::test]
async fn a_change_that_was_sent_but_not_answered_is_told_as_unknown() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut byte = [0; 1];
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut byte).await;
        }
    });
    let home = tempfile::tempdir().expect("a directory");
    let client = client(home.path(), &url, PROFILE);
    let failure = client.server.send(Call::delete("/api/tokens/x")).await.err().expect("lost");
    assert!(matches!(failure, Failure::Unknown { .. }), "{failure}");
    assert_eq!(failure.exit_code(), ExitCode::Network);
}

#[tokio::test]
async fn a_request_carries_the_token_and_the_version() {
    let (_, server) = ask(Reply::new(200, "{}")).await;
    let asked = server.asked().remove(0).to_ascii_lowercase();
    assert!(asked.contains("\r\nauthorization: bearer mul_secret\r\n"), "{asked}");
    assert!(asked.contains(concat!("\r\nuser-agent: tally/", env!("CARGO_PKG_VERSION"), "\r\n")), "{asked}");
    assert!(!asked.contains("x-min-position"), "{asked}");
}

async fn send(client: &Client, call: Call<'_>) {
    client.server.send(call).await.expect("an answer");
}

#[tokio::test]
async fn contract_reads_after_a_change_ask_for_its_position() {
    let at = |position| Reply::new(200, "{}").header("X-Log-Position", position);
    let server = Canned::start([at("900"), at("41"), at("7"), at("900"), at("900")]).await;
    let home = tempfile::tempdir().expect("a directory");
    let client = client(home.path(), &server.url, PROFILE);
    // A read's own position is how far it happened to see, not a change of ours.
    send(&client, Call::get("/0")).await;
    send(&client, Call::post("/1")).await;
    send(&client, Call::post("/2")).await;
    send(&client, Call::get("/3")).await;
    send(&client, Call::post("/4")).await;
    let positions: Vec<_> = server
        .asked()
        .iter()
        .map(|text| text.lines().find_map(|line| line.strip_prefix("x-min-position: ").map(str::to_owned)))
        .collect();
    assert_eq!(positions, [None, None, None, Some("41".to_owned()), None]);
}

#[tokio::test]
async fn a_revocation_says_effective_only_if_the_server_does() {
    let effective = |acknowledged| {
        let reply = Reply::new(204, "").header("X-Revocation", "effective");
        reply.header("X-Revocation-Acknowledged", acknowledged)
    };
    let replies = [
        Reply::new(204, "").header("X-Revocation", "effective"),
        Reply::new(204, ""),
        Reply::new(204, "").header("X-Revocation", "pending"),
        effective("3/3"),
        effective("1/1"),
        effective("2/3"),
        effective("all of them"),
    ];
    let server = Canned::start(replies).await;
    let home = tempfile::tempdir().expect("a directory");
    let client = client(home.path(), &server.url, PROFILE);
    let token = client.token().expect("a token");
    let mut told = Vec::new();
    for line in [false, true, false, true, false, false, false] {
        told.push(Revocation::of(&client, token, "id-1", line).await.expect("revoked").to_string());
    }
    assert!(
        told[0].starts_with("Revoked id-1; effective everywhere in ") && told[0].ends_with(" ms."),
        "{told:?}"
    );
    assert!(told[1].starts_with("Revoked id-1 with its whole line in "), "{told:?}");
    assert!(told[1].contains("did not say") && told[2].contains("did not say"), "{told:?}");
    assert!(told[3].starts_with("Revoked id-1 with its whole line; effective everywhere in "), "{told:?}");
    assert!(told[3].ends_with(" ms, acknowledged by 3 of 3 replicas."), "{told:?}");
    assert!(told[4].ends_with(" ms, acknowledged by 1 of 1 replica."), "{told:?}");
    let by_time = " ms, acknowledged by 2 of 3 replicas; by time with the rest, whose leases are over.";
    assert!(told[5].ends_with(by_time), "{told:?}");
    assert!(told[6].ends_with(" ms."), "{told:?}");
    assert_eq!(server.lines()[..2], ["DELETE /api/tokens/id-1", "DELETE /api/tokens/id-1?line=true"]);
}
