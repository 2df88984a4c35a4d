//! Sessions of the web console: short access tokens, and refresh tokens that replace each other.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tally_tests::{Answer, Client, Console, client::answer, eventually};

use crate::support::{
    address, by_cookie, client, connection, csrf_of, expect, fields, key, near, now, past::claims, person,
    problem, refused, replica, shared, timestamp,
};

const WRONG_CODE: &str = "invalid or expired code";
const INVALID: &str = "invalid refresh token";
const REUSED: &str = "the refresh token was used before, so its session was ended; log in again";
const FORTNIGHT_SECONDS: i64 = 14 * 24 * 60 * 60;

pub async fn opened(name: &str) -> Console {
    client().await.open_console(&address(name)).await
}

async fn refreshed(client: &Client, console: &Console) -> Console {
    Console::of(&expect(200, client.refresh(console)).await)
}

/// Nothing that shows the session works any more.
pub async fn assert_over(client: &Client, console: &Console) {
    assert!(!client.accepts(&console.access).await);
    problem(401, "invalid_refresh_token", INVALID, client.refresh(console)).await;
}

/// The events of a session, oldest first.
async fn events(session: &str) -> Vec<(String, Value)> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "select name, payload::text from event where stream_id = $1::uuid order by stream_version",
    )
    .bind(session)
    .fetch_all(&mut connection().await)
    .await
    .expect("the log");
    rows.into_iter().map(|(name, payload)| (name, serde_json::from_str(&payload).expect("JSON"))).collect()
}

pub async fn ended_because(session: &str) -> Value {
    let (name, payload) = events(session).await.pop().expect("a session");
    assert_eq!(name, "session.ended");
    payload["reason"].clone()
}

/// These claims, signed with the server's own key as an access token is.
pub async fn forged(claims: &Value) -> String {
    let secret = key(&shared().await.data_dir(), "jwt.secret");
    let header = Header { typ: Some("console-access+jwt".to_owned()), ..Header::new(Algorithm::HS256) };
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret.as_bytes())).expect("a JWT")
}

/// The attributes of a cookie, in lower case, but for when it ends; and that, in seconds from now.
fn attributes(answer: &Answer, name: &str) -> (Vec<String>, i64) {
    let (_, attributes) = answer.cookie(name).expect(name);
    let value = |key: &str| attributes.iter().find_map(|text| text.strip_prefix(key)).expect(key).to_owned();
    let max_age: i64 = value("Max-Age=").parse().expect("seconds");
    let expires = DateTime::parse_from_rfc2822(&value("Expires=")).expect("a date").to_utc();
    assert!(max_age == 0 || near(expires, now() + TimeDelta::seconds(max_age)), "{expires}");
    let mut rest: Vec<String> = attributes
        .iter()
        .filter(|text| !text.starts_with("Max-Age=") && !text.starts_with("Expires="))
        .map(|text| text.to_lowercase())
        .collect();
    rest.sort();
    (rest, max_age)
}

