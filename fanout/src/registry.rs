//! The statements of the protocol: who may answer from memory, and where the log ends.
//!
//! Every change to the list moves `log_head.registry_epoch` in the same transaction, and so under
//! the head's lock: a commit comes wholly before a change or wholly after it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use sqlx::{Connection, PgConnection, PgExecutor, postgres::types::PgInterval};
use tally_domain::{Invalidation, dependency::invalidation};
use tally_events::{Position, TokenId};
use tally_projections::credentials::{find_tokens, tokens_below};
use tally_store::{ReadError, events_after};
use uuid::Uuid;

use crate::{
    LEASE_MAX, LEASE_MIN, ReplicaSettings, mono,
    news::News,
    protocol::{Leaf, Machine, Members, Page, RenewalSent, ReplicaId, Tag},
};

/// Events in one read of the log.
pub(crate) const PAGE_EVENTS: i64 = 1000;

/// R1: makes `replica` known with the lease it takes, and takes back what this process registered
/// before. An error leaves open whether it stands: the id is then never used.
pub(crate) async fn register(
    connection: &mut PgConnection,
    replica: ReplicaId,
    lease: Duration,
    former: &[Uuid],
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    move_epoch(&mut transaction).await?;
    sqlx::query!("delete from replica where id = any($1)", former).execute(&mut *transaction).await?;
    sqlx::query!("insert into replica (id, lease_ms) values ($1, $2)", replica.0, whole_milliseconds(lease))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

/// Takes the head's lock. Every change to the list begins with it.
async fn move_epoch(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!("update log_head set registry_epoch = registry_epoch + 1").execute(connection).await?;
    Ok(())
}

/// Does once whatever a process that only asks will ever do, and undoes it.
pub(crate) async fn try_out(connection: &mut PgConnection) -> Result<(), ReadError> {
    find_tokens(&mut *connection, &[]).await?;
    tokens_below(&mut *connection, TokenId(Uuid::max()), 0).try_collect::<Vec<_>>().await?;
    let replica = ReplicaId(Uuid::new_v4());
    let mut machine = Machine::new(ReplicaSettings::default().timing(), 0, 1);
    machine.registered(replica);
    let mut transaction = connection.begin().await?;
    // Each in a savepoint of this one.
    register(&mut transaction, replica, LEASE_MIN, &[]).await?;
    if let Some(sent) = machine.renewal_sent(mono::now())
        && let Some(renewal) = renew(&mut transaction, &sent).await?
    {
        page(&mut transaction, renewal.head).await?;
    }
    remove(&mut transaction, &[replica.0]).await?;
    Ok(transaction.rollback().await?)
}

/// What a renewal reads.
pub(crate) struct Renewal {
    pub tag: Tag,
    pub head: Position,
    pub leaf_at_applied: Leaf,
    pub leaf_at_head: Leaf,
    pub database_time: DateTime<Utc>,
}

/// R2: one statement, which commits by itself. None: the row is gone, or leaving.
///
/// `pg_current_wal_lsn` refuses on a standby, which is what we want: its head is behind.
pub(crate) async fn renew(
    connection: &mut PgConnection,
    sent: &RenewalSent,
) -> Result<Option<Renewal>, sqlx::Error> {
    let row = sqlx::query!(
        r#"update replica r
              set applied = coalesce($2, h.position), renewed_at = clock_timestamp()
             from log_head h
            where r.id = $1 and not r.leaving
           returning h.log_id, h.position as head,
                     substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) as "timeline!",
                     (select e.leaf_hash from event e where e.position = $2) as leaf_at_applied,
                     (select e.leaf_hash from event e where e.position = h.position) as leaf_at_head,
                     clock_timestamp() as "database_time!""#,
        sent.replica.0,
        sent.applied.map(|applied| applied.0),
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(Renewal {
            tag: Tag { log_id: row.log_id, timeline: row.timeline },
            head: Position(row.head),
            leaf_at_applied: leaf(row.leaf_at_applied)?,
            leaf_at_head: leaf(row.leaf_at_head)?,
            database_time: row.database_time,
        })
    })
    .transpose()
}

fn leaf(bytes: Option<Vec<u8>>) -> Result<Leaf, sqlx::Error> {
    let exact = |bytes: Vec<u8>| <[u8; 32]>::try_from(bytes);
    bytes.map(exact).transpose().map_err(|bytes| {
        sqlx::Error::Decode(format!("a leaf hash of {} bytes, where 32 belong", bytes.len()).into())
    })
}

/// R7: the list and the history it is of, in one statement.
pub(crate) async fn members(executor: impl PgExecutor<'_>) -> Result<Members, sqlx::Error> {
    let row = sqlx::query!(
        r#"select log_id,
                  substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) as "timeline!",
                  array(select id from replica) as "replicas!",
                  (select coalesce(max(coalesce(lease_ms, $1)), 0) from replica) as "lease_ms!"
             from log_head"#,
        whole_milliseconds(LEASE_MAX),
    )
    .fetch_one(executor)
    .await?;
    Ok(Members {
        tag: Tag { log_id: row.log_id, timeline: row.timeline },
        replicas: row.replicas.into_iter().map(ReplicaId).collect(),
        lease: milliseconds(row.lease_ms),
    })
}

/// A replica on the list.
#[derive(Clone, Copy, Debug)]
pub struct Registered {
    pub id: Uuid,
    pub registered_at: DateTime<Utc>,
    /// Since its last renewal.
    pub silent: Duration,
    /// What it said at its last renewal that it had applied.
    pub applied: Position,
    /// Events that the log had beyond that when it was looked at.
    pub lag: i64,
    /// It may not renew any more, and is taken off the list when its lease must be over.
    pub leaving: bool,
}

