//! Letters under way: how many, how often each is tried, and what becomes of a code that nobody got.
//!
//! What is under way is in memory alone: a code has no other place than the mail it is in. So a
//! process that dies takes its letters with it, and whoever waits asks again after a minute.

use std::{mem, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rand::{RngExt, rng};
use tally_fanout::Replica;
use tally_store::Clock;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    Carrier, Full, Letter, MailSettings,
    message::{ComposeError, Message, Sender},
    resend::Resend,
    smtp::Smtp,
    templates::{Site, Templates},
    transport::{FailureKind, Transport},
    undeliverable::{Undeliverable, declare_by},
};
use crate::metrics::METRICS;

/// Letters under way at once.
const PLACES: usize = 1024;
/// Attempts at once, over all letters.
const DELIVERIES: usize = 8;
/// From when a letter is posted. Before the minute is over in which the same address may not ask
/// again, it must be known whether it may.
const DEADLINE: Duration = Duration::from_secs(45);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);
/// Seconds between attempts, each up to a fifth longer so that letters do not march in step: the last
/// attempt begins when most of the deadline is over.
const PAUSES_SECONDS: [u64; 7] = [1, 2, 4, 8, 8, 8, 8];
/// Attempts at a server that is there and will not serve us.
const UNWELCOME_ATTEMPTS_MAX: usize = 3;
/// For attempts under way, and for what must be recorded, once a stop no longer waits for letters.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// A place among the letters under way.
pub struct Place {
    _held: Option<OwnedSemaphorePermit>,
}

impl Place {
    /// Where nothing is under way there is always room.
    pub(super) const fn unlimited() -> Self {
        Self { _held: None }
    }
}

#[derive(Clone)]
pub struct Outbox(Arc<Inner>);

struct Inner {
    transport: Box<dyn Transport>,
    templates: Templates,
    sender: Sender,
    site: Site,
    clock: Clock,
    undeliverable: Undeliverable,
    places: Arc<Semaphore>,
    under_way: Mutex<JoinSet<()>>,
    deliveries: Semaphore,
    /// True once a stop no longer waits for letters.
    hurry: watch::Sender<bool>,
}

/// Why the transport named in the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    #[error("the connection to the mail server cannot be set up")]
    Smtp(#[from] lettre::transport::smtp::Error),
    #[error("the connection to the mail service cannot be set up")]
    Resend(#[from] reqwest::Error),
}

/// What became of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    HandedOver,
    /// The other side will not take it, whatever is tried.
    Refused,
    GivenUp,
    /// It was given away, and nobody said what became of it.
    InDoubt,
}

impl Outcome {
    fn count(self) {
        let mails = match self {
            Self::HandedOver => &METRICS.mails_handed_over,
            Self::Refused => &METRICS.mails_refused,
            Self::GivenUp => &METRICS.mails_given_up,
            Self::InDoubt => &METRICS.mails_in_doubt,
        };
        mails.increment(1);
    }
}

impl Outbox {
    /// # Errors
    /// When what the settings name cannot be used on this machine.
    pub fn start(settings: MailSettings, clock: Clock, replica: Replica) -> Result<Self, MailError> {
        let transport: Box<dyn Transport> = match &settings.carrier {
            Carrier::Smtp(smtp) => Box::new(Smtp::new(smtp)?),
            Carrier::Resend(resend) => Box::new(Resend::new(resend)?),
        };
        Ok(Self::with(transport, settings, clock, declare_by(replica)))
    }

    fn with(
        transport: Box<dyn Transport>,
        MailSettings { sender, site, templates, .. }: MailSettings,
        clock: Clock,
        undeliverable: Undeliverable,
    ) -> Self {
        Self(Arc::new(Inner {
            transport,
            templates,
            sender,
            site,
            clock,
            undeliverable,
            places: Arc::new(Semaphore::new(PLACES)),
            under_way: Mutex::default(),
            deliveries: Semaphore::new(DELIVERIES),
            hurry: watch::Sender::new(false),
        }))
    }

    pub(super) fn place(&self) -> Result<Place, Full> {
        let place = self.0.places.clone().try_acquire_owned();
        place.map(|permit| Place { _held: Some(permit) }).map_err(|_| Full)
    }

    pub(super) fn under_way(&self) -> usize {
        PLACES - self.0.places.available_permits()
    }

    /// Sends a letter on its way and returns.
    pub(super) fn post(&self, place: Place, letter: Letter) {
        let inner = self.0.clone();
        let mut under_way = self.0.under_way.lock();
        while under_way.try_join_next().is_some() {}
        under_way.spawn(async move {
            inner.carry(&letter).await;
            drop(place);
        });
    }

    /// Waits until no letter is under way, `patience` at most; then those that wait for their next
    /// attempt are given up. Nobody posts any more.
    pub async fn stop(&self, patience: Duration) {
        let mut under_way = mem::take(&mut *self.0.under_way.lock());
        if timeout(patience, ended(&mut under_way)).await.is_ok() {
            return;
        }
        self.0.hurry.send_replace(true);
        if timeout(STOP_GRACE, ended(&mut under_way)).await.is_err() {
            let left = under_way.len();
            tracing::warn!(mails = left, "some mails were still under way and may not arrive");
            under_way.shutdown().await;
        }
    }
}

