//! Two servers on one data directory: one of them serves, the other says why it does not.

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    judge::{assert_whole, judge},
    load::{acted, people, under_load},
    report::Report,
    seed,
    site::Site,
    slow_rounds,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_is_refused_and_takes_over_when_the_first_was_killed() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut site = Site::embedded().await;
    let mut report = Report::new("a second server on the same data directory, then kill -9 of the first");
    let mut people = people(&site.door(), seed);
    for _ in 0..slow_rounds() {
        let before = rng.random_range(60..150);
        let recovery;
        (people, recovery) = under_load(people, async |acts| {
            acted(acts, before).await;
            let first = site.server.process().id();
            let mut second = site.server.command(&["serve"]);
            let refused = tokio::task::spawn_blocking(move || second.output().expect("the binary runs"));
            let refused = refused.await.expect("it ends");
            assert!(!refused.status.success(), "two servers on one data directory");
            let words = String::from_utf8_lossy(&refused.stderr).replace('\n', " ");
            let directory = site.server.data_dir();
            for part in [
                format!("the data directory {} is in use by the tally of pid {first}", directory.display()),
                "stop that one first, or give this one another directory in TALLY_DATA_DIR".to_owned(),
            ] {
                assert!(words.contains(&part), "{words}");
            }
            // The first has not noticed.
            acted(acts, 100).await;
            assert_eq!(site.server.process().id(), first);
            assert!(site.server.process().is_running());
            // Nothing is tidied up between the two.
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
        assert!(recovery < Duration::from_secs(60), "{recovery:?}");
    }
    assert_whole(&site, &people).await;
    report.conclude();
}
