//! Refresh tokens and the cookies they come in.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use tally_tests::{Client, Console, client::answer};

use super::{assert_calm, assert_problem, server, somebody};
use crate::support::{address, connection_to};

const INVALID: &str = "invalid refresh token";
const CSRF: &str = "CSRF validation failed";

async fn opened() -> (Client, Console) {
    let client = server().await.client();
    let console = client.open_console(&address("console")).await;
    (client, console)
}

/// The names of a session's events, oldest first.
async fn events(id: &str) -> Vec<String> {
    sqlx::query_scalar("select name from event where stream_id = $1::uuid order by stream_version")
        .bind(id)
        .fetch_all(&mut connection_to(server().await).await)
        .await
        .expect("the log is there")
}

/// A refresh with these cookies.
fn refresh_with(client: &Client, cookies: &str, csrf: &str) -> RequestBuilder {
    let request = client.request(Method::POST, "/v1/sessions/refresh");
    request.header("cookie", cookies).header("x-csrf-token", csrf)
}

/// Who knows a session's id knows nothing: only a token that this server made refreshes or ends it.
#[tokio::test]
async fn a_refresh_token_that_was_made_up_ends_nothing() {
    let (client, console) = opened().await;
    let bytes = URL_SAFE_NO_PAD.decode(&console.refresh).expect("base64url");
    let (id, rest) = bytes.split_at(16);
    assert_eq!(id, console.id.parse::<uuid::Uuid>().expect("a UUID").as_bytes(), "the id is no secret");
    let (secret, tag) = rest.split_at(32);
    let made = |parts: [&[u8]; 3]| URL_SAFE_NO_PAD.encode(parts.concat());
    let (_, other) = opened().await;
    let other = URL_SAFE_NO_PAD.decode(&other.refresh).expect("base64url");
    let forged = [
        ("another secret", made([id, &[7; 32], tag])),
        ("another tag", made([id, secret, &[0; 16]])),
        ("no tag", made([id, secret, &[]])),
        ("another session's secret and tag", made([id, &other[16..48], &other[48..]])),
        ("another session's id", made([&other[..16], secret, tag])),
        ("nobody's id", made([&[0; 16], secret, tag])),
        ("the standard alphabet", console.refresh.replace('-', "+").replace('_', "/") + "=="),
        ("a space", format!("{} ", &console.refresh[..85])),
        ("the id alone", console.id.clone()),
        ("the access token", console.access.clone()),
        ("the CSRF token", console.csrf.clone()),
        ("much", "A".repeat(20_000)),
    ];
    for (about, forged) in forged {
        let shown = Console { refresh: forged, ..console.clone() };
        assert_problem(&answer(client.refresh(&shown)).await, 401, "invalid_refresh_token", INVALID, about);
    }
    assert_eq!(events(&console.id).await, ["session.started"], "nothing was refreshed, and nothing ended");
    assert_eq!(answer(client.refresh(&console)).await.status, 200);
    assert_calm().await;
}

/// It is no credential: not as a Bearer, and not in the cookie of one.
#[tokio::test]
async fn a_refresh_token_opens_nothing_but_the_next() {
    let (client, console) = opened().await;
    for path in ["/v1/me", "/v1/sessions", "/v1/audit"] {
        for request in [
            client.get(path).bearer_auth(&console.refresh),
            client.get(path).header("cookie", format!("remoco_auth={}", console.refresh)),
            client.get(path).header("cookie", format!("multica_auth={}", console.refresh)),
        ] {
            assert_problem(&answer(request).await, 401, "invalid_token", "invalid token", path);
        }
        let alone = client.get(path).header("cookie", format!("remoco_refresh={}", console.refresh));
        let alone = answer(alone).await;
        assert_problem(&alone, 401, "missing_authorization", "missing authorization", path);
    }
    // Nor is it looked for anywhere but in its cookie.
    let mut body = client.post("/v1/sessions/refresh", &json!({ "refresh_token": console.refresh }));
    body = body.header("cookie", console.cookies("/")).header("x-csrf-token", &console.csrf);
    let body = answer(body.bearer_auth(&console.refresh)).await;
    assert_problem(&body, 401, "missing_authorization", "missing authorization", "a refresh token elsewhere");
    assert_eq!(events(&console.id).await, ["session.started"]);
    assert!(!server().await.log().contains(&console.refresh));
    assert_calm().await;
}

/// A CSRF token belongs to one cookie: that of another session, also of one's own, is none.
#[tokio::test]
async fn a_csrf_token_of_another_cookie_changes_nothing() {
    let (client, console) = opened().await;
    let (_, attacker) = opened().await;
    let (_, login) = somebody().await;
    for csrf in [&attacker.csrf, &login.csrf_cookie, &console.access, &String::new()] {
        let crossed = Console { csrf: csrf.clone(), ..console.clone() };
        for (method, path) in [
            (Method::POST, "/v1/sessions/refresh"),
            (Method::POST, "/v1/sessions/end-others"),
            (Method::DELETE, "/v1/sessions/current"),
        ] {
            let crossed = answer(client.by_console(method, path, &crossed)).await;
            assert_problem(&crossed, 403, "forbidden", CSRF, path);
        }
    }
    // The victim's refresh token beside the attacker's access token and the CSRF token that goes with it
    // renews the victim's session for the victim, and nothing of it is the attacker's to read.
    let planted = format!("remoco_auth={}; remoco_refresh={}", attacker.access, console.refresh);
    let renewed = answer(refresh_with(&client, &planted, &attacker.csrf)).await;
    assert_eq!(Console::of(&renewed).id, console.id);
    assert_calm().await;
}

