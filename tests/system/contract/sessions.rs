//! Where one is logged in: sessions are listed and ended.

use chrono::{DateTime, Utc};
use futures::future::join_all;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tally_tests::{Client, Login, client::answer, eventually};

use crate::support::{
    address, by_cookie, client, connection, delete, expect, fields, near, now, past::claims, person, problem,
    timestamp,
};

const SESSION: [&str; 11] = [
    "address",
    "current",
    "expires_at",
    "id",
    "kind",
    "last_seen_address",
    "last_seen_at",
    "method",
    "minted_by",
    "started_at",
    "user_agent",
];

/// The id of the session that a JWT shows.
fn id(jwt: &str) -> String {
    claims(jwt)["sid"].as_str().expect("an id").to_owned()
}

async fn list(client: &Client, credential: &str) -> Vec<Value> {
    let answer = expect(200, client.get("/v1/sessions").bearer_auth(credential)).await.json();
    assert_eq!(fields(&answer), ["sessions"]);
    answer["sessions"].as_array().expect("a list").clone()
}

async fn ids(client: &Client, credential: &str) -> Vec<String> {
    list(client, credential).await.iter().map(|s| s["id"].as_str().expect("an id").to_owned()).collect()
}

/// Another session of the same person's.
async fn again(client: &Client, login: &Login) -> Login {
    let past = crate::support::past::Past::shifted(chrono::TimeDelta::hours(1)).await;
    let email = login.user["email"].as_str().expect("an address");
    past.issue_code(email, "123456").await;
    let verify = client.post("/auth/verify-code", &json!({ "email": email, "code": "123456" }));
    let answer = expect(200, verify).await;
    Login {
        token: answer.json()["token"].as_str().expect("a token").to_owned(),
        auth_cookie: answer.cookie("multica_auth").expect("a cookie").0,
        csrf_cookie: answer.cookie("multica_csrf").expect("a cookie").0,
        ..login.clone()
    }
}

async fn for_the_command_line(client: &Client, login: &Login) -> String {
    let made = expect(200, client.post("/api/cli-token", &json!({})).bearer_auth(&login.token)).await;
    made.json()["token"].as_str().expect("a token").to_owned()
}

fn end(client: &Client, id: &str, credential: &str) -> RequestBuilder {
    delete(client, &format!("/v1/sessions/{id}"), credential)
}

fn end_others(client: &Client, credential: &str) -> RequestBuilder {
    client.request(Method::POST, "/v1/sessions/end-others").bearer_auth(credential)
}

/// Why a session ended, as the audit trail says it.
async fn reason(client: &Client, credential: &str, id: &str) -> Value {
    eventually("the end in the audit trail", async || {
        let trail = client.get(&format!("/v1/audit?credential={id}")).bearer_auth(credential);
        let events = answer(trail).await.json()["events"].as_array().expect("events").clone();
        let ended =
            events.iter().find(|event| event["name"] == "session.ended" && event["stream"]["id"] == id)?;
        Some(ended["data"]["reason"].clone())
    })
    .await
}

/// A session has these ten fields; the one that asks is the current one.
#[tokio::test]
async fn a_session_has_its_fields() {
    let (client, email) = (client().await, address("session-fields"));
    let code = client.code(&email).await;
    let verify = client.post("/auth/verify-code", &json!({ "email": email, "code": code }));
    let token =
        expect(200, verify.header("user-agent", "Browser/7 (a tablet)")).await.json()["token"].clone();
    let token = token.as_str().expect("a token");
    let list = list(&client, token).await;
    assert_eq!(list.len(), 1);
    let session = &list[0];
    assert_eq!(fields(session), SESSION);
    assert_eq!(
        (&session["id"], &session["kind"], &session["method"]),
        (&json!(id(token)), &json!("session"), &json!("email_code"))
    );
    assert_eq!(
        (&session["address"], &session["user_agent"]),
        (&json!("127.0.0.1"), &json!("Browser/7 (a tablet)"))
    );
    assert_eq!((&session["minted_by"], &session["current"]), (&Value::Null, &json!(true)));
    assert!(near(timestamp(&session["started_at"]), now()));
    let expires = claims(token)["exp"].as_i64().expect("a time");
    assert!((timestamp(&session["expires_at"]).timestamp() - expires).abs() <= 1);
}

