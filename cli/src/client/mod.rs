//! The client side of `tally`: it logs in, keeps a personal access token in a profile, and speaks to a server.
//!
//! What the machine around says (environment, clock, host name) is read in `machine.rs` and nowhere else; what a
//! setting resolves to is decided in `settings.rs`. Secrets travel as [`Plaintext`], which cannot be formatted.

mod audit;
mod auth;
mod effect;
mod failure;
mod http;
mod invitation;
mod login;
mod machine;
mod output;
mod profile;
mod prompt;
mod session;
mod settings;
#[cfg(test)]
mod tests;
mod token;
mod workspace;

use clap::{Args, Subcommand};
use tally_domain::credential::Plaintext;

pub use audit::AuditArgs;
pub use auth::AuthCommand;
pub use failure::{ExitCode, Failure};
pub use invitation::InvitationCommand;
pub use login::LoginArgs;
pub use session::SessionCommand;
pub use token::TokenCommand;
pub use workspace::WorkspaceCommand;

use http::Server;
use machine::Environment;
use profile::{Profile, ProfileName};
use settings::{ServerUrl, Settings};

/// The options every client command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The profile to use: its server, token and workspace
    #[arg(long, global = true, value_name = "NAME", default_value = "default")]
    profile: ProfileName,

    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    json: bool,

    /// The server's URL [env: TALLY_SERVER_URL, MULTICA_SERVER_URL] [default: the profile's, else
    /// http://127.0.0.1:8080]
    #[arg(long, global = true, value_name = "URL")]
    server: Option<ServerUrl>,
}

impl Global {
    /// Whether the result is wanted as one JSON document.
    pub const fn json(&self) -> bool {
        self.json
    }
}

/// The commands that speak to a server.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    Login(LoginArgs),
    #[command(subcommand)]
    Auth(AuthCommand),
    #[command(subcommand)]
    Session(SessionCommand),
    #[command(subcommand)]
    Token(TokenCommand),
    #[command(subcommand)]
    Workspace(WorkspaceCommand),
    #[command(subcommand)]
    Invitation(InvitationCommand),
    Audit(AuditArgs),
}

/// Runs one command. Its result is on standard output; prompts and notes are on standard error.
///
/// # Errors
/// Whatever kept it from being done. Nothing of it is printed yet: that is [`Failure::print`].
pub async fn run(command: Command, global: Global) -> Result<(), Failure> {
    let client = Client::open(&global, &Environment::read())?;
    let outcome = match command {
        Command::Login(args) => login::run(client, args).await,
        Command::Auth(command) => auth::run(client, command).await,
        Command::Session(command) => session::run(&client, command).await,
        Command::Token(command) => token::run(&client, command).await,
        Command::Workspace(command) => workspace::run(client, command).await,
        Command::Invitation(command) => invitation::run(&client, command).await,
        Command::Audit(args) => audit::run(&client, args).await,
    };
    match outcome {
        // Whoever read the output has read enough, as in `tally audit --all | head`.
        Err(Failure::OutputClosed) => Ok(()),
        outcome => outcome,
    }
}

/// What a command works with.
struct Client {
    profile: Profile,
    settings: Settings,
    server: Server,
    json: bool,
}

impl Client {
    fn open(global: &Global, environment: &Environment) -> Result<Self, Failure> {
        let profile = Profile::load(&environment.config_directory()?, &global.profile)?;
        profile.warn_if_open();
        let settings = Settings::resolve(global.server.as_ref(), environment, &profile)?;
        let server = Server::new(settings.server.value.clone())?;
        Ok(Self { profile, settings, server, json: global.json })
    }

    /// The token to use with this server.
    fn token(&self) -> Result<&Plaintext, Failure> {
        self.settings.token_for_server().map(|token| &token.value)
    }
}
