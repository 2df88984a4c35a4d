//! `tally audit --follow`: every event once, in the order of the log.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;

use super::table::Layout;
use super::{AuditArgs, Event, PAGE_MAX, Pages};
use crate::client::failure::Failure;
use crate::client::{Client, output};

const BETWEEN_POLLS: Duration = Duration::from_secs(1);

pub(super) async fn run(client: &Client, args: &AuditArgs, now: DateTime<Utc>) -> Result<(), Failure> {
    // Asked for before the first request, so that Ctrl-C is never the abrupt kind.
    let mut interrupt =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).map_err(Failure::Output)?;
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        outcome = follow(client, args, now) => outcome,
    }
}

async fn follow(client: &Client, args: &AuditArgs, now: DateTime<Utc>) -> Result<(), Failure> {
    let mut follower = Follower::new(client, args, now)?;
    let mut layout = Layout::new(output::terminal_width());
    let mut lost = false;
    // The first answer decides whether following makes sense at all.
    let mut events = follower.poll().await?;
    loop {
        print(client, &mut layout, &events)?;
        let mut pause = BETWEEN_POLLS;
        events = loop {
            tokio::time::sleep(pause).await;
            match follower.poll().await {
                Ok(events) => break events,
                Err(failure) if failure.is_passing() => {
                    if !lost {
                        output::warn(&format!("{failure}; nothing is missed, trying on"));
                    }
                    lost = true;
                    pause = failure
                        .retry_after_seconds()
                        .map_or(BETWEEN_POLLS, Duration::from_secs)
                        .max(BETWEEN_POLLS);
                }
                Err(failure) => return Err(failure),
            }
        };
        if std::mem::take(&mut lost) {
            output::note(&format!("{} answers again.", client.server.url()));
        }
    }
}

fn print(client: &Client, layout: &mut Layout, events: &[(Event, Box<RawValue>)]) -> Result<(), Failure> {
    if client.json {
        return events.iter().try_for_each(|(_, raw)| output::line(one_line(raw)));
    }
    let shown: Vec<Event> = events.iter().map(|(event, _)| event.clone()).collect();
    layout.lines(&shown).into_iter().try_for_each(output::line)
}

/// JSON between tokens may have line breaks; inside strings it cannot.
fn one_line(raw: &RawValue) -> String {
    raw.get().replace(['\n', '\r'], " ")
}

/// A reader of the trail that knows how far it came.
pub(super) struct Follower<'a> {
    client: &'a Client,
    query: Vec<(&'static str, String)>,
    /// The least position not yet seen; none before the first event.
    next: Option<u64>,
    /// Whether the first answer is to be complete, or just the newest page.
    whole: bool,
}

impl<'a> Follower<'a> {
    pub(super) fn new(client: &'a Client, args: &AuditArgs, now: DateTime<Utc>) -> Result<Self, Failure> {
        let whole = args.all || args.since.is_some() || args.from_position.is_some();
        Ok(Self { client, query: args.query(now)?, next: None, whole })
    }

    /// What happened since the last call, oldest first. An error leaves the place as it was: the next call asks for
    /// the same again.
    pub(super) async fn poll(&mut self) -> Result<Vec<(Event, Box<RawValue>)>, Failure> {
        let mut query = self.query.clone();
        if let Some(next) = self.next {
            query.retain(|(name, _)| !matches!(*name, "from_position" | "limit"));
            query.extend([("from_position", next.to_string()), ("limit", PAGE_MAX.to_string())]);
        }
        let mut pages = Pages::new(self.client, query);
        let mut events = Vec::new();
        while let Some(page) = pages.next().await? {
            for raw in page.events {
                events.push((pages.event(&raw)?, raw));
            }
            if !self.whole {
                break;
            }
        }
        // From now on every answer must be complete: a page's rest would be passed over for ever.
        self.whole = true;
        // Positions order events; where two pages met, the same one may stand twice.
        events.sort_by_key(|(event, _)| event.position);
        events.dedup_by_key(|(event, _)| event.position);
        events.retain(|(event, _)| self.next.is_none_or(|next| event.position >= next));
        if let Some((event, _)) = events.last() {
            self.next = Some(event.position + 1);
        }
        Ok(events)
    }
}
