//! An event as the audit trail tells it.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Event {
    pub(super) position: u64,
    pub(super) recorded_at: DateTime<Utc>,
    pub(super) name: String,
    pub(super) stream: Stream,
    pub(super) actor: Actor,
    pub(super) credential_id: Option<String>,
    #[serde(default)]
    pub(super) data: Map<String, Value>,
}

/// What the event is part of the history of.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Stream {
    pub(super) kind: String,
    pub(super) id: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Actor {
    pub(super) kind: String,
    pub(super) id: Option<String>,
}

impl Event {
    pub(super) fn read(raw: &RawValue) -> Result<Self, serde_json::Error> {
        serde_json::from_str(raw.get())
    }

    /// The stream, then what of the data fits in a word: `token=01990b7e-… reason=requested`.
    pub(super) fn detail(&self, id: impl Fn(&str) -> String) -> String {
        let mut words = vec![format!("{}={}", self.stream.kind, id(&self.stream.id))];
        let told = self.data.iter().filter(|(_, value)| !value.is_null() && value.as_str() != Some(""));
        words.extend(told.map(|(key, value)| format!("{key}={}", word(value, &id))));
        words.join(" ")
    }
}

fn word(value: &Value, id: impl Fn(&str) -> String) -> String {
    match value {
        Value::String(text) if uuid::Uuid::parse_str(text).is_ok() => id(text),
        Value::String(text) if text.contains(char::is_whitespace) => format!("{text:?}"),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}
