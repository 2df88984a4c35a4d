//! *Answers of the guard*, in the order of its table.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use futures::future::join_all;
use jsonwebtoken::{EncodingKey, Header};
use reqwest::Method;
use rstest::rstest;
use serde_json::json;
use tally_events::UserId;
use tally_tests::{Answer, Server, TempPostgres, client::answer, eventually};

use crate::support::{
    BINARY, UNKNOWN_TOKEN, address, client, delete, expect, key, past::Past, person, problem, refused, same,
    shared,
};

/// In bounded time, on a busy machine.
const PROMPT: Duration = Duration::from_secs(10);

/// Every route that wants a credential.
const GUARDED: [(Method, &str); 13] = [
    (Method::GET, "/api/me"),
    (Method::PATCH, "/api/me"),
    (Method::GET, "/api/tokens"),
    (Method::POST, "/api/tokens"),
    (Method::POST, "/api/tokens/current/renew"),
    (Method::DELETE, "/api/tokens/018f0000-0000-7000-8000-000000000000"),
    (Method::POST, "/api/cli-token"),
    (Method::GET, "/v1/me"),
    (Method::GET, "/v1/audit"),
    (Method::GET, "/v1/sessions"),
    (Method::DELETE, "/v1/sessions/018f0000-0000-7000-8000-000000000000"),
    (Method::POST, "/v1/sessions/end-others"),
    (Method::DELETE, "/v1/sessions/current"),
];

/// No credential: 401 `missing authorization`; a wrong one: 401 `invalid token`; each with a challenge.
#[tokio::test]
async fn every_guarded_route_answers_401_without_a_good_credential() {
    let client = client().await;
    for (method, path) in GUARDED {
        let send = || client.request(method.clone(), path).json(&json!({ "name": "x" }));
        let empty = send().header("cookie", "multica_auth=");
        let wrong = send().bearer_auth(UNKNOWN_TOKEN);
        if path.starts_with("/v1") {
            problem(401, "missing_authorization", "missing authorization", send()).await;
            problem(401, "missing_authorization", "missing authorization", empty).await;
            problem(401, "invalid_token", "invalid token", wrong).await;
        } else {
            refused(401, "missing authorization", send()).await;
            refused(401, "missing authorization", empty).await;
            refused(401, "invalid token", wrong).await;
        }
    }
}

/// Malformed, unknown, expired and revoked: the same body for all four, and the same headers; on
/// `/v1` only the request's own id differs.
#[tokio::test]
async fn invalid_tokens_of_all_four_kinds_look_the_same() {
    let client = client().await;
    let login = person("invalid").await;
    let past = Past::shifted(TimeDelta::days(-2)).await;
    let (_, expired) = past.mint(&login.token, Some(1)).await;
    let (id, revoked) = client.mint(&login.token, "revoked").await;
    expect(204, delete(&client, &format!("/api/tokens/{id}"), &login.token)).await;
    let altered = UNKNOWN_TOKEN.replace("0123", "0124");
    let malformed = ["nonsense", "mul_", "mul_short", altered.as_str(), "a.b.c", "..", "mat_x", "é"];
    let invalid = malformed.into_iter().chain([UNKNOWN_TOKEN, expired.as_str(), revoked.as_str()]);
    let (mut api, mut v1): (Vec<Answer>, Vec<Answer>) = (Vec::new(), Vec::new());
    for token in invalid {
        let bearer = format!("Bearer {token}").into_bytes();
        api.push(
            refused(401, "invalid token", client.get("/api/me").header("authorization", bearer.clone()))
                .await,
        );
        let request = client.get("/v1/me").header("authorization", bearer);
        let mut answer = problem(401, "invalid_token", "invalid token", request).await;
        let own = answer.header("x-request-id").expect("a request id").to_owned();
        answer.text = answer.text.replace(&own, "…");
        answer.headers.remove("content-length");
        v1.push(answer);
    }
    for answers in [api, v1] {
        answers.iter().for_each(|answer| same(answer, &answers[0]));
    }
}

