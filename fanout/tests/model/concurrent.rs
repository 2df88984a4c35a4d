//! Many at once, on several replicas: what each was told must be explained by one order.
//!
//! Positions are that order for whatever appended. Whoever appended nothing must have been told what
//! the reference says at some moment between the question and the answer. And what is dead once its
//! revocation was answered stays dead, on every replica and whatever they remember.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use parking_lot::Mutex;
use proptest::{collection::vec, prelude::*, strategy::Union, test_runner::TestRunner};
use tally_domain::claim::Namespace;

use crate::{
    config,
    reference::{Command, Credential, Handle, Model, Once, Outcome, Shown, Standing},
    runtime,
    system::{Answer, History, World},
};

/// Histories in `make test`.
const HISTORIES: u32 = 10;
const HISTORIES_PER_WORLD: u32 = 250;
const REPLICAS: usize = 2;
const TASKS: usize = 6;
/// Two addresses with an account, two with a code that nobody has used, one that nobody knows.
const ADDRESSES: Handle = 5;

/// What a task tries. Numbers pick among what is known at that moment.
#[derive(Clone, Debug)]
enum Try {
    Issue { address: Handle },
    Verify { address: Handle, right: bool },
    StartCli { pick: usize },
    Mint { by: usize, days: Option<i64>, once: Option<Once> },
    Renew { pick: usize },
    Revoke { pick: usize, line: bool },
    End { pick: usize },
    Suspend { address: Handle },
    Reinstate { address: Handle },
    Rename { by: usize, name: Option<u8> },
    Look { pick: usize },
}

fn attempt() -> impl Strategy<Value = Try> {
    let address = || 0..ADDRESSES;
    let pick = || 0_usize..12;
    let days = prop::sample::select(vec![None, Some(1), Some(5), Some(30)]);
    let once = prop::option::weighted(0.6, (0_u8..2, 0_u8..2).prop_map(|(key, body)| Once { key, body }));
    Union::new_weighted(vec![
        (5, address().prop_map(|address| Try::Issue { address }).boxed()),
        (
            9,
            (address(), prop::bool::weighted(0.6))
                .prop_map(|(address, right)| Try::Verify { address, right })
                .boxed(),
        ),
        (2, pick().prop_map(|pick| Try::StartCli { pick }).boxed()),
        (8, (pick(), days, once).prop_map(|(by, days, once)| Try::Mint { by, days, once }).boxed()),
        (5, pick().prop_map(|pick| Try::Renew { pick }).boxed()),
        (4, (pick(), any::<bool>()).prop_map(|(pick, line)| Try::Revoke { pick, line }).boxed()),
        (2, pick().prop_map(|pick| Try::End { pick }).boxed()),
        (1, (0..2_u32).prop_map(|address| Try::Suspend { address }).boxed()),
        (2, (0..2_u32).prop_map(|address| Try::Reinstate { address }).boxed()),
        (
            3,
            (pick(), prop::option::weighted(0.8, 0_u8..9))
                .prop_map(|(by, name)| Try::Rename { by, name })
                .boxed(),
        ),
        (6, pick().prop_map(|pick| Try::Look { pick }).boxed()),
    ])
}

/// What all tasks of a history know of each other's doings.
#[derive(Default)]
struct Book {
    next: Handle,
    /// The newest code of each address.
    codes: BTreeMap<Handle, Handle>,
    credentials: Vec<Shown>,
    /// What no replica may accept any more.
    dead: BTreeSet<Credential>,
}

impl Book {
    fn name(&mut self) -> Handle {
        self.next += 1;
        self.next
    }

    fn pick(&self, pick: usize, of: impl Fn(&Credential) -> bool) -> Option<Shown> {
        let fitting: Vec<_> = self.credentials.iter().filter(|shown| of(&shown.credential)).collect();
        (!fitting.is_empty()).then(|| *fitting[pick % fitting.len()])
    }

