//! What replicas have counted adds up, whoever comes first, and an erasure takes where people were.

use std::{net::IpAddr, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use tally_events::{CredentialId, TokenId, UserId};
use tally_store::{
    ADDRESSES_MAX, CredentialUsage, Hour, KeyRing, Purged, Store, Used, UsedHour, add_usage, purge, usage_of,
};
use uuid::Uuid;

use crate::support::{Log, register};

type Batch = Vec<(CredentialId, Hour, Used)>;

fn noon() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::hours(500_000)
}

fn address(number: usize) -> IpAddr {
    format!("2001:db8::{number:x}").parse().unwrap()
}

fn token(number: u128) -> CredentialId {
    CredentialId::Token(TokenId(Uuid::from_u128(number)))
}

/// What one replica has counted of one credential: seconds after noon, and addresses.
fn counted(user: UserId, credential: CredentialId, uses: &[(i64, usize)]) -> Batch {
    let mut batch: Batch = Vec::new();
    for (second, number) in uses {
        let at = noon() + TimeDelta::seconds(*second);
        let used = Used::once(user, at, address(*number));
        match batch.iter_mut().find(|(_, hour, _)| *hour == Hour::of(at)) {
            Some((.., known)) => known.add(used),
            None => batch.push((credential, Hour::of(at), used)),
        }
    }
    batch
}

/// A replica's store, and somebody who has a key.
async fn somebody(log: &Log) -> (Arc<Store>, UserId) {
    let (store, user): (Arc<Store>, _) = (log.store().await, UserId::new());
    register(user, &format!("{user}@example.org")).by(&store).await.unwrap();
    (store, user)
}

async fn add(store: &Store, batch: &Batch) {
    add_usage(&mut store.pool().acquire().await.unwrap(), store.keys(), batch).await.unwrap();
}

async fn known(store: &Store, credential: CredentialId) -> CredentialUsage {
    usage_of(store.pool(), store.keys(), credential.uuid()).await.unwrap().expect("it was used")
}

#[tokio::test]
async fn what_two_replicas_have_counted_adds_up_in_either_order() {
    let log = Log::new().await;
    let (store, user) = somebody(&log).await;
    let one = |credential| counted(user, credential, &[(-5, 1), (10, 1), (90, 2)]);
    let other = |credential| counted(user, credential, &[(20, 3), (30, 1), (3600, 4)]);
    for (credential, batches) in
        [(token(1), [one(token(1)), other(token(1))]), (token(2), [other(token(2)), one(token(2))])]
    {
        for batch in &batches {
            add(&store, batch).await;
        }
        let at = |second| noon() + TimeDelta::seconds(second);
        let hour = |begins, uses, [first, last]: [i64; 2], addresses: &[usize]| UsedHour {
            begins: at(begins),
            uses,
            first_used_at: at(first),
            last_used_at: at(last),
            addresses: addresses.iter().copied().map(address).collect(),
        };
        let expected = CredentialUsage {
            user,
            uses: 6,
            last_used_at: at(3600),
            hours: vec![
                hour(3600, 1, [3600, 3600], &[4]),
                hour(0, 4, [10, 90], &[2, 1, 3]),
                hour(-3600, 1, [-5, -5], &[1]),
            ],
        };
        assert_eq!(known(&store, credential).await, expected);
    }
    assert_eq!(usage_of(store.pool(), store.keys(), Uuid::from_u128(3)).await.unwrap(), None);
}

#[tokio::test]
async fn however_many_addresses_come_a_row_keeps_the_last_few() {
    let log = Log::new().await;
    let (store, user) = somebody(&log).await;
    for number in 0..3 * ADDRESSES_MAX {
        let second = i64::try_from(number).unwrap();
        add(&store, &counted(user, token(1), &[(second, number)])).await;
    }
    let expected: Vec<IpAddr> = (2 * ADDRESSES_MAX..3 * ADDRESSES_MAX).rev().map(address).collect();
    assert_eq!(known(&store, token(1)).await.hours[0].addresses, expected);
}

