//! Credentials that are almost right, or shown in the wrong place.

use reqwest::Method;
use tally_tests::{Answer, client::answer};

use super::{assert_calm, assert_error, raw_request, server, somebody};

/// The four cases of a no look the same; this is how (RFC 6750 section 3).
#[track_caller]
fn assert_invalid(answer: &Answer, about: &str) {
    assert_error(answer, 401, "invalid token", about);
    let challenge = "Bearer realm=\"tallystick\", error=\"invalid_token\"";
    assert_eq!(answer.header("www-authenticate"), Some(challenge), "{about}");
}

fn altered(token: &str, at: usize) -> String {
    let with = if token.as_bytes()[at] == b'a' { "b" } else { "a" };
    let mut text = token.to_owned();
    text.replace_range(at..=at, with);
    text
}

#[tokio::test]
async fn a_token_that_is_almost_right_is_invalid() {
    let (client, login) = somebody().await;
    let (_, token) = client.mint(&login.token, "almost").await;
    assert!(client.accepts(&token).await);
    let body = &token[4..];
    let legacy = "0123456789abcdef0123456789abcdef01234567";
    let mut wrong = vec![
        ("cut", token[..token.len() - 1].to_owned()),
        ("cut in front", token[1..].to_owned()),
        ("lengthened", format!("{token}0")),
        ("doubled", format!("{token}{token}")),
        ("with its checksum altered", altered(&token, token.len() - 1)),
        ("with its body altered", altered(&token, 10)),
        ("upper-cased", token.to_uppercase()),
        ("lower-cased", token.to_lowercase()),
        ("with an upper-case prefix", format!("MUL_{body}")),
        ("without a prefix", body.to_owned()),
        ("of another kind", format!("pak_{body}")),
        ("of the Fleet's kind", format!("mcn_{body}")),
        ("with its body reversed", format!("mul_{}", body.chars().rev().collect::<String>())),
        ("quoted", format!("\"{token}\"")),
        ("in two parts", format!("{} {}", &token[..20], &token[20..])),
        ("with a tab inside", format!("{}\t{}", &token[..20], &token[20..])),
        ("with a comma behind", format!("{token},")),
        ("twice", format!("{token}, {token}")),
        ("as a list", format!("{token} {token}")),
        ("percent-encoded", token.replace('_', "%5F")),
        ("in base64", base64(&token)),
        ("an unknown one of legacy form", format!("mul_{legacy}")),
        ("an upper-case one of legacy form", format!("mul_{}", legacy.to_uppercase())),
        ("dots", "..".to_owned()),
        ("nothing", String::new()),
        ("blanks", "   ".to_owned()),
        ("an id", login.user["id"].as_str().expect("an id").to_owned()),
    ];
    // The token's hash is what the server stores. Whoever reads it there has nothing to show.
    wrong.push(("its own hash", hash(&token)));
    for (about, text) in wrong.iter().filter(|(_, text)| *text != token) {
        let request = client.get("/api/me").header("authorization", format!("Bearer {text}"));
        assert_invalid(&answer(request).await, about);
    }
    // Bytes that are no text at all.
    let request =
        client.get("/api/me").header("authorization", [b"Bearer \xff".as_slice(), token.as_bytes()].concat());
    assert_invalid(&answer(request).await, "not ASCII");
    assert_calm().await;
}

fn hash(text: &str) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(Sha256::digest(text.as_bytes()))
}

fn base64(text: &str) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(text)
}