/// The same for sessions: expired, ended, unknown and badly signed ones.
#[tokio::test]
async fn invalid_sessions_of_all_four_kinds_look_the_same() {
    let client = client().await;
    let email = address("sessions");
    let past = Past::shifted(TimeDelta::days(-2)).await;
    let user = UserId::new();
    let (session, expires_at) = past.log_in(&email, user, TimeDelta::days(1)).await;
    let sign = |session: uuid::Uuid, expires: i64, secret: &str| {
        let claims = json!({ "iss": "tallystick", "sub": user.0, "sid": session, "iat": 0, "exp": expires });
        let secret = EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&Header::default(), &claims, &secret).expect("a JWT")
    };
    let secret = key(&shared().await.data_dir(), "jwt.secret");
    let later = expires_at.timestamp() + 1_000_000;
    let ended = person("ended").await;
    expect(200, client.post("/auth/logout", &json!({})).bearer_auth(&ended.token)).await;
    // The test signs as the server does: a session of the same person that has not expired is good.
    let (good, good_until) = past_session(&email, user).await;
    assert!(client.accepts(&sign(good, good_until, &secret)).await);
    let mut answers = Vec::new();
    for token in [
        sign(session.0, expires_at.timestamp(), &secret),
        // Expired in the log, whatever the JWT says.
        sign(session.0, later, &secret),
        // Expired by the JWT, whatever the log says.
        sign(good, 1_000_000_000, &secret),
        sign(uuid::Uuid::now_v7(), later, &secret),
        sign(good, good_until, "another secret of at least 32 characters"),
        ended.token,
    ] {
        answers.push(refused(401, "invalid token", client.get("/api/me").bearer_auth(token)).await);
    }
    answers.iter().for_each(|answer| same(answer, &answers[0]));
}

async fn past_session(email: &str, user: UserId) -> (uuid::Uuid, i64) {
    // An hour ahead: the address has just had a code, and nobody waits for the next one here.
    let past = Past::shifted(TimeDelta::hours(1)).await;
    let (session, until) = past.log_in(email, user, TimeDelta::days(1)).await;
    (session.0, until.timestamp())
}

