//! `tally auth`: who the client is to the server, and the end of it.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tally_domain::credential::{CredentialKind, Plaintext};

use super::Client;
use super::failure::Failure;
use super::http::Call;
use super::login::User;
use super::settings::Key;
use super::token::Revocation;
use super::{machine, output};

/// Show or end this machine's login
#[derive(Clone, Debug, Subcommand)]
pub enum AuthCommand {
    /// Show the server, the user and the token; exit with 0 only if the token is valid
    #[command(after_help = "\
Examples:
  tally auth status
  tally auth status --json
  tally auth status >/dev/null || tally login")]
    Status,
    Logout(LogoutArgs),
}

/// Remove the token from the profile
///
/// Whoever else holds a copy of the token can go on using it, unless --revoke ends it.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  tally auth logout --revoke
  tally auth logout --profile staging")]
pub struct LogoutArgs {
    /// End the token on the server first, for everybody who holds it
    #[arg(long)]
    revoke: bool,
}

pub(super) async fn run(client: Client, command: AuthCommand) -> Result<(), Failure> {
    match command {
        AuthCommand::Status => status(&client).await,
        AuthCommand::Logout(args) => logout(client, &args).await,
    }
}

/// What `/v1/me` says of a credential.
#[derive(Debug, Deserialize)]
pub(super) struct Identity {
    kind: String,
    credential_id: Option<String>,
    user: Option<User>,
    role: Option<String>,
    scopes: Option<Vec<String>>,
    expires_at: Option<DateTime<Utc>>,
}

/// The document of `auth status --json`.
#[derive(Serialize)]
struct Status<'a> {
    valid: bool,
    profile: String,
    server_url: String,
    server_from: String,
    app_url: Option<&'a str>,
    workspace_id: Option<&'a str>,
    token_prefix: Option<String>,
    token_from: Option<String>,
    kind: Option<&'a str>,
    credential_id: Option<&'a str>,
    user: Option<&'a User>,
    role: Option<&'a str>,
    scopes: Option<&'a [String]>,
    expires_at: Option<DateTime<Utc>>,
}

async fn status(client: &Client) -> Result<(), Failure> {
    let identity = match client.token() {
        Ok(token) => identity(client, token).await,
        Err(failure) => Err(failure),
    };
    if client.json {
        print_json(client, identity.as_ref().ok())?;
    } else {
        print_text(client, identity.as_ref().ok())?;
    }
    identity.map(|_| ())
}

fn print_json(client: &Client, identity: Option<&Identity>) -> Result<(), Failure> {
    let settings = &client.settings;
    output::json(&Status {
        valid: identity.is_some(),
        profile: client.profile.name().to_string(),
        server_url: settings.server.value.to_string(),
        server_from: settings.server.source.to_string(),
        app_url: settings.app_url.as_deref(),
        workspace_id: settings.workspace_id.as_deref(),
        token_prefix: settings.token.as_ref().map(|token| token.value.display_prefix()),
        token_from: settings.token.as_ref().map(|token| token.source.to_string()),
        kind: identity.map(|identity| identity.kind.as_str()),
        credential_id: identity.and_then(|identity| identity.credential_id.as_deref()),
        user: identity.and_then(|identity| identity.user.as_ref()),
        role: identity.and_then(|identity| identity.role.as_deref()),
        scopes: identity.and_then(|identity| identity.scopes.as_deref()),
        expires_at: identity.and_then(|identity| identity.expires_at),
    })
}

fn print_text(client: &Client, identity: Option<&Identity>) -> Result<(), Failure> {
    let settings = &client.settings;
    output::line(format_args!("Server:  {} ({})", settings.server.value, settings.server.source))?;
    if let Some(identity) = identity {
        match &identity.user {
            Some(user) => output::line(format_args!(
                "User:    {} ({})",
                output::clean(&user.name),
                output::clean(&user.email)
            ))?,
            None => output::line(format_args!("User:    none ({})", output::clean(&identity.kind)))?,
        }
    }
    if let Some(token) = &settings.token {
        output::line(format_args!(
            "Token:   {}… ({})",
            output::clean(&token.value.display_prefix()),
            token.source
        ))?;
    }
    if let Some(expires_at) = identity.and_then(|identity| identity.expires_at) {
        let left = output::span(expires_at - machine::now());
        output::line(format_args!("Expires: {} (in {left})", output::day(expires_at)))?;
    }
    Ok(())
}

async fn identity(client: &Client, token: &Plaintext) -> Result<Identity, Failure> {
    client.server.send(Call::get("/v1/me").token(token)).await?.json()
}

async fn logout(mut client: Client, args: &LogoutArgs) -> Result<(), Failure> {
    let saved = client.profile.get(Key::Token).map(Plaintext::new);
    let revoked = match &saved {
        Some(token) if args.revoke => revoke(&client, token).await?,
        _ => None,
    };
    if saved.is_some() {
        client.profile.update(&[(Key::Token, None)])?;
    }
    if client.json {
        output::json(&json!({
            "profile": client.profile.name().to_string(),
            "had_token": saved.is_some(),
            "revoked": revoked,
        }))?;
    } else {
        if let Some(revoked) = &revoked {
            output::line(revoked)?;
        }
        output::line(match saved {
            Some(_) => format!("Logged out: profile {} holds no token any more.", client.profile.name()),
            None => format!("Profile {} held no token.", client.profile.name()),
        })?;
    }
    client.warn_if_overridden();
    Ok(())
}

/// Ends the profile's token on the server. None: it was not valid any more.
pub(super) async fn revoke(client: &Client, token: &Plaintext) -> Result<Option<Revocation>, Failure> {
    client.settings.check_saved_token()?;
    if !CredentialKind::PersonalAccessToken.prefix().is_some_and(|prefix| token.expose().starts_with(prefix))
    {
        return Err(Failure::Input(
            "only a personal access token can be revoked here; without --revoke it is just removed"
                .to_owned(),
        ));
    }
    let identity = match identity(client, token).await {
        Err(failure) if failure.status() == Some(401) => {
            output::note("The server did not accept the token any more; there is nothing to revoke.");
            return Ok(None);
        }
        answer => answer?,
    };
    let id = identity.credential_id.ok_or_else(|| Failure::Foreign {
        server: client.server.url().to_string(),
        what: "GET /v1/me names no credential_id".to_owned(),
    })?;
    Revocation::of(client, token, &id, false).await.map(Some)
}
