//! `tally projections`: rebuild, verify, status.

use std::{io::IsTerminal, sync::Arc, time::Duration};

use clap::Subcommand;
use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tally_events::Position;
use tally_projections::{rebuild::rebuild, status::status, verify::verify};
use tally_store::Projection;

use super::{Failure, session::Session};

#[derive(Subcommand)]
pub enum Command {
    /// Make a projection's tables anew from the log, while the server runs
    Rebuild {
        /// The projections to rebuild
        #[arg(required_unless_present = "all")]
        names: Vec<String>,
        /// Rebuild every projection
        #[arg(long, conflicts_with = "names")]
        all: bool,
    },
    /// Refold the log and compare with what stands in the tables
    Verify {
        /// The projections to verify; none: all of them
        names: Vec<String>,
    },
    /// Show how far each projection has come
    Status,
}

pub async fn run(command: Command, json: bool) -> Result<(), Failure> {
    let session = Session::open().await?;
    let outcome = match command {
        Command::Rebuild { names, all } => rebuild_all(&session, &names, all, json).await,
        Command::Verify { names } => verify_all(&session, &names, json).await,
        Command::Status => show_status(&session, json).await,
    };
    session.close(outcome).await
}

/// The projections of these names, in the order they depend on each other.
fn chosen(names: &[String], all: bool) -> Result<Vec<Arc<dyn Projection>>, Failure> {
    let known: Vec<_> =
        tally_projections::inline().into_iter().chain(tally_projections::following()).collect();
    let known_names = || known.iter().map(|projection| projection.name()).collect::<Vec<_>>().join(", ");
    if let Some(unknown) = names.iter().find(|name| !known.iter().any(|known| known.name() == *name)) {
        return Err(Failure::BadInput(format!(
            "no projection is named `{unknown}`: there are {}",
            known_names()
        )));
    }
    Ok(known
        .into_iter()
        .filter(|projection| all || names.iter().any(|name| name == projection.name()))
        .collect())
}

async fn rebuild_all(session: &Session, names: &[String], all: bool, json: bool) -> Result<(), Failure> {
    let mut rebuilt = Vec::new();
    for projection in chosen(names, all)? {
        let bar = Bar::new(projection.name(), json);
        let position = rebuild(session.owner(), projection.as_ref(), |at, end| bar.set(at, end)).await?;
        bar.finish();
        if !json {
            println!("{} rebuilt at position {position}", projection.name());
        }
        rebuilt.push(json!({ "name": projection.name(), "position": position }));
    }
    print_json(json, &json!({ "rebuilt": rebuilt }));
    Ok(())
}

async fn verify_all(session: &Session, names: &[String], json: bool) -> Result<(), Failure> {
    let mut differing = 0;
    let mut documents = Vec::new();
    for projection in chosen(names, names.is_empty())? {
        let bar = Bar::new(projection.name(), json);
        let verified = verify(session.owner(), projection.as_ref(), |at, end| bar.set(at, end)).await?;
        bar.finish();
        differing += usize::from(!verified.holds());
        if !json {
            let word = if verified.holds() { "holds" } else { "DIFFERS" };
            println!(
                "{:<12} {word} at position {}: {} rows",
                verified.projection, verified.position, verified.rows
            );
            for (table, rows) in &verified.unexpected {
                println!("  {table}: {rows} rows that the log does not make");
            }
            for (table, rows) in &verified.missing {
                println!("  {table}: {rows} rows missing that the log makes");
            }
        }
        documents.push(json!({
            "name": verified.projection, "holds": verified.holds(), "position": verified.position,
            "rows": verified.rows,
            "unexpected": verified.unexpected.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "missing": verified.missing.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        }));
    }
    print_json(json, &json!({ "verified": documents }));
    if differing > 0 { Err(Failure::Differs(differing)) } else { Ok(()) }
}

async fn show_status(session: &Session, json: bool) -> Result<(), Failure> {
    let all = status(&session.pool).await.map_err(Failure::Database)?;
    if json {
        let documents: Vec<_> = all
            .iter()
            .map(|status| {
                json!({
                    "name": status.name, "inline": status.inline, "version": status.version,
                    "wanted": status.wanted, "position": status.position, "lag": status.lag, "halted": status.halted,
                })
            })
            .collect();
        print_json(true, &json!({ "projections": documents }));
        return Ok(());
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header([
        "PROJECTION",
        "KIND",
        "VERSION",
        "POSITION",
        "LAG",
        "STATE",
    ]);
    for status in all {
        let state = match (&status.halted, status.wanted) {
            (Some(reason), _) => format!("halted {reason}"),
            (None, Some(wanted)) if wanted != status.version => format!("to be rebuilt to version {wanted}"),
            (None, Some(_)) => "running".to_owned(),
            (None, None) => "unknown to this release".to_owned(),
        };
        let kind = if status.inline { "inline" } else { "following" };
        table.add_row([
            status.name,
            kind.to_owned(),
            status.version.to_string(),
            status.position.to_string(),
            status.lag.to_string(),
            state,
        ]);
    }
    println!("{table}");
    Ok(())
}

fn print_json(json: bool, document: &serde_json::Value) {
    if json {
        println!("{document}");
    }
}

/// A progress bar with rate and time left, where somebody is looking.
struct Bar(ProgressBar);

impl Bar {
    fn new(name: &'static str, json: bool) -> Self {
        let bar = if json || !std::io::stderr().is_terminal() {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(0)
        };
        let template = "{prefix:<12} {bar:30} {pos}/{len} events, {per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(name);
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    fn set(&self, at: Position, end: Position) {
        self.0.set_length(end.0.unsigned_abs());
        self.0.set_position(at.0.unsigned_abs());
    }

    fn finish(&self) {
        self.0.finish_and_clear();
    }
}
