//! What becomes of letters, on a clock that does not wait.

use std::collections::VecDeque;

use async_trait::async_trait;
use tally_domain::{
    EmailAddress,
    login::{Digits, IssuedCode},
};
use tally_events::{CodeId, LoginId};
use tokio::time::sleep_until;

use super::*;
use crate::mail::{Mail, resend::ResendSettings, transport::Failure};

/// How one attempt ends.
#[derive(Clone, Copy)]
enum End {
    Taken,
    Fails(FailureKind),
    InDoubt(FailureKind),
    /// It takes as long as it may.
    Hangs,
    /// It takes so many seconds.
    Takes(u64),
}

use End::{Fails, Hangs, InDoubt, Taken, Takes};
use FailureKind::{Rejected, Unreachable, Unwelcome};

/// The other side, which does as it was told, and then always the last thing.
#[derive(Default)]
struct Script {
    ends: Mutex<VecDeque<End>>,
    attempts: Mutex<Vec<Instant>>,
    now: Mutex<(usize, usize)>,
}

#[async_trait]
impl Transport for Arc<Script> {
    async fn deliver(&self, _: &Message, until: Instant) -> Result<(), Failure> {
        self.attempts.lock().push(Instant::now());
        let end = {
            let mut ends = self.ends.lock();
            if ends.len() > 1 { ends.pop_front().unwrap() } else { ends[0] }
        };
        {
            let (running, most) = &mut *self.now.lock();
            *running += 1;
            *most = (*most).max(*running);
        }
        let outcome = match end {
            Taken => Ok(()),
            Fails(kind) => Err(Failure::new(kind, "as told")),
            InDoubt(kind) => Err(Failure::in_doubt(kind, "as told")),
            Hangs => {
                sleep_until(until).await;
                Err(Failure::new(Unreachable, "too slow"))
            }
            Takes(seconds) => {
                sleep(Duration::from_secs(seconds)).await;
                Ok(())
            }
        };
        self.now.lock().0 -= 1;
        outcome
    }
}

struct Stage {
    outbox: Outbox,
    script: Arc<Script>,
    undeliverable: Arc<Mutex<Vec<(IssuedCode, Instant)>>>,
    began: Instant,
}

const ISSUED: IssuedCode =
    IssuedCode { login: LoginId(uuid::Uuid::nil()), code: CodeId(uuid::Uuid::nil()), user: None };

impl Stage {
    fn new(ends: &[End]) -> Self {
        let script =
            Arc::new(Script { ends: Mutex::new(ends.iter().copied().collect()), ..Script::default() });
        let undeliverable = Arc::new(Mutex::new(Vec::new()));
        let told = undeliverable.clone();
        let base = url::Url::parse("https://example.org").unwrap();
        let settings = MailSettings {
            carrier: Carrier::Resend(ResendSettings { api_key: String::new().into(), base }),
            sender: "tally@example.org".parse().unwrap(),
            site: Site::of_origin("https://app.example.org"),
            templates: Templates::load(None).unwrap(),
        };
        let declare: Undeliverable = Box::new(move |issued, _| {
            told.lock().push((issued, Instant::now()));
            Box::pin(async {})
        });
        let outbox = Outbox::with(Box::new(script.clone()), settings, Clock::default(), declare);
        Self { outbox, script, undeliverable, began: Instant::now() }
    }

    fn post(&self) {
        let to = EmailAddress::parse("ada@example.org").unwrap();
        let mail = Mail::LoginCode { digits: Digits::new("123456"), issued: ISSUED };
        self.outbox.post(self.outbox.place().ok().unwrap(), Letter { to, mail, request: None });
    }

    /// Posts one letter and waits for its end.
    async fn one(ends: &[End]) -> Self {
        let stage = Self::new(ends);
        stage.post();
        stage.idle().await;
        stage
    }

    async fn idle(&self) {
        self.outbox.stop(Duration::from_hours(1)).await;
    }

    fn attempts(&self) -> usize {
        self.script.attempts.lock().len()
    }

