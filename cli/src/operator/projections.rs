//! `tally projections`: rebuild, verify, status.

use std::{sync::Arc, time::Instant};

use clap::Subcommand;
use comfy_table::{Table, presets};
use serde_json::json;
use tally_projections::{
    rebuild::{Progress, rebuild},
    status::status,
    verify::verify,
};
use tally_store::Projection;

use super::{Failure, progress::Bars, session::Session};

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
    let projections = chosen(names, all)?;
    let began = Instant::now();
    let bars = Bars::new(projections.iter().map(|projection| projection.name()), json);
    let outcomes = rebuild(session.owner(), &projections, {
        let bars = bars.clone();
        move |name, progress| bars.set(name, progress)
    })
    .await;
    bars.clear();
    let (mut rebuilt, mut failed) = (Vec::new(), Vec::new());
    for (name, outcome) in outcomes {
        match outcome {
            Ok(position) => {
                if !json {
                    println!("{name} rebuilt at position {position}");
                }
                rebuilt.push(bars.summary(name));
            }
            Err(error) => {
                let reason = with_sources(&error);
                if !json {
                    eprintln!("{name} not rebuilt: {reason}");
                }
                failed.push(json!({ "name": name, "reason": reason }));
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    print_json(json, &json!({ "rebuilt": rebuilt, "failed": failed, "seconds": seconds }));
    if failed.is_empty() { Ok(()) } else { Err(Failure::NotRebuilt(failed.len())) }
}

/// An error and what it is because of, in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

async fn verify_all(session: &Session, names: &[String], json: bool) -> Result<(), Failure> {
    let mut differing = 0;
    let mut documents = Vec::new();
    for projection in chosen(names, names.is_empty())? {
        let bars = Bars::new([projection.name()], json);
        let verified = verify(session.owner(), projection.as_ref(), |position, end| {
            bars.set(projection.name(), Progress::Folding { position, end });
        })
        .await?;
        bars.clear();
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