/// 201, a 15 minute access JWT and a refresh token in cookies that scripts cannot read, a CSRF token in
/// one they can; the answer itself holds no token.
#[tokio::test]
async fn the_right_code_opens_a_console_session() {
    let (client, email) = (client().await, address("console"));
    let code = client.code(&email).await;
    let answer = expect(201, client.post("/v1/sessions", &json!({ "email": email, "code": code }))).await;
    let body = answer.json();
    assert_eq!(fields(&body), ["access_expires_at", "expires_at", "id", "kind", "user"]);
    assert_eq!(fields(&body["user"]), ["email", "id", "name"]);
    assert_eq!((&body["kind"], &body["user"]["email"]), (&json!("console_session"), &json!(email)));
    assert!(near(timestamp(&body["access_expires_at"]), now() + TimeDelta::minutes(15)));
    assert!(near(timestamp(&body["expires_at"]), now() + TimeDelta::days(14)));
    assert!(answer.header("x-log-position").is_some());

    assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 3);
    let hidden = ["httponly", "path=/", "samesite=strict"].map(str::to_owned).to_vec();
    let refresh = ["httponly", "path=/v1/sessions", "samesite=strict"].map(str::to_owned).to_vec();
    let readable = ["path=/", "samesite=strict"].map(str::to_owned).to_vec();
    assert_eq!(attributes(&answer, "remoco_auth"), (hidden, FORTNIGHT_SECONDS));
    assert_eq!(attributes(&answer, "remoco_refresh"), (refresh, FORTNIGHT_SECONDS));
    assert_eq!(attributes(&answer, "remoco_csrf"), (readable, FORTNIGHT_SECONDS));

    let console = Console::of(&answer);
    for secret in [&console.access, &console.refresh, &console.csrf] {
        assert!(!answer.text.contains(secret.as_str()));
    }
    let header = jsonwebtoken::decode_header(&console.access).expect("a JWT");
    assert_eq!((header.alg, header.typ.as_deref()), (Algorithm::HS256, Some("console-access+jwt")));
    let claims = claims(&console.access);
    assert_eq!((&claims["sid"], &claims["sub"]), (&json!(console.id), &body["user"]["id"]));
    assert_eq!(claims["exp"].as_i64().zip(claims["iat"].as_i64()).map(|(exp, iat)| exp - iat), Some(900));
    // 16 bytes of id, 256 random bits, 16 bytes of tag.
    assert_eq!(console.refresh.len(), 86);
}

/// Of a refresh token the log keeps the SHA-256 and nothing else.
#[tokio::test]
async fn a_refresh_token_is_stored_only_as_a_hash() {
    let client = client().await;
    let first = opened("console-hash").await;
    let second = refreshed(&client, &first).await;
    let events = events(&first.id).await;
    let hash = |console: &Console| json!(hex::encode(Sha256::digest(console.refresh.as_bytes())));
    assert_eq!(events[0].1["console"]["refresh_hash"], hash(&first));
    assert_eq!((&events[1].1["used_hash"], &events[1].1["refresh_hash"]), (&hash(&first), &hash(&second)));
    let trail = eventually("the refresh in the audit trail", async || {
        let trail = client.get(&format!("/v1/audit?credential={}", first.id)).bearer_auth(&second.access);
        let text = answer(trail).await.text;
        text.contains("session.refreshed").then_some(text)
    })
    .await;
    for (console, place) in [(&first, "the first"), (&second, "the second")] {
        let whole = serde_json::to_string(&events.iter().map(|(_, p)| p).collect::<Vec<_>>()).expect("JSON");
        assert!(!whole.contains(&console.refresh) && !trail.contains(&console.refresh), "{place}");
        assert!(!trail.contains(hash(console).as_str().expect("hex")), "{place}");
        assert!(!shared().await.log().contains(&console.refresh), "{place}");
    }
}

/// The same door as `/auth/verify-code`: the same rules, and the same attempts.
#[tokio::test]
async fn the_door_is_the_same_for_both_kinds_of_session() {
    let (client, email) = (client().await, address("console-door"));
    let code = client.code(&email).await;
    let wrong = format!("{:06}", (code.parse::<u32>().expect("digits") + 1) % 1_000_000);
    let open = |code: &str| client.post("/v1/sessions", &json!({ "email": email, "code": code }));
    let verify = |code: &str| client.post("/auth/verify-code", &json!({ "email": email, "code": code }));
    for body in [json!({}), json!({ "email": email }), json!({ "email": "", "code": code })] {
        let words = "email and code are required";
        problem(400, "bad_request", words, client.post("/v1/sessions", &body)).await;
    }
    let form = client.request(Method::POST, "/v1/sessions").header("content-type", "text/plain").body("{}");
    problem(415, "unsupported_media_type", "content type must be application/json", form).await;
    let foreign = open(&code).header("origin", "https://evil.example");
    problem(403, "forbidden", "origin not allowed", foreign).await;
    for _ in 0..2 {
        problem(400, "invalid_code", WRONG_CODE, open(&wrong)).await;
        refused(400, WRONG_CODE, verify(&wrong)).await;
    }
    let fifth = problem(400, "invalid_code", WRONG_CODE, open(&wrong)).await;
    assert_eq!(fifth.headers.get_all("set-cookie").iter().count(), 0);
    problem(400, "invalid_code", WRONG_CODE, open(&code)).await;
    let closed = replica(&[("ALLOW_SIGNUP", "false"), ("RATE_LIMIT_AUTH_VERIFY", "2")]).await;
    let (client, email) = (closed.client(), address("console-signup"));
    let code = client.code(&email).await;
    let open = || client.post("/v1/sessions", &json!({ "email": email, "code": code }));
    problem(403, "signup_prohibited", "signup prohibited", open()).await;
    expect(400, client.post("/auth/verify-code", &json!({ "email": email, "code": code }))).await;
    problem(429, "rate_limited", "too many requests", open()).await;
}

