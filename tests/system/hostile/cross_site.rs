//! What another site's page can make a browser send.

use reqwest::Method;
use serde_json::json;
use tally_tests::{Client, Login, client::answer};

use super::{ORIGIN, assert_calm, assert_error, somebody};
use crate::support::address;

const EVIL: [&str; 12] = [
    "null",
    "https://evil.example",
    "http://app.example.org",
    "https://app.example.org:444",
    "https://app.example.org.evil.example",
    "https://evil.example/https://app.example.org",
    "https://app.example.org@evil.example",
    "https://APP.example.org",
    "https://app.example.org/",
    "https://app.example.org https://evil.example",
    "app.example.org",
    "",
];

fn changes() -> [(Method, &'static str); 9] {
    let (post, patch, delete) = (Method::POST, Method::PATCH, Method::DELETE);
    [
        (post.clone(), "/auth/send-code"),
        (post.clone(), "/auth/verify-code"),
        (post.clone(), "/auth/google"),
        (post.clone(), "/auth/logout"),
        (post.clone(), "/api/cli-token"),
        (post.clone(), "/api/tokens"),
        (post, "/api/tokens/current/renew"),
        (patch, "/api/me"),
        (delete, "/api/tokens/018f0000-0000-7000-8000-000000000000"),
    ]
}

fn cookies(login: &Login) -> String {
    format!("multica_auth={}; multica_csrf={}", login.auth_cookie, login.csrf_cookie)
}

async fn is_live(client: &Client, login: &Login) -> bool {
    client.accepts(&login.token).await
}

#[tokio::test]
async fn a_change_from_an_origin_that_is_not_listed_is_refused_whatever_it_carries() {
    let (client, login) = somebody().await;
    for (method, path) in changes() {
        for origin in EVIL {
            let request = || {
                client.request(method.clone(), path).header("origin", origin).json(&json!({ "name": "x" }))
            };
            let by_cookie =
                request().header("cookie", cookies(&login)).header("x-csrf-token", &login.csrf_cookie);
            for request in [by_cookie, request().bearer_auth(&login.token), request()] {
                let answer = answer(request).await;
                assert_error(&answer, 403, "origin not allowed", &format!("{method} {path} from `{origin}`"));
                assert!(answer.header("access-control-allow-origin").is_none(), "{path} from `{origin}`");
            }
        }
    }
    assert!(is_live(&client, &login).await, "nobody was logged out from afar");
    let renamed =
        client.request(Method::PATCH, "/api/me").header("origin", ORIGIN).json(&json!({ "name": "Ada" }));
    let renamed = renamed.header("cookie", cookies(&login)).header("x-csrf-token", &login.csrf_cookie);
    assert_eq!(answer(renamed).await.status, 200, "the allowed origin may");
    assert_calm().await;
}

#[tokio::test]
async fn a_page_elsewhere_reads_nothing() {
    let (client, login) = somebody().await;
    for path in ["/api/me", "/api/tokens", "/v1/me", "/v1/audit", "/api/config", "/health", "/x"] {
        for origin in EVIL {
            let request = client.get(path).header("origin", origin).header("cookie", cookies(&login));
            let answer = answer(request).await;
            assert!(answer.header("access-control-allow-origin").is_none(), "{path} for `{origin}`");
        }
        let request = client.get(path).header("origin", ORIGIN).header("cookie", cookies(&login));
        let answer = answer(request).await;
        assert_eq!(answer.header("access-control-allow-origin"), Some(ORIGIN), "{path}");
        assert_eq!(answer.header("access-control-allow-credentials"), Some("true"), "{path}");
        assert!(answer.header("vary").is_some_and(|vary| vary.contains("origin")), "{path}");
    }
    for (method, path) in changes() {
        for origin in EVIL {
            let request = client.request(Method::OPTIONS, path).header("origin", origin);
            let request = request
                .header("access-control-request-method", method.as_str())
                .header("access-control-request-headers", "content-type,x-csrf-token");
            let answer = answer(request).await;
            assert!(answer.header("access-control-allow-origin").is_none(), "{path} for `{origin}`");
        }
    }
    assert_calm().await;
}

#[tokio::test]
async fn a_csrf_token_fits_only_the_cookie_it_was_made_for() {
    let (client, login) = somebody().await;
    let other = client.login(&address("csrf")).await;
    let again = client.login(&address("csrf-again")).await;
    let (nonce, mac) = login.csrf_cookie.split_once('.').expect("nonce and MAC");
    let zero = "0".repeat(64);
    let wrong = [
        String::new(),
        ".".to_owned(),
        nonce.to_owned(),
        format!("{nonce}."),
        format!(".{mac}"),
        format!("{nonce}.{zero}"),
        format!("{}.{mac}", "0".repeat(32)),
        format!("{mac}.{nonce}"),
        format!("{}{}", login.csrf_cookie, "00"),
        login.csrf_cookie[..login.csrf_cookie.len() - 2].to_owned(),
        format!("{0}, {0}", login.csrf_cookie),
        login.auth_cookie.clone(),
        other.csrf_cookie.clone(),
        again.csrf_cookie,
    ];
    for (method, path) in changes().into_iter().filter(|(_, path)| path.starts_with("/api/")) {
        let request = || client.request(method.clone(), path).json(&json!({ "name": "x" }));
        for token in &wrong {
            // The CSRF cookie proves nothing: a neighbouring host can plant one that agrees.
            let planted = format!("multica_auth={}; multica_csrf={token}", login.auth_cookie);
            let answer = answer(request().header("cookie", planted).header("x-csrf-token", token)).await;
            assert_error(&answer, 403, "CSRF validation failed", &format!("{path} with `{token}`"));
        }
        let without = answer(request().header("cookie", cookies(&login))).await;
        assert_error(&without, 403, "CSRF validation failed", path);
        let crossed = format!("multica_auth={}; multica_csrf={}", other.auth_cookie, login.csrf_cookie);
        let crossed =
            answer(request().header("cookie", crossed).header("x-csrf-token", &login.csrf_cookie)).await;
        assert_error(&crossed, 403, "CSRF validation failed", path);
    }
    let logout = client.request(Method::POST, "/auth/logout").header("cookie", cookies(&login));
    let logout = answer(logout.header("x-csrf-token", &other.csrf_cookie)).await;
    assert_eq!((logout.status, logout.header("x-revocation")), (200, None));
    assert!(is_live(&client, &login).await, "a logout without its CSRF token ends nothing");
    assert_calm().await;
}

#[tokio::test]
async fn a_cookie_that_somebody_planted_is_never_a_session() {
    let client = super::server().await.client();
    let planted = "attacker-chosen";
    let email = address("fixated");
    let code = client.code(&email).await;
    let request = client.post("/auth/verify-code", &json!({ "email": email, "code": code }));
    let answered =
        answer(request.header("cookie", format!("multica_auth={planted}; multica_csrf={planted}"))).await;
    assert_eq!(answered.status, 200, "{}", answered.text);
    let (fresh, _) = answered.cookie("multica_auth").expect("a cookie of the server's own");
    let (csrf, _) = answered.cookie("multica_csrf").expect("a cookie of the server's own");
    assert!(fresh != planted && csrf != planted);
    let with = async |cookies: &str| answer(client.get("/api/me").header("cookie", cookies)).await;
    assert_error(&with(&format!("multica_auth={planted}")).await, 401, "invalid token", "the planted cookie");
    // An attacker's session beside the person's own: which of them is meant is not guessed.
    let attacker = client.login(&address("attacker")).await.auth_cookie;
    for (one, other) in [(&fresh, &attacker), (&attacker, &fresh)] {
        let both = with(&format!("multica_auth={one}; multica_auth={other}")).await;
        assert_error(&both, 401, "invalid token", "two cookies in one header");
        let request = client.get("/api/me").header("cookie", format!("multica_auth={one}"));
        let both = answer(request.header("cookie", format!("multica_auth={other}"))).await;
        assert_error(&both, 401, "invalid token", "two cookies in two headers");
    }
    assert_eq!(with(&format!("multica_auth={fresh}; multica_auth={fresh}")).await.status, 200);
    for odd in [
        "multica_auth=",
        "multica_auth",
        "Multica_Auth=x",
        "multica_auth =x; x",
        "=x",
        ";;;",
        "xmultica_auth=x",
    ] {
        let answer = with(odd).await;
        assert!(answer.status == 401, "`{odd}`: {}", answer.status);
    }
    // A second login neither revives nor reuses the first session's cookie.
    let again = client.login(&address("again")).await;
    assert_ne!(again.auth_cookie, fresh);
    assert_calm().await;
}

/// A session of the attacker's, forced on somebody (login CSRF), needs JSON, which no form sends.
#[tokio::test]
async fn a_form_elsewhere_cannot_log_anybody_in() {
    let client = super::server().await.client();
    let email = address("login-csrf");
    let code = client.code(&email).await;
    let body = json!({ "email": email, "code": code }).to_string();
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
    {
        let request = client.request(Method::POST, "/auth/verify-code").header("content-type", content_type);
        let answer = answer(request.body(body.clone())).await;
        assert_error(&answer, 415, "content type must be application/json", content_type);
        assert!(answer.cookie("multica_auth").is_none(), "{content_type}");
    }
    let request =
        client.request(Method::POST, "/auth/verify-code").header("content-type", "application/json");
    assert_eq!(answer(request.body(body)).await.status, 200, "the code was not used up");
    assert_calm().await;
}
