//! The protocol, explored: every order of every step of a few processes, up to a bound.
//!
//! [`random`](super::random) draws histories; this takes all of them. What is explored is the product's
//! [`Machine`], driven here as [`Replica`](crate::Replica), [`keeper`](crate::keeper) and
//! [`lookups`](crate::lookups) drive it, in a world of the model's own: a database with its log, list of
//! replicas and failover, processes with clocks that drift apart, and everything on the way between
//! them, which may be lost, doubled, late and out of order. Between any two steps any process may pause
//! for as long as it likes: a step that is not taken is a process that waits.
//!
//! A warm start is not in it: each of the verdicts it brings is a fill with a ticket from before the
//! statement that read it, and what many of them do that one does not, they do in the cache.
//!
//! A [`Setting`] says what is there and what may go wrong, so that each can be explored to its end. A
//! [`Bend`] breaks one rule, in the driver or by a hand inside the machine, and then a yes that must not
//! be has to be found.
//!
//! Two promises are looked at whenever somebody says yes:
//!
//! - **P3**: the request began before the revocation was effective, and no later than a lease lasts on
//!   the slowest clock after it became visible.
//! - **P4**: a lease that the database granted held at both looks at the clock, or the database answered
//!   by a statement that was sent after the request came.

use stateright::{Checker, HasDiscoveries, Model, Path, Property};

use super::*;

mod bends;
mod choices;
mod holds;
mod steps;
mod world;

use world::World;

const PROMISES: &str = "P3 and P4";
/// What everybody asks for.
const CREDENTIAL: u8 = 7;

// Clocks count nanoseconds. In one tick a fast one counts three and a slow one two: ρ is a fifth of
// the mean, and ε as large as `Timing` demands, 2ρΔ/(1−ρ).
const LEASE: u64 = 6;
const DRIFT: u64 = 3;
const FAST: u64 = 3;
const SLOW: u64 = 2;
/// How long a lease lasts on a slow clock.
const LEASE_TICKS: u8 = 3;
/// Δ of whoever is not asked, where those that are were told a longer one.
const SHORT_LEASE: u64 = 3;

/// What is there, and what may happen to it.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that may happen or not")]
struct Setting {
    replicas: usize,
    /// Who looks credentials up, remembers them and is asked. The others only take part.
    caches: Vec<usize>,
    /// The revocation is sent by a process that is no replica.
    observer: bool,
    /// ε.
    drift: u64,
    /// Whoever revokes, and whoever cleans up, was told a shorter lease than those that answer.
    short: bool,
    /// How often a process may register.
    registrations: u8,
    /// What the revocation overthrows.
    what: Invalidation,
    /// The revocation is the second event of its transaction.
    batch: bool,
    /// Commits beside it, which overthrow nothing.
    others: u8,
    crashes: u8,
    /// Any row may be taken for silent, at any moment.
    clean_up: bool,
    /// Replica 1 may leave.
    leaving: bool,
    failover: Option<Failover>,
    /// The revocation is repeated through replica 1, which is told that it is so already.
    again: bool,
    /// Requests begin at any time, and not only when they must not end in a yes.
    any_time: bool,
    /// Requests that memory cannot answer wait for a lookup.
    lookups: bool,
    /// Events that one read of the log returns at most.
    page: i64,
    /// A read of the log may be answered later than it was run.
    pages_are_late: bool,
    /// Who only takes part hears whatever is said at once. Hearing later only makes a revocation effective
    /// later, as long as there is one history: nothing is lost that could break a promise.
    hears_at_once: bool,
    /// What has happened before.
    before: Vec<Step>,
    bend: Option<Bend>,
}

/// The database fails over once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failover {
    /// Rows of the list may be lost.
    loses_list: bool,
    /// Commits that were told may be lost, if they revoke nothing: the standby was behind.
    loses_tail: bool,
}

impl Setting {
    /// Two replicas, of which the first revokes and the second answers from memory.
    fn plain() -> Self {
        Self {
            replicas: 2,
            caches: vec![1],
            observer: false,
            drift: DRIFT,
            short: false,
            registrations: 1,
            what: Invalidation::Of(token(CREDENTIAL)),
            batch: false,
            others: 0,
            crashes: 0,
            clean_up: false,
            leaving: false,
            failover: None,
            again: false,
            any_time: false,
            lookups: false,
            page: 1000,
            pages_are_late: false,
            hears_at_once: false,
            before: settled(0),
            bend: None,
        }
    }