/// Batches name the same rows in whatever order: the statement locks them in one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_add_the_same_rows_at_once_lose_nothing_and_wait_for_nobody_in_a_circle() {
    const REPLICAS: usize = 4;
    const ROUNDS: usize = 10;
    const CREDENTIALS: u128 = 300;
    let log = Log::new().await;
    let (store, user) = somebody(&log).await;
    let replicas = (0..REPLICAS).map(|replica| {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..ROUNDS {
                let mut batch: Batch = (0..CREDENTIALS)
                    .flat_map(|number| counted(user, token(number), &[(0, replica), (3600, round)]))
                    .collect();
                if replica % 2 == 0 {
                    batch.reverse();
                }
                add(&store, &batch).await;
            }
        })
    });
    for ended in join_all(replicas).await {
        ended.expect("no replica was told of a deadlock");
    }
    let expected = i64::try_from(REPLICAS * ROUNDS).unwrap();
    for number in 0..CREDENTIALS {
        let known = known(&store, token(number)).await;
        let hours: Vec<i64> = known.hours.iter().map(|hour| hour.uses).collect();
        assert_eq!((known.uses, hours), (2 * expected, vec![expected, expected]));
    }
}

#[tokio::test]
async fn after_an_erasure_no_address_opens_and_none_is_kept_while_the_counts_stay() {
    let log = Log::new().await;
    let (store, user) = somebody(&log).await;
    let (other, stranger) = somebody(&log).await;
    add(&store, &counted(user, token(1), &[(0, 1)])).await;
    add(&other, &counted(stranger, token(2), &[(0, 2)])).await;
    assert_eq!(known(&store, token(1)).await.hours[0].addresses, [address(1)]);
    let erased = sqlx::query("delete from keys.subject where kind = 'user' and id = $1").bind(user.0);
    assert_eq!(erased.execute(store.pool()).await.unwrap().rows_affected(), 1);
    // What was counted before, and what a replica still had in memory.
    assert_eq!(known(&store, token(1)).await.hours[0].addresses, [] as [IpAddr; 0]);
    add(&store, &counted(user, token(1), &[(1, 3)])).await;
    let after = known(&store, token(1)).await;
    assert_eq!((after.uses, &after.hours[0].addresses[..]), (2, &[][..]));
    let stored: i32 = sqlx::query_scalar(
        "select cardinality(addresses) from credential_usage_hourly where credential_id = $1",
    )
    .bind(token(1).uuid())
    .fetch_one(store.pool())
    .await
    .unwrap();
    assert_eq!(stored, 1, "the one that nobody can open any more");
    assert_eq!(known(&store, token(2)).await.hours[0].addresses, [address(2)]);
}

#[tokio::test]
async fn an_address_that_was_moved_does_not_open() {
    let log = Log::new().await;
    let (store, user) = somebody(&log).await;
    add(&store, &counted(user, token(1), &[(0, 1)])).await;
    let moved = sqlx::query("update credential_usage_hourly set hour = hour + interval '1 hour'");
    assert_eq!(moved.execute(store.pool()).await.unwrap().rows_affected(), 1);
    let keys: &KeyRing = store.keys();
    let failed = usage_of(store.pool(), keys, token(1).uuid()).await.unwrap_err();
    assert_eq!(failed.to_string(), "a stored key does not open");
}

#[tokio::test]
async fn hours_that_have_had_their_time_go_and_what_was_used_last_stays() {
    let log = Log::new().await;
    let (store, user) = somebody(&log).await;
    let now = store.clock().now();
    for (number, days) in [(1, 89), (2, 91), (3, 400)] {
        let at = now - TimeDelta::days(days);
        add(&store, &vec![(token(number), Hour::of(at), Used::once(user, at, address(1)))]).await;
    }
    // More than one purge deletes.
    let old = sqlx::query(
        "insert into credential_usage_hourly
         select gen_random_uuid(), now() - interval '500 days', 1, now(), now(), '{}'
           from generate_series(1, 10001)",
    );
    old.execute(store.pool()).await.unwrap();
    let hours = async || purge(store.pool(), 90).await.unwrap();
    let purged = |usage_hours| Purged { usage_hours, ..Purged::default() };
    assert_eq!(
        [hours().await, hours().await, hours().await],
        [purged(10_000), purged(3), purged(0)],
        "so many at once"
    );
    for (number, kept) in [(1, 1), (2, 0), (3, 0)] {
        let known = known(&store, token(number)).await;
        assert_eq!((known.uses, known.hours.len()), (1, kept));
    }
}
