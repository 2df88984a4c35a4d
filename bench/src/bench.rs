//! What every figure works with: a PostgreSQL of the run's own, and rounds that take turns.

use std::{error::Error, path::PathBuf, time::Duration};

use async_trait::async_trait;
use sqlx::{
    AssertSqlSafe, Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tally_tests::{Server, TempPostgres};

use crate::{
    Result,
    cpu::{Meter, Running},
    machine,
    options::Options,
    product,
    report::{RATE, Row, Sample, VALUE, compare, number},
    words,
};

/// Connections of a pool: the product's default, and so every baseline's.
pub const POOL: u32 = 25;
/// The code that fits every login of a server that is measured.
pub const DEVELOPMENT_CODE: &str = "246810";
/// How long a side works uncounted before its first round.
const WARM_UP: Duration = Duration::from_millis(500);

pub struct Bench {
    pub options: Options,
    /// The `tally` binary.
    pub server: PathBuf,
    postgres: TempPostgres,
    postmaster: u32,
}

/// One of those that are measured in turns.
#[async_trait]
pub trait Side: Send {
    fn name(&self) -> String;

    fn is_baseline(&self) -> bool;

    /// Whether it works once, uncounted, before its first round.
    fn warms_up(&self) -> bool {
        true
    }

    /// Works for so long, measuring itself.
    async fn round(&mut self, bench: &Bench, length: Duration) -> Result<Sample>;

    /// Shows that what was counted was really done, and puts everything away.
    async fn finish(self: Box<Self>, bench: &Bench) -> Result<()>;
}

impl Bench {
    pub async fn start(options: Options, server: PathBuf) -> Self {
        let mut postgres = TempPostgres::start().await;
        let postmaster = postgres.process().id();
        Self { options, server, postgres, postmaster }
    }

    /// A database of this release, empty.
    pub async fn database(&self) -> Result<PgConnectOptions> {
        let options = self.empty_database().await;
        tally_store::migrate(&options).await?;
        Ok(options)
    }

    /// A database with nothing in it, for others than the product.
    pub async fn empty_database(&self) -> PgConnectOptions {
        self.postgres.database().await
    }

    /// As `DATABASE_URL` takes it.
    pub fn url(&self, database: &PgConnectOptions) -> String {
        self.postgres.url(database)
    }

    /// Removes a database, whoever is still connected to it.
    pub async fn drop_database(&self, database: &PgConnectOptions) -> Result<()> {
        let name = database.get_database().unwrap_or_default();
        let mut connection = PgConnection::connect_with(&database.clone().database("postgres")).await?;
        sqlx::query(AssertSqlSafe(format!("drop database {name} with (force)")))
            .execute(&mut connection)
            .await?;
        connection.close().await?;
        Ok(())
    }

    /// The real server on a database, ready. Its limits per address are out of the way, and any
    /// login code is the development code.
    pub async fn serve(&self, database: &PgConnectOptions) -> Result<Server> {
        self.serve_with(database, &[]).await
    }

    pub async fn serve_with(&self, database: &PgConnectOptions, more: &[(&str, &str)]) -> Result<Server> {
        let (url, secrets) = (self.url(database), product::secrets());
        let mut settings = vec![
            ("DATABASE_URL", url.as_str()),
            ("TALLY_BIND", "127.0.0.1"),
            ("APP_ENV", "development"),
            ("MULTICA_DEV_VERIFICATION_CODE", DEVELOPMENT_CODE),
        ];
        settings.extend(secrets.iter().map(|(name, value)| (*name, value.as_str())));
        settings.extend(more);
        let binary = self.server.to_str().ok_or("the server's path is not UTF-8")?;
        Ok(Server::start(binary, &settings).await)
    }

    /// The machine's line.
    pub async fn describe(&self, load: f64) -> Result<String> {
        machine::describe(&self.postgres.options("postgres"), load).await
    }

    pub fn measure(&self, meter: Meter) -> Result<Running> {
        meter.start(self.postmaster)
    }

    pub fn round(&self) -> Duration {
        Duration::from_secs_f64(self.options.seconds)
    }

    /// Lets the sides of a case take turns, A B C A B C …, and gives a row for each. The product
    /// comes first: baselines are compared with it.
    pub async fn take_turns(&self, case: &str, mut sides: Vec<Box<dyn Side>>) -> Result<Vec<Row>> {
        let failed = |side: &str, error: Box<dyn Error + Send + Sync>| {
            format!("{case}, {side}: {}", words(error.as_ref()))
        };
        for side in sides.iter_mut().filter(|side| side.warms_up()) {
            let name = side.name();
            side.round(self, WARM_UP.min(self.round())).await.map_err(|error| failed(&name, error))?;
        }
        let mut samples: Vec<Vec<Sample>> = sides.iter().map(|_| Vec::new()).collect();
        for round in 1..=self.options.rounds {
            for (side, samples) in sides.iter_mut().zip(&mut samples) {
                self.settle().await?;
                let name = side.name();
                let sample = side.round(self, self.round()).await.map_err(|error| failed(&name, error))?;
                let shown = sample.get(RATE).or(sample.get(VALUE)).unwrap_or_default();
                eprintln!("  round {round}: {case}, {name}: {}", number(shown));
                samples.push(sample);
            }
        }
        let mut rows: Vec<Row> = sides
            .iter()
            .zip(&samples)
            .map(|(side, samples)| Row::new(case, &side.name(), side.is_baseline(), samples))
            .collect();
        compare(&mut rows);
        for side in sides {
            let name = side.name();
            side.finish(self).await.map_err(|error| failed(&name, error))?;
        }
        Ok(rows)
    }

    /// Each round begins just after a checkpoint, so that none pays for the one before it.
    async fn settle(&self) -> Result<()> {
        let database = self.postgres.options("postgres");
        let mut connection = PgConnection::connect_with(&database).await?;
        sqlx::query("checkpoint").execute(&mut connection).await?;
        connection.close().await?;
        Ok(())
    }
}

/// A pool as the product's, whose callers wait as long as it takes.
pub async fn pool(database: &PgConnectOptions) -> Result<PgPool> {
    let options = tally_store::with_session_settings(database.clone());
    // On a slow disk a queue for one row's lock is longer than a request of the product would wait.
    let options = options.options([("statement_timeout", "0"), ("lock_timeout", "0")]);
    let pool = PgPoolOptions::new()
        .min_connections(POOL)
        .max_connections(POOL)
        .acquire_timeout(Duration::from_mins(2))
        .connect_with(options)
        .await?;
    Ok(pool)
}

/// Fails unless a table holds as many rows as were acknowledged.
pub async fn check_rows(
    database: &PgConnectOptions,
    statement: &'static str,
    acknowledged: u64,
) -> Result<()> {
    let mut connection = PgConnection::connect_with(database).await?;
    let rows: i64 = sqlx::query_scalar(statement).fetch_one(&mut connection).await?;
    connection.close().await?;
    if u64::try_from(rows) == Ok(acknowledged) && rows > 0 {
        return Ok(());
    }
    Err(format!("{acknowledged} operations were acknowledged, and `{statement}` finds {rows}").into())
}
