//! *WebSocket*: following what happens in a workspace.

use std::time::Duration;

use chrono::TimeDelta;
use futures::{SinkExt, StreamExt};
use reqwest::{Method, StatusCode};
use rstest::rstest;
use serde_json::{Value, json};
use tally_tests::{Login, Server, eventually};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        http::{HeaderName, HeaderValue},
        protocol::frame::coding::CloseCode,
    },
};

use crate::support::{
    UNKNOWN_TOKEN, address, by_cookie, client, expect, fields,
    past::Past,
    person, refused, replica, shared,
    team::{Team, team},
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;
type Sent<'a> = [(&'static str, &'a str)];

/// Longer than anything here takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(20);

async fn connect(server: &Server, query: &str, headers: &Sent<'_>) -> Result<Socket, Error> {
    let url = format!("{}/ws{query}", server.url().replace("http", "ws"));
    let mut request = url.into_client_request().expect("a URL");
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).expect("a header");
        request.headers_mut().insert(HeaderName::from_static(name), value);
    }
    timeout(PATIENCE, connect_async(request)).await.expect("an answer").map(|(socket, _)| socket)
}

/// The status and words of a handshake that is refused.
async fn turned_away(query: &str, headers: &Sent<'_>) -> (u16, Value) {
    match connect(shared().await, query, headers).await {
        Err(Error::Http(answer)) => {
            let body = answer.body().as_deref().unwrap_or_default();
            (answer.status().as_u16(), serde_json::from_slice(body).unwrap_or_default())
        }
        Ok(_) => panic!("the socket is open"),
        Err(error) => panic!("{error}"),
    }
}

fn cookie(login: &Login) -> String {
    format!("multica_auth={}", login.auth_cookie)
}

/// A socket by cookie, which the handshake shows.
async fn by_cookie_of(team: &Team, login: &Login) -> Socket {
    let query = format!("?workspace_id={}", team.id);
    let socket = connect(shared().await, &query, &[("cookie", &cookie(login))]).await;
    socket.expect("the socket opens")
}

/// A socket by token, which the first frame shows.
async fn by_token(server: &Server, team: &Team, token: &str) -> Socket {
    let query = format!("?workspace_slug={}", team.workspace["slug"].as_str().unwrap());
    let mut socket = connect(server, &query, &[]).await.expect("the socket opens");
    say(&mut socket, &json!({ "type": "auth", "payload": { "token": token } })).await;
    assert_eq!(hear(&mut socket).await, json!({ "type": "auth_ack" }));
    socket
}

async fn say(socket: &mut Socket, frame: &Value) {
    socket.send(Message::text(frame.to_string())).await.expect("it is sent");
}

/// The next frame with something in it.
async fn hear(socket: &mut Socket) -> Value {
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("a frame in time") {
            Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).expect("JSON"),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The code it is closed with, whatever comes before that.
async fn closed(socket: &mut Socket) -> Option<CloseCode> {
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("an end in time") {
            Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return None,
        }
    }
}

/// Something happens in the workspace, and the socket is told of it.
async fn hears_of_a_change(team: &Team, socket: &mut Socket) -> Value {
    expect(200, team.patch("", &team.owner, &json!({ "description": "Changed" }))).await;
    hear(socket).await
}

/// A cookie authenticates before the upgrade; a token in the first frame is answered `auth_ack`.
#[tokio::test]
async fn both_ways_of_authenticating() {
    let team = team().await;
    let mut by_cookie = by_cookie_of(&team, &team.owner).await;
    assert_eq!(hears_of_a_change(&team, &mut by_cookie).await["type"], "workspace.changed");
    let (_, pat) = team.client.mint(&team.owner.token, "laptop").await;
    for token in [&pat, &team.owner.token] {
        let mut by_token = by_token(shared().await, &team, token).await;
        assert_eq!(hears_of_a_change(&team, &mut by_token).await["type"], "workspace.changed");
    }
}

