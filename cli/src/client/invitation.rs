//! `tally invitation`: what one was invited to.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::Value;
use tally_domain::credential::Plaintext;
use uuid::Uuid;

use super::failure::Failure;
use super::http::Call;
use super::output::{self, Head};
use super::{Client, login};

/// See and answer invitations into workspaces
#[derive(Clone, Debug, Subcommand)]
pub enum InvitationCommand {
    /// List the invitations for your address that can be answered
    #[command(after_help = "\
Examples:
  tally invitation list")]
    List,
    /// Accept an invitation: you are in the workspace then
    Accept(AnswerArgs),
    /// Decline an invitation
    Decline(AnswerArgs),
}

/// Which invitation is answered.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  tally invitation list
  tally invitation accept
  tally invitation decline 01990b7e-7a51-7cc2-9f0e-5a1d2c3b4e5f")]
pub struct AnswerArgs {
    /// Its id, as `tally invitation list` shows it [default: the one there is]
    #[arg(value_name = "ID", value_parser = login::secret)]
    id: Option<Plaintext>,
}

pub(super) async fn run(client: &Client, command: InvitationCommand) -> Result<(), Failure> {
    match command {
        InvitationCommand::List => list(client).await,
        InvitationCommand::Accept(args) => accept(client, &args).await,
        InvitationCommand::Decline(args) => decline(client, &args).await,
    }
}

/// An invitation as the server lists it.
#[derive(Debug, Deserialize)]
struct Invitation {
    id: Uuid,
    workspace_name: Option<String>,
    inviter_email: Option<String>,
    role: String,
    expires_at: DateTime<Utc>,
}

impl Invitation {
    fn workspace(&self) -> String {
        output::clean(self.workspace_name.as_deref().unwrap_or("a workspace"))
    }
}

async fn list(client: &Client) -> Result<(), Failure> {
    let answer = client.server.send(Call::get("/api/invitations").token(client.token()?)).await?;
    if client.json {
        return output::json(&answer.json::<Value>()?);
    }
    let invitations: Vec<Invitation> = answer.json()?;
    if invitations.is_empty() {
        output::note("You have no invitations.");
        return Ok(());
    }
    let heads = ["ID", "WORKSPACE", "ROLE", "FROM", "EXPIRES"].map(|head| Head(head, None));
    let rows = invitations.into_iter().map(|invitation| {
        let workspace = invitation.workspace();
        let from = invitation.inviter_email.unwrap_or_default();
        let expires = output::day(invitation.expires_at);
        vec![invitation.id.to_string(), workspace, invitation.role, from, expires]
    });
    for line in output::table(&heads, output::GAP, rows) {
        output::line(line)?;
    }
    Ok(())
}

/// The one that is named, or the only one there is.
async fn find(client: &Client, args: &AnswerArgs) -> Result<Invitation, Failure> {
    if let Some(id) = &args.id {
        // What is no id may be a token, pasted by mistake: it is not repeated.
        let id = Uuid::parse_str(id.expose().trim()).map_err(|_| {
            Failure::Input("invalid invitation id: give the ID that `tally invitation list` shows".to_owned())
        })?;
        let call = Call::get(format!("/api/invitations/{id}")).token(client.token()?);
        return client.server.send(call).await?.json();
    }
    let answer = client.server.send(Call::get("/api/invitations").token(client.token()?)).await?;
    let mut invitations: Vec<Invitation> = answer.json()?;
    match invitations.len() {
        1 => Ok(invitations.remove(0)),
        0 => Err(Failure::Absent("you have no invitation".to_owned())),
        _ => Err(Failure::Input(
            "you have several invitations; give the ID of one: `tally invitation list`".to_owned(),
        )),
    }
}

async fn accept(client: &Client, args: &AnswerArgs) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Member {
        role: String,
    }
    let invitation = find(client, args).await?;
    let call = Call::post(format!("/api/invitations/{}/accept", invitation.id)).token(client.token()?);
    let answer = client.server.send(call).await?;
    if client.json {
        return output::json(&answer.json::<Value>()?);
    }
    let Member { role } = answer.json()?;
    output::line(format!("You are in `{}` now, as {}.", invitation.workspace(), output::clean(&role)))
}

async fn decline(client: &Client, args: &AnswerArgs) -> Result<(), Failure> {
    let invitation = find(client, args).await?;
    let call = Call::post(format!("/api/invitations/{}/decline", invitation.id)).token(client.token()?);
    client.server.send(call).await?;
    output::line(format!("You have declined the invitation to `{}`.", invitation.workspace()))
}