/// As cookie and as Bearer it reaches what a session reaches; a change by cookie needs its CSRF token.
#[tokio::test]
async fn an_access_token_works_as_cookie_and_as_bearer() {
    let client = client().await;
    let console = opened("console-access").await;
    for request in [
        client.by_console(Method::GET, "/v1/me", &console),
        client.get("/v1/me").bearer_auth(&console.access),
    ] {
        let who = expect(200, request).await.json();
        assert_eq!((&who["kind"], &who["credential_id"]), (&json!("console_session"), &json!(console.id)));
        let until = timestamp(&who["expires_at"]) - now();
        assert!(until <= TimeDelta::minutes(15) && until > TimeDelta::minutes(14), "{until}");
    }
    let name = json!({ "name": "Ada" });
    let change = || client.by_console(Method::PATCH, "/api/me", &console).json(&name);
    expect(200, change()).await;
    expect(200, client.request(Method::PATCH, "/api/me").json(&name).bearer_auth(&console.access)).await;
    let without = client.request(Method::PATCH, "/api/me").header("cookie", console.cookies("/api/me"));
    refused(403, "CSRF validation failed", without.json(&name)).await;
    let mint = client.by_console(Method::POST, "/api/tokens", &console).json(&json!({ "name": "laptop" }));
    let token = expect(201, mint).await.json()["token"].as_str().expect("a token").to_owned();
    assert!(client.accepts(&token).await);
    // One that leaks is good for minutes; what it could start would be good for a month.
    let cli = client.by_console(Method::POST, "/api/cli-token", &console).json(&json!({}));
    refused(403, "a session is required", cli).await;
}

/// An access token ends with its 15 minutes whatever it says of itself.
#[tokio::test]
async fn an_access_token_never_works_longer_than_15_minutes() {
    let client = client().await;
    let console = opened("console-minutes").await;
    let own = claims(&console.access);
    assert!(client.accepts(&forged(&own).await).await, "the forge works");
    let mut over = own.clone();
    over["exp"] = json!(now().timestamp() - 1);
    assert!(!client.accepts(&forged(&over).await).await);
    let mut endless = own.clone();
    endless["exp"] = json!(own["exp"].as_i64().expect("a time") + 100 * 365 * 86_400);
    let who = expect(200, client.get("/v1/me").bearer_auth(forged(&endless).await)).await.json();
    let until = timestamp(&who["expires_at"]) - now();
    assert!(until <= TimeDelta::minutes(15) && until > TimeDelta::minutes(14), "{until}");
}

