//! Loading and folding the streams a command reads, in one statement and so from one snapshot.

use std::collections::{HashMap, hash_map::Entry};

use sqlx::PgPool;
use tally_domain::{World, world::State};
use tally_events::{Position, Recorded, Stored, StreamId, StreamKind, Subject, Version};
use uuid::Uuid;

use crate::read::{EventRow, ReadError};

/// After this many events since the last snapshot a stream gets a new one.
const SNAPSHOT_EVERY: i64 = 64;

/// A stream, folded.
#[derive(Clone)]
pub(crate) struct Folded {
    pub version: Version,
    /// The version its snapshot stands at; zero without one.
    pub snapshot: Version,
    pub state: State,
}

impl Folded {
    pub(crate) const fn initial(stream: StreamId) -> Self {
        Self { version: Version::ZERO, snapshot: Version::ZERO, state: State::initial(stream) }
    }

    pub(crate) fn evolve(&mut self, recorded: &Recorded) {
        self.state.evolve(recorded);
        self.version = recorded.version;
    }

    /// Whether it is time for a new snapshot.
    pub(crate) const fn has_grown(&self) -> bool {
        self.version.0 - self.snapshot.0 >= SNAPSHOT_EVERY
    }
}

/// The streams a command reads.
pub(crate) type Streams = Vec<(StreamId, Folded)>;

/// The same, as a decision sees them.
pub(crate) fn world(streams: &Streams) -> World {
    let mut world = World::default();
    for (stream, folded) in streams {
        world.insert(*stream, folded.version, folded.state.clone());
    }
    world
}

/// What a command reads, as of one moment.
pub(crate) struct Loaded {
    pub streams: Streams,
    /// The head of the log in the same snapshot.
    pub head: Position,
    /// The wrapped keys of the people whose streams were read, erased ones left out.
    pub keys: HashMap<Subject, Vec<u8>>,
}

pub(crate) async fn load(pool: &PgPool, streams: &[StreamId]) -> Result<Loaded, ReadError> {
    // Each once: a stream that was named twice would be folded twice.
    let mut ids: Vec<Uuid> = streams.iter().map(|stream| stream.uuid()).collect();
    ids.sort_unstable();
    ids.dedup();
    let kinds: HashMap<Uuid, StreamKind> =
        streams.iter().map(|stream| (stream.uuid(), stream.kind())).collect();
    let rows = sqlx::query!(
        r#"select h.position as head, wanted.id as "id!",
                  s.version as "snapshot_version?", s.state::text as "snapshot_state?",
                  e.position as "position?", e.stream_version as "stream_version?", e.name as "name?",
                  e.schema_version as "schema_version?", e.workspace_id, e.actor_kind as "actor_kind?",
                  e.actor_id, e.credential_id, e.request_id, e.causation as "causation?",
                  e.recorded_at as "recorded_at?", e.payload::text as "payload?",
                  (select wrapped from keys.subject where kind = 'user' and id = wanted.id) as "wrapped?"
             from log_head h
            cross join unnest($1::uuid[]) as wanted(id)
             left join snapshot s on s.stream_id = wanted.id and s.schema_version = $2
             left join lateral (
                   select * from event
                    where stream_id = wanted.id and stream_version > coalesce(s.version, 0)) e on true
            where h.one
            order by wanted.id, e.stream_version"#,
        &ids,
        State::SNAPSHOT_VERSION,
    )
    .fetch_all(pool)
    .await?;

    let mut folds: HashMap<Uuid, (StreamId, Folded)> = HashMap::new();
    let mut keys = HashMap::new();
    let mut head = Position::ZERO;
    for row in rows {
        head = Position(row.head);
        let stream = kinds[&row.id].stream(row.id);
        let snapshot = row.snapshot_version.zip(row.snapshot_state);
        let (_, folded) = match folds.entry(row.id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                if let (StreamId::User(user), Some(wrapped)) = (stream, row.wrapped) {
                    keys.insert(Subject::User(user), wrapped);
                }
                entry.insert((stream, start(stream, snapshot)?))
            }
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
        let row = EventRow {
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
        };
        let position = Position(position);
        let recorded = Stored::from(row).decode().map_err(|source| ReadError::Decode { position, source })?;
        folded.evolve(&recorded);
    }
    Ok(Loaded { streams: folds.into_values().collect(), head, keys })
}

/// An unreadable snapshot is an error: the statement left out the events it stands for.
fn start(stream: StreamId, snapshot: Option<(i64, String)>) -> Result<Folded, ReadError> {
    let Some((version, state)) = snapshot else { return Ok(Folded::initial(stream)) };
    let state = serde_json::from_str(&state).map_err(|source| ReadError::Snapshot { stream, source })?;
    Ok(Folded { version: Version(version), snapshot: Version(version), state })
}

/// Writes snapshots. Losing one costs time, never truth, so a failure is only told.
pub(crate) async fn write_snapshots(pool: &PgPool, streams: Streams) {
    for (stream, Folded { version, state, .. }) in streams {
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
