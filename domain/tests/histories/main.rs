//! What holds in every history, not only in the stories somebody thought of.

#![allow(clippy::pedantic, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod liveness;
mod login;
mod refresh;
mod snapshot;

use chrono::{DateTime, Utc};
use tally_domain::world::State;
use tally_events::{Actor, CommandId, Event, Position, Recorded, StreamId, Version};
use uuid::Uuid;

const START: DateTime<Utc> = DateTime::from_timestamp(1_767_225_600, 0).unwrap();

fn recorded(stream: StreamId, event: Event, recorded_at: DateTime<Utc>) -> Recorded {
    Recorded {
        position: Position(1),
        stream,
        version: Version(1),
        event,
        workspace: None,
        actor: Actor::ANONYMOUS,
        credential_id: None,
        request_id: None,
        causation: CommandId(Uuid::nil()),
        recorded_at,
    }
}

/// What a snapshot of this state reads back as.
fn through_a_snapshot(state: &State) -> State {
    serde_json::from_str(&serde_json::to_string(state).unwrap()).unwrap()
}
