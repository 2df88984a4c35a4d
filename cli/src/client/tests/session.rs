use chrono::{DateTime, Utc};
use serde_json::json;

use super::{Canned, Reply, client, parse};
use crate::client::session::{Listed, SessionCommand, run, table};
use crate::client::{Command, ExitCode, Failure};

const ID: &str = "01990b7e-7a51-7cc2-9f0e-5a1d2c3b4e5f";
const OTHER: &str = "01990b7e-7a51-7cc2-9f0e-5a1d2c3b4e60";

fn command(words: &[&str]) -> SessionCommand {
    match parse(&[&["session"], words].concat()).expect("it parses").command {
        Command::Session(command) => command,
        other => panic!("{other:?}"),
    }
}

fn listed() -> Vec<Listed> {
    let device = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
    serde_json::from_value(json!([
        {
            "id": ID, "kind": "console_session", "method": "email_code", "address": "192.0.2.7",
            "user_agent": device, "started_at": "2026-01-01T10:00:00Z", "last_seen_at": "2026-01-03T07:00:00Z",
            "expires_at": "2026-01-17T07:00:00Z", "minted_by": null, "current": true,
        },
        {
            "id": OTHER, "kind": "command_line", "method": "command_line", "address": null, "user_agent": null,
            "started_at": "2025-12-31T10:00:00Z", "last_seen_at": null, "expires_at": "2026-01-30T10:00:00Z",
            "minted_by": ID, "current": false,
        },
    ]))
    .expect("sessions")
}

fn now() -> DateTime<Utc> {
    "2026-01-03T10:00:00Z".parse().expect("a time")
}

#[test]
fn sessions_are_shown_with_what_tells_them_apart() {
    let lines = table(&listed(), now(), None);
    assert_eq!(
        lines[1..],
        [
            format!(
                "{ID}  console session (this one)  192.0.2.7  2026-01-01  3 h ago    2026-01-17  \
                 Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
            ),
            format!("{OTHER}  command line                -          2025-12-31  -          2026-01-30  -"),
        ]
    );
}

#[test]
fn on_a_narrow_terminal_the_device_gives_way_and_ids_stay_whole() {
    for width in [80, 140] {
        let lines = table(&listed(), now(), Some(width));
        assert!(lines[1].contains(ID) && lines[1].ends_with('…'), "{lines:?}");
        assert!(lines[1].chars().count() <= usize::from(width.max(132)), "{lines:?}");
    }
    assert!(table(&listed(), now(), Some(300))[1].ends_with("Firefox/140.0"));
}

#[test]
fn either_an_id_is_given_or_all_others_are_meant() {
    for words in [&["end"][..], &["end", ID, "--others"], &["end", ID, OTHER]] {
        let error = parse(&[&["session"], words].concat()).expect_err("refused");
        assert_eq!(ExitCode::from(&error), ExitCode::BadInput, "{words:?}");
    }
    assert!(!format!("{:?}", command(&["end", "mul_pasted"])).contains("mul_pasted"));
}

/// Runs a command against prepared answers: what came of it, and what the server was asked.
async fn ran(words: &[&str], replies: impl IntoIterator<Item = Reply>) -> (Result<(), Failure>, Vec<String>) {
    let home = tempfile::tempdir().expect("a directory");
    let server = Canned::start(replies).await;
    let client = client(home.path(), &server.url, r#"{"token":"mul_secret"}"#);
    let outcome = run(&client, command(words)).await;
    (outcome, server.lines())
}

#[tokio::test]
async fn a_session_is_ended_by_its_id() {
    let none = Reply::new(200, r#"{"sessions":[]}"#);
    let replies = [none, Reply::new(204, "").header("X-Revocation", "effective")];
    let (outcome, lines) = ran(&["end", &ID.to_uppercase()], replies).await;
    outcome.expect("ended");
    assert_eq!(lines, ["GET /v1/sessions".to_owned(), format!("DELETE /v1/sessions/{ID}")]);
}

/// That the list cannot be had is no reason not to end a session.
#[tokio::test]
async fn a_session_is_ended_also_where_no_list_is_to_be_had() {
    let replies = [Reply::new(503, ""), Reply::new(204, "")];
    let (outcome, lines) = ran(&["end", ID], replies).await;
    outcome.expect("ended");
    assert_eq!(lines.len(), 2);
}

#[tokio::test]
async fn what_is_no_id_is_sent_nowhere_and_not_repeated() {
    let (outcome, lines) = ran(&["end", "mul_pasted"], []).await;
    let failure = outcome.expect_err("refused");
    assert_eq!(failure.exit_code(), ExitCode::BadInput);
    assert!(!failure.to_string().contains("mul_pasted") && lines.is_empty(), "{failure}");
}

#[tokio::test]
async fn all_others_are_ended_with_one_request() {
    let reply = Reply::new(200, &json!({ "ended": [ID, OTHER] }).to_string());
    let (outcome, lines) = ran(&["end", "--others"], [reply.header("X-Revocation", "effective")]).await;
    outcome.expect("ended");
    assert_eq!(lines, ["POST /v1/sessions/end-others"]);
}

#[tokio::test]
async fn an_ending_says_effective_only_if_the_server_does() {
    use crate::client::http::Call;
    use crate::client::session::Ending;
    let replies = [Reply::new(204, "").header("X-Revocation", "effective"), Reply::new(204, "")];
    let server = Canned::start(replies).await;
    let home = tempfile::tempdir().expect("a directory");
    let client = client(home.path(), &server.url, r#"{"token":"mul_secret"}"#);
    let mut told = Vec::new();
    for ended in [vec![ID.to_owned()], vec![ID.to_owned(), OTHER.to_owned()]] {
        let answer = client.server.send(Call::delete("/v1/sessions/x")).await.expect("an answer");
        told.push(Ending::of(ended, &answer).to_string());
        told.push(Ending::of(Vec::new(), &answer).to_string());
    }
    assert!(told[0].starts_with(&format!("Ended {ID}; effective everywhere in ")), "{told:?}");
    assert!(told[2].starts_with("Ended 2 sessions in ") && told[2].contains("did not say"), "{told:?}");
    for none in [&told[1], &told[3]] {
        assert_eq!(none, "There was no other session to end.");
    }
}
