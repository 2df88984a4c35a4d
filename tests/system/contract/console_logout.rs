//! Logging out of the web console, also when the access token has expired.

use reqwest::Method;
use serde_json::json;
use tally_tests::Console;

use super::console_sessions::{assert_over, ended_because, forged, opened};
use crate::support::{by_cookie, client, csrf_of, expect, now, past::claims, person, problem};

/// After a pause the access token has expired, and logging out works all the same.
#[tokio::test]
async fn logging_out_works_when_the_access_token_has_expired() {
    let client = client().await;
    let console = opened("console-pause").await;
    let mut over = claims(&console.access);
    over["exp"] = json!(now().timestamp() - 1);
    let access = forged(&over).await;
    let expired = Console { csrf: csrf_of(&access), access, ..console.clone() };
    assert!(!client.accepts(&expired.access).await);
    let log_out = |console: &Console| client.by_console(Method::DELETE, "/v1/sessions/current", console);
    let without = Console { csrf: console.csrf.clone(), ..expired.clone() };
    problem(403, "forbidden", "CSRF validation failed", log_out(&without)).await;
    let bearer = log_out(&expired).bearer_auth(&expired.access);
    problem(401, "invalid_token", "invalid token", bearer).await;
    assert!(client.accepts(&console.access).await, "neither of them logged anybody out");
    for _ in 0..2 {
        let answer = expect(204, log_out(&expired)).await;
        assert_eq!(answer.header("x-revocation"), Some("effective"));
        assert_eq!(answer.cookie("remoco_refresh").expect("a cookie").0, "");
    }
    assert_over(&client, &console).await;
    assert_eq!(ended_because(&console.id).await, json!("logged_out"));
    let nothing = client.request(Method::DELETE, "/v1/sessions/current");
    let answer = problem(401, "missing_authorization", "missing authorization", nothing).await;
    assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 3);
}

/// So does `/auth/logout`, where that cookie is the one that counts.
#[tokio::test]
async fn the_other_way_to_log_out_works_then_too() {
    let client = client().await;
    let console = opened("console-pause-other").await;
    let mut over = claims(&console.access);
    over["exp"] = json!(now().timestamp() - 1);
    let access = forged(&over).await;
    let expired = Console { csrf: csrf_of(&access), access, ..console.clone() };
    for _ in 0..2 {
        let answer = expect(200, client.by_console(Method::POST, "/auth/logout", &expired)).await;
        assert_eq!(answer.header("x-revocation"), Some("effective"));
        assert_eq!(answer.cookie("remoco_refresh").expect("a cookie").0, "");
    }
    assert_over(&client, &console).await;
}

/// An ordinary session logs out there too, and its cookies are forgotten with it.
#[tokio::test]
async fn an_ordinary_session_logs_out_by_the_same_route() {
    let client = client().await;
    let login = person("console-ordinary").await;
    let request =
        by_cookie(&client, Method::DELETE, "/v1/sessions/current", &login, Some(&login.csrf_cookie));
    let answer = expect(204, request).await;
    assert_eq!(answer.header("x-revocation"), Some("effective"));
    assert_eq!(answer.cookie("multica_auth").expect("a cookie").0, "");
    assert!(!client.accepts(&login.token).await);
}
