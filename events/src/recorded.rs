//! An event with all that is stored about it.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    actor::{Actor, CredentialId},
    event::{DecodeError, Event},
    ids::{CommandId, RequestId, WorkspaceId},
    leaf,
    position::{Position, Version},
    stream::{StreamId, StreamKind},
};

/// What surrounds every event of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub actor: Actor,
    /// The credential the actor used; none at a login door and for the operator.
    pub credential: Option<CredentialId>,
    pub request: Option<RequestId>,
    /// The command that appended it.
    pub causation: CommandId,
}

/// An event as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub position: Position,
    pub stream: StreamId,
    pub version: Version,
    pub event: Event,
    pub workspace: Option<WorkspaceId>,
    pub actor: Actor,
    pub credential_id: Option<Uuid>,
    pub request_id: Option<RequestId>,
    pub causation: CommandId,
    /// Database time, microseconds; never decreases with position.
    pub recorded_at: DateTime<Utc>,
}

/// One row of `event`, column for column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub position: Position,
    pub stream_id: Uuid,
    pub stream_version: Version,
    pub name: String,
    pub schema_version: u16,
    pub workspace_id: Option<Uuid>,
    pub actor_kind: String,
    pub actor_id: Option<Uuid>,
    pub credential_id: Option<Uuid>,
    pub request_id: Option<Uuid>,
    pub causation: Uuid,
    pub recorded_at: DateTime<Utc>,
    /// The exact bytes that were written.
    pub payload: String,
}

impl Recorded {
    /// The row to store. `payload` is [`Event::payload`] of this very event.
    #[must_use]
    pub fn to_stored(&self, payload: String) -> Stored {
        Stored {
            position: self.position,
            stream_id: self.stream.uuid(),
            stream_version: self.version,
            name: self.event.name().to_owned(),
            schema_version: self.event.schema_version(),
            workspace_id: self.workspace.map(Uuid::from),
            actor_kind: self.actor.kind.as_str().to_owned(),
            actor_id: self.actor.id,
            credential_id: self.credential_id,
            request_id: self.request_id.map(Uuid::from),
            causation: self.causation.0,
            recorded_at: self.recorded_at,
            payload,
        }
    }
}

impl Stored {
    /// The RFC 6962 leaf hash of this row.
    #[must_use]
    pub fn leaf_hash(&self) -> [u8; 32] {
        leaf::hash(self)
    }

    /// Reads the row, whatever version wrote it.
    ///
    /// # Errors
    /// Names, versions and actors of a newer release, and rows that are not what was written.
    pub fn decode(self) -> Result<Recorded, DecodeError> {
        let unknown = || DecodeError::UnknownName { name: self.name.clone() };
        let kind = self.name.split('.').next().unwrap_or_default();
        let stream = kind.parse::<StreamKind>().map_err(|_| unknown())?.stream(self.stream_id);
        let actor_kind = self
            .actor_kind
            .parse()
            .map_err(|_| DecodeError::UnknownActor { kind: self.actor_kind.clone() })?;
        let event =
            Event::decode(stream, self.stream_version, &self.name, self.schema_version, &self.payload)?;
        Ok(Recorded {
            position: self.position,
            stream,
            version: self.stream_version,
            event,
            workspace: self.workspace_id.map(WorkspaceId),
            actor: Actor { kind: actor_kind, id: self.actor_id },
            credential_id: self.credential_id,
            request_id: self.request_id.map(RequestId),
            causation: CommandId(self.causation),
            recorded_at: self.recorded_at,
        })
    }
}
