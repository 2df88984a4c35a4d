//! Everything there is at one moment: the database, the processes, and what is between them.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use super::*;

/// One event, which one transaction may have written together with those before it.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub what: Invalidation,
    pub leaf: u8,
    /// The first position of its transaction.
    pub from: i64,
    /// Whether the transaction that ends here was told. What was told can be heard by anybody at
    /// any time, again and again, or never.
    pub published: bool,
}

/// The log as one timeline has it.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub timeline: u32,
    pub events: Vec<Event>,
}

impl History {
    pub(super) fn tag(&self) -> Tag {
        tag(self.timeline)
    }

    pub(super) fn head(&self) -> Position {
        Position(i64::try_from(self.events.len()).unwrap())
    }

    pub(super) fn event(&self, position: Position) -> &Event {
        &self.events[usize::try_from(position.0 - 1).unwrap()]
    }

    pub(super) fn leaf(&self, position: Position) -> Leaf {
        let index = usize::try_from(position.0 - 1).ok()?;
        self.events.get(index).map(|event| [event.leaf; 32])
    }

    pub(super) fn is_live(&self) -> bool {
        self.events.iter().all(|event| event.what == Invalidation::Nothing)
    }

    /// What the events after `after` overthrow, up to `to`.
    pub(super) fn overthrown(&self, after: Position, to: Position) -> Vec<(Position, Invalidation)> {
        (after.0 + 1..=to.0).map(|at| (Position(at), self.event(Position(at)).what)).collect()
    }

    pub(super) fn message(&self, to: Position) -> Message {
        let from = Position(self.event(to).from);
        let overthrown = self.overthrown(Position(from.0 - 1), to);
        Message { tag: self.tag(), from, to, leaf: self.leaf(to), overthrown }
    }
}

/// A row of the list.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub id: ReplicaId,
    /// Δ, as its process was told it.
    pub lease: Duration,
    /// Since when on the clock of whoever cleans up.
    pub leaving: Option<Mono>,
}

#[derive(Clone, Debug)]
pub(super) struct Renewal {
    pub sent: RenewalSent,
    /// When it was truly sent.
    pub t0: Mono,
    /// Once the database has run it.
    pub reply: Option<Reply>,
}

/// None: the renewal found no row.
#[derive(Clone, Debug)]
pub(super) struct Reply(pub Option<RenewalAnswer>);

/// A lookup that the database has run and found a live credential by.
#[derive(Clone, Debug)]
pub(super) struct Fill {
    pub ticket: Ticket,
    pub position: Position,
    /// A request that waits for it.
    pub passenger: Option<Passenger>,
    /// Only where the check is made apart from the insertion: it was passed.
    pub checked: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Passenger {
    pub doomed: bool,
    /// It came after the statement was sent.
    pub late: bool,
}

/// A verification. It is doomed when it began after the revocation was effective, or so long after it
/// became visible that no lease from before can hold: then it must not end in a yes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Request {
    None,
    /// It has arrived and taken a lease.
    Taken(Asking),
    /// A verdict was in memory.
    Found(Asking),
    /// It waits for a lookup that is sent after it came.
    Waiting {
        doomed: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Asking {
    pub lease: Option<Lease>,
    pub doomed: bool,
    /// What the model itself knows of the lease: the moment at which it must be over.
    pub proved_until: Option<Mono>,
}

/// One process, of which only the machine is the product's.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub clock: Mono,
    pub machine: Arc<Machine>,
    pub registrations: u8,
    pub renewal: Option<Renewal>,
    pub fill: Option<Fill>,
    pub page: Option<(ReadSent, Page)>,
    pub request: Request,
    /// The model's own note: when the newest renewal was sent that the database answered with a row.
    pub renewed: Option<Mono>,
    /// It has left, and its row is still to be deleted.
    pub row_left: Option<ReplicaId>,
    /// Only where the registration is made too late: not yet in the list.
    pub unlisted: bool,
}

impl Process {
    pub(super) fn step<T>(&mut self, step: impl FnOnce(&mut Machine) -> T) -> T {
        let machine = Arc::make_mut(&mut self.machine);
        let done = step(machine);
        drop(machine.take_garbage());
        done
    }

    pub(super) fn remembers(&self) -> bool {
        self.machine.remembered(&hash(CREDENTIAL), self.clock).is_some()
    }
}

/// How far the transaction that revokes has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Unsent,
    Sent,
    Visible(Position),
    Replied(Position),
}

/// Somebody waits until it is effective.
#[derive(Clone, Debug)]
pub(super) struct Waiter {
    pub host: usize,
    pub barrier: Barrier,
}

