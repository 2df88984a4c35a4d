//! *Credentials*, as a proxy asks for them at `/auth/verify`.

use reqwest::{Method, RequestBuilder};
use rstest::rstest;
use serde_json::json;
use tally_tests::{Answer, Client, Login, client::answer};

use crate::support::{UNKNOWN_TOKEN, address, by_cookie, client, delete, expect, person, refused, shared};

/// What a proxy sends about a GET.
fn ask(client: &Client) -> RequestBuilder {
    client.get("/auth/verify").header("x-original-method", "GET")
}

/// Who the proxy is told it is: every header of the answer that names somebody.
fn identity(answer: &Answer) -> Vec<(&str, &str)> {
    let named = ["x-user", "x-agent", "x-task", "x-actor", "x-credential", "x-daemon", "x-workspace", "x-sc"];
    let mut identity: Vec<_> = answer
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().expect("text")))
        .filter(|(name, _)| named.iter().any(|prefix| name.replace('_', "-").starts_with(prefix)))
        .collect();
    identity.sort_unstable();
    identity
}

#[track_caller]
fn assert_is(answer: &Answer, login: &Login, credential: &str, kind: &str) {
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));
    let user = login.user["id"].as_str().expect("an id");
    let expected = [
        ("x-actor-kind", "person"),
        ("x-actor-source", kind),
        ("x-credential-id", credential),
        ("x-user-id", user),
    ];
    assert_eq!(identity(answer), expected);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(answer.header("x-request-id").is_some());
}

/// A good credential: 200, no body, and the identity headers, made by the server.
#[tokio::test]
async fn forward_auth_names_whoever_it_lets_in() {
    let client = client().await;
    let login = person("proxy").await;
    let (id, token) = client.mint(&login.token, "laptop").await;
    assert_is(&expect(200, ask(&client).bearer_auth(&token)).await, &login, &id, "personal_access_token");
    let me = expect(200, client.get("/v1/me").bearer_auth(&login.token)).await.json();
    let session = me["credential_id"].as_str().expect("an id");
    assert_is(&expect(200, ask(&client).bearer_auth(&login.token)).await, &login, session, "session");
    let by_cookie = by_cookie(&client, Method::GET, "/auth/verify", &login, None);
    assert_is(&expect(200, by_cookie.header("x-forwarded-method", "GET")).await, &login, session, "session");
    expect(204, delete(&client, &format!("/api/tokens/{id}"), &login.token)).await;
    refused(401, "invalid token", ask(&client).bearer_auth(&token)).await;
}

/// The guard's table holds here: 401 with a challenge, and 403 for a suspended account.
#[tokio::test]
async fn forward_auth_refuses_as_the_guard_does() {
    let client = client().await;
    refused(401, "missing authorization", ask(&client)).await;
    refused(401, "missing authorization", ask(&client).header("cookie", "multica_auth=")).await;
    for wrong in ["nonsense", "mul_short", UNKNOWN_TOKEN, "a.b.c"] {
        refused(401, "invalid token", ask(&client).bearer_auth(wrong)).await;
    }
    let email = address("proxy-suspended");
    let login = client.login(&email).await;
    expect(200, ask(&client).bearer_auth(&login.token)).await;
    let suspended = shared().await.command(&["user", "suspend", &email]).output().expect("the binary runs");
    assert!(suspended.status.success(), "{}", String::from_utf8_lossy(&suspended.stderr));
    refused(403, "account disabled", ask(&client).bearer_auth(&login.token)).await;
}

/// A wrong Bearer beside a good cookie stays wrong.
#[tokio::test]
async fn forward_auth_never_falls_back_to_the_cookie() {
    let client = client().await;
    let login = person("proxy-cookie").await;
    let asked =
        by_cookie(&client, Method::GET, "/auth/verify", &login, None).header("x-original-method", "GET");
    refused(401, "invalid token", asked.bearer_auth(UNKNOWN_TOKEN)).await;
}

/// A change by cookie needs its CSRF token here too, whichever header names the method.
#[rstest]
#[case::nginx("x-original-method")]
#[case::caddy_and_traefik("x-forwarded-method")]
#[tokio::test]
async fn forward_auth_asks_for_the_csrf_token_of_a_change(#[case] header: &str) {
    let client = client().await;
    let (login, other) = (person("proxy-csrf").await, person("proxy-csrf").await);
    let ask = |method: &str, csrf| {
        by_cookie(&client, Method::GET, "/auth/verify", &login, csrf).header(header, method)
    };
    // A method is written in capitals (RFC 9110 section 9.1): `get` is another one.
    for method in ["POST", "PUT", "PATCH", "DELETE", "BREW", "get"] {
        for wrong in [None, Some(""), Some(other.csrf_cookie.as_str())] {
            refused(403, "CSRF validation failed", ask(method, wrong)).await;
        }
        expect(200, ask(method, Some(&login.csrf_cookie))).await;
        expect(200, client.get("/auth/verify").header(header, method).bearer_auth(&login.token)).await;
    }
    for method in ["GET", "HEAD", "OPTIONS"] {
        expect(200, ask(method, None)).await;
    }
}