/// A console session opens one as any session does, by its cookie or in the first frame; in the other
/// kind's cookie it opens none.
#[tokio::test]
async fn a_console_session_follows_until_it_ends() {
    let (team, email) = (team().await, address("console-socket"));
    let console = team.client.open_console(&email).await;
    let invitation = team.invite(&email, "member").await;
    let accept = format!("/api/invitations/{}/accept", invitation["id"].as_str().expect("an id"));
    expect(200, team.client.by_console(Method::POST, &accept, &console)).await;
    let query = format!("?workspace_id={}", team.id);
    let cookie = console.cookies("/ws");
    let opened = connect(shared().await, &query, &[("cookie", &cookie)]).await;
    let mut by_cookie = opened.expect("the socket opens");
    let mut by_token = by_token(shared().await, &team, &console.access).await;
    for socket in [&mut by_cookie, &mut by_token] {
        assert_eq!(hears_of_a_change(&team, socket).await["type"], "workspace.changed");
    }
    let crossed = format!("multica_auth={}", console.access);
    let crossed = turned_away(&query, &[("cookie", &crossed)]).await;
    assert_eq!(crossed, (401, json!({ "error": "invalid token" })));
    expect(204, team.client.by_console(Method::DELETE, "/v1/sessions/current", &console)).await;
    for socket in [&mut by_cookie, &mut by_token] {
        assert_eq!(closed(socket).await, Some(CloseCode::Policy));
    }
}

/// A frame names the event, and holds nothing personal and nothing secret.
#[tokio::test]
async fn a_frame_holds_nothing_personal() {
    let team = team().await;
    let mut socket = by_cookie_of(&team, &team.owner).await;
    let guest = person("guest").await;
    let member = team.join(&guest, "admin").await;
    let invited = hear(&mut socket).await;
    assert_eq!(fields(&invited), ["payload", "type"]);
    let names = ["actor", "data", "position", "recorded_at", "stream", "subject_id", "workspace_id"];
    assert_eq!(fields(&invited["payload"]), names);
    assert_eq!(
        (&invited["type"], &invited["payload"]["data"]["email"]),
        (&json!("invitation.created"), &Value::Null)
    );
    assert_eq!(invited["payload"]["actor"]["id"], team.owner.user["id"]);
    assert_eq!(hear(&mut socket).await["type"], "invitation.accepted");
    let joined = hear(&mut socket).await["payload"].clone();
    assert_eq!((&joined["stream"]["id"], &joined["subject_id"]), (&member["id"], &guest.user["id"]));
    assert_eq!((&joined["data"]["role"], &joined["workspace_id"]), (&json!("admin"), &json!(team.id)));
    let link = expect(201, team.post("/share-links", &team.owner, &json!({}))).await.json();
    let frame = hear(&mut socket).await.to_string();
    assert!(
        frame.contains("share_link.created") && !frame.contains(link["code"].as_str().unwrap()),
        "{frame}"
    );
}

/// Of another workspace nothing is heard.
#[tokio::test]
async fn a_socket_hears_of_its_own_workspace() {
    let (team, other) = (team().await, team().await);
    let mut socket = by_cookie_of(&team, &team.owner).await;
    expect(200, other.patch("", &other.owner, &json!({ "name": "Elsewhere" }))).await;
    let heard = hears_of_a_change(&team, &mut socket).await;
    assert_eq!(heard["payload"]["workspace_id"], json!(team.id));
}

/// 400, 401, 403 and 404 before the upgrade.
#[tokio::test]
async fn a_handshake_is_refused() {
    let team = team().await;
    let (stranger, owner) = (person("stranger").await, cookie(&team.owner));
    let here = format!("?workspace_id={}", team.id);
    let refusal = |words: &str| json!({ "error": words });
    let required = refusal("workspace_id or workspace_slug is required");
    assert_eq!(turned_away("", &[("cookie", &owner)]).await, (400, required));
    assert_eq!(turned_away("?workspace_id=x", &[]).await, (400, refusal("invalid workspace_id")));
    let unknown = format!("?workspace_id={}", uuid::Uuid::now_v7());
    for (query, cookie) in [(&unknown, &owner), (&here, &cookie(&stranger))] {
        assert_eq!(turned_away(query, &[("cookie", cookie)]).await, (404, refusal("workspace not found")));
    }
    let no_slug = turned_away("?workspace_slug=no-such-team", &[("cookie", &owner)]).await;
    assert_eq!(no_slug, (404, refusal("workspace not found")));
    let bad = turned_away(&here, &[("cookie", "multica_auth=a.b.c")]).await;
    assert_eq!(bad, (401, refusal("invalid token")));
    // An invalid Bearer never falls back to the cookie.
    let bearer = format!("Bearer {UNKNOWN_TOKEN}");
    let bad = turned_away(&here, &[("authorization", &bearer), ("cookie", &owner)]).await;
    assert_eq!(bad, (401, refusal("invalid token")));
    // What is no handshake.
    let request = client().await.get(&format!("/ws{here}")).bearer_auth(&team.owner.token);
    refused(400, "a WebSocket handshake is required", request).await;
}

