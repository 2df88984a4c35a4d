//! Racers: each makes something that can be revoked, has every replica asked for it without a pause worth
//! the name and follows a workspace with it, revokes it by any of them, and goes on asking. All of it is
//! written down with its times, and judged later.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use rand::{
    RngExt, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tally_tests::Answer;
use tokio::{sync::mpsc, task::JoinHandle, time::sleep};

use super::{
    ask::{Asked, Asker, Question},
    cluster::Operator,
    listen::{Heard, listen},
    subject::{Call, Host, Kind, Subject},
};
use crate::faults::site::Door;

/// How long all are asked on after the revocation is effective.
const TAIL: Duration = Duration::from_millis(12);
/// After this a racer turns to another replica.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(3);
/// A revocation has been tried everywhere by then, and all is mended.
const REVOKE_DEADLINE: Duration = Duration::from_secs(60);

/// One thing, from its making until nobody waits for an answer about it.
pub struct Case {
    pub kind: Kind,
    pub id: String,
    pub question: Question,
    pub asked: Vec<Asked>,
    pub heard: Vec<Heard>,
    pub attempts: Vec<Attempt>,
    /// The position of an event in the workspace that is followed, committed when it was revoked.
    pub afterwards: Option<i64>,
}

impl Case {
    pub fn effective(&self) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.outcome == Outcome::Effective)
    }

    pub fn is_revoked(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.outcome != Outcome::Unknown)
    }
}

/// One call to revoke it.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    pub replica: usize,
    pub start: Instant,
    pub end: Instant,
    pub outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was said that no replica accepts it any more.
    Effective,
    /// An earlier call without an answer had done it; that it is effective was not said.
    Gone,
    /// No answer, or 503.
    Unknown,
}

/// What racers say.
pub enum Told {
    Case(Case),
    /// Something that must not be.
    Wrong(String),
}

/// What is to be revoked next. All draw from one, so that no kind is left out for long.
#[derive(Clone, Default)]
pub struct Deck(Arc<Mutex<Vec<Kind>>>);

impl Deck {
    fn draw(&self, dice: &mut StdRng) -> Kind {
        let mut deck = self.0.lock().unwrap();
        if deck.is_empty() {
            deck.extend(Kind::ALL.into_iter().flat_map(|kind| [kind].repeat(kind.weight())));
            deck.shuffle(dice);
        }
        deck.pop().expect("it was filled")
    }
}

/// What all racers of a round share.
pub struct Race {
    pub replicas: Vec<(Door, Operator)>,
    pub told: mpsc::UnboundedSender<Told>,
    pub deck: Deck,
    /// Whether a clock jumps meanwhile: it may then be too late for a code that was just sent.
    pub clocks_jump: bool,
}

/// Somebody with a session, who does it again and again.
pub struct Racer {
    pub host: Host,
    race: Arc<Race>,
    dice: StdRng,
}

impl Racer {
    pub fn new(host: Host, race: Arc<Race>, seed: u64) -> Self {
        Self { host, race, dice: StdRng::seed_from_u64(seed) }
    }

