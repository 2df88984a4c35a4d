//! A server that people come to from issuers, and the issuers.

use chrono::TimeDelta;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tally_tests::{Answer, Client, Issuer, Server, client::answer, issuer::registration};
use tokio::sync::OnceCell;

use super::{address, connection, expect, fields, past::Past, replica};

/// Where the web client is, and the server as browsers reach it. Nobody listens there: the tests are
/// the browser.
pub const FRONTEND: &str = "https://app.example.org";
pub const GOOGLE_REDIRECT: &str = "https://app.example.org/auth/callback";
/// What this server proves itself with at every issuer.
pub const CLIENT_SECRET: &str = "hunter2hunter2hunter2hunter2hunter2";
/// The cookie of a login that is under way.
pub const FLOW: &str = "tally_oidc";
/// The cookie of a login whose address is to be proven.
pub const LINK: &str = "__Host-tally_link";

/// A replica of the shared server with three providers: `google` with what Google is authoritative
/// for, `acme` that is for one domain, and `thin`, whose ID tokens hold no address.
pub struct Site {
    pub issuer: Issuer,
    pub thin: Issuer,
    pub server: Server,
}

/// What a registration at an issuer is called there.
fn client_id(provider: &str) -> String {
    format!("tally-at-{provider}")
}

/// An issuer that knows these providers of a server.
pub async fn issuer_for(providers: &[&str], thin: bool) -> Issuer {
    let registrations: Vec<Value> = providers
        .iter()
        .map(|provider| {
            let mut known = registration(
                &client_id(provider),
                CLIENT_SECRET,
                &format!("{FRONTEND}/auth/oidc/{provider}/callback"),
            );
            known["redirect_uris"].as_array_mut().expect("a list").push(json!(GOOGLE_REDIRECT));
            known
        })
        .collect();
    Issuer::start(&registrations, thin).await
}

/// An entry of `TALLY_OIDC_PROVIDERS`.
pub fn provider(name: &str, issuer: &str) -> Value {
    json!({ "name": name, "issuer": issuer, "client_id": client_id(name), "client_secret": CLIENT_SECRET })
}

/// Google's own authority, at an issuer that is not Google.
pub fn google(issuer: &str) -> Value {
    let mut google = provider("google", issuer);
    google["label"] = json!("Google");
    google["authoritative_domains"] = json!(["gmail.com", "googlemail.com"]);
    google["hosted_domains"] = json!(true);
    google
}

/// A replica of the shared server with these providers.
pub async fn replica_with(providers: &[Value], settings: &[(&str, &str)]) -> Server {
    let list = Value::from(providers).to_string();
    let mut all = vec![
        ("TALLY_OIDC_PROVIDERS", list.as_str()),
        ("FRONTEND_ORIGIN", FRONTEND),
        ("GOOGLE_REDIRECT_URI", GOOGLE_REDIRECT),
    ];
    all.extend(settings);
    replica(&all).await
}

/// The site that tests share.
pub async fn site() -> &'static Site {
    static SITE: OnceCell<Site> = OnceCell::const_new();
    SITE.get_or_init(|| async {
        let (issuer, thin) =
            (issuer_for(&["google", "acme"], false).await, issuer_for(&["thin"], true).await);
        let server = replica_with(&providers(&issuer, &thin), &[("DATABASE_MAX_CONNS", "16")]).await;
        Site { issuer, thin, server }
    })
    .await
}

fn providers(issuer: &Issuer, thin: &Issuer) -> [Value; 3] {
    let mut acme = provider("acme", issuer.url());
    acme["label"] = json!("Acme staff");
    acme["authoritative_domains"] = json!(["acme.example"]);
    [google(issuer.url()), acme, provider("thin", thin.url())]
}

impl Site {
    pub fn client(&self) -> Client {
        self.server.client()
    }

    /// Another replica of the same site.
    pub async fn replica(&self, settings: &[(&str, &str)]) -> Server {
        replica_with(&providers(&self.issuer, &self.thin), settings).await
    }
}

/// Somebody's account at an issuer. Its subject is like no other.
pub fn account(email: &str) -> Value {
    let subject = uuid::Uuid::now_v7().simple().to_string();
    json!({ "sub": subject, "email": email, "email_verified": true, "name": "Ada Lovelace" })
}

/// The account with other claims.
pub fn with(account: &Value, changes: Value) -> Value {
    let mut account = account.clone();
    for (name, value) in changes.as_object().expect("an object") {
        account[name] = value.clone();
    }
    account
}

/// A code for a client of the older protocol, which asks without PKCE and nonce.
pub async fn google_code(issuer: &Issuer, account: &Value) -> String {
    let place = format!(
        "{}/auth?client_id={}&response_type=code&scope=openid%20email%20profile&redirect_uri={GOOGLE_REDIRECT}&state=s",
        issuer.url(),
        client_id("google"),
    );
    let came_back = issuer.visit(&place, account).await;
    query(&came_back, "code").unwrap_or_else(|| panic!("{came_back}"))
}

/// `POST /auth/google` with a fresh code.
pub async fn with_google(client: &Client, issuer: &Issuer, account: &Value) -> RequestBuilder {
    let code = google_code(issuer, account).await;
    client.post("/auth/google", &json!({ "code": code, "redirect_uri": GOOGLE_REDIRECT }))
}

/// A browser in the middle of a login.
pub struct Flow {
    /// The value of its cookie.
    pub cookie: String,
    /// Where the issuer sent it: a path of this server.
    pub callback: String,
}

