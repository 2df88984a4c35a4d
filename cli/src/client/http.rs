//! Requests to the server, and its answers.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::redirect::Policy;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tally_domain::credential::Plaintext;

use super::effect::Effect;
use super::failure::{Failure, Refusal};
use super::output;
use super::settings::ServerUrl;

const CONNECT_MAX: Duration = Duration::from_secs(5);
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// A page of 200 events is far below this.
const BODY_BYTES_MAX: usize = 32 << 20;

const LOG_POSITION: &str = "x-log-position";
const MIN_POSITION: &str = "x-min-position";

/// One server, for the length of a command.
#[derive(Debug)]
pub(super) struct Server {
    url: ServerUrl,
    http: reqwest::Client,
    /// How far the log was after this command's last change: what it reads next must be as new. 0: it changed nothing.
    position: AtomicU64,
}

/// One request.
pub(super) struct Call<'a> {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    token: Option<&'a Plaintext>,
    body: Option<Value>,
}

impl<'a> Call<'a> {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self::of(Method::GET, path)
    }

    pub(super) fn post(path: impl Into<String>) -> Self {
        Self::of(Method::POST, path)
    }

    pub(super) fn delete(path: impl Into<String>) -> Self {
        Self::of(Method::DELETE, path)
    }

    fn of(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), query: Vec::new(), token: None, body: None }
    }

    pub(super) fn query(mut self, query: Vec<(&'static str, String)>) -> Self {
        self.query = query;
        self
    }

    pub(super) const fn token(mut self, token: &'a Plaintext) -> Self {
        self.token = Some(token);
        self
    }

    pub(super) fn json(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }
}

/// A yes.
pub(super) struct Answer {
    what: String,
    server: String,
    body: Vec<u8>,
    /// Of what was revoked, if anything was.
    pub(super) effect: Effect,
}

impl Answer {
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        // serde_json's message may quote the body, which may hold a token.
        serde_json::from_slice(&self.body).map_err(|error| Failure::Foreign {
            server: self.server.clone(),
            what: format!(
                "unexpected body of {}, line {} column {}",
                self.what,
                error.line(),
                error.column()
            ),
        })
    }
}

impl Server {
    pub(super) fn new(url: ServerUrl) -> Result<Self, Failure> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("tally/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_MAX)
            .timeout(REQUEST_MAX)
            // A redirect could carry the credential somewhere else.
            .redirect(Policy::none());
        if url.is_loopback() {
            // This machine's own server is not behind a proxy, whatever the environment says.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(Failure::Http)?;
        Ok(Self { url, http, position: AtomicU64::new(0) })
    }

    pub(super) const fn url(&self) -> &ServerUrl {
        &self.url
    }

    pub(super) async fn send(&self, call: Call<'_>) -> Result<Answer, Failure> {
        let reads = call.method == Method::GET;
        let what = format!("{} {}", call.method, call.path);
        let mut request = self.http.request(call.method, self.url.join(&call.path, &call.query));
        if let Some(token) = call.token {
            request = request.header(AUTHORIZATION, bearer(token)?);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let position = self.position.load(Ordering::Relaxed);
        if reads && position > 0 {
            request = request.header(MIN_POSITION, position);
        }

        let began = Instant::now();
        let mut response = request.send().await.map_err(|error| self.unreachable(&error, reads))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error, reads))? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(self.foreign(format!("more than {BODY_BYTES_MAX} bytes for {what}")));
            }
            body.extend_from_slice(&chunk);
        }
        let duration = began.elapsed();

        let headers = response.headers();
        if let Some(position) = number(headers, LOG_POSITION).filter(|_| !reads) {
            self.position.fetch_max(position, Ordering::Relaxed);
        }
        if status.is_redirection() {
            let to = text(headers, LOCATION.as_str()).unwrap_or("nowhere");
            return Err(self.foreign(format!("{what} redirects to {}", output::clean(to))));
        }
        if !status.is_success() {
            return Err(Failure::Refused(Box::new(refusal(status, headers, &body, call.token.is_some()))));
        }
        let effect = Effect::of(headers, duration);
        Ok(Answer { what, server: self.url.to_string(), body, effect })
    }

    fn unreachable(&self, error: &reqwest::Error, reads: bool) -> Failure {
        let server = self.url.to_string();
        let reason = reason(error);
        if reads || error.is_connect() || error.is_builder() {
            Failure::Unreachable { server, reason }
        } else {
            Failure::Unknown { server, reason }
        }
    }

    fn foreign(&self, what: String) -> Failure {
        Failure::Foreign { server: self.url.to_string(), what }
    }
}

fn bearer(token: &Plaintext) -> Result<HeaderValue, Failure> {
    let value = Plaintext::new(format!("Bearer {}", token.expose()));
    let mut header = HeaderValue::from_str(value.expose())
        .map_err(|_| Failure::Input("the token has characters that no token has".to_owned()))?;
    header.set_sensitive(true);
    Ok(header)
}

/// The innermost cause, which is what a person can act on.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        let limit = if error.is_connect() { CONNECT_MAX } else { REQUEST_MAX };
        return format!("no answer within {} s", limit.as_secs());
    }
    let mut cause: &dyn Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// The bodies of refusals: `{"error"}` of the older routes, problem documents of `/v1`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    error: Option<String>,
    title: Option<String>,
    detail: Option<String>,
    request_id: Option<String>,
    retry_after_seconds: Option<u64>,
}

fn refusal(status: reqwest::StatusCode, headers: &HeaderMap, body: &[u8], with_token: bool) -> Refusal {
    // A proxy's HTML, say, is told by its status alone.
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    let said = match (problem.error, problem.title, problem.detail) {
        (Some(error), ..) => Some(error),
        (None, Some(title), Some(detail)) => Some(format!("{title}: {detail}")),
        (None, title, detail) => title.or(detail),
    };
    Refusal {
        status: status.as_u16(),
        message: said.map_or_else(|| format!("the server answered {status}"), |said| output::clean(&said)),
        request_id: problem
            .request_id
            .or_else(|| text(headers, "x-request-id").map(str::to_owned))
            .map(|id| output::clean(&id)),
        retry_after_seconds: number(headers, RETRY_AFTER.as_str()).or(problem.retry_after_seconds),
        with_token,
    }
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.trim().parse().ok()
}
