//! `tally workspace`: the workspaces one is in, and who else is.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Client;
use super::failure::Failure;
use super::http::Call;
use super::output::{self, Head};
use super::settings::Key;

/// See, make and change workspaces
#[derive(Clone, Debug, Subcommand)]
pub enum WorkspaceCommand {
    /// List the workspaces you are in; the current one has a star
    #[command(after_help = "\
Examples:
  tally workspace list
  tally workspace list --json | jq -r '.[].slug'")]
    List,
    Create(CreateArgs),
    Switch(SwitchArgs),
    /// List who is in a workspace, and as what
    Members(Named),
    Invite(InviteArgs),
    /// Leave a workspace; its last owner cannot
    Leave(Named),
}

/// Open a workspace, which you then own, and make it the current one
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  tally workspace create 'Analytical Engine'
  tally workspace create 'Analytical Engine' --slug engine")]
pub struct CreateArgs {
    /// What you call it
    name: String,

    /// Its name in URLs, which never changes [default: made from the name]
    #[arg(long)]
    slug: Option<String>,
}

/// Make a workspace the current one of this profile
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  tally workspace switch engine")]
pub struct SwitchArgs {
    /// Its slug or id
    workspace: String,
}

/// Which workspace is meant.
#[derive(Clone, Debug, Args)]
pub struct Named {
    /// The workspace's slug or id [default: TALLY_WORKSPACE_ID, MULTICA_WORKSPACE_ID, the current one]
    #[arg(long)]
    workspace: Option<String>,
}

/// Invite somebody by their e-mail address
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  tally workspace invite bob@example.org
  tally workspace invite bob@example.org --role admin --workspace engine")]
pub struct InviteArgs {
    /// The address
    email: String,

    /// What they may do there
    #[arg(long, value_enum, default_value_t = InvitedRole::Member)]
    role: InvitedRole,

    #[command(flatten)]
    named: Named,
}

/// The roles one can be invited to; owners are made of members.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum InvitedRole {
    Admin,
    Member,
}

impl InvitedRole {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Member => "member",
        }
    }
}

pub(super) async fn run(mut client: Client, command: WorkspaceCommand) -> Result<(), Failure> {
    match command {
        WorkspaceCommand::List => list(&client).await,
        WorkspaceCommand::Create(args) => create(&mut client, args).await,
        WorkspaceCommand::Switch(args) => switch(&mut client, &args).await,
        WorkspaceCommand::Members(named) => members(&client, &named).await,
        WorkspaceCommand::Invite(args) => invite(&client, &args).await,
        WorkspaceCommand::Leave(named) => leave(&mut client, &named).await,
    }
}

/// A workspace as the server lists it.
#[derive(Debug, Deserialize)]
struct Workspace {
    id: Uuid,
    name: String,
    slug: String,
    created_at: DateTime<Utc>,
}

async fn workspaces(client: &Client) -> Result<Vec<Workspace>, Failure> {
    client.server.send(Call::get("/api/workspaces").token(client.token()?)).await?.json()
}

/// The one that is named by its slug or its id, or that is current.
async fn find(client: &Client, named: Option<&str>) -> Result<Workspace, Failure> {
    let wanted = named.or(client.settings.workspace_id.as_deref());
    let mut workspaces = workspaces(client).await?;
    let Some(wanted) = wanted else {
        return match workspaces.len() {
            1 => Ok(workspaces.remove(0)),
            0 => Err(Failure::Input(
                "you are in no workspace; open one with `tally workspace create NAME`".to_owned(),
            )),
            _ => Err(Failure::Input(
                "you are in several workspaces; choose one with `tally workspace switch SLUG` or --workspace"
                    .to_owned(),
            )),
        };
    };
    let id = Uuid::parse_str(wanted).ok();
    let found = workspaces.into_iter().find(|workspace| workspace.slug == wanted || Some(workspace.id) == id);
    found.ok_or_else(|| {
        // It is not repeated: what is no slug may be a token, pasted by mistake.
        Failure::Absent(
            "you are in no such workspace; `tally workspace list` shows those you are in".to_owned(),
        )
    })
}

