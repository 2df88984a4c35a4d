//! Mixed load without a fault: each projection is what the oracle makes of the log, and the oracle
//! can disagree.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use chrono::TimeDelta;
use sqlx::Connection;
use tally_events::Event;
use tally_tests::{client::answer, eventually};
use uuid::Uuid;

use super::{
    judge::assert_whole,
    load::{Person, Told, acted, answers, people, under_load},
    seed,
    site::Site,
};
use crate::{
    oracle,
    support::{address, past::Past},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_mixed_load_every_projection_is_what_the_log_says() {
    let seed = seed();
    let site = Site::embedded().await;
    let (mut people, closed) = under_load(people(&site.door(), seed), async |acts| {
        // An operator closes and opens accounts meanwhile.
        acted(acts, 200).await;
        let mut connection = site.connect().await;
        let users: Vec<Uuid> = sqlx::query_scalar("select id from users order by id limit 2")
            .fetch_all(&mut connection)
            .await
            .expect("the database answers");
        for (word, user) in [("suspend", users[0]), ("suspend", users[1]), ("reinstate", users[1])] {
            let done =
                site.server.command(&["user", word, &user.to_string()]).output().expect("the command runs");
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
        let deadline = Instant::now() + Duration::from_secs(4);
        while Instant::now() < deadline {
            acted(acts, 100).await;
        }
        // What people do most seldom.
        eventually("a workspace to be deleted", async || {
            let deleted = "select exists (select from event where name = 'workspace.deleted')";
            let deleted: bool =
                sqlx::query_scalar(deleted).fetch_one(&mut connection).await.expect("it is up");
            deleted.then_some(())
        })
        .await;
        users
    })
    .await;
    println!("{:?}", answers(&people));
    let mut connection = site.connect().await;
    // Nobody told these two that what they had was dead.
    let dead: Vec<Uuid> = sqlx::query_scalar("select id from credentials where user_id = any($1)")
        .bind(closed)
        .fetch_all(&mut connection)
        .await
        .expect("the database answers");
    people.iter_mut().for_each(|person| person.told.maybe_revoked.extend(&dead));
    // What a mail server that refuses, and an identity provider, would bring about.
    let past = Past::of(&site.server, TimeDelta::zero()).await;
    let email = address("undelivered");
    past.issue_code(&email, "246810").await;
    past.declare_undeliverable(&email, Uuid::now_v7()).await;
    past.log_in_by_identity(&address("identity")).await;
    assert_whole(&site, &people).await;
    // Each kind of event has come: the oracle was asked about all of them.
    let came: BTreeSet<String> = sqlx::query_scalar("select distinct name from event")
        .fetch_all(&mut connection)
        .await
        .unwrap()
        .into_iter()
        .collect();
    let missing: Vec<&str> =
        Event::names().map(|(name, _)| name).filter(|name| !came.contains(*name)).collect();
    assert!(missing.is_empty(), "nothing was said of {missing:?}");

    assert_shown_to_each(&site, &people).await;

    // And the oracle can disagree: a row changed behind its back in each table is found.
    for (table, column) in [
        ("users", "language"),
        ("sessions", "address"),
        ("credentials", "kind"),
        ("workspaces", "name"),
        ("members", "role"),
        ("invitations", "status"),
        ("share_links", "code"),
        ("token_list", "name"),
        ("audit_scope", "name"),
    ] {
        let tamper =
            format!("update {table} set {column} = 'x' where ctid = (select min(ctid) from {table})");
        sqlx::query(sqlx::AssertSqlSafe(tamper)).execute(&mut connection).await.unwrap();
    }
    sqlx::query("delete from audit_credential where ctid = (select min(ctid) from audit_credential)")
        .execute(&mut connection)
        .await
        .unwrap();
    let found = oracle::disagreements(&mut connection).await.join("\n");
    for table in oracle::TABLES {
        assert!(found.contains(&format!("{table}: 1 rows")), "{table} is not named: {found}");
    }
    connection.close().await.unwrap();
}

/// What each is shown of their trail is what the oracle would show of it.
async fn assert_shown_to_each(site: &Site, people: &[Person]) {
    let mut connection = site.connect().await;
    let mut names = BTreeSet::new();
    for Told { minted, maybe_revoked, .. } in people.iter().map(|person| &person.told) {
        let live = minted.iter().find(|(id, _)| !maybe_revoked.contains(*id));
        let Some((_, token)) = live else { continue };
        let request = site.door().client().get("/v1/audit?limit=200").bearer_auth(token);
        let page = answer(request).await.json();
        let events = page["events"].as_array().expect("a page of events");
        oracle::assert_shown(&mut connection, events).await;
        names.extend(events.iter().map(|event| event["name"].to_string()));
    }
    assert!(names.len() >= 8, "too few kinds of events were shown to prove much: {names:?}");
    connection.close().await.expect("the database answers");
}
