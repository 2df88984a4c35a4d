//! *Login*, without Google.

use std::time::Instant;

use chrono::TimeDelta;
use futures::future::join_all;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sqlx::Row;
use tally_tests::{Answer, Client, Server, client::answer};

use crate::support::{
    BINARY, address, by_cookie, client, codes_in, connection, expect, fields, log_lines,
    past::{Past, claims},
    person, refused, replica, same, shared,
};

const COOLDOWN: &str = "please wait before requesting another code";
const WRONG: &str = "invalid or expired code";

fn send(client: &Client, email: &str) -> RequestBuilder {
    client.post("/auth/send-code", &json!({ "email": email }))
}

fn verify(client: &Client, email: &str, code: &str) -> RequestBuilder {
    client.post("/auth/verify-code", &json!({ "email": email, "code": code }))
}

/// A code that is not this one.
fn not(code: &str) -> String {
    format!("{:06}", (code.parse::<u32>().expect("digits") + 1) % 1_000_000)
}

fn retry_after(answer: &Answer) -> u64 {
    answer.header("retry-after").and_then(|text| text.parse().ok()).expect("Retry-After in seconds")
}

/// send-code: 200 with one message; 400 without an address; unknown fields are ignored.
#[tokio::test]
async fn send_code_answers() {
    let client = client().await;
    let body = json!({ "email": address("send"), "else": { "x": 1 } });
    let answer = expect(200, client.post("/auth/send-code", &body)).await;
    assert_eq!(answer.json(), json!({ "message": "Verification code sent" }));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    for missing in [json!({}), json!({ "email": null }), json!({ "email": "" }), json!({ "email": " \t" })] {
        refused(400, "email is required", client.post("/auth/send-code", &missing)).await;
    }
    expect(
        400,
        client.request(Method::POST, "/auth/send-code").header("content-type", "application/json").body("{"),
    )
    .await;
}

/// 60 s between sends per address, with a sentence and Retry-After, on every replica.
#[tokio::test]
async fn send_code_again_within_60_seconds_is_429() {
    let (client, email) = (client().await, address("cooldown"));
    let other = replica(&[]).await;
    expect(200, send(&client, &email)).await;
    for (client, spelling) in
        [(client, email.clone()), (other.client(), format!(" {} ", email.to_uppercase()))]
    {
        let answer = refused(429, COOLDOWN, send(&client, &spelling)).await;
        assert!((45..=60).contains(&retry_after(&answer)));
    }
}

/// verify-code: 200 with token, user and both cookies; the code has 6 digits.
#[tokio::test]
async fn verify_code_answers_with_token_user_and_cookies() {
    let (client, email) = (client().await, address("verify"));
    let code = client.code(&email).await;
    assert!(code.len() == 6 && code.bytes().all(|byte| byte.is_ascii_digit()), "{code}");
    let answer = expect(200, verify(&client, &email, &code)).await;
    let body = answer.json();
    assert_eq!(fields(&body), ["token", "user"]);
    assert_eq!(body["user"]["email"], email);
    assert_eq!(json!(answer.cookie("multica_auth").expect("the cookie").0), body["token"]);
    assert!(answer.cookie("multica_csrf").is_some());
    let me = expect(200, client.get("/api/me").bearer_auth(body["token"].as_str().expect("a token"))).await;
    assert_eq!(me.json(), body["user"]);
}

/// verify-code: 400 `email and code are required`, 400 `invalid or expired code`.
#[tokio::test]
async fn verify_code_refuses_what_is_missing_or_wrong() {
    let (client, email) = (client().await, address("missing"));
    for missing in [
        json!({}),
        json!({ "email": email }),
        json!({ "code": "123456" }),
        json!({ "email": "", "code": "123456" }),
        json!({ "email": email, "code": " " }),
        json!({ "email": email, "code": null }),
    ] {
        refused(400, "email and code are required", client.post("/auth/verify-code", &missing)).await;
    }
    let code = client.code(&email).await;
    for wrong in [not(&code), format!("{code}0"), code[..5].to_owned(), "abcdef".to_owned()] {
        refused(400, WRONG, verify(&client, &email, &wrong)).await;
    }
}

