//! The life of an open socket: events out, pings both ways, and an end.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::ws::{Message, WebSocket},
};
use serde_json::{Value, json};
use tally_domain::{Dependency, Invalidation, Verdict, dependency::invalidation};
use tally_events::{MemberId, Position, Recorded};
use tally_fanout::News;
use tokio::{
    sync::broadcast::error::RecvError,
    time::{Instant, interval_at, sleep, timeout},
};

use super::{Member, Reason, SEND_TIMEOUT, send};
use crate::{serve::Connection, state::App};

/// A client is pinged this often, and must have said anything since the ping before the last.
const PING_INTERVAL: Duration = Duration::from_secs(25);
/// Longer than any credential lasts that expires; the timer is set anew then.
const FAR: Duration = Duration::from_hours(24);

/// Serves a socket until something ends it.
pub async fn run(app: &App, socket: &mut WebSocket, member: Member, connection: &Connection) -> Reason {
    let mut news = app.replica.news();
    // What ended between the handshake and here is not in the news any more.
    let Some(mut member) = member.now(app).await else { return Reason::Ended };
    let rests_on = rests_on(&member);
    let mut told = Position::ZERO;
    let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    let mut silent_pings = 0;
    loop {
        tokio::select! {
            // An end goes before everything that could still be sent.
            biased;
            () = connection.stopping() => return Reason::Stopping,
            // A token may have been renewed since.
            () = expiry(app, &member) => match member.now(app).await {
                Some(now) => member = now,
                None => return Reason::Ended,
            },
            heard = news.recv() => {
                let news = match heard {
                    Ok(news) => news,
                    Err(RecvError::Lagged(_)) => return Reason::Missed,
                    Err(RecvError::Closed) => return Reason::Stopping,
                };
                if overthrows(&news, &rests_on) {
                    match member.now(app).await {
                        Some(now) => member = now,
                        None => return Reason::Ended,
                    }
                }
                // The log was taken up at a later place: what happened before it is told to nobody here.
                if matches!(news, News::Unknown) {
                    return Reason::Missed;
                }
                let here = |event: &&Recorded| {
                    event.position > told && event.event.workspace(event.stream) == Some(member.membership.workspace)
                };
                for event in news.events().iter().filter(here) {
                    if send(socket, frame(event)).await.is_none() {
                        return Reason::Slow;
                    }
                }
                told = news.events().last().map_or(told, |last| last.position.max(told));
            }
            heard = socket.recv() => match heard {
                None | Some(Err(_) | Ok(Message::Close(_))) => return Reason::Gone,
                // There is nothing to say to a feed; that somebody is there is all that is heard.
                Some(Ok(Message::Text(_) | Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => silent_pings = 0,
            },
            _ = pings.tick() => {
                if silent_pings > 1 {
                    return Reason::Gone;
                }
                silent_pings += 1;
                let sent = timeout(SEND_TIMEOUT, socket.send(Message::Ping(Bytes::new()))).await;
                if !matches!(sent, Ok(Ok(()))) {
                    return Reason::Slow;
                }
            }
        }
    }
}

/// All that must be live for the socket to be.
fn rests_on(member: &Member) -> Vec<Dependency> {
    let membership = member.membership;
    let mut all: Vec<Dependency> = Verdict { principal: member.principal }.depends_on().collect();
    all.push(Dependency::Member(MemberId::of(membership.workspace, membership.user)));
    all.push(Dependency::Workspace(membership.workspace));
    all
}

fn overthrows(news: &News, rests_on: &[Dependency]) -> bool {
    let one = |event| match invalidation(event) {
        Invalidation::Nothing => false,
        Invalidation::Of(dependency) => rests_on.contains(&dependency),
        Invalidation::Everything => true,
    };
    matches!(news, News::Unknown) || news.events().iter().any(one)
}

/// When the credential ends by itself, by the log's time.
async fn expiry(app: &App, member: &Member) {
    let expires_at = Verdict { principal: member.principal }.expires_at();
    let left = expires_at.map_or(FAR, |at| (at - app.store.clock().now()).to_std().unwrap_or_default());
    sleep(left.min(FAR)).await;
}

/// An event, with what of it holds nothing personal: whoever needs the rest reads it where it is asked
/// who they are.
fn frame(recorded: &Recorded) -> Value {
    json!({
        "type": recorded.event.name(),
        "payload": {
            "position": recorded.position,
            "recorded_at": recorded.recorded_at,
            "workspace_id": recorded.event.workspace(recorded.stream),
            "stream": { "kind": recorded.stream.kind().as_str(), "id": recorded.stream.uuid() },
            "actor": { "kind": recorded.actor.kind.as_str(), "id": recorded.actor.id },
            "subject_id": recorded.event.concerns(recorded.stream),
            "data": recorded.event.public().data,
        },
    })
}
