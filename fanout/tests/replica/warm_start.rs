//! Memory that is filled at the start, and what must not come into it.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use tally_domain::{Principal, authorize, credential::CredentialHash, user::SuspendUser};
use tally_events::UserId;
use tally_fanout::{Replica, ReplicaSettings, Verifier, VerifierSettings};
use tally_store::{RequestContext, Store};
use tokio::time::sleep;

use crate::{
    cluster::Cluster,
    eventually,
    people::{Token, log_in, mint_token, revoke, store},
};

/// More than one statement reads.
const MANY: usize = 40_000;

/// Tokens that nobody has in the clear. One half has ids below those of all that are minted, the other
/// above.
async fn insert_many(store: &Store, user: UserId) {
    sqlx::query(
        "insert into credentials (hash, id, kind, user_id, minted_by, minted_by_kind, position)
         select sha256(n::text::bytea),
                overlay(gen_random_uuid()::text placing (case when n % 2 = 0 then 'f' else '00' end) from 1)::uuid,
                'personal_access_token', $1, $1, 'session', (select position from log_head)
           from generate_series(1, $2) n",
    )
    .bind(user.0)
    .bind(i64::try_from(MANY).unwrap())
    .execute(store.pool())
    .await
    .unwrap();
}

/// The hashes of all tokens, the newest first.
async fn newest(store: &Store, limit: usize) -> Vec<CredentialHash> {
    let hashes: Vec<Vec<u8>> = sqlx::query_scalar("select hash from credentials order by id desc limit $1")
        .bind(i64::try_from(limit).unwrap())
        .fetch_all(store.pool())
        .await
        .unwrap();
    hashes.into_iter().map(|hash| CredentialHash(hash.try_into().unwrap())).collect()
}

async fn revoke_all(replica: &Replica, principal: Principal, tokens: &[Token]) {
    let revoked = tokens.iter().map(async |token| {
        let command = authorize(principal, revoke(token)).unwrap();
        replica.execute(&command, RequestContext::default()).await.unwrap();
    });
    join_all(revoked).await;
}