    /// Learns from a success.
    fn note(&mut self, command: &Command, outcome: &Outcome) {
        let credential = match (command, outcome) {
            (Command::Issue { address, code, .. }, Outcome::Done) => {
                self.codes.insert(*address, *code);
                return;
            }
            (Command::Verify { user, session, .. }, Outcome::Verified { .. }) => {
                Shown { user: *user, credential: Credential::Session(*session) }
            }
            (Command::StartCli { by, session }, Outcome::Started { .. }) => {
                Shown { user: by.user, credential: Credential::Session(*session) }
            }
            (Command::Mint { by, token, .. }, Outcome::Minted { .. }) => {
                Shown { user: by.user, credential: Credential::Token(*token) }
            }
            _ => return,
        };
        self.credentials.push(credential);
    }

    /// What dies with a command, of what was known before it.
    fn doomed(&self, command: &Command) -> Vec<Credential> {
        let all = self.credentials.iter();
        let of =
            |dies: &dyn Fn(&Shown) -> bool| all.filter(|shown| dies(shown)).map(|s| s.credential).collect();
        match command {
            Command::Revoke { by, root, line } => of(&|shown| {
                let Credential::Token(token) = shown.credential else { return false };
                shown.user == by.user && (token == *root || line.contains(&token))
            }),
            Command::End { by, session } => {
                of(&|shown| shown.user == by.user && shown.credential == Credential::Session(*session))
            }
            Command::Suspend { user } => of(&|shown| shown.user == *user),
            _ => Vec::new(),
        }
    }
}

/// A command, what came of it, and where the log ended before and after.
#[derive(Clone, Debug)]
struct Step {
    command: Command,
    answer: Answer,
    before: i64,
    after: i64,
}

struct Stage {
    world: Arc<World>,
    history: History,
    book: Mutex<Book>,
}

impl Stage {
    /// What the attempt is with what is known now; none when there is nothing to try it with.
    async fn command(&self, attempt: &Try, replica: usize) -> Option<Command> {
        let (history, replica) = (&self.history, &self.world.replicas[replica]);
        let is_session = |credential: &Credential| matches!(credential, Credential::Session(_));
        let is_token = |credential: &Credential| matches!(credential, Credential::Token(_));
        let account = async |address| {
            let user = history.holder(replica, Namespace::UserEmail, address).await;
            user.map(|user| history.user_handle(user))
        };
        Some(match *attempt {
            Try::Issue { address } => {
                let login = history.holder(replica, Namespace::LoginAddress, address).await;
                let login = login.map(|login| history.login_handle(login));
                let mut book = self.book.lock();
                Command::Issue { address, login: login.unwrap_or_else(|| book.name()), code: book.name() }
            }
            Try::Verify { address, right } => {
                let login = history.holder(replica, Namespace::LoginAddress, address).await;
                let login = login.map(|login| history.login_handle(login));
                let user = account(address).await;
                let mut book = self.book.lock();
                Command::Verify {
                    address,
                    login: login.unwrap_or_else(|| book.name()),
                    typed: book.codes.get(&address).copied().filter(|_| right),
                    user: user.unwrap_or_else(|| book.name()),
                    session: book.name(),
                    may_sign_up: true,
                }
            }
            Try::StartCli { pick } => {
                let mut book = self.book.lock();
                Command::StartCli { by: book.pick(pick, is_session)?, session: book.name() }
            }
            Try::Mint { by, days, once } => {
                let mut book = self.book.lock();
                Command::Mint { by: book.pick(by, |_| true)?, token: book.name(), days, once }
            }
            Try::Renew { pick } => {
                let shown = self.book.lock().pick(pick, is_token)?;
                let Credential::Token(token) = shown.credential else { return None };
                Command::Renew { user: shown.user, token }
            }
            Try::Revoke { pick, line } => {
                let by = self.book.lock().pick(pick, is_token)?;
                let Credential::Token(root) = by.credential else { return None };
                let line = if line { history.line_below(replica, by.user, root).await } else { Vec::new() };
                Command::Revoke { by, root, line }
            }
            Try::End { pick } => {
                let by = self.book.lock().pick(pick, is_session)?;
                let Credential::Session(session) = by.credential else { return None };
                Command::End { by, session }
            }
            Try::Suspend { address } => Command::Suspend { user: account(address).await? },
            Try::Reinstate { address } => Command::Reinstate { user: account(address).await? },
            Try::Rename { by, name } => Command::Rename { by: self.book.lock().pick(by, |_| true)?, name },
            Try::Look { .. } => return None,
        })
    }