/// `Authorization` is read before the cookie, and a Bearer that is wrong in any way is never
/// passed over for it.
#[tokio::test]
async fn a_wrong_bearer_never_falls_back_to_the_cookie() {
    let (client, login) = somebody().await;
    let (_, token) = client.mint(&login.token, "beside a cookie").await;
    let cookie = format!("multica_auth={}", login.auth_cookie);
    let wrong = [
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "bearer x".to_owned(),
        "BEARER mul_".to_owned(),
        format!("Bearer {token}x"),
        format!("Bearer\t{token}"),
        format!("Bearer\t{token}x"),
        format!("Bearer,{token}"),
        format!("Bearer:{token}"),
        format!("Bearer={token}"),
        format!("Bearer{token}"),
    ];
    for text in &wrong {
        for cookie in [None, Some(&cookie)] {
            let mut request = client.get("/api/me").header("authorization", text);
            if let Some(cookie) = cookie {
                request = request.header("cookie", cookie);
            }
            assert_invalid(&answer(request).await, &format!("`{text}` with {cookie:?}"));
        }
    }
    for (first, second) in [
        (format!("Bearer {token}"), format!("Bearer {token}")),
        (format!("Bearer {token}"), "Basic YTpi".to_owned()),
        ("Basic YTpi".to_owned(), format!("Bearer {token}")),
        (String::new(), format!("Bearer {token}")),
        ("Bearer x".to_owned(), format!("Bearer {token}")),
    ] {
        let request = client.get("/api/me").header("authorization", &first).header("authorization", &second);
        assert_invalid(
            &answer(request.header("cookie", &cookie)).await,
            &format!("`{first}` and `{second}`"),
        );
    }
    assert_calm().await;
}

#[tokio::test]
async fn the_scheme_is_bearer_in_any_case_and_no_other() {
    let (client, login) = somebody().await;
    let (_, token) = client.mint(&login.token, "scheme").await;
    for text in [
        format!("Bearer {token}"),
        format!("bEARER {token}"),
        format!("Bearer   {token}"),
        format!("Bearer {token} \t"),
    ] {
        assert_eq!(answer(client.get("/api/me").header("authorization", &text)).await.status, 200, "{text}");
    }
    for text in [
        format!("Basic {token}"),
        format!("Token {token}"),
        token.clone(),
        format!("Digest {token}"),
        String::new(),
    ] {
        let answer = answer(client.get("/api/me").header("authorization", &text)).await;
        assert_error(&answer, 401, "missing authorization", &text);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"tallystick\""), "{text}");
    }
    assert_calm().await;
}

/// P10: a plaintext is in its answer and nowhere else, wherever its holder is careless enough to put it.
#[tokio::test]
async fn a_token_outside_its_header_is_neither_accepted_nor_logged() {
    let (client, login) = somebody().await;
    let (_, token) = client.mint(&login.token, "careless").await;
    let jwt = &login.token;
    for secret in [&token, jwt] {
        for path in ["/api/me", "/v1/me", "/v1/audit", "/api/tokens"] {
            for name in ["access_token", "token", "authorization", "multica_auth"] {
                let answer = answer(client.get(&format!("{path}?{name}={secret}"))).await;
                assert_eq!(answer.status, 401, "{path}?{name}=");
                assert!(answer.text.contains("missing authorization"), "{}", answer.text);
            }
        }
        for (method, path) in [
            (Method::GET, format!("/{secret}")),
            (Method::GET, format!("/api/tokens?{secret}")),
            (Method::DELETE, format!("/api/tokens/{secret}")),
            (Method::POST, format!("/auth/{secret}")),
        ] {
            let answer = answer(client.request(method, &path)).await;
            assert!(matches!(answer.status, 401 | 404), "{path}: {}", answer.status);
        }
        let asked = client.get(&format!("/v1/audit?{secret}=1")).bearer_auth(&token);
        assert_eq!(answer(asked).await.status, 400);
        for header in [
            "x-request-id",
            "user-agent",
            "x-forwarded-for",
            "idempotency-key",
            "x-csrf-token",
            "referer",
            "origin",
        ] {
            let answer = answer(client.get("/api/me").header(header, secret)).await;
            assert_error(&answer, 401, "missing authorization", header);
        }
        let told = serde_json::json!({ "email": secret, "access_token": secret, "token": secret });
        assert_eq!(answer(client.post("/auth/send-code", &told)).await.status, 400);
        assert_eq!(answer(client.post("/auth/verify-code", &told)).await.status, 400);
        assert_eq!(raw_request(&format!("GET /api/me?token={secret} x"), &[]).await.status, Some(400));
    }
    let log = server().await.log();
    for secret in
        [token.as_str(), &token[12..], jwt, jwt.rsplit('.').next().expect("a signature"), &login.csrf_cookie]
    {
        assert!(!log.contains(secret), "a credential is in the log");
    }
    assert_calm().await;
}
