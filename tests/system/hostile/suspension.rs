//! A closed account: nothing of it works, and what was made before it closed never works again.

use reqwest::{Method, RequestBuilder};
use serde_json::json;
use sqlx::Connection;
use tally_tests::client::answer;

use super::{assert_calm, assert_error, server, somebody};

fn operator(arguments: &[&str], server: &tally_tests::Server) {
    let output = server.command(arguments).output().expect("the binary runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_suspended_person_is_turned_away_everywhere_and_for_good() {
    let (client, login) = somebody().await;
    let server = server().await;
    let email = login.user["email"].as_str().expect("an address").to_owned();
    let (id, token) = client.mint(&login.token, "before").await;
    let (_, child) = client.mint(&token, "below").await;
    let cli = answer(client.request(Method::POST, "/api/cli-token").bearer_auth(&login.token)).await.json();
    let cli = cli["token"].as_str().expect("a token").to_owned();
    let credentials = [&login.token, &token, &child, &cli];
    for credential in credentials {
        assert!(client.accepts(credential).await);
    }
    let mut requests: Vec<(String, Box<dyn Fn() -> RequestBuilder>)> = Vec::new();
    for (method, path) in [
        (Method::GET, "/api/me".to_owned()),
        (Method::PATCH, "/api/me".to_owned()),
        (Method::GET, "/api/tokens".to_owned()),
        (Method::POST, "/api/tokens".to_owned()),
        (Method::POST, "/api/tokens/current/renew".to_owned()),
        (Method::DELETE, format!("/api/tokens/{id}")),
        (Method::POST, "/api/cli-token".to_owned()),
        (Method::GET, "/v1/me".to_owned()),
        (Method::GET, "/v1/audit".to_owned()),
        (Method::GET, "/v1/sessions".to_owned()),
        (Method::POST, "/v1/sessions/end-others".to_owned()),
        (Method::DELETE, format!("/v1/sessions/{}", uuid::Uuid::now_v7())),
    ] {
        let client = client.clone();
        let about = format!("{method} {path}");
        requests.push((
            about,
            Box::new(move || client.request(method.clone(), &path).json(&json!({ "name": "x" }))),
        ));
    }

    operator(&["user", "suspend", &email], server);
    for credential in credentials {
        for (about, request) in &requests {
            let answer = answer(request().bearer_auth(credential)).await;
            if about.contains("/v1/") {
                super::assert_problem(&answer, 403, "account_disabled", "account disabled", about);
            } else {
                assert_error(&answer, 403, "account disabled", about);
            }
        }
    }
    let cookie = client.get("/api/me").header("cookie", format!("multica_auth={}", login.auth_cookie));
    assert_error(&answer(cookie).await, 403, "account disabled", "by cookie");
    let logout = answer(client.request(Method::POST, "/auth/logout").bearer_auth(&login.token)).await;
    assert_eq!(logout.status, 200, "whoever has nothing to end is logged out");
    operator(&["user", "suspend", &email], server);

    operator(&["user", "reinstate", &email], server);
    for credential in credentials {
        for (about, request) in &requests {
            let answer = answer(request().bearer_auth(credential)).await;
            assert_eq!(answer.status, 401, "{about}: {}", answer.text);
            assert!(answer.text.contains("invalid token"), "{about}: {}", answer.text);
        }
    }
    assert_calm().await;
}

/// Moves the codes of an address two minutes into the past: nobody can wait for its cooldown here.
async fn let_the_cooldown_pass(request_id: &str) {
    let mut database = crate::support::connection_to(server().await).await;
    let mut transaction = database.begin().await.expect("the embedded database answers");
    // The log is insert-only; only its owner can look away.
    sqlx::query("set local session_replication_role = replica")
        .execute(&mut *transaction)
        .await
        .expect("the owner may");
    let moved = sqlx::query(
        "update event set recorded_at = recorded_at - interval '2 minutes'
         where stream_id = (select stream_id from event where request_id = $1::uuid)",
    )
    .bind(request_id)
    .execute(&mut *transaction)
    .await
    .expect("the log is there");
    assert!(moved.rows_affected() > 0, "the request issued a code");
    transaction.commit().await.expect("the embedded database answers");
}

/// The account is told to be closed only to whoever holds its mailbox, and opens again for a new login.
#[tokio::test]
async fn a_suspended_person_logs_in_again_only_after_reinstatement() {
    let server = server().await;
    let client = server.client();
    let email = crate::support::address("suspended");
    let send = async || {
        let sent = answer(client.post("/auth/send-code", &json!({ "email": email }))).await;
        assert_eq!(sent.status, 200, "{}", sent.text);
        let request_id = sent.header("x-request-id").expect("a request id").to_owned();
        let code = client.code_of(&request_id).await;
        let_the_cooldown_pass(&request_id).await;
        code
    };
    let verify = async |code: &str| {
        answer(client.post("/auth/verify-code", &json!({ "email": email, "code": code }))).await
    };
    let first_code = send().await;
    let first = verify(&first_code).await;
    assert_eq!(first.status, 200);

    operator(&["user", "suspend", &email], server);
    let code = send().await;
    let wrong = if code == "000000" { "000001" } else { "000000" };
    for guess in [wrong, &first_code].into_iter().filter(|guess| **guess != code) {
        assert_error(
            &verify(guess).await,
            400,
            "invalid or expired code",
            "a wrong code says nothing of the account",
        );
    }
    let refused = verify(&code).await;
    assert_error(&refused, 403, "account disabled", "the right code");
    assert!(refused.cookie("multica_auth").is_none());
    assert_error(&verify(&code).await, 400, "invalid or expired code", "the code is used up");

    operator(&["user", "reinstate", &email], server);
    let again = verify(&send().await).await;
    assert_eq!(again.status, 200, "{}", again.text);
    assert_eq!(again.json()["user"]["id"], first.json()["user"]["id"], "the same account");
    assert!(client.accepts(again.json()["token"].as_str().expect("a token")).await);
    assert!(
        !client.accepts(first.json()["token"].as_str().expect("a token")).await,
        "what was before stays dead"
    );
    assert_calm().await;
}
