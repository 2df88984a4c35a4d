//! `tally`: the server and every other command.

mod client;
mod config;
mod database;
mod embedded;
mod logging;
mod operator;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What one thread allocates, another frees: requests wander between workers, and the system's
/// allocator has them wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Tallystick: revoked means revoked, and history can be proven.
#[derive(Parser)]
#[command(name = "tally", version, propagate_version = true, max_term_width = 100)]
struct Tally {
    #[command(flatten)]
    global: client::Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server
    Serve,
    /// Bring the database to this release, and nothing else
    Migrate,
    /// Print the OpenAPI document of the server's routes
    Openapi,
    #[command(flatten)]
    Operator(operator::Command),
    #[command(flatten)]
    Client(client::Command),
}

fn main() -> ExitCode {
    let tally = match Tally::try_parse() {
        Ok(tally) => tally,
        Err(error) => {
            // What clap prints of itself is all there is to say.
            drop(error.print());
            return client::ExitCode::from(&error).into();
        }
    };
    // First of all, so that every TLS connection of this process uses it.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("error: the TLS provider could not be installed");
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime could not be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(run(tally))
}

async fn run(tally: Tally) -> ExitCode {
    match tally.command {
        Command::Client(command) => match client::run(command, tally.global).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                failure.print();
                failure.exit_code().into()
            }
        },
        Command::Serve => report(serve::serve().await),
        Command::Migrate => report(serve::migrate().await),
        Command::Openapi => {
            print!("{}", tally_api::openapi_page());
            ExitCode::SUCCESS
        }
        Command::Operator(command) => report(operator::run(command, tally.global.json()).await),
    }
}

/// Prints an operator's failure with everything below it, and gives its exit code.
fn report(outcome: Result<(), operator::Failure>) -> ExitCode {
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    eprintln!("error: {failure}");
    let mut source = std::error::Error::source(&failure);
    while let Some(error) = source {
        eprintln!("  because: {error}");
        source = error.source();
    }
    failure.exit_code().into()
}
