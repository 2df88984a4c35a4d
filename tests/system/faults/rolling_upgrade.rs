//! Two releases on one database for a while. There is one binary here, so the newer release is played
//! by what it would leave in the database.

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};
use tally_tests::{client::answer, eventually};
use uuid::Uuid;

use super::{
    judge::{assert_whole, judge},
    load::{Person, acted, people, under_load},
    report::Report,
    seed,
    site::Site,
    slow_rounds,
};
use crate::support::log_lines;

async fn head(connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar("select position from log_head")
        .fetch_one(connection)
        .await
        .expect("the database answers")
}

/// What the newer release does first: from here on it alone writes.
async fn take_over_writing(connection: &mut PgConnection) {
    connection
        .execute("update log_head set inline_version = inline_version + 1")
        .await
        .expect("the database answers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_server_beside_a_newer_release_reads_on_and_writes_nothing() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let site = Site::external().await;
    let mut report = Report::new("a newer release takes over writing beside an old server");
    let mut people = people(&site.door(), seed);
    let mut connection = site.connect().await;
    for _ in 0..slow_rounds() {
        let before = rng.random_range(60..200);
        let recovery;
        (people, recovery) = under_load(people, async |acts| {
            acted(acts, before).await;
            take_over_writing(&mut connection).await;
            let position = head(&mut connection).await;
            let since = Instant::now();
            while since.elapsed() < Duration::from_secs(2) {
                acted(acts, 20).await;
                let email = format!("refused-{}@example.org", Uuid::now_v7().simple());
                let refused = answer(site.client().post("/auth/send-code", &json!({ "email": email }))).await;
                assert_eq!(refused.status, 503, "{}", refused.text);
            }
            assert_eq!(head(&mut connection).await, position, "an old server has written");
            // The newer release is withdrawn, and the old one goes on.
            connection
                .execute("update log_head set inline_version = inline_version - 1")
                .await
                .expect("the database");
            let recovery = site.back().await;
            acted(acts, 60).await;
            recovery
        })
        .await;
        people = judge(&site, people, &mut report).await;
        report.round(recovery);
    }
    let told = log_lines(&site.server);
    let told = |words: &str| {
        told.iter().filter(|line| line["message"].as_str().is_some_and(|text| text.contains(words))).count()
    };
    assert_eq!(
        told("a newer release writes this database: this server goes on reading"),
        slow_rounds(),
        "once each time"
    );
    assert_eq!(told("this server writes again"), slow_rounds(), "once each time");

    // For good now: everybody is still known for what he is, and nobody is let in who was not.
    take_over_writing(&mut connection).await;
    assert_known(&people).await;
    let tokens = people.iter().find_map(|person| person.live().pop()).expect("somebody has a token").1;
    let listed = answer(site.client().get("/api/tokens").bearer_auth(&tokens)).await;
    assert_eq!(listed.status, 200, "{}", listed.text);
    assert_refuses_to_start(&site).await;
    connection
        .execute("update log_head set inline_version = inline_version - 1")
        .await
        .expect("the database");
    assert_whole(&site, &people).await;
    report.conclude_felt();
}

async fn assert_known(people: &[Person]) {
    for person in people {
        for id in &person.told.revoked {
            if let Some(token) = person.told.minted.get(id) {
                assert!(!person.accepts(token).await, "a revoked token is accepted: {id}");
            }
        }
        for (id, token) in person.live().iter().take(3) {
            assert!(person.accepts(token).await, "a live token is refused: {id}");
        }
    }
}

/// An old server that is started now could not do its work, and says what would.
async fn assert_refuses_to_start(site: &Site) {
    let mut old = site.server.command(&["serve"]);
    let refused =
        tokio::task::spawn_blocking(move || old.output().expect("the binary runs")).await.expect("it ends");
    assert!(!refused.status.success(), "an old server started where it may not write");
    let words = String::from_utf8_lossy(&refused.stderr).replace('\n', " ");
    let version = tally_projections::INLINE_VERSION;
    for part in [
        format!(
            "a newer release writes this database (its projections are of version {}, those of this release",
            version + 1
        ),
        format!("of version {version})"),
        "start that release or a later one".to_owned(),
    ] {
        assert!(words.contains(&part), "{words}");
    }
}

/// Migrations expand before they contract, so a server of the release before starts and serves, as
/// one does that was running already; it says which migrations it does not know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_server_starts_on_a_database_with_newer_migrations_and_says_so() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut site = Site::external().await;
    let mut report = Report::new("an old server starts on a database that a newer release has migrated");
    let mut people = people(&site.door(), seed);
    let mut connection = site.connect().await;
    let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
                 values (9001, 'of the newer release', true, '', 0)";
    connection.execute(newer).await.expect("the list of migrations");
    for _ in 0..slow_rounds() {
        let before = rng.random_range(60..150);
        let recovery;
        (people, recovery) = under_load(people, async |acts| {
            acted(acts, before).await;
            site.kill_server();
            let killed = Instant::now();
            site.start_again().await;
            site.back().await;
            let recovery = killed.elapsed();
            acted(acts, 60).await;
            recovery
        })
        .await;
        people = judge(&site, people, &mut report).await;
        report.round(recovery);
    }
    let told = log_lines(&site.server).into_iter().filter(|line| {
        line["message"].as_str().is_some_and(|text| {
            text.contains("9001 (of the newer release)") && text.contains("a newer release")
        })
    });
    assert_eq!(told.count(), slow_rounds(), "each start says what it does not know");
    eventually("readiness", async || {
        (site.client().get("/readyz").send().await.ok()?.status() == 200).then_some(())
    })
    .await;
    // Beside it, one that asks for the migrations alone.
    let migrated = site.server.command(&["migrate"]).output().expect("the command runs");
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    // A migration that was begun and never ended is another matter: who knows what the tables are like.
    connection
        .execute("update _sqlx_migrations set success = false where version = 9001")
        .await
        .expect("the list");
    let broken = site.server.command(&["migrate"]).output().expect("the command runs");
    assert!(!broken.status.success(), "a half migrated database was taken for a whole one");
    connection
        .execute("update _sqlx_migrations set success = true where version = 9001")
        .await
        .expect("the list");
    connection.close().await.expect("the database answers");
    assert_whole(&site, &people).await;
    report.conclude();
}
