//! A client that shows the wire: nothing is hidden, followed or retried.

use std::{sync::Arc, time::Duration};

use reqwest::{
    Method, RequestBuilder,
    header::{HeaderMap, SET_COOKIE},
};
use serde_json::{Value, json};

use crate::{eventually, watch::Watch};

#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    log: Arc<Watch>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

/// Somebody who has logged in.
#[derive(Clone, Debug)]
pub struct Login {
    /// The session's JWT.
    pub token: String,
    pub user: Value,
    /// The values of the two cookies.
    pub auth_cookie: String,
    pub csrf_cookie: String,
}

/// Somebody who has opened a console session: its cookies, as a browser keeps them.
#[derive(Clone, Debug, PartialEq)]
pub struct Console {
    pub id: String,
    /// The access token, a JWT.
    pub access: String,
    pub refresh: String,
    pub csrf: String,
}

impl Client {
    pub(crate) fn new(base: &str, log: Arc<Watch>) -> Self {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            // The server closes a connection that was idle for 10 s: none is used that is about to be.
            .pool_idle_timeout(Duration::from_secs(3))
            .build()
            .expect("a plain client");
        Self { http, base: base.to_owned(), log }
    }

    /// Where the server is, as `127.0.0.1:…`.
    #[must_use]
    pub fn address(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    /// A request. What the server has logged until now is looked at first.
    #[must_use]
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.log.look();
        self.http.request(method, format!("{}{path}", self.base))
    }

    #[must_use]
    pub fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    #[must_use]
    pub fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.request(Method::POST, path).json(body)
    }

    /// A form, as clients of OAuth send it.
    #[must_use]
    pub fn form(&self, path: &str, parameters: &[(&str, &str)]) -> RequestBuilder {
        with_form(self.request(Method::POST, path), parameters)
    }

    /// Asks for a code and reads it from the server's log, where it goes without a mailer.
    pub async fn code(&self, email: &str) -> String {
        let answer = answer(self.post("/auth/send-code", &json!({ "email": email }))).await;
        assert_eq!(answer.status, 200, "{} {}", answer.text, self.complaints());
        self.code_of(answer.header("x-request-id").expect("a request id")).await
    }

    /// The code that was made for a request.
    pub async fn code_of(&self, request_id: &str) -> String {
        eventually("the code in the log", async || {
            let log = std::fs::read_to_string(self.log.path()).ok()?;
            let line = log.lines().find(|line| line.contains(request_id) && line.contains("login code"))?;
            let (_, rest) = line.split_once("login code ")?;
            rest.get(..6).map(str::to_owned)
        })
        .await
    }

    /// What the server has warned of, for whoever reads a failure.
    fn complaints(&self) -> String {
        let log = std::fs::read_to_string(self.log.path()).unwrap_or_default();
        let lines = log.lines().filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\""));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Logs in by an e-mailed code.
    pub async fn login(&self, email: &str) -> Login {
        let code = self.code(email).await;
        let answer = answer(self.post("/auth/verify-code", &json!({ "email": email, "code": code }))).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let body = answer.json();
        Login {
            token: body["token"].as_str().expect("a token").to_owned(),
            user: body["user"].clone(),
            auth_cookie: answer.cookie("multica_auth").expect("the auth cookie").0,
            csrf_cookie: answer.cookie("multica_csrf").expect("the CSRF cookie").0,
        }
    }

    /// Opens a console session by an e-mailed code.
    pub async fn open_console(&self, email: &str) -> Console {
        let code = self.code(email).await;
        let answer = answer(self.post("/v1/sessions", &json!({ "email": email, "code": code }))).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        Console::of(&answer)
    }

    /// A request as a browser sends it that holds a console session, with the CSRF token in a change.
    pub fn by_console(&self, method: Method, path: &str, console: &Console) -> RequestBuilder {
        let is_change = !matches!(method, Method::GET | Method::HEAD | Method::OPTIONS);
        let request = self.request(method, path).header("cookie", console.cookies(path));
        if is_change { request.header("x-csrf-token", &console.csrf) } else { request }
    }

    /// The next tokens for a refresh token.
    pub fn refresh(&self, console: &Console) -> RequestBuilder {
        self.by_console(Method::POST, "/v1/sessions/refresh", console)
    }

    /// Mints a personal access token: its id and the token.
    pub async fn mint(&self, credential: &str, name: &str) -> (String, String) {
        let request = self.post("/api/tokens", &json!({ "name": name })).bearer_auth(credential);
        let answer = answer(request).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        let body = answer.json();
        let field = |name: &str| body[name].as_str().expect("a text").to_owned();
        (field("id"), field("token"))
    }

    /// Whether a credential is accepted.
    pub async fn accepts(&self, credential: &str) -> bool {
        let answer = answer(self.get("/v1/me").bearer_auth(credential)).await;
        match answer.status {
            200 => true,
            401 | 403 => false,
            status => panic!("{status}: {}", answer.text),
        }
    }
}

impl Console {
    /// What an answer made of it.
    ///
    /// # Panics
    /// When the answer sets no such cookies.
    #[must_use]
    pub fn of(answer: &Answer) -> Self {
        let cookie = |name| answer.cookie(name).unwrap_or_else(|| panic!("{name}: {:?}", answer.headers)).0;
        Self {
            id: answer.json()["id"].as_str().expect("an id").to_owned(),
            access: cookie("remoco_auth"),
            refresh: cookie("remoco_refresh"),
            csrf: cookie("remoco_csrf"),
        }
    }

    /// The cookies that are sent to a path.
    #[must_use]
    pub fn cookies(&self, path: &str) -> String {
        let everywhere = format!("remoco_auth={}; remoco_csrf={}", self.access, self.csrf);
        if path.starts_with("/v1/sessions") {
            format!("{everywhere}; remoco_refresh={}", self.refresh)
        } else {
            everywhere
        }
    }
}

/// A request with a form for its body.
#[must_use]
pub fn with_form(request: RequestBuilder, parameters: &[(&str, &str)]) -> RequestBuilder {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    request.header("content-type", "application/x-www-form-urlencoded").body(body)
}

/// Sends a request and reads all of the answer.
///
/// # Panics
/// When there is none.
pub async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.expect("the server answers");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, text: response.text().await.expect("the answer ends") }
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {:?}", self.text))
    }

    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// A cookie's value and its attributes.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<(String, Vec<String>)> {
        let mut cookies = self.headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
        let cookie = cookies.find_map(|text| text.strip_prefix(name)?.strip_prefix('='))?;
        let mut parts = cookie.split("; ").map(str::to_owned);
        Some((parts.next()?, parts.collect()))
    }
}
