//! How far each projection has come.

use sqlx::PgPool;
use tally_events::Position;
use tally_store::head;

/// One projection's standing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub name: String,
    pub inline: bool,
    /// The version whose rows stand in the tables.
    pub version: i32,
    /// The version this release makes; none when it does not know the projection.
    pub wanted: Option<i32>,
    pub position: Position,
    /// Events of the log it has yet to fold.
    pub lag: i64,
    /// Why it stopped, if it did.
    pub halted: Option<String>,
}

/// Every projection this database knows.
///
/// # Errors
/// When the database does not answer.
pub async fn status(pool: &PgPool) -> Result<Vec<Status>, sqlx::Error> {
    let end = head(pool).await?.position;
    let known: Vec<_> = crate::inline().into_iter().chain(crate::following()).collect();
    let rows = sqlx::query!(
        "select name, version, position, halted from projection order by position is not null, name"
    )
    .fetch_all(pool)
    .await?;
    let statuses = rows.into_iter().map(|row| {
        let position = Position(row.position.unwrap_or(end.0));
        Status {
            inline: row.position.is_none(),
            version: row.version,
            wanted: known.iter().find(|projection| projection.name() == row.name).map(|p| p.version()),
            position,
            lag: (end.0 - position.0).max(0),
            halted: row.halted,
            name: row.name,
        }
    });
    Ok(statuses.collect())
}
