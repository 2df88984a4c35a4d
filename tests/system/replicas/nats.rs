//! NATS servers that ask who it is, as operators run them: by nkey, by creds of an operator's account, and
//! by TLS. Who shows the wrong thing is told what to look at, and everybody else notices nothing.

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use serde_json::{Value, json};
use tally_tests::{NatsServer, Scratch, Server, TempPostgres, certify, eventually};

use super::{BOUND, SLACK, Site};
use crate::{
    faults::site::external_settings,
    support::{BINARY, delete, expect, now},
};

/// What `docs/operations.md` recommends to let a user do.
const RIGHTS: &str = r#"permissions: { publish: "tallystick.>", subscribe: "tallystick.>" }"#;
const NOT_LET_IN: &str = "NATS does not accept who this is";
const NOT_TRUSTED: &str = "NATS shows no certificate that is trusted here";
const NO_RIGHTS: &str = "NATS says no";
const NO_TLS: &str = "NATS does not speak TLS there";

/// A file with this content: its path.
fn file(scratch: &Scratch, name: &str, content: &str) -> String {
    let path = scratch.path().join(name);
    fs::write(&path, content).expect("a file");
    path_of(&path)
}

fn path_of(path: &Path) -> String {
    path.to_str().expect("text").to_owned()
}

/// Replicas hear each other, by word and not by time, and none of them logs what it shows.
async fn hear_each_other(nats: NatsServer, settings: &[(&str, &str)], secret: &str) {
    let site = Site::with(nats, settings).await;
    for replica in &site.replicas {
        assert!(!replica.log().contains(secret), "what opens NATS is not in the log");
    }
    site.is_fast().await;
}

/// A replica says so in words that lead on, and goes on without NATS: people log in, and what they revoke
/// is revoked.
async fn goes_on_alone(url: &str, settings: &[(&str, &str)], words: &str) {
    let postgres = TempPostgres::start().await;
    let database = postgres.url(&postgres.database().await);
    let all: Vec<_> = external_settings(&database).into_iter().chain([("NATS_URL", url)]).collect();
    let server = Server::start(BINARY, &[&all[..], settings].concat()).await;
    let client = server.client();
    let ada = client.login("ada@example.org").await;
    let (id, token) = client.mint(&ada.token, "laptop").await;
    let began = std::time::Instant::now();
    expect(204, delete(&client, &format!("/api/tokens/{id}"), &ada.token)).await;
    assert!(began.elapsed() < BOUND + SLACK, "{:?}", began.elapsed());
    assert!(!client.accepts(&token).await);
    eventually(words, async || server.log().contains(words).then_some(())).await;
}

#[tokio::test]
async fn a_key_opens_nats_and_another_does_not() {
    let (scratch, user, stranger) = (Scratch::new(), KeyPair::new_user(), KeyPair::new_user());
    let users = format!("authorization {{ users = [{{ nkey: {}, {RIGHTS} }}] }}", user.public_key());
    let config = file(&scratch, "nats.conf", &users);
    let nats = NatsServer::start(&["--config", &config]).await;
    let url = format!("nats://{}", nats.address());
    let seed = stranger.seed().expect("a seed");
    let wrong = file(&scratch, "wrong", &seed);
    goes_on_alone(&url, &[("NATS_NKEY", &wrong)], NOT_LET_IN).await;
    goes_on_alone(&url, &[], NOT_LET_IN).await;
    let seed = user.seed().expect("a seed");
    let right = file(&scratch, "right", &format!("# The user of the replicas\n{seed}\n"));
    hear_each_other(nats, &[("NATS_NKEY", &right)], &seed).await;
}

/// An operator's server: it knows the operator's key and the account, and users come with a JWT.
#[tokio::test]
async fn creds_open_nats_and_those_of_another_account_do_not() {
    let scratch = Scratch::new();
    let (operator, account, stranger) =
        (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
    let root = jwt(&operator, &operator, json!({ "type": "operator", "version": 2 }));
    let unlimited = json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1 });
    let claims = json!({ "type": "account", "version": 2, "limits": unlimited });
    let preloaded = format!("{}: {}", account.public_key(), jwt(&operator, &account, claims));
    let config = format!("operator: {root}\nresolver: MEMORY\nresolver_preload: {{ {preloaded} }}\n");
    let nats = NatsServer::start(&["--config", &file(&scratch, "nats.conf", &config)]).await;
    let url = format!("nats://{}", nats.address());
    let (_, wrong) = creds(&stranger);
    let wrong = file(&scratch, "wrong.creds", &wrong);
    goes_on_alone(&url, &[("NATS_CREDS", &wrong)], NOT_LET_IN).await;
    let (seed, right) = creds(&account);
    let right = file(&scratch, "right.creds", &right);
    hear_each_other(nats, &[("NATS_CREDS", &right)], &seed).await;
}

