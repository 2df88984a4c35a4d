//! How tally talks to the embedded PostgreSQL: through the socket, as `tally`, to the database `tally`.

use std::path::Path;
use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{Connection, Row};

use super::error::EmbeddedError;
use super::home::PORT;

/// The name of the role that owns the cluster, and of the one database in use.
const TALLY: &str = "tally";

/// How long one attempt may take. An answer on a local socket takes milliseconds.
const ATTEMPT_MAX: Duration = Duration::from_secs(5);

/// SQLSTATE `cannot_connect_now`: starting, recovering or shutting down.
const CANNOT_CONNECT_NOW: &str = "57P03";

/// Why PostgreSQL gave no answer.
#[derive(Debug)]
pub(super) struct Refusal {
    pub reason: String,
    /// It is there and will answer later, as it does while it recovers from a crash.
    pub is_starting: bool,
}

pub(super) fn options(socket_dir: &Path) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(socket_dir)
        .port(PORT)
        .username(TALLY)
        .database(TALLY)
        // What PGSSLMODE may say is not about this socket.
        .ssl_mode(PgSslMode::Disable)
}

/// Whether the database of these options answers.
pub(super) async fn probe(options: &PgConnectOptions) -> Result<(), Refusal> {
    let attempt = async {
        let mut connection = PgConnection::connect_with(options).await?;
        sqlx::query("select 1").execute(&mut connection).await?;
        connection.close().await
    };
    match tokio::time::timeout(ATTEMPT_MAX, attempt).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            let database = error.as_database_error();
            let waits = database.and_then(DatabaseError::code).is_some_and(|code| code == CANNOT_CONNECT_NOW);
            let reason = database.map_or_else(|| error.to_string(), |error| error.message().to_owned());
            Err(Refusal { is_starting: waits && !reason.contains("shutting down"), reason })
        }
        Err(_) => Err(Refusal { reason: "no answer at all".to_owned(), is_starting: false }),
    }
}

/// The database that every cluster has, through which `tally` is made.
pub(super) fn maintenance(options: &PgConnectOptions) -> PgConnectOptions {
    options.clone().database("postgres")
}

/// Makes the database `tally` if it is missing.
pub(super) async fn ensure_database(options: &PgConnectOptions) -> Result<(), EmbeddedError> {
    let ensure = async {
        let mut connection = PgConnection::connect_with(&maintenance(options)).await?;
        let exists: bool = sqlx::query("select exists (select from pg_database where datname = $1)")
            .bind(TALLY)
            .fetch_one(&mut connection)
            .await?
            .try_get(0)?;
        if !exists {
            sqlx::query("create database tally").execute(&mut connection).await?;
        }
        connection.close().await
    };
    ensure.await.map_err(|source| EmbeddedError::CreateDatabase { source })
}
