//! Reading the log in order.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use tally_events::{DecodeError, Position, Recorded, Stored, StreamId, Version};
use uuid::Uuid;

/// The end of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub log_id: Uuid,
    pub position: Position,
    pub inline_version: i32,
}

/// Why the log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the database did not answer")]
    Database(#[from] sqlx::Error),
    #[error("the event at position {position} cannot be read")]
    Decode { position: Position, source: DecodeError },
    #[error("the snapshot of {stream} cannot be read: delete the row, it will be made again")]
    Snapshot { stream: StreamId, source: serde_json::Error },
    /// Positions have no gaps, so this is damage, and no reader may step over it.
    #[error("the log has no event at position {missing}, but has one at {found}")]
    Gap { missing: Position, found: Position },
}

/// The end of the log as of this statement.
///
/// # Errors
/// When the database does not answer.
pub async fn head(executor: impl PgExecutor<'_>) -> Result<Head, sqlx::Error> {
    let row =
        sqlx::query!("select log_id, position, inline_version from log_head").fetch_one(executor).await?;
    Ok(Head { log_id: row.log_id, position: Position(row.position), inline_version: row.inline_version })
}

/// The events after `after`, in order, `limit` at most. Never steps over a missing one.
///
/// # Errors
/// When the database does not answer, or an event is missing or of a newer release.
pub async fn events_after(
    connection: &mut PgConnection,
    after: Position,
    limit: i64,
) -> Result<Vec<Recorded>, ReadError> {
    let rows = sqlx::query_as!(
        EventRow,
        r#"select position, stream_id, stream_version, name, schema_version, workspace_id, actor_kind, actor_id,
                  credential_id, request_id, causation, recorded_at, payload::text as "payload!"
             from event
            where position > $1
            order by position
            limit $2"#,
        after.0,
        limit,
    )
    .fetch_all(connection)
    .await?;
    let mut expected = after;
    let mut events = Vec::with_capacity(rows.len());
    for row in rows {
        expected = expected.next();
        let found = Position(row.position);
        if found != expected {
            return Err(ReadError::Gap { missing: expected, found });
        }
        let stored = Stored::from(row);
        events.push(stored.decode().map_err(|source| ReadError::Decode { position: found, source })?);
    }
    Ok(events)
}

/// The events at these positions, the newest first.
///
/// # Errors
/// When the database does not answer, or an event is of a newer release.
pub async fn events_at(executor: impl PgExecutor<'_>, positions: &[i64]) -> Result<Vec<Recorded>, ReadError> {
    let rows = sqlx::query_as!(
        EventRow,
        r#"select position, stream_id, stream_version, name, schema_version, workspace_id, actor_kind, actor_id,
                  credential_id, request_id, causation, recorded_at, payload::text as "payload!"
             from event
            where position = any($1)
            order by position desc"#,
        positions,
    )
    .fetch_all(executor)
    .await?;
    let decode = |row: EventRow| {
        let position = Position(row.position);
        Stored::from(row).decode().map_err(|source| ReadError::Decode { position, source })
    };
    rows.into_iter().map(decode).collect()
}

/// The last position recorded before `time`; zero when there is none.
///
/// # Errors
/// When the database does not answer.
pub async fn position_at_time(
    executor: impl PgExecutor<'_>,
    time: DateTime<Utc>,
) -> Result<Position, sqlx::Error> {
    let position = sqlx::query_scalar!(
        "select position from event where recorded_at < $1 order by recorded_at desc, position desc limit 1",
        time
    )
    .fetch_optional(executor)
    .await?;
    Ok(Position(position.unwrap_or(0)))
}

/// A row of `event` as the driver reads it.
pub(crate) struct EventRow {
    pub position: i64,
    pub stream_id: Uuid,
    pub stream_version: i64,
    pub name: String,
    pub schema_version: i16,
    pub workspace_id: Option<Uuid>,
    pub actor_kind: String,
    pub actor_id: Option<Uuid>,
    pub credential_id: Option<Uuid>,
    pub request_id: Option<Uuid>,
    pub causation: Uuid,
    pub recorded_at: DateTime<Utc>,
    pub payload: String,
}

impl From<EventRow> for Stored {
    fn from(row: EventRow) -> Self {
        Self {
            position: Position(row.position),
            stream_id: row.stream_id,
            stream_version: Version(row.stream_version),
            name: row.name,
            // Written from a u16 that is far below the limit of either type.
            schema_version: row.schema_version.unsigned_abs(),
            workspace_id: row.workspace_id,
            actor_kind: row.actor_kind,
            actor_id: row.actor_id,
            credential_id: row.credential_id,
            request_id: row.request_id,
            causation: row.causation,
            recorded_at: row.recorded_at,
            payload: row.payload,
        }
    }
}
