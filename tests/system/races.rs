//! Many at once: one winner, exact counts, and no acceptance after a revocation was answered.
//!
//! What happened is read from the log itself, through the embedded database's socket.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use futures::future::join_all;
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use tally_tests::{Answer, Client, Console, Login, Server, client::answer};
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

/// How often each event stands in the stream of a session.
async fn events_of_session(id: &str) -> BTreeMap<String, i64> {
    let counts: Vec<(String, i64)> =
        sqlx::query_as("select name, count(*) from event where stream_id = $1::uuid group by name")
            .bind(id)
            .fetch_all(&mut connection_to(server().await).await)
            .await
            .expect("the log is there");
    counts.into_iter().collect()
}

/// One of them is the refresh, the others repeat it; and of all that were answered one goes on.
#[tokio::test(flavor = "multi_thread")]
async fn of_refreshes_at_once_one_rotates_and_one_answer_goes_on() {
    let _turn = turn().await;
    let client = server().await.client();
    for requests in [2, 12] {
        let console = client.open_console(&address("tabs")).await;
        let answers = at_once((0..requests).map(|_| client.refresh(&console)).collect()).await;
        assert_eq!(count(&answers), BTreeMap::from([(200, requests)]));
        let events = events_of_session(&console.id).await;
        assert_eq!(events.get("session.refreshed"), Some(&1), "{events:?}");
        let repeated = i64::try_from(requests).expect("few") - 1;
        assert_eq!(events.get("session.refresh_repeated"), Some(&repeated), "{events:?}");
        assert_eq!(events.get("session.ended"), None, "nobody was taken for a thief");
        let given: Vec<Console> = answers.iter().map(Console::of).collect();
        let distinct: std::collections::BTreeSet<&String> = given.iter().map(|one| &one.refresh).collect();
        assert_eq!(distinct.len(), requests);

        // Each of them is used by somebody else now: there is one successor, and no second family.
        let answers = at_once(given.iter().map(|one| client.refresh(one)).collect()).await;
        let counts = count(&answers);
        assert_eq!(counts, BTreeMap::from([(200, 1), (401, requests - 1)]));
        let went_on =
            answers.iter().find(|answer| answer.status == 200).map(Console::of).expect("one went on");
        assert_eq!(answer(client.refresh(&went_on)).await.status, 401, "the others have ended it");
        assert!(!client.accepts(&went_on.access).await);
        let events = events_of_session(&console.id).await;
        assert_eq!((events["session.refreshed"], events["session.ended"]), (2, 1), "{events:?}");
    }
}

/// More than a browser has tabs: the rest are told to come back, and nothing ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_refreshes_is_answered_so_often_and_no_more() {
    let _turn = turn().await;
    let client = server().await.client();
    let console = client.open_console(&address("crowd")).await;
    let answers = at_once((0..40).map(|_| client.refresh(&console)).collect()).await;
    let counts = count(&answers);
    // One that met conflicts again and again is told so, too.
    let told = counts.get(&503).copied().unwrap_or_default();
    assert_eq!((counts[&200], counts[&429] + told), (17, 23), "{counts:?}");
    let events = events_of_session(&console.id).await;
    assert_eq!(events["session.refresh_repeated"], 16, "{events:?}");
    assert!(!events.contains_key("session.ended"), "{events:?}");
    let last =
        answers.iter().filter(|answer| answer.status == 200).map(Console::of).next_back().expect("some");
    assert_eq!(answer(client.refresh(&last)).await.status, 200);
}

/// Whichever comes first, the session is over, and so is everything that was given for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_races_an_end_revives_nothing() {
    let _turn = turn().await;
    let client = server().await.client();
    let mut refreshed = 0;
    for _ in 0..20 {
        let console = client.open_console(&address("leaver")).await;
        let refresh = client.refresh(&console);
        let end = client.by_console(Method::DELETE, "/v1/sessions/current", &console);
        let answers = at_once(vec![refresh, end]).await;
        assert_eq!(answers[1].status, 204, "{}", answers[1].text);
        match answers[0].status {
            200 => {
                refreshed += 1;
                let given = Console::of(&answers[0]);
                assert!(!client.accepts(&given.access).await, "an access token of an ended session works");
                assert_eq!(answer(client.refresh(&given)).await.status, 401);
            }
            status => assert_eq!(status, 401, "{}", answers[0].text),
        }
        assert!(!client.accepts(&console.access).await);
        let events = events_of_session(&console.id).await;
        assert_eq!(events["session.ended"], 1, "{events:?}");
    }
    assert!(refreshed > 0, "the refresh was never first");
}

