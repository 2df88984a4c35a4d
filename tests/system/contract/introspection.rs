//! `/oauth/introspect` (RFC 7662): by whom it is asked, and what it says.

use reqwest::RequestBuilder;
use rstest::rstest;
use serde_json::{Value, json};
use tally_tests::{Client, Server};
use tokio::sync::OnceCell;

use crate::support::{
    UNKNOWN_TOKEN, address, client, delete, expect, now, oauth_error, past::Past, person, replica, same,
    shared,
};

const PATH: &str = "/oauth/introspect";
const SECRET: &str = "Sx+/2hunter2hunter2hunter2hunter2==";
const WHO: &str = "client authentication is required";

/// A replica that has a client.
async fn gateway() -> Client {
    static REPLICA: OnceCell<Server> = OnceCell::const_new();
    let clients = format!("other:of-another,gateway:{SECRET}");
    REPLICA.get_or_init(|| async { replica(&[("TALLY_OAUTH_CLIENTS", &clients)]).await }).await.client()
}

fn ask(client: &Client, token: &str) -> RequestBuilder {
    client.form(PATH, &[("token", token)]).basic_auth("gateway", Some(SECRET))
}

fn ask_each(client: &Client, tokens: &Value) -> RequestBuilder {
    client.post(PATH, tokens).basic_auth("gateway", Some(SECRET))
}

async fn said(token: &str) -> Value {
    expect(200, ask(&gateway().await, token)).await.json()
}

/// A good credential: whose it is, which it is, what kind, and when it ends.
#[tokio::test]
async fn a_good_credential_is_active_and_described() {
    let login = person("introspected").await;
    let user = login.user["id"].as_str().expect("an id");
    let (id, token) = client().await.mint(&login.token, "laptop").await;
    let active = |kind: &str, id: &str| json!({ "active": true, "sub": user, "jti": id, "token_type": "Bearer", "kind": kind });
    assert_eq!(said(&token).await, active("personal_access_token", &id));
    // A second time from memory.
    assert_eq!(said(&token).await, active("personal_access_token", &id));

    let me = expect(200, client().await.get("/v1/me").bearer_auth(&login.token)).await.json();
    let mut session = said(&login.token).await;
    let exp = session.as_object_mut().expect("an object").remove("exp").expect("a session ends");
    assert_eq!(session, active("session", me["credential_id"].as_str().expect("an id")));
    let days = (exp.as_i64().expect("seconds") - now().timestamp()) / 86_400;
    assert!((29..=30).contains(&days), "{days}");

    let console = client().await.open_console(&address("introspected-console")).await;
    let said = said(&console.access).await;
    assert_eq!((&said["active"], &said["kind"]), (&json!(true), &json!("console_session")));
    assert_eq!(said["jti"], console.id);
}

/// Malformed, unknown, expired, revoked, and of a suspended account: the same, and nothing else.
#[tokio::test]
async fn whatever_is_not_good_is_inactive_and_nothing_is_said_of_it() {
    let login = person("inactive").await;
    let here = gateway().await;
    let (_, expired) = Past::shifted(chrono::TimeDelta::days(-2)).await.mint(&login.token, Some(1)).await;
    let (id, revoked) = client().await.mint(&login.token, "revoked").await;
    assert_eq!(said(&revoked).await["active"], true);
    expect(204, delete(&client().await, &format!("/api/tokens/{id}"), &login.token)).await;
    let email = address("inactive-suspended");
    let suspended = client().await.login(&email).await;
    let output = shared().await.command(&["user", "suspend", &email]).output().expect("it runs");
    assert!(output.status.success());
    let refresh = client().await.open_console(&address("inactive-console")).await.refresh;
    let first = expect(200, ask(&here, "nonsense")).await;
    assert_eq!(first.json(), json!({ "active": false }));
    for token in ["a.b.c", "mul_", UNKNOWN_TOKEN, &expired, &revoked, &suspended.token, &refresh] {
        same(&expect(200, ask(&here, token)).await, &first);
    }
}

/// Only a client that the operator has configured may ask: no person, whatever they show.
#[tokio::test]
async fn only_a_configured_client_may_ask() {
    let here = gateway().await;
    let login = person("asks").await;
    let (_, token) = client().await.mint(&login.token, "laptop").await;
    let form = || here.form(PATH, &[("token", &token)]);
    let cookies = format!("multica_auth={}; multica_csrf={}", login.auth_cookie, login.csrf_cookie);
    for request in [
        form(),
        form().bearer_auth(&token),
        form().bearer_auth(&login.token),
        form().header("cookie", cookies).header("x-csrf-token", &login.csrf_cookie),
        form().basic_auth("gateway", Some("of-another")),
        form().basic_auth("nobody", Some(SECRET)),
        form().basic_auth("gateway", Some("")),
        here.form(PATH, &[("token", &token), ("client_id", "gateway"), ("client_secret", "wrong")]),
        here.form(PATH, &[("token", &token), ("client_secret", SECRET)]),
        here.form(PATH, &[("token", &token), ("client_id", "gateway")]),
        here.post(PATH, &json!([token])),
        here.post(PATH, &json!([token])).bearer_auth(&token),
    ] {
        oauth_error(401, "invalid_client", WHO, request).await;
    }
    // Where none is configured, nobody may.
    let nobody = client().await;
    oauth_error(401, "invalid_client", WHO, ask(&nobody, &token)).await;
}

