//! One golden file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tally_events::{Event, StreamId, Version, seal::Key};

pub const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden");

/// Every subject of the golden files has this key.
pub const KEY: Key = Key::from_bytes(*b"the one key of the golden files!");

/// A stored payload, where it stood, and what its sealed fields say.
#[derive(Serialize, Deserialize)]
pub struct Golden {
    #[serde(skip)]
    pub file: String,
    pub name: String,
    pub schema_version: u16,
    pub stream: String,
    pub stream_version: Version,
    /// The exact text that was stored.
    pub payload: Box<RawValue>,
    /// The personal fields in the clear.
    pub clear: BTreeMap<String, String>,
}

impl Golden {
    /// The whole file: every key on a line of its own, so that a payload can be read and compared.
    pub fn to_text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap() + "\n"
    }

    pub fn stream(&self) -> StreamId {
        self.stream.parse().unwrap()
    }

    /// Reads the payload as the log does.
    pub fn decode(&self) -> Event {
        Event::decode(self.stream(), self.stream_version, &self.name, self.schema_version, self.payload.get())
            .unwrap_or_else(|error| panic!("{}: {error}", self.file))
    }
}

/// The names of all files beside the manifest, in order.
pub fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(DIRECTORY)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "MANIFEST")
        .collect();
    names.sort_unstable();
    names
}

/// Every golden event.
pub fn all() -> Vec<Golden> {
    let events = names().into_iter().filter(|name| name != "leaf.json");
    let all: Vec<Golden> = events
        .map(|file| {
            let text = std::fs::read_to_string(format!("{DIRECTORY}/{file}")).unwrap();
            let golden = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
            Golden { file, ..golden }
        })
        .collect();
    assert!(!all.is_empty(), "no golden files in {DIRECTORY}");
    all
}
