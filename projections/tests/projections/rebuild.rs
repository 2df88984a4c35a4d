//! A rebuild makes the same tables, beside readers and writers who never notice.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::Executor;
use tally_domain::{PersonCredential, Principal, authorize};
use tally_events::Position;
use tally_projections::{
    audit_log::{AuditFilter, ReadAuditTrail, read_audit_trail},
    credentials::{Credentials, Standing},
    rebuild::Progress,
    token_list::{ListTokens, list_tokens},
    users::find_profile,
};
use tally_store::Projection;
use tokio::sync::Notify;

use crate::support::{EXPIRY, Log, Person, all, find_session, find_token, live};

/// Rows, constraints, indexes and grants of a projection's tables and their columns.
async fn picture(log: &Log, projection: &dyn Projection) -> Vec<String> {
    let mut lines = Vec::new();
    for table in projection.tables() {
        lines.extend(log.texts(format!("select {table}::text from {table} order by 1")).await);
        lines.extend(
            log.texts(format!(
                "select indexdef from pg_indexes where schemaname = 'public' and tablename = '{table}' union all
                 select conname || ' ' || pg_get_constraintdef(oid) from pg_constraint
                  where conrelid = 'public.{table}'::regclass union all
                 select coalesce(relacl::text, 'default') from pg_class where oid = 'public.{table}'::regclass
                 union all
                 select attname || ' ' || attacl::text from pg_attribute
                  where attrelid = 'public.{table}'::regclass and attacl is not null
                 order by 1"
            ))
            .await,
        );
    }
    lines
}

#[tokio::test]
async fn a_rebuilt_projection_equals_the_one_before_down_to_the_names_of_its_indexes() {
    let log = Log::new().await;
    log.people(70).await;
    let _followers = log.follow();
    log.all_caught_up().await;
    // A serving role that owns nothing, as where MIGRATE_DATABASE_URL separates the two.
    let role = format!("serving_{}", uuid::Uuid::new_v4().simple());
    log.run(format!("create role {role} login")).await;
    log.run(format!("grant select, insert, update on all tables in schema public to {role}")).await;
    // And one that may read some columns, such as a verifier's.
    log.run(format!("grant select (id), references (id) on users, credentials, members to {role}")).await;
    for projection in all() {
        let before = picture(&log, projection.as_ref()).await;
        let position = log.rebuild(&projection).await.unwrap();
        assert_eq!(position.0, log.head().await);
        assert_eq!(picture(&log, projection.as_ref()).await, before, "{}", projection.name());
        assert!(log.verified(projection.as_ref()).await.holds());
    }
    assert!(
        log.texts("select tablename::text from pg_tables where schemaname = 'rebuild'").await == ["progress"]
    );
    // And it is written on.
    live(&log.store).await.unwrap();
    log.all_caught_up().await;
    log.assert_all_hold().await;
    let role_reads = log.options.clone().username(&role);
    let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect_with(&role_reads).await.unwrap();
    connection.execute("select from credentials").await.unwrap();
}

/// A rebuild mends what was wrong.
#[tokio::test]
async fn a_rebuild_mends_damage() {
    let log = Log::new().await;
    let people = log.people(3).await;
    let _followers = log.follow();
    log.all_caught_up().await;
    log.run("update credentials set revoked_at = clock_timestamp()").await;
    log.run("delete from audit_scope").await;
    for projection in all() {
        log.rebuild(&projection).await.unwrap();
    }
    log.assert_all_hold().await;
    let found = find_token(&log.pool, people[0].hash).await;
    assert!(matches!(found.standing, Standing::Live(_)), "{found:?}");
}

#[tokio::test]
async fn a_rebuild_that_was_interrupted_goes_on_where_it_was() {
    let log = Log::new().await;
    log.people(150).await;
    let _followers = log.follow();
    log.all_caught_up().await;
    for projection in all() {
        let before = picture(&log, projection.as_ref()).await;
        // Cut off in the middle of the second page: what it had begun is rolled back.
        let reached = Arc::new(Notify::new());
        let tell = reached.clone();
        let progress = move |progress| match progress {
            Progress::Folding { position, .. } if position > Position::ZERO => tell.notify_one(),
            _ => {}
        };
        tokio::select! {
            done = log.rebuild_telling(&projection, progress) => panic!("it ended: {done:?}"),
            () = reached.notified() => {}
        }
        assert_eq!(picture(&log, projection.as_ref()).await, before, "the live tables are as they were");
        let first = Arc::new(OnceLock::new());
        let tell = first.clone();
        log.rebuild_telling(&projection, move |progress| _ = tell.set(progress)).await.unwrap();
        assert!(
            matches!(first.get(), Some(Progress::Folding { position, end }) if position.0 > 0 && position < end),
            "{first:?}"
        );
        assert_eq!(picture(&log, projection.as_ref()).await, before);
    }
    log.assert_all_hold().await;
}