    pub async fn race(mut self, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::SeqCst) {
            let kind = self.race.deck.draw(&mut self.dice);
            match self.make(kind).await {
                Some(subject) => self.race_for(subject).await,
                None => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn race_for(&mut self, subject: Subject) {
        let (asked, halt) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let race = self.race.clone();
        let all = || {
            race.replicas.iter().enumerate().map(|(replica, (door, _))| {
                Asker::new(replica, door.clone(), subject.question.clone(), asked.clone())
            })
        };
        let mut askers: Vec<JoinHandle<()>> =
            all().map(|asker| tokio::spawn(asker.hammer(halt.clone()))).collect();
        let followed = subject.followed.iter();
        let listeners: Vec<_> = followed
            .flat_map(|followed| {
                race.replicas.iter().enumerate().map(move |replica| (replica, followed.clone()))
            })
            .map(|((replica, (door, _)), followed)| {
                tokio::spawn(listen(replica, door.clone(), followed.workspace, followed.credential))
            })
            .collect();
        // The first answers are looked up, the later ones remembered; sometimes none is there yet.
        let before = Duration::from_micros(self.dice.random_range(0..20_000));
        sleep(before).await;
        let attempts = self.revoke(&subject).await;
        // Whoever still waits for an answer, such as that of a replica that is stopped, cannot ask.
        askers.extend(all().map(|asker| tokio::spawn(asker.ask_once())));
        let follows_home = subject.followed.as_ref().is_some_and(|it| it.workspace == self.host.home);
        let afterwards = follows_home.then(|| tokio::spawn(self.change_home()));
        sleep(TAIL).await;
        halt.store(true, Ordering::SeqCst);
        let told = self.race.told.clone();
        let Subject { kind, id, question, .. } = subject;
        tokio::spawn(async move {
            join_all(askers).await;
            let asked = std::mem::take(&mut *asked.lock().unwrap());
            let heard = join_all(listeners).await.into_iter();
            let heard = heard.filter_map(|heard| heard.expect("no listener panics")).collect();
            let afterwards = match afterwards {
                Some(change) => change.await.expect("no panic"),
                None => None,
            };
            // Nobody listens any more when a test has failed.
            drop(told.send(Told::Case(Case { kind, id, question, asked, heard, attempts, afterwards })));
        });
    }

    /// Revokes by one replica after the other until one says that it is effective.
    async fn revoke(&mut self, subject: &Subject) -> Vec<Attempt> {
        let deadline = Instant::now() + REVOKE_DEADLINE;
        let mut attempts: Vec<Attempt> = Vec::new();
        loop {
            let (replica, door, operator) = self.any();
            let start = Instant::now();
            let outcome = match &subject.call {
                Call::Suspend { user } if operator.suspends(user).await => Outcome::Effective,
                Call::Suspend { .. } => Outcome::Unknown,
                Call::Http { success, .. } => {
                    let request = subject.call.request(&door).expect("it is one");
                    let may_be_gone = subject.kind.vanishes() && !attempts.is_empty();
                    match exchange(request).await {
                        Some(answer) if answer.status == *success => {
                            if answer.header("x-revocation") != Some("effective") {
                                self.wrong(format!(
                                    "{:?} is not effective: {:?}",
                                    subject.kind, answer.headers
                                ));
                            }
                            Outcome::Effective
                        }
                        Some(answer) if answer.status == 404 && may_be_gone => Outcome::Gone,
                        Some(answer) if answer.status != 503 => {
                            let Answer { status, text, .. } = answer;
                            self.wrong(format!("{:?} by replica {replica}: {status} {text}", subject.kind));
                            Outcome::Unknown
                        }
                        Some(_) | None => Outcome::Unknown,
                    }
                }
            };
            attempts.push(Attempt { replica, start, end: Instant::now(), outcome });
            if outcome != Outcome::Unknown {
                return attempts;
            }
            if Instant::now() > deadline {
                self.wrong(format!("{:?}: {} cannot be revoked", subject.kind, subject.id));
                return attempts;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// An event in the home workspace: its position, if that is known.
    fn change_home(&mut self) -> impl Future<Output = Option<i64>> + use<> {
        let (_, door, _) = self.any();
        let path = format!("/api/workspaces/{}", self.host.home);
        let change = json!({ "description": format!("{}", self.dice.random::<u64>()) });
        let request =
            door.client().request(Method::PATCH, &path).bearer_auth(&self.host.session).json(&change);
        async move {
            let answer = exchange(request).await.filter(|answer| answer.status == 200)?;
            answer.header("x-log-position")?.parse().ok()
        }
    }

    /// Asks any replica to do something: the answer's body. None: it could not just now.
    pub async fn call(
        &mut self,
        method: Method,
        path: &str,
        credential: Option<&str>,
        body: Value,
    ) -> Option<Value> {
        let (replica, door, _) = self.any();
        let mut request = door.client().request(method.clone(), path).json(&body);
        if let Some(credential) = credential {
            request = request.bearer_auth(credential);
        }
        let answer = exchange(request).await?;
        match answer.status {
            200..300 => Some(answer.json()),
            503 => None,
            400 if self.race.clocks_jump && path == "/auth/verify-code" => None,
            status => {
                self.wrong(format!("{method} {path} by replica {replica}: {status} {}", answer.text));
                None
            }
        }
    }

    /// Any of the replicas, and which it is.
    fn any(&mut self) -> (usize, Door, Operator) {
        let replicas: Vec<_> = self.race.replicas.iter().enumerate().collect();
        let (replica, (door, operator)) = replicas.choose(&mut self.dice).expect("there are replicas");
        (*replica, door.clone(), operator.clone())
    }

    fn wrong(&self, what: String) {
        drop(self.race.told.send(Told::Wrong(what)));
    }
}

async fn exchange(request: RequestBuilder) -> Option<Answer> {
    let response = request.timeout(COMMAND_TIMEOUT).send().await.ok()?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Some(Answer { status, headers, text: response.text().await.ok()? })
}
