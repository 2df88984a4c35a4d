use std::fs;

use tally_domain::credential::Plaintext;

use super::{Canned, Reply, client, saved};
use crate::client::login::{Session, User, keep_one, with_token};
use crate::client::settings::Key;
use crate::client::{ExitCode, Failure};

const ADA: &str = r#"{"id":"u-1","name":"Ada","email":"ada@example.org","avatar_url":null}"#;
const BOB: &str = r#"{"id":"u-2","name":"Bob","email":"bob@example.org"}"#;
const MINTED: &str = r#"{"id":"t-1","name":"CLI","token_prefix":"mul_new","token":"mul_new"}"#;
const OLD: &str = r#"{"token":"mul_old","workspace_id":"w","other":1}"#;

fn session() -> Session {
    let user = User { id: "u-1".to_owned(), name: "Ada".to_owned(), email: "ada@example.org".to_owned() };
    Session { token: Plaintext::new("jwt.jwt.jwt"), user }
}

fn yes(body: &str) -> Reply {
    Reply::new(200, body)
}

fn no() -> Reply {
    Reply::new(401, r#"{"error":"invalid token"}"#)
}

/// Logs Ada's session in over a profile, and tells the outcome, the requests and the profile's token.
async fn keep(profile: &str, replies: Vec<Reply>) -> (Result<(), Failure>, Vec<String>, Option<String>) {
    let home = tempfile::tempdir().expect("a directory");
    let server = Canned::start(replies).await;
    let mut client = client(home.path(), &server.url, profile);
    let outcome = keep_one(&mut client, &session()).await;
    let saved = saved(home.path());
    if outcome.is_ok() {
        assert_eq!(saved.get(Key::WorkspaceId), None, "the workspace is reset");
        assert_eq!(saved.get(Key::ServerUrl), Some(server.url.as_str()));
    }
    (outcome, server.lines(), saved.get(Key::Token).map(str::to_owned))
}

#[tokio::test]
async fn contract_without_a_token_one_is_minted_and_checked() {
    let (outcome, lines, token) =
        keep(r#"{"workspace_id":"w"}"#, vec![Reply::new(201, MINTED), yes(ADA)]).await;
    outcome.expect("kept");
    assert_eq!(lines, ["POST /api/tokens", "GET /api/me"]);
    assert_eq!(token.as_deref(), Some("mul_new"));
}

#[tokio::test]
async fn contract_a_valid_token_of_the_same_user_is_kept() {
    let (outcome, lines, token) = keep(OLD, vec![yes(ADA)]).await;
    outcome.expect("kept");
    assert_eq!(lines, ["GET /api/me"]);
    assert_eq!(token.as_deref(), Some("mul_old"));
}

#[tokio::test]
async fn an_invalid_token_and_somebody_elses_are_replaced() {
    for check in [no(), yes(BOB)] {
        let (outcome, lines, token) = keep(OLD, vec![check, Reply::new(201, MINTED), yes(ADA)]).await;
        outcome.expect("kept");
        assert_eq!(lines, ["GET /api/me", "POST /api/tokens", "GET /api/me"]);
        assert_eq!(token.as_deref(), Some("mul_new"));
    }
}

#[tokio::test]
async fn a_check_that_cannot_tell_mints_nothing() {
    let (outcome, lines, token) = keep(OLD, vec![Reply::new(503, "")]).await;
    assert!(outcome.is_err());
    assert_eq!(lines, ["GET /api/me"]);
    assert_eq!(token.as_deref(), Some("mul_old"));
}

#[tokio::test]
async fn a_minted_token_that_does_not_work_is_revoked_again() {
    let (outcome, lines, token) = keep("{}", vec![Reply::new(201, MINTED), no(), Reply::new(204, "")]).await;
    assert!(outcome.is_err());
    assert_eq!(lines, ["POST /api/tokens", "GET /api/me", "DELETE /api/tokens/t-1"]);
    assert_eq!(token, None);
}

#[tokio::test]
async fn the_token_of_another_host_is_not_shown_to_this_one() {
    let elsewhere = r#"{"server_url":"https://a.example","token":"mul_old"}"#;
    let (outcome, lines, token) = keep(elsewhere, vec![Reply::new(201, MINTED), yes(ADA)]).await;
    outcome.expect("kept");
    assert_eq!(lines, ["POST /api/tokens", "GET /api/me"]);
    assert_eq!(token.as_deref(), Some("mul_new"));
}

#[tokio::test]
async fn contract_the_minted_token_is_named_after_this_machine_for_90_days() {
    let home = tempfile::tempdir().expect("a directory");
    let server = Canned::start([Reply::new(201, MINTED), yes(ADA)]).await;
    let mut client = client(home.path(), &server.url, "{}");
    keep_one(&mut client, &session()).await.expect("kept");
    let asked = server.asked();
    let (head, body) = asked[0].split_once("\r\n\r\n").expect("a body");
    assert!(head.to_ascii_lowercase().contains("authorization: bearer jwt.jwt.jwt"), "{head}");
    let name = format!("CLI ({})", crate::client::machine::host_name());
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(body, serde_json::json!({ "name": name, "expires_in_days": 90 }));
}

#[tokio::test]
async fn contract_a_given_token_is_verified_before_it_is_saved() {
    let home = tempfile::tempdir().expect("a directory");
    let server = Canned::start([no(), yes(ADA)]).await;
    let mut client = client(home.path(), &server.url, OLD);
    let failure = with_token(&mut client, Plaintext::new("mul_given")).await.expect_err("refused");
    assert_eq!(failure.exit_code(), ExitCode::Auth);
    let file = home.path().join("tally/default.json");
    assert_eq!(fs::read_to_string(&file).expect("read"), OLD, "nothing was saved");
    with_token(&mut client, Plaintext::new("mul_given")).await.expect("kept");
    let text = fs::read_to_string(&file).expect("read");
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value, serde_json::json!({"server_url": server.url, "token": "mul_given", "other": 1}));
}

#[tokio::test]
async fn contract_a_token_of_another_form_is_refused_before_it_is_sent() {
    let home = tempfile::tempdir().expect("a directory");
    let server = Canned::start([yes(ADA)]).await;
    let mut client = client(home.path(), &server.url, OLD);
    for token in ["pak_x", "xmul_", "", "Bearer mul_x", "jwt.jwt.jwt"] {
        let failure = with_token(&mut client, Plaintext::new(token)).await.expect_err("refused");
        assert_eq!(failure.exit_code(), ExitCode::BadInput);
        assert!(failure.to_string().starts_with("invalid token format: must start with mul_ "), "{failure}");
    }
    assert!(server.lines().is_empty());
    with_token(&mut client, Plaintext::new("mul_a\nb")).await.expect_err("no header can carry it");
}