    /// When codes were declared undeliverable.
    fn declared(&self) -> Vec<Duration> {
        self.undeliverable.lock().iter().map(|(_, at)| *at - self.began).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_is_taken_is_tried_once() {
    let stage = Stage::one(&[Taken]).await;
    assert_eq!((stage.attempts(), stage.declared().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_comes_back_gets_the_letter() {
    let stage = Stage::one(&[Fails(Unreachable), Fails(Unreachable), Fails(Unreachable), Taken]).await;
    assert_eq!((stage.attempts(), stage.declared().len()), (4, 0));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stays_away_is_tried_eight_times_and_then_the_code_is_declared_undeliverable() {
    let stage = Stage::one(&[Fails(Unreachable)]).await;
    assert!((7..=8).contains(&stage.attempts()), "{}", stage.attempts());
    let attempts = stage.script.attempts.lock().clone();
    let pauses: Vec<Duration> = attempts.windows(2).map(|two| two[1] - two[0]).collect();
    for (pause, seconds) in pauses.iter().zip(PAUSES_SECONDS) {
        let least = Duration::from_secs(seconds);
        assert!(*pause >= least && *pause <= least.mul_f64(1.2) + Duration::from_millis(2), "{pauses:?}");
    }
    assert_eq!(stage.undeliverable.lock().iter().map(|(code, _)| *code).collect::<Vec<_>>(), [ISSUED]);
    let declared = stage.declared()[0];
    assert!(declared > Duration::from_secs(30) && declared <= DEADLINE, "{declared:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_given_up_at_the_deadline() {
    let stage = Stage::one(&[Hangs]).await;
    assert_eq!(stage.attempts(), 3, "each takes 15 seconds");
    let [declared] = stage.declared()[..] else { panic!("{:?}", stage.declared()) };
    assert!(declared <= DEADLINE + Duration::from_millis(2), "{declared:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_will_not_serve_us_is_tried_three_times() {
    let stage = Stage::one(&[Fails(Unwelcome)]).await;
    assert_eq!((stage.attempts(), stage.declared().len()), (3, 1));
    assert!(stage.declared()[0] < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_is_refused_is_given_up_at_once() {
    let stage = Stage::one(&[Fails(Rejected)]).await;
    assert_eq!((stage.attempts(), stage.declared().len()), (1, 1));
}

/// It may have arrived: the code stays good, and nobody may ask for another at once.
#[tokio::test(start_paused = true)]
async fn a_letter_in_doubt_is_not_declared_undeliverable() {
    let stage = Stage::one(&[InDoubt(Rejected)]).await;
    assert_eq!((stage.attempts(), stage.declared().len()), (1, 0));
    let stage = Stage::one(&[InDoubt(Unreachable), Fails(Rejected)]).await;
    assert_eq!((stage.attempts(), stage.declared().len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn eight_attempts_run_at_once() {
    let stage = Stage::new(&[Takes(1)]);
    for _ in 0..40 {
        stage.post();
    }
    stage.idle().await;
    assert_eq!((stage.attempts(), stage.script.now.lock().1), (40, DELIVERIES));
    assert_eq!(stage.declared().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_gets_no_turn_is_declared_undeliverable_in_time() {
    let stage = Stage::new(&[Takes(100)]);
    for _ in 0..=DELIVERIES {
        stage.post();
    }
    stage.idle().await;
    let [declared] = stage.declared()[..] else { panic!("{:?}", stage.declared()) };
    assert!(declared >= DEADLINE && declared < DEADLINE + Duration::from_secs(1), "{declared:?}");
    assert_eq!(stage.attempts(), DELIVERIES, "it was never tried");
}

#[tokio::test(start_paused = true)]
async fn as_many_letters_as_there_are_places_each_have_their_own_deadline() {
    let stage = Stage::new(&[Hangs]);
    for _ in 0..PLACES {
        stage.post();
    }
    assert!(stage.outbox.place().is_err(), "there is no place for one more");
    stage.idle().await;
    assert_eq!(stage.declared().len(), PLACES);
    assert!(stage.declared().iter().all(|at| *at <= DEADLINE + Duration::from_millis(5)));
    assert!(stage.outbox.place().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_place_that_is_not_used_is_free_again() {
    let stage = Stage::new(&[Taken]);
    let places: Vec<_> = (0..PLACES).map(|_| stage.outbox.place().ok().unwrap()).collect();
    assert!(stage.outbox.place().is_err());
    drop(places);
    assert!(stage.outbox.place().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_letters_under_way() {
    let stage = Stage::new(&[Fails(Unreachable), Takes(2)]);
    stage.post();
    stage.outbox.stop(Duration::from_secs(10)).await;
    assert_eq!((stage.attempts(), stage.declared().len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_server_that_is_away() {
    let stage = Stage::new(&[Fails(Unreachable)]);
    stage.post();
    stage.outbox.stop(Duration::from_secs(10)).await;
    let [declared] = stage.declared()[..] else { panic!("{:?}", stage.declared()) };
    assert!(declared >= Duration::from_secs(10) && declared < Duration::from_secs(11), "{declared:?}");
    assert!(stage.began.elapsed() < Duration::from_secs(11));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_though_an_attempt_does_not() {
    let stage = Stage::new(&[Takes(3600)]);
    stage.post();
    stage.outbox.stop(Duration::from_secs(10)).await;
    assert!(stage.began.elapsed() <= Duration::from_secs(10) + STOP_GRACE + Duration::from_millis(5));
    assert_eq!(stage.declared().len(), 0, "it may yet arrive");
}