/// Sends a browser to a provider's issuer and back, up to the callback.
pub async fn under_way(client: &Client, issuer: &Issuer, provider: &str, account: &Value) -> Flow {
    let begun =
        expect(302, client.get(&format!("/auth/oidc/{provider}?return_to=/acme/issues%3Fpage%3D2"))).await;
    let cookie = begun.cookie(FLOW).expect("the cookie of the flow").0;
    let came_back = issuer.visit(location(&begun), account).await;
    let callback = came_back.strip_prefix(FRONTEND).unwrap_or_else(|| panic!("{came_back}")).to_owned();
    Flow { cookie, callback }
}

impl Flow {
    /// The request of the browser that comes back.
    pub fn come_back(&self, client: &Client) -> RequestBuilder {
        client.get(&self.callback).header("cookie", format!("{FLOW}={}", self.cookie))
    }

    /// The same with another value of a parameter, or without it.
    pub fn but(&self, name: &str, value: Option<&str>) -> Self {
        let mut url = url::Url::parse(&format!("{FRONTEND}{}", self.callback)).expect("a URL");
        let pairs: Vec<(String, String)> =
            url.query_pairs().into_owned().filter(|(key, _)| key != name).collect();
        url.query_pairs_mut().clear().extend_pairs(pairs).extend_pairs(value.map(|value| (name, value)));
        let callback = format!("{}?{}", url.path(), url.query().unwrap_or_default());
        Self { cookie: self.cookie.clone(), callback }
    }
}

/// A whole login in a browser.
pub async fn through(client: &Client, issuer: &Issuer, provider: &str, account: &Value) -> Answer {
    answer(under_way(client, issuer, provider, account).await.come_back(client)).await
}

/// Expects the browser to be sent to the login page with this word and nothing else, not logged in, its
/// flow at an end. What stands behind the `#`.
#[track_caller]
pub fn sent_to_login(answer: &Answer, word: &str) -> Option<String> {
    assert_eq!(answer.status, 302, "{}", answer.text);
    let place = url::Url::parse(location(answer)).expect("a URL");
    let query: Vec<(String, String)> = place.query_pairs().into_owned().collect();
    assert_eq!(query, [("error".to_owned(), word.to_owned())], "{place}");
    assert_eq!((place.origin().ascii_serialization().as_str(), place.path()), (FRONTEND, "/login"));
    assert!(answer.cookie("multica_auth").is_none() && answer.cookie("multica_csrf").is_none());
    place.fragment().map(str::to_owned)
}

/// Where an answer sends a browser.
pub fn location(answer: &Answer) -> &str {
    answer.header("location").unwrap_or_else(|| panic!("{} {:?}", answer.status, answer.headers))
}

/// A parameter of a URL's query.
pub fn query(place: &str, name: &str) -> Option<String> {
    let place = url::Url::parse(place).expect("a URL");
    place.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// An address of a domain.
pub fn at(domain: &str) -> String {
    address("somebody").replace("example.org", domain)
}

/// How often a person's history has an event.
pub async fn events(user: &Value, name: &str) -> i64 {
    sqlx::query_scalar("select count(*) from event where stream_id = $1::uuid and name = $2")
        .bind(user.as_str())
        .bind(name)
        .fetch_one(&mut connection().await)
        .await
        .expect("the log")
}

/// How a person's latest identity was linked: issuer and proof.
pub async fn link_of(user: &Value) -> (String, String) {
    sqlx::query_as(
        "select payload->>'issuer', payload->>'proof' from event
          where stream_id = $1::uuid and name = 'user.identity_linked' order by position desc limit 1",
    )
    .bind(user.as_str())
    .fetch_one(&mut connection().await)
    .await
    .expect("a link")
}

/// What is asked for beside the code where an address is to be proven.
#[derive(Clone)]
pub struct Link {
    pub token: String,
    /// The value of the browser's cookie.
    pub browser: String,
}

impl Link {
    /// Of an answer that sets the cookie.
    pub fn of(answer: &Answer, token: &str) -> Self {
        let (browser, attributes) = answer.cookie(LINK).expect("the cookie");
        let attributes: Vec<&str> = attributes.iter().map(String::as_str).collect();
        assert!(
            attributes.contains(&"HttpOnly") && attributes.contains(&"SameSite=Strict"),
            "{attributes:?}"
        );
        Self { token: token.to_owned(), browser }
    }

    /// `/auth/verify-code` with both.
    pub fn verify(&self, client: &Client, email: &str, code: &str) -> RequestBuilder {
        let body = json!({ "email": email, "code": code, "link_token": self.token });
        client.post("/auth/verify-code", &body).header("cookie", format!("{LINK}={}", self.browser))
    }
}

/// Expects that a code is asked for, and gives what to send along with it.
pub async fn must_prove(client: &Client, google: &Value) -> Link {
    let site = site().await;
    let answer = expect(403, with_google(client, &site.issuer, google).await).await;
    let body = answer.json();
    assert_eq!(fields(&body), ["code", "error", "link_token"]);
    let words = "this address must be proven: enter the code that is sent to it";
    assert_eq!((&body["code"], &body["error"]), (&json!("email_verification_required"), &json!(words)));
    assert!(answer.cookie("multica_auth").is_none());
    Link::of(&answer, body["link_token"].as_str().expect("a token"))
}

/// `/auth/verify-code` with a link and a code that was made for the address just now.
pub async fn prove(client: &Client, email: &str, link: &Link) -> Answer {
    Past::shifted(TimeDelta::minutes(2)).await.issue_code(email, "123456").await;
    answer(link.verify(client, email, "123456")).await
}
