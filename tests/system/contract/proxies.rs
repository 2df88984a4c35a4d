//! Real proxies with the configurations of `docs/forward-auth/`: whoever they let through is who the
//! authority says, whatever a client says of itself.

use std::net::SocketAddr;

use reqwest::{Method, RequestBuilder};
use rstest::rstest;
use tally_tests::{Answer, Client, Gate, Login, Port, client::answer, gate::Kind};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::{UNKNOWN_TOKEN, address, delete, expect, person, shared};

/// Every header that names somebody; what the authority sets first.
const SET: [&str; 4] = ["x-user-id", "x-credential-id", "x-actor-kind", "x-actor-source"];
const BLANK: [&str; 8] = [
    "x-user-email",
    "x-user-name",
    "x-agent-id",
    "x-task-id",
    "x-daemon-id",
    "x-workspace-role",
    "x-scopes",
    "x-principal",
];

/// A service that answers with the head of the request it got.
async fn service() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                let answer =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", head.len());
                let whole = [answer.as_bytes(), &head].concat();
                drop(stream.write_all(&whole).await);
            });
        }
    });
    address
}

struct Site {
    gate: Gate,
    authority: Client,
}

impl Site {
    async fn new(kind: Kind) -> Self {
        let authority = shared().await;
        let address = authority.url().strip_prefix("http://").expect("a URL");
        let gate = Gate::start(kind, address, &service().await.to_string()).await;
        Self { gate, authority: authority.client() }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.gate.request(method, path)
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }
}

/// The values of a header that came to the service, in any spelling that a server could fold into it.
fn came<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    let lines = answer.text.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(told, _)| told.to_lowercase().replace('_', "-") == name).map(|(_, value)| value).collect()
}

#[track_caller]
fn assert_is(answer: &Answer, login: &Login, credential: Option<&str>, kind: &str) {
    let user = login.user["id"].as_str().expect("an id");
    assert_eq!(came(answer, "x-user-id"), [user], "{}", answer.text);
    assert_eq!(came(answer, "x-actor-kind"), ["person"]);
    assert_eq!(came(answer, "x-actor-source"), [kind]);
    let told = came(answer, "x-credential-id");
    assert!(told.len() == 1 && credential.is_none_or(|credential| told == [credential]), "{told:?}");
    for name in BLANK.iter().chain(&["authorization"]) {
        assert_eq!(came(answer, name), [""; 0], "{name}: {}", answer.text);
    }
}

/// Every spelling of a name with hyphens or underscores.
fn spellings(name: &str) -> Vec<String> {
    let gaps = name.matches('-').count();
    let spelling = |choice: usize| {
        let parts = name.split('-').enumerate();
        let joined = parts.map(|(place, part)| match place {
            0 => part.to_owned(),
            _ if choice & (1 << (place - 1)) == 0 => format!("-{part}"),
            _ => format!("_{part}"),
        });
        joined.collect()
    };
    (0..1 << gaps).map(spelling).collect()
}

/// A good credential comes through, and the service is told whose it is, however a client has tried to
/// say so itself; no other does.
#[rstest]
#[case::nginx(Kind::Nginx)]
#[case::caddy(Kind::Caddy)]
#[case::traefik(Kind::Traefik)]
#[case::envoy(Kind::Envoy)]
#[tokio::test]
async fn whoever_comes_through_is_who_the_authority_says(#[case] kind: Kind) {
    let site = Site::new(kind).await;
    let (login, other) = (person("gate").await, person("gate").await);
    let (id, token) = site.authority.mint(&login.token, "laptop").await;
    let through = expect(200, site.get("/some/path?a=b").bearer_auth(&token)).await;
    assert!(through.text.starts_with("GET /some/path?a=b HTTP/1.1"), "{}", through.text);
    assert_is(&through, &login, Some(&id), "personal_access_token");

    let forge = |mut request: RequestBuilder| {
        for name in SET.iter().chain(&BLANK).flat_map(|name| spellings(name)) {
            request = request.header(name, other.user["id"].as_str().expect("an id"));
        }
        request
    };
    let through = expect(200, forge(site.get("/")).bearer_auth(&token)).await;
    assert_is(&through, &login, Some(&id), "personal_access_token");

    let nobody = expect(401, forge(site.get("/"))).await;
    assert!(nobody.header("www-authenticate").is_some_and(|words| words.starts_with("Bearer")));
    expect(401, site.get("/").bearer_auth(UNKNOWN_TOKEN)).await;
    expect(204, delete(&site.authority, &format!("/api/tokens/{id}"), &login.token)).await;
    expect(401, site.get("/").bearer_auth(&token)).await;
}

/// A change by cookie needs its CSRF token here too, and a client does not say which method it is.
#[rstest]
#[case::nginx(Kind::Nginx)]
#[case::caddy(Kind::Caddy)]
#[case::traefik(Kind::Traefik)]
#[case::envoy(Kind::Envoy)]
#[tokio::test]
async fn a_change_by_cookie_needs_its_csrf_token(#[case] kind: Kind) {
    let site = Site::new(kind).await;
    let login = person("gate-cookie").await;
    let by_cookie = |method: Method| {
        let cookies = format!("multica_auth={}; multica_csrf={}", login.auth_cookie, login.csrf_cookie);
        site.request(method, "/things").header("cookie", cookies)
    };
    assert_is(&expect(200, by_cookie(Method::GET)).await, &login, None, "session");
    for header in ["x-original-method", "x-forwarded-method", "x_original_method"] {
        expect(403, by_cookie(Method::POST).header(header, "GET")).await;
    }
    let with_token = by_cookie(Method::POST).header("x-csrf-token", &login.csrf_cookie);
    let through = expect(200, with_token.body("a body")).await;
    assert!(through.text.starts_with("POST /things"), "{}", through.text);
    assert_is(&through, &login, None, "session");
}

/// A suspended account is 403, and an authority that is away is no yes.
#[rstest]
#[case::nginx(Kind::Nginx, 503, true)]
#[case::caddy(Kind::Caddy, 502, false)]
#[case::traefik(Kind::Traefik, 500, false)]
#[case::envoy(Kind::Envoy, 503, false)]
#[tokio::test]
async fn in_doubt_the_answer_is_no(#[case] kind: Kind, #[case] away: u16, #[case] says_when: bool) {
    let site = Site::new(kind).await;
    let email = address("gate-suspended");
    let login = site.authority.login(&email).await;
    expect(200, site.get("/").bearer_auth(&login.token)).await;
    let output = shared().await.command(&["user", "suspend", &email]).output().expect("it runs");
    assert!(output.status.success());
    expect(403, site.get("/").bearer_auth(&login.token)).await;

    let nobody = Port::new();
    let gate = Gate::start(kind, &nobody.address().to_string(), &service().await.to_string()).await;
    let request = gate.request(Method::GET, "/").bearer_auth(&login.token);
    let refused = answer(request).await;
    assert_eq!(refused.status, away, "{}", refused.text);
    assert_eq!(refused.header("retry-after").is_some(), says_when);
}