#[derive(Clone, Debug)]
pub(super) struct World {
    pub setting: Arc<Setting>,
    /// The one that serves is the last.
    pub histories: Vec<History>,
    pub commits: u8,
    pub rows: Vec<Row>,
    /// The clock of whoever cleans up.
    pub cleaner: Mono,
    pub processes: Vec<Process>,
    /// The furthest acknowledgement of each registration in each history.
    pub said: Vec<Acknowledgement>,
    pub phase: Phase,
    /// On the clock of the host.
    pub sent_at: Mono,
    /// Whoever sent the revocation still waits for the reply.
    pub host_waits: bool,
    /// Only where the list is read too early.
    pub early_list: Option<Members>,
    pub waiters: Vec<Waiter>,
    pub again: bool,
    /// How many ticks the revocation has been visible to all who ask the database.
    pub visible_for: Option<u8>,
    pub effective: Option<By>,
    pub broken: Option<&'static str>,
    pub others: u8,
    pub crashes: u8,
    /// A message told that was never committed, or a registry lost.
    pub trick_done: bool,
}

impl World {
    pub(super) fn new(setting: Arc<Setting>) -> Self {
        let replica = |index| Process::new(Machine::new(setting.timing(index), 1, 4));
        let mut processes: Vec<Process> = (0..setting.replicas).map(replica).collect();
        if setting.observer {
            processes.push(Process::new(Machine::observer(setting.timing(setting.replicas))));
        }
        Self {
            histories: vec![History { timeline: 1, events: Vec::new() }],
            commits: 0,
            rows: Vec::new(),
            cleaner: Mono(0),
            processes,
            said: Vec::new(),
            phase: Phase::Unsent,
            sent_at: Mono(0),
            host_waits: true,
            early_list: None,
            waiters: Vec::new(),
            again: false,
            visible_for: None,
            effective: None,
            broken: None,
            others: 0,
            crashes: 0,
            trick_done: false,
            setting,
        }
    }

    pub(super) fn now(&self) -> &History {
        self.histories.last().unwrap()
    }

    pub(super) fn host(&self) -> usize {
        if self.setting.observer { self.processes.len() - 1 } else { 0 }
    }

    pub(super) fn caches(&self, process: usize) -> bool {
        self.setting.caches.contains(&process)
    }

    pub(super) fn bent(&self, bend: Bend) -> bool {
        self.setting.bend == Some(bend)
    }

    /// Whether a request that begins now must not end in a yes.
    pub(super) fn doomed(&self) -> bool {
        self.effective.is_some() || self.visible_for.is_some_and(|ticks| ticks >= LEASE_TICKS)
    }

    pub(super) fn row(&self, id: ReplicaId) -> Option<&Row> {
        self.rows.iter().find(|row| row.id == id)
    }

    /// What the driver of a replica says once a step is done.
    pub(super) fn acknowledge(&mut self, process: usize) {
        if let Some(said) = self.processes[process].machine.acknowledgement() {
            self.say(said);
        }
    }

    pub(super) fn say(&mut self, said: Acknowledgement) {
        if self.effective.is_some() || self.processes[process_of(said.replica)].unlisted {
            return;
        }
        let same = |before: &&mut Acknowledgement| before.replica == said.replica && before.tag == said.tag;
        match self.said.iter_mut().find(same) {
            Some(before) if before.applied < said.applied => *before = said,
            Some(_) => {}
            None => self.said.push(said),
        }
    }

    /// Drops what can change nothing any more: replies that the machine will ignore, and, once the
    /// revocation is effective, all that was there to make it so.
    pub(super) fn tidy(&mut self) {
        if self.setting.hears_at_once && self.effective.is_none() {
            self.hear_at_once();
        }
        for process in &mut self.processes {
            let machine = &process.machine;
            let generation = machine.generation;
            process.renewal.take_if(|renewal| renewal.sent.generation != generation);
            process.page.take_if(|(sent, page)| {
                sent.generation != generation
                    || (Some(&page.tag) == machine.tag() && page.last <= machine.applied())
            });
            if self.setting.bend.is_none_or(|bend| !bend.concerns_fills()) {
                process.fill.take_if(|fill| {
                    let void = fill.ticket.generation != generation
                        || !machine.overthrown.spares(&verdict(CREDENTIAL), fill.position);
                    void && fill.passenger.is_none()
                });
            }
        }
        if self.effective.is_some() {
            self.waiters.clear();
            self.said.clear();
        }
    }
}

impl World {
    fn hear_at_once(&mut self) {
        for index in 0..self.processes.len() {
            if self.caches(index) {
                continue;
            }
            let (history, process) = (self.histories.last().unwrap(), &mut self.processes[index]);
            for at in (process.machine.applied().0 + 1..=history.head().0).map(Position) {
                if history.event(at).published {
                    process.step(|machine| machine.apply(&history.message(at)));
                }
            }
            self.acknowledge(index);
        }
        for process in &mut self.processes {
            for said in &self.said {
                let heard = process.machine.acknowledged.get(&said.replica);
                if process.machine.replica() != Some(said.replica)
                    && heard.is_none_or(|heard| *heard < said.applied)
                {
                    process.step(|machine| machine.acknowledged(said));
                }
            }
        }
    }
}

