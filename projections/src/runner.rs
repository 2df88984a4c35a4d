//! The runner: folds the log into projections that follow it.
//!
//! A page of events and the checkpoint move in one transaction, so a crash repeats nothing and
//! skips nothing. The checkpoint's row lock lets one replica at a time work on a projection.

use std::{error::Error, sync::Arc, time::Duration};

use sqlx::{PgConnection, PgPool};
use tally_events::Position;
use tally_store::{Batch, Projection, ReadError, events_after};
use tokio::{
    sync::{broadcast, watch},
    time::timeout,
};

/// Events folded in one transaction.
pub(crate) const PAGE_EVENTS: i64 = 1000;
/// Without news from this process's committer, the log is looked at this often: another replica
/// may have written, or stopped working on a projection.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// After a failure the database is given this long.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// Why a projection does not move.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    #[error("the database did not answer")]
    Database(#[from] sqlx::Error),
    /// The event stays where it is and so does the projection, until a release can fold it.
    #[error("the projection halted at the event after position {after}")]
    Poison { after: Position, source: Box<dyn Error + Send + Sync> },
}

/// Makes a row for each projection this database has not seen.
///
/// # Errors
/// When the database does not answer.
pub async fn register(pool: &PgPool) -> Result<(), sqlx::Error> {
    let (inline, following) = (crate::inline(), crate::following());
    let rows = inline.iter().map(|p| (p, None)).chain(following.iter().map(|p| (p, Some(0_i64))));
    for (projection, position) in rows {
        sqlx::query!(
            "insert into projection (name, version, position) values ($1, $2, $3) on conflict (name) do nothing",
            projection.name(),
            projection.version(),
            position,
        )
        .execute(pool)
        .await?;
    }
    sqlx::query!("update log_head set inline_version = $1 where inline_version < $1", crate::INLINE_VERSION)
        .execute(pool)
        .await?;
    Ok(())
}

/// Follows the log until the feed of commits ends, telling each checkpoint it reaches.
pub async fn follow(
    pool: PgPool,
    projection: Arc<dyn Projection>,
    mut feed: broadcast::Receiver<Arc<Batch>>,
    checkpoint_told: watch::Sender<Position>,
) {
    let mut failing = false;
    loop {
        match fold_page(&pool, projection.as_ref()).await {
            Ok(Page::Folded { position, full }) => {
                failing = false;
                checkpoint_told.send_replace(position);
                if full {
                    continue;
                }
            }
            Ok(Page::Elsewhere { position }) => drop(checkpoint_told.send_replace(position)),
            // Only another release can fold it, and that is worth a look now and then.
            Ok(Page::Halted) => tokio::time::sleep(FAILURE_PAUSE).await,
            Err(error) => {
                if !failing {
                    tracing::error!(
                        projection.name = projection.name(),
                        error = &error as &dyn Error,
                        "a projection does not move"
                    );
                }
                failing = true;
                tokio::time::sleep(FAILURE_PAUSE).await;
            }
        }
        match timeout(LOOK_INTERVAL, feed.recv()).await {
            Ok(Err(broadcast::error::RecvError::Closed)) => return,
            // News, missed news or no news: look at the log either way.
            Ok(Ok(_) | Err(broadcast::error::RecvError::Lagged(_))) | Err(_) => feed = feed.resubscribe(),
        }
    }
}

enum Page {
    /// The checkpoint now; `full` when there may be more.
    Folded { position: Position, full: bool },
    /// It stopped at an event it cannot fold, and says so in its row.
    Halted,
    /// Another replica works on it and has come this far, or its tables are of another version.
    Elsewhere { position: Position },
}

/// Folds the next page, if there is one and nobody else is at it. A page with an event that cannot
/// be folded is halved, so that the projection comes as far as the event before it.
async fn fold_page(pool: &PgPool, projection: &dyn Projection) -> Result<Page, FoldError> {
    let mut limit = PAGE_EVENTS;
    loop {
        match try_page(pool, projection, limit).await? {
            Attempt::Done(page) => return Ok(page),
            Attempt::Poisoned { events, .. } if events > 1 => limit = events / 2,
            Attempt::Poisoned { after, source, known, .. } => {
                if !known {
                    halt(pool, projection, after, source.as_ref()).await?;
                }
                return Ok(Page::Halted);
            }
        }
    }
}