/// A session for the command line that starts while its parent ends has ended with it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_starts_below_a_session_that_has_ended() {
    let _turn = turn().await;
    let mut started_first = 0;
    for how in ["/auth/logout", "/v1/sessions/end-others"] {
        for _ in 0..10 {
            let (client, login) = somebody("parent").await;
            let (_, token) = client.mint(&login.token, "laptop").await;
            let start = || client.request(Method::POST, "/api/cli-token").bearer_auth(&login.token);
            // A token is no session, so by it all of them are others.
            let by = if how == "/auth/logout" { &login.token } else { &token };
            let end = client.request(Method::POST, how).bearer_auth(by);
            let answers = at_once((0..6).map(|_| start()).chain([end]).collect()).await;
            assert_eq!(answers[6].status, 200, "{}", answers[6].text);
            for started in answers[..6].iter().filter(|answer| answer.status == 200) {
                started_first += 1;
                let jwt = started.json()["token"].as_str().expect("a token").to_owned();
                assert!(!client.accepts(&jwt).await, "{how}: a session outlived the one that started it");
            }
            assert!(client.accepts(&token).await);
        }
    }
    assert!(started_first > 0, "no session was started before its parent ended");
}

/// Clients that use a credential in a tight loop until its revocation was answered, and a little longer.
struct Users {
    revoked: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<Used>>,
}

#[derive(Debug, Default)]
struct Used {
    accepted_before: usize,
    /// Acceptances of requests that began after the revocation was answered.
    accepted_after: usize,
    refused_after: usize,
}

impl Users {
    const CLIENTS: usize = 16;
    /// Requests that each of them begins after the revocation was answered.
    const AFTER: usize = 2;

    /// Warm: each has been accepted before this returns. Cold: the first look is part of the race.
    async fn start(client: &Client, credential: &str, is_warm: bool) -> Self {
        let revoked = Arc::new(AtomicBool::new(false));
        let ready = Arc::new(Barrier::new(Self::CLIENTS + 1));
        let clients = (0..Self::CLIENTS).map(|_| {
            let (client, credential) = (client.clone(), credential.to_owned());
            let (revoked, ready) = (revoked.clone(), ready.clone());
            tokio::spawn(async move {
                assert!(!is_warm || client.accepts(&credential).await, "it works before");
                ready.wait().await;
                Self::use_up(&client, &credential, &revoked).await
            })
        });
        let clients = clients.collect();
        ready.wait().await;
        Self { revoked, clients }
    }

    async fn use_up(client: &Client, credential: &str, revoked: &AtomicBool) -> Used {
        let (mut used, mut unknown) = (Used::default(), 0);
        while used.refused_after + used.accepted_after < Self::AFTER {
            // Read before the request begins: only then does a yes contradict the answer.
            let begins_after = revoked.load(Ordering::SeqCst);
            let answer = answer(client.get("/v1/me").bearer_auth(credential)).await;
            match (answer.status, begins_after) {
                (200, true) => used.accepted_after += 1,
                (401, true) => used.refused_after += 1,
                (200, false) => used.accepted_before += 1,
                (401, false) => {}
                // A replica that cannot know in time says so, on a machine that is busy elsewhere.
                (503, _) => unknown += 1,
                (status, _) => panic!("{status}: {}", answer.text),
            }
            assert!(unknown < 100, "the server knows nothing any more");
        }
        used
    }

    /// To be called when the revocation has been answered.
    async fn stop(self) -> Used {
        self.revoked.store(true, Ordering::SeqCst);
        let mut all = Used::default();
        for client in self.clients {
            let used = client.await.expect("a client ends");
            all.accepted_before += used.accepted_before;
            all.accepted_after += used.accepted_after;
            all.refused_after += used.refused_after;
        }
        all
    }
}

