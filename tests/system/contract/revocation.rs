//! `/oauth/revoke` (RFC 7009): whoever holds a credential may end it.

use reqwest::RequestBuilder;
use rstest::rstest;
use serde_json::{Value, json};
use tally_tests::{Answer, Client, client::answer};

use super::console_sessions::forged;
use crate::support::{
    UNKNOWN_TOKEN, address, client, connection, delete, expect, now, oauth_error, past::claims, person,
    shared,
};

const PATH: &str = "/oauth/revoke";

fn revoke(client: &Client, token: &str) -> RequestBuilder {
    client.form(PATH, &[("token", token)])
}

fn revoke_line(client: &Client, token: &str) -> RequestBuilder {
    client.form(PATH, &[("token", token), ("line", "true")])
}

/// 200 with an empty body, and it is true everywhere.
async fn effective(request: RequestBuilder) -> Answer {
    let answer = expect(200, request).await;
    assert_eq!((answer.text.as_str(), answer.header("x-revocation")), ("", Some("effective")));
    assert!(answer.header("x-log-position").is_some());
    answer
}

/// Nothing else is shown, and the log says who did it and by what.
#[tokio::test]
async fn a_token_ends_itself() {
    let client = client().await;
    let login = person("leaked").await;
    let (id, token) = client.mint(&login.token, "leaked").await;
    let (_, other) = client.mint(&login.token, "other").await;
    let answer = effective(revoke(&client, &token)).await;
    assert!(!client.accepts(&token).await && client.accepts(&other).await);
    let position: i64 =
        answer.header("x-log-position").and_then(|text| text.parse().ok()).expect("a position");
    let said: Value = sqlx::query_scalar(
        "select json_build_object('name', name, 'stream', stream_id, 'kind', actor_kind, 'actor', actor_id,
                                  'credential', credential_id)
           from event where position = $1",
    )
    .bind(position)
    .fetch_one(&mut connection().await)
    .await
    .expect("the event");
    let user = &login.user["id"];
    let expected =
        json!({ "name": "token.revoked", "stream": id, "kind": "person", "actor": user, "credential": id });
    assert_eq!(said, expected);
    // Again it is so already, and that is told when it is true everywhere.
    effective(revoke(&client, &token)).await;
    let count = "select count(*) from event where stream_id = $1::uuid and name = 'token.revoked'";
    let revoked: i64 =
        sqlx::query_scalar(count).bind(&id).fetch_one(&mut connection().await).await.expect("a count");
    assert_eq!(revoked, 1);
}

/// RFC 7009 section 2.2: there is nothing to end, and that is no error.
#[tokio::test]
async fn what_is_no_credential_answers_the_same_and_nothing_happens() {
    let client = client().await;
    let forged = {
        let real = person("forged").await.token;
        let (signed, signature) = real.rsplit_once('.').expect("a signature");
        let reversed: String = signature.chars().rev().collect();
        format!("{signed}.{reversed}")
    };
    for token in ["nonsense", "mul_short", UNKNOWN_TOKEN, "a.b.c", forged.as_str()] {
        let answer = expect(200, revoke(&client, token)).await;
        assert_eq!((answer.text.as_str(), answer.header("x-revocation")), ("", None), "{token}");
    }
}

/// What a leaked token has minted goes with it, if that is asked for: what a thief made of it.
#[tokio::test]
async fn the_line_goes_with_it_when_asked_for() {
    let client = client().await;
    let login = person("line").await;
    let (_, root) = client.mint(&login.token, "root").await;
    let (_, child) = client.mint(&root, "child").await;
    let (_, grandchild) = client.mint(&child, "grandchild").await;
    let (_, beside) = client.mint(&login.token, "beside").await;
    effective(revoke_line(&client, &child)).await;
    for (token, good) in [(&root, true), (&child, false), (&grandchild, false), (&beside, true)] {
        assert_eq!(client.accepts(token).await, good);
    }
    // Also of one that is dead already: whoever was told nothing asks again, and what is then said is true.
    let (_, kept) = client.mint(&root, "kept").await;
    effective(revoke(&client, &root)).await;
    assert!(client.accepts(&kept).await);
    effective(revoke_line(&client, &root)).await;
    assert!(!client.accepts(&kept).await);
}

