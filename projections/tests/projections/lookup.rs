//! Many credentials in one statement: each its own answer, in the order they were asked for.

use tally_domain::credential::CredentialHash;
use tally_events::SessionId;
use tally_projections::credentials::{Standing, find_sessions, find_tokens};

use crate::support::Log;

#[tokio::test]
async fn each_of_many_gets_its_own_answer() {
    let log = Log::new().await;
    let people = log.people(5).await;
    let nobody = CredentialHash([9; 32]);
    let hashes = [people[3].hash, nobody, people[0].hash, people[4].hash];
    let head = log.head().await;
    let found = find_tokens(&log.pool, &hashes).await.unwrap();
    assert!(found.iter().all(|found| found.position.0 == head));
    let users: Vec<_> = found
        .iter()
        .map(|found| match found.standing {
            Standing::Live(verdict) => verdict.principal.user(),
            Standing::Invalid | Standing::Suspended => None,
        })
        .collect();
    assert_eq!(users, [Some(people[3].user), None, Some(people[0].user), Some(people[4].user)]);

    // Two credentials may show one session.
    let sessions = [people[1].session, SessionId::new(), people[2].session, people[1].session];
    let found = find_sessions(&log.pool, &sessions).await.unwrap();
    let users: Vec<_> = found
        .iter()
        .map(|found| match found.standing {
            Standing::Live(verdict) => verdict.principal.user(),
            Standing::Invalid | Standing::Suspended => None,
        })
        .collect();
    assert_eq!(users, [Some(people[1].user), None, Some(people[2].user), Some(people[1].user)]);
    assert!(found.iter().all(|found| found.position.0 == head));

    assert_eq!(find_tokens(&log.pool, &[nobody]).await.unwrap()[0].standing, Standing::Invalid);
}