/// Newest first, of every kind; those that are somebody else's or over are not there.
#[tokio::test]
async fn live_sessions_are_listed_newest_first() {
    let client = client().await;
    let first = person("session-list").await;
    let cli = for_the_command_line(&client, &first).await;
    let second = again(&client, &first).await;
    let email = address("session-list");
    let stranger = client.open_console(&email).await;
    let gone = again(&client, &first).await;
    expect(200, client.post("/auth/logout", &json!({})).bearer_auth(&gone.token)).await;
    let listed = list(&client, &second.token).await;
    let shown: Vec<_> =
        listed.iter().map(|s| (&s["id"], &s["kind"], &s["minted_by"], &s["current"])).collect();
    let [one, two, three] = [&first.token, &cli, &second.token].map(|jwt| json!(id(jwt)));
    assert_eq!(
        shown,
        [
            (&three, &json!("session"), &Value::Null, &json!(true)),
            (&two, &json!("command_line"), &one, &json!(false)),
            (&one, &json!("session"), &Value::Null, &json!(false)),
        ]
    );
    let theirs = expect(200, client.by_console(Method::GET, "/v1/sessions/", &stranger)).await.json();
    let theirs = &theirs["sessions"][0];
    assert_eq!((&theirs["id"], &theirs["kind"]), (&json!(stranger.id), &json!("console_session")));
    assert_eq!(theirs["current"], json!(true));
}

/// A session that has expired is over, and so is one from before a suspension.
#[tokio::test]
async fn what_no_longer_works_is_not_listed() {
    let client = client().await;
    let email = address("session-over");
    let login = client.login(&email).await;
    let user = tally_events::UserId(login.user["id"].as_str().expect("an id").parse().expect("a UUID"));
    let past = crate::support::past::Past::shifted(chrono::TimeDelta::hours(1)).await;
    past.log_in(&email, user, chrono::TimeDelta::minutes(-61)).await;
    assert_eq!(ids(&client, &login.token).await, [id(&login.token)]);
    let (_, token) = client.mint(&login.token, "before").await;
    for word in ["suspend", "reinstate"] {
        let mut command = crate::support::shared().await.command(&["user", word, &email]);
        assert!(command.output().expect("the binary runs").status.success());
    }
    let past = crate::support::past::Past::shifted(chrono::TimeDelta::hours(3)).await;
    past.issue_code(&email, "123456").await;
    let verify = client.post("/auth/verify-code", &json!({ "email": email, "code": "123456" }));
    let fresh = expect(200, verify).await.json()["token"].as_str().expect("a token").to_owned();
    assert_eq!(ids(&client, &fresh).await, [id(&fresh)]);
    assert!(!client.accepts(&token).await);
}

/// By a token, which is no session, none is the current one.
#[tokio::test]
async fn a_personal_access_token_lists_and_ends_sessions() {
    let client = client().await;
    let login = person("session-pat").await;
    let (_, token) = client.mint(&login.token, "laptop").await;
    let listed = list(&client, &token).await;
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0]["id"], &listed[0]["current"]), (&json!(id(&login.token)), &json!(false)));
    let answer = expect(204, end(&client, &id(&login.token), &token)).await;
    assert_eq!(answer.header("x-revocation"), Some("effective"));
    assert!(
        !client.accepts(&login.token).await && client.accepts(&token).await,
        "a token outlives its session"
    );
    assert_eq!(list(&client, &token).await, Vec::<Value>::new());
    assert_eq!(reason(&client, &token, &id(&login.token)).await, json!("requested"));
    let (status, code, needs) = (403, "insufficient_scope", "a session is required");
    problem(status, code, needs, delete(&client, "/v1/sessions/current", &token)).await;
}

/// 204 and effective, a second time too; a session of somebody else's, or of nobody's, answers the
/// same and nothing happens; what is no id is 400.
#[tokio::test]
async fn a_session_is_ended_by_its_id() {
    let client = client().await;
    let (login, stranger) = (person("session-end").await, person("session-stranger").await);
    let other = again(&client, &login).await;
    let other_id = id(&other.token);
    let unknown = uuid::Uuid::now_v7().to_string();
    for target in [&id(&stranger.token), &unknown, &other_id, &other_id, &other_id.to_uppercase()] {
        let answer = expect(204, end(&client, target, &login.token)).await;
        assert_eq!(answer.header("x-revocation"), Some("effective"));
        assert!(answer.header("x-log-position").is_some_and(|position| position != "0"));
    }
    assert!(!client.accepts(&other.token).await);
    assert!(client.accepts(&login.token).await && client.accepts(&stranger.token).await);
    assert_eq!(reason(&client, &login.token, &other_id).await, json!("requested"));
    let ended: i64 = sqlx::query_scalar(
        "select count(*) from event where stream_id = $1::uuid and name = 'session.ended'",
    )
    .bind(&other_id)
    .fetch_one(&mut connection().await)
    .await
    .expect("the log");
    assert_eq!(ended, 1);
    for wrong in
        ["x", "current-", &other_id.replace('-', ""), "%FF", "pak-018f0000-0000-7000-8000-000000000000"]
    {
        problem(400, "bad_request", "invalid session id", end(&client, wrong, &login.token)).await;
    }
}