async fn list(client: &Client) -> Result<(), Failure> {
    let answer = client.server.send(Call::get("/api/workspaces").token(client.token()?)).await?;
    if client.json {
        return output::json(&answer.json::<Value>()?);
    }
    let workspaces: Vec<Workspace> = answer.json()?;
    if workspaces.is_empty() {
        output::note("You are in no workspace. Open one with `tally workspace create NAME`.");
        return Ok(());
    }
    let current = client.settings.workspace_id.as_deref().and_then(|id| Uuid::parse_str(id).ok());
    let heads = ["", "SLUG", "NAME", "CREATED", "ID"].map(|head| Head(head, None));
    let rows = workspaces.into_iter().map(|workspace| {
        let star = if Some(workspace.id) == current { "*" } else { "" };
        let (created, id) = (output::day(workspace.created_at), workspace.id.to_string());
        vec![star.to_owned(), workspace.slug, workspace.name, created, id]
    });
    for line in output::table(&heads, output::GAP, rows) {
        output::line(line)?;
    }
    Ok(())
}

async fn create(client: &mut Client, args: CreateArgs) -> Result<(), Failure> {
    let name = args.name.trim();
    let slug = args.slug.unwrap_or_else(|| slug_of(name));
    if slug.is_empty() {
        return Err(Failure::Input("no slug can be made from this name: give one with --slug".to_owned()));
    }
    let body = json!({ "name": name, "slug": slug });
    let answer = client.server.send(Call::post("/api/workspaces").token(client.token()?).json(body)).await?;
    let workspace: Workspace = answer.json()?;
    client.profile.update(&[(Key::WorkspaceId, Some(&workspace.id.to_string()))])?;
    if client.json {
        return output::json(&answer.json::<Value>()?);
    }
    let Workspace { id, name, slug, .. } = workspace;
    output::line(format!(
        "Created `{}` ({id}), slug `{slug}`. It is the current workspace.",
        output::clean(&name)
    ))
}

/// Lower-case letters and digits of a name, what is between them as single hyphens.
pub(super) fn slug_of(name: &str) -> String {
    let letters = name.to_lowercase();
    let parts = letters.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-")
}

async fn switch(client: &mut Client, args: &SwitchArgs) -> Result<(), Failure> {
    let workspace = find(client, Some(&args.workspace)).await?;
    client.profile.update(&[(Key::WorkspaceId, Some(&workspace.id.to_string()))])?;
    output::line(format!("The current workspace is `{}` ({}).", output::clean(&workspace.name), workspace.id))
}

/// A member as the server lists them.
#[derive(Debug, Deserialize)]
struct Member {
    name: String,
    email: String,
    role: String,
    created_at: DateTime<Utc>,
}

async fn members(client: &Client, named: &Named) -> Result<(), Failure> {
    let workspace = find(client, named.workspace.as_deref()).await?;
    let call = Call::get(format!("/api/workspaces/{}/members", workspace.id)).token(client.token()?);
    let answer = client.server.send(call).await?;
    if client.json {
        return output::json(&answer.json::<Value>()?);
    }
    let members: Vec<Member> = answer.json()?;
    let heads = ["EMAIL", "NAME", "ROLE", "JOINED"].map(|head| Head(head, None));
    let rows = members
        .into_iter()
        .map(|member| vec![member.email, member.name, member.role, output::day(member.created_at)]);
    for line in output::table(&heads, output::GAP, rows) {
        output::line(line)?;
    }
    Ok(())
}

async fn invite(client: &Client, args: &InviteArgs) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Invited {
        invitee_email: String,
        role: String,
        expires_at: DateTime<Utc>,
    }
    let workspace = find(client, args.named.workspace.as_deref()).await?;
    let body = json!({ "email": args.email, "role": args.role.as_str() });
    let call = Call::post(format!("/api/workspaces/{}/members", workspace.id)).token(client.token()?);
    let answer = client.server.send(call.json(body)).await?;
    if client.json {
        return output::json(&answer.json::<Value>()?);
    }
    let Invited { invitee_email, role, expires_at } = answer.json()?;
    let (email, name) = (output::clean(&invitee_email), output::clean(&workspace.name));
    output::line(format!(
        "Invited {email} to `{name}` as {}, until {}.",
        output::clean(&role),
        output::day(expires_at)
    ))
}

async fn leave(client: &mut Client, named: &Named) -> Result<(), Failure> {
    let workspace = find(client, named.workspace.as_deref()).await?;
    let call = Call::post(format!("/api/workspaces/{}/leave", workspace.id)).token(client.token()?);
    client.server.send(call).await?;
    let left = workspace.id.to_string();
    if client.profile.get(Key::WorkspaceId) == Some(&left) {
        client.profile.update(&[(Key::WorkspaceId, None)])?;
    }
    output::line(format!("You have left `{}` ({left}).", output::clean(&workspace.name)))
}
