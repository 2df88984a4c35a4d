//! What must be true after a fault, whatever it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::future::join_all;
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tally_tests::{Server, eventually};
use uuid::Uuid;

use super::{
    load::{Person, answers, retry},
    report::Report,
    site::Site,
};
use crate::oracle;

/// How many of each person's credentials are tried after a round; all of them are at the end.
const LATEST: usize = 6;

/// Sends again what had no answer, and then compares everything that anybody was told with the log:
/// what was acknowledged stands, what was revoked is refused, and nothing was done twice.
pub async fn judge(site: &Site, people: Vec<Person>, report: &mut Report) -> Vec<Person> {
    let people = retry(people).await;
    let answers = answers(&people);
    println!("{answers:?}");
    let slowest = people.iter().map(|person| person.told.slowest).max().unwrap_or(Duration::ZERO);
    report.answered(answers.get(&503).copied().unwrap_or(0), slowest);
    let mut connection = site.connect().await;
    let (checked, lost) = lost(&mut connection, &people).await;
    let twice = twice(&mut connection, &people).await;
    connection.close().await.expect("the database answers");
    for finding in lost.iter().chain(&twice) {
        println!("{finding}");
    }
    (report.checked, report.lost, report.twice) = (checked, lost.len(), twice.len());
    assert_refused(&people, LATEST).await;
    people
}

/// How many acknowledgements there were, and those that the log knows nothing of.
async fn lost(connection: &mut PgConnection, people: &[Person]) -> (usize, Vec<String>) {
    let minted = streams_with(connection, "token.minted").await;
    let revoked = streams_with(connection, "token.revoked").await;
    let log: BTreeMap<i64, Option<Uuid>> = sqlx::query_as("select position, request_id from event")
        .fetch_all(connection)
        .await
        .expect("the log can be read")
        .into_iter()
        .collect();
    let (mut checked, mut lost) = (0, Vec::new());
    for told in people.iter().map(|person| &person.told) {
        checked += told.minted.len() + told.revoked.len() + told.written.len();
        lost.extend(
            told.minted.keys().filter(|id| !minted.contains(id)).map(|id| format!("lost: mint {id}")),
        );
        let revocations = told.revoked.iter().filter(|id| !revoked.contains(id));
        lost.extend(revocations.map(|id| format!("lost: revocation {id}")));
        for written in &told.written {
            let stands = match log.get(&written.position) {
                Some(request) => !written.appended || *request == Some(written.request),
                // A log without events has an honest position too.
                None => written.position == 0,
            };
            if !stands {
                lost.push(format!("lost: position {} of request {}", written.position, written.request));
            }
        }
    }
    (checked, lost)
}

async fn streams_with(connection: &mut PgConnection, name: &str) -> BTreeSet<Uuid> {
    sqlx::query_scalar("select stream_id from event where name = $1")
        .bind(name)
        .fetch_all(connection)
        .await
        .expect("the log can be read")
        .into_iter()
        .collect()
}

/// What was done more often than asked for.
async fn twice(connection: &mut PgConnection, people: &[Person]) -> Vec<String> {
    let mut twice: Vec<String> = sqlx::query_scalar(
        "select format('twice: %s of %s', name, stream_id) from event
          where name in ('user.registered', 'session.started', 'session.ended', 'token.minted', 'token.revoked')
          group by name, stream_id having count(*) > 1
         union all
         select format('twice: code %s verified', payload->>'code_id') from event
          where name = 'login.code_verified' group by payload->>'code_id' having count(*) > 1
         union all
         select format('twice: %s by request %s', name, request_id) from event
          where name in ('user.registered', 'session.started', 'token.minted', 'login.code_issued')
            and request_id is not null
          group by name, request_id having count(*) > 1
         union all
         select format('twice: command %s in two transactions', causation) from event
          group by causation having count(distinct xmin::text) > 1
         union all
         select format('twice: an idempotency key stands for %s, which was never minted', receipt)
           from idempotency i
          where not exists (select from event e where e.stream_id = i.receipt and e.name = 'token.minted')",
    )
    .fetch_all(&mut *connection)
    .await
    .expect("the log can be read");
    // Every mint of this load came with a key: one token each, no matter how often it was tried.
    let minted = streams_with(connection, "token.minted").await.len();
    let keys: BTreeSet<&String> = people.iter().flat_map(|person| &person.told.keys).collect();
    let used: i64 = sqlx::query_scalar("select count(*) from idempotency")
        .fetch_one(connection)
        .await
        .expect("the keys can be read");
    let used = usize::try_from(used).expect("a count");
    if minted != used || used < keys.len() {
        twice.push(format!("twice: {minted} tokens by {used} keys, of which {} were answered", keys.len()));
    }
    twice
}

/// Asks the server itself about everybody's latest: revoked stays revoked, ended stays ended, and the
/// rest works.
async fn assert_refused(people: &[Person], latest: usize) {
    let checks = people.iter().map(|person| async {
        for id in person.told.revoked.iter().rev().take(latest) {
            if let Some(token) = person.told.minted.get(id) {
                assert!(!person.accepts(token).await, "a revoked token is accepted: {id}");
            }
        }
        for session in person.told.ended.iter().rev().take(latest) {
            assert!(!person.accepts(session).await, "an ended session is accepted");
        }
        for (id, token) in person.live().iter().rev().take(latest.min(LATEST)) {
            assert!(person.accepts(token).await, "a live token is refused: {id}");
        }
    });
    join_all(checks).await;
}

/// Everything that must be true of the log and its projections at rest.
pub async fn assert_whole(site: &Site, people: &[Person]) {
    assert_refused(people, usize::MAX).await;
    let mut connection = site.connect().await;
    assert_log_whole(&site.server, &mut connection).await;
    connection.close().await.expect("the database answers");
}

/// The same for a database that is reached in another way than the server's.
pub async fn assert_log_whole(server: &Server, connection: &mut PgConnection) {
    eventually("the projections to catch up", async || {
        sqlx::query(
            "select from log_head h where not exists (
                 select from projection p where p.position < h.position or p.halted is not null)",
        )
        .fetch_optional(&mut *connection)
        .await
        .expect("the database answers")
    })
    .await;
    tally_tests::log::assert_sound(connection).await;
    let verified = server.command(&["projections", "verify", "--json"]).output().expect("the command runs");
    let text = String::from_utf8_lossy(&verified.stdout);
    assert!(verified.status.success(), "{text}{}", String::from_utf8_lossy(&verified.stderr));
    let verified: Value = serde_json::from_str(text.trim()).expect("JSON");
    let all = verified["verified"].as_array().expect("a list");
    let known = tally_projections::inline().len() + tally_projections::following().len();
    assert!(all.len() == known && all.iter().all(|projection| projection["holds"] == true), "{verified}");
    // Last, so that its word alone says: the folds agree with themselves and are wrong.
    oracle::assert_agrees(connection).await;
}
