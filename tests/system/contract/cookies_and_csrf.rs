//! *Cookies and CSRF*.

use chrono::{DateTime, TimeDelta};
use reqwest::Method;
use rstest::rstest;
use serde_json::json;
use tally_tests::{Answer, Client, client::answer};

use crate::support::{
    address, by_cookie, client, csrf_of, csrf_with, delete, expect, log_lines, near, now, past::claims,
    person, refused, replica,
};

const MONTH_SECONDS: i64 = 30 * 24 * 60 * 60;

/// The answer to a login.
async fn log_in(client: &Client, email: &str) -> Answer {
    let code = client.code(email).await;
    expect(200, client.post("/auth/verify-code", &json!({ "email": email, "code": code }))).await
}

/// An attribute's value, such as `Max-Age`; a flag's is empty.
fn attribute<'a>(attributes: &'a [String], name: &str) -> Option<&'a str> {
    let mut found = attributes.iter().filter_map(|text| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        key.eq_ignore_ascii_case(name).then_some(value)
    });
    let value = found.next();
    assert_eq!(found.next(), None, "{name} stands twice");
    value
}

/// Path=/, SameSite=Strict, HttpOnly for the one that JavaScript must not read; no Secure on http.
#[tokio::test]
async fn cookies_have_their_attributes() {
    let client = client().await;
    let answer = log_in(&client, &address("attributes")).await;
    assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 2);
    for (name, http_only) in [("multica_auth", true), ("multica_csrf", false)] {
        let (_, attributes) = answer.cookie(name).expect(name);
        assert_eq!(attribute(&attributes, "Path"), Some("/"));
        assert_eq!(attribute(&attributes, "SameSite"), Some("Strict"));
        assert_eq!(attribute(&attributes, "HttpOnly").is_some(), http_only, "{name}");
        assert_eq!(attribute(&attributes, "Secure"), None);
        assert_eq!(attribute(&attributes, "Domain"), None);
    }
}

/// Max-Age and Expires come from one clock reading and one TTL, for both cookies.
#[tokio::test]
async fn cookies_expire_together_after_the_lifetime() {
    let client = client().await;
    let answer = log_in(&client, &address("expires")).await;
    let times = ["multica_auth", "multica_csrf"].map(|name| {
        let (_, attributes) = answer.cookie(name).expect(name);
        let text = |name| attribute(&attributes, name).expect(name).to_owned();
        (text("Max-Age"), text("Expires"))
    });
    assert_eq!(times[0], times[1]);
    let [(max_age, expires), _] = times;
    assert_eq!(max_age, MONTH_SECONDS.to_string());
    let expires = DateTime::parse_from_rfc2822(&expires).expect("a date").to_utc();
    assert!(near(expires, now() + TimeDelta::seconds(MONTH_SECONDS)), "{expires}");
}

/// Secure iff the frontend is https; an IP literal as COOKIE_DOMAIN is ignored, with one warning.
#[tokio::test]
async fn cookies_are_secure_on_https_and_never_for_an_address() {
    let server =
        replica(&[("FRONTEND_ORIGIN", "https://app.example.org"), ("COOKIE_DOMAIN", "192.0.2.7")]).await;
    let client = server.client();
    for _ in 0..2 {
        let answer = log_in(&client, &address("secure")).await;
        for name in ["multica_auth", "multica_csrf"] {
            let (_, attributes) = answer.cookie(name).expect(name);
            assert_eq!(attribute(&attributes, "Secure"), Some(""), "{name}");
            assert_eq!(attribute(&attributes, "Domain"), None, "{name}");
        }
    }
    let lines = log_lines(&server);
    let warnings: Vec<_> = lines.iter().filter(|line| line.to_string().contains("COOKIE_DOMAIN")).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(warnings[0]["level"], "WARN");
}

