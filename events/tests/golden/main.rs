//! Golden files: every payload that was ever written, as it was written.
//!
//! `events/golden/<name>.v<version>[.<variant>].json` holds one stored payload, where it stood and
//! what its sealed fields say. A file is never changed once it is there: events of that form are in
//! somebody's log. A new event or version is a new row in `samples.rs`; the test then prints the
//! file to commit, and `MANIFEST` takes its line.

#![allow(clippy::pedantic, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod file;
mod public;
mod samples;

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};
use tally_events::{Event, upcast::STEPS};

use crate::file::{DIRECTORY, Golden, KEY};

#[test]
fn every_sample_is_a_golden_file() {
    let mut missing = String::new();
    for sample in samples::all() {
        let (file, expected) = (sample.file_name(), sample.to_golden().to_text());
        match std::fs::read_to_string(format!("{DIRECTORY}/{file}")) {
            Ok(committed) => {
                assert_eq!(
                    committed, expected,
                    "{file}: this event is now written in another form; raise its version"
                );
            }
            Err(_) => {
                let digest = hex::encode(Sha256::digest(expected.as_bytes()));
                missing += &format!(
                    "--- golden/{file}\n{expected}--- its line in golden/MANIFEST\n{digest}  {file}\n"
                );
            }
        }
    }
    assert!(missing.is_empty(), "commit these:\n{missing}");
}

#[test]
fn every_version_of_every_event_has_a_golden_file() {
    let there: BTreeSet<(String, u16)> =
        file::all().into_iter().map(|golden| (golden.name, golden.schema_version)).collect();
    let due: BTreeSet<(String, u16)> = Event::names()
        .flat_map(|(name, latest)| (1..=latest).map(move |version| (name.to_owned(), version)))
        .collect();
    assert_eq!(there, due);
}

#[test]
fn every_version_but_the_latest_has_one_step_to_the_next() {
    let mut steps: Vec<(&str, u16)> = STEPS.iter().map(|step| (step.name, step.from)).collect();
    let mut due: Vec<(&str, u16)> =
        Event::names().flat_map(|(name, latest)| (1..latest).map(move |version| (name, version))).collect();
    steps.sort_unstable();
    due.sort_unstable();
    assert_eq!(steps, due);
}

#[test]
fn every_golden_file_decodes_and_its_seals_open() {
    for golden in file::all() {
        let mut event = golden.decode();
        assert_eq!(event.name(), golden.name, "{}", golden.file);
        let clear: BTreeMap<String, String> = event
            .personal_mut()
            .into_iter()
            .map(|(field, personal)| {
                let sealed = personal.sealed().expect("a decoded field knows its place");
                let text =
                    sealed.open(&KEY).unwrap_or_else(|error| panic!("{}: {field}: {error}", golden.file));
                (field.to_owned(), text.as_str().to_owned())
            })
            .collect();
        assert_eq!(clear, golden.clear, "{}", golden.file);
    }
}

#[test]
fn an_event_of_the_latest_version_is_written_as_it_was_read() {
    let mut compared = 0;
    for golden in file::all() {
        let event = golden.decode();
        if event.schema_version() == golden.schema_version {
            assert_eq!(event.payload().unwrap(), golden.payload.get(), "{}", golden.file);
            compared += 1;
        }
    }
    assert!(compared >= Event::names().count(), "{compared} files are of the latest version");
}

#[test]
fn a_golden_file_is_named_after_what_it_holds() {
    for Golden { file, name, schema_version, .. } in file::all() {
        let stem = format!("{name}.v{schema_version}.");
        assert!(file.starts_with(&stem), "{file} does not start with {stem}");
    }
}

/// `sha256sum --check MANIFEST` says the same.
#[test]
fn golden_files_are_only_ever_added() {
    let listed: BTreeMap<String, String> = std::fs::read_to_string(format!("{DIRECTORY}/MANIFEST"))
        .unwrap()
        .lines()
        .map(|line| {
            let (digest, file) = line.split_once("  ").expect("a line is `digest  file`");
            (file.to_owned(), digest.to_owned())
        })
        .collect();
    let there: BTreeMap<String, String> = file::names()
        .into_iter()
        .map(|file| {
            let digest = hex::encode(Sha256::digest(std::fs::read(format!("{DIRECTORY}/{file}")).unwrap()));
            (file, digest)
        })
        .collect();
    assert_eq!(there, listed, "a golden file was changed, removed, or not listed");
}

/// Logs hold the `Debug` of events; what recognises a secret is never in it.
#[test]
fn no_golden_event_formats_its_hash_salt_or_mac() {
    let mut hidden_seen = 0;
    for golden in file::all() {
        let payload: serde_json::Value = serde_json::from_str(golden.payload.get()).unwrap();
        let formatted = format!("{:?}", golden.decode());
        let secrets = ["/hash", "/salt", "/mac", "/used_hash", "/refresh_hash", "/console/refresh_hash"];
        for secret in secrets.iter().filter_map(|place| payload.pointer(place)?.as_str()) {
            hidden_seen += 1;
            assert!(!formatted.contains(secret), "{}: {formatted}", golden.file);
        }
    }
    assert!(hidden_seen >= 3, "the golden files hold hash, salt and mac");
}
