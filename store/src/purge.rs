//! Deleting what has had its time. Never an event.

use sqlx::PgPool;

use crate::usage;

/// How much was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Keys of login attempts: what was readable of them no longer is.
    pub subject_keys: u64,
    pub idempotency_keys: u64,
    pub rate_limits: u64,
    /// Hours in which credentials were used, with the addresses they were used from.
    pub usage_hours: u64,
}

/// Deletes keys whose time is over, idempotency keys older than a day, limits nobody is near, and what
/// credentials were used for more than `usage_days` ago.
///
/// # Errors
/// When the database does not answer; what was deleted until then stays deleted.
pub async fn purge(pool: &PgPool, usage_days: u16) -> Result<Purged, sqlx::Error> {
    let keys = sqlx::query!("delete from keys.subject where delete_after <= clock_timestamp()");
    let subject_keys = keys.execute(pool).await?.rows_affected();
    let retried =
        sqlx::query!("delete from idempotency where recorded_at <= clock_timestamp() - interval '24 hours'");
    let idempotency_keys = retried.execute(pool).await?.rows_affected();
    let limits = sqlx::query!("delete from rate_limit where arrival <= clock_timestamp()");
    let rate_limits = limits.execute(pool).await?.rows_affected();
    let usage_hours = usage::purge_hours(pool, usage_days).await?;
    Ok(Purged { subject_keys, idempotency_keys, rate_limits, usage_hours })
}
