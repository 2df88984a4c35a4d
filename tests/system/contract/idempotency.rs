//! *Idempotency-Key* on every POST that creates, per principal and route, 24 hours: another body is
//! 422, and a replayed mint never shows the plaintext again but is 409 with the id. That the 24 hours
//! end is shown where the log is tested.

use std::collections::BTreeSet;

use futures::future::join_all;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tally_tests::{Answer, Login, client::answer};

use crate::support::{
    address, by_cookie, client, delete, document, expect, fields,
    past::claims,
    person, refused,
    team::{Team, slug, team},
};

/// A route that creates.
#[derive(Clone, Copy)]
struct Creates {
    path: &'static str,
    status: u16,
    body: fn() -> Value,
    /// The id of what an answer says was made.
    made: fn(&Value) -> String,
    /// What no answer but the first may hold.
    secret: Option<&'static str>,
}

const TOKENS: Creates = Creates {
    path: "/api/tokens",
    status: 201,
    body: || json!({ "name": "once" }),
    made: id,
    secret: Some("token"),
};
const CLI_TOKEN: Creates = Creates {
    path: "/api/cli-token",
    status: 200,
    body: || json!({}),
    made: |body| claims(text(body, "token"))["sid"].as_str().expect("a session").to_owned(),
    secret: Some("token"),
};
const WORKSPACES: Creates = Creates {
    path: "/api/workspaces",
    status: 201,
    body: || json!({ "name": "Once", "slug": slug() }),
    made: id,
    secret: None,
};
const MEMBERS: Creates = Creates {
    path: "/api/workspaces/{id}/members",
    status: 201,
    body: || json!({ "email": address("once") }),
    made: id,
    secret: None,
};
const SHARE_LINKS: Creates = Creates {
    path: "/api/workspaces/{id}/share-links",
    status: 201,
    body: || json!({ "max_uses": 1 }),
    made: id,
    secret: Some("code"),
};

const EVERY: [Creates; 5] = [TOKENS, CLI_TOKEN, WORKSPACES, MEMBERS, SHARE_LINKS];

fn id(body: &Value) -> String {
    text(body, "id").to_owned()
}

fn text<'a>(body: &'a Value, name: &str) -> &'a str {
    body[name].as_str().expect("a text")
}

async fn send(creates: Creates, team: &Team, body: &Value, key: &str) -> RequestBuilder {
    let path = creates.path.replace("{id}", &team.id);
    let request = team.client.post(&path, body).bearer_auth(&team.owner.token);
    request.header("idempotency-key", key.to_owned())
}

