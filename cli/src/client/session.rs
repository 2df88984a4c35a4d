//! `tally session`: where one is logged in, and ending it there.

use std::fmt;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tally_domain::credential::Plaintext;
use uuid::Uuid;

use super::effect::Effect;
use super::failure::Failure;
use super::http::{Answer, Call};
use super::output::Head;
use super::{Client, login, machine, output};

/// List and end sessions: where you are logged in
#[derive(Clone, Debug, Subcommand)]
pub enum SessionCommand {
    /// List your live sessions, newest first
    #[command(after_help = "\
Examples:
  tally session list
  tally session list --json | jq -r '.sessions[] | select(.kind == \"command_line\") | .id'")]
    List,
    End(EndArgs),
}

/// End a session, on every replica at once, together with those it started
///
/// Personal access tokens minted in it stay, unless you say `--line`. An id that is unknown, or not yours,
/// is left alone, and the answer does not tell the difference.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  tally session end 01990b7e-7a51-7cc2-9f0e-5a1d2c3b4e5f
  tally session end 01990b7e-7a51-7cc2-9f0e-5a1d2c3b4e5f --line
  tally session end --others")]
pub struct EndArgs {
    /// Its id, as `tally session list` shows it
    #[arg(value_name = "ID", value_parser = login::secret, required_unless_present = "others", conflicts_with = "others")]
    id: Option<Plaintext>,

    /// Revoke what was minted in it too, and what was minted with that, and so on
    #[arg(long, conflicts_with = "others")]
    line: bool,

    /// End all sessions but the one in use; with a personal access token in use, which is no session, all of them
    #[arg(long)]
    others: bool,
}

pub(super) async fn run(client: &Client, command: SessionCommand) -> Result<(), Failure> {
    match command {
        SessionCommand::List => list(client).await,
        SessionCommand::End(EndArgs { id: Some(id), line, .. }) => end(client, &id, line).await,
        SessionCommand::End(EndArgs { id: None, .. }) => end_others(client).await,
    }
}

#[derive(Deserialize)]
struct List {
    sessions: Vec<Listed>,
}

/// A session as the server lists it.
#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    id: String,
    kind: String,
    address: Option<String>,
    user_agent: Option<String>,
    started_at: DateTime<Utc>,
    last_seen_at: Option<DateTime<Utc>>,
    expires_at: DateTime<Utc>,
    current: bool,
}

async fn sessions(client: &Client, token: &Plaintext) -> Result<Answer, Failure> {
    client.server.send(Call::get("/v1/sessions").token(token)).await
}

async fn list(client: &Client) -> Result<(), Failure> {
    let answer = sessions(client, client.token()?).await?;
    if client.json {
        return output::json(&answer.json::<Value>()?);
    }
    let List { sessions } = answer.json()?;
    if sessions.is_empty() {
        output::note("You have no live sessions.");
        return Ok(());
    }
    for line in table(&sessions, machine::now(), output::terminal_width()) {
        output::line(line)?;
    }
    Ok(())
}

const DEVICE_CHARACTERS_MIN: u16 = 12;

/// Ids must stay whole, so it is what the device calls itself that gives way to a narrow terminal.
pub(super) fn table(sessions: &[Listed], now: DateTime<Utc>, width: Option<u16>) -> Vec<String> {
    let rows: Vec<Vec<String>> = sessions.iter().map(|session| row(session, now)).collect();
    let names = ["ID", "KIND", "ADDRESS", "STARTED", "LAST SEEN", "EXPIRES", "DEVICE"];
    let longest = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        u16::try_from(cells.chain([names[column].len()]).max().unwrap_or_default()).unwrap_or(u16::MAX)
    };
    let device = names.len() - 1;
    let beside = (0..device).fold(0_u16, |sum, column| sum.saturating_add(longest(column) + output::GAP));
    let room = width
        .map(|width| width.saturating_sub(beside).max(DEVICE_CHARACTERS_MIN))
        .filter(|room| *room < longest(device));
    let heads: Vec<Head> = names
        .iter()
        .enumerate()
        .map(|(column, name)| Head(name, room.filter(|_| column == device)))
        .collect();
    output::table(&heads, output::GAP, rows)
}

fn row(session: &Listed, now: DateTime<Utc>) -> Vec<String> {
    let unknown = || "-".to_owned();
    let kind = session.kind.replace('_', " ");
    vec![
        session.id.clone(),
        if session.current { format!("{kind} (this one)") } else { kind },
        session.address.clone().unwrap_or_else(unknown),
        output::day(session.started_at),
        // Not "never": a use may not have been written down yet.
        session.last_seen_at.map_or_else(unknown, |at| format!("{} ago", output::span(now - at))),
        output::day(session.expires_at),
        session.user_agent.clone().unwrap_or_else(unknown),
    ]
}

async fn end(client: &Client, id: &Plaintext, line: bool) -> Result<(), Failure> {
    // What is no id may be a token, pasted by mistake: it is not repeated.
    let id = Uuid::parse_str(id.expose().trim()).map_err(|_| {
        Failure::Input("invalid session id: give the ID that `tally session list` shows".to_owned())
    })?;
    let token = client.token()?;
    let known = is_listed(client, token, id).await;
    let call = Call::delete(format!("/v1/sessions/{id}"));
    let call = if line { call.query(vec![("line", "true".to_owned())]) } else { call };
    let answer = client.server.send(call.token(token)).await?;
    print(client, &Ending::of(vec![id.to_string()], &answer))?;
    if known == Some(false) {
        output::warn(
            "your list of sessions did not show this id: it is unknown, ended before, or somebody else's",
        );
    }
    Ok(())
}

/// Whether the owner's list shows the session. None: it cannot be told, which is no reason not to end it.
async fn is_listed(client: &Client, token: &Plaintext, id: Uuid) -> Option<bool> {
    let List { sessions } = sessions(client, token).await.ok()?.json().ok()?;
    Some(sessions.iter().any(|listed| Uuid::parse_str(&listed.id) == Ok(id)))
}

#[derive(Deserialize)]
struct Ended {
    ended: Vec<String>,
}

async fn end_others(client: &Client) -> Result<(), Failure> {
    let answer = client.server.send(Call::post("/v1/sessions/end-others").token(client.token()?)).await?;
    let Ended { ended } = answer.json()?;
    print(client, &Ending::of(ended, &answer))
}

fn print(client: &Client, ending: &Ending) -> Result<(), Failure> {
    if client.json { output::json(ending) } else { output::line(ending) }
}

/// Sessions whose end the server acknowledged.
#[derive(Debug, Serialize)]
pub(super) struct Ending {
    ended: Vec<String>,
    #[serde(flatten)]
    effect: Effect,
}

impl Ending {
    pub(super) fn of(ended: Vec<String>, answer: &Answer) -> Self {
        Self { ended, effect: answer.effect }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ended[..] {
            [] => return f.write_str("There was no other session to end."),
            [id] => write!(f, "Ended {}", output::clean(id))?,
            many => write!(f, "Ended {} sessions", many.len())?,
        }
        write!(f, "{}", self.effect)
    }
}
