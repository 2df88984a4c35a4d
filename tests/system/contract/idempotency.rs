//! *Idempotency-Key* on every POST that creates, per principal and route, 24 hours: another body is
//! 422, and a replayed mint never shows the plaintext again but is 409 with the id. That the 24 hours
//! end is shown where the log is tested.

use reqwest::{Method, RequestBuilder};
use rstest::rstest;
use serde_json::{Value, json};
use tally_tests::{Answer, Login, client::answer};

use crate::support::{by_cookie, client, delete, expect, fields, past::claims, person, refused};

/// A route that creates.
#[derive(Clone, Copy)]
struct Creates {
    path: &'static str,
    status: u16,
    /// The id of what an answer says was made.
    made: fn(&Value) -> String,
}

const TOKENS: Creates =
    Creates { path: "/api/tokens", status: 201, made: |body| body["id"].as_str().expect("an id").to_owned() };
const CLI_TOKEN: Creates = Creates {
    path: "/api/cli-token",
    status: 200,
    made: |body| {
        claims(body["token"].as_str().expect("a JWT"))["sid"].as_str().expect("a session").to_owned()
    },
};

fn body() -> Value {
    json!({ "name": "once" })
}

async fn create(creates: Creates, credential: &str, key: &str) -> RequestBuilder {
    let request = client().await.post(creates.path, &body());
    request.bearer_auth(credential).header("idempotency-key", key.to_owned())
}

/// 409 with the id of what was made, and nothing else of it.
fn replayed(answer: &Answer, made: &str) {
    assert_eq!(answer.status, 409, "{}", answer.text);
    let told = answer.json();
    assert_eq!(fields(&told), ["error", "id"]);
    assert_eq!(told["id"], made);
    let words = "this idempotency key was used before; what it made is shown by id, its secret never again";
    assert_eq!(told["error"], words);
}

#[rstest]
#[case(TOKENS)]
#[case(CLI_TOKEN)]
#[tokio::test]
async fn a_replay_is_409_with_the_id_and_never_the_plaintext(#[case] creates: Creates) {
    let login = person("replay").await;
    let first = expect(creates.status, create(creates, &login.token, "k").await).await.json();
    let made = (creates.made)(&first);
    for _ in 0..2 {
        replayed(&answer(create(creates, &login.token, "k").await).await, &made);
    }
    let token = first["token"].as_str().expect("a token");
    assert!(client().await.accepts(token).await, "what was made stays");
    let another = expect(creates.status, create(creates, &login.token, "another").await).await.json();
    assert_ne!((creates.made)(&another), made);
    assert_eq!(tokens(&login).await, if creates.path == TOKENS.path { 2 } else { 0 });
}

async fn tokens(login: &Login) -> usize {
    let listed = expect(200, client().await.get("/api/tokens").bearer_auth(&login.token)).await.json();
    listed.as_array().expect("a list").len()
}

#[tokio::test]
async fn another_body_or_query_is_422() {
    let (client, login) = (client().await, person("other-body").await);
    let words = "this idempotency key was used with another body";
    let send = |path: &str, body: Value| {
        client.post(path, &body).bearer_auth(&login.token).header("idempotency-key", "k")
    };
    let first = expect(201, send("/api/tokens", body())).await.json();
    refused(422, words, send("/api/tokens", json!({ "name": "twice" }))).await;
    refused(422, words, send("/api/tokens?x=1", body())).await;
    refused(422, words, send("/api/tokens", body()).header("x-workspace-id", "w")).await;
    // A body that would be refused is refused, key or no key.
    refused(400, "name is required", send("/api/tokens", json!({}))).await;
    assert_eq!(tokens(&login).await, 1);
    replayed(&answer(send("/api/tokens", body())).await, &(TOKENS.made)(&first));
    // With and without a trailing slash it is one route.
    replayed(&answer(send("/api/tokens/", body())).await, &(TOKENS.made)(&first));
}

#[tokio::test]
async fn keys_of_two_people_or_two_routes_never_meet() {
    let (ada, eve) = (person("ada").await, person("eve").await);
    let mut made = Vec::new();
    for (login, creates) in [(&ada, TOKENS), (&eve, TOKENS), (&ada, CLI_TOKEN), (&eve, CLI_TOKEN)] {
        let answer = expect(creates.status, create(creates, &login.token, "shared").await).await.json();
        made.push((creates.made)(&answer));
    }
    made.sort_unstable();
    made.dedup();
    assert_eq!(made.len(), 4);
}

/// A person is one principal, whatever credential they show: a retry by another session, or with a
/// token in place of the cookie, does not act twice.
#[tokio::test]
async fn a_person_is_one_principal_by_every_credential() {
    let (client, login) = (client().await, person("same").await);
    let (_, token) = client.mint(&login.token, "retries").await;
    let session = client.post("/api/cli-token", &json!({})).bearer_auth(&login.token);
    let session = expect(200, session).await.json()["token"].as_str().expect("a JWT").to_owned();
    let first = expect(201, create(TOKENS, &login.token, "k").await).await.json();
    let made = (TOKENS.made)(&first);
    for credential in [&token, &session] {
        replayed(&answer(create(TOKENS, credential, "k").await).await, &made);
    }
    let cookie = by_cookie(&client, Method::POST, "/api/tokens", &login, Some(&login.csrf_cookie));
    let cookie = cookie.json(&body()).header("idempotency-key", "k");
    replayed(&answer(cookie).await, &made);
}

/// Who may not act is not told what a key made.
#[tokio::test]
async fn a_key_opens_nothing() {
    let (client, login) = (client().await, person("ended").await);
    let (id, token) = client.mint(&login.token, "revoked").await;
    expect(201, create(TOKENS, &token, "k").await).await;
    expect(204, delete(&client, &format!("/api/tokens/{id}"), &login.token)).await;
    refused(401, "invalid token", create(TOKENS, &token, "k").await).await;
    let nobody = client.post("/api/tokens", &body()).header("idempotency-key", "k");
    refused(401, "missing authorization", nobody).await;
    let wrong = client.post("/api/tokens", &body()).header("idempotency-key", "");
    refused(401, "missing authorization", wrong).await;
    // Right key, right person, wrong kind of credential for the route.
    let (_, token) = client.mint(&login.token, "no session").await;
    expect(200, create(CLI_TOKEN, &login.token, "k").await).await;
    refused(403, "a session is required", create(CLI_TOKEN, &token, "k").await).await;
}

#[rstest]
#[case(TOKENS)]
#[case(CLI_TOKEN)]
#[tokio::test]
async fn a_key_has_1_to_255_printable_characters(#[case] creates: Creates) {
    let login = person("keys").await;
    let words = "Idempotency-Key must be 1 to 255 printable ASCII characters";
    for wrong in [String::new(), "k".repeat(256), "é".to_owned()] {
        refused(400, words, create(creates, &login.token, &wrong).await).await;
    }
    let twice = create(creates, &login.token, "k").await.header("idempotency-key", "k");
    refused(400, "Idempotency-Key is given twice", twice).await;
    expect(creates.status, create(creates, &login.token, &"k".repeat(255)).await).await;
}