/// A change by cookie needs its CSRF token here as everywhere.
#[tokio::test]
async fn ending_by_cookie_needs_the_csrf_token() {
    let client = client().await;
    let login = person("session-csrf").await;
    let other = again(&client, &login).await;
    for (method, path) in [
        (Method::DELETE, format!("/v1/sessions/{}", id(&other.token))),
        (Method::POST, "/v1/sessions/end-others".to_owned()),
        (Method::DELETE, "/v1/sessions/current".to_owned()),
    ] {
        for csrf in [None, Some(other.csrf_cookie.as_str())] {
            let request = by_cookie(&client, method.clone(), &path, &login, csrf);
            problem(403, "forbidden", "CSRF validation failed", request).await;
        }
    }
    assert!(client.accepts(&other.token).await && client.accepts(&login.token).await);
    let path = format!("/v1/sessions/{}", id(&other.token));
    expect(204, by_cookie(&client, Method::DELETE, &path, &login, Some(&login.csrf_cookie))).await;
    assert!(!client.accepts(&other.token).await);
}

/// What a session started for the command line goes with it, however it ends; personal access tokens
/// stay.
#[tokio::test]
async fn a_session_takes_those_it_started_with_it() {
    let client = client().await;
    for how in ["by id", "by logging out", "by the older route"] {
        let login = person("session-line").await;
        let other = again(&client, &login).await;
        let cli = [for_the_command_line(&client, &login).await, for_the_command_line(&client, &login).await];
        let kept = for_the_command_line(&client, &other).await;
        let (_, token) = client.mint(&cli[0], "minted by it").await;
        match how {
            "by id" => expect(204, end(&client, &id(&login.token), &other.token)).await,
            "by logging out" => expect(204, delete(&client, "/v1/sessions/current", &login.token)).await,
            _ => expect(200, client.post("/auth/logout", &json!({})).bearer_auth(&login.token)).await,
        };
        for ended in [&login.token, &cli[0], &cli[1]] {
            assert!(!client.accepts(ended).await, "{how}");
        }
        for alive in [&other.token, &kept, &token] {
            assert!(client.accepts(alive).await, "{how}");
        }
        assert_eq!(reason(&client, &other.token, &id(&cli[0])).await, json!("parent_ended"), "{how}");
        let expected = if how == "by id" { "requested" } else { "logged_out" };
        assert_eq!(reason(&client, &other.token, &id(&login.token)).await, json!(expected), "{how}");
    }
}

/// Where a clock stands ahead, a session seems to be over that will be accepted when the clock is right again.
#[tokio::test]
async fn what_only_a_clock_calls_over_is_ended_too() {
    let client = client().await;
    for how in ["below", "others"] {
        let login = person("session-clock").await;
        let other = again(&client, &login).await;
        let cli = for_the_command_line(&client, &other).await;
        let shift = async |hours: f64| {
            let sql =
                "update sessions set expires_at = expires_at + $2 * interval '1 hour' where id = $1::uuid";
            let mut database = connection().await;
            sqlx::query(sql).bind(id(&cli)).bind(hours).execute(&mut database).await.expect("a session");
        };
        let expires_in = expiry_of(&cli) - now();
        let hours = expires_in.as_seconds_f64() / 3600.0 + 1.0;
        // As it looks to a clock by which it ended an hour ago.
        shift(-hours).await;
        match how {
            "below" => expect(204, end(&client, &id(&other.token), &login.token)).await,
            _ => expect(200, end_others(&client, &login.token)).await,
        };
        shift(hours).await;
        assert!(!client.accepts(&cli).await, "{how}");
    }
}

/// When a JWT says that it expires.
fn expiry_of(jwt: &str) -> DateTime<Utc> {
    DateTime::from_timestamp(claims(jwt)["exp"].as_i64().expect("seconds"), 0).expect("a time")
}