/// Answers must not reveal whether an address has an account, or ever asked for a code.
#[tokio::test]
async fn login_reveals_no_account() {
    let (client, known) = (client().await, address("known"));
    client.login(&known).await;
    Past::shifted(TimeDelta::hours(1)).await.issue_code(&known, "123456").await;
    let wrong = expect(400, verify(&client, &known, "654321")).await;
    let (asked, never) = (address("asked"), address("never"));
    let code = client.code(&asked).await;
    same(&wrong, &expect(400, verify(&client, &asked, &not(&code))).await);
    same(&wrong, &expect(400, verify(&client, &never, "654321")).await);
    let cooldown = expect(429, send(&client, &asked)).await;
    assert_eq!(expect(429, send(&client, &known)).await.text, cooldown.text);
}

/// A code lives 10 minutes.
#[tokio::test]
async fn login_code_lives_10_minutes() {
    let (client, fresh, stale) = (client().await, address("fresh"), address("stale"));
    Past::shifted(-TimeDelta::seconds(9 * 60 + 30)).await.issue_code(&fresh, "123456").await;
    Past::shifted(-TimeDelta::seconds(10 * 60 + 1)).await.issue_code(&stale, "123456").await;
    expect(200, verify(&client, &fresh, "123456")).await;
    refused(400, WRONG, verify(&client, &stale, "123456")).await;
}

/// A code takes 5 attempts: four wrong ones leave it, the fifth ends it.
#[tokio::test]
async fn login_code_takes_5_attempts() {
    let (client, four, five) = (client().await, address("four"), address("five"));
    for (email, wrong, status) in [(&four, 4, 200), (&five, 5, 400)] {
        let code = client.code(email).await;
        for _ in 0..wrong {
            refused(400, WRONG, verify(&client, email, &not(&code))).await;
        }
        expect(status, verify(&client, email, &code)).await;
    }
}

/// One live code per address: a new one kills the old.
#[tokio::test]
async fn login_a_new_code_kills_the_old() {
    let (client, email) = (client().await, address("newer"));
    let past = Past::shifted(TimeDelta::minutes(2)).await;
    let old = client.code(&email).await;
    past.issue_code(&email, &not(&old)).await;
    refused(400, WRONG, verify(&client, &email, &old)).await;
    expect(200, verify(&client, &email, &not(&old))).await;
}

/// Using or exhausting a code kills every earlier one, and itself.
#[tokio::test]
async fn login_a_used_or_exhausted_code_leaves_none() {
    let client = client().await;
    let past = Past::shifted(TimeDelta::minutes(2)).await;
    let (used, exhausted) = (address("used"), address("exhausted"));
    for email in [&used, &exhausted] {
        let old = client.code(email).await;
        let new = not(&old);
        past.issue_code(email, &new).await;
        if *email == used {
            expect(200, verify(&client, email, &new)).await;
        } else {
            for _ in 0..5 {
                refused(400, WRONG, verify(&client, email, &not(&new))).await;
            }
        }
        refused(400, WRONG, verify(&client, email, &old)).await;
        refused(400, WRONG, verify(&client, email, &new)).await;
    }
}

/// One winner under concurrent guesses, whichever replica they meet; and no more than 5 of them count.
#[tokio::test]
async fn login_has_one_winner_under_concurrent_guesses() {
    let (client, email) = (client().await, address("race"));
    let other = replica(&[]).await;
    let (there, code) = (other.client(), client.code(&email).await);
    let guesses = (0..12).map(|n| answer(verify(if n % 2 == 0 { &client } else { &there }, &email, &code)));
    let answers = join_all(guesses).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 400 | 503)), "{answers:?}");

    let email = address("crowd");
    let code = client.code(&email).await;
    join_all((0..12).map(|_| answer(verify(&client, &email, &not(&code))))).await;
    refused(400, WRONG, verify(&client, &email, &code)).await;
}

