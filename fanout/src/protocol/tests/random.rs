//! Random histories against an oracle that knows only which credential was live when.
//!
//! Two replicas share a database that commits, fails over and loses its tail. Messages are lost,
//! doubled and reordered; answers arrive late or never; the clock of both is one.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const CREDENTIALS: u8 = 3;
const REPLICAS: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    Tick(u64),
    /// Something that overthrows nothing.
    Commit,
    /// Revokes a credential, or suspends whoever holds all of them, through one of the replicas.
    Revoke(usize, Option<u8>),
    /// Any message there ever was.
    Deliver(usize, usize),
    /// The message that is next for this replica.
    Hear(usize),
    /// A renewal that meets no trouble.
    Renew(usize),
    SendRead(usize),
    SendRenewal(usize),
    SendFill(usize, u8),
    /// The database runs a statement that was sent.
    Run(usize),
    /// The answer to one that ran arrives.
    Arrive(usize),
    Acknowledge(usize, usize),
    Register(usize),
    /// Cleaning up takes a replica for dead.
    Mark(usize),
    Verify(usize, u8),
    /// The tail of the log is lost, this many events of it, and maybe the latest registration.
    FailOver(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let replica = 0..REPLICAS;
    let credential = 0..CREDENTIALS;
    prop_oneof![
        8 => (1_u64..400).prop_map(Step::Tick),
        2 => Just(Step::Commit),
        4 => (replica.clone(), prop::option::weighted(0.8, credential.clone())).prop_map(|(r, c)| Step::Revoke(r, c)),
        3 => (replica.clone(), 0_usize..64).prop_map(|(r, m)| Step::Deliver(r, m)),
        10 => replica.clone().prop_map(Step::Hear),
        8 => replica.clone().prop_map(Step::Renew),
        3 => replica.clone().prop_map(Step::SendRead),
        3 => replica.clone().prop_map(Step::SendRenewal),
        8 => (replica.clone(), credential.clone()).prop_map(|(r, c)| Step::SendFill(r, c)),
        10 => (0_usize..64).prop_map(Step::Run),
        10 => (0_usize..64).prop_map(Step::Arrive),
        4 => (replica.clone(), replica.clone()).prop_map(|(a, b)| Step::Acknowledge(a, b)),
        6 => replica.clone().prop_map(Step::Register),
        1 => replica.clone().prop_map(Step::Mark),
        16 => (replica, credential).prop_map(|(r, c)| Step::Verify(r, c)),
        1 => (0_usize..3, any::<bool>()).prop_map(|(lost, row)| Step::FailOver(lost, row)),
    ]
}

#[derive(Clone)]
struct Event {
    overthrown: Invalidation,
    leaf: Leaf,
}

/// None: the renewal found no row.
struct Reply(Option<RenewalAnswer>);

/// A statement on its way to the database and back.
enum Statement {
    Renewal(RenewalSent, Option<Reply>),
    Read(ReadSent, Option<Page>),
    /// The verdict that was found, if any.
    Fill(Ticket, u8, Option<(Position, Option<Verdict>)>),
}

struct World {
    now: Mono,
    log: Vec<Event>,
    timeline: u32,
    commits: u64,
    /// The list: when each row was marked as leaving.
    rows: BTreeMap<ReplicaId, Option<Mono>>,
    ids: u128,
    replicas: Vec<Machine>,
    messages: Vec<Message>,
    statements: Vec<(usize, Statement)>,
    barriers: Vec<(usize, Barrier, u32)>,
    /// Since when a credential has been dead for everyone who asks the database.
    dead_since: BTreeMap<u8, Mono>,
    /// Which are dead on every replica, as somebody was told.
    effective: Vec<u8>,
    said_yes: usize,
    by_acknowledgement: usize,
}

impl World {
    fn new() -> Self {
        Self {
            now: ms(0),
            log: Vec::new(),
            timeline: 1,
            commits: 0,
            rows: BTreeMap::new(),
            ids: 0,
            // Room for two verdicts, and places enough that few share one.
            replicas: (0..REPLICAS).map(|_| Machine::new(TIMING, 2, 16)).collect(),
            messages: Vec::new(),
            statements: Vec::new(),
            barriers: Vec::new(),
            dead_since: BTreeMap::new(),
            effective: Vec::new(),
            said_yes: 0,
            by_acknowledgement: 0,
        }
    }

    fn head(&self) -> Position {
        Position(i64::try_from(self.log.len()).unwrap())
    }

    fn leaf(&self, position: Position) -> Leaf {
        let index = usize::try_from(position.0 - 1).ok()?;
        self.log.get(index)?.leaf
    }

    fn live(&self, credential: u8) -> bool {
        let depends_on: Vec<Dependency> = verdict(credential).depends_on().collect();
        !self.log.iter().any(|event| match event.overthrown {
            Invalidation::Nothing => false,
            Invalidation::Everything => true,
            Invalidation::Of(dependency) => depends_on.contains(&dependency),
        })
    }