/// A session's JWT ends the session, and with `line` what it minted.
#[tokio::test]
async fn a_jwt_ends_its_session() {
    let client = client().await;
    let email = address("revoked-session");
    let login = client.login(&email).await;
    let (_, token) = client.mint(&login.token, "laptop").await;
    effective(revoke(&client, &login.token)).await;
    assert!(!client.accepts(&login.token).await && client.accepts(&token).await);
    effective(revoke(&client, &login.token)).await;

    let login = person("revoked-session-line").await;
    let (_, token) = client.mint(&login.token, "laptop").await;
    effective(revoke_line(&client, &login.token)).await;
    assert!(!client.accepts(&login.token).await && !client.accepts(&token).await);

    // The session is dead, and its line is not.
    let login = person("revoked-session-twice").await;
    let (_, token) = client.mint(&login.token, "laptop").await;
    effective(revoke(&client, &login.token)).await;
    assert!(client.accepts(&token).await);
    effective(revoke_line(&client, &login.token)).await;
    assert!(!client.accepts(&token).await);
}

/// Nobody is told that a line is dead that is not.
#[tokio::test]
async fn what_does_not_speak_for_a_line_says_so() {
    let client = client().await;
    let console = client.open_console(&address("revoked-lineless")).await;
    let mut over = claims(&console.access);
    over["exp"] = json!(now().timestamp() - 1);
    let expired = forged(&over).await;
    for shown in [&expired, &console.refresh] {
        let answer = expect(400, revoke_line(&client, shown)).await;
        assert!(answer.text.contains("ends its session alone"), "{}", answer.text);
    }
    assert!(client.accepts(&console.access).await);
    effective(revoke(&client, &expired)).await;
    assert!(!client.accepts(&console.access).await);
}

/// A refresh token ends the session it carries on, whatever its kind is guessed to be.
#[tokio::test]
async fn a_refresh_token_ends_its_session() {
    let client = client().await;
    for hint in ["refresh_token", "access_token", "nonsense"] {
        let console = client.open_console(&address("revoked-refresh")).await;
        effective(client.form(PATH, &[("token", &console.refresh), ("token_type_hint", hint)])).await;
        assert!(!client.accepts(&console.access).await);
        assert_eq!(answer(client.refresh(&console)).await.status, 401);
    }
    let console = client.open_console(&address("revoked-access")).await;
    effective(revoke(&client, &console.access)).await;
    assert_eq!(answer(client.refresh(&console)).await.status, 401);
}

/// A suspended person's leaked token ends for good: it does not come back with the person.
#[tokio::test]
async fn a_token_of_a_suspended_account_is_ended_too() {
    let client = client().await;
    let email = address("revoked-suspended");
    let login = client.login(&email).await;
    let (id, token) = client.mint(&login.token, "laptop").await;
    let output = shared().await.command(&["user", "suspend", &email]).output().expect("it runs");
    assert!(output.status.success());
    effective(revoke(&client, &token)).await;
    let revoked: i64 = sqlx::query_scalar(
        "select count(*) from event where stream_id = $1::uuid and name = 'token.revoked'",
    )
    .bind(&id)
    .fetch_one(&mut connection().await)
    .await
    .expect("a count");
    assert_eq!(revoked, 1);
}

/// A credential beside it is not looked at, and ends nothing.
#[tokio::test]
async fn what_else_is_shown_does_not_count() {
    let client = client().await;
    let login = person("beside").await;
    let (_, token) = client.mint(&login.token, "laptop").await;
    let cookies = format!("multica_auth={}", login.auth_cookie);
    effective(revoke(&client, &token).header("cookie", &cookies).bearer_auth("nonsense")).await;
    let request = client.form(PATH, &[("line", "true")]).header("cookie", cookies).bearer_auth(&login.token);
    oauth_error(400, "invalid_request", "token is required", request).await;
    assert!(client.accepts(&login.token).await);
    expect(204, delete(&client, "/v1/sessions/current", &login.token)).await;
}

/// What is wrong with a request is named.
#[rstest]
#[case::twice("application/x-www-form-urlencoded", "token=a&token=b", 400, "token stands twice")]
#[case::line("application/x-www-form-urlencoded", "token=a&line=yes", 400, "line must be true or false")]
#[case::json(
    "application/json",
    r#"{"token":"a"}"#,
    415,
    "content type must be application/x-www-form-urlencoded"
)]
#[tokio::test]
async fn a_request_that_is_wrong_is_told_why(
    #[case] content_type: &'static str,
    #[case] body: &'static str,
    #[case] status: u16,
    #[case] words: &str,
) {
    let request = client().await.request(reqwest::Method::POST, PATH);
    oauth_error(status, "invalid_request", words, request.header("content-type", content_type).body(body))
        .await;
}