/// Whatever cookies somebody had planted, a login replaces all of them.
#[tokio::test]
async fn a_planted_cookie_is_never_a_console_session() {
    let client = server().await.client();
    let (_, attacker) = opened().await;
    let email = address("fixated-console");
    let code = client.code(&email).await;
    let login = client.post("/v1/sessions", &json!({ "email": email, "code": code }));
    let login = login.header("cookie", attacker.cookies("/v1/sessions"));
    let login = answer(login.header("x-csrf-token", &attacker.csrf)).await;
    assert_eq!(login.status, 201, "{}", login.text);
    let fresh = Console::of(&login);
    assert!(fresh.id != attacker.id && fresh.access != attacker.access && fresh.refresh != attacker.refresh);
    assert_ne!(fresh.csrf, attacker.csrf);
    let who = answer(client.by_console(Method::GET, "/v1/me", &fresh)).await.json();
    assert_eq!(who["user"]["email"], json!(email));
    // An attacker's cookie beside the person's own: which of them is meant is not guessed.
    let both = format!("remoco_auth={}; {}", attacker.access, fresh.cookies("/"));
    let both = answer(client.get("/v1/me").header("cookie", both)).await;
    assert_problem(&both, 401, "invalid_token", "invalid token", "two access tokens");
    let both = format!("remoco_refresh={}; {}", attacker.refresh, fresh.cookies("/v1/sessions/refresh"));
    let both = answer(refresh_with(&client, &both, &fresh.csrf)).await;
    assert_problem(&both, 401, "invalid_refresh_token", INVALID, "two refresh tokens");
    for console in [&fresh, &attacker] {
        assert_eq!(events(&console.id).await, ["session.started"]);
        assert_eq!(answer(client.refresh(console)).await.status, 200);
    }
    assert_calm().await;
}

/// After a logout whatever was ever given for the session is worth nothing, and says nothing new.
#[tokio::test]
async fn nothing_of_a_session_that_was_logged_out_is_of_use() {
    let (client, first) = opened().await;
    let second = Console::of(&answer(client.refresh(&first)).await);
    let repeated = Console::of(&answer(client.refresh(&first)).await);
    let third = Console::of(&answer(client.refresh(&second)).await);
    assert_eq!(answer(client.by_console(Method::DELETE, "/v1/sessions/current", &third)).await.status, 204);
    for console in [&first, &second, &repeated, &third] {
        let refused = answer(client.refresh(console)).await;
        assert_problem(&refused, 401, "invalid_refresh_token", INVALID, "a refresh");
        assert!(refused.headers.get("set-cookie").is_none());
        assert!(!client.accepts(&console.access).await);
        let change = answer(client.by_console(Method::POST, "/v1/sessions/end-others", console)).await;
        assert_problem(&change, 401, "invalid_token", "invalid token", "a change");
        // To log out again says that one is, and does nothing.
        let again = answer(client.by_console(Method::DELETE, "/v1/sessions/current", console)).await;
        assert_eq!((again.status, again.header("x-revocation")), (204, Some("effective")));
    }
    let ends = events(&first.id).await.into_iter().filter(|name| name == "session.ended").count();
    assert_eq!(ends, 1);
    assert_calm().await;
}

/// What comes from another site's page changes nothing, whatever it carries.
#[tokio::test]
async fn changes_from_elsewhere_are_refused() {
    let (client, console) = opened().await;
    for origin in ["null", "https://evil.example", "http://app.example.org", ""] {
        for (method, path) in [
            (Method::POST, "/v1/sessions"),
            (Method::POST, "/v1/sessions/refresh"),
            (Method::POST, "/v1/sessions/end-others"),
            (Method::DELETE, "/v1/sessions/current"),
            (Method::DELETE, "/v1/sessions/018f0000-0000-7000-8000-000000000000"),
        ] {
            let request = client.by_console(method, path, &console).header("origin", origin);
            let refused = answer(request).await;
            assert_problem(&refused, 403, "forbidden", "origin not allowed", path);
            assert!(refused.headers.get("set-cookie").is_none());
        }
    }
    let form = client.by_console(Method::POST, "/v1/sessions", &console);
    let form = answer(form.header("content-type", "text/plain").body("{}")).await;
    assert_problem(&form, 415, "unsupported_media_type", "content type must be application/json", "a form");
    assert_eq!(events(&console.id).await, ["session.started"]);
    assert!(client.accepts(&console.access).await);
    assert_calm().await;
}

/// Another person's session is as unknown as none, to be ended and to be refreshed.
#[tokio::test]
async fn another_persons_session_is_as_unknown_as_none() {
    let (client, owner) = opened().await;
    let (_, stranger) = opened().await;
    let unknown = uuid::Uuid::now_v7().to_string();
    let mut told = Vec::new();
    for id in [&unknown, &owner.id, &owner.id.to_uppercase()] {
        let path = format!("/v1/sessions/{id}");
        let answer = answer(client.by_console(Method::DELETE, &path, &stranger)).await;
        let headers: Vec<String> = answer.headers.keys().map(ToString::to_string).collect();
        told.push((
            answer.status,
            answer.text.clone(),
            headers,
            answer.header("x-revocation").map(str::to_owned),
        ));
    }
    assert!(told.iter().all(|one| *one == told[0]) && told[0].0 == 204, "{told:?}");
    let ended = answer(client.by_console(Method::POST, "/v1/sessions/end-others", &stranger)).await;
    assert_eq!(ended.json(), json!({ "ended": [] }));
    let listed = answer(client.by_console(Method::GET, "/v1/sessions", &stranger)).await;
    assert!(!listed.text.contains(&owner.id), "{}", listed.text);
    assert!(client.accepts(&owner.access).await);
    assert_calm().await;
}
