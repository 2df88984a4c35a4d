//! Mail by Resend's HTTP interface.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Client, StatusCode, redirect::Policy};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;
use url::Url;
use zeroize::Zeroizing;

use super::{
    message::Message,
    transport::{Failure, FailureKind, Transport},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer is an id or an error's name.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// Characters of an error's name.
const NAME_CHARACTERS_MAX: usize = 40;

#[derive(Clone)]
pub struct ResendSettings {
    pub api_key: Zeroizing<String>,
    /// What the paths hang under, such as `https://api.resend.com`.
    pub base: Url,
}

pub struct Resend {
    http: Client,
    api_key: Zeroizing<String>,
    emails: Url,
}

/// What is read of an error: its name, one of a documented list. Its message quotes addresses.
#[derive(Deserialize)]
struct Refusal {
    name: String,
}

impl Resend {
    /// # Errors
    /// When this machine has no certificates to check the service's against.
    pub fn new(settings: &ResendSettings) -> Result<Self, reqwest::Error> {
        let http = Client::builder()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("tallystick/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let mut emails = settings.base.clone();
        emails.set_path(&format!("{}/emails", settings.base.path().trim_end_matches('/')));
        Ok(Self { http, api_key: settings.api_key.clone(), emails })
    }
}

#[async_trait]
impl Transport for Resend {
    async fn deliver(&self, message: &Message, until: Instant) -> Result<(), Failure> {
        let mut headers = serde_json::Map::new();
        headers.extend(Message::AUTOMATIC.map(|(name, value)| (name.to_owned(), json!(value))));
        headers.insert("Message-ID".to_owned(), json!(message.message_id()));
        let body = json!({
            "from": message.from.to_string(),
            "to": [message.to.to_string()],
            "subject": message.subject,
            "text": *message.text,
            "html": *message.html,
            "headers": headers,
        });
        let request = self
            .http
            .post(self.emails.clone())
            .bearer_auth(self.api_key.as_str())
            // Given twice, it is one mail: the service remembers a key for a day.
            .header("Idempotency-Key", message.id.to_string())
            .json(&body)
            .timeout(until.saturating_duration_since(Instant::now()));
        let response = request.send().await.map_err(|error| unanswered(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let name = refusal_name(response).await;
        Err(Failure::new(kind_of(status), format!("the service answered {}{name}", status.as_u16())))
    }
}

/// No answer: unless not even a connection came about, nobody knows what became of the request.
fn unanswered(error: &reqwest::Error) -> Failure {
    let cause = if error.is_timeout() { "the service was too slow" } else { "the service did not answer" };
    if error.is_connect() {
        let mut innermost: &dyn std::error::Error = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        return Failure::new(FailureKind::Unreachable, format!("connecting failed: {innermost}"));
    }
    Failure::in_doubt(FailureKind::Unreachable, cause)
}

fn kind_of(status: StatusCode) -> FailureKind {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => FailureKind::Unwelcome,
        // 409: an attempt with the same key is still under way.
        StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS => {
            FailureKind::Unreachable
        }
        status if status.is_client_error() => FailureKind::Rejected,
        _ => FailureKind::Unreachable,
    }
}

/// The error's name behind a blank, or nothing.
async fn refusal_name(mut response: reqwest::Response) -> String {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES_MAX {
            return String::new();
        }
    }
    let name = serde_json::from_slice::<Refusal>(&body).map(|refusal| refusal.name).unwrap_or_default();
    let is_name = |name: &str| {
        (1..=NAME_CHARACTERS_MAX).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    if is_name(&name) { format!(" {name}") } else { String::new() }
}
