//! Whoever uses a credential, or mints with it, while it is revoked.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use reqwest::Method;
use serde_json::json;
use tally_tests::{Client, client::answer};
use tokio::sync::Barrier;

use super::{server, somebody, turn};
use crate::support::{connection_to, csrf_of};

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
            let csrf = csrf_of(&token);
            logout.header("cookie", format!("multica_auth={token}")).header("x-csrf-token", csrf)
        };
        let logout = answer(logout).await;
        assert_eq!((logout.status, logout.header("x-revocation")), (200, Some("effective")));
        assert_none_after(&users.stop().await);
    }
    assert!(client.accepts(&login.token).await, "the session that made them stays");
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
            // Busy: asked again.
            503 => {}
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
        assert_eq!(line_alive(&id).await, 0, "also of those whose answers were lost");
    }
}

/// Mints a successor with a token, and ends the token by itself, on and on.
async fn rotate_until_refused(client: Client, root: String) -> Vec<String> {
    let mut tokens = vec![];
    let mut with = root.clone();
    loop {
        let answer =
            answer(client.post("/api/tokens", &json!({ "name": "successor" })).bearer_auth(&with)).await;
        match answer.status {
            201 => {
                let made = answer.json();
                let token = made["token"].as_str().expect("a token").to_owned();
                if with != root {
                    let (id, _) = tokens.last().expect("the one it was minted with");
                    let end = client.request(Method::DELETE, &format!("/api/tokens/{id}")).bearer_auth(&with);
                    // Somebody else may have ended it already.
                    drop(end.send().await);
                }
                tokens.push((made["id"].as_str().expect("an id").to_owned(), token.clone()));
                with = token;
            }
            401 | 403 => return tokens.into_iter().map(|(_, token)| token).collect(),
            503 => {}
            status => panic!("{status}: {}", answer.text),
        }
    }
}

/// Between a look at the line and the command one of it may leave a successor and end itself: then that
/// command finds nothing live, and the successor is.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_rotated_while_it_is_revoked_is_dead_to_its_last_token() {
    let _turn = turn().await;
    let (client, login) = somebody("rotation").await;
    for _ in 0..20 {
        let (id, root) = client.mint(&login.token, "root").await;
        let rotators: Vec<_> =
            (0..4).map(|_| tokio::spawn(rotate_until_refused(client.clone(), root.clone()))).collect();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        // Those who end themselves meanwhile may keep it busy, and then it is asked again.
        tally_tests::eventually("the line to be revoked", async || {
            let request = client.request(Method::DELETE, &format!("/api/tokens/{id}?line=true"));
            let status = answer(request.bearer_auth(&login.token)).await.status;
            assert!([204, 503].contains(&status), "{status}");
            (status == 204).then_some(())
        })
        .await;
        assert_eq!(line_alive(&id).await, 0, "a successor lives");
        for rotator in rotators {
            for token in rotator.await.expect("a rotator ends") {
                assert!(!client.accepts(&token).await, "a token below the revoked one lives");
            }
        }
    }
}

/// A row that the log contradicts is found out, and not asked for on and on.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_a_wrong_row_calls_live_is_not_called_revoked() {
    let _turn = turn().await;
    let (client, login) = somebody("damaged").await;
    let (id, root) = client.mint(&login.token, "root").await;
    let (child, _) = client.mint(&root, "child").await;
    let delete = async |path: &str| {
        answer(client.request(Method::DELETE, path).bearer_auth(&login.token)).await.status
    };
    let say = async |revoked_at: &str| {
        let mut database = connection_to(server().await).await;
        let wrong = format!("update credentials set revoked_at = {revoked_at} where id = $1::uuid");
        sqlx::query(sqlx::AssertSqlSafe(wrong)).bind(&child).execute(&mut database).await.expect("a row");
    };
    assert_eq!(delete(&format!("/api/tokens/{child}")).await, 204);
    say("null").await;
    let began = std::time::Instant::now();
    assert_eq!(delete(&format!("/api/tokens/{id}?line=true")).await, 503);
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "it went on: {:?}", began.elapsed());
    say("clock_timestamp()").await;
    assert_eq!(delete(&format!("/api/tokens/{id}?line=true")).await, 204);
}

/// How many of a token's line, itself included, were not revoked.
async fn line_alive(root: &str) -> i64 {
    let mut database = connection_to(server().await).await;
    sqlx::query_scalar(
        "with recursive line(id, revoked_at) as (
             select id, revoked_at from credentials where id = $1::uuid
             union select c.id, c.revoked_at from line join credentials c on c.minted_by = line.id
         ) select count(*) from line where revoked_at is null",
    )
    .bind(root)
    .fetch_one(&mut database)
    .await
    .expect("the projection is there")
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
                    503 => {}
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