/// Suspended user: 403 `account disabled` for every credential, and at the login door.
#[tokio::test]
async fn a_suspended_user_is_told_that_the_account_is_disabled() {
    let client = client().await;
    let email = address("suspended");
    let login = client.login(&email).await;
    let (_, token) = client.mint(&login.token, "laptop").await;
    let server = shared().await;
    let operate = |word: &str| {
        let output = server.command(&["user", word, &email]).output().expect("the binary runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    operate("suspend");
    for credential in [&login.token, &token] {
        refused(403, "account disabled", client.get("/api/me").bearer_auth(credential)).await;
        problem(403, "account_disabled", "account disabled", client.get("/v1/me").bearer_auth(credential))
            .await;
    }
    // The door says so only to who has a right code.
    let past = Past::shifted(TimeDelta::hours(1)).await;
    past.issue_code(&email, "123456").await;
    let verify = |code: &str| client.post("/auth/verify-code", &json!({ "email": email, "code": code }));
    refused(400, "invalid or expired code", verify("654321")).await;
    refused(403, "account disabled", verify("123456")).await;
    operate("reinstate");
    refused(401, "invalid token", client.get("/api/me").bearer_auth(&token)).await;
}

/// The right credential in the wrong place: 403 naming what is missing, with an RFC 6750 challenge.
#[tokio::test]
async fn the_right_credential_in_the_wrong_place_is_told_what_is_missing() {
    let client = client().await;
    let login = person("scope").await;
    let (_, token) = client.mint(&login.token, "laptop").await;
    let answer =
        refused(403, "a session is required", client.post("/api/cli-token", &json!({})).bearer_auth(&token))
            .await;
    assert_eq!(
        answer.header("www-authenticate"),
        Some("Bearer realm=\"tallystick\", error=\"insufficient_scope\"")
    );
}

/// Errors are JSON on `/api` and `/auth` and problem documents on `/v1`, unknown routes included.
#[rstest]
#[case(Method::GET, "/api/nothing", 404)]
#[case(Method::GET, "/auth/nothing", 404)]
#[case(Method::GET, "/nothing", 404)]
#[case(Method::PUT, "/api/me", 405)]
#[case(Method::GET, "/auth/send-code", 405)]
#[case(Method::GET, "/v1/nothing", 404)]
#[case(Method::PUT, "/v1/me", 405)]
#[tokio::test]
async fn errors_have_the_form_of_their_family(
    #[case] method: Method,
    #[case] path: &str,
    #[case] status: u16,
) {
    let client = client().await;
    let (code, words) =
        if status == 404 { ("not_found", "not found") } else { ("method_not_allowed", "method not allowed") };
    if path.starts_with("/v1") {
        problem(status, code, words, client.request(method, path)).await;
    } else {
        refused(status, words, client.request(method, path)).await;
    }
}

/// Cannot know: 503 with Retry-After within the deadline and never a yes, while the database hangs
/// and while it is gone; and by itself again as before.
#[tokio::test]
async fn without_the_database_the_answer_is_503_and_never_a_yes() {
    let mut postgres = TempPostgres::start().await;
    let options = postgres.database().await;
    let url = postgres.url(&options);
    let server = Server::start(
        BINARY,
        &[
            ("DATABASE_URL", &url),
            ("APP_ENV", "development"),
            ("TALLY_BIND", "127.0.0.1"),
            ("TALLY_OAUTH_CLIENTS", "gateway:hunter2"),
        ],
    )
    .await;
    let client = server.client();
    let login = client.login(&address("outage")).await;
    let (id, token) = client.mint(&login.token, "laptop").await;
    let (revoked_id, revoked) = client.mint(&login.token, "revoked").await;
    expect(204, delete(&client, &format!("/api/tokens/{revoked_id}"), &login.token)).await;
    expect(200, client.get("/readyz")).await;
    assert!(client.accepts(&token).await);

    let frozen = postgres.freeze();
    // Until the lease is over the replica may still know; then it does not, and says so.
    let me = || client.get("/api/me").bearer_auth(&token);
    eventually("the lease to end", async || {
        (answer(client.get("/v1/me").bearer_auth(&token)).await.status == 503).then_some(())
    })
    .await;
    let asked = [
        me(),
        client.get("/auth/verify").header("x-original-method", "GET").bearer_auth(&token),
        client.get("/api/me").bearer_auth(&login.token),
        client.get("/api/me").bearer_auth(&revoked),
        client.get("/api/me").bearer_auth(UNKNOWN_TOKEN),
        client.post("/api/tokens", &json!({ "name": "x" })).bearer_auth(&token),
        delete(&client, &format!("/api/tokens/{id}"), &login.token),
        client.post("/auth/logout", &json!({})).bearer_auth(&login.token),
        client.form("/oauth/introspect", &[("token", &token)]).basic_auth("gateway", Some("hunter2")),
        client.post("/oauth/introspect", &json!([&revoked, &token])).basic_auth("gateway", Some("hunter2")),
        client.form("/oauth/revoke", &[("token", &token)]),
    ];
    let answers = asked.map(async |request| {
        let asked = Instant::now();
        let answer = unavailable(request).await;
        assert!(asked.elapsed() < PROMPT, "{:?}", asked.elapsed());
        assert_eq!(answer.header("content-type"), Some("application/json"));
    });
    let problem = unavailable(client.get("/v1/me").bearer_auth(&token));
    let (_, problem, ()) = tokio::join!(join_all(answers), problem, unready(&client));
    assert_eq!(problem.header("content-type"), Some("application/problem+json"));
    assert_eq!(problem.json()["code"], "unavailable");
    // What needs no lookup needs no database.
    refused(401, "invalid token", client.get("/api/me").bearer_auth("nonsense")).await;
    refused(401, "missing authorization", client.get("/api/me")).await;
    expect(200, client.get("/health")).await;
    drop(frozen);
    recovers(&client, &token, &revoked).await;

    // Gone altogether.
    postgres.process().signal(rustix::process::Signal::QUIT);
    postgres.process().wait();
    eventually("the lease to end", async || {
        (answer(client.get("/v1/me").bearer_auth(&token)).await.status == 503).then_some(())
    })
    .await;
    let code = client.post("/auth/send-code", &json!({ "email": address("outage") }));
    tokio::join!(unavailable(me()), unavailable(code), unready(&client));
    postgres.restart().await;
    recovers(&client, &token, &revoked).await;
}

async fn unavailable(request: reqwest::RequestBuilder) -> Answer {
    let answer = expect(503, request).await;
    let seconds = answer.header("retry-after").and_then(|text| text.parse::<u64>().ok());
    assert!(seconds.is_some_and(|seconds| seconds >= 1), "{:?}", answer.headers);
    answer
}

/// `readyz` and `healthz` are 503 and name the database.
async fn unready(client: &tally_tests::Client) {
    let paths = ["/readyz", "/healthz"];
    join_all(paths.map(async |path| {
        let asked = Instant::now();
        let body = expect(503, client.get(path)).await.json();
        assert!(asked.elapsed() < PROMPT, "{:?}", asked.elapsed());
        assert_ne!(body["status"], "ok");
        assert_ne!(body["checks"]["db"], "ok");
    }))
    .await;
}

/// Nobody restarts anything, and what was revoked still is.
async fn recovers(client: &tally_tests::Client, token: &str, revoked: &str) {
    eventually("the server to recover", async || {
        let ready = answer(client.get("/readyz")).await.status == 200;
        let accepted = answer(client.get("/api/me").bearer_auth(token)).await.status == 200;
        (ready && accepted).then_some(())
    })
    .await;
    refused(401, "invalid token", client.get("/api/me").bearer_auth(revoked)).await;
}
