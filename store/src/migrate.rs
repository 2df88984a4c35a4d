//! Migrations, safe when several replicas start at once.

use sqlx::{Connection, PgConnection, migrate::Migrator, postgres::PgConnectOptions};

static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// Why the database could not be brought to this release.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error("the database could not be reached")]
    Connect(#[source] sqlx::Error),
    #[error("a migration failed; nothing of it was kept")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    #[error("the list of applied migrations could not be read")]
    List(#[source] sqlx::Error),
}

/// Applies what is missing. An advisory lock makes concurrent callers take turns.
///
/// # Errors
/// When the database is away, a migration fails, or the database was migrated by a newer release.
pub async fn migrate(options: &PgConnectOptions) -> Result<(), MigrateError> {
    // A connection of its own: a migration may take longer than a request's statement may.
    let mut connection = PgConnection::connect_with(options).await.map_err(MigrateError::Connect)?;
    MIGRATOR.run(&mut connection).await.map_err(MigrateError::Migrate)?;
    connection.close().await.map_err(MigrateError::Connect)
}

/// How many migrations of this release the database has not seen.
///
/// # Errors
/// When the database is away.
pub async fn pending_migrations(connection: &mut PgConnection) -> Result<usize, MigrateError> {
    let applied: Vec<i64> = match sqlx::query_scalar("select version from _sqlx_migrations where success")
        .fetch_all(connection)
        .await
    {
        Ok(applied) => applied,
        Err(error) if is_undefined_table(&error) => Vec::new(),
        Err(error) => return Err(MigrateError::List(error)),
    };
    Ok(MIGRATOR.iter().filter(|migration| !applied.contains(&migration.version)).count())
}

fn is_undefined_table(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|code| code == "42P01")
}
