//! Sockets that follow a workspace, and what they are told until they are closed.

use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::Value;
use tokio::time::{timeout, timeout_at};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use super::ask::ASK_TIMEOUT;
use crate::faults::site::Door;

/// Longer than any fault lasts, and all that comes of it: a socket that is open then stays open.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(40);

/// What came by a socket that one replica had opened.
#[derive(Clone, Debug)]
pub struct Heard {
    pub replica: usize,
    /// The positions of the events that it was told of.
    pub told: Vec<i64>,
    /// When it was closed, or nobody listened any more.
    pub end: Instant,
}

/// Opens a socket with this credential and listens until it is closed; none: it was not opened.
pub async fn listen(replica: usize, door: Door, workspace: String, credential: String) -> Option<Heard> {
    let url = format!("ws://{}/ws?workspace_id={workspace}", door.client().address());
    let mut request = url.into_client_request().expect("a URL");
    let bearer = format!("Bearer {credential}").parse().expect("a header");
    request.headers_mut().insert("authorization", bearer);
    let (mut socket, _) = timeout(ASK_TIMEOUT, connect_async(request)).await.ok()?.ok()?;
    let until = tokio::time::Instant::now() + LISTEN_TIMEOUT;
    let mut told = Vec::new();
    // Pings are answered by the library.
    while let Ok(Some(Ok(message))) = timeout_at(until, socket.next()).await {
        match message {
            Message::Text(text) => {
                let frame: Value = serde_json::from_str(&text).expect("JSON");
                told.push(frame["payload"]["position"].as_i64().expect("a position"));
            }
            Message::Close(_) => break,
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
    Some(Heard { replica, told, end: Instant::now() })
}
