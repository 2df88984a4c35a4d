//! An event that cannot be folded stops the projections that follow, visibly, and nothing else.

use std::time::Instant;

use tally_projections::{credentials::Standing, rebuild::rebuild, runner::FoldError};
use tally_tests::eventually;

use crate::support::{Log, all, find_token, live};

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

/// A second minting of a token: its tables have room for one.
async fn second_minting(log: &Log) {
    append(log, "token.minted", "{}", "(select stream_id from event where name = 'token.minted' limit 1)")
        .await;
    log.run(
        "do $$ begin
             set local session_replication_role = replica;
             update event set payload = (select payload from event where name = 'token.minted' limit 1)
              where stream_version = 9999;
         end $$",
    )
    .await;
}

/// Gives an event another name, as no release could.
async fn mend(log: &Log, from: &str, to: &str) {
    log.run(format!(
        "do $$ begin
             set local session_replication_role = replica;
             update event set name = '{to}' where name = '{from}';
         end $$"
    ))
    .await;
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
            let found = find_token(&log.pool, person.hash).await;
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
    mend(&log, "user.exploded", "user.suspended").await;
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
    second_minting(&log).await;
    let poison = log.head().await;
    log.people(2).await;
    let _followers = log.follow();
    let status = halted(&log, "token_list").await;
    assert_eq!(status.position.0, poison - 1);
    assert!(status.halted.is_some_and(|told| told.contains("token_list_pkey")));
    log.caught_up("audit_log").await;
}

/// A rebuild folds what comes before the event it cannot read, names it, and leaves the live tables
/// as they were. It goes on from there when the event can be read.
#[tokio::test]
async fn a_rebuild_stops_just_before_an_event_that_cannot_be_read() {
    let log = Log::new().await;
    log.people(60).await;
    append(&log, "user.exploded", "{}", "gen_random_uuid()").await;
    let poison = log.head().await;
    log.people(60).await;
    let _followers = log.follow();
    halted(&log, "audit_log").await;
    let outcomes = rebuild(&log.options, &all(), |_, _| {}).await;
    assert_eq!(outcomes.len(), all().len());
    for (name, outcome) in outcomes {
        let after = match outcome {
            Err(FoldError::Poison { after, .. }) => after.0,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(after, poison - 1, "{name}");
    }
    let reached = log.texts("select distinct position::text from rebuild.progress").await;
    assert_eq!(reached, [(poison - 1).to_string()]);
    live(&log.store).await.unwrap();
    mend(&log, "user.exploded", "user.suspended").await;
    for (name, outcome) in rebuild(&log.options, &all(), |_, _| {}).await {
        assert!(outcome.is_ok(), "{name}: {outcome:?}");
    }
    log.all_caught_up().await;
    log.assert_all_hold().await;
}

/// What only the tables of some refuse stops the rebuild of those, and the others are rebuilt.
#[tokio::test]
async fn a_rebuild_stops_alone_at_what_only_its_tables_refuse() {
    // A page refuses it, or, where the log is short, the flip.
    for people in [60, 5] {
        let log = Log::new().await;
        log.people(people).await;
        second_minting(&log).await;
        let poison = log.head().await;
        log.people(people).await;
        for (name, outcome) in rebuild(&log.options, &all(), |_, _| {}).await {
            let refuses = ["credentials", "token_list"].contains(&name);
            match outcome {
                Ok(position) => assert!(!refuses && position.0 == log.head().await, "{name}"),
                Err(FoldError::Poison { after, source }) => {
                    assert!(refuses && after.0 == poison - 1, "{name} stopped after {after}: {source}");
                }
                Err(error) => panic!("{name}: {error:?}"),
            }
        }
        assert_eq!(
            log.texts("select name from rebuild.progress order by 1").await,
            ["credentials", "token_list"]
        );
        live(&log.store).await.unwrap();
    }
}

/// While it is halted it does not keep the database busy.
#[tokio::test]
async fn a_halted_projection_is_tried_now_and_then_and_not_with_every_commit() {
    let log = Log::new().await;
    append(&log, "user.exploded", "{}", "gen_random_uuid()").await;
    let _followers = log.follow();
    halted(&log, "audit_log").await;
    // Each try is a transaction that was rolled back; they show within a second or two.
    let tries = async || -> u64 {
        let text = log
            .texts("select xact_rollback::text from pg_stat_database where datname = current_database()")
            .await;
        text[0].parse().unwrap()
    };
    let (before, began) = (tries().await, Instant::now());
    let mut commits = 0;
    let tried = eventually("both projections to be tried four times", async || {
        commits += log.people(16).await.len();
        let tried = tries().await - before;
        (tried >= 8).then_some(tried)
    })
    .await;
    let bound = 2 * (began.elapsed().as_secs() + 2);
    assert!(tried <= bound, "{tried} tries in {:?}, beside {commits} commits", began.elapsed());
    assert!(commits > 20, "{commits} commits say nothing");
}
