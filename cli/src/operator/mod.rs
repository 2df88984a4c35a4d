//! Commands for the operator, with the database at hand: no server need run.

mod failure;
mod progress;
mod projections;
mod replicas;
mod session;
mod usage;
mod user;
mod verifier;

use clap::Subcommand;

use crate::config::{self, Config, Environment};

pub use failure::Failure;

#[derive(Subcommand)]
pub enum Command {
    /// Rebuild, verify and look at projections
    #[command(subcommand)]
    Projections(projections::Command),
    /// Show the replicas that answer from memory, and how far each is
    ///
    /// A revocation waits for all of them: for one that is silent, until its lease must be over.
    Replicas,
    /// Show when a credential was used, and from where, hour by hour
    ///
    /// Also of one that has been revoked. A use is there as soon as the replica has written it down: after
    /// TALLY_USAGE_INTERVAL_MS.
    Usage(usage::Args),
    /// Suspend and reinstate people
    #[command(subcommand)]
    User(user::Command),
    /// What services need that verify tokens in their own process
    #[command(subcommand)]
    Verifier(verifier::Command),
    /// Check the settings, or print their reference
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Say what is wrong with the environment, without starting anything
    Check,
    /// Print every setting as a Markdown page
    Reference,
}

/// Runs one command.
///
/// # Errors
/// Whatever kept it from being done.
pub async fn run(command: Command, json: bool) -> Result<(), Failure> {
    match command {
        Command::Projections(command) => projections::run(command, json).await,
        Command::Replicas => replicas::run(json).await,
        Command::Usage(args) => usage::run(&args, json).await,
        Command::User(command) => user::run(command, json).await,
        Command::Verifier(command) => verifier::run(command, json).await,
        Command::Config(ConfigCommand::Reference) => {
            print!("{}", config::reference::page());
            Ok(())
        }
        Command::Config(ConfigCommand::Check) => {
            let config = Config::load(&Environment::of_process()).map_err(Failure::Config)?;
            for error in &config.errors {
                eprintln!("error: {error}");
            }
            for warning in &config.warnings {
                eprintln!("warning: {warning}");
            }
            println!(
                "The settings are good: {} mode.",
                if config.production { "production" } else { "development" }
            );
            Ok(())
        }
    }
}