/// A code is stored as a salted HMAC: the same digits look different each time, and never as themselves.
#[tokio::test]
async fn login_code_is_stored_as_a_salted_hmac() {
    let past = Past::shifted(TimeDelta::zero()).await;
    for _ in 0..2 {
        past.issue_code(&address("stored"), "135792").await;
    }
    let rows = sqlx::query(
        "select payload::text, payload->>'salt', payload->>'mac' from event
          where name = 'login.code_issued' and recorded_at > clock_timestamp() - interval '10 minutes'",
    )
    .fetch_all(&mut connection().await)
    .await
    .expect("the log");
    assert!(rows.len() >= 2);
    let mut seen = std::collections::HashSet::new();
    for row in rows {
        let (salt, mac): (String, String) = (row.get(1), row.get(2));
        assert!(hex::decode(&salt).is_ok_and(|bytes| bytes.len() == 16), "{salt}");
        assert!(hex::decode(&mac).is_ok_and(|bytes| bytes.len() == 32), "{mac}");
        assert!(!row.get::<String, _>(0).contains("\"135792\""));
        assert!(seen.insert(salt) && seen.insert(mac));
    }
}

/// E-mail is trimmed and lower-cased.
#[tokio::test]
async fn login_address_is_trimmed_and_lower_cased() {
    let (client, email) = (client().await, address("case"));
    let code = client.code(&format!("  {}\n", email.to_uppercase())).await;
    let answer = expect(200, verify(&client, &format!("\t{} ", email.to_uppercase()), &code)).await;
    assert_eq!(answer.json()["user"]["email"], email);
}

/// At most 5 codes an hour per address, on every replica; an existing session is not touched.
#[tokio::test]
async fn login_allows_5_codes_an_hour_per_address() {
    let (client, email) = (client().await, address("five"));
    let login = client.login(&email).await;
    let past = Past::shifted(TimeDelta::minutes(2)).await;
    for _ in 0..3 {
        past.issue_code(&email, "123456").await;
    }
    // Four so far: a minute's wait would do. With the fifth, the hour counts.
    assert!(retry_after(&refused(429, COOLDOWN, send(&client, &email)).await) <= 60);
    past.issue_code(&email, "123456").await;
    let other = replica(&[]).await;
    for client in [&client, &other.client()] {
        let wait = retry_after(&refused(429, COOLDOWN, send(client, &email)).await);
        assert!((3_000..=3_600).contains(&wait), "{wait}");
    }
    assert!(client.accepts(&login.token).await);
}

/// At most 30 failed guesses a day per address; then even the right code waits, and no new one is
/// made. An existing session goes on.
#[tokio::test]
async fn login_allows_30_failed_guesses_a_day_per_address() {
    let (client, email) = (client().await, address("thirty"));
    let login = client.login(&email).await;
    for hours in 1..=6 {
        // Each code takes five guesses; hours apart, as far as the hourly limit can tell.
        Past::shifted(TimeDelta::hours(2 * hours)).await.issue_code(&email, "123456").await;
        for _ in 0..5 {
            refused(400, WRONG, verify(&client, &email, "654321")).await;
        }
    }
    for request in [verify(&client, &email, "123456"), send(&client, &email)] {
        let wait = retry_after(&expect(429, request).await);
        assert!((80_000..=86_400).contains(&wait), "{wait}");
    }
    assert!(client.accepts(&login.token).await);
}

/// A login's history is purged of everything readable an hour after its end.
#[tokio::test]
async fn login_history_is_unreadable_after_an_hour() {
    let (client, old, young) = (client().await, address("old"), address("young"));
    let past = Past::shifted(TimeDelta::hours(-2)).await;
    past.issue_code(&old, "123456").await;
    expect(200, send(&client, &young)).await;
    let keys = async |email: &str| {
        let email = tally_domain::EmailAddress::parse(email).expect("an address");
        let namespace = tally_domain::claim::Namespace::LoginAddress;
        let login = past.store().holder(namespace, email.as_str()).await.expect("the database");
        let row = sqlx::query(
            "select count(k.id) from event e
               left join keys.subject k on k.id = (e.payload->>'code_id')::uuid
              where e.stream_id = $1 and e.name = 'login.code_issued'",
        );
        row.bind(login).fetch_one(&mut connection().await).await.expect("the log").get::<i64, _>(0)
    };
    tally_store::purge(past.store().pool(), 90).await.expect("the database");
    assert_eq!((keys(&old).await, keys(&young).await), (0, 1));
    refused(429, COOLDOWN, send(&client, &old)).await;
}

