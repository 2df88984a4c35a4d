//! Several replicas, and everything between them breaks while tokens are revoked: none is accepted once
//! its revocation was said to be effective, and none that was not revoked is refused.
//!
//! Each fault once by default. `make chaos FAULTS=replicas REVOCATIONS=10000` repeats them until so many
//! tokens were revoked in all, and prints the table of `docs/reliability.md`.

mod cluster;
mod fault;
mod judge;
mod race;
mod table;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sqlx::{Connection, PgConnection};
use tally_tests::FakeClock;
use tokio::{sync::mpsc, task::JoinHandle, time::sleep};

use self::{
    cluster::{Clocks, Cluster, log_in},
    fault::{Broken, Fault, Jump},
    judge::Tally,
    race::{Case, Racer, Told, verdict},
    table::Row,
};
use super::{given, judge::assert_log_whole, seed};

/// Every credential that nobody revoked works this soon after all is mended.
const RECOVERY: Duration = Duration::from_secs(10);

const PROCESSES: [Fault; 6] = [
    Fault::StopReplica,
    Fault::KillNats,
    Fault::StopNats,
    Fault::KillPostmaster,
    Fault::StopPostgres,
    Fault::KillReplica,
];
const NATS_LINES: [Fault; 6] = [
    Fault::ToNats(Broken::Cut),
    Fault::ToNats(Broken::CutThere),
    Fault::ToNats(Broken::CutBack),
    Fault::ToNats(Broken::Slow),
    Fault::ToNats(Broken::Lossy),
    Fault::Messages,
];
const POSTGRES_LINES: [Fault; 5] = [
    Fault::ToPostgres(Broken::Cut),
    Fault::ToPostgres(Broken::CutThere),
    Fault::ToPostgres(Broken::CutBack),
    Fault::ToPostgres(Broken::Slow),
    Fault::ToPostgres(Broken::Lossy),
];
const CLOCKS: [Fault; 4] = [
    Fault::ReplicaClock(Jump::Ahead),
    Fault::ReplicaClock(Jump::Back),
    Fault::PostgresClock(Jump::Ahead),
    Fault::PostgresClock(Jump::Back),
];
/// Each has its part of the revocations.
const FAULTS: usize = PROCESSES.len() + NATS_LINES.len() + POSTGRES_LINES.len() + CLOCKS.len();

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_are_killed_and_stopped() {
    suffer(&PROCESSES, Clocks::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lines_to_nats_break() {
    suffer(&NATS_LINES, Clocks::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_to_the_database_breaks() {
    suffer(&POSTGRES_LINES, Clocks::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_jump() {
    let clocks = Clocks { replica: Some(FakeClock::new()), postgres: Some(FakeClock::new()) };
    suffer(&CLOCKS, clocks).await;
}

/// How many tokens are to be revoked in all; none: each fault comes once.
fn revocations() -> Option<usize> {
    given("TALLY_FAULT_REVOCATIONS").map(|text| text.parse().expect("a number"))
}

async fn suffer(faults: &[Fault], clocks: Clocks) {
    let seed = seed();
    let (racers, replicas) = if revocations().is_some() { (16, 3 + seed % 3) } else { (6, 3) };
    let mut course = Course::new(racers, Cluster::start(replicas, seed, clocks).await, seed).await;
    let enough = revocations().map_or(0, |count| count.div_ceil(FAULTS));
    let mut wrong = Vec::new();
    for fault in faults {
        let mut row = Row::new(fault.name(), replicas);
        while row.rounds == 0 || row.tally.took.len() < enough {
            course.round(*fault, &mut row).await;
        }
        row.conclude();
        wrong.extend(row.tally.wrong.into_iter().map(|what| format!("{}: {what}", fault.name())));
    }
    wrong.iter().for_each(|what| println!("{what}"));
    assert!(wrong.is_empty(), "{} findings, the first: {}", wrong.len(), wrong[0]);
    course.conclude().await;
}

/// A cluster, and those who use it.
struct Course {
    cluster: Cluster,
    dice: StdRng,
    /// Everybody's session.
    sessions: Vec<String>,
    /// What nobody ever revokes.
    standing: Vec<String>,
}

/// Racers under way.
struct Load {
    stop: Arc<AtomicBool>,
    racers: Vec<JoinHandle<()>>,
    told: mpsc::UnboundedReceiver<Told>,
}

impl Course {
    async fn new(racers: usize, cluster: Cluster, seed: u64) -> Self {
        let client = cluster.replicas[0].door.client();
        let mut sessions = Vec::new();
        for _ in 0..racers {
            sessions.push(log_in(&client).await);
        }
        let mut standing = sessions.clone();
        for session in &sessions {
            standing.push(client.mint(session, "standing").await.1);
        }
        cluster.is_fast(&sessions[0]).await;
        Self { cluster, dice: StdRng::seed_from_u64(seed), sessions, standing }
    }

    /// All is well, something is broken, it is mended, and all is well again.
    async fn round(&mut self, fault: Fault, row: &mut Row) {
        let load = self.load();
        sleep(Duration::from_millis(self.dice.random_range(300..600))).await;
        let lasts = Duration::from_millis(self.dice.random_range(1500..3500));
        let lasting = fault.begin(&mut self.cluster, &mut self.dice).await;
        let until = Instant::now() + lasts;
        let came = if fault.is_of_nats() { self.log_in_everywhere().await } else { Vec::new() };
        sleep(until.saturating_duration_since(Instant::now())).await;
        let blackouts = lasting.mend(&mut self.cluster).await;
        let works = self.works(&came, &mut row.tally).await;
        sleep(Duration::from_millis(300)).await;
        let mut cases = Vec::new();
        for told in load.end().await {
            match told {
                Told::Case(case) => cases.push(case),
                Told::Wrong(what) => row.tally.wrong.push(what),
            }
        }
        cases.iter().for_each(|case| row.tally.judge(case, &blackouts));
        self.stay_refused(&cases, &mut row.tally).await;
        let is_fast = self.cluster.is_fast(&self.sessions[0]).await;
        row.round(works, is_fast);
    }

    fn load(&mut self) -> Load {
        let (sender, told) = mpsc::unbounded_channel();
        let (doors, stop) = (Arc::from(self.cluster.doors()), Arc::new(AtomicBool::new(false)));
        let racer =
            |session: &String, seed| Racer::new(Arc::clone(&doors), session.clone(), sender.clone(), seed);
        let racers =
            self.sessions.iter().map(|session| racer(session, self.dice.random()).race(stop.clone()));
        Load { racers: racers.map(tokio::spawn).collect(), stop, told }
    }

    /// Without NATS people come and mint as ever, by every replica: what they are given.
    async fn log_in_everywhere(&self) -> Vec<String> {
        let mut came = Vec::new();
        for replica in &self.cluster.replicas {
            let client = replica.door.client();
            let session = log_in(&client).await;
            let (_, token) = client.mint(&session, "laptop").await;
            came.extend([session, token]);
        }
        came
    }

    /// Waits until whatever was not revoked works everywhere; how long that took.
    async fn works(&self, came: &[String], tally: &mut Tally) -> Duration {
        let mended = Instant::now();
        let each = self.cluster.replicas.iter().enumerate().map(async |(number, replica)| {
            let mut wrong = Vec::new();
            for credential in self.standing.iter().chain(came) {
                let left = RECOVERY.saturating_sub(mended.elapsed());
                match verdict(&replica.door, credential, left).await {
                    Some(200) => {}
                    found => wrong.push(format!("replica {number} says {found:?} of what nobody revoked")),
                }
            }
            wrong
        });
        tally.wrong.extend(join_all(each).await.into_iter().flatten());
        mended.elapsed()
    }

    /// What was revoked is refused when all is well again.
    async fn stay_refused(&self, cases: &[Case], tally: &mut Tally) {
        let each = self.cluster.replicas.iter().enumerate().map(async |(number, replica)| {
            let mut wrong = Vec::new();
            for case in cases.iter().filter(|case| case.is_revoked()) {
                match verdict(&replica.door, &case.token, RECOVERY).await {
                    Some(401) => {}
                    found => wrong.push(format!("replica {number} says {found:?} of {}, revoked", case.id)),
                }
            }
            wrong
        });
        let wrong: Vec<String> = join_all(each).await.into_iter().flatten().collect();
        tally.accepted += wrong.len();
        tally.wrong.extend(wrong);
    }

    /// The log is whole, and all that is made of it.
    async fn conclude(self) {
        let options = self.cluster.postgres.options("test_0");
        let mut connection = PgConnection::connect_with(&options).await.expect("the database answers");
        assert_log_whole(&self.cluster.replicas[0].server, &mut connection).await;
        connection.close().await.expect("the database answers");
    }
}

impl Load {
    /// Ends it, and waits for every answer that somebody waits for.
    async fn end(mut self) -> Vec<Told> {
        self.stop.store(true, Ordering::SeqCst);
        for racer in self.racers {
            racer.await.expect("no racer panics");
        }
        let mut all = Vec::new();
        while let Some(told) = self.told.recv().await {
            all.push(told);
        }
        all
    }
}