    /// The same, and the second has a lease already.
    fn leased() -> Self {
        Self { before: [&settled(0)[..], &leased(1)].concat(), ..Self::plain() }
    }

    /// And the first hears at once.
    fn hearing() -> Self {
        Self { hears_at_once: true, ..Self::leased() }
    }

    /// And the row of the second was marked as leaving, long enough ago to be deleted.
    fn silent() -> Self {
        let mut setting = Self { clean_up: true, registrations: 2, ..Self::hearing() };
        setting.before.extend([Step::Mark(1), Step::Tick, Step::Tick, Step::Tick]);
        setting
    }

    /// The second has a lease, remembers the credential, and has applied a commit that may still be lost.
    fn losing() -> Self {
        let hear = Step::Hear { process: 1, history: 0, position: 1 };
        let lost = [Step::LookUp(1), Step::TakeFill(1), Step::CommitAnother, hear];
        Self { before: [&settled(0)[..], &leased(1), &lost].concat(), ..Self::plain() }
    }

    /// One replica, which revokes and answers.
    fn alone() -> Self {
        Self { replicas: 1, caches: vec![0], before: Vec::new(), ..Self::plain() }
    }

    fn bent(self, bend: Bend) -> Self {
        Self { bend: Some(bend), ..self }
    }

    /// What a process was told, by its number.
    fn timing(&self, process: usize) -> Timing {
        let is_short = self.short && !self.caches.contains(&process);
        let [lease, lease_max, drift] =
            [if is_short { SHORT_LEASE } else { LEASE }, LEASE, self.drift].map(Duration::from_nanos);
        let is_bent = self.bend == Some(Bend::UnreadListByOwnLease);
        Timing { lease, lease_max: if is_bent { lease } else { lease_max }, drift }
    }
}

/// A replica is registered, has read the head, and has known its history for long enough to believe what
/// others acknowledge.
fn settled(replica: usize) -> Vec<Step> {
    [&leased(replica)[..], &[Step::Tick; 3]].concat()
}

/// A replica is registered and may answer from memory.
fn leased(replica: usize) -> [Step; 4] {
    use Step::{Register, RunRenewal, SendRenewal, TakeRenewal};
    [Register(replica), SendRenewal(replica), RunRenewal(replica), TakeRenewal(replica)]
}

/// A rule that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bend {
    EpsilonZero,
    NoLeaseCheck,
    LeaseCheckedOnlyAfterTheLook,
    LeaseStampedAtTheReply,
    LeaseBeforeTheLogIsApplied,
    BusRenewsTheLease,
    BarrierFromSending,
    ListReadBeforeTheCommit,
    RegisteredAfterTheHeadWasRead,
    RegistryLost,
    FillUnchecked,
    FillWithoutFloor,
    PositionFromASecondStatement,
    FillCheckedApart,
    /// As it would be with what is in the cache: the entry keeps the position it was read at.
    FillCheckedApartByPosition,
    FillUncheckedByPosition,
    OnlyTheTokenIsAKey,
    AcknowledgedBeforeRemoval,
    OwnCacheLeftOut,
    RepeatedWithoutBarrier,
    EarlierFlightJoined,
    GapSkipped,
    CursorSetToTheMessage,
    UncommittedPublished,
    StandbyHead,
    NaiveCleanUp,
    CleanUpByOwnLease,
    ListByOwnLease,
    UnreadListByOwnLease,
    RenewalIgnoresRegistration,
    RenewalAcceptedAfterLeaving,
    TagKeptOverFailover,
    DeposedPrimaryAnswers,
}

impl Bend {
    /// Whether a fill that the machine would refuse may still come in.
    const fn concerns_fills(self) -> bool {
        matches!(
            self,
            Self::FillUnchecked
                | Self::FillWithoutFloor
                | Self::PositionFromASecondStatement
                | Self::FillCheckedApart
                | Self::FillCheckedApartByPosition
                | Self::FillUncheckedByPosition
                | Self::OnlyTheTokenIsAKey
        )
    }
}

