//! The routes there are, from the OpenAPI document: what is asked of every route is asked of those.

use std::sync::LazyLock;

use serde_json::Value;

/// `docs/openapi.json`. That it is what the router serves is held where it is made.
pub fn document() -> &'static Value {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
        serde_json::from_str(include_str!("../../../docs/openapi.json")).expect("the document is JSON")
    });
    &DOCUMENT
}

/// Every path, with what it leaves open in braces.
pub fn paths() -> impl Iterator<Item = &'static str> {
    document()["paths"].as_object().expect("paths").keys().map(String::as_str)
}

/// Every operation of a path: its method in capitals, and what is told of it.
pub fn operations(path: &str) -> impl Iterator<Item = (String, &'static Value)> {
    let item = document()["paths"][path].as_object().expect("a path");
    item.iter().map(|(method, operation)| (method.to_uppercase(), operation))
}
