//! Several replicas, and everything between them breaks while people revoke in every way there is: nothing
//! is accepted once its revocation was said to be effective, and nothing that was not revoked is refused.
//!
//! Each fault once by default. `make chaos FAULTS=replicas REVOCATIONS=10000` repeats them until so many
//! revocations were made in all, and prints the tables of `docs/reliability.md`.

mod ask;
mod cluster;
mod fault;
mod judge;
mod listen;
mod race;
mod subject;
mod table;

use std::{
    collections::BTreeMap,
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
    ask::{Question, verdict},
    cluster::{Clocks, Cluster, log_in, settle},
    fault::{Broken, Fault, Jump},
    judge::Tally,
    race::{Case, Deck, Race, Racer, Told},
    subject::{Host, Kind},
    table::{Row, conclude_kind},
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

/// How many revocations there are to be in all; none: each fault comes once.
fn revocations() -> Option<usize> {
    given("TALLY_FAULT_REVOCATIONS").map(|text| text.parse().expect("a number"))
}

async fn suffer(faults: &[Fault], clocks: Clocks) {
    let seed = seed();
    let (racers, replicas) =
        if revocations().is_some() { (16, 3 + usize::try_from(seed % 3).expect("a few")) } else { (6, 3) };
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
    Kind::ALL.into_iter().for_each(|kind| conclude_kind(kind, course.kinds.get(&kind)));
    wrong.iter().for_each(|what| println!("{what}"));
    assert!(wrong.is_empty(), "{} findings, the first: {}", wrong.len(), wrong[0]);
    course.conclude().await;
}

/// A cluster, and those who use it.
struct Course {
    cluster: Cluster,
    dice: StdRng,
    hosts: Vec<Host>,
    deck: Deck,
    /// About what nobody ever revokes.
    standing: Vec<Question>,
    kinds: BTreeMap<Kind, Tally>,
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
        let (mut hosts, mut standing) = (Vec::new(), Vec::new());
        for _ in 0..racers {
            let host = settle(&client).await;
            let (_, token) = client.mint(&host.session, "standing").await;
            standing.extend([&host.session, &token].map(|credential| Question::of_credential(credential)));
            standing.push(Question::new(&format!("/api/workspaces/{}", host.home), &token, 404));
            hosts.push(host);
        }
        cluster.is_fast(&hosts[0].session).await;
        let (deck, kinds) = (Deck::default(), BTreeMap::new());
        Self { cluster, dice: StdRng::seed_from_u64(seed), hosts, deck, standing, kinds }
    }

    /// All is well, something is broken, it is mended, and all is well again.
    async fn round(&mut self, fault: Fault, row: &mut Row) {
        let load = self.load(fault);
        sleep(Duration::from_millis(self.dice.random_range(300..600))).await;
        let lasts = Duration::from_millis(self.dice.random_range(1500..3500));
        let lasting = fault.begin(&mut self.cluster, &mut self.dice).await;
        let until = Instant::now() + lasts;
        let came = if fault.is_of_nats() { self.log_in_everywhere().await } else { Vec::new() };
        sleep(until.saturating_duration_since(Instant::now())).await;
        let trouble = lasting.mend(&mut self.cluster).await;
        let works = self.works(&came, &mut row.tally).await;
        sleep(Duration::from_millis(300)).await;
        let mut cases = Vec::new();
        for told in load.end().await {
            match told {
                Told::Case(case) => cases.push(case),
                Told::Wrong(what) => row.tally.wrong.push(what),
            }
        }
        for case in &cases {
            let tally = Tally::of(case, &trouble);
            row.tally.add(&tally);
            self.kinds.entry(case.kind).or_default().add(&tally);
        }
        self.stay_refused(&cases, &mut row.tally).await;
        let is_fast = self.cluster.is_fast(&self.hosts[0].session).await;
        row.round(works, is_fast);
    }

    fn load(&mut self, fault: Fault) -> Load {
        let (sender, told) = mpsc::unbounded_channel();
        let race = Arc::new(Race {
            replicas: self.cluster.doors(),
            told: sender,
            deck: self.deck.clone(),
            clocks_jump: fault.is_of_clocks(),
        });
        let stop = Arc::new(AtomicBool::new(false));
        let racers = self.hosts.iter().map(|host| {
            let racer = Racer::new(host.clone(), race.clone(), self.dice.random());
            tokio::spawn(racer.race(stop.clone()))
        });
        Load { racers: racers.collect(), stop, told }
    }

    /// Without NATS people come and mint as ever, by every replica: what they are given.
    async fn log_in_everywhere(&self) -> Vec<Question> {
        let mut came = Vec::new();
        for replica in &self.cluster.replicas {
            let client = replica.door.client();
            let session = log_in(&client).await;
            let (_, token) = client.mint(&session, "laptop").await;
            came.extend([session, token].map(|credential| Question::of_credential(&credential)));
        }
        came
    }

    /// Waits until whatever was not revoked works everywhere; how long that took.
    async fn works(&self, came: &[Question], tally: &mut Tally) -> Duration {
        let mended = Instant::now();
        let each = self.cluster.replicas.iter().enumerate().map(async |(number, replica)| {
            let mut wrong = Vec::new();
            for question in self.standing.iter().chain(came) {
                let left = RECOVERY.saturating_sub(mended.elapsed());
                match verdict(&replica.door, question, left).await {
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
                match verdict(&replica.door, &case.question, RECOVERY).await {
                    Some(no) if no == case.question.no => {}
                    found => {
                        let Case { kind, id, .. } = case;
                        wrong.push(format!("replica {number} says {found:?} of {kind:?} {id}, revoked"));
                    }
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
