//! Many credentials in one statement: each its own answer, in the order they were asked for.

use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt;
use tally_domain::{PersonCredential, Principal, credential::CredentialHash};
use tally_events::{SessionId, TokenId};
use tally_projections::{
    credentials::{Standing, find_sessions, find_tokens, tokens_below},
    runner::register,
};
use uuid::Uuid;

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

/// The walk that fills a memory judges as the lookup does, whichever page a token is on.
#[tokio::test]
async fn a_walk_from_the_newest_finds_of_every_token_what_a_lookup_finds() {
    let log = Log::new().await;
    let people = log.people(4).await;
    for (change, person) in [("suspended = true", 1), ("credentials_after = 1000000", 2)] {
        log.run(&format!("update users set {change} where id = '{}'", people[person].user)).await;
    }
    let (mut connection, mut below, mut found) = (log.connection().await, TokenId(Uuid::max()), Vec::new());
    loop {
        let page: Vec<_> = tokens_below(&mut connection, below, 3).try_collect().await.unwrap();
        let Some(last) = page.last() else { break };
        below = last.id;
        found.extend(page);
    }
    assert!(found.is_sorted_by(|newer, older| newer.id > older.id));
    let count: i64 =
        sqlx::query_scalar("select count(*) from credentials").fetch_one(&log.pool).await.unwrap();
    assert_eq!(i64::try_from(found.len()).unwrap(), count);
    let hashes: Vec<_> = found.iter().map(|token| token.hash).collect();
    let looked_up = find_tokens(&log.pool, &hashes).await.unwrap();
    assert_eq!(found.into_iter().map(|token| token.found).collect::<Vec<_>>(), looked_up);
    let judged =
        |wanted: fn(&Standing) -> bool| looked_up.iter().filter(|found| wanted(&found.standing)).count();
    assert!(judged(|standing| matches!(standing, Standing::Live(_))) >= 2);
    assert!(judged(|standing| matches!(standing, Standing::Invalid)) >= 2);
    assert!(judged(|standing| matches!(standing, Standing::Suspended)) >= 1);
}

/// An access token is given with a refresh and ends minutes after it, whatever it says of itself.
#[tokio::test]
async fn a_console_session_shows_itself_for_minutes_after_its_last_refresh() {
    let log = Log::new().await;
    let people = log.people(2).await;
    let found = find_sessions(&log.pool, &[people[1].session, people[1].console]).await.unwrap();
    let refreshed_at: DateTime<Utc> = sqlx::query_scalar(
        "select max(recorded_at) from event where stream_id = $1 and name <> 'session.ended'",
    )
    .bind(people[1].console.0)
    .fetch_one(&log.pool)
    .await
    .unwrap();
    let credentials: Vec<_> = found
        .iter()
        .map(|found| match found.standing {
            Standing::Live(verdict) => match verdict.principal {
                Principal::Person { credential, .. } => credential,
                other => panic!("{other:?}"),
            },
            ref other => panic!("{other:?}"),
        })
        .collect();
    assert!(matches!(credentials[0], PersonCredential::Session { id, .. } if id == people[1].session));
    let expires_at = refreshed_at + TimeDelta::minutes(15);
    assert_eq!(credentials[1], PersonCredential::ConsoleSession { id: people[1].console, expires_at });
}

/// Until a newer release takes over writing, the one before writes sessions of the kind it knows; and
/// to start it, or this one, again counts nothing twice.
#[tokio::test]
async fn the_release_before_may_write_sessions_until_a_newer_one_does() {
    let log = Log::new().await;
    let (id, user) = (SessionId::new(), log.people(1).await[0].user);
    sqlx::query(
        "insert into sessions (id, user_id, method, started_at, expires_at, position)
         values ($1, $2, 'email_code', now(), now() + interval '1 day', 1000)",
    )
    .bind(id.0)
    .bind(user.0)
    .execute(&log.pool)
    .await
    .unwrap();
    let found = find_sessions(&log.pool, &[id]).await.unwrap();
    let Standing::Live(verdict) = found[0].standing else { panic!("{found:?}") };
    let Principal::Person { credential, .. } = verdict.principal else { panic!("{verdict:?}") };
    assert!(matches!(credential, PersonCredential::Session { .. }), "{credential:?}");
    register(&log.pool).await.unwrap();
    assert_eq!(log.status("sessions").await.version, 2);
}
