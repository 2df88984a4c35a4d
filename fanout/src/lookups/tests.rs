use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{DateTime, Utc};
use tally_domain::{PersonCredential, Verdict, credential::CredentialKind};
use tally_events::{Position, SessionId, TokenId, UserId};
use tokio::{sync::Semaphore, time::sleep};
use uuid::Uuid;

use super::*;
use crate::protocol::{Mono, RenewalAnswer, ReplicaId, Tag, Timing};

const TIMING: Timing = Timing {
    lease: Duration::from_secs(1),
    lease_max: Duration::from_secs(1),
    drift: Duration::from_millis(50),
};

fn token(number: u8) -> Presented {
    Presented::Token(CredentialHash([number; 32]))
}

/// A database in which all credentials are good, or none. A statement reads when it is sent, and is
/// answered when allowed.
struct Database {
    revoked: Mutex<bool>,
    sent: AtomicUsize,
    asked: Mutex<Vec<Vec<CredentialHash>>>,
    /// Answers that it may still give.
    answers: Semaphore,
}

impl Database {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            revoked: Mutex::default(),
            sent: AtomicUsize::new(0),
            asked: Mutex::default(),
            answers: Semaphore::new(0),
        })
    }

    fn lookups(self: &Arc<Self>, flights_max: usize, deadline: Duration) -> Arc<Lookups> {
        self.lookups_of(Machine::observer(TIMING), flights_max, deadline)
    }

    fn lookups_of(
        self: &Arc<Self>,
        machine: Machine,
        flights_max: usize,
        deadline: Duration,
    ) -> Arc<Lookups> {
        let database = self.clone();
        let look: Look = Box::new(move |presented| {
            let database = database.clone();
            Box::pin(async move {
                let revoked = *database.revoked.lock();
                database.asked.lock().push(presented.iter().map(Presented::hash).collect());
                database.sent.fetch_add(1, Ordering::SeqCst);
                database.answers.acquire().await.expect("it is never closed").forget();
                Ok(presented.iter().map(|presented| found(presented, revoked)).collect())
            })
        });
        Arc::new(Lookups::new(look, Arc::new(RwLock::new(machine)), flights_max, deadline))
    }

    async fn until_sent(&self, statements: usize) {
        while self.sent.load(Ordering::SeqCst) < statements {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Everybody's own answer: the id is made of the hash.
fn found(presented: &Presented, revoked: bool) -> Found {
    let id = Uuid::from_u128(presented.hash().0[0].into());
    let credential = match presented {
        Presented::Token(_) => PersonCredential::PersonalAccessToken { id: TokenId(id), expires_at: None },
        Presented::Session { .. } => {
            PersonCredential::Session { id: SessionId(id), expires_at: DateTime::<Utc>::MAX_UTC }
        }
    };
    let live = Standing::Live(Verdict::person(UserId(Uuid::nil()), credential));
    Found { position: Position(1), standing: if revoked { Standing::Invalid } else { live } }
}

fn ask(lookups: &Arc<Lookups>, presented: Presented) -> tokio::task::JoinHandle<Landed> {
    let lookups = lookups.clone();
    tokio::spawn(async move { lookups.find(presented).await })
}

/// Until this many requests wait at the gate.
async fn until_waiting(lookups: &Lookups, requests: usize) {
    let waiting = || lookups.gate.lock().waiting.values().map(|held| held.answers.len()).sum::<usize>();
    while waiting() < requests {
        sleep(Duration::from_millis(1)).await;
    }
}

/// R5: the statement that is in the air read before the revocation; a request that arrived after it
/// must not be answered by it.
#[tokio::test]
async fn a_request_never_joins_a_flight_that_started_before_it_arrived() {
    let database = Database::new();
    let lookups = database.lookups(1, Duration::from_secs(5));
    let first = ask(&lookups, token(7));
    database.until_sent(1).await;
    *database.revoked.lock() = true;
    let late = ask(&lookups, token(7));
    until_waiting(&lookups, 1).await;
    database.answers.add_permits(1);
    assert!(matches!(first.await.unwrap().unwrap().standing, Standing::Live(_)));
    database.until_sent(2).await;
    database.answers.add_permits(1);
    assert_eq!(late.await.unwrap().unwrap().standing, Standing::Invalid);
}

/// A connection to a server that was deposed reads what was so before this replica's last news.
#[tokio::test]
async fn what_was_read_below_what_is_applied_is_no_answer() {
    let replica = ReplicaId(Uuid::from_u128(1));
    for (head, answers) in [(1, true), (2, false)] {
        let mut machine = Machine::new(TIMING, 10, 1);
        machine.registered(replica);
        let renewal = machine.renewal_sent(Mono(0)).unwrap();
        let tag = Tag { log_id: Uuid::nil(), timeline: "00000001".to_owned() };
        let head = RenewalAnswer {
            tag,
            head: Position(head),
            leaf_at_applied: None,
            leaf_at_head: Some([1; 32]),
            database_time: DateTime::UNIX_EPOCH,
        };
        machine.renewal_answered(&renewal, Some(head), Mono(0));
        let database = Database::new();
        database.answers.add_permits(1);
        let lookups = database.lookups_of(machine, 1, Duration::from_secs(5));
        assert_eq!(lookups.find(token(7)).await.is_some(), answers);
    }
}

/// One statement for all who wait, each asked for once, and to each their own answer.
#[tokio::test]
async fn a_crowd_shares_the_next_flight() {
    let database = Database::new();
    let lookups = database.lookups(1, Duration::from_secs(5));
    let first = ask(&lookups, token(7));
    database.until_sent(1).await;
    let crowd: Vec<_> = (0..60).map(|number| (number % 6, ask(&lookups, token(number % 6)))).collect();
    until_waiting(&lookups, 60).await;
    database.answers.add_permits(1);
    first.await.unwrap().unwrap();
    database.until_sent(2).await;
    database.answers.add_permits(1);
    for (number, passenger) in crowd {
        assert_eq!(passenger.await.unwrap(), Some(found(&token(number), false)));
    }
    let mut asked = database.asked.lock()[1].clone();
    asked.sort_unstable_by_key(|hash| hash.0);
    assert_eq!(asked, (0..6).map(|number| token(number).hash()).collect::<Vec<_>>());
    assert_eq!(database.sent.load(Ordering::SeqCst), 2);
    until_landed(&lookups).await;
}

/// Whoever does not fit waits for the flight after.
#[tokio::test]
async fn a_flight_carries_no_more_than_it_holds() {
    let database = Database::new();
    let lookups = database.lookups(1, Duration::from_secs(5));
    let first = ask(&lookups, token(7));
    database.until_sent(1).await;
    let numbered = |number: usize| {
        let mut hash = [0; 32];
        hash[1..9].copy_from_slice(&number.to_ne_bytes());
        Presented::Token(CredentialHash(hash))
    };
    let crowd: Vec<_> = (0..=PASSENGERS_MAX).map(|number| ask(&lookups, numbered(number))).collect();
    until_waiting(&lookups, PASSENGERS_MAX + 1).await;
    for flight in 1..=3 {
        database.until_sent(flight).await;
        database.answers.add_permits(1);
    }
    first.await.unwrap().unwrap();
    for passenger in crowd {
        assert!(passenger.await.unwrap().is_some());
    }
    let carried: Vec<usize> = database.asked.lock().iter().map(Vec::len).collect();
    assert_eq!(carried, [1, PASSENGERS_MAX, 1]);
    until_landed(&lookups).await;
}

/// Until no flight is in the air, and nobody waits.
async fn until_landed(lookups: &Lookups) {
    while lookups.gate.lock().flights > 0 {
        sleep(Duration::from_millis(1)).await;
    }
    assert!(lookups.gate.lock().waiting.is_empty());
}

#[tokio::test]
async fn no_more_statements_are_sent_than_allowed() {
    let database = Database::new();
    let lookups = database.lookups(2, Duration::from_secs(5));
    let mut all = Vec::new();
    for number in 1..=2 {
        all.push(ask(&lookups, token(number)));
        database.until_sent(number.into()).await;
    }
    all.extend((3..8).map(|number| ask(&lookups, token(number))));
    until_waiting(&lookups, 5).await;
    assert_eq!(database.sent.load(Ordering::SeqCst), 2);
    database.answers.add_permits(1);
    database.until_sent(3).await;
    database.answers.add_permits(2);
    for asked in all {
        assert!(asked.await.unwrap().is_some());
    }
    assert_eq!(database.sent.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_silent_database_is_no_answer_and_blocks_nobody_for_ever() {
    let database = Database::new();
    let lookups = database.lookups(1, Duration::from_millis(500));
    assert!(ask(&lookups, token(7)).await.unwrap().is_none());
    assert!(ask(&lookups, token(7)).await.unwrap().is_none());
    until_landed(&lookups).await;
    let sent = database.sent.load(Ordering::SeqCst);
    // The database is back.
    let asked = ask(&lookups, token(8));
    database.until_sent(sent + 1).await;
    database.answers.add_permits(1);
    assert!(asked.await.unwrap().is_some());
}

/// A passenger that leaves takes nobody's answer along, and is not asked for when nobody else waits.
#[tokio::test]
async fn a_request_that_goes_away_does_not_end_the_flight() {
    let database = Database::new();
    let lookups = database.lookups(1, Duration::from_secs(5));
    let first = ask(&lookups, token(7));
    database.until_sent(1).await;
    let (leaves, stays, alone) = (ask(&lookups, token(7)), ask(&lookups, token(7)), ask(&lookups, token(8)));
    until_waiting(&lookups, 3).await;
    for leaver in [leaves, alone, first] {
        leaver.abort();
        drop(leaver.await);
    }
    database.answers.add_permits(1);
    database.until_sent(2).await;
    database.answers.add_permits(1);
    assert!(stays.await.unwrap().is_some());
    assert_eq!(database.asked.lock()[1], [token(7).hash()]);
}

/// A JWT that names another person or another kind than its session does was not made here, and is not
/// remembered.
#[tokio::test]
async fn a_session_is_good_for_the_person_and_of_the_kind_its_jwt_names() {
    let database = Database::new();
    let lookups = database.lookups(1, Duration::from_secs(5));
    let shown = |number, user, kind| Presented::Session {
        hash: CredentialHash([number; 32]),
        id: SessionId(Uuid::nil()),
        user: UserId(user),
        kind,
        expires_at: DateTime::<Utc>::MAX_UTC,
    };
    let ours = ask(&lookups, shown(1, Uuid::nil(), CredentialKind::Session));
    database.until_sent(1).await;
    database.answers.add_permits(1);
    assert!(matches!(ours.await.unwrap().unwrap().standing, Standing::Live(_)));
    for (number, forged) in [
        (2, shown(2, Uuid::max(), CredentialKind::Session)),
        (3, shown(3, Uuid::nil(), CredentialKind::ConsoleSession)),
    ] {
        let forged = ask(&lookups, forged);
        database.until_sent(number).await;
        database.answers.add_permits(1);
        assert_eq!(forged.await.unwrap().unwrap().standing, Standing::Invalid);
    }
}
