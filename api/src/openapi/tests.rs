use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{all, document, page};
use crate::error::Family;

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

fn json() -> Value {
    serde_json::to_value(document()).expect("the document is JSON")
}

/// Every operation as `METHOD /path`.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let each = paths.iter().flat_map(|(path, item)| {
        let item = item.as_object().expect("a path item");
        item.iter().map(move |(method, operation)| {
            assert!(METHODS.contains(&method.as_str()), "{path}: {method} is an operation");
            (format!("{} {path}", method.to_uppercase()), operation)
        })
    });
    each.collect()
}

fn each(value: &Value, found: &mut impl FnMut(&Value)) {
    found(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| each(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| each(field, found)),
        _ => {}
    }
}

#[test]
fn the_committed_document_is_the_generated_one() {
    let committed = include_str!("../../../docs/openapi.json");
    assert!(committed == page(), "run `make golden`");
}

#[test]
fn every_reference_leads_somewhere() {
    let document = json();
    let mut wrong = BTreeSet::new();
    each(&document, &mut |value| {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str)
            && document.pointer(&reference[1..]).is_none()
        {
            wrong.insert(reference.to_owned());
        }
    });
    assert!(wrong.is_empty(), "nothing is at {wrong:?}");
}

/// A name is one schema's: of two that share it, the document would show the last for both.
#[test]
fn schemas_do_not_share_a_name() {
    let mut seen = BTreeMap::new();
    for (schemas, _, _) in all() {
        for (name, schema) in schemas {
            let schema = serde_json::to_value(schema).expect("JSON");
            let earlier = seen.entry(name.clone()).or_insert_with(|| schema.clone());
            assert_eq!(*earlier, schema, "two types are called {name}: rename one");
        }
    }
}

#[test]
fn operations_are_named_once_and_say_what_they_do() {
    let document = json();
    let mut names = BTreeMap::new();
    for (place, operation) in operations(&document) {
        let id = operation["operationId"].as_str().expect("an operation has a name");
        if let Some(other) = names.insert(id, place.clone()) {
            panic!("{place} and {other} are both called {id}: rename a handler");
        }
        let summary = operation["summary"].as_str().unwrap_or_default();
        assert!(!summary.is_empty(), "{place}: the handler's comment begins with what it does");
        assert!(
            !summary.ends_with('.') && !summary.contains('\n'),
            "{place}: a summary is one line: {summary}"
        );
        assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{place}");
    }
}

/// What a path leaves open is a parameter, and nothing else is.
#[test]
fn path_parameters_are_those_of_the_path() {
    let document = json();
    for (place, operation) in operations(&document) {
        let open: BTreeSet<&str> =
            place.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        let parameters = operation["parameters"].as_array().expect("every route has X-Request-ID");
        let told = parameters.iter().filter(|parameter| parameter["in"] == "path");
        assert_eq!(told.filter_map(|told| told["name"].as_str()).collect::<BTreeSet<_>>(), open, "{place}");
    }
}

/// Every refusal speaks as its family does, and every answer names its request.
#[test]
fn refusals_speak_as_their_family() {
    let document = json();
    for (place, operation) in operations(&document) {
        let (_, path) = place.split_once(' ').expect("a method and a path");
        let (schema, content_type) = match Family::of(path) {
            Family::Refusal => ("Refusal", "application/json"),
            Family::Problem => ("Problem", "application/problem+json"),
            Family::OAuth => ("OAuthError", "application/json"),
        };
        let responses = operation["responses"].as_object().expect("responses");
        for (status, response) in responses {
            let shared = response["$ref"].as_str().map(|reference| &reference[1..]);
            let response = shared.map_or(response, |at| document.pointer(at).expect("it leads somewhere"));
            assert!(response["headers"]["X-Request-ID"].is_object(), "{place} {status}");
            assert!(!response["description"].as_str().unwrap_or_default().is_empty(), "{place} {status}");
            let own = place.ends_with("/readyz") || place.ends_with("/healthz");
            if status.starts_with(['4', '5']) && !own {
                let body = &response["content"][content_type]["schema"]["$ref"];
                assert_eq!(*body, format!("#/components/schemas/{schema}"), "{place} {status}");
            }
            let waits = status == "429" || status == "503";
            assert_eq!(response["headers"]["Retry-After"].is_object(), waits && !own, "{place} {status}");
        }
        // A browser is sent on; a socket that opens is 101.
        let succeeds = |status: &String| status.starts_with(['1', '2']) || status == "302";
        assert!(responses.keys().any(succeeds), "{place} can succeed");
    }
}

/// Whatever a caller makes may be asked for twice, because the first answer was lost.
#[test]
fn every_post_that_creates_takes_an_idempotency_key() {
    let document = json();
    for (place, operation) in operations(&document) {
        let creates = place.starts_with("POST ") && operation["responses"]["201"].is_object();
        let ways = operation["security"].as_array().expect("every route says who may come");
        if creates && ways.iter().all(|way| *way != serde_json::json!({})) {
            let parameters = operation["parameters"].to_string();
            assert!(parameters.contains("#/components/parameters/Idempotency-Key"), "{place}");
        }
    }
}

/// The list is the one way to a route: what stood beside it would be served and told to nobody.
#[test]
fn no_route_is_beside_the_list() {
    let source = include_str!("../routes/mod.rs");
    let by_hand: Vec<&str> = source.lines().map(str::trim).filter(|line| line.contains(".route(")).collect();
    assert_eq!(
        by_hand,
        [
            "*router = mem::take(router).route(path, handlers.clone());",
            ".fold(Router::new(), |routes, (path, handler)| routes.route(path, handler));",
        ]
    );
}

/// What is not said to be open is guarded: an annotation that forgets it errs on the safe side.
#[test]
fn routes_are_guarded_unless_they_say_otherwise() {
    let document = json();
    let open: Vec<String> = operations(&document)
        .into_iter()
        .filter(|(_, operation)| {
            let ways = operation["security"].as_array().expect("every route says who may come");
            ways.iter().any(|way| way.as_object().is_some_and(serde_json::Map::is_empty))
        })
        .map(|(place, _)| place)
        .collect();
    assert_eq!(
        open,
        [
            "GET /api/config",
            "GET /api/share-links/{code}",
            "POST /auth/google",
            "POST /auth/logout",
            "GET /auth/oidc",
            "GET /auth/oidc/{name}",
            "GET /auth/oidc/{name}/callback",
            "POST /auth/send-code",
            "POST /auth/verify-code",
            "GET /health",
            "GET /healthz",
            "POST /oauth/revoke",
            "GET /openapi.json",
            "GET /readyz",
            "POST /v1/sessions",
            "POST /v1/sessions/refresh",
            "GET /ws"
        ]
    );
}