impl Process {
    pub(super) fn new(machine: Machine) -> Self {
        Self {
            clock: Mono(0),
            machine: Arc::new(machine),
            registrations: 0,
            renewal: None,
            fill: None,
            page: None,
            request: Request::None,
            renewed: None,
            row_left: None,
            unlisted: false,
        }
    }
}

/// The incarnations of a process have ids of their own.
pub(super) fn id_of(process: usize, registration: u8) -> ReplicaId {
    ReplicaId(Uuid::from_u128((process as u128 + 1) * 16 + u128::from(registration)))
}

pub(super) fn process_of(id: ReplicaId) -> usize {
    usize::try_from(id.0.as_u128() / 16 - 1).unwrap()
}

// What two worlds have in common when the same can happen to both.
//
// A machine compares times and positions with each other and never looks at one alone. So ages count,
// not moments, and an age that has passed every bound is as good as any greater one; an entry that was
// read at or below the cursor is as good as one that was read there. What is over counts as not there.

struct Digest(Vec<u8>);

impl Digest {
    fn put(&mut self, byte: impl TryInto<u8>) {
        self.0.push(byte.try_into().ok().unwrap());
    }

    fn put_id(&mut self, id: ReplicaId) {
        self.put(id.0.as_u128());
    }

    /// How long it is until then.
    fn put_until(&mut self, until: Mono, now: Mono) {
        self.put(until.0.saturating_sub(now.0));
    }

    fn put_age(&mut self, since: Mono, now: Mono, of_interest: u64) {
        self.put(now.0.saturating_sub(since.0).min(of_interest));
    }

    fn put_tag(&mut self, tag: &Tag) {
        self.put(u32::from_str_radix(&tag.timeline, 16).unwrap());
    }

    fn put_leaf(&mut self, leaf: Leaf) {
        self.put(leaf.map_or(0, |leaf| leaf[0]));
    }

    fn put_option<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T)) {
        self.put(u8::from(value.is_some()));
        if let Some(value) = value {
            put(self, value);
        }
    }
}

impl World {
    fn digest(&self) -> Vec<u8> {
        let mut out = Digest(Vec::with_capacity(160));
        let bound = LEASE + self.setting.drift;
        out.put(self.broken.map_or(0, |_| 1));
        out.put(u8::from(self.effective.is_some()));
        out.put(self.visible_for.map_or(99, |ticks| ticks.min(LEASE_TICKS)));
        out.put(self.others * 16 + self.crashes);
        out.put(u8::from(self.trick_done) * 4 + u8::from(self.again) * 2 + u8::from(self.host_waits));
        for history in &self.histories {
            out.put(history.timeline);
            out.put(history.events.len());
            for event in &history.events {
                out.put(event.leaf * 2 + u8::from(event.published));
                out.put(
                    u8::from(event.what != Invalidation::Nothing) * 16 + u8::try_from(event.from).unwrap(),
                );
            }
        }
        for row in &self.rows {
            // Once it is effective, a row matters only to whoever is renewed by it.
            if self.effective.is_none() || self.caches(process_of(row.id)) {
                out.put_id(row.id);
                out.put_option(row.leaving, |out, since| out.put_age(since, self.cleaner, bound));
            }
        }
        for index in 0..self.processes.len() {
            if self.effective.is_none() || self.caches(index) {
                self.put_process(&mut out, index);
            }
        }
        if self.effective.is_none() {
            self.put_barriers(&mut out);
        }
        out.0
    }

    fn put_barriers(&self, out: &mut Digest) {
        let bound = LEASE + self.setting.drift;
        match self.phase {
            Phase::Unsent => out.put(0),
            Phase::Sent => out.put(1),
            Phase::Visible(position) => out.put(16 + position.0),
            Phase::Replied(position) => out.put(32 + position.0),
        }
        if self.bent(Bend::BarrierFromSending) {
            out.put_age(self.sent_at, self.processes[self.host()].clock, bound);
        }
        out.put_option(self.early_list.as_ref(), Digest::put_members);
        for waiter in &self.waiters {
            out.put(waiter.host);
            out.put(waiter.barrier.position.0);
            out.put_age(waiter.barrier.t0, self.processes[waiter.host].clock, bound);
            out.put_option(waiter.barrier.members.as_ref(), Digest::put_members);
        }
        for said in &self.said {
            out.put_id(said.replica);
            out.put_tag(&said.tag);
            out.put(said.applied.0);
            out.put_leaf(said.leaf);
        }
    }

