//! What is done to replicas and to what is between them, and how it is mended.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rand::{RngExt, rngs::StdRng, seq::SliceRandom};
use rustix::process::Signal;
use sqlx::{Connection, PgConnection};
use tally_tests::{Condition, Line, client::answer, eventually, line::Way, postgres::Frozen};

use super::{
    cluster::{Cluster, Replica},
    judge::{Blackout, Trouble},
};
use crate::support::{log_lines, now, timestamp};

/// How far a clock jumps.
const JUMP_SECONDS: i64 = 3600;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    KillReplica,
    StopReplica,
    KillNats,
    StopNats,
    KillPostmaster,
    StopPostgres,
    ToNats(Broken),
    ToPostgres(Broken),
    /// Messages are lost, doubled and overtaken on their way to every replica.
    Messages,
    ReplicaClock(Jump),
    PostgresClock(Jump),
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Broken {
    Cut,
    CutThere,
    CutBack,
    Slow,
    Lossy,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Jump {
    Ahead,
    Back,
}

/// A fault that lasts.
pub struct Lasting {
    fault: Fault,
    victims: Vec<usize>,
    frozen: Option<Frozen>,
    since: Instant,
}

impl Fault {
    pub fn name(self) -> String {
        let broken = |broken| match broken {
            Broken::Cut => "cut",
            Broken::CutThere => "cut one way, there",
            Broken::CutBack => "cut one way, back",
            Broken::Slow => "slow",
            Broken::Lossy => "losing a tenth",
        };
        let jump = |jump| match jump {
            Jump::Ahead => "an hour ahead and back",
            Jump::Back => "an hour back and ahead",
        };
        match self {
            Self::KillReplica => "kill -9 of a replica".to_owned(),
            Self::StopReplica => "SIGSTOP of a replica".to_owned(),
            Self::KillNats => "kill -9 of nats-server".to_owned(),
            Self::StopNats => "SIGSTOP of nats-server".to_owned(),
            Self::KillPostmaster => "kill -9 of the postmaster".to_owned(),
            Self::StopPostgres => "SIGSTOP of PostgreSQL".to_owned(),
            Self::ToNats(line) => format!("lines to NATS: {}", broken(line)),
            Self::ToPostgres(line) => format!("a line to PostgreSQL: {}", broken(line)),
            Self::Messages => "messages lost, doubled, overtaken, a tenth each".to_owned(),
            Self::ReplicaClock(to) => format!("a replica's clock: {}", jump(to)),
            Self::PostgresClock(to) => format!("PostgreSQL's clock: {}", jump(to)),
        }
    }

    /// Whether nothing but NATS is broken: people can do everything.
    pub const fn is_of_nats(self) -> bool {
        matches!(self, Self::KillNats | Self::StopNats | Self::ToNats(_) | Self::Messages)
    }

    pub const fn is_of_clocks(self) -> bool {
        matches!(self, Self::ReplicaClock(_) | Self::PostgresClock(_))
    }

    /// Whether its victims hear nothing of the database.
    const fn hides_the_database(self) -> bool {
        matches!(
            self,
            Self::KillPostmaster
                | Self::StopPostgres
                | Self::ToPostgres(Broken::Cut | Broken::CutThere | Broken::CutBack)
        )
    }

    pub async fn begin(self, cluster: &mut Cluster, dice: &mut StdRng) -> Lasting {
        let mut victims: Vec<usize> = (0..cluster.replicas.len()).collect();
        let is_of_one = match self {
            Self::KillReplica | Self::StopReplica | Self::ToPostgres(_) => true,
            // Sometimes nobody hears anybody.
            Self::ToNats(_) => !dice.random_bool(0.3),
            Self::KillNats
            | Self::StopNats
            | Self::KillPostmaster
            | Self::StopPostgres
            | Self::Messages
            | Self::ReplicaClock(_)
            | Self::PostgresClock(_) => false,
        };
        if is_of_one {
            victims.shuffle(dice);
            victims.truncate(1);
        }
        let mut frozen = None;
        match self {
            Self::KillReplica => victims.iter().for_each(|victim| {
                let process = cluster.replicas[*victim].server.process();
                process.signal(Signal::KILL);
                process.wait();
            }),
            Self::StopReplica => signal(cluster, &victims, Signal::STOP),
            Self::KillNats => cluster.nats.down(),
            Self::StopNats => cluster.nats.process().signal(Signal::STOP),
            Self::KillPostmaster => cluster.postgres.crash().await,
            Self::StopPostgres => frozen = Some(cluster.postgres.freeze()),
            Self::ToNats(broken) => {
                be(cluster, &victims, broken.condition(dice), |replica| &replica.nats);
            }
            Self::ToPostgres(broken) => {
                be(cluster, &victims, broken.condition(dice), |replica| &replica.postgres);
            }
            Self::Messages => be(cluster, &victims, Condition::Meddling, |replica| &replica.nats),
            Self::ReplicaClock(jump) | Self::PostgresClock(jump) => {
                let seconds = if jump == Jump::Ahead { JUMP_SECONDS } else { -JUMP_SECONDS };
                self.shift(cluster, seconds).await;
            }
        }
        Lasting { fault: self, victims, frozen, since: Instant::now() }
    }

    /// Shifts a clock, and sees that whoever goes by it believes it.
    async fn shift(self, cluster: &Cluster, seconds: i64) {
        let clocks = &cluster.clocks;
        let clock = if matches!(self, Self::ReplicaClock(_)) { &clocks.replica } else { &clocks.postgres };
        clock.as_ref().expect("it goes by such a clock").shift(seconds);
        eventually("the clock to jump", async || {
            let ahead = if matches!(self, Self::ReplicaClock(_)) {
                replica_ahead(&cluster.replicas[0]).await
            } else {
                postgres_ahead(cluster).await
            };
            ((ahead - seconds).abs() < 60).then_some(())
        })
        .await;
    }
}

impl Broken {
    fn condition(self, dice: &mut StdRng) -> Condition {
        match self {
            Self::Cut => Condition::Cut,
            Self::CutThere => Condition::CutOneWay(Way::ToServer),
            Self::CutBack => Condition::CutOneWay(Way::ToClient),
            // An answer that comes late tells what was true long ago.
            Self::Slow => Condition::Slow {
                there: Duration::from_millis(dice.random_range(0..30)),
                back: Duration::from_millis(dice.random_range(5..300)),
            },
            Self::Lossy => Condition::Lossy,
        }
    }
}

impl Lasting {
    /// Mends it; who could not hear what meanwhile, and for how long.
    pub async fn mend(self, cluster: &mut Cluster) -> Trouble {
        let Self { fault, victims, frozen, since } = self;
        let to = Instant::now();
        match fault {
            Fault::KillReplica => {
                for victim in &victims {
                    cluster.replicas[*victim].restart().await;
                }
            }
            Fault::StopReplica => signal(cluster, &victims, Signal::CONT),
            Fault::KillNats => cluster.nats.up().await,
            Fault::StopNats => cluster.nats.process().signal(Signal::CONT),
            Fault::KillPostmaster => cluster.postgres.restart().await,
            Fault::StopPostgres => drop(frozen),
            Fault::ToNats(_) | Fault::Messages => {
                be(cluster, &victims, Condition::Good, |replica| &replica.nats)
            }
            Fault::ToPostgres(_) => be(cluster, &victims, Condition::Good, |replica| &replica.postgres),
            Fault::ReplicaClock(_) | Fault::PostgresClock(_) => fault.shift(cluster, 0).await,
        }
        let hidden = victims.into_iter().filter(|_| fault.hides_the_database());
        let blackouts = hidden.map(|replica| Blackout { replica, from: since, to }).collect();
        // Without NATS they read what is committed.
        let deaf = (!fault.is_of_nats()).then(|| (since, Instant::now()));
        Trouble { deaf, blackouts }
    }
}

fn signal(cluster: &mut Cluster, victims: &[usize], signal: Signal) {
    for victim in victims {
        cluster.replicas[*victim].server.process().signal(signal);
    }
}

fn be(cluster: &Cluster, victims: &[usize], condition: Condition, line: fn(&Replica) -> &Line) {
    for victim in victims {
        line(&cluster.replicas[*victim]).be(condition);
    }
}

/// By how many seconds a replica dates what it logs ahead of the time. (The `Date` of its answers is kept
/// by hyper, and does not run back.)
async fn replica_ahead(replica: &Replica) -> i64 {
    answer(replica.door.client().get("/api/tokens")).await;
    let log = log_lines(&replica.server);
    let last = log.last().expect("every request is logged");
    (timestamp(&last["timestamp"]) - now()).num_seconds()
}

async fn postgres_ahead(cluster: &Cluster) -> i64 {
    let options = cluster.postgres.options("postgres");
    let mut connection = PgConnection::connect_with(&options).await.expect("it runs");
    let time: DateTime<Utc> =
        sqlx::query_scalar("select clock_timestamp()").fetch_one(&mut connection).await.expect("it answers");
    connection.close().await.expect("it answers");
    (time - now()).num_seconds()
}