    async fn step(&self, command: Command, replica: usize) -> Step {
        let doomed = self.book.lock().doomed(&command);
        let before = self.world.head().await;
        let answer = self.history.execute(&self.world, &self.world.replicas[replica], &command).await;
        let after = self.world.head().await;
        self.book.lock().note(&command, &answer.outcome);
        if matches!(answer.outcome, Outcome::Done | Outcome::Revoked(_)) && !doomed.is_empty() {
            self.book.lock().dead.extend(doomed.iter().copied());
            for replica in &self.world.replicas {
                for credential in &doomed {
                    let standing = self.history.standing(replica, *credential).await;
                    assert_ne!(standing, Standing::Live, "{credential:?} after {command:?}");
                }
            }
        }
        Step { command, answer, before, after }
    }

    async fn look(&self, pick: usize, replica: usize) {
        let (shown, was_dead) = {
            let book = self.book.lock();
            let Some(shown) = book.pick(pick, |_| true) else { return };
            (shown, book.dead.contains(&shown.credential))
        };
        let standing = self.history.standing(&self.world.replicas[replica], shown.credential).await;
        assert!(!was_dead || standing != Standing::Live, "{shown:?} lives again");
    }

    async fn play(self: Arc<Self>, script: Vec<Try>, replica: usize) -> Vec<Step> {
        let mut steps = Vec::new();
        for attempt in &script {
            if let Try::Look { pick } = attempt {
                self.look(*pick, replica).await;
            } else if let Some(command) = self.command(attempt, replica).await {
                steps.push(self.step(command, replica).await);
            }
        }
        steps
    }

    /// What there is before the tasks begin.
    async fn set(&self, model: &mut Model) {
        for address in 0..4 {
            let attempts = [Try::Issue { address }, Try::Verify { address, right: true }];
            for attempt in &attempts[..if address < 2 { 2 } else { 1 }] {
                self.both(attempt, model).await;
            }
        }
        // Two sessions, then for each a token that may soon be renewed, and one below it.
        for by in 0..4 {
            self.both(&Try::Mint { by, days: Some(5), once: None }, model).await;
        }
    }

    /// In the reference no time passes: here it does.
    fn slack(&self) -> i64 {
        self.history.lasted() + 5
    }

    async fn both(&self, attempt: &Try, model: &mut Model) {
        let command = self.command(attempt, 0).await.expect("nothing is missing");
        let step = self.step(command, 0).await;
        let expected = model.execute(&step.command);
        assert!(step.answer.outcome.agrees(&expected, self.slack()), "{step:?}, not {expected:?}");
    }
}