    fn put_process(&self, out: &mut Digest, index: usize) {
        let process = &self.processes[index];
        let now = process.clock;
        out.put(0xF0);
        out.put(process.registrations * 2 + u8::from(process.unlisted));
        out.put_option(process.row_left, Digest::put_id);
        self.put_machine(out, index);
        out.put_option(process.renewal.as_ref(), |out, renewal| {
            out.put_until(renewal.t0.after(self.setting.timing(index).lease), now);
            out.put_option(renewal.sent.applied, |out, applied| out.put(applied.0));
            out.put_option(renewal.reply.as_ref(), |out, Reply(answer)| {
                out.put_option(answer.as_ref(), |out, answer| {
                    out.put_tag(&answer.tag);
                    out.put(answer.head.0);
                    out.put_leaf(answer.leaf_at_applied);
                    out.put_leaf(answer.leaf_at_head);
                });
            });
        });
        out.put_option(process.page.as_ref(), |out, (sent, page)| {
            out.put(sent.after.0);
            out.put(page.last.0);
            out.put_tag(&page.tag);
            out.put_leaf(page.leaf);
        });
        if !self.caches(index) {
            return;
        }
        // Where every request is doomed, a yes breaks P3 before it can break P4.
        let proves = self.setting.any_time;
        out.put_option(process.renewed.filter(|_| proves), |out, t0| {
            out.put_until(t0.after(self.setting.timing(index).lease), now);
        });
        out.put_option(process.fill.as_ref(), |out, fill| {
            out.put(fill.position.0);
            let current = fill.ticket.generation == process.machine.generation;
            out.put(u8::from(current) * 2 + u8::from(fill.checked));
            out.put_option(fill.passenger, |out, passenger| {
                out.put(u8::from(passenger.doomed) * 2 + u8::from(passenger.late));
            });
        });
        let put_asking = |out: &mut Digest, asking: Asking| {
            out.put(u8::from(asking.doomed));
            out.put_option(asking.lease, |out, lease| out.put_until(lease.until, now));
            out.put_option(asking.proved_until.filter(|_| proves), |out, until| out.put_until(until, now));
        };
        match process.request {
            Request::None => out.put(0),
            Request::Taken(asking) => {
                out.put(1);
                put_asking(out, asking);
            }
            Request::Found(asking) => {
                out.put(2);
                put_asking(out, asking);
            }
            Request::Waiting { doomed } => out.put(3 + u8::from(doomed)),
        }
    }

    fn put_machine(&self, out: &mut Digest, index: usize) {
        let (process, machine) = (&self.processes[index], &*self.processes[index].machine);
        let now = process.clock;
        match machine.standing {
            Standing::Observing => out.put(0),
            Standing::Unregistered => out.put(1),
            Standing::Closed => out.put(2),
            Standing::Registered(id) => out.put_id(id),
        }
        out.put_option(machine.cursor.as_ref(), |out, cursor| {
            out.put_tag(&cursor.tag);
            out.put(cursor.applied.0);
            out.put_leaf(cursor.leaf);
        });
        let may_wait = index == self.host() || self.setting.again;
        if may_wait && self.effective.is_none() {
            let bound = LEASE + self.setting.drift;
            out.put_option(machine.known.as_ref(), |out, (tag, since)| {
                out.put_tag(tag);
                out.put_age(*since, now, bound);
            });
            for said in &self.said {
                out.put(machine.acknowledged.get(&said.replica).map_or(99, |position| position.0));
            }
        }
        if !self.caches(index) {
            return;
        }
        out.put_option(machine.lease.filter(|lease| lease.holds(now)), |out, lease| {
            out.put_until(lease.until, now);
        });
        let held = machine.lease.map_or(now, |lease| lease.until.max(now));
        for pending in machine.pending.iter().filter(|pending| pending.lease.until > held) {
            out.put(pending.head.0);
            out.put_until(pending.lease.until, now);
        }
        out.put(0xF1);
        let entry = machine.cache.get(&hash(CREDENTIAL));
        let entry = entry.filter(|(verdict, position)| machine.overthrown.spares(verdict, *position));
        out.put_option(entry, |out, (_, position)| out.put(position.max(machine.applied()).0));
        // Whether a fill may come in; where histories differ in length, also one that is still to be read.
        if self.setting.failover.is_some() {
            let spares = |at: &i64| machine.overthrown.spares(&verdict(CREDENTIAL), Position(*at));
            out.put((0..=9).find(spares).unwrap_or(9));
        }
    }
}

impl Digest {
    fn put_members(&mut self, members: &Members) {
        self.put_tag(&members.tag);
        self.put(members.lease.as_nanos());
        self.put(0xF2);
        for replica in &members.replicas {
            self.put_id(*replica);
        }
        self.put(0xF3);
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest().hash(state);
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}