/// One thing that happens. Processes, waiters and what was said are named by their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Tick,

    // The revocation.
    SendCommit,
    CommitIsVisible,
    ReplyToCommit,
    ReadList(usize),
    HearAcknowledgement {
        waiter: usize,
        said: usize,
    },
    BecomeEffective(usize),
    /// Somebody is told that it is so already.
    RevokeAgain,
    CommitAnother,

    // Registration and renewal.
    Register(usize),
    SendRenewal(usize),
    RunRenewal(usize),
    TakeRenewal(usize),
    /// All three at once, where no lease matters.
    Renew(usize),
    Leave(usize),
    DeleteRow(usize),
    Mark(usize),
    Remove(usize),
    Crash(usize),

    // The log.
    Hear {
        process: usize,
        history: usize,
        position: i64,
    },
    ReadLog(usize),
    TakePage(usize),
    /// Both at once, where an old page holds nothing that a message does not.
    CatchUp(usize),

    // Fills and requests.
    LookUp(usize),
    TakeFill(usize),
    Ask(usize),
    Look(usize),
    Answer(usize),

    FailOver {
        kept: i64,
        list: bool,
    },

    // What only a broken rule allows.
    ReadListEarly,
    LoseRegistry,
    JoinFlight(usize),
    InsertFill(usize),
    PublishUncommitted,
    HearUncommitted(usize),
    AcknowledgeUnapplied {
        process: usize,
        history: usize,
        position: i64,
    },
    HearGap {
        process: usize,
        history: usize,
        position: i64,
    },
    RunRenewalOnStandby(usize),
    LookUpInDeposed(usize),
    EnterInList(usize),
}

impl Model for Setting {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let mut world = World::new(self.clone().into());
        for step in &self.before {
            world.take(*step);
            world.tidy();
        }
        vec![world]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if world.broken.is_none() {
            world.choices(steps);
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        next.take(step);
        next.tidy();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let promises = Property::always(PROMISES, |_, world: &World| world.broken.is_none());
        if self.bend.is_some() {
            return vec![promises];
        }
        vec![
            promises,
            Property::sometimes("effective by time", |_, world: &World| world.effective == Some(By::Time)),
            Property::sometimes("memory may answer", |_, world: &World| {
                world.processes.iter().enumerate().any(|(index, process)| {
                    world.caches(index)
                        && process.machine.answer(&hash(CREDENTIAL), || process.clock).is_some()
                })
            }),
        ]
    }
}

/// What was explored.
struct Explored {
    states: usize,
    depth: usize,
    counterexample: Option<Path<World, Step>>,
    unreached: Vec<&'static str>,
}

/// To the end, as far as a number of steps leads, or to the first promise that is broken: by the fewest
/// steps that break one.
fn explore(setting: &Setting, steps_max: Option<usize>) -> Explored {
    let mut checker = setting.clone().checker().finish_when(HasDiscoveries::AnyFailures);
    if let Some(steps) = steps_max {
        // The first world counts as one step deep, and one as deep as the target is not looked at.
        checker = checker.target_max_depth(steps + 2);
    }
    let checker = checker.spawn_bfs().join();
    let mut discoveries = checker.discoveries();
    let counterexample = discoveries.remove(PROMISES);
    let properties = setting.properties();
    let unreached = properties.iter().map(|property| property.name).skip(1);
    Explored {
        states: checker.unique_state_count(),
        depth: steps_max.unwrap_or(usize::MAX).min(checker.max_depth() - 1),
        counterexample,
        unreached: unreached.filter(|name| !discoveries.contains_key(name)).collect(),
    }
}

/// The steps of a counterexample, and which promise its last one breaks.
fn story(path: Path<World, Step>) -> (usize, &'static str, String) {
    let broken = path.last_state().broken.expect("a counterexample breaks a promise");
    let steps = path.into_actions();
    let told: Vec<String> = steps.iter().map(|step| format!("  {step:?}")).collect();
    (steps.len(), broken, told.join("\n"))
}