/// Finds the order that explains all answers, or says which answer none explains.
fn explain(start: Model, origin: i64, slack: i64, steps: &[Step]) -> Result<Model, String> {
    let position_in = |model: &Model| origin + i64::try_from(model.log.len()).expect("a short history");
    let mut appended: Vec<&Step> = steps.iter().filter(|step| step.answer.appended).collect();
    appended.sort_by_key(|step| step.answer.position);
    let mut moments = vec![start];
    for step in appended {
        let mut model = moments.last().expect("a start").clone();
        let expected = model.execute(&step.command);
        let position = position_in(&model);
        if !step.answer.outcome.agrees(&expected, slack) || step.answer.position != Some(position) {
            return Err(format!("{step:?}: the reference says {expected:?} at position {position}"));
        }
        if !(step.before < position && position <= step.after) {
            return Err(format!("{step:?}: it stands at a position from before or after it"));
        }
        moments.push(model);
    }
    for step in steps.iter().filter(|step| !step.answer.appended && step.answer.outcome != Outcome::TryAgain)
    {
        let ends = moments.iter().skip(1).map(position_in).chain([i64::MAX]);
        let during = moments
            .iter()
            .zip(ends)
            .filter(|(moment, end)| position_in(moment) <= step.after && *end > step.before);
        let mut said = Vec::new();
        for (moment, _) in during {
            let mut model = moment.clone();
            let outcome = model.execute(&step.command);
            let unchanged = model.log.len() == moment.log.len();
            let replayed_there = match (&outcome, step.answer.position) {
                (Outcome::Replayed { receipt }, Some(position)) => {
                    position == origin + moment.tokens[receipt].position()
                }
                _ => true,
            };
            if unchanged && replayed_there && step.answer.outcome.agrees(&outcome, slack) {
                said.clear();
                break;
            }
            said.push(outcome);
        }
        if !said.is_empty() {
            return Err(format!("{step:?}: no moment explains it; the reference says {said:?}"));
        }
    }
    Ok(moments.pop().expect("a start"))
}

async fn history(world: Arc<World>, scripts: Vec<Vec<Try>>) -> (usize, usize) {
    let history = History::begin(&world).await;
    let stage = Arc::new(Stage { world, history, book: Mutex::default() });
    let mut model = Model::default();
    stage.set(&mut model).await;
    let tasks = scripts
        .into_iter()
        .enumerate()
        .map(|(task, script)| tokio::spawn(stage.clone().play(script, task % REPLICAS)));
    let ended = futures::future::join_all(tasks).await;
    let steps: Vec<Step> = ended.into_iter().flat_map(|steps| steps.expect("a task ends")).collect();
    let model = explain(model, stage.history.before, stage.slack(), &steps).unwrap_or_else(|wrong| {
        let mut told: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
        told.sort();
        panic!("{wrong}\nall steps:\n{}", told.join("\n"))
    });
    assert_eq!(stage.history.recorded(&stage.world).await, model.recorded());
    let contended = steps.iter().filter(|step| step.answer.outcome == Outcome::TryAgain).count();
    (steps.len(), contended)
}

#[test]
fn whatever_many_do_at_once_one_order_explains_what_each_was_told() {
    let worlds: Mutex<Option<(Arc<World>, u32)>> = Mutex::new(None);
    let totals = Mutex::new((0, 0));
    let ready = async || {
        let taken = worlds.lock().take();
        let (world, histories) = match taken {
            Some((world, HISTORIES_PER_WORLD)) => {
                world.assert_holds().await;
                (Arc::new(World::replicated(REPLICAS).await), 0)
            }
            Some(taken) => taken,
            None => (Arc::new(World::replicated(REPLICAS).await), 0),
        };
        *worlds.lock() = Some((world.clone(), histories + 1));
        world
    };
    let strategy = vec(vec(attempt(), 1..12), TASKS);
    let outcome = TestRunner::new(config(HISTORIES)).run(&strategy, |scripts| {
        runtime().block_on(async {
            let (steps, contended) = history(ready().await, scripts).await;
            let mut totals = totals.lock();
            *totals = (totals.0 + steps, totals.1 + contended);
        });
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    let (world, _) = worlds.lock().take().expect("histories ran");
    runtime().block_on(world.assert_holds());
    let (steps, contended) = *totals.lock();
    println!("{steps} commands, {contended} of them told to try again");
    assert!(contended * 10 < steps, "{contended} of {steps} commands were told to try again");
}
