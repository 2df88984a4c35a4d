//! The Merkle leaf of an event, frozen from the first event on.
//!
//! `SHA-256(0x00 || encoding)`, the leaf hash of RFC 6962 section 2.1. The encoding, in order:
//!
//! | field | form |
//! |---|---|
//! | encoding version | 1 byte, `0x01` |
//! | position | 8 bytes, big endian |
//! | stream id | 16 bytes |
//! | stream version | 8 bytes, big endian |
//! | name | 2 bytes length, big endian, then UTF-8 |
//! | schema version | 2 bytes, big endian |
//! | workspace id | optional |
//! | actor kind | 2 bytes length, big endian, then UTF-8 |
//! | actor id, credential id, request id | optional, each |
//! | causation | 16 bytes |
//! | recorded at | 8 bytes, big endian, microseconds since 1970 |
//! | payload | SHA-256 of the stored bytes, 32 bytes |
//!
//! *Optional* is one byte, `0x00` absent or `0x01` present, then 16 bytes, all zero when absent.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::recorded::Stored;

const ENCODING_VERSION: u8 = 1;
const LEAF_PREFIX: u8 = 0;

/// The encoding that is hashed.
#[must_use]
pub fn encode(row: &Stored) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.push(ENCODING_VERSION);
    out.extend(row.position.0.to_be_bytes());
    out.extend(row.stream_id.as_bytes());
    out.extend(row.stream_version.0.to_be_bytes());
    text(&mut out, &row.name);
    out.extend(row.schema_version.to_be_bytes());
    optional(&mut out, row.workspace_id);
    text(&mut out, &row.actor_kind);
    optional(&mut out, row.actor_id);
    optional(&mut out, row.credential_id);
    optional(&mut out, row.request_id);
    out.extend(row.causation.as_bytes());
    out.extend(row.recorded_at.timestamp_micros().to_be_bytes());
    out.extend(Sha256::digest(row.payload.as_bytes()));
    out
}

/// The leaf hash of a row.
#[must_use]
pub fn hash(row: &Stored) -> [u8; 32] {
    Sha256::new().chain_update([LEAF_PREFIX]).chain_update(encode(row)).finalize().into()
}

fn text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("names in the log are far below 64 KiB");
    out.extend(length.to_be_bytes());
    out.extend(text.as_bytes());
}

fn optional(out: &mut Vec<u8>, id: Option<Uuid>) {
    out.push(u8::from(id.is_some()));
    out.extend(id.unwrap_or_default().as_bytes());
}
