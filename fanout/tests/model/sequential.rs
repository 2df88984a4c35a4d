//! One command after the other, each compared with what the reference says of it.
//!
//! A history is a list of wishes, and a wish becomes a command only in front of the state it meets,
//! so that a history with wishes taken out is one too: failures shrink.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use proptest::{
    prelude::*,
    strategy::Union,
    test_runner::{Config, RngSeed, TestRunner},
};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};

use crate::{
    config,
    reference::{Command, Credential, DAY, Handle, Login, MINUTE, Model, Once, Outcome, SLACK, Shown},
    runtime,
    system::{History, World, name_text},
};

/// Addresses of a history; the first two have an account from the start.
const ADDRESSES: Handle = 3;
/// Histories in `make test`.
const HISTORIES: u32 = 16;
/// Histories that share a database.
const HISTORIES_PER_WORLD: u32 = 100;

/// What is wished for. Numbers pick among what is there, and small ones are the simplest.
#[derive(Clone, Debug)]
pub enum Wish {
    Issue { address: Handle, elsewhere: bool },
    Verify { address: Handle, guess: Guess, newcomer: bool, may_sign_up: bool },
    StartCli { session: usize },
    Mint { by: usize, days: Option<i64>, once: Option<Once> },
    Renew { token: usize },
    Revoke { by: usize, token: usize, line: bool },
    End { by: usize, session: usize },
    Suspend { address: Handle },
    Reinstate { address: Handle },
    Rename { by: usize, name: Option<u8> },
    Erase { address: Handle },
    Purge,
    Wait { seconds: i64 },
}

#[derive(Clone, Copy, Debug)]
pub enum Guess {
    Right,
    /// The code before the newest.
    Superseded,
    Wrong,
}

/// How many wrong guesses a history begins with.
#[derive(Clone, Copy, Debug)]
enum Guessed {
    Never,
    AlmostTheCodesShare,
    AlmostTheDaysShare,
}

/// The reference's side of a history.
#[derive(Clone)]
pub struct Told {
    pub model: Model,
    next: Handle,
    /// Codes of each address, in the order they were made.
    codes: BTreeMap<Handle, Vec<Handle>>,
    /// The latest command, what should come of it, and how many events there were before.
    last: Option<(Command, Outcome, usize)>,
    /// How it began.
    story: Vec<(Command, Outcome)>,
}

impl std::fmt::Debug for Told {
    /// A failure shows what a history began with, and that is one of three stories.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} commands have made {} events", self.story.len(), self.model.log.len())
    }
}

impl Told {
    /// Two people have logged in, and somebody has guessed at the door of a third address.
    fn beginning(guessed: Guessed) -> Self {
        let mut told =
            Self { model: Model::default(), next: 0, codes: BTreeMap::new(), last: None, story: Vec::new() };
        let issue = |address| Wish::Issue { address, elsewhere: false };
        let verify = |address, guess| Wish::Verify { address, guess, newcomer: false, may_sign_up: true };
        let mut wishes = Vec::new();
        for address in 0..2 {
            wishes.extend([issue(address), verify(address, Guess::Right)]);
        }
        // Five codes an hour, five guesses each.
        let codes: &[(i64, usize)] = match guessed {
            Guessed::Never => &[],
            Guessed::AlmostTheCodesShare => &[(0, 4)],
            Guessed::AlmostTheDaysShare => &[(130, 5), (130, 5), (130, 5), (130, 5), (130, 5), (3_700, 4)],
        };
        for (seconds, wrong) in codes {
            wishes.extend([Wish::Wait { seconds: *seconds }, issue(2)]);
            wishes.extend((0..*wrong).map(|_| verify(2, Guess::Wrong)));
        }
        for wish in wishes {
            let command = told.command(&wish).expect("a command");
            told.run(&command);
            let outcome = told.last.clone().expect("it has run").1;
            told.story.push((command, outcome));
        }
        told
    }

    fn run(&mut self, command: &Command) {
        let before = self.model.log.len();
        let outcome = self.model.execute(command);
        if let (Command::Issue { address, code, .. }, Outcome::Done) = (command, &outcome) {
            self.codes.entry(*address).or_default().push(*code);
        }
        // Names are used up whether or not something came of it.
        self.next += 3;
        self.last = Some((command.clone(), outcome, before));
    }

    fn shown(&self, pick: usize) -> Option<Shown> {
        let sessions = self.model.sessions.iter();
        let sessions = sessions.map(|(id, session)| (session.user, Credential::Session(*id)));
        let tokens = self.model.tokens.iter().map(|(id, token)| (token.user, Credential::Token(*id)));
        let all: Vec<Shown> =
            sessions.chain(tokens).map(|(user, credential)| Shown { user, credential }).collect();
        (!all.is_empty()).then(|| all[pick % all.len()])
    }