/// By HTTP Basic, or by the form; not by both.
#[tokio::test]
async fn a_client_proves_itself_in_one_of_two_ways() {
    let here = gateway().await;
    let (_, token) = client().await.mint(&person("proves").await.token, "laptop").await;
    let pair = [("token", token.as_str()), ("client_id", "gateway"), ("client_secret", SECRET)];
    assert_eq!(expect(200, here.form(PATH, &pair)).await.json()["active"], true);
    let encoded = SECRET.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let request = here.form(PATH, &pair[..1]).basic_auth("gateway", Some(encoded));
    assert_eq!(expect(200, request).await.json()["active"], true);
    let both = here.form(PATH, &pair).basic_auth("gateway", Some(SECRET));
    oauth_error(400, "invalid_request", "the client is named in two ways", both).await;
}

/// As many as a hundred at once, answered in order.
#[tokio::test]
async fn an_array_is_answered_in_its_order() {
    let here = gateway().await;
    let login = person("array").await;
    let mut tokens = vec!["nonsense".to_owned(), UNKNOWN_TOKEN.to_owned()];
    let mut ids = vec![Value::Null, Value::Null];
    for name in ["one", "two", "three"] {
        let (id, token) = client().await.mint(&login.token, name).await;
        ids.push(json!(id));
        tokens.push(token);
    }
    tokens.push(tokens[2].clone());
    ids.push(ids[2].clone());
    let each = expect(200, ask_each(&here, &json!(tokens))).await.json();
    let told: Vec<Value> = each.as_array().expect("an array").iter().map(|one| one["jti"].clone()).collect();
    assert_eq!(told, ids);
    assert_eq!(each[0], json!({ "active": false }));

    assert_eq!(expect(200, ask_each(&here, &json!([]))).await.json(), json!([]));
    let hundred = expect(200, ask_each(&here, &json!(vec![&tokens[2]; 100]))).await.json();
    assert!(hundred.as_array().is_some_and(|all| all.len() == 100 && all.iter().all(|one| *one == each[2])));
    let more = ask_each(&here, &json!(vec![&tokens[2]; 101]));
    oauth_error(400, "invalid_request", "more than 100 tokens in one request", more).await;
}

/// What is wrong with a request is named.
#[rstest]
#[case::no_token(
    "application/x-www-form-urlencoded",
    "token_type_hint=access_token",
    400,
    "token is required"
)]
#[case::empty("application/x-www-form-urlencoded", "token=", 400, "token is required")]
#[case::twice("application/x-www-form-urlencoded", "token=a&token=b", 400, "token stands twice")]
#[case::object("application/json", r#"{"token":"a"}"#, 400, "invalid request body")]
#[case::number("application/json", "[1]", 400, "invalid request body")]
#[case::text(
    "text/plain",
    "token=a",
    415,
    "content type must be application/x-www-form-urlencoded, or application/json for an array"
)]
#[tokio::test]
async fn a_request_that_is_wrong_is_told_why(
    #[case] content_type: &'static str,
    #[case] body: &'static str,
    #[case] status: u16,
    #[case] words: &str,
) {
    let request = gateway().await.request(reqwest::Method::POST, PATH).basic_auth("gateway", Some(SECRET));
    let request = request.header("content-type", content_type).body(body);
    oauth_error(status, "invalid_request", words, request).await;
}

/// A service is no browser: a page may not read what it is told, and no preflight is answered.
#[tokio::test]
async fn no_page_may_read_it() {
    let here = gateway().await;
    let origin = "http://localhost:3000";
    let told = expect(200, ask(&here, "a").header("origin", origin)).await;
    assert_eq!(told.header("access-control-allow-origin"), None);
    assert_eq!(told.header("access-control-allow-credentials"), None);
    let preflight = here.request(reqwest::Method::OPTIONS, PATH).header("origin", origin);
    let preflight = preflight.header("access-control-request-method", "POST");
    oauth_error(405, "invalid_request", "method not allowed", preflight).await;
}

/// `/oauth` tells of unknown routes and methods in its own words too.
#[tokio::test]
async fn errors_have_the_form_of_the_family() {
    let here = gateway().await;
    oauth_error(404, "invalid_request", "not found", here.get("/oauth/nothing")).await;
    oauth_error(405, "invalid_request", "method not allowed", here.get(PATH)).await;
    let elsewhere = ask(&here, "a").header("origin", "https://elsewhere.example");
    oauth_error(403, "access_denied", "origin not allowed", elsewhere).await;
}