async fn create(creates: Creates, credential: &str, key: &str) -> RequestBuilder {
    let request = client().await.post(creates.path, &(creates.body)());
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

#[tokio::test]
async fn a_replay_is_409_with_the_id_and_never_the_plaintext() {
    join_all(EVERY.map(replay)).await;
}

async fn replay(creates: Creates) {
    let (team, body) = (team().await, (creates.body)());
    let first = expect(creates.status, send(creates, &team, &body, "k").await).await.json();
    let made = (creates.made)(&first);
    for _ in 0..2 {
        let again = answer(send(creates, &team, &body, "k").await).await;
        replayed(&again, &made);
        if let Some(secret) = creates.secret {
            assert!(!again.text.contains(text(&first, secret)), "{}", again.text);
        }
    }
    // Another key is another act.
    let another = expect(creates.status, send(creates, &team, &(creates.body)(), "another").await).await;
    assert_ne!((creates.made)(&another.json()), made);
}

/// What a key is good for is what the document says: each route that takes one is tried above.
#[test]
fn every_route_that_takes_a_key_is_tried() {
    let takes = |told: &Value| told["parameters"].to_string().contains("Idempotency-Key");
    let told: BTreeSet<&str> =
        document::paths().filter(|path| document::operations(path).any(|(_, told)| takes(told))).collect();
    assert_eq!(told, EVERY.map(|creates| creates.path).into());
}

#[tokio::test]
async fn what_was_made_stays_as_it_was() {
    let login = person("once").await;
    let first = expect(201, create(TOKENS, &login.token, "k").await).await.json();
    replayed(&answer(create(TOKENS, &login.token, "k").await).await, &id(&first));
    assert!(client().await.accepts(text(&first, "token")).await);
    assert_eq!(tokens(&login).await, 1);
    // The link that a replay speaks of is the active one still: nothing was made in its place.
    let (team, body) = (team().await, (SHARE_LINKS.body)());
    let link = expect(201, send(SHARE_LINKS, &team, &body, "k").await).await.json();
    replayed(&answer(send(SHARE_LINKS, &team, &body, "k").await).await, &id(&link));
    let active = expect(200, team.get("/share-links", &team.owner)).await.json();
    assert_eq!(active[0]["id"], link["id"]);
}

async fn tokens(login: &Login) -> usize {
    let listed = expect(200, client().await.get("/api/tokens").bearer_auth(&login.token)).await.json();
    listed.as_array().expect("a list").len()
}

#[tokio::test]
async fn another_body_or_query_is_422() {
    let (client, login) = (client().await, person("other-body").await);
    let words = "this idempotency key was used with another body";
    let body = TOKENS.body;
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
    replayed(&answer(send("/api/tokens", body())).await, &id(&first));
    // With and without a trailing slash it is one route.
    replayed(&answer(send("/api/tokens/", body())).await, &id(&first));
}

#[tokio::test]
async fn keys_of_two_people_two_routes_or_two_workspaces_never_meet() {
    let (ada, eve) = (person("ada").await, person("eve").await);
    let mut made = BTreeSet::new();
    for (login, creates) in [(&ada, TOKENS), (&eve, TOKENS), (&ada, CLI_TOKEN), (&eve, CLI_TOKEN)] {
        let answer = expect(creates.status, create(creates, &login.token, "shared").await).await.json();
        made.insert((creates.made)(&answer));
    }
    assert_eq!(made.len(), 4);
    // One person in two workspaces, with the same body.
    let (one, mut other) = (team().await, team().await);
    one.join(&other.owner, "owner").await;
    let body = (MEMBERS.body)();
    let first = expect(201, send(MEMBERS, &other, &body, "shared").await).await.json();
    other.id.clone_from(&one.id);
    let second = expect(201, send(MEMBERS, &other, &body, "shared").await).await.json();
    assert_ne!(first["id"], second["id"]);
}

/// A person is one principal, whatever credential they show: a retry by another session, or with a
/// token in place of the cookie, does not act twice.
#[tokio::test]
async fn a_person_is_one_principal_by_every_credential() {
    let (client, login) = (client().await, person("same").await);
    let (_, token) = client.mint(&login.token, "retries").await;
    let session = client.post("/api/cli-token", &json!({})).bearer_auth(&login.token);
    let session = text(&expect(200, session).await.json(), "token").to_owned();
    let first = expect(201, create(TOKENS, &login.token, "k").await).await.json();
    for credential in [&token, &session] {
        replayed(&answer(create(TOKENS, credential, "k").await).await, &id(&first));
    }
    let cookie = by_cookie(&client, Method::POST, "/api/tokens", &login, Some(&login.csrf_cookie));
    let cookie = cookie.json(&(TOKENS.body)()).header("idempotency-key", "k");
    replayed(&answer(cookie).await, &id(&first));
}

/// Who may not act is not told what a key made.
#[tokio::test]
async fn a_key_opens_nothing() {
    let (client, login) = (client().await, person("ended").await);
    let (token_id, token) = client.mint(&login.token, "revoked").await;
    expect(201, create(TOKENS, &token, "k").await).await;
    expect(204, delete(&client, &format!("/api/tokens/{token_id}"), &login.token)).await;
    refused(401, "invalid token", create(TOKENS, &token, "k").await).await;
    let nobody = client.post("/api/tokens", &(TOKENS.body)()).header("idempotency-key", "k");
    refused(401, "missing authorization", nobody).await;
    let wrong = client.post("/api/tokens", &(TOKENS.body)()).header("idempotency-key", "");
    refused(401, "missing authorization", wrong).await;
    // Right key, right person, wrong kind of credential for the route.
    let (_, token) = client.mint(&login.token, "no session").await;
    expect(200, create(CLI_TOKEN, &login.token, "k").await).await;
    refused(403, "a session is required", create(CLI_TOKEN, &token, "k").await).await;
    // Right key, right person, who is no longer what it took.
    let (team, body) = (team().await, (MEMBERS.body)());
    let admin = team.member("admin").await;
    let invite = || team.post("/members", &admin, &body).header("idempotency-key", "k");
    expect(201, invite()).await;
    let path = team.path_of(&admin).await;
    expect(200, team.patch(&path, &team.owner, &json!({ "role": "member" }))).await;
    refused(403, "insufficient permissions", invite()).await;
    expect(204, team.delete(&path, &team.owner)).await;
    refused(404, "workspace not found", invite()).await;
}

#[tokio::test]
async fn a_key_has_1_to_255_printable_characters() {
    join_all(EVERY.map(wrong_keys)).await;
}

async fn wrong_keys(creates: Creates) {
    let (team, body) = (team().await, (creates.body)());
    let words = "Idempotency-Key must be 1 to 255 printable ASCII characters";
    for wrong in [String::new(), "k".repeat(256), "é".to_owned(), "a\tb".to_owned()] {
        refused(400, words, send(creates, &team, &body, &wrong).await).await;
    }
    let twice = send(creates, &team, &body, "k").await.header("idempotency-key", "k");
    refused(400, "Idempotency-Key is given twice", twice).await;
    expect(creates.status, send(creates, &team, &body, &"k".repeat(255)).await).await;
}