/// Let in without the rights to the subject, a replica hears nothing and is heard by nobody.
#[tokio::test]
async fn a_user_without_rights_is_told() {
    let (scratch, user) = (Scratch::new(), KeyPair::new_user());
    let rights = RIGHTS.replace("tallystick", "other");
    let users = format!("authorization {{ users = [{{ nkey: {}, {rights} }}] }}", user.public_key());
    let nats = NatsServer::start(&["--config", &file(&scratch, "nats.conf", &users)]).await;
    let seed = file(&scratch, "seed", &user.seed().expect("a seed"));
    goes_on_alone(&format!("nats://{}", nats.address()), &[("NATS_NKEY", &seed)], NO_RIGHTS).await;
}

/// The certificate decides whether a replica believes the server, and the server asks for nothing.
#[tokio::test]
async fn a_certificate_opens_a_replica_and_an_unknown_one_does_not() {
    let (scratch, elsewhere) = (Scratch::new(), Scratch::new());
    certify(scratch.path(), "localhost");
    certify(elsewhere.path(), "localhost");
    let [authority, certificate, key] =
        ["authority.pem", "server.pem", "server.key"].map(|name| path_of(&scratch.path().join(name)));
    let nats = NatsServer::start(&["--tls", "--tlscert", &certificate, "--tlskey", &key]).await;
    let port = nats.address().rsplit_once(':').expect("a port").1.to_owned();
    let by_name = format!("tls://localhost:{port}");
    let unknown = path_of(&elsewhere.path().join("authority.pem"));
    goes_on_alone(&by_name, &[("NATS_CA", &unknown)], NOT_TRUSTED).await;
    goes_on_alone(&by_name, &[], NOT_TRUSTED).await;
    // The certificate is for a name, and not for this address.
    goes_on_alone(&format!("tls://127.0.0.1:{port}"), &[("NATS_CA", &authority)], NOT_TRUSTED).await;
    let settings = [("NATS_URL", by_name.as_str()), ("NATS_CA", &authority)];
    hear_each_other(nats, &settings, "BEGIN CERTIFICATE").await;
}

/// A server that speaks no TLS is not spoken to by whoever was told a certificate's authority.
#[tokio::test]
async fn a_replica_that_was_told_to_use_tls_says_nothing_without() {
    let scratch = Scratch::new();
    certify(scratch.path(), "localhost");
    let nats = NatsServer::start(&[]).await;
    let authority = path_of(&scratch.path().join("authority.pem"));
    goes_on_alone(&format!("nats://{}", nats.address()), &[("NATS_CA", &authority)], NO_TLS).await;
}

#[tokio::test]
async fn a_wrong_password_does_not_open_nats() {
    let nats = NatsServer::start(&["--user", "tally", "--pass", "hunter2hunter2"]).await;
    let settings = [("NATS_USER", "tally"), ("NATS_PASSWORD", "hunter1hunter1")];
    goes_on_alone(&format!("nats://{}", nats.address()), &settings, NOT_LET_IN).await;
}

/// A new user of an account: their seed, and their creds file.
fn creds(account: &KeyPair) -> (String, String) {
    let user = KeyPair::new_user();
    let rights = json!({ "allow": ["tallystick.>"] });
    let claims = json!({ "type": "user", "version": 2, "pub": rights, "sub": rights, "subs": -1, "data": -1, "payload": -1 });
    let (jwt, seed) = (jwt(account, &user, claims), user.seed().expect("a seed"));
    let file = format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    (seed, file)
}

/// What one key says of another, as NATS words it.
fn jwt(issuer: &KeyPair, subject: &KeyPair, nats: Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({
        "jti": subject.public_key(),
        "iat": now().timestamp(),
        "iss": issuer.public_key(),
        "sub": subject.public_key(),
        "name": "tally",
        "nats": nats,
    });
    let signed = format!("{}.{}", part(&json!({ "typ": "JWT", "alg": "ed25519-nkey" })), part(&claims));
    let signature = issuer.sign(signed.as_bytes()).expect("it has a seed");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}