async fn ended(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}

impl Inner {
    /// Sees a letter to its end.
    async fn carry(&self, letter: &Letter) {
        let began = Instant::now();
        let (kind, request_id) = (letter.mail.kind(), letter.request.map(|id| id.to_string()));
        let request_id = request_id.unwrap_or_default();
        let composed = self.compose(letter).inspect_err(|error| {
            let error: &(dyn std::error::Error + 'static) = error;
            tracing::error!(mail.kind = kind, request.id = request_id, error, "a mail cannot be composed");
        });
        let Ok(message) = composed else {
            Outcome::GivenUp.count();
            return self.declare(letter).await;
        };
        let (outcome, attempts) = self.deliver(letter, &message, began + DEADLINE).await;
        let (mail_id, duration_ms) = (message.id.to_string(), began.elapsed().as_millis());
        macro_rules! told {
            ($level:ident, $what:literal) => {
                tracing::$level!(
                    mail.kind = kind,
                    mail.id = mail_id,
                    request.id = request_id,
                    attempts,
                    duration_ms,
                    $what
                )
            };
        }
        match outcome {
            Outcome::HandedOver => told!(info, "a mail was handed over"),
            // An address that somebody mistyped is nothing for the operator to mend.
            Outcome::Refused => told!(warn, "a mail was refused"),
            Outcome::GivenUp => told!(error, "a mail was given up"),
            Outcome::InDoubt => told!(warn, "a mail was given up, and may have arrived all the same"),
        }
        outcome.count();
        match outcome {
            Outcome::Refused | Outcome::GivenUp => self.declare(letter).await,
            // The code may be in somebody's hands: it stays good, and the wait for another one stands.
            Outcome::HandedOver | Outcome::InDoubt => {}
        }
    }

    /// Nobody has the code of this letter, and nobody will.
    async fn declare(&self, letter: &Letter) {
        if let Some(issued) = letter.mail.code() {
            (self.undeliverable)(issued, letter.request).await;
        }
    }

    fn compose(&self, letter: &Letter) -> Result<Message, ComposeError> {
        let rendered = self.templates.render(&letter.mail, &self.site)?;
        Message::new(&self.sender, &letter.to, rendered, self.clock.now())
    }

    /// Tries until it works, is refused, or takes too long: how it ended, after so many attempts.
    async fn deliver(&self, letter: &Letter, message: &Message, deadline: Instant) -> (Outcome, usize) {
        let (mut outcome, mut in_doubt, mut attempts) = (Outcome::GivenUp, false, 0);
        loop {
            let Some(turn) = self.turn(deadline).await else { break };
            attempts += 1;
            let until = deadline.min(Instant::now() + ATTEMPT_TIMEOUT);
            let attempt = self.transport.deliver(message, until).await;
            drop(turn);
            let Err(failure) = attempt else { return (Outcome::HandedOver, attempts) };
            tracing::warn!(
                mail.kind = letter.mail.kind(), mail.id = %message.id, attempt = attempts, cause = %failure,
                "an attempt to hand a mail over failed"
            );
            in_doubt |= failure.may_have_arrived;
            if failure.kind == FailureKind::Rejected {
                outcome = Outcome::Refused;
            }
            let Some(pause) = pause_after(attempts, failure.kind) else { break };
            if !self.pause(pause, deadline).await {
                break;
            }
        }
        (if in_doubt { Outcome::InDoubt } else { outcome }, attempts)
    }

    /// Waits for one of the attempts that may run at once; none: there is no time left for it.
    async fn turn(&self, deadline: Instant) -> Option<SemaphorePermit<'_>> {
        tokio::select! {
            biased;
            turn = timeout_at(deadline, self.deliveries.acquire()) => turn.ok()?.ok(),
            () = self.hurried() => None,
        }
    }

    /// Waits before another attempt; false: there is no time left for it.
    async fn pause(&self, pause: Duration, deadline: Instant) -> bool {
        if Instant::now() + pause >= deadline {
            return false;
        }
        tokio::select! {
            () = sleep(pause) => true,
            () = self.hurried() => false,
        }
    }

    async fn hurried(&self) {
        let mut hurry = self.hurry.subscribe();
        // The sender lives as long as this: there is no error to come.
        drop(hurry.wait_for(|hurry| *hurry).await);
    }
}

/// How long to wait after so many attempts; none: there is no other.
fn pause_after(attempts: usize, kind: FailureKind) -> Option<Duration> {
    let may_go_on = match kind {
        FailureKind::Unreachable => true,
        FailureKind::Unwelcome => attempts < UNWELCOME_ATTEMPTS_MAX,
        FailureKind::Rejected => false,
    };
    let pause = PAUSES_SECONDS.get(attempts - 1).filter(|_| may_go_on)?;
    Some(Duration::from_secs(*pause).mul_f64(rng().random_range(1.0..1.2)))
}

#[cfg(test)]
mod tests;
