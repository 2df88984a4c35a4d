//! Reading one's own writes: how far projections have come, and waiting for them, bounded.

use std::{collections::HashMap, time::Duration};

use axum::http::HeaderMap;
use sqlx::PgPool;
use tally_events::Position;
use tokio::{sync::watch, time::timeout};

use crate::error::ApiError;

const MIN_POSITION: &str = "x-min-position";
/// How long a query waits for the position its client asked for.
const ASKED_WAIT: Duration = Duration::from_secs(5);
/// How long a query waits for what was there when it came, before it answers with what it has.
const ARRIVAL_WAIT: Duration = Duration::from_secs(1);

/// The checkpoints of the projections that follow the log, as their runners tell them.
#[derive(Clone, Default)]
pub struct Freshness(HashMap<&'static str, watch::Receiver<Position>>);

impl Freshness {
    #[must_use]
    pub fn new(checkpoints: impl IntoIterator<Item = (&'static str, watch::Receiver<Position>)>) -> Self {
        Self(checkpoints.into_iter().collect())
    }

    /// How far each has come.
    pub(crate) fn checkpoints(&self) -> impl Iterator<Item = (&'static str, Position)> {
        self.0.iter().map(|(projection, checkpoint)| (*projection, *checkpoint.borrow()))
    }

    /// Waits until `projection` has what its reader may expect, and tells how far it is.
    ///
    /// A client that sent `X-Min-Position` gets that or 503. Any other gets what was in the log
    /// when its request came, if the projection is alive: a list read after a change shows it.
    pub(crate) async fn wait(
        &self,
        pool: &PgPool,
        headers: &HeaderMap,
        projection: &'static str,
    ) -> Result<Position, ApiError> {
        let head = tally_store::head(pool).await?.position;
        let asked = min_position(headers, head)?;
        let Some(checkpoint) = self.0.get(projection) else { return Ok(Position::ZERO) };
        let mut checkpoint = checkpoint.clone();
        let (wanted, patience) = asked.map_or((head, ARRIVAL_WAIT), |asked| (asked, ASKED_WAIT));
        let reached = timeout(patience, checkpoint.wait_for(|position| *position >= wanted)).await;
        if let Ok(Ok(position)) = reached {
            return Ok(*position);
        }
        drop(reached);
        if asked.is_some() { Err(ApiError::unavailable()) } else { Ok(*checkpoint.borrow()) }
    }
}

/// `X-Min-Position`, as annotations name it: a route that has it waits, or looks at it itself.
pub(crate) struct MinPosition;

/// The position a client asks for; a read of inline tables needs no more than this check.
pub(crate) fn min_position(headers: &HeaderMap, head: Position) -> Result<Option<Position>, ApiError> {
    let Some(value) = headers.get(MIN_POSITION) else { return Ok(None) };
    let position =
        value.to_str().ok().and_then(|text| text.parse::<i64>().ok()).filter(|position| *position >= 0);
    let position = position.map(Position).ok_or_else(|| {
        ApiError::bad_request(
            "X-Min-Position must be a log position: a whole number, as X-Log-Position gives it",
        )
    })?;
    if position > head {
        return Err(ApiError::bad_request("X-Min-Position is beyond the head of the log"));
    }
    Ok(Some(position))
}
