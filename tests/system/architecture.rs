//! The house: which room may know which, and which may know the world outside.

use std::collections::BTreeMap;

use cargo_metadata::{DependencyKind, MetadataCommand};

/// The rooms from the ground up. Each may import those before it and none after.
const ROOMS: [&str; 7] = [
    "tally-events",
    "tally-domain",
    "tally-store",
    "tally-projections",
    "tally-fanout",
    "tally-api",
    "tally",
];

/// Stands above all rooms: it may import any of them, and the world outside as it likes.
const BENCH: &str = "tally-bench";

/// Packages that belong to some rooms alone.
const CONFINED: [(&str, &[&str]); 13] = [
    ("tokio", &["tally-store", "tally-projections", "tally-fanout", "tally-api", "tally"]),
    ("sqlx", &["tally-store", "tally-projections", "tally-fanout", "tally-api", "tally"]),
    ("axum", &["tally-api"]),
    // The layer of the verifier is for services of any framework.
    ("http", &["tally-fanout"]),
    ("tower", &["tally-fanout", "tally-api"]),
    ("metrics", &["tally-store", "tally-projections", "tally-fanout", "tally-api"]),
    ("metrics-exporter-prometheus", &["tally-api"]),
    ("jsonwebtoken", &["tally-api"]),
    ("async-nats", &["tally-fanout"]),
    ("reqwest", &["tally-api", "tally"]),
    ("lettre", &["tally-api"]),
    ("minijinja", &["tally-api"]),
    ("openidconnect", &["tally-api"]),
];

/// Each room with what it imports outside its tests.
fn imports() -> BTreeMap<String, Vec<String>> {
    let metadata = MetadataCommand::new().no_deps().exec().expect("the workspace has metadata");
    let rooms = metadata.packages.into_iter().filter(|package| ROOMS.contains(&package.name.as_str()));
    rooms
        .map(|package| {
            let normal = package
                .dependencies
                .into_iter()
                .filter(|dependency| dependency.kind == DependencyKind::Normal);
            (package.name.to_string(), normal.map(|dependency| dependency.name).collect())
        })
        .collect()
}

#[test]
fn imports_go_one_way() {
    let imports = imports();
    assert_eq!(imports.len(), ROOMS.len(), "every room is in the workspace");
    for (height, room) in ROOMS.iter().enumerate() {
        for above in &ROOMS[height..] {
            assert!(!imports[*room].iter().any(|name| name == above), "{room} imports {above}");
        }
    }
}

#[test]
fn the_world_outside_stays_in_its_rooms() {
    for (room, names) in imports() {
        for (package, rooms) in CONFINED {
            let allowed = rooms.contains(&room.as_str());
            assert!(allowed || !names.iter().any(|name| name == package), "{room} imports {package}");
        }
    }
}

#[test]
fn nothing_rests_on_the_bench() {
    let metadata = MetadataCommand::new().no_deps().exec().expect("the workspace has metadata");
    assert!(metadata.packages.iter().any(|package| package.name.as_str() == BENCH), "the bench is here");
    for package in metadata.packages {
        let imported = package.dependencies.iter().any(|dependency| dependency.name == BENCH);
        assert!(!imported, "{} imports the bench", package.name);
    }
}
