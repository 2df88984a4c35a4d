//! Many at once: one winner, exact counts, and no acceptance after a revocation was answered.
//!
//! What happened is read from the log itself, through the embedded database's socket.

mod revocation;
mod sessions;

use std::{collections::BTreeMap, sync::Arc};

use futures::future::join_all;
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use tally_tests::{Answer, Client, Login, Server, client::answer};
use tokio::sync::{Barrier, Mutex, MutexGuard, OnceCell};

use crate::support::{BINARY, address, connection_to};

/// A server of these tests' own: their load is nobody else's wait.
async fn server() -> &'static Server {
    static SERVER: OnceCell<Server> = OnceCell::const_new();
    SERVER.get_or_init(|| Server::start(BINARY, &[])).await
}

/// One race at a time: what is raced for is a stream or a verdict, not this machine's processors.
async fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

async fn somebody(name: &str) -> (Client, Login) {
    let client = server().await.client();
    let login = client.login(&address(name)).await;
    (client, login)
}

/// Sends all of them at one moment, each on a connection of its own.
async fn at_once(requests: Vec<RequestBuilder>) -> Vec<Answer> {
    let start = Arc::new(Barrier::new(requests.len()));
    let tasks = requests.into_iter().map(|request| {
        let start = start.clone();
        tokio::spawn(async move {
            start.wait().await;
            answer(request).await
        })
    });
    join_all(tasks).await.into_iter().map(|done| done.expect("a task ends")).collect()
}

fn count(answers: &[Answer]) -> BTreeMap<u16, usize> {
    answers.iter().fold(BTreeMap::new(), |mut counts, answer| {
        *counts.entry(answer.status).or_default() += 1;
        counts
    })
}

/// How often each event stands in the stream that a request wrote to.
async fn events_of_stream(request_id: &str) -> BTreeMap<String, i64> {
    let mut database = connection_to(server().await).await;
    let counts: Vec<(String, i64)> = sqlx::query_as(
        "select name, count(*) from event
         where stream_id = (select stream_id from event where request_id = $1::uuid) group by name",
    )
    .bind(request_id)
    .fetch_all(&mut database)
    .await
    .expect("the log is there");
    counts.into_iter().collect()
}

/// How often an event stands in the log with a field of this value.
async fn events_with(name: &str, field: &str, value: &str) -> i64 {
    let mut database = connection_to(server().await).await;
    sqlx::query_scalar("select count(*) from event where name = $1 and payload ->> $2 = $3")
        .bind(name)
        .bind(field)
        .bind(value)
        .fetch_one(&mut database)
        .await
        .expect("the log is there")
}

/// An address with a live code: the address, the code, and the request that issued it.
async fn issued(client: &Client, name: &str) -> (String, String, String) {
    let email = address(name);
    let sent = answer(client.post("/auth/send-code", &json!({ "email": email }))).await;
    assert_eq!(sent.status, 200, "{}", sent.text);
    let request_id = sent.header("x-request-id").expect("a request id").to_owned();
    let code = client.code_of(&request_id).await;
    (email, code, request_id)
}