/// Without the original method nobody knows whether a CSRF token is needed: a no that every proxy
/// passes on, whatever the credential.
#[tokio::test]
async fn forward_auth_needs_the_original_method() {
    let client = client().await;
    let login = person("proxy-method").await;
    let missing = "the proxy must send the original method as X-Original-Method or X-Forwarded-Method";
    let asked = |path: &str| client.get(path).bearer_auth(&login.token);
    refused(403, missing, asked("/auth/verify")).await;
    refused(403, missing, asked("/auth/verify/original/path")).await;
    refused(403, missing, client.get("/auth/verify")).await;
    for broken in ["", "GE T", "G\u{e9}T"] {
        refused(403, missing, asked("/auth/verify").header("x-original-method", broken)).await;
    }
    let two = "the original method is named in two ways";
    let both = |one: &str, other: &str| {
        asked("/auth/verify").header("x-original-method", one).header("x-forwarded-method", other)
    };
    refused(403, two, both("GET", "POST")).await;
    refused(403, two, both("POST", "GET")).await;
    expect(200, both("POST", "POST")).await;
    let twice =
        asked("/auth/verify").header("x-forwarded-method", "GET").header("x-forwarded-method", "POST");
    refused(403, two, twice).await;
}

/// A location may list the kinds of credential that it takes; no query and no header of a client's adds
/// to the list.
#[tokio::test]
async fn forward_auth_takes_the_kinds_that_a_location_lists() {
    let client = client().await;
    let login = person("proxy-kinds").await;
    let (id, token) = client.mint(&login.token, "laptop").await;
    let ask = |kinds: &str, credential: &str| {
        let path = format!("/auth/verify-only/{kinds}");
        client.get(&path).header("x-original-method", "GET").bearer_auth(credential)
    };
    let tokens = "daemon_token,personal_access_token";
    assert_is(&expect(200, ask(tokens, &token)).await, &login, &id, "personal_access_token");
    for path in [
        "session",
        "session/original/path",
        "session?kinds=personal_access_token",
        "session/personal_access_token",
    ] {
        expect(200, ask(path, &login.token)).await;
        let answer = refused(403, "only this may enter here: session", ask(path, &token)).await;
        let challenge = "Bearer realm=\"tallystick\", error=\"insufficient_scope\"";
        assert_eq!(answer.header("www-authenticate"), Some(challenge));
    }
    refused(403, "only this may enter here: daemon token", ask("daemon_token", &token)).await;
    refused(401, "invalid token", ask("session", UNKNOWN_TOKEN)).await;
    for misspelt in ["sessions", "session,", ",", "session,%20personal_access_token", "Session"] {
        let answer = expect(403, ask(misspelt, &login.token)).await;
        assert!(answer.text.contains("known are session, console_session,"), "{misspelt}: {}", answer.text);
    }
}

/// Envoy asks with the original method, and with the original path behind the prefix.
#[tokio::test]
async fn forward_auth_takes_the_request_as_envoy_sends_it() {
    let client = client().await;
    let login = person("envoy").await;
    let send = |method: Method, named: &str, path: &str| {
        client.request(method, path).header("x-original-method", named).bearer_auth(&login.token)
    };
    for path in ["/auth/verify", "/auth/verify/", "/auth/verify/a", "/auth/verify/a/../b//c?d=e%20f"] {
        for method in [Method::GET, Method::HEAD, Method::POST, Method::DELETE, Method::OPTIONS] {
            let answer = expect(200, send(method.clone(), method.as_str(), path)).await;
            assert_eq!(answer.header("x-user-id"), login.user["id"].as_str(), "{method} {path}");
        }
    }
    let contradicts = send(Method::POST, "GET", "/auth/verify/a");
    refused(403, "the original method is named in two ways", contradicts).await;
    let by_cookie = by_cookie(&client, Method::POST, "/auth/verify/a", &login, None);
    refused(403, "CSRF validation failed", by_cookie.header("x-original-method", "POST")).await;
}

/// A preflight is answered with 200 elsewhere. Here that would let it in without a credential.
#[tokio::test]
async fn forward_auth_lets_no_preflight_in() {
    let client = client().await;
    for path in ["/auth/verify", "/auth/verify/original"] {
        let preflight = client
            .request(Method::OPTIONS, path)
            .header("origin", "http://localhost:3000")
            .header("access-control-request-method", "POST");
        refused(401, "missing authorization", preflight.header("x-original-method", "OPTIONS")).await;
    }
}

/// Identity headers that a client sends are neither believed nor handed back.
#[tokio::test]
async fn forward_auth_is_not_fooled_by_identity_headers() {
    let client = client().await;
    let (login, other) = (person("proxy-forged").await, person("proxy-forged").await);
    let (id, token) = client.mint(&login.token, "laptop").await;
    let forged = |mut request: RequestBuilder| {
        for name in [
            "x-user-id",
            "x_user_id",
            "x-user-email",
            "x-agent-id",
            "x-task-id",
            "x-actor-source",
            "x-actor-kind",
            "x-credential-id",
            "x-workspace-role",
            "x-scopes",
        ] {
            request = request.header(name, other.user["id"].as_str().expect("an id"));
        }
        request
    };
    let answer = answer(forged(ask(&client).bearer_auth(&token))).await;
    assert_is(&answer, &login, &id, "personal_access_token");
    let answer = refused(401, "missing authorization", forged(ask(&client))).await;
    assert_eq!(identity(&answer), []);
    let posted = client.post("/auth/verify", &json!({ "user_id": other.user["id"] }));
    let posted = forged(posted.header("x-original-method", "POST").bearer_auth(&token));
    assert_is(&expect(200, posted).await, &login, &id, "personal_access_token");
}
