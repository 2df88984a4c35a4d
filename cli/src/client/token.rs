//! `tally token`: mint, list and revoke personal access tokens.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tally_domain::credential::Plaintext;
use tally_domain::token::LIFETIME_DAYS_MAX;
use uuid::Uuid;

use super::effect::Effect;
use super::failure::Failure;
use super::http::Call;
use super::output::Head;
use super::{Client, login, machine, output};

/// Mint, list and revoke personal access tokens
#[derive(Clone, Debug, Subcommand)]
pub enum TokenCommand {
    Create(CreateArgs),
    /// List your tokens, newest first; revoked ones are not shown, expired ones are
    #[command(after_help = "\
Examples:
  tally token list
  tally token list --json | jq -r '.[] | select(.last_used_at == null) | .id'")]
    List,
    Revoke(RevokeArgs),
}

/// Mint a token and print it, once
///
/// The token alone goes to standard output, and all else to standard error. It is shown only now: the server keeps just
/// its hash. A token never outlives the one it was minted with.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  tally token create ci --expires-in-days 30
  tally token create deploy | gh secret set TALLY_TOKEN")]
pub struct CreateArgs {
    /// What you call it
    name: String,

    /// Days until it expires, 1 to 3650; without it, the token does not expire by itself
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=LIFETIME_DAYS_MAX))]
    expires_in_days: Option<i64>,
}

/// Revoke a token, on every replica at once
///
/// An id that is unknown, or not yours, is left alone, and the answer does not tell the difference.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  tally token revoke 01990b7e-7a51-7cc2-9f0e-5a1d2c3b4e5f
  tally token revoke 01990b7e-7a51-7cc2-9f0e-5a1d2c3b4e5f --line")]
pub struct RevokeArgs {
    /// Its id, as `tally token list` shows it
    #[arg(value_name = "ID", value_parser = login::secret)]
    id: Plaintext,

    /// Revoke the whole line below it too: what was minted with it, with that, and so on
    #[arg(long)]
    line: bool,
}

pub(super) async fn run(client: &Client, command: TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Create(args) => create(client, args).await,
        TokenCommand::List => list(client).await,
        TokenCommand::Revoke(args) => revoke(client, &args).await,
    }
}

/// A token as the server lists it.
#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    id: String,
    name: String,
    token_prefix: String,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
struct Minted {
    #[serde(flatten)]
    listed: Listed,
    #[serde(deserialize_with = "login::plaintext")]
    token: Plaintext,
}

async fn create(client: &Client, args: CreateArgs) -> Result<(), Failure> {
    let name = args.name.trim();
    if name.is_empty() {
        return Err(Failure::Input("name is required".to_owned()));
    }
    let mut body = json!({ "name": name });
    if let Some(days) = args.expires_in_days {
        body["expires_in_days"] = days.into();
    }
    let answer = client.server.send(Call::post("/api/tokens").token(client.token()?).json(body)).await?;
    if client.json {
        return output::json(&answer.json::<Value>()?);
    }
    let Minted { listed, token } = answer.json()?;
    output::line(token.expose())?;
    let expiry = listed
        .expires_at
        .map_or_else(|| "never expires".to_owned(), |at| format!("expires {}", output::day(at)));
    output::note(&format!(
        "Created `{}` ({}), which {expiry}. It is shown only this once.",
        listed.name, listed.id
    ));
    let asked = args.expires_in_days.map(|days| machine::now() + TimeDelta::days(days));
    if let Some(expires_at) =
        listed.expires_at.filter(|at| asked.is_none_or(|asked| asked - *at > TimeDelta::hours(1)))
    {
        output::note(&format!(
            "It expires on {} because the token it was minted with does.",
            output::day(expires_at)
        ));
    }
    Ok(())
}

