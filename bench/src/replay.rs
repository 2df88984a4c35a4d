//! Replay: the whole log folded in memory, verified, and rebuilt into every projection, against a
//! bare read of the table.

use std::{
    collections::HashMap,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use serde_json::Value;
use sqlx::{Connection, PgConnection, Row as _};
use tally_domain::world::State;
use tally_events::{Position, StreamId};

use crate::{
    Result,
    bench::{Bench, Side},
    cpu::Meter,
    product,
    report::{Figure, Sample},
    seed::Seed,
};

/// Events of one page, for those who read by themselves.
const PAGE: i64 = 10_000;

/// Measures the figure.
pub async fn measure(bench: &Bench, seed: &Seed) -> Result<Figure> {
    let mut rows =
        bench.take_turns("fold in memory", vec![Box::new(Fold::of(seed)), Box::new(Read::of(seed))]).await?;
    for word in [Word::Verify, Word::Rebuild] {
        let sides: Vec<Box<dyn Side>> =
            vec![Box::new(ByCommand::of(bench, seed, word)), Box::new(Read::of(seed))];
        rows.extend(bench.take_turns(word.as_str(), sides).await?);
    }
    Ok(Figure {
        name: "replay".to_owned(),
        title: format!("Replay of {} events", seed.events),
        command: bench.options.command("replay"),
        machine: String::new(),
        notes: vec![
            "Rates are events per second; a round is the whole log, once.".to_owned(),
            "fold in memory: `events_after`, page by page, decoded and folded into the state of every stream.".to_owned(),
            "verify, rebuild: `tally projections verify` and `tally projections rebuild --all`, a process of its own from its start to its end: a rate of 100,000 is a million events in every projection in ten seconds.".to_owned(),
            format!("bare read: `select … from event where position > $1 order by position limit {PAGE}`, every column fetched and dropped."),
            "Checked: the folds and the reads saw every event; every verification holds; every rebuild ended at the head.".to_owned(),
        ],
        rows,
    })
}

fn rate(events: u64, started: Instant, spent: crate::cpu::Spent) -> Sample {
    Sample::of_rate(events, started.elapsed().as_secs_f64(), spent)
}

/// Reads and decodes everything, and folds every stream.
struct Fold {
    seed: (sqlx::postgres::PgConnectOptions, u64),
}

impl Fold {
    fn of(seed: &Seed) -> Self {
        Self { seed: (seed.database.clone(), seed.events) }
    }
}

#[async_trait]
impl Side for Fold {
    fn name(&self) -> String {
        "tally".to_owned()
    }

    fn is_baseline(&self) -> bool {
        false
    }

    fn warms_up(&self) -> bool {
        false
    }

    async fn round(&mut self, bench: &Bench, _: Duration) -> Result<Sample> {
        let (database, expected) = &self.seed;
        let mut connection = PgConnection::connect_with(database).await?;
        let meter = bench.measure(Meter::InProcess)?;
        let started = Instant::now();
        let mut states: HashMap<StreamId, State> = HashMap::new();
        let (mut position, mut folded) = (Position::ZERO, 0);
        loop {
            let events = tally_store::events_after(&mut connection, position, PAGE).await?;
            let Some(last) = events.last() else { break };
            position = last.position;
            for event in &events {
                states.entry(event.stream).or_insert_with(|| State::initial(event.stream)).evolve(event);
            }
            folded += events.len() as u64;
        }
        let sample = rate(folded, started, meter.stop()?);
        let streams: i64 =
            sqlx::query_scalar("select count(*) from stream").fetch_one(&mut connection).await?;
        connection.close().await?;
        if folded != *expected || i64::try_from(states.len()) != Ok(streams) {
            return Err(format!(
                "{folded} of {expected} events were folded into {} of {streams} streams",
                states.len()
            )
            .into());
        }
        Ok(sample)
    }

    async fn finish(self: Box<Self>, _: &Bench) -> Result<()> {
        Ok(())
    }
}

/// Reads everything and does nothing with it.
struct Read {
    seed: (sqlx::postgres::PgConnectOptions, u64),
}

impl Read {
    fn of(seed: &Seed) -> Self {
        Self { seed: (seed.database.clone(), seed.events) }
    }
}

#[async_trait]
impl Side for Read {
    fn name(&self) -> String {
        "bare read".to_owned()
    }

    fn is_baseline(&self) -> bool {
        true
    }

    fn warms_up(&self) -> bool {
        false
    }

    async fn round(&mut self, bench: &Bench, _: Duration) -> Result<Sample> {
        let (database, expected) = &self.seed;
        let mut connection = PgConnection::connect_with(database).await?;
        let meter = bench.measure(Meter::InProcess)?;
        let started = Instant::now();
        let (mut position, mut read) = (0_i64, 0);
        loop {
            let rows = sqlx::query(
                "select position, stream_id, stream_version, name, schema_version, workspace_id, actor_kind, actor_id,
                        credential_id, request_id, causation, recorded_at, payload::text
                   from event where position > $1 order by position limit $2",
            )
            .bind(position)
            .bind(PAGE)
            .fetch_all(&mut connection)
            .await?;
            let Some(last) = rows.last() else { break };
            position = last.try_get(0)?;
            read += rows.len() as u64;
        }
        let sample = rate(read, started, meter.stop()?);
        connection.close().await?;
        if read != *expected {
            return Err(format!("{read} of {expected} events were read").into());
        }
        Ok(sample)
    }

    async fn finish(self: Box<Self>, _: &Bench) -> Result<()> {
        Ok(())
    }
}

/// What is done to every projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Verify,
    Rebuild,
}