fn guess(client: &Client, email: &str, code: &str) -> RequestBuilder {
    client.post("/auth/verify-code", &json!({ "email": email, "code": code }))
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_guesses_five_are_counted_and_at_most_one_wins() {
    let _turn = turn().await;
    let client = server().await.client();
    for right_at in [0, 3, 25, 49] {
        let (email, code, request_id) = issued(&client, "guessed").await;
        let right: u32 = code.parse().expect("digits");
        let typed = (0..50).map(|n| if n == right_at { right } else { (right + 1 + n) % 1_000_000 });
        let answers =
            at_once(typed.map(|number| guess(&client, &email, &format!("{number:06}"))).collect()).await;
        let counts = count(&answers);
        let wins = counts.get(&200).copied().unwrap_or_default();
        assert_eq!(wins + counts[&400], 50, "{counts:?}");
        for refused in answers.iter().filter(|answer| answer.status == 400) {
            assert_eq!(refused.json(), json!({ "error": "invalid or expired code" }));
        }
        let events = events_of_stream(&request_id).await;
        let times = |name: &str| events.get(name).copied().unwrap_or_default();
        let (verified, refused) = (times("login.code_verified"), times("login.code_refused"));
        assert_eq!(times("login.code_issued"), 1);
        // Either the right one came among the first five, or five wrong ones closed the door.
        assert!(matches!((wins, verified, refused), (1, 1, 0..=4) | (0, 0, 5)), "{wins} wins, {events:?}");
        assert_eq!(answer(guess(&client, &email, &code)).await.status, 400, "the code is used up either way");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_right_first_guesses_one_opens_an_account_and_a_session() {
    let _turn = turn().await;
    let client = server().await.client();
    let (email, code, request_id) = issued(&client, "newcomer").await;
    let guesses = join_all((0..50).map(async |_| guess(&server().await.client(), &email, &code))).await;
    let answers = at_once(guesses).await;
    assert_eq!(count(&answers), BTreeMap::from([(200, 1), (400, 49)]));
    let winner = answers.iter().find(|answer| answer.status == 200).expect("one winner").json();
    let events = events_of_stream(&request_id).await;
    assert_eq!(events.get("login.code_verified"), Some(&1));
    assert_eq!(events.get("login.code_refused"), None, "a right code that came too late was no wrong guess");
    let user = winner["user"]["id"].as_str().expect("an id");
    assert_eq!(events_with("session.started", "user_id", user).await, 1);
    let mut database = connection_to(server().await).await;
    // What one transaction wrote has one causation: nobody else's account came of these guesses.
    let accounts: i64 = sqlx::query_scalar(
        "select count(*) from event where name = 'user.registered' and request_id = any($1::uuid[])",
    )
    .bind(
        answers
            .iter()
            .filter_map(|answer| answer.header("x-request-id")?.parse().ok())
            .collect::<Vec<uuid::Uuid>>(),
    )
    .fetch_one(&mut database)
    .await
    .expect("the log is there");
    assert_eq!(accounts, 1);
    assert!(client.accepts(winner["token"].as_str().expect("a token")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_codes_asked_for_at_once_one_is_sent() {
    let _turn = turn().await;
    let client = server().await.client();
    let email = address("impatient");
    let answers =
        at_once((0..50).map(|_| client.post("/auth/send-code", &json!({ "email": email }))).collect()).await;
    assert_eq!(count(&answers), BTreeMap::from([(200, 1), (429, 49)]));
    for refused in answers.iter().filter(|answer| answer.status == 429) {
        assert_eq!(refused.json(), json!({ "error": "please wait before requesting another code" }));
        let wait: u64 = refused.header("retry-after").expect("how long").parse().expect("seconds");
        // Rounded up, from a clock that may be a little behind the one that wrote the code's time.
        assert!((1..=61).contains(&wait), "{wait} s");
    }
    let sent = answers.iter().find(|answer| answer.status == 200).expect("one was sent");
    let request_id = sent.header("x-request-id").expect("a request id");
    assert_eq!(events_of_stream(request_id).await, BTreeMap::from([("login.code_issued".to_owned(), 1)]));
    let log = server().await.log();
    let told = answers.iter().filter(|answer| {
        let id = answer.header("x-request-id").expect("a request id");
        log.lines().any(|line| line.contains(id) && line.contains("login code"))
    });
    assert_eq!(told.count(), 1, "a code that does not count was told to nobody");
    let code = client.code_of(request_id).await;
    assert_eq!(
        answer(guess(&client, &email, &code)).await.status,
        200,
        "the code that was sent is the one that fits"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_renewals_at_once_extend_once() {
    let _turn = turn().await;
    let (client, login) = somebody("renewer").await;
    let wish = json!({ "name": "short", "expires_in_days": 5 });
    let minted = answer(client.post("/api/tokens", &wish).bearer_auth(&login.token)).await.json();
    let token = minted["token"].as_str().expect("a token");
    let renew = || client.request(Method::POST, "/api/tokens/current/renew").bearer_auth(token);
    let answers = at_once((0..20).map(|_| renew()).collect()).await;
    assert_eq!(count(&answers), BTreeMap::from([(200, 20)]));
    let renewed: Vec<bool> =
        answers.iter().map(|answer| answer.json()["renewed"].as_bool().expect("a flag")).collect();
    assert_eq!(renewed.iter().filter(|renewed| **renewed).count(), 1);
    let expiries: std::collections::BTreeSet<String> = answers
        .iter()
        .map(|answer| answer.json()["expires_at"].as_str().expect("a time").to_owned())
        .collect();
    assert_eq!(expiries.len(), 1, "every answer tells the one new expiry: {expiries:?}");
    assert_ne!(expiries.first().map(String::as_str), minted["expires_at"].as_str());
    let user = login.user["id"].as_str().expect("an id");
    assert_eq!(events_with("token.renewed", "user_id", user).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_idempotency_key_mints_once() {
    let _turn = turn().await;
    let (client, login) = somebody("retrier").await;
    let other = client.login(&address("namesake")).await;
    let mint = |login: &Login, name: &str| {
        client
            .post("/api/tokens", &json!({ "name": name }))
            .bearer_auth(&login.token)
            .header("idempotency-key", "k-1")
    };
    let answers = at_once((0..30).map(|_| mint(&login, "once")).collect()).await;
    assert_eq!(count(&answers), BTreeMap::from([(201, 1), (409, 29)]));
    let made = answers.iter().find(|answer| answer.status == 201).expect("one was made").json();
    for told in answers.iter().filter(|answer| answer.status == 409) {
        assert_eq!(told.json()["id"], made["id"]);
        assert!(!told.text.contains("mul_"), "the secret is told once: {}", told.text);
    }
    assert_eq!(answer(mint(&login, "another body")).await.status, 422);
    let user = login.user["id"].as_str().expect("an id");
    assert_eq!(events_with("token.minted", "user_id", user).await, 1);
    let of_other = answer(mint(&other, "once")).await;
    assert_eq!(of_other.status, 201, "another person's key is another key");
    assert_ne!(of_other.json()["id"], made["id"]);
    assert!(client.accepts(made["token"].as_str().expect("a token")).await);
}

/// Different bodies under one key at once: one of them was made, its own retries are told so, the
/// others that the key is taken.
#[tokio::test(flavor = "multi_thread")]
async fn one_idempotency_key_with_many_bodies_mints_one_of_them() {
    let _turn = turn().await;
    let (client, login) = somebody("confused").await;
    let mint = |n: usize| {
        let request = client.post("/api/tokens", &json!({ "name": format!("body {}", n % 3) }));
        request.bearer_auth(&login.token).header("idempotency-key", "k-2")
    };
    let answers = at_once((0..30).map(mint).collect()).await;
    assert_eq!(count(&answers), BTreeMap::from([(201, 1), (409, 9), (422, 20)]));
    assert_eq!(events_with("token.minted", "user_id", login.user["id"].as_str().expect("an id")).await, 1);
}
