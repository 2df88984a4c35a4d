use std::fs;

use tally_fanout::{NatsLogin, NatsSettings};

use super::*;

const URL: (&str, &str) = ("NATS_URL", "nats://127.0.0.1:4222");
const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
const CREDENTIALS: &str = "-----BEGIN NATS USER JWT-----\neyJ0\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\nSUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY\n------END USER NKEY SEED------\n";

fn nats(settings: &[(&str, &str)]) -> NatsSettings {
    load(&[&[URL], settings].concat()).nats.expect("a server is named")
}

/// A file with this content, and its path.
fn file(content: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, content).unwrap();
    (directory, path.to_str().unwrap().to_owned())
}

#[test]
fn without_a_server_there_is_no_bus() {
    assert!(load(&[]).nats.is_none());
}

#[test]
fn several_servers_are_separated_by_commas() {
    let servers =
        nats(&[("NATS_URL", "nats://a.example.org, tls://tally:hunter2@b.example.org:4223")]).servers;
    let servers: Vec<_> =
        servers.iter().map(|server| (server.host(), server.port(), server.tls_required())).collect();
    assert_eq!(servers, [("a.example.org", 4222, false), ("b.example.org", 4223, true)]);
}

#[test]
fn it_is_shown_what_is_set() {
    assert!(matches!(nats(&[]).login, NatsLogin::Open));
    let NatsLogin::UserAndPassword { user, password } =
        nats(&[("NATS_USER", "tally"), ("NATS_PASSWORD", "hunter2")]).login
    else {
        panic!("a user and a password")
    };
    assert_eq!((user.as_str(), password.as_str()), ("tally", "hunter2"));
    let (_kept, path) = file(&format!("{SEED}\n"));
    let NatsLogin::Nkey(seed) = nats(&[("NATS_NKEY", &path)]).login else { panic!("a seed") };
    assert_eq!(seed.as_str(), SEED);
    let (_kept, path) = file(CREDENTIALS);
    let NatsLogin::Credentials(text) = nats(&[("NATS_CREDS", &path)]).login else { panic!("credentials") };
    assert_eq!(text.as_str(), CREDENTIALS);
}

/// Settings, the one that is wrong, and a part of what is said of it.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);

#[test]
fn what_is_wrong_is_named_and_no_secret_with_it() {
    let (_kept, other) = file("SECRET nonsense");
    let cases: [Case<'_>; 10] = [
        (&[("NATS_URL", "http://tally:hunter2@b.example.org")], "NATS_URL", "no address"),
        (&[("NATS_URL", "nats://[")], "NATS_URL", "no address"),
        (&[URL, ("NATS_USER", "tally")], "NATS_USER", "without NATS_PASSWORD"),
        (&[URL, ("NATS_PASSWORD", "hunter2")], "NATS_PASSWORD", "without NATS_USER"),
        (&[URL, ("NATS_NKEY", "/nowhere/seed")], "NATS_NKEY", "cannot be read"),
        (&[URL, ("NATS_NKEY", &other)], "NATS_NKEY", "holds no seed"),
        (&[URL, ("NATS_CREDS", &other)], "NATS_CREDS", "no creds file"),
        (&[URL, ("NATS_CA", &other)], "NATS_CA", "no certificate"),
        (&[URL, ("NATS_NKEY", &other), ("NATS_CREDS", &other)], "NATS_CREDS", "beside NATS_NKEY"),
        (&[("NATS_PASSWORD", "hunter2")], "NATS_PASSWORD", "without NATS_URL"),
    ];
    for (settings, name, wrong) in cases {
        let problems = problem(settings);
        assert!(problems.contains(name) && problems.contains(wrong), "{settings:?}: {problems}");
        assert!(!problems.contains("hunter2") && !problems.contains("SECRET"), "{problems}");
    }
}
