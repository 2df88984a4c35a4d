//! The runner: folds the log into projections that follow it.
//!
//! Events and the checkpoint move in one transaction, so a crash repeats nothing and skips nothing.
//! The checkpoint's row lock lets one replica at a time work on a projection.
//!
//! What this process committed itself comes with the news of it, already decoded, and is folded
//! without being read again; the log is read where that leaves a gap. Each fold costs statements
//! and a flush to disk that the commits on the same machine must do without, so under load one
//! takes all that has gathered since the one before.
//!
//! These transactions wait for the disk like any other. Without waiting the rows would be safe,
//! since they and the checkpoint are lost together and folded again. But the checkpoint is told to
//! readers who ask for a position (`X-Min-Position`), and one that a crash of the database took back
//! would be answered with rows from before it.

use std::{error::Error, sync::Arc, time::Duration};

use sqlx::PgPool;
use tally_events::{Position, Recorded};
use tally_store::{Batch, Projection};
use tokio::{
    sync::{
        broadcast::{
            self,
            error::{RecvError, TryRecvError},
        },
        watch,
    },
    time::{Instant, sleep, sleep_until, timeout},
};

pub use crate::fold::FoldError;
use crate::{
    fold::{fold, read},
    metrics,
};

/// Events read and folded in one transaction.
const PAGE_EVENTS: i64 = 1000;
/// Two folds of one projection begin no closer than this. A fold after a pause begins at once.
const GATHER: Duration = Duration::from_millis(20);
/// News that is kept for the next fold; beyond it the log is read.
const NEWS_EVENTS_MAX: usize = 10_000;
/// Without news from this process's committer, the log is looked at this often: another replica
/// may have written, or stopped working on a projection.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// After a failure the database is given this long.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

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
    let projection = projection.as_ref();
    let mut news = News::default();
    let mut failing = false;
    let halted = metrics::halted(projection.name());
    loop {
        let began = Instant::now();
        let checkpoint = *checkpoint_told.borrow();
        match fold_some(&pool, projection, checkpoint, &mut news).await {
            Ok(Page::Folded { position, full }) => {
                failing = false;
                halted.set(0);
                checkpoint_told.send_replace(position);
                if full {
                    continue;
                }
            }
            Ok(Page::Elsewhere { position }) => {
                failing = false;
                // Nobody moves one that has halted.
                if position > checkpoint {
                    halted.set(0);
                }
                checkpoint_told.send_replace(position);
            }
            // Only another release can fold it, and that is worth a look now and then.
            Ok(Page::Halted { position }) => {
                halted.set(1);
                checkpoint_told.send_replace(position);
                sleep(FAILURE_PAUSE).await;
            }
            Err(error) => {
                if !failing {
                    tracing::error!(
                        projection.name = projection.name(),
                        error = &error as &dyn Error,
                        "a projection does not move"
                    );
                }
                failing = true;
                sleep(FAILURE_PAUSE).await;
            }
        }
        // News or no news: look at the log either way.
        match timeout(LOOK_INTERVAL, feed.recv()).await {
            Ok(Err(RecvError::Closed)) => return,
            Ok(Ok(batch)) => news.add(&batch),
            Ok(Err(RecvError::Lagged(_))) => news.clear(),
            Err(_) => continue,
        }
        sleep_until(began + GATHER).await;
        loop {
            match feed.try_recv() {
                Ok(batch) => news.add(&batch),
                Err(TryRecvError::Lagged(_)) => news.clear(),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
    }
}

/// What this process has committed since the last fold: a run of events without a gap.
#[derive(Default)]
struct News(Vec<Recorded>);

impl News {
    fn clear(&mut self) {
        self.0.clear();
    }

    fn add(&mut self, batch: &Batch) {
        // Another replica wrote in between, or the projection is far behind.
        let apart = self.0.last().is_some_and(|last| last.position.next() != batch.from());
        if apart || self.0.len() > NEWS_EVENTS_MAX {
            self.clear();
        }
        self.0.extend_from_slice(&batch.events);
    }

    /// The events right after `position`; none when the run does not begin there or before.
    fn after(&self, position: Position) -> Option<&[Recorded]> {
        let first = self.0.first()?.position.0;
        let known = usize::try_from(position.0 + 1 - first).ok()?;
        self.0.get(known..).filter(|events| !events.is_empty())
    }
}

/// Folds the news where it goes on from the checkpoint, and else a page of the log.
async fn fold_some(
    pool: &PgPool,
    projection: &dyn Projection,
    checkpoint: Position,
    news: &mut News,
) -> Result<Page, FoldError> {
    if let Some(events) = news.after(checkpoint) {
        // What it cannot fold is met again below, event by event.
        if let Ok(Some(position)) = fold_news(pool, projection, checkpoint, events).await {
            news.clear();
            return Ok(Page::Folded { position, full: false });
        }
    }
    let page = fold_page(pool, projection).await?;
    if !matches!(page, Page::Folded { full: true, .. }) {
        // What is in the log when a page of it comes to an end includes all news.
        news.clear();
    }
    Ok(page)
}

/// Folds events that begin right after `checkpoint`, in one transaction; none when the projection
/// does not stand there, is halted, or somebody else is at it.
async fn fold_news(
    pool: &PgPool,
    projection: &dyn Projection,
    checkpoint: Position,
    events: &[Recorded],
) -> Result<Option<Position>, sqlx::Error> {
    let Some(last) = events.last() else { return Ok(None) };
    let mut transaction = pool.begin().await?;
    let moved = sqlx::query!(
        "update projection set position = $4
          where name = (select name from projection
                         where name = $1 and version = $2 and position = $3 and halted is null
                           for update skip locked)",
        projection.name(),
        projection.version(),
        checkpoint.0,
        last.position.0,
    )
    .execute(&mut *transaction)
    .await?;
    if moved.rows_affected() == 0 {
        transaction.rollback().await?;
        return Ok(None);
    }
    projection.apply(&mut transaction, events).await?;
    transaction.commit().await?;
    Ok(Some(last.position))
}

enum Page {
    /// The checkpoint now; `full` when there is more.
    Folded { position: Position, full: bool },
    /// It stopped behind this, at an event it cannot fold, and says so in its row.
    Halted { position: Position },
    /// It has come this far, and there is nothing to do here: it stands at the head, another replica
    /// works on it, or its tables are of another version.
    Elsewhere { position: Position },
}

/// Folds the next page, if there is one and nobody else is at it. A page that the tables refuse is
/// halved, so that the projection comes as far as the event before the one at fault.
async fn fold_page(pool: &PgPool, projection: &dyn Projection) -> Result<Page, FoldError> {
    let standing = sqlx::query!(
        "select p.position, h.position as head from projection p cross join log_head h where p.name = $1",
        projection.name()
    )
    .fetch_optional(pool)
    .await?;
    let Some(row) = standing else { return Ok(Page::Elsewhere { position: Position::ZERO }) };
    if row.position == Some(row.head) {
        return Ok(Page::Elsewhere { position: Position(row.head) });
    }
    let mut limit = PAGE_EVENTS;
    loop {
        match try_page(pool, projection, limit).await? {
            Attempt::Folded { position } => {
                return Ok(Page::Folded { position, full: position.0 < row.head });
            }
            Attempt::Elsewhere => {
                return Ok(Page::Elsewhere { position: checkpoint(pool, projection.name()).await? });
            }
            Attempt::Poisoned { events, .. } if events > 1 => limit = events / 2,
            Attempt::Poisoned { after, source, known, .. } => {
                if !known {
                    halt(pool, projection, after, source.as_ref()).await?;
                }
                return Ok(Page::Halted { position: after });
            }
        }
    }
}

enum Attempt {
    Folded {
        position: Position,
    },
    Elsewhere,
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
        return Ok(Attempt::Elsewhere);
    };
    let before = Position(row.position.unwrap_or(0));
    let known = row.halted.is_some();
    // The event after the checkpoint of a halted projection is the one to try.
    let events = match read(&mut transaction, before, if known { 1 } else { limit }).await {
        Ok(events) => events,
        Err(FoldError::Poison { after, source }) => {
            transaction.rollback().await?;
            return Ok(Attempt::Poisoned { events: 1, after, source, known });
        }
        Err(error) => return Err(error),
    };
    let Some(last) = events.last() else {
        transaction.rollback().await?;
        return Ok(Attempt::Folded { position: before });
    };
    match fold(&mut transaction, projection, &events).await {
        Ok(()) => {
            sqlx::query!(
                "update projection set position = $2, halted = null where name = $1",
                projection.name(),
                last.position.0
            )
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(Attempt::Folded { position: last.position })
        }
        Err(FoldError::Poison { after, source }) => {
            transaction.rollback().await?;
            let events = last.position.0 - before.0;
            Ok(Attempt::Poisoned { events, after, source, known })
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
