//! `tally audit`: what happened, by whom, with which credential.

mod event;
mod follow;
mod table;
#[cfg(test)]
mod tests;
mod when;

use chrono::{DateTime, Utc};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use self::table::Layout;
use self::when::When;
use super::failure::Failure;
use super::http::Call;
use super::{Client, machine, output};

use event::Event;

/// The most events the server gives in one answer.
const PAGE_MAX: u16 = 200;

/// Read the audit trail, newest first
///
/// One of --actor, --credential, --name and --subject can be given, and bounded by times and positions. Times are UTC.
/// The table shortens ids on a terminal of less than 200 columns; they are whole in a pipe and with --json.
#[derive(Clone, Debug, Default, Args)]
#[command(after_help = "\
Times are RFC 3339 (2026-10-07T14:03:00Z), a day (2026-10-07), or how long ago (30m, 2h, 7d).

Examples:
  tally audit --since 2h
  tally audit --name token.revoked --since 2026-10-01 --all
  tally audit --credential 01990b7e-7a51-7cc2-9f0e-5a1d2c3b4e5f --line
  tally audit --follow --json | jq .name")]
pub struct AuditArgs {
    /// Done by this user, agent or other actor
    #[arg(long, value_name = "ID")]
    actor: Option<String>,

    /// Done with this credential
    #[arg(long, value_name = "ID")]
    credential: Option<String>,

    /// With --credential: or with one of the line below it
    #[arg(long, requires = "credential")]
    line: bool,

    /// In this workspace
    #[arg(long, value_name = "ID")]
    workspace: Option<String>,

    /// Of this name, such as token.minted or session.started
    #[arg(long, value_name = "EVENT")]
    name: Option<String>,

    /// About this person
    #[arg(long, value_name = "ID")]
    subject: Option<String>,

    /// Not before this time
    #[arg(long, value_name = "TIME")]
    since: Option<When>,

    /// Not after this time
    #[arg(long, value_name = "TIME", conflicts_with = "follow")]
    until: Option<When>,

    /// Not below this position in the log
    #[arg(long, value_name = "N")]
    from_position: Option<u64>,

    /// Not above this position in the log
    #[arg(long, value_name = "N", conflicts_with = "follow")]
    to_position: Option<u64>,

    /// How many events to ask for at once, 1 to 200
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=i64::from(PAGE_MAX)))]
    limit: u16,

    /// All events that pass the filters, not only the newest
    #[arg(long)]
    all: bool,

    /// Show the newest events, oldest first, then new ones as they happen, until Ctrl-C
    ///
    /// With --since or --from-position it begins there. With --json, every line is one event.
    #[arg(long, short)]
    follow: bool,
}

/// One answer of `/v1/audit`. Events stay as the server wrote them, byte for byte, until they are shown.
#[derive(Debug, Deserialize, Serialize)]
struct Page {
    events: Vec<Box<RawValue>>,
    next_cursor: Option<String>,
}

pub(super) async fn run(client: &Client, args: AuditArgs) -> Result<(), Failure> {
    let now = machine::now();
    if args.follow {
        follow::run(client, &args, now).await
    } else if client.json {
        print_json(client, &args, now).await
    } else {
        print_table(client, &args, now).await
    }
}

async fn print_json(client: &Client, args: &AuditArgs, now: DateTime<Utc>) -> Result<(), Failure> {
    let mut pages = Pages::new(client, args.query(now)?);
    let Some(mut page) = pages.next().await? else { return Ok(()) };
    while let Some(next) = if args.all { pages.next().await? } else { None } {
        page.events.extend(next.events);
        page.next_cursor = next.next_cursor;
    }
    output::json(&page)
}

async fn print_table(client: &Client, args: &AuditArgs, now: DateTime<Utc>) -> Result<(), Failure> {
    let mut pages = Pages::new(client, args.query(now)?);
    let mut layout = Layout::new(output::terminal_width());
    let mut shown = 0;
    let mut last = None;
    while let Some(page) = pages.next().await? {
        let events = page.events.iter().map(|raw| pages.event(raw)).collect::<Result<Vec<_>, _>>()?;
        shown += events.len();
        last = events.last().map(|event| event.position).or(last);
        for line in layout.lines(&events) {
            output::line(line)?;
        }
        if !args.all {
            break;
        }
    }
    if shown == 0 {
        output::note("No event passes these filters.");
    } else if let Some(last) = last.filter(|last| !pages.is_over() && *last > 1) {
        output::note(&format!(
            "There are older events: --all shows them, --to-position {} goes on.",
            last - 1
        ));
    }
    Ok(())
}

impl AuditArgs {
    /// The filters as the server takes them.
    fn query(&self, now: DateTime<Utc>) -> Result<Vec<(&'static str, String)>, Failure> {
        let time = |when: &Option<When>| when.as_ref().map(|when| when.rfc3339(now)).transpose();
        let pairs = [
            ("actor", self.actor.clone()),
            ("credential", self.credential.clone()),
            ("line", self.line.then(|| "true".to_owned())),
            ("workspace", self.workspace.clone()),
            ("name", self.name.clone()),
            ("subject", self.subject.clone()),
            ("since", time(&self.since)?),
            ("until", time(&self.until)?),
            ("from_position", self.from_position.map(|position| position.to_string())),
            ("to_position", self.to_position.map(|position| position.to_string())),
            ("limit", Some(if self.all { PAGE_MAX } else { self.limit }.to_string())),
        ];
        Ok(pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
    }
}

/// The pages of one question, newest first.
struct Pages<'a> {
    client: &'a Client,
    query: Vec<(&'static str, String)>,
    cursor: Option<String>,
    over: bool,
}

impl<'a> Pages<'a> {
    const fn new(client: &'a Client, query: Vec<(&'static str, String)>) -> Self {
        Self { client, query, cursor: None, over: false }
    }

    const fn is_over(&self) -> bool {
        self.over
    }

    async fn next(&mut self) -> Result<Option<Page>, Failure> {
        if self.over {
            return Ok(None);
        }
        let mut query = self.query.clone();
        query.extend(self.cursor.take().map(|cursor| ("cursor", cursor)));
        let call = Call::get("/v1/audit").query(query).token(self.client.token()?);
        let page: Page = self.client.server.send(call).await?.json()?;
        self.cursor.clone_from(&page.next_cursor);
        self.over = self.cursor.is_none();
        Ok(Some(page))
    }

    fn event(&self, raw: &RawValue) -> Result<Event, Failure> {
        Event::read(raw).map_err(|error| Failure::Foreign {
            server: self.client.server.url().to_string(),
            what: format!("unexpected event, line {} column {}", error.line(), error.column()),
        })
    }
}
