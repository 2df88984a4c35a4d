//! The server is killed at the two points where a client cannot know: when everything is written but
//! for COMMIT, and when COMMIT has acted but nobody was told. The same idempotency key then acts once.

use std::time::Instant;

use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::Connection;
use tally_tests::{Client, Meddling, Proxy, Server, TempPostgres};
use uuid::Uuid;

use super::{
    judge::assert_log_whole,
    report::Report,
    rounds,
    site::{CODE, external_settings},
};
use crate::support::BINARY;

/// Somebody's session, by the code that always fits.
async fn log_in(client: &Client) -> String {
    let email = "killed-at-commit@example.org";
    let sent = client.post("/auth/send-code", &json!({ "email": email })).send().await;
    assert_eq!(sent.expect("the server answers").status(), StatusCode::OK);
    let verified = client.post("/auth/verify-code", &json!({ "email": email, "code": CODE })).send().await;
    let body: Value = verified.expect("the server answers").json().await.expect("JSON");
    body["token"].as_str().expect("a token").to_owned()
}

async fn mint(client: &Client, session: &str, key: Uuid) -> reqwest::Result<(u16, Value)> {
    let request = client.request(Method::POST, "/api/tokens").bearer_auth(session);
    let request = request.header("Idempotency-Key", key.to_string()).json(&json!({ "name": "once" }));
    let answer = request.send().await?;
    let status = answer.status().as_u16();
    Ok((status, answer.json().await?))
}

/// `stands` says whether the killed attempt was durable.
async fn killed_at(fault: &'static str, plan: Meddling, stands: bool) {
    let mut report = Report::new(fault);
    let postgres = TempPostgres::start().await;
    let options = postgres.database().await;
    let proxy = Proxy::start(&options);
    let url = proxy.url(&options);
    let mut server = Server::start(BINARY, &external_settings(&url)).await;
    let session = log_in(&server.client()).await;
    for round in 1..=rounds() {
        let key = Uuid::now_v7();
        proxy.meddle(plan.clone());
        let asked = tokio::spawn({
            let (client, session) = (server.client(), session.clone());
            async move { mint(&client, &session, key).await }
        });
        proxy.carried_out(round).await;
        server.process().signal(Signal::KILL);
        let killed = Instant::now();
        asked.await.expect("no panic").expect_err("nobody was told anything");
        server.process().wait();
        server.restart().await;

        let sent = Instant::now();
        let (status, body) = mint(&server.client(), &session, key).await.expect("the server is back");
        report.answered(usize::from(status == 503), sent.elapsed());
        report.round(killed.elapsed());
        let made = body["id"].as_str().unwrap_or_else(|| panic!("{status} {body}")).to_owned();
        if stands {
            assert_eq!(
                (status, body["token"].as_str()),
                (409, None),
                "what stands is named, its secret is not"
            );
        } else {
            let token = body["token"].as_str().unwrap_or_else(|| panic!("{status} {body}"));
            assert_eq!(status, 201, "nothing had been done, so now it is");
            assert!(server.client().accepts(token).await);
        }
        // And again: the same answer, the same token.
        let (again, body) = mint(&server.client(), &session, key).await.expect("the server is back");
        assert_eq!((again, body["id"].as_str()), (409, Some(made.as_str())));
        report.checked += 1;
    }

    let mut connection = sqlx::PgConnection::connect_with(&options).await.expect("the database");
    let (minted, distinct): (i64, i64) =
        sqlx::query_as("select count(*), count(distinct stream_id) from event where name = 'token.minted'")
            .fetch_one(&mut connection)
            .await
            .expect("the log can be read");
    let expected = i64::try_from(rounds()).expect("a few");
    report.lost = usize::try_from((expected - distinct).max(0)).expect("a count");
    report.twice = usize::try_from((minted - expected).max(0)).expect("a count");
    let listed = server.client().get("/api/tokens").bearer_auth(&session).send().await.expect("an answer");
    let listed: Value = listed.json().await.expect("JSON");
    assert_eq!(listed.as_array().map(Vec::len), Some(rounds()), "{listed}");
    assert_log_whole(&server, &mut connection).await;
    connection.close().await.expect("the database answers");
    report.conclude();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_the_insert_and_the_commit() {
    killed_at("kill -9 of the committer between insert and COMMIT", Meddling::Withhold, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_the_commit_and_the_reply() {
    killed_at("kill -9 of the committer between COMMIT and reply", Meddling::WithholdReply, true).await;
}