/// Sends until it is refused for the number of requests, and expects `limit` in a minute to pass:
/// exactly as many, and those places that came free while this ran.
async fn fill(limit: u32, since: Instant, send: impl Fn(u32) -> RequestBuilder) {
    let mut passed = 0;
    let refusal = loop {
        let answer = answer(send(passed)).await;
        if answer.status == 429 {
            break answer;
        }
        assert!(matches!(answer.status, 200 | 400), "{answer:?}");
        passed += 1;
    };
    let freed = u32::try_from(since.elapsed().as_millis()).expect("minutes") * limit / 60_000;
    assert!(passed <= limit + freed, "{passed} passed, and {freed} places can have come free");
    assert!(passed >= limit || freed > 0, "{passed} passed");
    assert_eq!(refusal.json(), json!({ "error": "too many requests" }));
    assert!((1..=60).contains(&retry_after(&refusal)));
}

/// Per IP: 5 codes and 20 verifications a minute with Retry-After, across a restart; then
/// X-Forwarded-For counts, but only behind a trusted proxy, and IPv6 per /64.
#[tokio::test]
async fn login_limits_per_address_of_the_network() {
    let limits = [("RATE_LIMIT_AUTH", "5"), ("RATE_LIMIT_AUTH_VERIFY", "20")];
    let mut server = Server::start(BINARY, &limits).await;
    let from = |client: &Client, forwarded: String| {
        send(client, &address("limit")).header("x-forwarded-for", forwarded)
    };
    let client = server.client();
    let began = Instant::now();
    // Nobody is trusted here: what the client says of itself counts for nothing.
    fill(5, began, |n| from(&client, format!("203.0.113.{n}"))).await;
    // A limit of its own.
    fill(20, Instant::now(), |_| verify(&client, &address("limit"), "123456")).await;

    server.restart_with(&[("RATE_LIMIT_TRUSTED_PROXIES", "127.0.0.1/32, 10.0.0.0/8")]).await;
    let client = server.client();
    // Not the five of a new minute: those of before still count.
    let mut again = 0;
    while answer(send(&client, &address("limit"))).await.status == 200 {
        again += 1;
    }
    assert!(again <= began.elapsed().as_secs() / 12, "{again} passed after {:?}", began.elapsed());

    // The rightmost address that is not a proxy of ours counts.
    fill(5, Instant::now(), |n| from(&client, format!("192.0.2.{n}, 198.51.100.1, 10.0.0.7"))).await;
    expect(200, from(&client, "198.51.100.1, 198.51.100.2".to_owned())).await;
    fill(5, Instant::now(), |n| from(&client, format!("2001:db8:0:1:{n}::1"))).await;
    expect(200, from(&client, "2001:db8:0:2::1".to_owned())).await;
}

/// No mailer: the code is printed to the log, and with it only as much of the address as tells two apart.
#[tokio::test]
async fn login_code_goes_to_the_log_without_a_mailer() {
    let (client, email) = (client().await, address("printed"));
    let code = client.code(&email).await;
    let line = log_lines(shared().await).into_iter().find(|line| {
        line["message"].as_str().is_some_and(|text| text.contains(&code) && text.contains("login code"))
    });
    assert!(line.is_some());
    assert!(!shared().await.log().contains(&email));
}

