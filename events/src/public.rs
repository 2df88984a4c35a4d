//! What of an event may leave the building.
//!
//! Each kind of stream says, fact by fact, what an auditor or a workspace feed may see of it: a new
//! fact does not compile until somebody has said so.

use serde_json::{Map, Value};

use crate::{personal::Personal, seal::Sealed};

/// The public part of an event. Personal fields are still sealed; who may read them opens them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Public {
    pub data: Map<String, Value>,
    pub sealed: Vec<(&'static str, Sealed)>,
}

impl Public {
    pub(crate) fn new(data: Value, personal: &[(&'static str, &Personal)], withheld: &[&str]) -> Self {
        let Value::Object(data) = data else { return Self::default() };
        let shown = personal.iter().filter(|(name, _)| !withheld.contains(name));
        let sealed = shown.filter_map(|(name, field)| Some((*name, field.sealed()?.clone())));
        Self { data, sealed: sealed.collect() }
    }
}
