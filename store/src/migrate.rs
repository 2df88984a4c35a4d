//! Migrations, safe when several replicas start at once.

use sqlx::{Connection, PgConnection, PgPool, migrate::Migrator, postgres::PgConnectOptions};

/// The migrations of this release.
///
/// A database may know more. Migrations expand before they contract, so a server of the release
/// before works on, starts again after a crash, and can be returned to; one that may no longer
/// write is told by [`inline_version`] and not by a migration.
fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("../migrations");
    migrator.set_ignore_missing(true);
    migrator
}

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

/// A migration that this release does not know: of a newer one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    pub version: i64,
    pub description: String,
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.version, self.description)
    }
}

/// Applies what is missing, and names what a newer release has applied. An advisory lock makes
/// concurrent callers take turns.
///
/// # Errors
/// When the database is away, or a migration fails, here or earlier.
pub async fn migrate(options: &PgConnectOptions) -> Result<Vec<Unknown>, MigrateError> {
    // A connection of its own: a migration may take longer than a request's statement may.
    let mut connection = PgConnection::connect_with(options).await.map_err(MigrateError::Connect)?;
    let migrator = migrator();
    migrator.run(&mut connection).await.map_err(MigrateError::Migrate)?;
    let known: Vec<i64> = migrator.iter().map(|migration| migration.version).collect();
    let unknown: Vec<(i64, String)> = sqlx::query_as(
        "select version, description from _sqlx_migrations where version <> all($1) order by version",
    )
    .bind(&known)
    .fetch_all(&mut connection)
    .await
    .map_err(MigrateError::List)?;
    connection.close().await.map_err(MigrateError::Connect)?;
    Ok(unknown.into_iter().map(|(version, description)| Unknown { version, description }).collect())
}

/// The version of the inline projections of the release that writes this database. A release that
/// knows a lower one may not write.
///
/// # Errors
/// When the database does not answer.
pub async fn inline_version(pool: &PgPool) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar!("select inline_version from log_head").fetch_one(pool).await
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
    Ok(migrator().iter().filter(|migration| !applied.contains(&migration.version)).count())
}

fn is_undefined_table(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|code| code == "42P01")
}