/// The development code works outside production, and still needs a live code.
#[tokio::test]
async fn login_development_code_needs_a_live_code() {
    let server = replica(&[("MULTICA_DEV_VERIFICATION_CODE", "888888")]).await;
    let (client, email) = (server.client(), address("development"));
    refused(400, WRONG, verify(&client, &email, "888888")).await;
    let mailed = client.code(&email).await;
    refused(400, WRONG, verify(&client, &email, &not(&mailed).replace("888888", "888889"))).await;
    expect(200, verify(&client, &email, "888888")).await;
    refused(400, WRONG, verify(&client, &email, "888888")).await;
}

/// In production the development code is ignored, and an error is logged. APP_ENV unset is
/// production with an external database.
#[tokio::test]
async fn login_development_code_is_ignored_in_production() {
    let server = replica(&[("APP_ENV", ""), ("MULTICA_DEV_VERIFICATION_CODE", "888888")]).await;
    let (client, email) = (server.client(), address("production"));
    let mailed = client.code(&email).await;
    let is_another = mailed != "888888";
    if is_another {
        refused(400, WRONG, verify(&client, &email, "888888")).await;
    }
    expect(200, verify(&client, &email, &mailed)).await;
    let lines = log_lines(&server);
    let told: Vec<&Value> =
        lines.iter().filter(|line| line.to_string().contains("MULTICA_DEV_VERIFICATION_CODE")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["level"], "ERROR");
    assert!(!is_another || codes_in(&["888888".to_owned()], server.log().as_bytes()).is_empty());
}

/// ALLOW_SIGNUP=false blocks every new account: send-code answers the same, and 403 comes only after
/// a right code. Accounts that exist log in as ever. `invited` admits nobody without an invitation.
#[tokio::test]
async fn signup_may_be_closed() {
    let (open, known) = (client().await, address("member"));
    open.login(&known).await;
    let answered = expect(200, send(&open, &address("open"))).await;
    let past = Past::shifted(TimeDelta::minutes(2)).await;
    for mode in ["false", "invited"] {
        let server = replica(&[("ALLOW_SIGNUP", mode)]).await;
        let (client, email) = (server.client(), address("stranger"));
        same(&answered, &expect(200, send(&client, &email)).await);
        past.issue_code(&email, "123456").await;
        refused(400, WRONG, verify(&client, &email, "654321")).await;
        let answer = refused(403, "signup prohibited", verify(&client, &email, "123456")).await;
        assert!(answer.cookie("multica_auth").is_none());
        // The right code was used up by the refusal: nobody learns more from it.
        refused(400, WRONG, verify(&client, &email, "123456")).await;
        past.issue_code(&known, "123456").await;
        expect(200, verify(&client, &known, "123456")).await;
        assert_eq!(expect(200, client.get("/api/config")).await.json()["allow_signup"], false);
    }
}

/// `invited` admits addresses with a pending invitation, and only while it is pending; `false` blocks
/// invited ones too.
#[tokio::test]
async fn signup_may_be_by_invitation() {
    let team = crate::support::team::team().await;
    let [invited, declined, blocked] = ["invited", "declined", "blocked"].map(address);
    for email in [&invited, &blocked] {
        team.invite(email, "member").await;
    }
    let gone = team.invite(&declined, "member").await;
    let path = format!("/invitations/{}", gone["id"].as_str().unwrap());
    expect(204, team.delete(&path, &team.owner)).await;
    let server = replica(&[("ALLOW_SIGNUP", "invited")]).await;
    let client = server.client();
    let code = client.code(&declined).await;
    refused(403, "signup prohibited", verify(&client, &declined, &code)).await;
    let code = client.code(&invited).await;
    expect(200, verify(&client, &invited, &code)).await;
    let closed = replica(&[("ALLOW_SIGNUP", "false")]).await;
    let code = closed.client().code(&blocked).await;
    refused(403, "signup prohibited", verify(&closed.client(), &blocked, &code)).await;
}

