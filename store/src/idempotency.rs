//! A retried command acts once.

use sqlx::PgPool;
use tally_events::Position;
use uuid::Uuid;

/// The key a client sent with a command, and what tells a retry from a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// SHA-256 over principal, route and the client's key.
    pub key: [u8; 32],
    /// SHA-256 of the request body.
    pub fingerprint: [u8; 32],
    /// What the command makes: what a retry is told about.
    pub receipt: Uuid,
}

/// What the first command with the same key left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Earlier {
    pub fingerprint: [u8; 32],
    pub receipt: Uuid,
    pub position: Position,
}

pub(crate) async fn find(pool: &PgPool, key: &[u8; 32]) -> Result<Option<Earlier>, sqlx::Error> {
    let row = sqlx::query!("select fingerprint, receipt, position from idempotency where key = $1", key)
        .fetch_optional(pool)
        .await?;
    Ok(row.map(|row| Earlier {
        // Anything but 32 bytes matches no fingerprint, and so is refused as another body.
        fingerprint: row.fingerprint.try_into().unwrap_or_default(),
        receipt: row.receipt,
        position: Position(row.position),
    }))
}
