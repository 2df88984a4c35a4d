//! Rate limits hold exactly, across replicas and restarts.

use std::time::Duration;

use futures::future::join_all;
use tally_store::{Limit, Limited};

use crate::support::Log;

const LIMIT: Limit = Limit { count: 7, period: Duration::from_secs(600) };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_pass_at_once_and_not_one_more_whichever_replica_is_asked() {
    let log = Log::new().await;
    let pools = [log.pool(), log.pool()];
    for key in 0..4_u8 {
        let taken = join_all((0..40).map(|i| {
            let pool = pools[i % 2].clone();
            async move { tokio::spawn(async move { LIMIT.take(&pool, &[key; 32]).await }).await.unwrap() }
        }))
        .await;
        let passed = taken.iter().filter(|taken| taken.is_ok()).count();
        assert_eq!(passed, 7, "key {key}");
        for refused in taken.iter().filter_map(|taken| taken.as_ref().err()) {
            let Limited::TooMany { retry_after } = refused else { panic!("{refused:?}") };
            let spacing = LIMIT.period.as_secs_f64() / 7.0;
            let wait = retry_after.as_secs_f64();
            assert!(
                (spacing - 30.0..=spacing).contains(&wait),
                "room comes after {spacing} s, told {wait} s"
            );
        }
    }
}

#[tokio::test]
async fn a_limit_survives_a_restart_and_keys_do_not_meet() {
    let log = Log::new().await;
    let before = log.pool();
    for _ in 0..7 {
        LIMIT.take(&before, &[1; 32]).await.unwrap();
    }
    before.close().await;
    let after = log.pool();
    assert!(matches!(LIMIT.take(&after, &[1; 32]).await, Err(Limited::TooMany { .. })));
    LIMIT.take(&after, &[2; 32]).await.unwrap();
}

/// Time is turned forward in the table, so that nothing here waits for it.
#[tokio::test]
async fn room_comes_back_one_by_one_and_never_more_than_there_was() {
    let log = Log::new().await;
    let pool = log.pool();
    let key = [3; 32];
    let pass = async |wanted: usize| {
        for index in 0..wanted {
            assert!(LIMIT.take(&pool, &key).await.is_ok(), "number {index} of {wanted}");
        }
        assert!(matches!(LIMIT.take(&pool, &key).await, Err(Limited::TooMany { .. })), "more than {wanted}");
    };
    let later = async |seconds: f64| {
        sqlx::query("update rate_limit set arrival = arrival - make_interval(secs => $1)")
            .bind(seconds)
            .execute(&pool)
            .await
            .unwrap();
    };
    pass(7).await;
    // One comes back each 600 / 7 = 85.7 s.
    later(86.0).await;
    pass(1).await;
    later(86.0 * 3.0).await;
    pass(3).await;
    later(86_400.0).await;
    pass(7).await;
    assert_eq!(tally_store::purge(&pool, 90).await.unwrap().rate_limits, 0, "somebody is near this limit");
    later(86_400.0).await;
    assert_eq!(tally_store::purge(&pool, 90).await.unwrap().rate_limits, 1);
    pass(7).await;
}

/// A clock that was ahead, and is set right, closes no door for as long as it was ahead: one passes at
/// once, and the others one by one.
#[tokio::test]
async fn a_clock_that_goes_back_leaves_room() {
    let log = Log::new().await;
    let pool = log.pool();
    let once = Limit { count: 1, period: Duration::from_secs(60) };
    let (many, one) = ((LIMIT, [8; 32]), (once, [9; 32]));
    Limit::take_all(&pool, &[many, one]).await.unwrap();
    let back = async || {
        let back = "update rate_limit set arrival = arrival + make_interval(hours => 6)";
        sqlx::query(back).execute(&pool).await.unwrap();
    };
    back().await;
    LIMIT.take(&pool, &many.1).await.unwrap();
    once.take(&pool, &one.1).await.unwrap();
    back().await;
    Limit::take_all(&pool, &[many, one]).await.unwrap();
    for (limit, key) in [many, one] {
        let spacing = limit.period.as_secs_f64() / f64::from(limit.count);
        let refused = limit.take(&pool, &key).await.unwrap_err();
        let Limited::TooMany { retry_after } = refused else { panic!("{refused:?}") };
        assert!((spacing - 30.0..=spacing).contains(&retry_after.as_secs_f64()), "{retry_after:?}");
    }
}

#[tokio::test]
async fn a_limit_of_one_lets_one_pass() {
    let log = Log::new().await;
    let pool = log.pool();
    let limit = Limit { count: 1, period: Duration::from_secs(60) };
    limit.take(&pool, &[4; 32]).await.unwrap();
    let refused = limit.take(&pool, &[4; 32]).await.unwrap_err();
    let Limited::TooMany { retry_after } = refused else { panic!("{refused:?}") };
    assert!((30.0..=60.0).contains(&retry_after.as_secs_f64()), "{retry_after:?}");
}

/// Of several limits a refusal counts against none: what is left of the others is what was left.
#[tokio::test]
async fn several_limits_are_taken_together_or_not_at_all() {
    let log = Log::new().await;
    let pool = log.pool();
    let once = Limit { count: 1, period: Duration::from_secs(600) };
    let (wide, narrow, other) = ((LIMIT, [5; 32]), (once, [6; 32]), (once, [7; 32]));
    Limit::take_all(&pool, &[wide, narrow]).await.unwrap();
    for _ in 0..10 {
        for limits in [[wide, narrow], [narrow, wide]] {
            let refused = Limit::take_all(&pool, &limits).await.unwrap_err();
            let Limited::TooMany { retry_after } = refused else { panic!("{refused:?}") };
            assert!((570.0..=600.0).contains(&retry_after.as_secs_f64()), "{retry_after:?}");
        }
    }
    for _ in 0..5 {
        LIMIT.take(&pool, &wide.1).await.unwrap();
    }
    Limit::take_all(&pool, &[wide, other]).await.unwrap();
    assert!(matches!(LIMIT.take(&pool, &wide.1).await, Err(Limited::TooMany { .. })));
}