    fn commit(&mut self, overthrown: Invalidation) -> Position {
        self.commits += 1;
        let mut leaf = [0; 32];
        leaf[..8].copy_from_slice(&self.commits.to_be_bytes());
        self.log.push(Event { overthrown, leaf: Some(leaf) });
        let position = self.head();
        self.messages.push(Message {
            tag: tag(self.timeline),
            from: position,
            to: position,
            leaf: Some(leaf),
            overthrown: vec![(position, overthrown)],
        });
        self.look_at_the_dead();
        position
    }

    fn look_at_the_dead(&mut self) {
        for credential in 0..CREDENTIALS {
            if self.live(credential) {
                self.dead_since.remove(&credential);
                self.effective.retain(|dead| *dead != credential);
            } else {
                self.dead_since.entry(credential).or_insert(self.now);
            }
        }
    }

    /// Where credentials are dead, and since when everyone was told so.
    fn look_at_barriers(&mut self) {
        let barriers = std::mem::take(&mut self.barriers);
        for (replica, barrier, timeline) in barriers {
            match self.replicas[replica].effective(&barrier, self.now) {
                None => self.barriers.push((replica, barrier, timeline)),
                Some(by) => {
                    self.by_acknowledgement += usize::from(by == By::Acknowledged);
                    // What a failover lost was never revoked; everything up to there is effective.
                    let reached = usize::try_from(barrier.position.0).unwrap();
                    if timeline == self.timeline && reached <= self.log.len() {
                        let log = self.log.split_off(reached);
                        let dead: Vec<u8> = (0..CREDENTIALS).filter(|c| !self.live(*c)).collect();
                        self.log.extend(log);
                        self.effective.extend(dead);
                    }
                }
            }
        }
    }

    /// What the database says to a renewal at this moment.
    fn renew(&self, sent: &RenewalSent) -> Option<RenewalAnswer> {
        let renewed = self.rows.get(&sent.replica).is_some_and(Option::is_none);
        renewed.then(|| RenewalAnswer {
            tag: tag(self.timeline),
            head: self.head(),
            leaf_at_applied: sent.applied.and_then(|applied| self.leaf(applied)),
            leaf_at_head: self.leaf(self.head()),
            database_time: START,
        })
    }

    fn run(&mut self, index: usize) {
        let open: Vec<usize> = (0..self.statements.len())
            .filter(|at| match &self.statements[*at].1 {
                Statement::Renewal(_, answer) => answer.is_none(),
                Statement::Read(_, page) => page.is_none(),
                Statement::Fill(_, _, found) => found.is_none(),
            })
            .collect();
        if open.is_empty() {
            return;
        }
        let (replica, mut statement) = self.statements.remove(open[index % open.len()]);
        let (head, history) = (self.head(), tag(self.timeline));
        match &mut statement {
            Statement::Renewal(sent, answer) => *answer = Some(Reply(self.renew(sent))),
            Statement::Read(sent, page) => {
                // At most two events: what is read need not reach the end.
                let last = Position(head.0.min(sent.after.0 + 2).max(sent.after.0));
                let overthrown = (sent.after.0 + 1..=last.0)
                    .map(|at| (Position(at), self.log[usize::try_from(at - 1).unwrap()].overthrown))
                    .collect();
                *page = Some(Page { tag: history, last, leaf: self.leaf(last), overthrown });
            }
            Statement::Fill(_, credential, found) => {
                *found = Some((head, self.live(*credential).then(|| verdict(*credential))));
            }
        }
        self.statements.push((replica, statement));
    }

    fn arrive(&mut self, index: usize) {
        if self.statements.is_empty() {
            return;
        }
        let (replica, statement) = self.statements.remove(index % self.statements.len());
        let machine = &mut self.replicas[replica];
        match statement {
            Statement::Renewal(sent, Some(Reply(answer))) => {
                machine.renewal_answered(&sent, answer, self.now);
            }
            Statement::Read(sent, Some(page)) => {
                machine.read_answered(&sent, &page);
            }
            Statement::Fill(ticket, credential, Some((position, Some(verdict)))) => {
                machine.fill(ticket, position, hash(credential), verdict);
            }
            // It was lost on the way, or there was nothing to remember.
            Statement::Renewal(_, None) | Statement::Read(_, None) | Statement::Fill(..) => {}
        }
    }

