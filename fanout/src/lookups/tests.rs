use std::sync::atomic::{AtomicUsize, Ordering};

use tally_domain::{PersonCredential, Verdict};
use tally_events::{Position, TokenId, UserId};
use tally_projections::credentials::Standing;
use tokio::{sync::Notify, time::sleep};
use uuid::Uuid;

use super::*;

const TOKEN: Presented = Presented::Token(CredentialHash([7; 32]));

/// A database with one credential. A statement reads when it is sent, and is answered when allowed.
#[derive(Default)]
struct Database {
    revoked: Mutex<bool>,
    sent: AtomicUsize,
    answers: Notify,
}

impl Database {
    fn lookups(self: &Arc<Self>, permits: usize, deadline: Duration) -> Arc<Lookups> {
        let database = self.clone();
        let look: Look = Box::new(move |_| {
            let database = database.clone();
            Box::pin(async move {
                let revoked = *database.revoked.lock();
                database.sent.fetch_add(1, Ordering::SeqCst);
                database.answers.notified().await;
                let credential =
                    PersonCredential::PersonalAccessToken { id: TokenId(Uuid::nil()), expires_at: None };
                let live = Standing::Live(Verdict::person(UserId(Uuid::nil()), credential));
                let standing = if revoked { Standing::Invalid } else { live };
                Ok(Found { position: Position(1), standing })
            })
        });
        Arc::new(Lookups::new(look, permits, deadline))
    }

    async fn until_sent(&self, statements: usize) {
        while self.sent.load(Ordering::SeqCst) < statements {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

fn ask(lookups: &Arc<Lookups>, presented: Presented) -> tokio::task::JoinHandle<Landed> {
    let lookups = lookups.clone();
    tokio::spawn(async move { lookups.find(presented, || |_: &Found| ()).await })
}

async fn until_boarded(lookups: &Lookups, passengers: usize) {
    let boarded = || match lookups.flights.lock().get(&TOKEN.hash()) {
        Some(Some(boarding)) => boarding.receiver_count(),
        Some(None) | None => 0,
    };
    while boarded() < passengers {
        sleep(Duration::from_millis(1)).await;
    }
}

/// R5: the statement that is in the air read before the revocation; a request that arrived after it
/// must not be answered by it.
#[tokio::test]
async fn a_request_never_joins_a_flight_that_started_before_it_arrived() {
    let database = Arc::new(Database::default());
    let lookups = database.lookups(4, Duration::from_secs(5));
    let first = ask(&lookups, TOKEN);
    database.until_sent(1).await;
    *database.revoked.lock() = true;
    let late = ask(&lookups, TOKEN);
    until_boarded(&lookups, 1).await;
    database.answers.notify_one();
    assert!(matches!(first.await.unwrap().unwrap().standing, Standing::Live(_)));
    database.until_sent(2).await;
    database.answers.notify_one();
    assert_eq!(late.await.unwrap().unwrap().standing, Standing::Invalid);
}

#[tokio::test]
async fn a_crowd_at_one_credential_shares_the_next_flight() {
    let database = Arc::new(Database::default());
    let lookups = database.lookups(4, Duration::from_secs(5));
    let first = ask(&lookups, TOKEN);
    database.until_sent(1).await;
    let crowd: Vec<_> = (0..50).map(|_| ask(&lookups, TOKEN)).collect();
    until_boarded(&lookups, 50).await;
    database.answers.notify_one();
    first.await.unwrap().unwrap();
    database.until_sent(2).await;
    database.answers.notify_one();
    for passenger in crowd {
        assert!(passenger.await.unwrap().is_some());
    }
    assert_eq!(database.sent.load(Ordering::SeqCst), 2);
    assert!(lookups.flights.lock().is_empty(), "the line ended with the last flight");
}

#[tokio::test]
async fn no_more_statements_are_sent_than_permitted() {
    let database = Arc::new(Database::default());
    let lookups = database.lookups(2, Duration::from_secs(5));
    let all: Vec<_> = (0..5).map(|n| ask(&lookups, Presented::Token(CredentialHash([n; 32])))).collect();
    database.until_sent(2).await;
    // Every task has had its turn by the time the last one waits for a permit.
    while lookups.flights.lock().len() < 5 {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(database.sent.load(Ordering::SeqCst), 2);
    for answered in 1..=5 {
        database.until_sent((answered + 1).min(5)).await;
        database.answers.notify_one();
    }
    for asked in all {
        assert!(asked.await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_silent_database_is_no_answer_and_blocks_nobody_for_ever() {
    let database = Arc::new(Database::default());
    let lookups = database.lookups(1, Duration::from_millis(30));
    assert!(ask(&lookups, TOKEN).await.unwrap().is_none());
    assert!(ask(&lookups, TOKEN).await.unwrap().is_none());
    // Its passengers have left; the database is back.
    database.answers.notify_one();
    database.answers.notified().await;
    let asked = ask(&lookups, Presented::Token(CredentialHash([8; 32])));
    let sent = database.sent.load(Ordering::SeqCst);
    database.until_sent(sent + 1).await;
    database.answers.notify_one();
    assert!(asked.await.unwrap().is_some());
}

/// A passenger that leaves takes nobody's answer along.
#[tokio::test]
async fn a_request_that_goes_away_does_not_end_the_flight() {
    let database = Arc::new(Database::default());
    let lookups = database.lookups(4, Duration::from_secs(5));
    let first = ask(&lookups, TOKEN);
    database.until_sent(1).await;
    let (leaves, stays) = (ask(&lookups, TOKEN), ask(&lookups, TOKEN));
    until_boarded(&lookups, 2).await;
    leaves.abort();
    drop(leaves.await);
    first.abort();
    database.answers.notify_one();
    database.until_sent(2).await;
    database.answers.notify_one();
    assert!(stays.await.unwrap().is_some());
}
