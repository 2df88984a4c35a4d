//! What follows the log. The implementations live in the room above.

use async_trait::async_trait;
use sqlx::PgConnection;
use tally_events::Recorded;

/// Tables that are a fold of the log.
///
/// The same code runs inline (in the committer's transaction), behind the log, and in a rebuild or
/// a verification. Those two shadow the tables by schema, so statements name tables unqualified.
#[async_trait]
pub trait Projection: Send + Sync {
    /// As stored in `projection.name`.
    fn name(&self) -> &'static str;

    /// Raise it when the same events make other rows: the tables are then rebuilt.
    fn version(&self) -> i32;

    /// The tables this projection alone writes.
    fn tables(&self) -> &'static [&'static str];

    /// The constraints by which `apply` finds the rows it changes. Empty tables that are about to be
    /// filled get these first, and every other index when they are full. None: rows are only added.
    fn keys(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether verdicts on credentials are read from it, which replicas remember.
    fn makes_verdicts(&self) -> bool {
        false
    }

    /// Folds a run of events, contiguous and in order, in a few set-wise statements.
    async fn apply(&self, connection: &mut PgConnection, events: &[Recorded]) -> Result<(), sqlx::Error>;
}