/// Listed addresses and domains pass in either case; where a list is set, nobody else does.
#[tokio::test]
async fn signup_lists_decide_alone() {
    let listed = address("listed");
    for mode in ["false", "true"] {
        let settings = [
            ("ALLOW_SIGNUP", mode),
            ("ALLOWED_EMAILS", listed.as_str()),
            ("ALLOWED_EMAIL_DOMAINS", "Allowed.example"),
        ];
        let server = replica(&settings).await;
        let client = server.client();
        let domain = address("domain").replace("example.org", "allowed.example");
        let code = client.code(&domain).await;
        expect(200, verify(&client, &domain, &code)).await;
        let stranger = address("stranger");
        let code = client.code(&stranger).await;
        refused(403, "signup prohibited", verify(&client, &stranger, &code)).await;
        if mode == "false" {
            let code = client.code(&listed).await;
            expect(200, verify(&client, &listed, &code)).await;
        }
    }
}

/// logout: 200 `logged out` always, and both cookies are cleared.
#[tokio::test]
async fn logout_is_200_always_and_clears_the_cookies() {
    let client = client().await;
    let login = person("token-logout").await;
    let (_, token) = client.mint(&login.token, "laptop").await;
    let out = || client.post("/auth/logout", &json!({}));
    for request in [
        out(),
        client.request(Method::POST, "/auth/logout"),
        out().bearer_auth("nonsense"),
        out().bearer_auth(&token),
    ] {
        let answer = expect(200, request).await;
        assert_eq!(answer.json(), json!({ "message": "logged out" }));
        for name in ["multica_auth", "multica_csrf"] {
            let (value, attributes) = answer.cookie(name).expect("a cleared cookie");
            assert_eq!(value, "");
            assert!(attributes.iter().any(|text| text == "Max-Age=0"), "{attributes:?}");
            assert!(attributes.iter().any(|text| text == "Path=/"), "{attributes:?}");
        }
    }
    assert!(client.accepts(&token).await, "a personal access token is no session");
}

/// With a Bearer, or a cookie plus valid CSRF, logout ends the session; with the cookie alone it
/// does not. Other sessions go on.
#[tokio::test]
async fn logout_ends_the_session_that_was_proven() {
    let client = client().await;
    let (bearer, cookie, bystander) = (person("out").await, person("out").await, person("out").await);
    expect(200, client.post("/auth/logout", &json!({})).bearer_auth(&bearer.token)).await;
    refused(401, "invalid token", client.get("/api/me").bearer_auth(&bearer.token)).await;
    for csrf in [None, Some(bystander.csrf_cookie.as_str())] {
        expect(200, by_cookie(&client, Method::POST, "/auth/logout", &cookie, csrf)).await;
        assert!(client.accepts(&cookie.token).await);
    }
    expect(200, by_cookie(&client, Method::POST, "/auth/logout", &cookie, Some(&cookie.csrf_cookie))).await;
    refused(401, "invalid token", by_cookie(&client, Method::GET, "/api/me", &cookie, None)).await;
    assert!(client.accepts(&bystander.token).await);
}

/// cli-token: a session gets a new session's JWT, with a life of its own; nothing else does.
#[tokio::test]
async fn cli_token_is_a_new_session_for_a_session_only() {
    let client = client().await;
    let login = person("cli").await;
    let made = expect(200, client.post("/api/cli-token", &json!({})).bearer_auth(&login.token)).await.json();
    assert_eq!(fields(&made), ["token"]);
    let token = made["token"].as_str().expect("a token");
    assert_ne!(claims(token)["sid"], claims(&login.token)["sid"]);
    assert_eq!(claims(token)["sub"], login.user["id"]);
    let by_cookie = by_cookie(&client, Method::POST, "/api/cli-token", &login, Some(&login.csrf_cookie));
    expect(200, by_cookie).await;
    let who = expect(200, client.get("/v1/me").bearer_auth(token)).await.json();
    assert_eq!(who["kind"], "session");
    expect(200, client.post("/auth/logout", &json!({})).bearer_auth(token)).await;
    assert!(!client.accepts(token).await && client.accepts(&login.token).await);
    let (_, token) = client.mint(&login.token, "laptop").await;
    refused(403, "a session is required", client.post("/api/cli-token", &json!({})).bearer_auth(token)).await;
}
