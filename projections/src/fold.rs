//! Reading a run of events and folding it, with whatever tables the connection sees.

use std::error::Error;

use sqlx::PgConnection;
use tally_events::{Position, Recorded};
use tally_store::{Projection, ReadError, events_after};

/// Why a projection does not move.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    #[error("the database did not answer")]
    Database(#[from] sqlx::Error),
    /// The event stays where it is and so does the projection, until a release can fold it.
    #[error("the projection halted at the event after position {after}")]
    Poison { after: Position, source: Box<dyn Error + Send + Sync> },
}

/// The events after `before`, in order: `limit` at most, and none from the first on that cannot be
/// read.
///
/// # Errors
/// When the database does not answer, or the very first cannot be read.
pub(crate) async fn read(
    connection: &mut PgConnection,
    before: Position,
    limit: i64,
) -> Result<Vec<Recorded>, FoldError> {
    let mut limit = limit;
    loop {
        match events_after(connection, before, limit).await {
            Ok(events) => return Ok(events),
            Err(ReadError::Database(error)) => return Err(FoldError::Database(error)),
            Err(ReadError::Decode { position, .. } | ReadError::Gap { missing: position, .. })
                if position > before.next() =>
            {
                limit = position.0 - before.next().0;
            }
            Err(error) => return Err(FoldError::Poison { after: before, source: Box::new(error) }),
        }
    }
}

/// Folds events. Of those its tables refuse, the error says only that they come after the position
/// before the first.
pub(crate) async fn fold(
    connection: &mut PgConnection,
    projection: &dyn Projection,
    events: &[Recorded],
) -> Result<(), FoldError> {
    let Some(first) = events.first() else { return Ok(()) };
    match projection.apply(connection, events).await {
        Err(error) if error.as_database_error().is_some_and(refuses_rows) => {
            Err(FoldError::Poison { after: Position(first.position.0 - 1), source: Box::new(error) })
        }
        folded => Ok(folded?),
    }
}

/// Data exceptions and integrity violations (SQLSTATE classes 22 and 23) will not go away.
fn refuses_rows(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
}