impl Word {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Rebuild => "rebuild",
        }
    }
}

/// `tally projections …` for all projections.
struct ByCommand {
    command: Command,
    events: u64,
    word: Word,
}

impl ByCommand {
    fn of(bench: &Bench, seed: &Seed, word: Word) -> Self {
        let mut command = Command::new(&bench.server);
        command
            .args(["--json", "projections", word.as_str()])
            .args((word == Word::Rebuild).then_some("--all"))
            .env_clear()
            .env("DATABASE_URL", bench.url(&seed.database))
            .env("TALLY_DATA_DIR", seed.directory())
            .env("APP_ENV", "development")
            .envs(product::secrets())
            .stdin(Stdio::null());
        Self { command, events: seed.events, word }
    }

    /// Fails unless every projection stands at the end of the log, and holds where that was asked.
    fn check(&self, told: &Value) -> Result<()> {
        let list = match self.word {
            Word::Verify => &told["verified"],
            Word::Rebuild => &told["rebuilt"],
        };
        let list = list.as_array().ok_or("the command named no projections")?;
        let known = tally_projections::inline().into_iter().chain(tally_projections::following());
        let whole = |name: &str| {
            let found = list.iter().find(|projection| projection["name"] == name);
            found.is_some_and(|found| {
                let holds = self.word == Word::Rebuild || found["holds"] == true;
                found["position"].as_u64() == Some(self.events) && holds
            })
        };
        let missing: Vec<&str> =
            known.map(|projection| projection.name()).filter(|name| !whole(name)).collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("not the whole log for {}: {told}", missing.join(", ")).into())
        }
    }
}

#[async_trait]
impl Side for ByCommand {
    fn name(&self) -> String {
        "tally, every projection".to_owned()
    }

    fn is_baseline(&self) -> bool {
        false
    }

    fn warms_up(&self) -> bool {
        false
    }

    async fn round(&mut self, bench: &Bench, _: Duration) -> Result<Sample> {
        let meter = bench.measure(Meter::Child)?;
        let started = Instant::now();
        let output = self.command.output()?;
        let sample = rate(self.events, started, meter.stop()?);
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            return Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr)).into());
        }
        self.check(&serde_json::from_str(text.trim())?)?;
        Ok(sample)
    }

    async fn finish(self: Box<Self>, _: &Bench) -> Result<()> {
        Ok(())
    }
}