/// Everything that is read of a person, over and over: never an error, never a wrong answer.
pub async fn read(log: &Log, person: &Person) {
    let found = find_token(&log.pool, person.hash).await;
    assert!(matches!(found.standing, Standing::Live(_)), "{found:?}");
    let found = find_session(&log.pool, person.session).await;
    assert!(matches!(found.standing, Standing::Live(_)), "{found:?}");
    let profile = find_profile(&log.pool, log.store.keys(), person.user).await.unwrap();
    assert_eq!(profile.unwrap().name, "Ada");
    let credential = PersonCredential::Session { id: person.session, expires_at: EXPIRY };
    let principal = Principal::Person { user: person.user, credential };
    let tokens =
        list_tokens(&log.pool, log.store.keys(), &authorize(principal, ListTokens).unwrap()).await.unwrap();
    assert_eq!(tokens.len(), 1);
    for (filter, expected) in [
        (AuditFilter::Everything, 14),
        (AuditFilter::Credential(person.token.0), 2),
        (AuditFilter::Line(person.session.0), 14),
        (AuditFilter::Name("token.minted".to_owned()), 2),
    ] {
        let query =
            ReadAuditTrail { filter, below: None, from: Position::ZERO, to: Position(i64::MAX), limit: 50 };
        let query = authorize(principal, query).unwrap();
        let entries = read_audit_trail(&log.pool, log.store.keys(), &query).await.unwrap();
        assert!(entries.len() >= expected, "{:?}: {} entries", query.get().filter, entries.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_a_rebuild_under_load() {
    let log = Arc::new(Log::new().await);
    let known = log.people(60).await;
    let followers = log.follow();
    log.all_caught_up().await;
    let stop = Arc::new(AtomicBool::new(false));
    let (reads, writes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = Vec::new();
    for number in 0..4 {
        let (log, stop, reads, writes) = (log.clone(), stop.clone(), reads.clone(), writes.clone());
        let known = known.clone();
        tasks.push(tokio::spawn(async move {
            for person in known.iter().cycle().skip(number * 7) {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                if number < 2 {
                    read(&log, person).await;
                    reads.fetch_add(1, Ordering::SeqCst);
                } else {
                    live(&log.store).await.unwrap();
                    writes.fetch_add(1, Ordering::SeqCst);
                }
            }
        }));
    }
    for projection in all() {
        log.rebuild(&projection).await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.expect("no reader and no writer met an error");
    }
    let (reads, writes) = (reads.load(Ordering::SeqCst), writes.load(Ordering::SeqCst));
    assert!(reads > 10 && writes > 10, "{reads} reads and {writes} writes beside five rebuilds");
    log.all_caught_up().await;
    for follower in followers {
        follower.abort();
    }
    log.assert_all_hold().await;
}

/// Two operators at once: the slower one must not write to the tables the other has flipped in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_rebuilds_of_one_projection_take_turns() {
    let log = Log::new().await;
    log.people(100).await;
    let _followers = log.follow();
    log.all_caught_up().await;
    for projection in all() {
        let before = picture(&log, projection.as_ref()).await;
        let both = tokio::join!(log.rebuild(&projection), log.rebuild(&projection),);
        assert!(matches!(both, (Ok(_), Ok(_))), "{}: {both:?}", projection.name());
        assert_eq!(picture(&log, projection.as_ref()).await, before, "{}", projection.name());
    }
    log.assert_all_hold().await;
}

/// A reader who stays in a table delays the flip, and not the commits behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_who_stays_delays_the_flip_and_no_commit() {
    delays_the_flip_and_no_commit("select count(*) from credentials", Duration::from_secs(2)).await;
}

/// So does somebody who vacuums one, whose lock nobody but the flip minds: no commit waits for a try.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vacuum_delays_the_flip_and_no_commit() {
    let lock = "lock table credentials in share update exclusive mode";
    delays_the_flip_and_no_commit(lock, Duration::from_millis(350)).await;
}

/// Does `what` in a transaction that stays open for three seconds of a rebuild. A commit takes so long at
/// most, but for two that a busy machine may hold up: the flip, where it stands in the way, does so again
/// and again.
async fn delays_the_flip_and_no_commit(what: &'static str, commit_max: Duration) {
    let log = Arc::new(Log::new().await);
    log.people(5).await;
    let mut reader = log.connection().await;
    reader.execute("begin").await.unwrap();
    reader.execute(what).await.unwrap();
    let rebuilding = tokio::spawn({
        let log = log.clone();
        async move { log.rebuild(&(Arc::new(Credentials) as Arc<dyn Projection>)).await }
    });
    let began = Instant::now();
    let mut slow = Vec::new();
    while began.elapsed() < Duration::from_secs(3) {
        let before = Instant::now();
        live(&log.store).await.unwrap();
        slow.extend(Some(before.elapsed()).filter(|took| *took >= commit_max));
    }
    assert!(!rebuilding.is_finished(), "it waits");
    assert!(slow.len() < 3, "commits waited for {slow:?}");
    reader.execute("rollback").await.unwrap();
    rebuilding.await.unwrap().unwrap();
    let verified = log.verified(&Credentials).await;
    assert!(verified.holds(), "{verified:?}");
}