async fn list(client: &Client) -> Result<(), Failure> {
    let answer = client.server.send(Call::get("/api/tokens").token(client.token()?)).await?;
    if client.json {
        return output::json(&answer.json::<Value>()?);
    }
    let tokens: Vec<Listed> = answer.json()?;
    if tokens.is_empty() {
        output::note("You have no tokens. Mint one with `tally token create NAME`.");
        return Ok(());
    }
    for line in table(&tokens, machine::now(), output::terminal_width()) {
        output::line(line)?;
    }
    Ok(())
}

/// What stands beside the name, gaps included.
const BESIDE_NAME: u16 = 36 + 13 + 10 + 10 + 9 + 5 * output::GAP;
const NAME_CHARACTERS_MIN: u16 = 12;

/// Ids must stay whole, so it is the name that gives way to a narrow terminal.
pub(super) fn table(tokens: &[Listed], now: DateTime<Utc>, width: Option<u16>) -> Vec<String> {
    let longest = tokens.iter().map(|token| token.name.chars().count()).max().unwrap_or_default();
    let name = width
        .map(|width| width.saturating_sub(BESIDE_NAME).max(NAME_CHARACTERS_MIN))
        .filter(|room| usize::from(*room) < longest);
    let heads = [
        Head("ID", None),
        Head("NAME", name),
        Head("PREFIX", None),
        Head("CREATED", None),
        Head("EXPIRES", None),
        Head("LAST USED", None),
    ];
    let rows = tokens.iter().map(|token| {
        vec![
            token.id.clone(),
            token.name.clone(),
            format!("{}…", token.token_prefix),
            output::day(token.created_at),
            match token.expires_at {
                None => "never".to_owned(),
                Some(at) if at <= now => "expired".to_owned(),
                Some(at) => output::day(at),
            },
            token
                .last_used_at
                // Not "never": a use may not have been written down yet.
                .map_or_else(|| "-".to_owned(), |at| format!("{} ago", output::span(now - at))),
        ]
    });
    output::table(&heads, output::GAP, rows)
}

async fn revoke(client: &Client, args: &RevokeArgs) -> Result<(), Failure> {
    // What is no id may be a token, pasted by mistake: it is not repeated.
    let id = Uuid::parse_str(args.id.expose().trim()).map_err(|_| {
        Failure::Input(
            "invalid token id: give the ID that `tally token list` shows, not the token".to_owned(),
        )
    })?;
    let token = client.token()?;
    let known = is_listed(client, token, id).await;
    let revocation = Revocation::of(client, token, &id.to_string(), args.line).await?;
    if client.json {
        output::json(&revocation)?;
    } else {
        output::line(&revocation)?;
    }
    if known == Some(false) {
        output::warn(
            "your list of tokens did not show this id: it is unknown, revoked before, or somebody else's",
        );
    }
    Ok(())
}

/// Whether the owner's list shows the token. None: it cannot be told, which is no reason not to revoke.
async fn is_listed(client: &Client, token: &Plaintext, id: Uuid) -> Option<bool> {
    let answer = client.server.send(Call::get("/api/tokens").token(token)).await.ok()?;
    let tokens: Vec<Listed> = answer.json().ok()?;
    Some(tokens.iter().any(|listed| Uuid::parse_str(&listed.id) == Ok(id)))
}

/// A revocation that the server acknowledged.
#[derive(Debug, Serialize)]
pub(super) struct Revocation {
    id: String,
    line: bool,
    #[serde(flatten)]
    effect: Effect,
}

impl Revocation {
    pub(super) async fn of(
        client: &Client,
        token: &Plaintext,
        id: &str,
        line: bool,
    ) -> Result<Self, Failure> {
        let query = if line { vec![("line", "true".to_owned())] } else { Vec::new() };
        let call = Call::delete(format!("/api/tokens/{id}")).query(query).token(token);
        let answer = client.server.send(call).await?;
        Ok(Self { id: id.to_owned(), line, effect: answer.effect })
    }
}

impl fmt::Display for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = if self.line { " with its whole line" } else { "" };
        write!(f, "Revoked {}{line}{}", output::clean(&self.id), self.effect)
    }
}