async fn until_warm(replica: &Replica, tokens: usize) {
    let what = format!("{tokens} tokens in memory");
    eventually(&what, Duration::from_secs(20), async || replica.status().cached >= tokens).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_start_memory_answers_for_every_good_token_and_for_no_other() {
    let cluster = Cluster::start().await;
    let store = store(&cluster).await;
    let (ada, bob) = (log_in(&store, "ada@example.org").await, log_in(&store, "bob@example.org").await);
    insert_many(&store, ada.user).await;
    let good = mint_token(&store, &ada).await;
    let [revoked, expired] = [mint_token(&store, &ada).await, mint_token(&store, &ada).await];
    let suspended = mint_token(&store, &bob).await;
    let observer = Replica::observer(store.clone(), ReplicaSettings::default());
    revoke_all(&observer, ada.principal, std::slice::from_ref(&revoked)).await;
    let suspend = authorize(Principal::Operator, SuspendUser { user: bob.user }).unwrap();
    observer.execute(&suspend, RequestContext::default()).await.unwrap();
    sqlx::query("update credentials set expires_at = now() - interval '1 second' where id = $1")
        .bind(expired.id.0)
        .execute(store.pool())
        .await
        .unwrap();

    let replica = Replica::join(store.clone(), ReplicaSettings::default(), None);
    until_warm(&replica, MANY + 1).await;
    let bad = [&revoked, &expired, &suspended].map(|token| token.secret.hash());
    let all = newest(&store, MANY + 4).await;
    assert_eq!(all.len(), MANY + 4);
    // A busy machine may be without a lease for a moment, and then remembers nothing.
    eventually("memory answers for every good one", Duration::from_secs(20), async || {
        all.iter().all(|hash| bad.contains(hash) || replica.remembered(hash).is_some())
    })
    .await;
    assert!(bad.iter().all(|hash| replica.remembered(hash).is_none()));
    assert_eq!(replica.status().cached, MANY + 1);
    // What it remembers is what a lookup finds.
    let cold = Replica::observer(store.clone(), ReplicaSettings::default());
    let looked_up = cold.verify(&good.presented()).await.unwrap();
    assert_eq!(replica.remembered(&good.secret.hash()), Some(looked_up));

    // All is dropped, and comes back.
    sqlx::query("update replica set leaving = true").execute(store.pool()).await.unwrap();
    eventually("it drops its memory", Duration::from_secs(5), async || {
        replica.remembered(&good.secret.hash()).is_none()
    })
    .await;
    until_warm(&replica, MANY + 1).await;
    assert!(replica.remembered(&good.secret.hash()).is_some());
    assert_eq!(replica.remembered(&revoked.secret.hash()), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_the_oldest() {
    const CAPACITY: usize = 20_000;
    let cluster = Cluster::start().await;
    let store = store(&cluster).await;
    let ada = log_in(&store, "ada@example.org").await;
    insert_many(&store, ada.user).await;
    let settings = VerifierSettings { capacity: CAPACITY, ..VerifierSettings::new(cluster.url()) };
    let verifier = Verifier::connect(settings).await.unwrap();
    let settings = ReplicaSettings { capacity: CAPACITY, ..ReplicaSettings::default() };
    let replica = Replica::join(store.clone(), settings, None);
    until_warm(&replica, CAPACITY).await;
    let newest = newest(&store, CAPACITY).await;
    eventually("the newest are in memory", Duration::from_secs(20), async || {
        newest.iter().all(|hash| replica.remembered(hash).is_some())
    })
    .await;
    eventually("a verifier too", Duration::from_secs(20), async || verifier.status().cached == CAPACITY)
        .await;
}

/// Tokens are revoked by the replica itself, and so overthrown within a moment, all the while that its
/// memory fills. None of them is remembered after that, whatever a statement read before.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_while_memory_fills_is_not_remembered() {
    const ROUNDS: usize = 8;
    const TOKENS: usize = 40;
    let cluster = Cluster::start().await;
    let store = store(&cluster).await;
    let ada = log_in(&store, "ada@example.org").await;
    insert_many(&store, ada.user).await;
    for _ in 0..ROUNDS {
        let mut tokens = Vec::new();
        for _ in 0..TOKENS {
            tokens.push(mint_token(&store, &ada).await);
        }
        let replica = Replica::join(store.clone(), ReplicaSettings::default(), None);
        eventually("a lease", Duration::from_secs(10), async || replica.status().lease_valid).await;
        let revoked = tokens.iter().zip(0_u64..).map(async |(token, number)| {
            sleep(Duration::from_millis(number * 3)).await;
            revoke_all(&replica, ada.principal, std::slice::from_ref(token)).await;
            assert_eq!(replica.remembered(&token.secret.hash()), None, "it is effective");
        });
        join_all(revoked).await;
        // Some may have fallen with a token that shares their place. Those that were minted are passed.
        until_warm(&replica, MANY * 9 / 10).await;
        for token in &tokens {
            assert_eq!(replica.remembered(&token.secret.hash()), None);
        }
        replica.leave().await;
    }
}

/// The database answers nothing for a while, and it goes on when that is over.
#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_a_database_that_hangs() {
    let cluster = Cluster::start().await;
    let store: Arc<Store> = store(&cluster).await;
    let ada = log_in(&store, "ada@example.org").await;
    insert_many(&store, ada.user).await;
    let mut blocker = store.pool().begin().await.unwrap();
    sqlx::query("lock table credentials").execute(&mut *blocker).await.unwrap();
    let replica = Replica::join(store.clone(), ReplicaSettings::default(), None);
    eventually("a lease", Duration::from_secs(10), async || replica.status().lease_valid).await;
    // Longer than a statement is waited for, so that one was given up; the lock's holder is not idle.
    for _ in 0..3 {
        sqlx::query("select pg_sleep(2)").execute(&mut *blocker).await.unwrap();
    }
    assert_eq!(replica.status().cached, 0);
    blocker.rollback().await.unwrap();
    until_warm(&replica, MANY).await;
}