/// Everybody on the list, in the order they came, for operators to look at.
///
/// # Errors
/// When the database does not answer.
pub async fn registered(executor: impl PgExecutor<'_>) -> Result<Vec<Registered>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"select r.id, r.registered_at, r.applied, r.leaving, greatest(h.position - r.applied, 0) as "lag!",
                  greatest(extract(epoch from clock_timestamp() - r.renewed_at), 0)::float8 as "silent!"
             from replica r, log_head h
            order by r.registered_at, r.id"#,
    )
    .fetch_all(executor)
    .await?;
    let registered = rows.into_iter().map(|row| Registered {
        id: row.id,
        registered_at: row.registered_at,
        silent: Duration::try_from_secs_f64(row.silent).unwrap_or_default(),
        applied: Position(row.applied),
        lag: row.lag,
        leaving: row.leaving,
    });
    Ok(registered.collect())
}

/// R3: the log after a position, as far as one page goes.
///
/// The history is asked for on the same connection and afterwards. A session stays with its server,
/// and a server's timeline only rises, so what the page holds is of the history that is named.
pub(crate) async fn page(connection: &mut PgConnection, after: Position) -> Result<(Page, News), ReadError> {
    let (last, overthrown, news) = match events_after(connection, after, PAGE_EVENTS).await {
        Ok(events) => {
            let last = events.last().map_or(after, |event| event.position);
            let overthrown = events.iter().map(|event| (event.position, invalidation(event))).collect();
            (last, overthrown, News::Page(events.into()))
        }
        // A newer release wrote something here. What it overthrows is unknown, so: everything.
        Err(ReadError::Decode { position, source }) => {
            tracing::warn!(
                event.position = position.0,
                error = &source as &dyn std::error::Error,
                "an event of a newer release: every cached verdict is dropped"
            );
            let last = last_of_page(connection, after).await?;
            (last, vec![(last, Invalidation::Everything)], News::Unknown)
        }
        Err(error) => return Err(error),
    };
    let row = sqlx::query!(
        r#"select h.log_id, substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) as "timeline!",
                  (select e.leaf_hash from event e where e.position = $1) as leaf_hash
             from log_head h"#,
        last.0,
    )
    .fetch_one(connection)
    .await?;
    let tag = Tag { log_id: row.log_id, timeline: row.timeline };
    Ok((Page { tag, last, leaf: leaf(row.leaf_hash)?, overthrown }, news))
}

/// The last position of the page after `after`, whatever its events say.
async fn last_of_page(connection: &mut PgConnection, after: Position) -> Result<Position, ReadError> {
    let positions = sqlx::query_scalar!(
        "select position from event where position > $1 order by position limit $2",
        after.0,
        PAGE_EVENTS,
    )
    .fetch_all(connection)
    .await?;
    let mut last = after;
    for position in positions.into_iter().map(Position) {
        if position != last.next() {
            return Err(ReadError::Gap { missing: last.next(), found: position });
        }
        last = position;
    }
    Ok(last)
}

/// R9: takes registrations off the list. Whoever calls it knows that their leases are over, or
/// has dropped them.
pub(crate) async fn remove(connection: &mut PgConnection, replicas: &[Uuid]) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    move_epoch(&mut transaction).await?;
    sqlx::query!("delete from replica where id = any($1)", replicas).execute(&mut *transaction).await?;
    transaction.commit().await
}

/// Registrations that cannot be renewed any more.
#[derive(Debug, Default)]
pub(crate) struct Marked {
    pub ids: Vec<Uuid>,
    /// The longest Δ among them; of those who did not tell, the longest there may be.
    pub lease: Duration,
}

/// R9: marks registrations that were not renewed for `silence` as leaving, and names them together
/// with those that somebody else has marked and may have forgotten.
pub(crate) async fn mark_silent(
    connection: &mut PgConnection,
    silence: Duration,
) -> Result<Marked, sqlx::Error> {
    let silence = PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(silence.as_micros()).unwrap_or(i64::MAX),
    };
    let found = sqlx::query_scalar!(
        "select id from replica where leaving or renewed_at < clock_timestamp() - $1::interval",
        silence,
    )
    .fetch_all(&mut *connection)
    .await?;
    if found.is_empty() {
        // The rule. The head's lock is not taken for it.
        return Ok(Marked::default());
    }
    let mut transaction = connection.begin().await?;
    move_epoch(&mut transaction).await?;
    // Whoever renewed meanwhile is not silent.
    let rows = sqlx::query!(
        r#"update replica set leaving = true
            where id = any($1) and (leaving or renewed_at < clock_timestamp() - $2::interval)
           returning id, coalesce(lease_ms, $3) as "lease_ms!""#,
        &found,
        silence,
        whole_milliseconds(LEASE_MAX),
    )
    .fetch_all(&mut *transaction)
    .await?;
    transaction.commit().await?;
    let longest = rows.iter().map(|row| row.lease_ms).max().unwrap_or_default();
    Ok(Marked { ids: rows.into_iter().map(|row| row.id).collect(), lease: milliseconds(longest) })
}

/// What a column tells; where it tells nonsense, the longest there may be.
fn milliseconds(count: i64) -> Duration {
    u64::try_from(count).map_or(LEASE_MAX, Duration::from_millis)
}

fn whole_milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