/// Origin: none, the same host, or allow-listed, else 403.
#[tokio::test]
async fn where_a_browser_comes_from_counts() {
    let team = team().await;
    let (here, owner) = (format!("?workspace_id={}", team.id), cookie(&team.owner));
    let server = shared().await;
    let same = server.url().to_owned();
    for origin in ["https://evil.example", "null", &format!("{same}.evil.example"), "http://127.0.0.1:1"] {
        let away = turned_away(&here, &[("cookie", &owner), ("origin", origin)]).await;
        assert_eq!(away, (403, json!({ "error": "origin not allowed" })), "{origin}");
    }
    for origin in [same.as_str(), "http://localhost:3000"] {
        connect(server, &here, &[("cookie", &owner), ("origin", origin)]).await.expect(origin);
    }
}

/// A first frame that shows nothing good: an error, and the end.
#[rstest]
#[case::unknown(json!({ "type": "auth", "payload": { "token": UNKNOWN_TOKEN } }), "invalid token")]
#[case::no_token(json!({ "type": "auth" }), "missing authorization")]
#[case::another_type(json!({ "type": "hello", "payload": { "token": UNKNOWN_TOKEN } }), "missing authorization")]
#[case::no_frame(json!("nonsense"), "missing authorization")]
#[tokio::test]
async fn a_first_frame_is_refused(#[case] frame: Value, #[case] words: &str) {
    let team = team().await;
    let mut socket = connect(shared().await, &format!("?workspace_id={}", team.id), &[]).await.expect("open");
    say(&mut socket, &frame).await;
    assert_eq!(hear(&mut socket).await, json!({ "error": words }));
    assert_eq!(closed(&mut socket).await, Some(CloseCode::Policy));
}

/// The token of somebody who is not in.
#[tokio::test]
async fn a_strangers_token_is_refused() {
    let (team, stranger) = (team().await, person("stranger").await);
    let mut socket = connect(shared().await, &format!("?workspace_id={}", team.id), &[]).await.expect("open");
    say(&mut socket, &json!({ "type": "auth", "payload": { "token": stranger.token } })).await;
    assert_eq!(hear(&mut socket).await, json!({ "error": "workspace not found" }));
    assert_eq!(closed(&mut socket).await, Some(CloseCode::Policy));
}