    fn session(&self, pick: usize) -> Option<Handle> {
        self.model.sessions.keys().nth(pick % self.model.sessions.len().max(1)).copied()
    }

    fn token(&self, pick: usize) -> Option<Handle> {
        self.model.tokens.keys().nth(pick % self.model.tokens.len().max(1)).copied()
    }

    fn of_session(&self, session: Handle) -> Shown {
        Shown { user: self.model.sessions[&session].user, credential: Credential::Session(session) }
    }

    /// What a wish is in front of this state; none when nobody could wish it.
    fn command(&self, wish: &Wish) -> Option<Command> {
        let [first, second, third] = [self.next, self.next + 1, self.next + 2];
        let model = &self.model;
        Some(match *wish {
            Wish::Issue { address, elsewhere } => {
                let login = model.doors.get(&address).copied().filter(|_| !elsewhere).unwrap_or(first);
                Command::Issue { address, login, code: second }
            }
            Wish::Verify { address, guess, newcomer, may_sign_up } => {
                let codes = self.codes.get(&address).map_or(&[][..], Vec::as_slice);
                let typed = match guess {
                    Guess::Right => codes.last(),
                    Guess::Superseded => codes.iter().rev().nth(1),
                    Guess::Wrong => None,
                };
                let login = model.doors.get(&address).copied().unwrap_or(first);
                let user = model.accounts.get(&address).copied().filter(|_| !newcomer).unwrap_or(second);
                Command::Verify { address, login, typed: typed.copied(), user, session: third, may_sign_up }
            }
            Wish::StartCli { session } => {
                Command::StartCli { by: self.of_session(self.session(session)?), session: first }
            }
            Wish::Mint { by, days, once } => Command::Mint { by: self.shown(by)?, token: first, days, once },
            Wish::Renew { token } => {
                let token = self.token(token)?;
                Command::Renew { user: model.tokens[&token].user, token }
            }
            Wish::Revoke { by, token, line } => {
                let (by, root) = (self.shown(by)?, self.token(token)?);
                let owned = model.tokens[&root].user == by.user;
                let line = if line && owned { model.line_below(root) } else { Vec::new() };
                Command::Revoke { by, root, line }
            }
            Wish::End { by, session } => {
                Command::End { by: self.of_session(self.session(by)?), session: self.session(session)? }
            }
            Wish::Suspend { address } => Command::Suspend { user: self.account(address, first) },
            Wish::Reinstate { address } => Command::Reinstate { user: self.account(address, first) },
            Wish::Rename { by, name } => Command::Rename { by: self.shown(by)?, name },
            Wish::Erase { address } => Command::Erase { user: *model.accounts.get(&address)? },
            Wish::Purge => Command::Purge,
            Wish::Wait { seconds } => Command::Wait { seconds },
        })
    }

    /// Whether a code of it would still work, if it was not used, exhausted or replaced.
    fn has_fresh_code(&self, address: Handle) -> bool {
        let login = self.model.doors.get(&address).and_then(|login| self.model.logins.get(login));
        login.and_then(Login::issued_at).is_some_and(|at| self.model.now < at + 10 * MINUTE)
    }

    fn account(&self, address: Handle, unknown: Handle) -> Handle {
        self.model.accounts.get(&address).copied().unwrap_or(unknown)
    }
}

fn wish(told: &Told) -> BoxedStrategy<Wish> {
    let address = || 0..ADDRESSES;
    let pick = || 0_usize..8;
    // Where there is a code it is tried, most of the time, and when it was used it is tried again.
    let open: Vec<Handle> = (0..ADDRESSES).filter(|address| told.has_fresh_code(*address)).collect();
    let (guesses, door) = if open.is_empty() {
        (3, address().boxed())
    } else {
        (30, prop_oneof![8 => prop::sample::select(open), 1 => address()].boxed())
    };
    let rarely = || prop::bool::weighted(0.1);
    let guess = prop_oneof![4 => Just(Guess::Right), 1 => Just(Guess::Superseded), 4 => Just(Guess::Wrong)];
    let days = || prop::sample::select(vec![None, Some(1), Some(5), Some(30), Some(365)]);
    let once = prop::option::weighted(0.4, (0_u8..3, 0_u8..2).prop_map(|(key, body)| Once { key, body }));
    let pause = prop_oneof![
        4 => 120_i64..300,
        2 => 400_i64..700,
        2 => 3_400_i64..3_900,
        2 => DAY - 3_600..3 * DAY,
        3 => 20 * DAY..40 * DAY,
        1 => 80 * DAY..95 * DAY,
    ];
    Union::new_weighted(vec![
        (
            10,
            (address(), rarely()).prop_map(|(address, elsewhere)| Wish::Issue { address, elsewhere }).boxed(),
        ),
        (
            guesses,
            (door, guess, rarely(), prop::bool::weighted(0.9))
                .prop_map(|(address, guess, newcomer, may_sign_up)| Wish::Verify {
                    address,
                    guess,
                    newcomer,
                    may_sign_up,
                })
                .boxed(),
        ),
        (3, pick().prop_map(|session| Wish::StartCli { session }).boxed()),
        (14, (pick(), days(), once).prop_map(|(by, days, once)| Wish::Mint { by, days, once }).boxed()),
        (8, pick().prop_map(|token| Wish::Renew { token }).boxed()),
        (
            6,
            (pick(), pick(), any::<bool>())
                .prop_map(|(by, token, line)| Wish::Revoke { by, token, line })
                .boxed(),
        ),
        (4, (pick(), pick()).prop_map(|(by, session)| Wish::End { by, session }).boxed()),
        (2, address().prop_map(|address| Wish::Suspend { address }).boxed()),
        (3, address().prop_map(|address| Wish::Reinstate { address }).boxed()),
        (
            5,
            (pick(), prop::option::weighted(0.8, 0_u8..9))
                .prop_map(|(by, name)| Wish::Rename { by, name })
                .boxed(),
        ),
        (1, address().prop_map(|address| Wish::Erase { address }).boxed()),
        (1, Just(Wish::Purge).boxed()),
        (9, pause.prop_map(|seconds| Wish::Wait { seconds }).boxed()),
    ])
    .boxed()
}

