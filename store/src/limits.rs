//! Rate limits that hold across replicas and restarts.

use std::time::Duration;

use chrono::TimeDelta;
use sqlx::{PgPool, postgres::types::PgInterval};

/// So many in such a time.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub count: u32,
    pub period: Duration,
}

/// Too many came.
#[derive(Debug, thiserror::Error)]
pub enum Limited {
    #[error("too many requests")]
    TooMany { retry_after: Duration },
    #[error("the database did not answer")]
    Database(#[from] sqlx::Error),
}

impl Limit {
    /// Counts one request under `key`, if the limit has room for it.
    ///
    /// The generic cell rate algorithm in one statement: a burst of `count`, then one more every
    /// `period / count`. The database's clock decides, so every replica agrees. Nobody waits for the
    /// disk: a crash of the database may forget what was counted in the last moments before it.
    ///
    /// An arrival twice as far ahead as it can be was noted before the clock went back. It counts as one
    /// that leaves room for a single request: nobody waits until the time that it names comes again.
    ///
    /// # Errors
    /// [`Limited::TooMany`] with the time until there is room; or the database is away.
    pub async fn take(self, pool: &PgPool, key: &[u8; 32]) -> Result<(), Limited> {
        let spacing = self.period / self.count.max(1);
        let taken = sqlx::query_scalar!(
            r#"with quick as materialized (select set_config('synchronous_commit', 'off', true))
               insert into rate_limit as r (key, arrival) select $1, clock_timestamp() + $2 from quick
               on conflict (key) do update
                  set arrival = least(greatest(r.arrival, clock_timestamp()), clock_timestamp() + $3 - $2) + $2
                where r.arrival <= clock_timestamp() + $3 - $2 or r.arrival > clock_timestamp() + 2 * $3
               returning 1 as "one!""#,
            key,
            interval(spacing),
            interval(self.period),
        )
        .fetch_optional(pool)
        .await?;
        if taken.is_some() {
            return Ok(());
        }
        let wait = sqlx::query_scalar!(
            r#"select extract(epoch from arrival - clock_timestamp() - $2 + $3)::float8 as "wait!" from rate_limit where key = $1"#,
            key,
            interval(self.period),
            interval(spacing),
        )
        .fetch_optional(pool)
        .await?;
        Err(Limited::TooMany {
            retry_after: Duration::from_secs_f64(wait.unwrap_or(0.0).clamp(1.0, 86_400.0)),
        })
    }

    /// Counts one request under every key, if every limit has room for it; otherwise under none.
    ///
    /// The rows are locked in the order of their keys, so that two callers never wait for each other.
    ///
    /// # Errors
    /// As [`Limit::take`]; the wait is the longest of those that are reached.
    pub async fn take_all(pool: &PgPool, limits: &[(Self, [u8; 32])]) -> Result<(), Limited> {
        let keys: Vec<Vec<u8>> = limits.iter().map(|(_, key)| key.to_vec()).collect();
        let spacings: Vec<PgInterval> =
            limits.iter().map(|(limit, _)| interval(limit.period / limit.count.max(1))).collect();
        let periods: Vec<PgInterval> = limits.iter().map(|(limit, _)| interval(limit.period)).collect();
        let mut transaction = pool.begin().await?;
        sqlx::query!("select set_config('synchronous_commit', 'off', true)")
            .fetch_one(&mut *transaction)
            .await?;
        // What nobody is near gets a row that says so: there is then something to lock.
        sqlx::query!(
            r#"insert into rate_limit (key, arrival)
               select key, to_timestamp(0) from unnest($1::bytea[]) as wanted(key) order by key
               on conflict (key) do nothing"#,
            &keys,
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!("select 1 as one from rate_limit where key = any($1) order by key for update", &keys)
            .fetch_all(&mut *transaction)
            .await?;
        let wait = sqlx::query_scalar!(
            r#"select coalesce(max(extract(epoch from r.arrival - clock_timestamp() - l.period + l.spacing)), 0)::float8 as "wait!"
                 from unnest($1::bytea[], $2::interval[], $3::interval[]) as l(key, spacing, period)
                 join rate_limit r on r.key = l.key and r.arrival <= clock_timestamp() + 2 * l.period"#,
            &keys,
            &spacings,
            &periods,
        )
        .fetch_one(&mut *transaction)
        .await?;
        if wait > 0.0 {
            transaction.rollback().await?;
            return Err(Limited::TooMany { retry_after: Duration::from_secs_f64(wait.clamp(1.0, 86_400.0)) });
        }
        sqlx::query!(
            r#"update rate_limit r
                  set arrival = least(greatest(r.arrival, clock_timestamp()), clock_timestamp() + l.period - l.spacing)
                              + l.spacing
                 from unnest($1::bytea[], $2::interval[], $3::interval[]) as l(key, spacing, period)
                where r.key = l.key"#,
            &keys,
            &spacings,
            &periods,
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }
}

fn interval(duration: Duration) -> PgInterval {
    let microseconds = TimeDelta::from_std(duration).ok().and_then(|delta| delta.num_microseconds());
    PgInterval { months: 0, days: 0, microseconds: microseconds.unwrap_or(i64::MAX) }
}