/// A refresh gives another access token, another refresh token and another CSRF token.
#[tokio::test]
async fn a_refresh_rotates_everything() {
    let client = client().await;
    let first = opened("console-refresh").await;
    let answer = expect(200, client.refresh(&first)).await;
    assert_eq!(fields(&answer.json()), ["access_expires_at", "expires_at", "id", "kind"]);
    assert!(near(timestamp(&answer.json()["expires_at"]), now() + TimeDelta::days(14)));
    assert_eq!(attributes(&answer, "remoco_refresh").1, FORTNIGHT_SECONDS);
    let second = Console::of(&answer);
    assert_eq!(second.id, first.id);
    assert!(second.access != first.access && second.refresh != first.refresh && second.csrf != first.csrf);
    let mixed = Console { csrf: first.csrf.clone(), ..second.clone() };
    let change = |console: &Console| client.by_console(Method::PATCH, "/api/me", console).json(&json!({}));
    refused(403, "CSRF validation failed", change(&mixed)).await;
    problem(403, "forbidden", "CSRF validation failed", client.refresh(&mixed)).await;
    expect(200, change(&second)).await;
    let third = refreshed(&client, &second).await;
    assert!(client.accepts(&first.access).await, "it lives out its minutes");
    let list = expect(200, client.by_console(Method::GET, "/v1/sessions", &third)).await.json();
    assert_eq!(list["sessions"].as_array().map(Vec::len), Some(1));
    assert!(near(timestamp(&list["sessions"][0]["last_seen_at"]), now()));
}

/// Without its CSRF token, or with another cookie's, nothing is refreshed; without a refresh token
/// there is nothing to refresh with.
#[tokio::test]
async fn a_refresh_needs_its_cookie_and_its_csrf_token() {
    let client = client().await;
    let (console, other) = (opened("console-csrf").await, opened("console-csrf-other").await);
    let refresh = |cookies: &str, csrf: &str| {
        let request = client.request(Method::POST, "/v1/sessions/refresh").header("cookie", cookies);
        request.header("x-csrf-token", csrf)
    };
    let cookies = console.cookies("/v1/sessions/refresh");
    for csrf in ["", "nonsense", &other.csrf] {
        problem(403, "forbidden", "CSRF validation failed", refresh(&cookies, csrf)).await;
    }
    let alone = format!("remoco_refresh={}", console.refresh);
    // Of a cookie that is not there anybody could make one.
    for csrf in [console.csrf.clone(), csrf_of("")] {
        for cookies in [alone.clone(), format!("remoco_auth=; {alone}")] {
            problem(403, "forbidden", "CSRF validation failed", refresh(&cookies, &csrf)).await;
        }
    }
    let without = console.cookies("/");
    for none in [&without, &format!("{without}; remoco_refresh="), "a=b"] {
        problem(401, "missing_authorization", "missing authorization", refresh(none, &console.csrf)).await;
    }
    for wrong in ["x", &console.access, &console.refresh[1..], &format!("{}A", console.refresh)] {
        let wrong = format!("{without}; remoco_refresh={wrong}");
        problem(401, "invalid_refresh_token", INVALID, refresh(&wrong, &console.csrf)).await;
    }
    let foreign = client.refresh(&console).header("origin", "https://evil.example");
    problem(403, "forbidden", "origin not allowed", foreign).await;
    assert_eq!(events(&console.id).await.len(), 1, "nothing was refreshed, and nothing ended");
    refreshed(&client, &console).await;
}

/// A token that was used before ends the session, and with it everything that shows it.
#[tokio::test]
async fn a_used_refresh_token_ends_the_session() {
    let client = client().await;
    let first = opened("console-reuse").await;
    let second = refreshed(&client, &first).await;
    let third = refreshed(&client, &second).await;
    problem(401, "refresh_token_reused", REUSED, client.refresh(&first)).await;
    for console in [&first, &second, &third] {
        assert_over(&client, console).await;
    }
    assert_eq!(ended_because(&first.id).await, json!("refresh_token_reused"));
    // Whoever operates the server may want to know.
    let log = shared().await.log();
    let told = log.lines().find(|line| line.contains("used before") && line.contains(&first.id));
    assert!(told.is_some_and(|line| line.contains("WARN")), "{told:?}");
}

/// Within ten seconds a token that was just used gets another answer: the first may be lost.
#[tokio::test]
async fn a_lost_answer_is_asked_for_again() {
    let client = client().await;
    let first = opened("console-lost").await;
    let lost = refreshed(&client, &first).await;
    let arrived = refreshed(&client, &first).await;
    assert!(arrived.refresh != lost.refresh && arrived.id == lost.id);
    let names: Vec<String> = events(&first.id).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["session.started", "session.refreshed", "session.refresh_repeated"]);
    assert!(client.accepts(&arrived.access).await);
    let next = refreshed(&client, &arrived).await;
    refreshed(&client, &next).await;
}

