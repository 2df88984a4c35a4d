//! `tally-bench`: what the product does, each figure beside a baseline measured in the same run.
//!
//! Absolute figures drift with the machine. So the sides of a figure take turns, round by round,
//! and what counts is the median of their ratios. Nothing is counted that was not really done:
//! every figure checks afterwards.

mod appends;
mod audit;
mod bare;
mod baselines;
mod bench;
mod cpu;
mod drive;
mod embedded;
mod footprint;
mod http;
mod introspect;
mod login;
mod machine;
mod mints;
mod options;
mod over_http;
mod peers;
mod product;
mod render;
mod replay;
mod report;
mod revoke;
mod revoking;
mod roles;
mod rows;
mod seed;
mod verify;
mod wrk;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{
    bench::Bench,
    options::Options,
    report::{Figure, Report},
    seed::Seed,
};

/// The same as the product's, so that no figure tells of allocators.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A bench that cannot go on says why in words; nobody takes its failures apart.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Measures `tally`, each figure beside its baseline.
#[derive(Parser)]
#[command(name = "tally-bench", version, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Figure(Name),
    /// Every figure
    All,
    /// Write the figures of a report into a page
    Render {
        #[arg(default_value = "docs/performance.md")]
        page: PathBuf,
    },
    /// The handler that the product's is compared with
    #[command(hide = true)]
    Bare(bare::Bare),
    /// Prints what a plain map of so many entries takes
    #[command(hide = true)]
    BareMap { entries: usize },
}

/// A figure, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
enum Name {
    /// Bare appends, against one transaction each and against batched SQL
    Appends,
    /// Whole mints, in process and over HTTP, against the same rows by SQL
    Mints,
    /// Warm and cold verification over HTTP, against a bare handler and a bare SELECT
    Verify,
    /// Introspection over HTTP, of one credential and of a hundred, against a bare handler
    Introspect,
    /// A revocation until it is effective on 1, 3 and 5 replicas, against a bare commit
    Revoke,
    /// Verification over HTTP while 1,000 tokens a second are revoked, against the same while none is
    Revoking,
    /// Verification in another service's own process, against a plain map
    Embedded,
    /// Whole logins over HTTP, against bare handler calls with as many commits
    Login,
    /// A change of role in a large workspace, against one in a small
    Roles,
    /// Folding, verifying and rebuilding the log, against a bare read of it
    Replay,
    /// Pages of the audit trail over HTTP, against a SELECT of the same rows
    Audit,
    /// Memory, start-up, sizes
    Footprint,
    /// Appends, against other event stores
    Peers,
}

impl Name {
    /// Whether it asks a database that has lived.
    const fn needs_seed(self) -> bool {
        match self {
            Self::Verify
            | Self::Introspect
            | Self::Embedded
            | Self::Replay
            | Self::Audit
            | Self::Footprint => true,
            Self::Appends
            | Self::Mints
            | Self::Revoke
            | Self::Revoking
            | Self::Login
            | Self::Roles
            | Self::Peers => false,
        }
    }
}

/// In the order in which they are measured.
const FIGURES: [Name; 13] = [
    Name::Appends,
    Name::Mints,
    Name::Peers,
    Name::Login,
    Name::Revoke,
    Name::Revoking,
    Name::Roles,
    Name::Verify,
    Name::Introspect,
    Name::Embedded,
    Name::Audit,
    Name::Footprint,
    // Last, because rebuilt tables are packed more tightly than any that has lived.
    Name::Replay,
];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime could not be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", words(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// An error with everything below it.
pub fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

async fn run(arguments: Arguments) -> Result<()> {
    let figures = match arguments.command {
        Command::Bare(bare) => return bare::serve(bare).await,
        Command::BareMap { entries } => return footprint::bare_map(entries),
        Command::Render { page } => return render::render(&Report::read(&arguments.options.report)?, &page),
        Command::Figure(name) => vec![name],
        Command::All => all(),
    };
    let load = machine::load_average();
    machine::warn(load);
    let options = arguments.options.settled();
    let path = options.report.clone();
    let mut report = Report::read(&path)?;
    let server = server(&options)?;
    let bench = Bench::start(options, server).await;
    let machine = bench.describe(load).await?;
    println!("{machine}\n");
    let mut seed = None;
    for name in figures {
        let figure = Figure { machine: machine.clone(), ..measure(&bench, name, &mut seed).await? };
        println!("\n{}\n{}", figure.title, figure.table());
        for note in &figure.notes {
            println!("  {note}");
        }
        report.take(figure);
        // After each figure, so that one that fails late does not take the others with it.
        report.write(&path)?;
    }
    println!("\nWritten to {}", path.display());
    Ok(())
}

/// Every figure that can be measured here.
fn all() -> Vec<Name> {
    let mut figures = FIGURES.to_vec();
    if !peers::any() {
        eprintln!("\n*** No peer is there, so none is measured: `make bench-peers` makes them. ***\n");
        figures.retain(|name| *name != Name::Peers);
    }
    figures
}

async fn measure(bench: &Bench, name: Name, seed: &mut Option<Seed>) -> Result<Figure> {
    eprintln!("{name:?}");
    if name.needs_seed() && seed.is_none() {
        *seed = Some(Seed::grow(bench).await.map_err(|error| format!("seeding: {}", words(error.as_ref())))?);
    }
    let seed = || seed.as_ref().ok_or("nothing was seeded");
    let measured = match name {
        Name::Appends => appends::measure(bench).await,
        Name::Mints => mints::measure(bench).await,
        Name::Peers => peers::measure(bench).await,
        Name::Login => login::measure(bench).await,
        Name::Verify => verify::measure(bench, seed()?).await,
        Name::Introspect => introspect::measure(bench, seed()?).await,
        Name::Revoke => revoke::measure(bench).await,
        Name::Revoking => revoking::measure(bench).await,
        Name::Embedded => embedded::measure(bench, seed()?).await,
        Name::Roles => roles::measure(bench).await,
        Name::Replay => replay::measure(bench, seed()?).await,
        Name::Audit => audit::measure(bench, seed()?).await,
        Name::Footprint => footprint::measure(bench, seed()?).await,
    };
    measured.map_err(|error| format!("{name:?}: {}", words(error.as_ref())).into())
}

/// The binary to measure: built with this one, it stands beside it.
fn server(options: &Options) -> Result<PathBuf> {
    let path = match &options.server {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("tally"),
    };
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("there is no {}: build it with this program, as `make bench` does", path.display())
            .into())
    }
}
