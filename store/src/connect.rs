//! Connections, with the settings every one of them carries.

use std::time::Duration;

use sqlx::{
    Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

/// How many connections the pool holds.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    pub min: u32,
    pub max: u32,
}

/// A statement that runs longer is cancelled: nobody waits for it any more.
const STATEMENT_TIMEOUT: &str = "5s";
/// A lock held by a stranger is not waited for longer than this.
const LOCK_TIMEOUT: &str = "3s";
/// A transaction whose client stopped talking gives its locks back after this.
const IDLE_TRANSACTION_TIMEOUT: &str = "5s";
/// How long a connection may have been idle and still be taken for alive.
const IDLE_UNTESTED: Duration = Duration::from_secs(1);
/// How long a request waits for a connection before it is told to come back.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// Adds to `options` what the log relies on.
#[must_use]
pub fn with_session_settings(options: PgConnectOptions) -> PgConnectOptions {
    options.application_name("tally").options([
        ("synchronous_commit", "on"),
        ("default_transaction_isolation", "read committed"),
        ("statement_timeout", STATEMENT_TIMEOUT),
        ("lock_timeout", LOCK_TIMEOUT),
        ("idle_in_transaction_session_timeout", IDLE_TRANSACTION_TIMEOUT),
        ("timezone", "UTC"),
        // Every statement of a request walks an index. Without this a plan that was made, and kept,
        // while a table was small or its statistics were old would read the whole table each time.
        ("enable_seqscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("enable_material", "off"),
        // None of them is long enough to be worth compiling.
        ("jit", "off"),
    ])
}

/// Opens a pool. It connects when first used, and again by itself after the database was away.
///
/// A standby is refused: it may lag, and a yes read from it could be of yesterday. A server that
/// is no standby when a connection begins does not become one while the connection lasts.
#[must_use]
pub fn connect(options: PgConnectOptions, limits: ConnectionLimits) -> PgPool {
    PgPoolOptions::new()
        .min_connections(limits.min)
        .max_connections(limits.max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(|connection, _| Box::pin(refuse_standby(connection)))
        .test_before_acquire(false)
        .before_acquire(|connection, used| Box::pin(is_alive(connection, used.idle_for)))
        .connect_lazy_with(with_session_settings(options))
}

/// A connection beside the pool, for work that must not take one from requests; no standby either.
///
/// # Errors
/// When the database does not answer, or is a standby.
pub async fn connect_alone(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    refuse_standby(&mut connection).await?;
    Ok(connection)
}

/// A connection that was in use a moment ago is not asked whether it still lives: that would be a
/// round trip before every statement. The first request after a crash of the database may meet a
/// dead one, and is told to come back.
async fn is_alive(connection: &mut PgConnection, idle: Duration) -> Result<bool, sqlx::Error> {
    Ok(idle < IDLE_UNTESTED || connection.ping().await.is_ok())
}

async fn refuse_standby(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let standby: bool = sqlx::query_scalar("select pg_is_in_recovery()").fetch_one(connection).await?;
    if standby {
        Err(sqlx::Error::Configuration("the database is a standby; connect to the primary".into()))
    } else {
        Ok(())
    }
}