/// Without a first frame it ends after 10 seconds.
#[tokio::test]
async fn silence_ends_a_socket_that_nobody_authenticated() {
    let team = team().await;
    let began = tokio::time::Instant::now();
    let mut socket = connect(shared().await, &format!("?workspace_id={}", team.id), &[]).await.expect("open");
    assert_eq!(hear(&mut socket).await, json!({ "error": "missing authorization" }));
    assert!(began.elapsed() >= Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(closed(&mut socket).await, Some(CloseCode::Policy));
}

/// One person holds 64 sockets at most, of any credential; others are not counted with them. A place
/// that was given up can be taken again.
#[tokio::test]
async fn a_person_holds_so_many_sockets() {
    let team = team().await;
    let mut held = Vec::new();
    for _ in 0..64 {
        held.push(by_cookie_of(&team, &team.owner).await);
    }
    let query = format!("?workspace_id={}", team.id);
    let words = "at most 64 sockets for one person: close another";
    let refused = turned_away(&query, &[("cookie", &cookie(&team.owner))]).await;
    assert_eq!((refused.0, &refused.1["error"]), (429, &json!(words)));
    let mut late = connect(shared().await, &query, &[]).await.expect("open");
    say(&mut late, &json!({ "type": "auth", "payload": { "token": team.owner.token } })).await;
    assert_eq!(hear(&mut late).await, json!({ "error": words }));
    assert_eq!(closed(&mut late).await, Some(CloseCode::Policy));
    let member = team.member("member").await;
    by_cookie_of(&team, &member).await;
    held.pop();
    tally_tests::eventually("a place is free", async || {
        connect(shared().await, &query, &[("cookie", &cookie(&team.owner))]).await.ok()
    })
    .await;
}

/// Frames of 64 KiB at most.
#[tokio::test]
async fn a_frame_that_is_too_long_ends_it() {
    let team = team().await;
    let mut socket = by_cookie_of(&team, &team.owner).await;
    socket.send(Message::text("x".repeat(64 * 1024))).await.expect("it is sent");
    assert_eq!(hears_of_a_change(&team, &mut socket).await["type"], "workspace.changed");
    socket.send(Message::text("x".repeat(64 * 1024 + 1))).await.expect("it is sent");
    closed(&mut socket).await;
}

/// Pings are answered.
#[tokio::test]
async fn a_ping_is_answered() {
    let team = team().await;
    let mut socket = by_cookie_of(&team, &team.owner).await;
    socket.send(Message::Ping(b"there?".to_vec().into())).await.expect("it is sent");
    let pong = timeout(PATIENCE, socket.next()).await.expect("in time").expect("a frame").expect("a pong");
    assert_eq!(pong, Message::Pong(b"there?".to_vec().into()));
}

/// What ends what a socket rests on, done by somebody.
#[derive(Clone, Copy, Debug)]
enum End {
    Token,
    Session,
    Membership,
    Leaving,
    Workspace,
    Account,
}

/// A socket whose credential or membership ends is closed at once.
#[rstest]
#[tokio::test]
async fn a_socket_ends_with_what_it_rests_on(
    #[values(End::Token, End::Session, End::Membership, End::Leaving, End::Workspace, End::Account)] end: End,
) {
    let team = team().await;
    let member = team.member("member").await;
    let (id, token) = team.client.mint(&member.token, "laptop").await;
    let mut socket = match end {
        End::Session => by_cookie_of(&team, &member).await,
        _ => by_token(shared().await, &team, &token).await,
    };
    // It is open and hears.
    assert_eq!(hears_of_a_change(&team, &mut socket).await["type"], "workspace.changed");
    match end {
        End::Token => drop(
            expect(204, crate::support::delete(&team.client, &format!("/api/tokens/{id}"), &member.token))
                .await,
        ),
        End::Session => {
            let logout =
                by_cookie(&team.client, Method::POST, "/auth/logout", &member, Some(&member.csrf_cookie));
            expect(200, logout).await;
        }
        End::Membership => drop(expect(204, team.delete(&team.path_of(&member).await, &team.owner)).await),
        End::Leaving => drop(expect(204, team.request(Method::POST, "/leave", &member)).await),
        End::Workspace => drop(expect(204, team.delete("", &team.owner)).await),
        End::Account => {
            let done =
                shared().await.command(&["user", "suspend", member.user["id"].as_str().unwrap()]).output();
            assert!(done.expect("it runs").status.success());
        }
    }
    assert_eq!(closed(&mut socket).await, Some(CloseCode::Policy), "{end:?}");
}

/// Another replica, once it follows the log: before that its sockets are told to come again.
async fn following() -> Server {
    let other = replica(&[]).await;
    let line = "this replica may answer from memory";
    eventually("the replica to follow the log", async || other.log().contains(line).then_some(())).await;
    other
}

/// Also where another replica did it.
#[tokio::test]
async fn a_socket_ends_on_every_replica() {
    let team = team().await;
    let member = team.member("member").await;
    let (_, token) = team.client.mint(&member.token, "laptop").await;
    let other = following().await;
    let mut socket = by_token(&other, &team, &token).await;
    assert_eq!(hears_of_a_change(&team, &mut socket).await["type"], "workspace.changed");
    expect(204, team.delete(&team.path_of(&member).await, &team.owner)).await;
    assert_eq!(closed(&mut socket).await, Some(CloseCode::Policy));
}

/// A change of role ends nothing, and a socket whose credential expires ends then.
#[tokio::test]
async fn a_socket_ends_when_its_credential_expires() {
    let team = team().await;
    let member = team.member("member").await;
    let path = team.path_of(&member).await;
    // A token of one day that was minted a day ago, but for some seconds.
    let past = Past::shifted(-TimeDelta::days(1) + TimeDelta::seconds(15)).await;
    let (_, token) = past.mint(&member.token, Some(1)).await;
    let mut socket = by_token(shared().await, &team, &token).await;
    expect(200, team.patch(&path, &team.owner, &json!({ "role": "admin" }))).await;
    assert_eq!(hear(&mut socket).await["type"], "member.role_changed");
    assert_eq!(closed(&mut socket).await, Some(CloseCode::Policy));
    let me = team.client.get("/v1/me").bearer_auth(&token);
    assert_eq!(expect(401, me).await.status, StatusCode::UNAUTHORIZED.as_u16());
}

/// A server that stops says so, and does not wait for its sockets to leave.
#[tokio::test]
async fn a_server_that_stops_closes_its_sockets() {
    let team = team().await;
    let mut other = following().await;
    let mut socket = by_token(&other, &team, &team.owner.token).await;
    other.process().signal(rustix::process::Signal::TERM);
    assert_eq!(closed(&mut socket).await, Some(CloseCode::Away));
    drop(socket);
    assert!(other.process().wait().success());
}