#[track_caller]
fn assert_none_after(used: &Used) {
    assert_eq!((used.accepted_after, used.refused_after), (0, Users::CLIENTS * Users::AFTER), "{used:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_that_begins_after_a_revocation_was_answered_is_accepted() {
    let _turn = turn().await;
    let (client, login) = somebody("revoker").await;
    let mut before = 0;
    for round in 0..50 {
        let (id, token) = client.mint(&login.token, "in use").await;
        let users = Users::start(&client, &token, round % 2 == 0).await;
        let request = client.request(Method::DELETE, &format!("/api/tokens/{id}")).bearer_auth(&login.token);
        assert_eq!(answer(request).await.status, 204);
        let used = users.stop().await;
        assert_none_after(&used);
        before += used.accepted_before;
    }
    assert!(before > 0, "the token was in use when it was revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_that_begins_after_a_logout_was_answered_is_accepted() {
    let _turn = turn().await;
    let (client, login) = somebody("leaver").await;
    for round in 0..20 {
        let made =
            answer(client.request(Method::POST, "/api/cli-token").bearer_auth(&login.token)).await.json();
        let token = made["token"].as_str().expect("a token").to_owned();
        let users = Users::start(&client, &token, round % 4 < 2).await;
        let logout = client.request(Method::POST, "/auth/logout");
        let logout = if round % 2 == 0 {
            logout.bearer_auth(&token)
        } else {
            // By cookie, with the CSRF token that any page of ours could make of it.
            let csrf = csrf_token(&token);
            logout.header("cookie", format!("multica_auth={token}")).header("x-csrf-token", csrf)
        };
        let logout = answer(logout).await;
        assert_eq!((logout.status, logout.header("x-revocation")), (200, Some("effective")));
        assert_none_after(&users.stop().await);
    }
    assert!(client.accepts(&login.token).await, "the session that made them stays");
}

/// As the contract words it: `hex(nonce) "." hex(HMAC-SHA256(key = the auth cookie's value, nonce))`.
fn csrf_token(cookie: &str) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    let nonce = [7; 16];
    let mut mac =
        Hmac::<sha2::Sha256>::new_from_slice(cookie.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(&nonce);
    format!("{}.{}", hex::encode(nonce), hex::encode(mac.finalize().into_bytes()))
}

/// Clients that mint with a credential, and with what they minted, until they are turned away.
async fn mint_until_refused(client: Client, credential: String, minted: Arc<AtomicUsize>) -> Vec<String> {
    let mut tokens = vec![];
    let mut with = credential;
    loop {
        let answer = answer(client.post("/api/tokens", &json!({ "name": "child" })).bearer_auth(&with)).await;
        match answer.status {
            201 => {
                let token = answer.json()["token"].as_str().expect("a token").to_owned();
                minted.fetch_add(1, Ordering::SeqCst);
                // Every other one goes a generation down.
                if tokens.len() % 2 == 0 {
                    with.clone_from(&token);
                }
                tokens.push(token);
            }
            401 | 403 => return tokens,
            status => panic!("{status}: {}", answer.text),
        }
    }
}

async fn several_have_been_minted(minted: &AtomicUsize) {
    tally_tests::eventually("some tokens to be minted", async || {
        (minted.load(Ordering::SeqCst) >= 20).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_grows_while_it_is_revoked_is_dead_to_its_last_token() {
    let _turn = turn().await;
    let (client, login) = somebody("lineage").await;
    for _ in 0..2 {
        let (id, root) = client.mint(&login.token, "root").await;
        let (_, beside) = client.mint(&login.token, "beside").await;
        let minted = Arc::new(AtomicUsize::new(0));
        let minters: Vec<_> = (0..8)
            .map(|_| tokio::spawn(mint_until_refused(client.clone(), root.clone(), minted.clone())))
            .collect();
        several_have_been_minted(&minted).await;
        let request =
            client.request(Method::DELETE, &format!("/api/tokens/{id}?line=true")).bearer_auth(&login.token);
        assert_eq!(answer(request).await.status, 204);
        let answered = minted.load(Ordering::SeqCst);
        let mut tokens = vec![root];
        for minter in minters {
            tokens.extend(minter.await.expect("a minter ends"));
        }
        assert!(tokens.len() > 20 && answered > 0);
        for token in &tokens {
            assert!(!client.accepts(token).await, "a token below the revoked one lives");
        }
        assert!(client.accepts(&beside).await, "its neighbour is none of the line");
        let mut database = connection_to(server().await).await;
        let alive: i64 = sqlx::query_scalar(
            "with recursive line(id, revoked_at) as (
                 select id, revoked_at from credentials where id = $1::uuid
                 union select c.id, c.revoked_at from line join credentials c on c.minted_by = line.id
             ) select count(*) from line where revoked_at is null",
        )
        .bind(&id)
        .fetch_one(&mut database)
        .await
        .expect("the projection is there");
        assert_eq!(alive, 0, "also of those whose answers were lost");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_minted_while_its_person_was_suspended_never_works() {
    let _turn = turn().await;
    let (client, login) = somebody("suspect").await;
    let email = login.user["email"].as_str().expect("an address");
    let (_, token) = client.mint(&login.token, "before").await;
    let minted = Arc::new(AtomicUsize::new(0));
    let mut minters: Vec<_> = [&login.token, &token, &login.token, &token]
        .map(|credential| {
            tokio::spawn(mint_until_refused(client.clone(), credential.clone(), minted.clone()))
        })
        .into();
    // Sessions do not read the account when they start one for the command line: the guard must do.
    for _ in 0..4 {
        let (client, session) = (client.clone(), login.token.clone());
        minters.push(tokio::spawn(async move {
            let mut sessions = Vec::new();
            loop {
                let answer =
                    answer(client.request(Method::POST, "/api/cli-token").bearer_auth(&session)).await;
                match answer.status {
                    200 => sessions.push(answer.json()["token"].as_str().expect("a token").to_owned()),
                    401 | 403 => return sessions,
                    status => panic!("{status}: {}", answer.text),
                }
            }
        }));
    }
    several_have_been_minted(&minted).await;
    let operator = async |word: &'static str| {
        let mut command = server().await.command(&["user", word, email]);
        let output =
            tokio::task::spawn_blocking(move || command.output()).await.expect("it ends").expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    operator("suspend").await;
    // The command has returned: whoever begins now is turned away.
    let late = answer(client.post("/api/tokens", &json!({ "name": "late" })).bearer_auth(&login.token)).await;
    assert_eq!(late.status, 403, "{}", late.text);
    let mut all = vec![login.token.clone(), token];
    for minter in minters {
        all.extend(minter.await.expect("a minter ends"));
    }
    for credential in &all {
        assert!(!client.accepts(credential).await, "suspended");
    }
    operator("reinstate").await;
    for credential in &all {
        assert!(!client.accepts(credential).await, "a credential from before came to life again");
    }
}