impl ReferenceStateMachine for Told {
    type State = Self;
    type Transition = Wish;

    fn init_state() -> BoxedStrategy<Self> {
        prop_oneof![
            4 => Just(Self::beginning(Guessed::Never)),
            3 => Just(Self::beginning(Guessed::AlmostTheCodesShare)),
            1 => Just(Self::beginning(Guessed::AlmostTheDaysShare)),
        ]
        .boxed()
    }

    fn transitions(told: &Self) -> BoxedStrategy<Wish> {
        wish(told)
    }

    fn apply(mut state: Self, wish: &Wish) -> Self {
        let command = state.command(wish).expect("checked as a precondition");
        state.run(&command);
        state
    }

    fn preconditions(state: &Self, wish: &Wish) -> bool {
        let Some(command) = state.command(wish) else { return false };
        if !matches!(command, Command::Wait { .. }) {
            return true;
        }
        let mut later = state.model.clone();
        later.execute(&command);
        !later.is_near_a_boundary()
    }
}

/// The product's side.
pub struct Real {
    world: Arc<World>,
    history: History,
}

/// The database in use, and how many histories it has seen.
static WORLD: Mutex<Option<(Arc<World>, u32)>> = Mutex::new(None);

pub struct OneAfterTheOther;

impl StateMachineTest for OneAfterTheOther {
    type SystemUnderTest = Real;
    type Reference = Told;

    fn init_test(told: &Told) -> Real {
        runtime().block_on(async {
            let world = world().await;
            world.wait(0).await;
            let history = History::begin(&world).await;
            for (command, expected) in &told.story {
                let answer = history.execute_patiently(&world, command).await;
                assert!(answer.outcome.agrees(expected, SLACK), "{command:?}: {answer:?}, not {expected:?}");
            }
            Real { world, history }
        })
    }

    fn apply(real: Real, told: &Told, _: Wish) -> Real {
        runtime().block_on(async {
            let Real { world, history } = &real;
            let replica = &world.replicas[0];
            let (command, expected, events) = told.last.as_ref().expect("a command has run");
            if let Command::Revoke { by, root, line } = command
                && !line.is_empty()
            {
                assert_eq!(&history.line_below(replica, by.user, *root).await, line, "the line below {root}");
            }
            let answer = history.execute_patiently(world, command).await;
            assert!(
                answer.outcome.agrees(expected, SLACK),
                "{command:?}: the product says {:?}, the reference {expected:?}",
                answer.outcome
            );
            let appended = told.model.log.len() - events;
            assert_eq!(answer.appended, appended > 0, "{command:?}: {appended} events should be appended");
            // Gapless: each success stands at what was appended until then, and a replay where its
            // first stood.
            let head = history.before + i64::try_from(told.model.log.len()).expect("a short history");
            match (&answer.outcome, answer.position) {
                (Outcome::Replayed { receipt }, Some(position)) => {
                    let minted = told.model.tokens[receipt].position();
                    assert_eq!(position, history.before + minted, "{command:?}");
                }
                (_, Some(position)) => assert_eq!(position, head, "{command:?}"),
                (_, None) => {}
            }
            assert_eq!(world.head().await, head, "{command:?} left something behind");
            if let Command::Rename { .. } | Command::Erase { .. } = command {
                check_names(&real, told).await;
            }
        });
        real
    }

