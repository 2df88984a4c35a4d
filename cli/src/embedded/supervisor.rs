//! Brings PostgreSQL up, and up again when it dies by itself.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Home;
use super::connection::{self, Refusal};
use super::error::EmbeddedError;
use super::postmaster::Postmaster;

/// How long it may give no answer.
const ANSWER_MAX: Duration = Duration::from_mins(1);

/// How long it may answer that it is starting. Recovery replays the log since the last checkpoint; stopping it half-way
/// would only make the next start as long.
const RECOVERY_MAX: Duration = Duration::from_mins(10);

/// The pause between probes doubles from one to the other, for PostgreSQL logs each that it turns away.
const BETWEEN_PROBES_MIN: Duration = Duration::from_millis(10);
const BETWEEN_PROBES_MAX: Duration = Duration::from_millis(500);
const BETWEEN_PROGRESS_REPORTS: Duration = Duration::from_secs(10);

/// How often a postmaster that ends before it is ready is tried again. Backends of a killed one may hold its shared
/// memory for a moment, and a new one refuses to start beside them.
const ATTEMPTS_MAX: u32 = 6;
const BETWEEN_ATTEMPTS_MIN: Duration = Duration::from_millis(100);

/// The pause before a restart doubles from one to the other while PostgreSQL keeps dying.
const RESTART_PAUSE_MIN: Duration = Duration::from_millis(100);
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(30);

/// After so long a life a death counts as the first.
const STABLE_AFTER: Duration = Duration::from_mins(1);

enum Outcome {
    Ready,
    Ended { status: String },
}

/// Leaves a PostgreSQL in `slot` that answers and has the database `tally`: the one running already, or a new one. On
/// failure the slot holds what there is to stop, if anything.
pub(super) async fn bring_up(home: &Home, slot: &mut Option<Postmaster>) -> Result<(), EmbeddedError> {
    let log = home.data_dir.log();
    let began = Instant::now();
    let mut attempt = 1;
    loop {
        let log_start = log.length();
        let postmaster = match Postmaster::survivor(home) {
            Some(survivor) => slot.insert(survivor),
            None => slot.insert(Postmaster::spawn(home).await?),
        };
        match wait_ready(home, postmaster, began).await? {
            Outcome::Ready => {
                postmaster.adopt();
                return connection::ensure_database(&home.options).await;
            }
            Outcome::Ended { .. } if postmaster.is_survivor() => {} // it was on its way down: now there is room
            Outcome::Ended { status } if attempt == ATTEMPTS_MAX => {
                let tail = log.since(log_start);
                return Err(EmbeddedError::Ended { status, log: log.path().to_owned(), tail });
            }
            Outcome::Ended { status } => {
                tracing::warn!(%status, attempt, "PostgreSQL ended before it was ready, trying again");
                tokio::time::sleep(BETWEEN_ATTEMPTS_MIN * 2_u32.pow(attempt - 1)).await;
                attempt += 1;
            }
        }
    }
}

async fn wait_ready(
    home: &Home,
    postmaster: &mut Postmaster,
    began: Instant,
) -> Result<Outcome, EmbeddedError> {
    let options = connection::maintenance(&home.options);
    let mut pause = BETWEEN_PROBES_MIN;
    let mut report_after = BETWEEN_PROGRESS_REPORTS;
    loop {
        let answer = tokio::select! {
            status = postmaster.ended() => return Ok(Outcome::Ended { status }),
            answer = connection::probe(&options) => answer,
        };
        let Err(Refusal { reason, is_starting }) = answer else { return Ok(Outcome::Ready) };
        let waited = began.elapsed();
        if waited > if is_starting { RECOVERY_MAX } else { ANSWER_MAX } {
            return Err(EmbeddedError::NotReady {
                pid: postmaster.pid(),
                seconds: waited.as_secs(),
                refusal: reason,
                log: home.data_dir.log().path().to_owned(),
            });
        }
        if waited > report_after {
            tracing::info!(postmaster.pid = postmaster.pid(), %reason, "still waiting for PostgreSQL");
            report_after += BETWEEN_PROGRESS_REPORTS;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(BETWEEN_PROBES_MAX);
    }
}

/// Keeps PostgreSQL up until told to stop, which it also is when the other end of `stop` is dropped.
pub(super) async fn supervise(
    home: Home,
    mut slot: Option<Postmaster>,
    mut stop: oneshot::Receiver<()>,
) -> Result<(), EmbeddedError> {
    let mut pause = RESTART_PAUSE_MIN;
    while let Some(postmaster) = &mut slot {
        let up_since = Instant::now();
        tokio::select! {
            _ = &mut stop => break,
            status = postmaster.ended() => {
                tracing::error!(postmaster.pid = postmaster.pid(), %status, "PostgreSQL ended by itself");
            }
        }
        if up_since.elapsed() > STABLE_AFTER {
            pause = RESTART_PAUSE_MIN;
        }
        tokio::select! {
            _ = &mut stop => break,
            () = restart(&home, &mut slot, &mut pause) => {}
        }
    }
    if let Some(postmaster) = &mut slot {
        postmaster.shut_down().await?;
    }
    home.data_dir.remove_socket_dir();
    Ok(())
}

/// Tries until it is up again: there is nobody here to give up to, and the cure may come from outside (disk space).
async fn restart(home: &Home, slot: &mut Option<Postmaster>, pause: &mut Duration) {
    loop {
        tokio::time::sleep(*pause).await;
        *pause = (*pause * 2).min(RESTART_PAUSE_MAX);
        match bring_up(home, slot).await {
            Ok(()) => return tracing::info!("PostgreSQL is up again"),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "PostgreSQL could not be started again"
                );
                tidy_up(home, slot).await;
            }
        }
    }
}

/// Stops what a failed attempt left, if it is ours to stop: the failure is what there is to tell.
pub(super) async fn tidy_up(home: &Home, slot: &mut Option<Postmaster>) {
    if let Some(mut postmaster) = slot.take()
        && let Err(error) = postmaster.shut_down().await
    {
        tracing::error!(%error, log = %home.data_dir.log().path().display(), "PostgreSQL could not be stopped");
    }
}
