//! Every figure runs, so that the bench cannot rot: tiny sizes, which measure nothing.

#![allow(clippy::pedantic, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{fs, path::Path, process::Command};

use serde_json::Value;
use tally_tests::Scratch;

const BENCH: &str = env!("CARGO_BIN_EXE_tally-bench");
/// Measured everywhere; the peers only where they were made.
const FIGURES: [&str; 12] = [
    "appends",
    "mints",
    "login",
    "revoke",
    "revoking",
    "roles",
    "verify",
    "introspect",
    "embedded",
    "audit",
    "footprint",
    "replay",
];

fn run(arguments: &[&str], report: &Path) -> (bool, String) {
    let output = Command::new(BENCH).args(arguments).arg("--report").arg(report).output().unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (output.status.success(), text.join("\n"))
}

#[test]
fn every_figure_is_measured_beside_a_baseline_and_stands_on_the_page() {
    let server = Path::new(BENCH).with_file_name("tally");
    assert!(server.is_file(), "build the server first, as `cargo test --workspace` does");
    let scratch = Scratch::new();
    let report = scratch.path().join("bench.json");
    let (success, text) = run(&["all", "--quick"], &report);
    assert!(success, "{text}");

    let written: Value = serde_json::from_str(&fs::read_to_string(&report).unwrap()).unwrap();
    let figures = written["figures"].as_array().unwrap();
    let names: Vec<&str> = figures.iter().map(|figure| figure["name"].as_str().unwrap()).collect();
    for name in FIGURES {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    for figure in figures {
        let rows = figure["rows"].as_array().unwrap();
        let baselines: Vec<&Value> = rows.iter().filter(|row| row["is_baseline"] == true).collect();
        assert!(!baselines.is_empty() && baselines.len() < rows.len(), "{figure}");
        for baseline in baselines {
            // A few credentials fit into memory that the server has anyway.
            let may_be_nothing = baseline["case"] == "cached credential";
            let ratio = baseline["product_over_this"].as_f64().unwrap();
            assert!(ratio > 0.0 || may_be_nothing && ratio == 0.0, "{baseline}");
        }
        for row in rows {
            let rounds: Vec<&Value> = row["rounds"].as_object().unwrap().values().collect();
            assert!(rounds.iter().all(|values| !values.as_array().unwrap().is_empty()), "{row}");
        }
    }

    // The page has a place for each of them, and only the peers' can be left as it was.
    let page = scratch.path().join("performance.md");
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance.md"), &page).unwrap();
    let (success, text) = run(&["render", page.to_str().unwrap()], &report);
    assert!(success || text.contains("never measured: peers\n"), "{text}");
    let page = fs::read_to_string(page).unwrap();
    for figure in figures {
        assert!(page.contains(&format!("**{}**", figure["title"].as_str().unwrap())), "{page}");
    }
}