/// All but the one that asks, those it started itself included; the answer names them.
#[tokio::test]
async fn all_other_sessions_are_ended_at_once() {
    let client = client().await;
    let login = person("session-others").await;
    let other = again(&client, &login).await;
    let mine = for_the_command_line(&client, &login).await;
    let theirs = for_the_command_line(&client, &other).await;
    let (_, token) = client.mint(&other.token, "stays").await;
    let answer = expect(200, end_others(&client, &login.token)).await;
    assert_eq!(answer.header("x-revocation"), Some("effective"));
    assert_eq!(fields(&answer.json()), ["ended"]);
    let mut ended: Vec<String> = serde_json::from_value(answer.json()["ended"].clone()).expect("ids");
    let mut expected = [&other.token, &mine, &theirs].map(|jwt| id(jwt)).to_vec();
    ended.sort();
    expected.sort();
    assert_eq!(ended, expected);
    for gone in [&other.token, &mine, &theirs] {
        assert!(!client.accepts(gone).await);
    }
    assert!(client.accepts(&login.token).await && client.accepts(&token).await);
    assert_eq!(reason(&client, &login.token, &id(&other.token)).await, json!("others_ended"));
    let again = expect(200, end_others(&client, &login.token)).await;
    assert_eq!((again.json(), again.header("x-revocation")), (json!({ "ended": [] }), Some("effective")));
    assert!(again.header("x-log-position").is_some_and(|position| position != "0"));
}

/// A session of the command line stays when it ends all others, the one that started it among them.
#[tokio::test]
async fn the_session_that_asks_stays_also_below_one_that_goes() {
    let client = client().await;
    let login = person("session-below").await;
    let cli = for_the_command_line(&client, &login).await;
    let answer = expect(200, end_others(&client, &cli)).await;
    assert_eq!(answer.json(), json!({ "ended": [id(&login.token)] }));
    assert!(client.accepts(&cli).await && !client.accepts(&login.token).await);
}

/// By a token all of them are others. More than one command holds are ended in several.
#[tokio::test]
async fn a_token_ends_every_session_however_many() {
    let client = client().await;
    let login = person("session-many").await;
    let (_, token) = client.mint(&login.token, "laptop").await;
    let many = join_all((0..110).map(|_| for_the_command_line(&client, &login))).await;
    assert_eq!(ids(&client, &token).await.len(), 111);
    let answer = expect(200, end_others(&client, &token)).await;
    assert_eq!(answer.json()["ended"].as_array().map(Vec::len), Some(111));
    assert_eq!(ids(&client, &token).await, Vec::<String>::new());
    for gone in many.iter().chain([&login.token]) {
        assert!(!client.accepts(gone).await);
    }
}

/// With `line=true` what the session minted goes too, and what it started did, and all below; other
/// tokens stay, and by themselves all of them do.
#[tokio::test]
async fn what_a_session_minted_goes_with_it_if_asked() {
    let (client, login) = (client().await, person("session-line").await);
    let other = again(&client, &login).await;
    let jwt = for_the_command_line(&client, &other).await;
    let (first, by_session) = client.mint(&other.token, "by the session").await;
    let (_, below) = client.mint(&by_session, "below").await;
    let (second, by_command_line) = client.mint(&jwt, "by the command line").await;
    let (_, kept) = client.mint(&login.token, "by another session").await;
    let session = id(&other.token);
    let path = format!("/v1/sessions/{session}");
    let wrong = delete(&client, &format!("{path}?line=perhaps"), &login.token);
    problem(400, "bad_request", "line must be true or false", wrong).await;
    assert!(client.accepts(&other.token).await);

    expect(204, delete(&client, &path, &login.token)).await;
    assert!(!client.accepts(&other.token).await && !client.accepts(&jwt).await);
    for token in [&by_session, &below, &by_command_line, &kept] {
        assert!(client.accepts(token).await);
    }
    // It has ended, and may be asked for again.
    for _ in 0..2 {
        let answer = expect(204, delete(&client, &format!("{path}?line=true"), &login.token)).await;
        assert_eq!(answer.header("x-revocation"), Some("effective"));
        for token in [&by_session, &below, &by_command_line] {
            assert!(!client.accepts(token).await);
        }
    }
    assert!(client.accepts(&kept).await && client.accepts(&login.token).await);
    for token in [first, second] {
        let reason: String = sqlx::query_scalar(
            "select payload->>'reason' from event where stream_id = $1::uuid and name = 'token.revoked'",
        )
        .bind(&token)
        .fetch_one(&mut connection().await)
        .await
        .expect("it was revoked once");
        let reason: Value = serde_json::from_str(&reason).expect("JSON");
        assert_eq!(reason, json!({ "kind": "session", "ancestor": session }));
    }
    // A stranger who knows the id ends nothing and revokes nothing.
    let stranger = person("session-line-stranger").await;
    let path = format!("/v1/sessions/{}?line=true", id(&login.token));
    expect(204, delete(&client, &path, &stranger.token)).await;
    assert!(client.accepts(&kept).await && client.accepts(&login.token).await);
}