    fn list(&self) -> Members {
        let replicas = self.rows.keys().copied().collect();
        Members { tag: tag(self.timeline), replicas, lease: TIMING.lease }
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Tick(milliseconds) => {
                self.now = self.now.after(Duration::from_millis(milliseconds));
                let (now, bound) = (self.now, TIMING.bound(Some(TIMING.lease)));
                self.rows.retain(|_, marked| marked.is_none_or(|at| now < at.after(bound)));
            }
            Step::Commit => {
                self.commit(Invalidation::Nothing);
            }
            Step::Revoke(replica, credential) => {
                let what = credential.map_or(Dependency::User(ADA), token);
                let position = self.commit(Invalidation::Of(what));
                let members = Some(self.list());
                self.barriers.push((replica, Barrier { position, t0: self.now, members }, self.timeline));
            }
            Step::Deliver(replica, message) => {
                if !self.messages.is_empty() {
                    let message = self.messages[message % self.messages.len()].clone();
                    self.replicas[replica].apply(&message);
                }
            }
            Step::Hear(replica) => {
                let next = self.replicas[replica].applied().next();
                let ours = |message: &&Message| {
                    message.from == next && self.replicas[replica].tag() == Some(&message.tag)
                };
                if let Some(message) = self.messages.iter().find(ours).cloned() {
                    self.replicas[replica].apply(&message);
                }
            }
            Step::Renew(replica) => {
                if let Some(sent) = self.replicas[replica].renewal_sent(self.now) {
                    let answer = self.renew(&sent);
                    self.replicas[replica].renewal_answered(&sent, answer, self.now);
                }
            }
            Step::SendRead(replica) => {
                if let Some(sent) = self.replicas[replica].read_sent() {
                    self.statements.push((replica, Statement::Read(sent, None)));
                }
            }
            Step::SendRenewal(replica) => {
                if let Some(sent) = self.replicas[replica].renewal_sent(self.now) {
                    self.statements.push((replica, Statement::Renewal(sent, None)));
                }
            }
            Step::SendFill(replica, credential) => {
                if let Some(ticket) = self.replicas[replica].ticket() {
                    self.statements.push((replica, Statement::Fill(ticket, credential, None)));
                }
            }
            Step::Run(index) => self.run(index),
            Step::Arrive(index) => self.arrive(index),
            Step::Acknowledge(from, to) => {
                if let Some(said) = self.replicas[from].acknowledgement() {
                    self.replicas[to].acknowledged(&said);
                }
            }
            Step::Register(replica) => {
                if self.replicas[replica].is_unregistered() {
                    self.ids += 1;
                    let id = ReplicaId(Uuid::from_u128(self.ids));
                    self.rows.insert(id, None);
                    self.replicas[replica].registered(id);
                }
            }
            Step::Mark(replica) => {
                if let Some(id) = self.replicas[replica].replica()
                    && let Some(marked @ None) = self.rows.get_mut(&id)
                {
                    *marked = Some(self.now);
                }
            }
            Step::Verify(replica, credential) => {
                if self.replicas[replica].answer(&hash(credential), || self.now).is_some() {
                    self.said_yes += 1;
                    prop_assert!(!self.effective.contains(&credential), "yes after it was effective");
                    let dead_since = self.dead_since.get(&credential);
                    prop_assert!(
                        dead_since.is_none_or(|since| self.now < since.after(TIMING.lease)),
                        "yes later than a lease after the revocation became visible"
                    );
                }
            }
            Step::FailOver(lost, row) => {
                self.log.truncate(self.log.len().saturating_sub(lost));
                self.timeline += 1;
                if row {
                    self.rows.pop_last();
                }
                self.look_at_the_dead();
            }
        }
        self.look_at_barriers();
        Ok(())
    }
}

/// Both replicas begin registered, leased, and sure of their history; the cache of each is full.
fn prologue() -> Vec<Step> {
    let mut steps = Vec::new();
    steps.extend((0..REPLICAS).map(Step::Register));
    for _ in 0..3 {
        steps.extend((0..REPLICAS).map(Step::Renew));
        steps.push(Step::Tick(600));
    }
    for replica in 0..REPLICAS {
        steps.push(Step::Renew(replica));
        for credential in 0..2 {
            steps.extend([Step::SendFill(replica, credential), Step::Run(0), Step::Arrive(0)]);
        }
    }
    steps
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_yes_is_recent_and_none_comes_after_a_barrier(
        steps in prop::collection::vec(step(), 1..120)
    ) {
        let mut world = World::new();
        for step in prologue().iter().chain(&steps) {
            world.take(step)?;
        }
    }
}

/// The assertions above can be reached: many histories hold a yes, and a barrier that was quick.
#[test]
fn the_histories_are_not_idle() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let (mut said_yes, mut by_acknowledgement) = (0, 0);
    for _ in 0..100 {
        let steps = prop::collection::vec(step(), 120).new_tree(&mut runner).unwrap().current();
        let mut world = World::new();
        for step in prologue().iter().chain(&steps) {
            world.take(step).unwrap();
        }
        said_yes += world.said_yes;
        by_acknowledgement += world.by_acknowledgement;
    }
    assert!(said_yes > 100, "{said_yes} times yes");
    assert!(by_acknowledgement > 20, "{by_acknowledgement} barriers by acknowledgement");
}
