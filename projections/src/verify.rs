//! Verify: refolds the log and compares with what stands in the tables.
//!
//! The refold goes into temporary tables, which shadow the live ones for this connection, so the
//! projection's own statements write there and nothing is left behind. The comparison happens in
//! one snapshot: the live tables and their checkpoint are read as of the same moment.

use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};
use tally_events::Position;
use tally_store::{Projection, head};

use crate::{
    fold::{FoldError, fold},
    is_inline,
    pages::{Pages, read_ahead},
    shadow::{self, execute},
};

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub projection: &'static str,
    /// The checkpoint at which both were compared.
    pub position: Position,
    /// Rows in the live tables at that moment.
    pub rows: i64,
    /// Rows that are only in the live tables, by table.
    pub unexpected: Vec<(String, i64)>,
    /// Rows that are only in the refold, by table.
    pub missing: Vec<(String, i64)>,
}

impl Verified {
    /// Whether the tables equal the fold of the log.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.unexpected.is_empty() && self.missing.is_empty()
    }
}

/// Refolds the log up to the projection's checkpoint and compares.
///
/// # Errors
/// When the database does not answer or an event cannot be folded.
pub async fn verify(
    options: &PgConnectOptions,
    projection: &dyn Projection,
    mut progress: impl FnMut(Position, Position),
) -> Result<Verified, FoldError> {
    let options = options.clone().options([("search_path", "pg_temp,public"), ("statement_timeout", "120s")]);
    let mut connection = PgConnection::connect_with(&options).await?;
    shadow::create(&mut connection, projection, "pg_temp").await?;
    // Most of the log in short transactions, so that no long snapshot holds back clean-up …
    let mut position = Position::ZERO;
    let stop = checkpoint(&mut connection, projection).await?;
    let mut pages = read_ahead(&options, &[position]).swap_remove(0);
    while position < stop {
        progress(position, stop);
        position = fold_to(&mut connection, projection, &mut pages, position, stop).await?;
    }
    // … and what came meanwhile in the snapshot of the comparison.
    let mut transaction = connection.begin().await?;
    execute(&mut transaction, "set transaction isolation level repeatable read").await?;
    // Before the snapshot is taken: a rebuild that flipped after it would leave tables in which the
    // snapshot sees nothing.
    for table in projection.tables() {
        execute(&mut transaction, &format!("lock table public.{table} in access share mode")).await?;
    }
    let end = checkpoint(&mut transaction, projection).await?;
    while position < end {
        position = fold_to(&mut transaction, projection, &mut pages, position, end).await?;
    }
    drop(pages);
    let mut verified = Verified {
        projection: projection.name(),
        position,
        rows: 0,
        unexpected: Vec::new(),
        missing: Vec::new(),
    };
    for table in projection.tables() {
        let (live, fold) = (format!("public.{table}"), format!("pg_temp.{table}"));
        verified.rows += count(&mut transaction, &live).await?;
        let unexpected = difference(&mut transaction, table, &live, &fold).await?;
        let missing = difference(&mut transaction, table, &fold, &live).await?;
        verified.unexpected.extend((unexpected > 0).then(|| ((*table).to_owned(), unexpected)));
        verified.missing.extend((missing > 0).then(|| ((*table).to_owned(), missing)));
    }
    transaction.rollback().await?;
    connection.close().await?;
    progress(position, position);
    Ok(verified)
}

/// Folds some of the events after `position`, up to `end` at most.
async fn fold_to(
    connection: &mut PgConnection,
    projection: &dyn Projection,
    pages: &mut Pages,
    position: Position,
    end: Position,
) -> Result<Position, FoldError> {
    let events = pages.after(connection, position).await?;
    let count = events.partition_point(|event| event.position <= end);
    let Some(last) = events[..count].last() else { return Ok(end) };
    fold(connection, projection, &events[..count]).await?;
    Ok(last.position)
}

/// How far the live tables have come: the head for an inline projection.
async fn checkpoint(
    connection: &mut PgConnection,
    projection: &dyn Projection,
) -> Result<Position, sqlx::Error> {
    if is_inline(projection.name()) {
        return Ok(head(connection).await?.position);
    }
    let position: Option<i64> = sqlx::query_scalar("select position from public.projection where name = $1")
        .bind(projection.name())
        .fetch_optional(connection)
        .await?
        .flatten();
    Ok(Position(position.unwrap_or(0)))
}

async fn count(connection: &mut PgConnection, table: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {table}"))).fetch_one(connection).await
}

/// Rows of `left` that `right` lacks, every column compared as text.
async fn difference(
    connection: &mut PgConnection,
    table: &str,
    left: &str,
    right: &str,
) -> Result<i64, sqlx::Error> {
    let statement = format!(
        "select count(*) from (select {table}::text from {left} {table} except all select {table}::text from {right} {table}) as d"
    );
    sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(connection).await
}
