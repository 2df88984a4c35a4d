//! Two ways to write what a command writes: one transaction each, and bare SQL in batches.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use sqlx::{Connection, PgConnection, PgPool, postgres::PgConnectOptions};
use tally_store::Clock;
use uuid::Uuid;

use crate::{
    Result,
    bench::{Bench, Side, check_rows, pool},
    cpu::Meter,
    drive::{Caller, drive, sample_of_calls},
    report::Sample,
    rows::{Rows, Work},
};

/// One transaction per command, over a pool: takes the head's lock, checks that the stream is new,
/// writes, commits.
pub struct PerTransaction {
    pool: PgPool,
    database: PgConnectOptions,
    work: Work,
    callers: usize,
    acknowledged: u64,
}

struct PerTransactionCaller {
    pool: PgPool,
    work: Work,
    clock: Clock,
}

#[async_trait]
impl Caller for PerTransactionCaller {
    async fn call(&mut self) -> Result<u64> {
        let mut transaction = self.pool.begin().await?;
        let position: i64 =
            sqlx::query_scalar("update log_head set position = position + 1 returning position")
                .fetch_one(&mut *transaction)
                .await?;
        let rows = Rows::new(self.work.template(), position - 1, 1, &self.clock);
        // A mint rests on its session and its account too; that these stand where they stood is
        // one more row each of the same answer.
        let version: Option<(Uuid, i64)> =
            sqlx::query_as("select id, version from stream where id = any($1)")
                .bind(&rows.streams)
                .fetch_optional(&mut *transaction)
                .await?;
        if version.is_some() {
            return Err("a new stream has events already".into());
        }
        self.work.write(&rows, &mut transaction).await?;
        transaction.commit().await?;
        Ok(1)
    }
}

impl PerTransaction {
    pub async fn start(bench: &Bench, callers: usize, work: &Work) -> Result<Self> {
        let database = bench.database().await?;
        let pool = pool(&database).await?;
        Ok(Self { pool, database, work: work.clone(), callers, acknowledged: 0 })
    }
}

#[async_trait]
impl Side for PerTransaction {
    fn name(&self) -> String {
        "one transaction each".to_owned()
    }

    fn is_baseline(&self) -> bool {
        true
    }

    async fn round(&mut self, bench: &Bench, length: Duration) -> Result<Sample> {
        let caller = |_| PerTransactionCaller {
            pool: self.pool.clone(),
            work: self.work.clone(),
            clock: Clock::default(),
        };
        let callers = (0..self.callers).map(caller).collect();
        let meter = bench.measure(Meter::InProcess)?;
        let (load, _) = drive(callers, length).await?;
        self.acknowledged += load.operations;
        Ok(load.sample(meter.stop()?))
    }

    async fn finish(self: Box<Self>, bench: &Bench) -> Result<()> {
        check_rows(&self.database, self.work.count(), self.acknowledged).await?;
        self.pool.close().await;
        bench.drop_database(&self.database).await
    }
}

/// One connection that writes as many operations in a transaction as there are callers, and
/// nothing else: no loading, no deciding, no hashing, no lock.
pub struct Batched {
    connection: PgConnection,
    database: PgConnectOptions,
    work: Work,
    callers: usize,
    written: u64,
}

impl Batched {
    pub async fn start(bench: &Bench, callers: usize, work: &Work) -> Result<Self> {
        let database = bench.database().await?;
        let options = tally_store::with_session_settings(database.clone());
        let connection = PgConnection::connect_with(&options).await?;
        Ok(Self { connection, database, work: work.clone(), callers, written: 0 })
    }

    async fn write_batch(&mut self, clock: &Clock) -> Result<()> {
        let rows = Rows::new(self.work.template(), i64::try_from(self.written)?, self.callers, clock);
        let mut transaction = self.connection.begin().await?;
        self.work.write(&rows, &mut transaction).await?;
        transaction.commit().await?;
        self.written += rows.len() as u64;
        Ok(())
    }
}

#[async_trait]
impl Side for Batched {
    fn name(&self) -> String {
        match self.work {
            Work::Append(_) | Work::Mint(_) => "batched SQL".to_owned(),
            Work::MintAndFollowing(_) => "batched SQL, lists too".to_owned(),
        }
    }

    fn is_baseline(&self) -> bool {
        true
    }

    async fn round(&mut self, bench: &Bench, length: Duration) -> Result<Sample> {
        let clock = Clock::default();
        let meter = bench.measure(Meter::InProcess)?;
        let (started, before) = (Instant::now(), self.written);
        let mut latencies = Vec::new();
        while started.elapsed() < length {
            let sent = Instant::now();
            self.write_batch(&clock).await?;
            latencies.push(sent.elapsed());
        }
        let seconds = started.elapsed().as_secs_f64();
        Ok(sample_of_calls(self.written - before, seconds, latencies, meter.stop()?))
    }

    async fn finish(self: Box<Self>, bench: &Bench) -> Result<()> {
        check_rows(&self.database, self.work.count(), self.written).await?;
        self.connection.close().await?;
        bench.drop_database(&self.database).await
    }
}