/// Two hold what came of one token: the first to go on shuts the other out, and both once the other tries.
#[tokio::test]
async fn whoever_repeated_a_refresh_beside_its_owner_is_noticed() {
    let client = client().await;
    let first = opened("console-thief").await;
    let (owner, thief) = (refreshed(&client, &first).await, refreshed(&client, &first).await);
    let owner = refreshed(&client, &owner).await;
    problem(401, "refresh_token_reused", REUSED, client.refresh(&thief)).await;
    assert_over(&client, &owner).await;
    assert_over(&client, &thief).await;
    assert_eq!(ended_because(&first.id).await, json!("refresh_token_reused"));
}

/// After ten seconds it was used before, like any other.
#[tokio::test]
async fn ten_seconds_later_it_was_used_before() {
    let client = client().await;
    let first = opened("console-late").await;
    let second = refreshed(&client, &first).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    problem(401, "refresh_token_reused", REUSED, client.refresh(&first)).await;
    assert_over(&client, &second).await;
}

/// However it ended, its refresh token is worth nothing.
#[rstest]
#[case::logged_out("logged_out")]
#[case::by_another("requested")]
#[case::with_all_others("others_ended")]
#[case::by_the_older_route("logged_out")]
#[tokio::test]
async fn an_ended_session_is_refreshed_by_nobody(#[case] reason: &str, #[values(true, false)] renewed: bool) {
    let client = client().await;
    let email = address("console-ended");
    let mut console = client.open_console(&email).await;
    if renewed {
        console = refreshed(&client, &console).await;
    }
    let mint = client.by_console(Method::POST, "/api/tokens", &console).json(&json!({ "name": "laptop" }));
    let token = expect(201, mint).await.json()["token"].as_str().expect("a token").to_owned();
    let answer = match reason {
        "logged_out" if renewed => {
            answer(client.by_console(Method::DELETE, "/v1/sessions/current", &console)).await
        }
        "logged_out" => answer(client.by_console(Method::POST, "/auth/logout", &console)).await,
        "requested" => {
            let path = format!("/v1/sessions/{}", console.id);
            answer(client.request(Method::DELETE, &path).bearer_auth(&token)).await
        }
        _ => answer(client.request(Method::POST, "/v1/sessions/end-others").bearer_auth(&token)).await,
    };
    assert_eq!(answer.header("x-revocation"), Some("effective"), "{} {}", answer.status, answer.text);
    assert_over(&client, &console).await;
    assert_eq!(ended_because(&console.id).await, json!(reason));
    assert!(client.accepts(&token).await);
    if reason == "logged_out" {
        for name in ["remoco_auth", "remoco_refresh", "remoco_csrf"] {
            assert_eq!((answer.cookie(name).expect(name).0.as_str(), attributes(&answer, name).1), ("", 0));
        }
    }
}

/// A refresh token goes to this host alone, whatever `COOKIE_DOMAIN` says; the others go where it says.
#[tokio::test]
async fn neighbouring_hosts_get_no_refresh_token() {
    let server = replica(&[("COOKIE_DOMAIN", "example.org")]).await;
    let (client, email) = (server.client(), address("console-domain"));
    let code = client.code(&email).await;
    let answer = expect(201, client.post("/v1/sessions", &json!({ "email": email, "code": code }))).await;
    for (name, shared) in [("remoco_auth", true), ("remoco_refresh", false), ("remoco_csrf", true)] {
        let (attributes, _) = attributes(&answer, name);
        assert_eq!(attributes.contains(&"domain=example.org".to_owned()), shared, "{name}: {attributes:?}");
    }
}

