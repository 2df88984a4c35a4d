//! The server against its OpenAPI document: schemathesis sends what the document allows and what it
//! forbids, and looks whether the answers are those that the document tells of. What it finds wrong is
//! wrong in one of the two.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use rstest::rstest;
use serde_json::{Value, json};
use tokio::{process::Command, time::timeout};

use crate::support::{client, document, person, shared, team::team};

const SCHEMATHESIS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/schemathesis/bin/schemathesis");
const CONFIGURATION: &str = include_str!("schemathesis/schemathesis.toml");
/// The same examples every time.
const SEED: u32 = 1;
/// A run takes some ten seconds. One that has not ended by now does not end.
const PATIENCE: Duration = Duration::from_mins(5);

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    Nobody,
    /// Somebody by a session, the owner of every workspace they make on the way.
    Session,
    /// Somebody by a personal access token.
    Token,
    /// Somebody in a workspace of another's, about nothing but that workspace.
    Admin,
    Member,
}

impl Asker {
    /// What they must not ask, or they would not be who they are from then on.
    const fn spared(self) -> &'static [&'static str] {
        match self {
            Self::Nobody => &[],
            Self::Session => &["logout", "end_current_session", "end_session"],
            // Their own id is among those that they are told.
            Self::Token => &["revoke_token"],
            Self::Admin => &["leave_workspace", "change_member", "remove_member"],
            Self::Member => &["leave_workspace"],
        }
    }

    /// What is sent: examples at the edges of what the document allows, once, and some at random.
    const fn sends(self) -> [&'static str; 4] {
        match self {
            Self::Session => ["--phases", "coverage,fuzzing", "--max-examples", "5"],
            Self::Nobody | Self::Token | Self::Admin | Self::Member => {
                ["--phases", "fuzzing", "--max-examples", "5"]
            }
        }
    }

    /// What they show, and the workspace that they are in.
    async fn enter(self) -> (Option<String>, Option<String>) {
        let role = match self {
            Self::Nobody => return (None, None),
            Self::Session => return (Some(person("session").await.token), None),
            Self::Token => {
                let login = person("token").await;
                return (Some(client().await.mint(&login.token, "asks").await.1), None);
            }
            Self::Admin => "admin",
            Self::Member => "member",
        };
        let team = team().await;
        (Some(team.member(role).await.token), Some(team.id))
    }
}

#[rstest]
#[case::nobody(Asker::Nobody)]
#[case::session(Asker::Session)]
#[case::token(Asker::Token)]
#[case::admin(Asker::Admin)]
#[case::member(Asker::Member)]
#[tokio::test]
async fn answers_are_those_of_the_document(#[case] asker: Asker) {
    assert!(Path::new(SCHEMATHESIS).exists(), "schemathesis is missing: run `scripts/install schemathesis`");
    let server = shared().await;
    let home = server.scratch().join(format!("schemathesis-{asker:?}"));
    fs::create_dir(&home).expect("a directory");
    let (credential, workspace) = asker.enter().await;
    let document = strict(workspace.as_deref());
    fs::write(home.join("openapi.json"), document.to_string()).expect("a file");
    fs::write(home.join("schemathesis.toml"), configuration(credential.as_deref())).expect("a file");

    let mut command = Command::new(SCHEMATHESIS);
    command
        .args(["--config-file", "schemathesis.toml", "run", "openapi.json", "--url", server.url()])
        .args(["--seed", &SEED.to_string()])
        .args(asker.sends())
        .args(["--no-color", "--report-json-path", "report.json"])
        .args(asker.spared().iter().flat_map(|id| ["--exclude-operation-id", id]))
        .current_dir(&home)
        .env_clear()
        .env("HOME", &home)
        .env("LANG", "C.UTF-8")
        .kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.expect("schemathesis ends").expect("it runs");
    let printed = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "as {asker:?}, with seed {SEED}:\n{printed}");

    let report = fs::read(home.join("report.json")).expect("a report");
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    let items = document["paths"].as_object().expect("paths").values();
    let operations: usize = items.map(|item| item.as_object().expect("an item").len()).sum();
    let tested = &report["operations"]["tested"];
    assert_eq!(*tested, operations - asker.spared().len(), "{}", report["operations"]);
    assert_eq!((&report["failures"], &report["errors"]), (&json!([]), &json!([])));
    if let Some(credential) = credential {
        assert!(client().await.accepts(&credential).await, "it was nobody who asked, in the end");
    }
    println!(
        "as {asker:?}, with seed {SEED}: {tested} operations, {} requests",
        report["test_cases"]["generated"]
    );
}

/// The committed configuration, with what is shown to the server.
fn configuration(credential: Option<&str>) -> String {
    let shown = credential.map(|credential| format!("\n[auth.openapi.bearer]\nbearer = \"{credential}\"\n"));
    // A position beyond the head of the log is refused, and where that is no schema can say.
    let operations = document::paths().flat_map(document::operations);
    let waiting: Vec<&str> = operations
        .filter(|(_, operation)| operation["parameters"].to_string().contains("X-Min-Position"))
        .map(|(_, operation)| operation["operationId"].as_str().expect("a name"))
        .collect();
    let waiting = format!(
        "\n[[operations]]\ninclude-operation-id = {waiting:?}\nchecks.positive_data_acceptance.enabled = false\n"
    );
    CONFIGURATION.to_owned() + &waiting + &shown.unwrap_or_default()
}

/// The document, where an answer may hold nothing that is not told of. Clients must bear new fields,
/// so the document itself does not say that; but a field that nobody told of is found here.
///
/// For whoever is in a workspace it is the part about workspaces, and the workspace is theirs.
fn strict(workspace: Option<&str>) -> Value {
    let mut strict = document::document().clone();
    if let Some(workspace) = workspace {
        let paths = strict["paths"].take();
        strict["paths"] =
            paths.as_object().expect("paths").iter().filter_map(|path| within(workspace, path)).collect();
    }
    let mut open = BTreeSet::new();
    each(&strict, &mut |value| {
        // What is asked may hold more, and what is part of another schema is closed there.
        for part in ["requestBody", "allOf"] {
            value.get(part).into_iter().for_each(|part| references(part, &mut open));
        }
    });
    let schemas = strict["components"]["schemas"].as_object_mut().expect("schemas");
    for (_, schema) in schemas.iter_mut().filter(|(name, _)| !open.contains(*name)) {
        if schema["properties"].is_object() || schema["allOf"].is_array() {
            schema["unevaluatedProperties"] = json!(false);
        }
    }
    strict
}

/// What is said of a path, for one workspace; none if it is about no workspace.
fn within(workspace: &str, (path, item): (&String, &Value)) -> Option<(String, Value)> {
    let rest = path.strip_prefix("/api/workspaces/{id}")?;
    let mut item = item.clone();
    for operation in item.as_object_mut()?.values_mut() {
        operation["parameters"].as_array_mut()?.retain(|parameter| parameter["name"] != "id");
    }
    Some((format!("/api/workspaces/{workspace}{rest}"), item))
}

fn each(value: &Value, found: &mut impl FnMut(&Value)) {
    found(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| each(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| each(field, found)),
        _ => {}
    }
}

/// The names of the schemas that are referred to.
fn references(value: &Value, names: &mut BTreeSet<String>) {
    each(value, &mut |value| {
        let reference = value.get("$ref").and_then(Value::as_str);
        names.extend(reference.and_then(|to| to.strip_prefix("#/components/schemas/")).map(str::to_owned));
    });
}
