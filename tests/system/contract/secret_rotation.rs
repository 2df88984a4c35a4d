//! `JWT_SECRET` is replaced, and nobody is logged out by it.

use reqwest::Method;
use serde_json::json;
use tally_tests::{Client, Console, Login, Server};

use crate::support::{BINARY, address, by_cookie, expect, key};

const OLD: &str = "the old secret of at least 32 characters";
const NEW: &str = "the new secret of at least 32 characters";
const FOREIGN: &str = "some other secret of 32 characters and more";

fn key_id(jwt: &str) -> String {
    jsonwebtoken::decode_header(jwt).expect("a JWT").kid.expect("a key id")
}

/// Both kinds of session still read and write, with the cookies and CSRF tokens they have.
async fn assert_goes_on(client: &Client, login: &Login, console: &Console) {
    assert!(client.accepts(&login.token).await && client.accepts(&console.access).await);
    let change = by_cookie(client, Method::PATCH, "/api/me", login, Some(&login.csrf_cookie));
    expect(200, change.json(&json!({}))).await;
    expect(200, client.by_console(Method::PATCH, "/api/me", console).json(&json!({}))).await;
}

/// Sessions of before go on, new ones are signed with the new secret, and once the old one is no
/// longer named, what it signed is worth nothing.
#[tokio::test]
async fn a_secret_is_replaced_without_logging_anybody_out() {
    let mut server = Server::start(BINARY, &[("JWT_SECRET", OLD)]).await;
    let login = server.client().login(&address("rotation")).await;
    let console = server.client().open_console(&address("rotation")).await;
    server.restart_with(&[("JWT_SECRET", NEW), ("TALLY_JWT_SECRET_PREVIOUS", OLD)]).await;
    let client = server.client();
    assert_goes_on(&client, &login, &console).await;
    let fresh = client.login(&address("rotation")).await;
    let console = Console::of(&expect(200, client.refresh(&console)).await);
    assert_eq!(key_id(&fresh.token), key_id(&console.access));
    assert_ne!(key_id(&fresh.token), key_id(&login.token));
    server.restart_with(&[("TALLY_JWT_SECRET_PREVIOUS", "")]).await;
    let client = server.client();
    assert_goes_on(&client, &fresh, &console).await;
    assert!(!client.accepts(&login.token).await);
}

/// First every replica is given the new secret as one that it verifies, then each signs with it. At no
/// time is there a replica that does not know what another one signed.
#[tokio::test]
async fn replicas_are_changed_one_after_the_other() {
    let first = Server::start(BINARY, &[("JWT_SECRET", OLD)]).await;
    let socket = first.data_dir().join("socket").display().to_string().replace('/', "%2F");
    let (url, master) = (format!("postgres://tally@{socket}/tally"), key(&first.data_dir(), "master.key"));
    let external = [
        ("DATABASE_URL", url.as_str()),
        ("TALLY_MASTER_KEY", &master),
        ("DATABASE_MAX_CONNS", "4"),
        ("DATABASE_MIN_CONNS", "0"),
        ("TALLY_BIND", "127.0.0.1"),
    ];
    let with = |more: [(&'static str, &'static str); 2]| [&external[..], &more].concat();
    let mut second =
        Server::start(BINARY, &with([("JWT_SECRET", OLD), ("TALLY_JWT_SECRET_PREVIOUS", NEW)])).await;
    let enter = async |server: &Server| {
        let client = server.client();
        (client.login(&address("rolling")).await, client.open_console(&address("rolling")).await)
    };
    let mut known = vec![enter(&first).await, enter(&second).await];
    // The first one has the database: to start it again would take that from the second.
    let changed = [("JWT_SECRET", NEW), ("TALLY_JWT_SECRET_PREVIOUS", OLD)];
    let third = Server::start(BINARY, &with(changed)).await;
    known.push(enter(&third).await);
    for server in [&second, &third] {
        for (login, console) in &known {
            assert_goes_on(&server.client(), login, console).await;
        }
    }
    // In the middle of the change one that still signs with the old one is started again.
    second.restart_with(&[]).await;
    known.push(enter(&second).await);
    second.restart_with(&changed).await;
    known.push(enter(&second).await);
    for server in [&second, &third] {
        for (login, console) in &known {
            assert_goes_on(&server.client(), login, console).await;
        }
    }
    let mut stranger = second.command(&["serve"]);
    stranger.env("JWT_SECRET", FOREIGN).env("TALLY_JWT_SECRET_PREVIOUS", "");
    let refused =
        tokio::task::spawn_blocking(move || stranger.output()).await.expect("it ends").expect("it runs");
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("TALLY_JWT_SECRET_PREVIOUS"), "{words}");
}
