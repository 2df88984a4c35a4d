//! Replicas on a real Postgres: revoked means revoked, also while it hangs.

#![allow(clippy::pedantic, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cluster;
mod people;
mod verifier;
mod warm_start;

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use cluster::Cluster;
use people::{Person, Token, log_in, mint_token, revoke, store};
use sqlx::PgPool;
use tally_domain::{
    Principal, authorize,
    credential::{CredentialHash, CredentialKind},
    session::EndSession,
    user::{ReinstateUser, SuspendUser},
};
use tally_events::Position;
use tally_fanout::{By, LEASE_MAX, News, Presented, Replica, ReplicaSettings, RollCall, VerifyError};
use tally_projections::{inline, rebuild::rebuild};
use tally_store::{ExecuteError, Idempotency, RequestContext, Store};
use tokio::{
    sync::broadcast::error::RecvError,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

const BOUND: Duration = Duration::from_millis(1050);

async fn eventually(what: &str, deadline: Duration, holds: impl AsyncFn() -> bool) {
    let until = Instant::now() + deadline;
    while !holds().await {
        assert!(Instant::now() < until, "not within {deadline:?}: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// What these tests ask for is looked up, and nothing is remembered before.
const COLD: ReplicaSettings = ReplicaSettings {
    lease: Duration::from_secs(1),
    drift: Duration::from_millis(50),
    capacity: 1_000_000,
    warm_start: false,
    verify_deadline: Duration::from_secs(2),
};

async fn joined(store: &Arc<Store>) -> Replica {
    let replica = Replica::join(store.clone(), COLD, None);
    eventually("a lease", Duration::from_secs(10), async || replica.status().lease_valid).await;
    replica
}

/// One replica on a database of its own, with somebody who has a token.
struct Alone {
    // Dropped in this order: the replica while its database still answers.
    replica: Replica,
    store: Arc<Store>,
    cluster: Cluster,
    ada: Person,
    token: Token,
}

async fn alone() -> Alone {
    let cluster = Cluster::start().await;
    let store = store(&cluster).await;
    let ada = log_in(&store, "ada@example.org").await;
    let token = mint_token(&store, &ada).await;
    let replica = joined(&store).await;
    Alone { replica, store, cluster, ada, token }
}

/// How many replicas are in the list, and its epoch.
async fn list(pool: &PgPool) -> (i64, i64) {
    sqlx::query_as("select (select count(*) from replica), registry_epoch from log_head")
        .fetch_one(pool)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_yes_is_remembered_and_a_no_is_not() {
    let Alone { replica, store, cluster: _cluster, ada, token } = alone().await;
    assert_eq!(replica.remembered(&token.secret.hash()), None);
    let verdict = replica.verify(&token.presented()).await.unwrap();
    assert_eq!(verdict.principal.user(), Some(ada.user));
    assert_eq!(replica.status().cached, 1);
    assert_eq!(replica.remembered(&token.secret.hash()), Some(verdict));

    let unknown = Presented::Token(CredentialHash([9; 32]));
    assert_eq!(replica.verify(&unknown).await, Err(VerifyError::Invalid));
    assert_eq!(replica.status().cached, 1);

    // A session lasts no longer than the JWT that shows it.
    let now = store.clock().now();
    let shown = |number, expires_at| Presented::Session {
        hash: CredentialHash([number; 32]),
        id: ada.session,
        user: ada.user,
        kind: CredentialKind::Session,
        expires_at,
    };
    let soon = now + TimeDelta::hours(1);
    assert_eq!(replica.verify(&shown(1, soon)).await.unwrap().expires_at(), Some(soon));
    assert_eq!(replica.verify(&shown(2, now)).await, Err(VerifyError::Invalid));
    let later = replica.verify(&shown(3, now + TimeDelta::days(9))).await.unwrap();
    assert!(later.expires_at().unwrap() < now + TimeDelta::days(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_means_no_from_memory_and_from_the_database() {
    let Alone { replica, cluster: _cluster, store, ada, token } = alone().await;
    let other = mint_token(&store, &ada).await;
    replica.verify(&token.presented()).await.unwrap();
    replica.verify(&other.presented()).await.unwrap();

    let command = authorize(ada.principal, revoke(&token)).unwrap();
    let done = replica.execute(&command, RequestContext::default()).await.unwrap();
    assert_eq!(done.executed.outcome, [token.id]);
    let effective = done.effective.unwrap();
    assert!(effective.waited < BOUND + Duration::from_secs(1), "{effective:?}");
    assert_eq!(replica.remembered(&token.secret.hash()), None);
    assert_eq!(replica.verify(&token.presented()).await, Err(VerifyError::Invalid));
    assert!(replica.remembered(&other.secret.hash()).is_some(), "the other token is not touched");

    // "Already so" asserts it too, and by now this replica knows its history for long enough.
    sleep(BOUND).await;
    let again = replica.execute(&command, RequestContext::default()).await.unwrap();
    assert!(!again.executed.appended);
    let effective = again.effective.unwrap();
    assert_eq!(effective.by, By::Acknowledged);
    assert_eq!(effective.roll_call, Some(RollCall { acknowledged: 1, registered: 1 }));
    assert!(effective.waited < BOUND, "{effective:?}");

    // Logging out, and suspending, reach what rests on them.
    let command = authorize(ada.principal, EndSession { session: ada.session, below: Vec::new() }).unwrap();
    let shown = Presented::Session {
        hash: CredentialHash([1; 32]),
        id: ada.session,
        user: ada.user,
        kind: CredentialKind::Session,
        expires_at: store.clock().now() + TimeDelta::hours(1),
    };
    replica.verify(&shown).await.unwrap();
    assert!(replica.execute(&command, RequestContext::default()).await.unwrap().effective.is_some());
    assert_eq!(replica.verify(&shown).await, Err(VerifyError::Invalid));

    let suspend = authorize(Principal::Operator, SuspendUser { user: ada.user }).unwrap();
    assert!(replica.execute(&suspend, RequestContext::default()).await.unwrap().effective.is_some());
    assert_eq!(replica.verify(&other.presented()).await, Err(VerifyError::Suspended));
    let reinstate = authorize(Principal::Operator, ReinstateUser { user: ada.user }).unwrap();
    let done = replica.execute(&reinstate, RequestContext::default()).await.unwrap();
    assert_eq!(done.effective, None, "nothing is revoked by it");
    assert_eq!(
        replica.verify(&other.presented()).await,
        Err(VerifyError::Invalid),
        "dead credentials stay so"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_revocation_waits_as_the_first_did() {
    let Alone { replica: _replica, cluster, ada, token, store: _store } = alone().await;
    // Another process, which cannot know whether the first replica has heard.
    let second = store(&cluster).await;
    let observer = Replica::observer(second.clone(), ReplicaSettings::default());
    let command = authorize(ada.principal, revoke(&token)).unwrap();
    let idempotency = Some(Idempotency { key: [1; 32], fingerprint: [2; 32], receipt: Uuid::nil() });
    let request = RequestContext { request: None, idempotency };
    observer.execute(&command, request).await.unwrap();
    let started = Instant::now();
    let replayed = observer.execute(&command, request).await;
    assert!(matches!(replayed, Err(ExecuteError::Replayed { .. })));
    assert!(started.elapsed() >= BOUND, "after {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_hangs_ends_the_lease_and_the_answers_and_comes_back_by_itself() {
    let Alone { replica, cluster, token, store: _store, .. } = alone().await;
    replica.verify(&token.presented()).await.unwrap();
    cluster.freeze();
    eventually("the lease runs out", Duration::from_secs(2), async || !replica.status().lease_valid).await;
    assert_eq!(replica.status().cached, 1, "it is still there, and may not be used");
    assert_eq!(replica.remembered(&token.secret.hash()), None);
    let asked = Instant::now();
    assert_eq!(replica.verify(&token.presented()).await, Err(VerifyError::Unavailable));
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    cluster.thaw();
    eventually("a lease again", Duration::from_secs(10), async || replica.status().lease_valid).await;
    eventually("verdicts again", Duration::from_secs(10), async || {
        replica.verify(&token.presented()).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_revokes_the_other_refuses_when_the_call_returns() {
    let Alone { replica, cluster, ada, store: first_store, token } = alone().await;
    let second_store = store(&cluster).await;
    let second = joined(&second_store).await;
    assert_eq!(list(second_store.pool()).await.0, 2);
    // For longer than either history is new, so that only the other replica can make it slow.
    sleep(BOUND).await;
    for round in 0..3 {
        let token = if round == 0 { &token } else { &mint_token(&first_store, &ada).await };
        second.verify(&token.presented()).await.unwrap();
        assert!(second.remembered(&token.secret.hash()).is_some());
        let command = authorize(ada.principal, revoke(token)).unwrap();
        let done = replica.execute(&command, RequestContext::default()).await.unwrap();
        assert_eq!(second.remembered(&token.secret.hash()), None);
        assert_eq!(second.verify(&token.presented()).await, Err(VerifyError::Invalid));
        let effective = done.effective.unwrap();
        assert_eq!(effective.by, By::Time);
        assert!(effective.waited >= BOUND && effective.waited < BOUND * 3, "{effective:?}");
    }
    // What the first one wrote reached the second through the log alone.
    let head = replica.applied();
    assert!(second.wait_applied(head, Duration::from_secs(5)).await);
    assert!(!second.wait_applied(Position(head.0 + 1), Duration::from_millis(20)).await);

    // And when the other one has left, nobody waits for it.
    second.leave().await;
    assert_eq!(list(first_store.pool()).await.0, 1);
    assert!(!second.status().lease_valid);
    let last = mint_token(&first_store, &ada).await;
    let command = authorize(ada.principal, revoke(&last)).unwrap();
    let done = replica.execute(&command, RequestContext::default()).await.unwrap();
    assert_eq!(done.effective.unwrap().by, By::Acknowledged);
    assert_eq!(
        second.verify(&last.presented()).await,
        Err(VerifyError::Invalid),
        "it still asks the database"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_is_in_no_list_remembers_nothing_and_waits_only_for_those_who_do() {
    let cluster = Cluster::start().await;
    let store = store(&cluster).await;
    let ada = log_in(&store, "ada@example.org").await;
    let token = mint_token(&store, &ada).await;
    let observer = Replica::observer(store.clone(), ReplicaSettings::default());
    observer.verify(&token.presented()).await.unwrap();
    assert_eq!((observer.status().cached, list(store.pool()).await), (0, (0, 0)));
    let command = authorize(ada.principal, revoke(&token)).unwrap();
    let done = observer.execute(&command, RequestContext::default()).await.unwrap();
    let effective = done.effective.unwrap();
    assert_eq!(effective.by, By::Acknowledged);
    assert!(effective.waited < BOUND, "{effective:?}");

    let serving = joined(&store).await;
    let token = mint_token(&store, &ada).await;
    serving.verify(&token.presented()).await.unwrap();
    let command = authorize(ada.principal, revoke(&token)).unwrap();
    let done = observer.execute(&command, RequestContext::default()).await.unwrap();
    assert_eq!(done.effective.unwrap().by, By::Time);
    assert_eq!(serving.verify(&token.presented()).await, Err(VerifyError::Invalid));
    serving.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_row_is_taken_away_drops_all_and_registers_anew() {
    let Alone { replica, store, cluster: _cluster, token, .. } = alone().await;
    replica.verify(&token.presented()).await.unwrap();
    let (replicas, epoch) = list(store.pool()).await;
    assert_eq!((replicas, epoch), (1, 1));
    sqlx::query("update replica set leaving = true").execute(store.pool()).await.unwrap();
    eventually("it drops its cache", Duration::from_secs(5), async || replica.status().cached == 0).await;
    eventually("a lease again", Duration::from_secs(10), async || replica.status().lease_valid).await;
    // The former row went with the new registration: one change, one epoch.
    assert_eq!(list(store.pool()).await, (1, 2));
    replica.verify(&token.presented()).await.unwrap();
    assert_eq!(replica.status().cached, 1);
}

/// Whoever follows the news hears of every event, or that some are missing, and before any that is later:
/// a hole that nobody tells of may hold the end of what a socket rests on.
#[tokio::test(flavor = "multi_thread")]
async fn the_news_has_no_hole_that_it_does_not_tell_of() {
    let Alone { replica, store: own, cluster, .. } = alone().await;
    let elsewhere = store(&cluster).await;
    let committers: Vec<JoinHandle<()>> = (0..8)
        .map(|_| {
            let elsewhere = elsewhere.clone();
            tokio::spawn(async move {
                loop {
                    log_in(&elsewhere, &format!("{}@example.org", Uuid::new_v4())).await;
                }
            })
        })
        .collect();
    let mut news = replica.news();
    let listener = tokio::spawn(async move {
        let (mut last, mut holes): (Option<Position>, _) = (None, Vec::new());
        loop {
            let heard = match news.recv().await {
                Ok(heard) => heard,
                Err(RecvError::Closed) => return holes,
                Err(RecvError::Lagged(_)) => News::Unknown,
            };
            for position in heard.events().iter().map(|event| event.position) {
                holes.extend(last.filter(|last| position > last.next()).map(|last| (last, position)));
                last = last.max(Some(position));
            }
            if matches!(heard, News::Unknown) {
                last = None;
            }
        }
    });
    for _ in 0..12 {
        sqlx::query("update replica set leaving = true").execute(own.pool()).await.unwrap();
        eventually("it registers anew", Duration::from_secs(10), async || {
            let registered = "select exists (select from replica where not leaving)";
            sqlx::query_scalar(registered).fetch_one(own.pool()).await.unwrap()
                && replica.status().lease_valid
        })
        .await;
    }
    committers.iter().for_each(JoinHandle::abort);
    replica.leave().await;
    drop(replica);
    let holes = timeout(Duration::from_secs(10), listener).await.unwrap().unwrap();
    assert_eq!(holes, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_are_taken_off_the_list_and_the_living_are_not() {
    // Three times as long as that of the one who cleans up, which hangs for all that anybody knows.
    const LEASE: Duration = Duration::from_secs(3);
    let Alone { replica, store, cluster: _cluster, .. } = alone().await;
    let silent = Uuid::new_v4();
    let dead = "insert into replica (id, lease_ms, renewed_at) values ($1, $2, clock_timestamp() - interval '1 hour')";
    let lease_ms = i64::try_from(LEASE.as_millis()).unwrap();
    sqlx::query(dead).bind(silent).bind(lease_ms).execute(store.pool()).await.unwrap();
    let leaving = "select exists (select from replica where leaving)";
    eventually("it is marked", Duration::from_secs(20), async || {
        sqlx::query_scalar(leaving).fetch_one(store.pool()).await.unwrap()
    })
    .await;
    let marked = Instant::now();
    eventually("it is taken off", Duration::from_secs(20), async || list(store.pool()).await.0 == 1).await;
    // It may have been marked a moment before that was seen.
    let waited = marked.elapsed() + Duration::from_secs(1);
    assert!(waited > LEASE, "its lease is over by then: {waited:?}");
    assert!(replica.status().lease_valid);
    // Registered, marked, deleted.
    assert_eq!(list(store.pool()).await.1, 3);
}

/// Whoever is on a list that cannot be read may have been told a longer lease, and may be answering from memory by that.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_cannot_be_read_is_not_one_of_short_leases() {
    const LEASE: Duration = Duration::from_secs(3);
    let Alone { replica, store, cluster: _cluster, ada, token } = alone().await;
    let lease_ms = i64::try_from(LEASE.as_millis()).unwrap();
    let told = "insert into replica (id, lease_ms) values ($1, $2)";
    sqlx::query(told).bind(Uuid::new_v4()).bind(lease_ms).execute(store.pool()).await.unwrap();
    let mut stranger = store.pool().begin().await.unwrap();
    sqlx::query("lock table replica in access exclusive mode").execute(&mut *stranger).await.unwrap();

    let command = authorize(ada.principal, revoke(&token)).unwrap();
    let revoked = tokio::spawn({
        let replica = replica.clone();
        async move { replica.execute(&command, RequestContext::default()).await }
    });
    sleep(BOUND + Duration::from_millis(500)).await;
    assert!(!revoked.is_finished(), "its own lease is over, and nobody knows of the others");
    stranger.rollback().await.unwrap();
    let waited = revoked.await.unwrap().unwrap().effective.unwrap().waited;
    assert!(waited > LEASE && waited < LEASE_MAX, "read at last, the list tells how long: {waited:?}");
}

/// The table said yes to a token that the log had revoked, and a replica remembers that.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_rebuild_has_mended_is_forgotten() {
    let Alone { replica, store, cluster, ada, token } = alone().await;
    let command = authorize(ada.principal, revoke(&token)).unwrap();
    replica.execute(&command, RequestContext::default()).await.unwrap();
    let damage = "update credentials set revoked_at = null where id = $1";
    sqlx::query(damage).bind(token.id.0).execute(store.pool()).await.unwrap();
    replica.verify(&token.presented()).await.unwrap();
    assert!(replica.remembered(&token.secret.hash()).is_some());
    let projections: Vec<_> = inline().into_iter().filter(|projection| projection.makes_verdicts()).collect();
    let names: Vec<_> = projections.iter().map(|projection| projection.name()).collect();
    assert_eq!(names, ["users", "sessions", "credentials"]);
    for (name, outcome) in rebuild(&cluster.options(), &projections, |_, _| {}).await {
        outcome.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    }
    sleep(BOUND).await;
    assert_eq!(replica.remembered(&token.secret.hash()), None);
    assert_eq!(replica.verify(&token.presented()).await, Err(VerifyError::Invalid));
    eventually("it has a lease again", Duration::from_secs(5), async || replica.status().lease_valid).await;
}

/// A newer release writes what this one cannot read. It is followed all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_newer_release_overthrows_everything() {
    let Alone { replica, store, cluster: _cluster, token, .. } = alone().await;
    replica.verify(&token.presented()).await.unwrap();
    let strange = r"with head as (update log_head set position = position + 1 returning position)
         insert into event (position, stream_id, stream_version, name, schema_version, actor_kind,
                            causation, recorded_at, payload, leaf_hash)
         select position, gen_random_uuid(), 1, 'moon.landed', 1, 'operator', gen_random_uuid(),
                clock_timestamp(), '{}', sha256('moon') from head returning position";
    let position: i64 = sqlx::query_scalar(strange).fetch_one(store.pool()).await.unwrap();
    assert!(replica.wait_applied(Position(position), Duration::from_secs(5)).await);
    assert_eq!(replica.status().cached, 0);
    replica.verify(&token.presented()).await.unwrap();
    eventually("the lease goes on", Duration::from_secs(5), async || {
        replica.lease_age().is_some_and(|age| age < Duration::from_millis(300))
    })
    .await;
}

/// A log that is another one under the same name: here, the leaf that was applied is not its leaf.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_put_back_is_noticed_by_its_leaf() {
    let Alone { replica, store, cluster: _cluster, token, .. } = alone().await;
    replica.verify(&token.presented()).await.unwrap();
    let (_, epoch) = list(store.pool()).await;
    let mut connection = store.pool().acquire().await.unwrap();
    for statement in [
        "alter table event disable trigger event_insert_only",
        "update event set leaf_hash = sha256('another history') where position = (select position from log_head)",
    ] {
        sqlx::query(statement).execute(&mut *connection).await.unwrap();
    }
    drop(connection);
    eventually("it drops its cache", Duration::from_secs(5), async || replica.status().cached == 0).await;
    eventually("it registers anew", Duration::from_secs(5), async || {
        replica.status().lease_valid && list(store.pool()).await == (1, epoch + 1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_dropped_answers_nothing_and_ends_its_tasks() {
    let Alone { replica, store, cluster: _cluster, .. } = alone().await;
    // The replica and its tasks hold the store: when they are gone, one hold is left.
    drop(replica);
    let ended = eventually("the tasks end", Duration::from_secs(10), async || Arc::strong_count(&store) == 1);
    timeout(Duration::from_secs(20), ended).await.unwrap();
}
