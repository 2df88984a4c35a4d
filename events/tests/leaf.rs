//! The leaf encoding is frozen: `golden/leaf.json` was computed by another program, from the table
//! in the documentation of `leaf` alone.

#![allow(clippy::pedantic, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use tally_events::{Position, Version, leaf, recorded::Stored};
use uuid::Uuid;

#[derive(Deserialize)]
struct Vector {
    what: String,
    row: Row,
    encoding: String,
    hash: String,
}

#[derive(Deserialize)]
struct Row {
    position: Position,
    stream_id: Uuid,
    stream_version: Version,
    name: String,
    schema_version: u16,
    workspace_id: Option<Uuid>,
    actor_kind: String,
    actor_id: Option<Uuid>,
    credential_id: Option<Uuid>,
    request_id: Option<Uuid>,
    causation: Uuid,
    recorded_at: DateTime<Utc>,
    payload: String,
}

impl From<Row> for Stored {
    fn from(row: Row) -> Self {
        Self {
            position: row.position,
            stream_id: row.stream_id,
            stream_version: row.stream_version,
            name: row.name,
            schema_version: row.schema_version,
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

type Change = fn(&mut Stored);

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("../golden/leaf.json")).unwrap()
}

#[test]
fn every_vector_has_its_encoding_and_its_hash() {
    let vectors = vectors();
    assert!(vectors.len() >= 5);
    for Vector { what, row, encoding, hash } in vectors {
        let row = Stored::from(row);
        assert_eq!(hex::encode(leaf::encode(&row)), encoding, "{what}");
        assert_eq!(hex::encode(row.leaf_hash()), hash, "{what}");
    }
}

/// An absent id becomes the nil one, a present one goes.
fn another(id: &mut Option<Uuid>) {
    *id = id.is_none().then(Uuid::nil);
}

fn flip(id: &mut Uuid) {
    *id = Uuid::from_u128(id.as_u128() ^ 1);
}

#[test]
fn a_change_of_any_one_column_changes_the_hash() {
    let changes: [(&str, Change); 13] = [
        ("position", |row| row.position = Position(row.position.0 ^ 1)),
        ("stream_id", |row| flip(&mut row.stream_id)),
        ("stream_version", |row| row.stream_version = Version(row.stream_version.0 ^ 1)),
        ("name", |row| row.name.push('x')),
        ("schema_version", |row| row.schema_version ^= 1),
        ("workspace_id", |row| another(&mut row.workspace_id)),
        ("actor_kind", |row| row.actor_kind.push('x')),
        ("actor_id", |row| another(&mut row.actor_id)),
        ("credential_id", |row| another(&mut row.credential_id)),
        ("request_id", |row| another(&mut row.request_id)),
        ("causation", |row| flip(&mut row.causation)),
        ("recorded_at", |row| row.recorded_at -= TimeDelta::microseconds(1)),
        ("payload", |row| row.payload.push(' ')),
    ];
    for vector in vectors() {
        let row = Stored::from(vector.row);
        for (column, change) in changes {
            let mut other = row.clone();
            change(&mut other);
            assert_ne!(other.leaf_hash(), row.leaf_hash(), "{}: {column}", vector.what);
        }
    }
}

/// A column the encoding leaves out could be altered in silence: a new one does not compile here
/// until the test above changes it too.
#[test]
fn two_columns_that_trade_places_change_the_hash() {
    let row = Stored::from(vectors().remove(0).row);
    let Stored {
        position: _,
        stream_id: _,
        stream_version: _,
        name,
        schema_version: _,
        workspace_id,
        actor_kind,
        actor_id,
        credential_id,
        request_id,
        causation: _,
        recorded_at: _,
        payload: _,
    } = row.clone();
    let traded = [
        Stored { name: actor_kind.clone(), actor_kind: name, ..row.clone() },
        Stored { workspace_id: actor_id, actor_id: workspace_id, ..row.clone() },
        Stored { actor_id: credential_id, credential_id: actor_id, ..row.clone() },
        Stored { credential_id: request_id, request_id: credential_id, ..row.clone() },
    ];
    for other in traded {
        assert_ne!(other.leaf_hash(), row.leaf_hash());
    }
}

/// Without the length before each text, both of these would be the same bytes.
#[test]
fn texts_that_differ_only_in_where_one_ends_have_different_hashes() {
    let row = Stored { workspace_id: None, ..vectors().remove(0).row.into() };
    let text = str::to_owned;
    let one = Stored { name: text("ab"), schema_version: 0x6200, actor_kind: text(""), ..row.clone() };
    let other = Stored { name: text("a"), schema_version: 0x6262, actor_kind: text("\0"), ..row };
    assert_ne!(leaf::encode(&one), leaf::encode(&other));
}