/// 60 refreshes of a session a minute: who holds a token cannot drown the one who ends it.
#[tokio::test]
async fn a_session_is_refreshed_so_often_and_no_more() {
    let client = client().await;
    let mut console = opened("console-busy").await;
    let (began, mut refreshes) = (Instant::now(), 0);
    let refused = loop {
        let answer = answer(client.refresh(&console)).await;
        if answer.status != 200 {
            break answer;
        }
        console = Console::of(&answer);
        refreshes += 1;
    };
    assert_eq!(
        (refused.status, &refused.json()["detail"]),
        (429, &json!("too many refreshes of this session"))
    );
    assert!(refused.header("retry-after").is_some());
    // One more for each second that they took.
    let allowed = 60..=61 + began.elapsed().as_secs();
    assert!(allowed.contains(&refreshes), "{refreshes} in {:?}", began.elapsed());
    assert!(client.accepts(&console.access).await, "the session goes on");
    let end = client.by_console(Method::DELETE, "/v1/sessions/current", &console);
    expect(204, end).await;
    assert!(!client.accepts(&console.access).await);
}

/// With the cookies of both kinds of session, of two people perhaps, the route says which counts: on
/// `/v1` the console's, everywhere else the other; and one that is no good is not passed over.
#[tokio::test]
async fn the_cookie_that_counts_is_that_of_the_route() {
    let client = client().await;
    let (login, console) = (person("console-both").await, opened("console-both").await);
    let both = |method: Method, path: &str, csrf: Option<&str>| {
        let cookies = format!("multica_auth={}; {}", login.auth_cookie, console.cookies(path));
        let request = client.request(method, path).header("cookie", cookies);
        match csrf {
            Some(csrf) => request.header("x-csrf-token", csrf),
            None => request,
        }
    };
    let shown = expect(200, both(Method::GET, "/v1/me", None)).await.json();
    assert_eq!(shown["credential_id"], json!(console.id));
    assert_eq!(expect(200, both(Method::GET, "/api/me", None)).await.json()["id"], login.user["id"]);
    let change = |csrf| both(Method::PATCH, "/api/me", Some(csrf)).json(&json!({}));
    expect(200, change(&login.csrf_cookie)).await;
    refused(403, "CSRF validation failed", change(&console.csrf)).await;
    let end = |csrf| both(Method::POST, "/v1/sessions/end-others", Some(csrf));
    problem(403, "forbidden", "CSRF validation failed", end(&login.csrf_cookie)).await;
    expect(200, end(&console.csrf)).await;
    // Alone, each counts everywhere.
    assert_eq!(
        expect(200, client.by_console(Method::GET, "/api/me", &console)).await.json()["email"],
        shown["user"]["email"]
    );
    let alone = expect(200, by_cookie(&client, Method::GET, "/v1/me", &login, None)).await.json();
    assert_eq!(alone["user"]["id"], login.user["id"]);
    // An empty cookie is none.
    let empty = format!("remoco_auth=; multica_auth={}", login.auth_cookie);
    expect(200, client.get("/v1/me").header("cookie", empty)).await;

    expect(204, client.by_console(Method::DELETE, "/v1/sessions/current", &console)).await;
    problem(401, "invalid_token", "invalid token", both(Method::GET, "/v1/me", None)).await;
    expect(200, client.post("/auth/logout", &json!({})).bearer_auth(&login.token)).await;
    let fresh = opened("console-both").await;
    let cookies = format!("multica_auth={}; {}", login.auth_cookie, fresh.cookies("/api/me"));
    refused(401, "invalid token", client.get("/api/me").header("cookie", cookies)).await;
}

/// A suspension ends it as it ends every session, and a reinstatement does not bring it back.
#[tokio::test]
async fn a_suspended_person_refreshes_nothing() {
    let client = client().await;
    let email = address("console-suspended");
    let console = client.open_console(&email).await;
    let operate = async |word: &str| {
        let output = shared().await.command(&["user", word, &email]).output().expect("the binary runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    operate("suspend").await;
    let disabled = ["account_disabled", "account disabled"];
    let me = client.by_console(Method::GET, "/v1/me", &console);
    problem(403, disabled[0], disabled[1], me).await;
    problem(403, disabled[0], disabled[1], client.refresh(&console)).await;
    operate("reinstate").await;
    assert_over(&client, &console).await;
    assert_eq!(events(&console.id).await.len(), 1);
}
