//! Loading and folding the streams a command reads, in one statement and so from one snapshot.

use std::collections::{HashMap, hash_map::Entry};

use sqlx::PgPool;
use tally_domain::{World, world::State};
use tally_events::{Position, StreamId, StreamKind, Version};
use uuid::Uuid;

use crate::read::{EventRow, ReadError};

/// After this many events since the last snapshot a stream gets a new one.
const SNAPSHOT_EVERY: i64 = 64;

/// What a command reads, as of one moment.
pub(crate) struct Loaded {
    pub world: World,
    /// The head of the log in the same snapshot.
    pub head: Position,
    pub registry_epoch: i64,
    /// Streams that have grown enough for a new snapshot.
    pub grown: Vec<(StreamId, Version, State)>,
}

pub(crate) async fn load(pool: &PgPool, streams: &[StreamId]) -> Result<Loaded, ReadError> {
    // Each once: a stream that was named twice would be folded twice.
    let mut ids: Vec<Uuid> = streams.iter().map(|stream| stream.uuid()).collect();
    ids.sort_unstable();
    ids.dedup();
    let kinds: HashMap<Uuid, StreamKind> =
        streams.iter().map(|stream| (stream.uuid(), stream.kind())).collect();
    let rows = sqlx::query!(
        r#"select h.position as head, h.registry_epoch, wanted.id as "id!",
                  s.version as "snapshot_version?", s.state::text as "snapshot_state?",
                  e.position as "position?", e.stream_version as "stream_version?", e.name as "name?",
                  e.schema_version as "schema_version?", e.workspace_id, e.actor_kind as "actor_kind?",
                  e.actor_id, e.credential_id, e.request_id, e.causation as "causation?",
                  e.recorded_at as "recorded_at?", e.payload::text as "payload?"
             from log_head h
            cross join unnest($1::uuid[]) as wanted(id)
             left join snapshot s on s.stream_id = wanted.id and s.schema_version = $2
             left join event e on e.stream_id = wanted.id and e.stream_version > coalesce(s.version, 0)
            order by wanted.id, e.stream_version"#,
        &ids,
        State::SNAPSHOT_VERSION,
    )
    .fetch_all(pool)
    .await?;

    let mut folds: HashMap<Uuid, Fold> = HashMap::new();
    let (mut head, mut registry_epoch) = (Position::ZERO, 0);
    for row in rows {
        (head, registry_epoch) = (Position(row.head), row.registry_epoch);
        let stream = kinds[&row.id].stream(row.id);
        let snapshot = row.snapshot_version.zip(row.snapshot_state);
        let fold = match folds.entry(row.id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Fold::start(stream, snapshot)?),
        };
        // The left join yields all of these or none.
        let (Some(position), Some(stream_version), Some(name), Some(schema_version)) =
            (row.position, row.stream_version, row.name, row.schema_version)
        else {
            continue;
        };
        let (Some(actor_kind), Some(causation), Some(recorded_at), Some(payload)) =
            (row.actor_kind, row.causation, row.recorded_at, row.payload)
        else {
            continue;
        };
        fold.apply(EventRow {
            position,
            stream_id: row.id,
            stream_version,
            name,
            schema_version,
            workspace_id: row.workspace_id,
            actor_kind,
            actor_id: row.actor_id,
            credential_id: row.credential_id,
            request_id: row.request_id,
            causation,
            recorded_at,
            payload,
        })?;
    }

    let mut loaded = Loaded { world: World::default(), head, registry_epoch, grown: Vec::new() };
    for fold in folds.into_values() {
        if fold.version.0 - fold.snapshot.0 >= SNAPSHOT_EVERY {
            loaded.grown.push((fold.stream, fold.version, fold.state.clone()));
        }
        loaded.world.insert(fold.stream, fold.version, fold.state);
    }
    Ok(loaded)
}

struct Fold {
    stream: StreamId,
    /// The version the snapshot stood at.
    snapshot: Version,
    version: Version,
    state: State,
}

impl Fold {
    /// An unreadable snapshot is an error: the statement left out the events it stands for.
    fn start(stream: StreamId, snapshot: Option<(i64, String)>) -> Result<Self, ReadError> {
        let (version, state) = match snapshot {
            None => (Version::ZERO, State::initial(stream)),
            Some((version, state)) => {
                let state =
                    serde_json::from_str(&state).map_err(|source| ReadError::Snapshot { stream, source })?;
                (Version(version), state)
            }
        };
        Ok(Self { stream, snapshot: version, version, state })
    }

    fn apply(&mut self, row: EventRow) -> Result<(), ReadError> {
        let position = Position(row.position);
        let stored = tally_events::Stored::from(row);
        let recorded = stored.decode().map_err(|source| ReadError::Decode { position, source })?;
        self.state.evolve(&recorded);
        self.version = recorded.version;
        Ok(())
    }
}

/// Writes snapshots. Losing one costs time, never truth, so a failure is only told.
pub(crate) async fn write_snapshots(pool: &PgPool, grown: Vec<(StreamId, Version, State)>) {
    for (stream, version, state) in grown {
        let Ok(state) = serde_json::value::to_raw_value(&state) else { continue };
        let written = sqlx::query!(
            r#"insert into snapshot (stream_id, version, schema_version, state)
               values ($1, $2, $3, $4::text::json)
               on conflict (stream_id) do update
                  set version = excluded.version, schema_version = excluded.schema_version, state = excluded.state
                where (snapshot.schema_version, snapshot.version) < (excluded.schema_version, excluded.version)"#,
            stream.uuid(),
            version.0,
            State::SNAPSHOT_VERSION,
            state.get(),
        )
        .execute(pool)
        .await;
        if let Err(error) = written {
            tracing::warn!(stream.id = %stream, error = &error as &dyn std::error::Error, "a snapshot was not written");
        }
    }
}