enum Attempt {
    Done(Page),
    /// Among the next `events` is one that cannot be folded; `known` when the projection has halted already.
    Poisoned {
        events: i64,
        after: Position,
        source: Box<dyn Error + Send + Sync>,
        known: bool,
    },
}

async fn try_page(pool: &PgPool, projection: &dyn Projection, limit: i64) -> Result<Attempt, FoldError> {
    let mut transaction = pool.begin().await?;
    let row = sqlx::query!(
        "select version, position, halted from projection where name = $1 for update skip locked",
        projection.name()
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(row) = row.filter(|row| row.version == projection.version()) else {
        transaction.rollback().await?;
        return Ok(Attempt::Done(Page::Elsewhere { position: checkpoint(pool, projection.name()).await? }));
    };
    let before = Position(row.position.unwrap_or(0));
    // The event after the checkpoint of a halted projection is the one to try.
    let limit = if row.halted.is_some() { 1 } else { limit };
    match fold_next(&mut transaction, projection, before, Some(Position(before.0 + limit))).await {
        Ok((position, count)) => {
            if count > 0 || row.halted.is_some() {
                sqlx::query!(
                    "update projection set position = $2, halted = null where name = $1",
                    projection.name(),
                    position.0
                )
                .execute(&mut *transaction)
                .await?;
            }
            transaction.commit().await?;
            Ok(Attempt::Done(Page::Folded { position, full: count == limit }))
        }
        Err(FoldError::Poison { after, source }) => {
            transaction.rollback().await?;
            Ok(Attempt::Poisoned { events: limit, after, source, known: row.halted.is_some() })
        }
        Err(error) => Err(error),
    }
}

/// How far a projection that follows the log has come.
///
/// # Errors
/// When the database does not answer.
pub async fn checkpoint(pool: &PgPool, name: &str) -> Result<Position, sqlx::Error> {
    let position = sqlx::query_scalar!("select position from projection where name = $1", name)
        .fetch_optional(pool)
        .await?;
    Ok(Position(position.flatten().unwrap_or(0)))
}

/// Folds one page after `before`, up to `to` at most, with whatever tables the connection sees.
pub(crate) async fn fold_next(
    connection: &mut PgConnection,
    projection: &dyn Projection,
    before: Position,
    to: Option<Position>,
) -> Result<(Position, i64), FoldError> {
    let limit = to.map_or(PAGE_EVENTS, |to| (to.0 - before.0).clamp(0, PAGE_EVENTS));
    let events = match events_after(connection, before, limit).await {
        Ok(events) => events,
        Err(ReadError::Database(error)) => return Err(FoldError::Database(error)),
        Err(error) => return Err(FoldError::Poison { after: before, source: Box::new(error) }),
    };
    let Some(last) = events.last() else { return Ok((before, 0)) };
    match projection.apply(connection, &events).await {
        Ok(()) => Ok((last.position, i64::try_from(events.len()).unwrap_or(PAGE_EVENTS))),
        Err(error) if error.as_database_error().is_some_and(refuses_rows) => {
            Err(FoldError::Poison { after: before, source: Box::new(error) })
        }
        Err(error) => Err(FoldError::Database(error)),
    }
}

/// Data exceptions and integrity violations (SQLSTATE classes 22 and 23) will not go away.
fn refuses_rows(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
}

async fn halt(
    pool: &PgPool,
    projection: &dyn Projection,
    after: Position,
    error: &(dyn Error + Send + Sync + 'static),
) -> Result<(), sqlx::Error> {
    tracing::error!(
        projection.name = projection.name(),
        event.position = after.next().0,
        error = error as &dyn Error,
        "a projection halted: it cannot fold an event"
    );
    let reason = format!("after position {after}: {error}");
    sqlx::query!("update projection set halted = $2 where name = $1", projection.name(), reason)
        .execute(pool)
        .await?;
    Ok(())
}