/// A COOKIE_DOMAIN that is a name is the cookies' domain, when they are set and when they are cleared.
#[tokio::test]
async fn cookies_have_the_configured_domain() {
    let server = replica(&[("COOKIE_DOMAIN", ".example.org")]).await;
    let client = server.client();
    let set = log_in(&client, &address("domain")).await;
    let cleared = expect(200, client.post("/auth/logout", &json!({}))).await;
    for answer in [set, cleared] {
        for name in ["multica_auth", "multica_csrf"] {
            let (_, attributes) = answer.cookie(name).expect(name);
            let domain = attribute(&attributes, "Domain").map(|domain| domain.trim_start_matches('.'));
            assert_eq!(domain, Some("example.org"));
        }
    }
    assert!(!server.log().contains("COOKIE_DOMAIN"));
}

/// The CSRF value is `hex(16 byte nonce) "." hex(HMAC-SHA-256(auth cookie, nonce))`.
#[tokio::test]
async fn csrf_value_is_an_hmac_under_the_auth_cookie() {
    let login = person("hmac").await;
    let (nonce, _) = login.csrf_cookie.split_once('.').expect("two parts");
    let nonce = hex::decode(nonce).expect("hex");
    assert_eq!(nonce.len(), 16);
    assert_eq!(login.csrf_cookie, csrf_with(&login.auth_cookie, &nonce));
}

/// A cookie-authenticated request other than GET/HEAD/OPTIONS needs the header; 403 without.
#[tokio::test]
async fn csrf_is_checked_on_every_change_by_cookie() {
    let client = client().await;
    let (login, other) = (person("csrf").await, person("csrf-other").await);
    let (id, _) = client.mint(&login.token, "kept").await;
    let own = csrf_of(&login.auth_cookie);
    let short = csrf_with(&login.auth_cookie, &[7; 8]);
    let altered = format!("{}0", &login.csrf_cookie[..login.csrf_cookie.len() - 1]);
    let altered =
        if altered == login.csrf_cookie { format!("{}1", &altered[..altered.len() - 1]) } else { altered };
    let changes = [
        (Method::POST, "/api/tokens".to_owned(), json!({ "name": "by cookie" }), 201),
        (Method::PATCH, "/api/me".to_owned(), json!({ "name": "Ada" }), 200),
        (Method::POST, "/api/cli-token".to_owned(), json!({}), 200),
        (Method::DELETE, format!("/api/tokens/{id}"), json!({}), 204),
    ];
    for (method, path, body, success) in changes {
        let send = |csrf| by_cookie(&client, method.clone(), &path, &login, csrf).json(&body);
        let wrong: [Option<&str>; 7] = [
            None,
            Some(""),
            Some("nonsense"),
            Some("."),
            Some(&altered),
            Some(&other.csrf_cookie),
            Some(&short),
        ];
        for csrf in wrong {
            refused(403, "CSRF validation failed", send(csrf)).await;
        }
        // What counts is the auth cookie, not what the other cookie holds.
        expect(success, send(Some(if success == 201 { &own } else { &login.csrf_cookie }))).await;
    }
}

/// Reading by cookie needs no header, and a Bearer never does.
#[tokio::test]
async fn csrf_is_for_changes_by_cookie_alone() {
    let client = client().await;
    let login = person("csrf-free").await;
    for method in [Method::GET, Method::HEAD] {
        expect(200, by_cookie(&client, method, "/api/me", &login, None)).await;
    }
    expect(201, client.post("/api/tokens", &json!({ "name": "by bearer" })).bearer_auth(&login.token)).await;
}

/// CSRF is re-issued whenever the auth cookie is: it belongs to the new one and not to the old.
#[tokio::test]
async fn csrf_is_reissued_with_the_auth_cookie() {
    let client = client().await;
    let (one, two) = (person("reissued").await, person("reissued").await);
    assert_ne!(one.csrf_cookie, two.csrf_cookie);
    let name = json!({ "name": "x" });
    let send = |csrf: &str| by_cookie(&client, Method::POST, "/api/tokens", &two, Some(csrf)).json(&name);
    refused(403, "CSRF validation failed", send(&one.csrf_cookie)).await;
    expect(201, send(&two.csrf_cookie)).await;
}