    fn check_invariants(real: &Real, told: &Told) {
        runtime().block_on(async {
            let Real { world, history } = real;
            let replica = &world.replicas[0];
            let sessions = told.model.sessions.keys().map(|id| Credential::Session(*id));
            for credential in sessions.chain(told.model.tokens.keys().map(|id| Credential::Token(*id))) {
                let found = history.standing(replica, credential).await;
                assert_eq!(found, told.model.standing(credential), "{credential:?}");
            }
        });
    }

    fn teardown(real: Real, told: Told) {
        runtime().block_on(async {
            check_names(&real, &told).await;
            let Real { world, history } = &real;
            assert_eq!(history.recorded(world).await, told.model.recorded());
        });
    }
}

/// What can be read of each person: the latest name, and nothing once they were erased.
async fn check_names(real: &Real, told: &Told) {
    for (user, account) in &told.model.users {
        let local = || {
            let mut doors = told.model.accounts.iter();
            let (address, _) = doors.find(|(_, holder)| *holder == user).expect("an account has an address");
            real.history.address(*address).local_part().to_owned()
        };
        let expected = (!account.erased).then(|| account.name.map_or_else(local, name_text));
        let found = real.history.name(&real.world.replicas[0], *user).await;
        assert_eq!(found, expected, "the name of {user}");
    }
}

/// A database that has room for one more history. A full one is checked as a whole and given up.
async fn world() -> Arc<World> {
    let full = {
        let mut slot = WORLD.lock();
        match slot.take() {
            Some((world, histories)) if histories < HISTORIES_PER_WORLD => {
                *slot = Some((world.clone(), histories + 1));
                return world;
            }
            full => full,
        }
    };
    if let Some((world, _)) = full {
        world.assert_holds().await;
    }
    let world = Arc::new(World::frozen().await);
    *WORLD.lock() = Some((world.clone(), 1));
    world
}

#[test]
fn whatever_is_done_in_whatever_order_the_product_says_what_the_reference_says() {
    let config = config(HISTORIES);
    let histories = Told::sequential_strategy(1..60);
    let outcome = TestRunner::new(config.clone()).run(&histories, |(told, wishes, seen)| {
        OneAfterTheOther::test_sequential(config.clone(), told, wishes, seen);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    let (world, _) = WORLD.lock().take().expect("histories ran");
    runtime().block_on(world.assert_holds());
}

/// The test above would also pass if nothing ever happened. Of the reference alone, so it is quick.
#[test]
fn the_histories_meet_every_answer_there_is() {
    let seen = Mutex::new(BTreeMap::new());
    let config =
        Config { cases: 200, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::default() };
    let ran = TestRunner::new(config).run(&Told::sequential_strategy(1..60), |(mut told, wishes, _)| {
        for wish in &wishes {
            told = Told::apply(told, wish);
            let (command, outcome, events) = told.last.as_ref().expect("a command has run");
            let text = format!("{command:?}");
            let command = text.split(' ').next().expect("a name").to_owned();
            let text = format!("{outcome:?}");
            let outcome = text.split([' ', '(']).next().expect("a name").to_owned();
            // A mark tells what appended something.
            let mark = if told.model.log.len() > *events { "!" } else { "" };
            *seen.lock().entry((command, outcome + mark)).or_insert(0) += 1;
        }
        Ok(())
    });
    assert!(ran.is_ok());
    let seen = seen.into_inner();
    println!("{seen:#?}");
    for (command, outcomes) in ANSWERS {
        for outcome in *outcomes {
            let times = seen.get(&(command.to_string(), outcome.to_string())).copied().unwrap_or(0);
            assert!(times >= 3, "{command} was told {outcome} {times} times");
        }
    }
}

/// What there is to be told.
const ANSWERS: &[(&str, &[&str])] = &[
    ("Issue", &["Done!", "TooManyCodes", "ClaimTaken"]),
    (
        "Verify",
        &[
            "NoLiveCode",
            "Wrong!",
            "SignupProhibited!",
            "AccountSuspended!",
            "Verified!",
            "TooManyGuesses",
            "ClaimTaken",
            "Erased",
        ],
    ),
    ("StartCli", &["Started!", "Ended", "NotFromALogin", "Erased"]),
    ("Mint", &["Minted!", "Replayed", "KeyReused", "Ended", "Erased"]),
    ("Renew", &["Renewal!", "Renewal", "Ended"]),
    ("Revoke", &["Revoked!", "Revoked"]),
    ("End", &["Done!", "Done"]),
    ("Suspend", &["Done!", "Done", "Unknown"]),
    ("Reinstate", &["Done!", "Done", "Unknown"]),
    ("Rename", &["Done!", "Done", "Unknown", "Erased"]),
    ("Erase", &["Done"]),
    ("Purge", &["Done"]),
    ("Wait", &["Done"]),
];
