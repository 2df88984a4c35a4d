//! An event that cannot be folded stops the projections that follow, visibly, and nothing else.

use std::time::Duration;

use tally_projections::credentials::{Standing, find_token};
use tally_tests::eventually;

use crate::support::{Log, live};

/// Appends a row as no release of ours would, and moves the head over it.
async fn append(log: &Log, name: &str, payload: &str, stream: &str) {
    let statement = format!(
        "with head as (update log_head set position = position + 1 returning position, recorded_at)
         insert into event (position, stream_id, stream_version, name, schema_version, actor_kind, causation,
                            recorded_at, payload, leaf_hash)
         select position, {stream}, 9999, '{name}', 1, 'operator', gen_random_uuid(), recorded_at, '{payload}', ''
           from head"
    );
    log.run(statement).await;
}

async fn halted(log: &Log, name: &str) -> tally_projections::status::Status {
    eventually("the projection to halt", async || {
        Some(log.status(name).await).filter(|status| status.halted.is_some())
    })
    .await
}

#[tokio::test]
async fn a_poison_event_halts_what_follows_just_before_it_and_nothing_else() {
    for (name, payload, reason) in [
        ("token.exploded", "{}", "no event is named `token.exploded` here"),
        ("spaceship.launched", "{}", "no event is named `spaceship.launched` here"),
        ("token.revoked", "[1,2]", "the payload of `token.revoked` is not what was written"),
        ("token.revoked", "{\"user_id\":7}", "the payload of `token.revoked` is not what was written"),
    ] {
        let log = Log::new().await;
        let before = log.people(5).await;
        append(&log, name, payload, "gen_random_uuid()").await;
        let poison = log.head().await;
        // What comes after it in the same page is there already when it is met.
        let after = log.people(5).await;
        let _followers = log.follow();
        for projection in ["token_list", "audit_log"] {
            let status = halted(&log, projection).await;
            assert_eq!(status.position.0, poison - 1, "all before it is folded, nothing after: {status:?}");
            assert_eq!(status.lag, log.head().await - poison + 1);
            let told = status.halted.unwrap();
            assert!(told.contains(&format!("position {poison}")), "{told}");
            assert!(told.starts_with(&format!("after position {}", poison - 1)), "{told}");
            assert!(told.contains(reason) || told.contains("cannot be read"), "{told}");
        }
        // Commands and authentication go on, for those before and those after.
        let newcomer = live(&log.store).await.unwrap();
        for person in before.iter().chain(&after).chain([&newcomer]) {
            let found = find_token(&log.pool, person.hash).await.unwrap();
            assert!(matches!(found.standing, Standing::Live(_)), "{found:?}");
        }
    }
}

/// A release that can fold it goes on by itself where the other one stopped.
#[tokio::test]
async fn a_halted_projection_goes_on_when_the_event_can_be_folded() {
    let log = Log::new().await;
    log.people(2).await;
    append(&log, "user.exploded", "{}", "gen_random_uuid()").await;
    log.people(2).await;
    let _followers = log.follow();
    halted(&log, "audit_log").await;
    halted(&log, "token_list").await;
    log.run(
        "do $$ begin
             set local session_replication_role = replica;
             update event set name = 'user.suspended' where name = 'user.exploded';
         end $$",
    )
    .await;
    log.all_caught_up().await;
    for projection in tally_projections::following() {
        assert!(log.verified(projection.as_ref()).await.holds());
    }
}

/// A row that one projection's tables refuse stops that one and not the other.
#[tokio::test]
async fn a_projection_halts_alone_at_what_only_it_cannot_fold() {
    let log = Log::new().await;
    log.people(2).await;
    // A second minting of a token: the list has room for one.
    append(&log, "token.minted", "{}", "(select stream_id from event where name = 'token.minted' limit 1)")
        .await;
    log.run(
        "do $$ begin
             set local session_replication_role = replica;
             update event set payload = (select payload from event where name = 'token.minted' limit 1)
              where stream_version = 9999;
         end $$",
    )
    .await;
    let poison = log.head().await;
    log.people(2).await;
    let _followers = log.follow();
    let status = halted(&log, "token_list").await;
    assert_eq!(status.position.0, poison - 1);
    assert!(status.halted.is_some_and(|told| told.contains("token_list_pkey")));
    log.caught_up("audit_log").await;
}

/// While it is halted it does not keep the database busy.
#[tokio::test]
async fn a_halted_projection_is_tried_now_and_then_and_not_with_every_commit() {
    let log = Log::new().await;
    append(&log, "user.exploded", "{}", "gen_random_uuid()").await;
    let _followers = log.follow();
    halted(&log, "audit_log").await;
    // Transactions of this database, committed and rolled back, while 60 commits go by.
    let count = async || -> i64 {
        let text = log
            .texts("select (xact_rollback)::text from pg_stat_database where datname = current_database()")
            .await;
        text[0].parse().unwrap()
    };
    let before = count().await;
    for _ in 0..60 {
        live(&log.store).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let tries = count().await - before;
    assert!(tries <= 40, "{tries} transactions were rolled back beside 60 commits");
}