/// A change that carries an Origin must name an allow-listed one, whatever the credential.
#[tokio::test]
async fn origin_of_a_change_must_be_allowed() {
    let client = client().await;
    let login = person("origin").await;
    let (id, _) = client.mint(&login.token, "kept").await;
    for foreign in [
        "https://evil.example",
        "null",
        "http://localhost:3001",
        "https://localhost:3000",
        "http://localhost:3000.evil.example",
    ] {
        let email = address("origin");
        for request in [
            client.post("/api/tokens", &json!({ "name": "x" })).bearer_auth(&login.token),
            by_cookie(&client, Method::PATCH, "/api/me", &login, Some(&login.csrf_cookie)).json(&json!({})),
            delete(&client, &format!("/api/tokens/{id}"), &login.token),
            client.post("/auth/send-code", &json!({ "email": email })),
            client.post("/auth/verify-code", &json!({ "email": email, "code": "000000" })),
            client.post("/auth/logout", &json!({})).bearer_auth(&login.token),
        ] {
            let answer = answer(request.header("origin", foreign)).await;
            assert_eq!(answer.status, 403, "{foreign}: {}", answer.text);
            assert_eq!(answer.header("content-type"), Some("application/json"));
        }
        // Reading is for the browser to forbid.
        expect(200, client.get("/api/me").bearer_auth(&login.token).header("origin", foreign)).await;
    }
    assert!(client.accepts(&login.token).await, "a refused logout ended the session");
    let own = client.post("/api/tokens", &json!({ "name": "x" })).bearer_auth(&login.token);
    expect(201, own.header("origin", "http://localhost:3000")).await;
}

/// Login routes take JSON only, so that no form of another site logs anybody in.
#[rstest]
#[case::a_form("application/x-www-form-urlencoded")]
#[case::a_plain_text("text/plain")]
#[case::a_multipart_form("multipart/form-data; boundary=x")]
#[case::nothing("")]
#[tokio::test]
async fn login_routes_take_json_only(#[case] content_type: &str) {
    let client = client().await;
    let email = address("form");
    for path in ["/auth/send-code", "/auth/verify-code"] {
        let body = json!({ "email": email, "code": "000000" }).to_string();
        let mut request = client.request(Method::POST, path).body(body);
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        let answer = expect(415, request).await;
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 0);
    }
    // Nothing was sent: the address need not wait for its first code.
    expect(200, client.post("/auth/send-code", &json!({ "email": email }))).await;
}

/// AUTH_TOKEN_TTL is a Go-style duration or seconds; what cannot be is told and means 30 days; more
/// than ten years is told and taken. Cookies and JWT have the same lifetime.
#[rstest]
#[case::a_duration("1h30m", 5400, false)]
#[case::seconds("5400", 5400, false)]
#[case::garbage("soon", MONTH_SECONDS, true)]
#[case::zero("0", MONTH_SECONDS, true)]
#[case::negative("-1h", MONTH_SECONDS, true)]
#[case::overflow("99999999999999999999h", MONTH_SECONDS, true)]
#[case::over_ten_years("87648h", 315_532_800, true)]
#[tokio::test]
async fn auth_token_ttl_forms(#[case] ttl: &str, #[case] seconds: i64, #[case] warns: bool) {
    let server = replica(&[("AUTH_TOKEN_TTL", ttl)]).await;
    let answer = log_in(&server.client(), &address("ttl")).await;
    let (jwt, attributes) = answer.cookie("multica_auth").expect("the cookie");
    assert_eq!(attribute(&attributes, "Max-Age"), Some(seconds.to_string().as_str()));
    let claims = claims(&jwt);
    assert_eq!(claims["exp"].as_i64().zip(claims["iat"].as_i64()).map(|(exp, iat)| exp - iat), Some(seconds));
    let lines = log_lines(&server);
    let told = lines
        .iter()
        .filter(|line| line["message"].as_str().is_some_and(|text| text.contains("AUTH_TOKEN_TTL")));
    let levels: Vec<_> = told.map(|line| line["level"].clone()).collect();
    assert_eq!(levels, if warns { vec![json!("WARN")] } else { vec![] });
}
