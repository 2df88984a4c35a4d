//! What each step does: the driver's part of the product, and the world around it.

use super::{
    world::{
        Asking, Event, Fill, History, Passenger, Phase, Process, Renewal, Reply, Request, Row, Waiter, id_of,
        process_of,
    },
    *,
};

impl World {
    pub(super) fn take(&mut self, step: Step) {
        match step {
            Step::Tick => self.tick(),
            Step::SendCommit => {
                self.phase = Phase::Sent;
                self.sent_at = self.processes[self.host()].clock;
            }
            Step::CommitIsVisible => self.commit_is_visible(),
            Step::ReplyToCommit => self.reply_to_commit(),
            Step::ReadListEarly => self.early_list = Some(self.list()),
            Step::ReadList(waiter) => self.waiters[waiter].barrier.members = Some(self.list()),
            Step::HearAcknowledgement { waiter, said } => {
                let (host, said) = (self.waiters[waiter].host, self.said[said].clone());
                self.processes[host].step(|machine| machine.acknowledged(&said));
            }
            Step::BecomeEffective(waiter) => self.effective = self.is_effective(&self.waiters[waiter]),
            Step::RevokeAgain => self.revoke_again(),
            Step::CommitAnother => {
                self.others += 1;
                self.commit(&[Invalidation::Nothing], true);
            }
            Step::Register(process) => self.register(process),
            Step::EnterInList(process) => {
                self.processes[process].unlisted = false;
                self.enter(process);
                self.acknowledge(process);
            }
            Step::SendRenewal(process) => self.send_renewal(process),
            Step::RunRenewal(process) => self.run_renewal(process, self.now().head()),
            Step::RunRenewalOnStandby(process) => {
                self.run_renewal(process, Position(self.now().head().0 - 1));
            }
            Step::TakeRenewal(process) => self.take_renewal(process),
            Step::Renew(process) => {
                self.send_renewal(process);
                self.run_renewal(process, self.now().head());
                self.take_renewal(process);
            }
            Step::Leave(process) => self.leave(process),
            Step::DeleteRow(process) => {
                let left = self.processes[process].row_left.take();
                self.rows.retain(|row| Some(row.id) != left);
            }
            Step::Mark(row) => {
                if self.bent(Bend::NaiveCleanUp) {
                    self.rows.remove(row);
                } else {
                    self.rows[row].leaving = Some(self.cleaner);
                }
            }
            Step::Remove(row) => drop(self.rows.remove(row)),
            Step::LoseRegistry => {
                self.trick_done = true;
                self.rows.clear();
            }
            Step::Crash(process) => self.crash(process),
            Step::Hear { process, history, position } => {
                let message = self.histories[history].message(Position(position));
                self.hear(process, message);
            }
            Step::HearGap { process, history, position } => self.hear_gap(process, history, position),
            Step::PublishUncommitted => self.trick_done = true,
            Step::HearUncommitted(process) => {
                let (tag, at) = (self.histories[0].tag(), Position(1));
                let nothing = vec![(at, Invalidation::Nothing)];
                self.hear(
                    process,
                    Message { tag, from: at, to: at, leaf: Some([99; 32]), overthrown: nothing },
                );
            }
            Step::AcknowledgeUnapplied { process, history, position } => {
                let history = &self.histories[history];
                let (tag, applied) = (history.tag(), Position(position));
                let leaf = history.leaf(applied);
                if let Some(replica) = self.processes[process].machine.replica() {
                    self.say(Acknowledgement { replica, tag, applied, leaf });
                }
            }
            Step::ReadLog(process) => self.read_log(process),
            Step::TakePage(process) => self.take_page(process),
            Step::CatchUp(process) => {
                self.read_log(process);
                self.take_page(process);
            }
            Step::LookUp(process) => self.look_up(process, self.histories.len() - 1),
            Step::LookUpInDeposed(process) => self.look_up(process, 0),
            Step::TakeFill(process) => self.take_fill(process),
            Step::InsertFill(process) => self.insert_fill(process),
            Step::JoinFlight(index) => {
                let process = &mut self.processes[index];
                if let (Request::Waiting { doomed }, Some(fill)) = (process.request, &mut process.fill) {
                    fill.passenger = Some(Passenger { doomed, late: true });
                    process.request = Request::None;
                }
            }
            Step::Ask(process) => self.ask(process),
            Step::Look(process) => self.look(process),
            Step::Answer(process) => self.answer(process),
            Step::FailOver { kept, list } => self.fail_over(kept, list),
        }
    }

    fn tick(&mut self) {
        let host = self.host();
        for (index, process) in self.processes.iter_mut().enumerate() {
            process.clock.0 += if index == host || index == 0 { FAST } else { SLOW };
        }
        self.cleaner.0 += FAST;
        self.visible_for = self.visible_for.map(|ticks| (ticks + 1).min(LEASE_TICKS));
    }

    // The revocation.

    /// Appends one transaction to the log.
    fn commit(&mut self, what: &[Invalidation], published: bool) -> Position {
        let history = self.histories.last_mut().unwrap();
        let from = history.head().next().0;
        for what in what {
            self.commits += 1;
            history.events.push(Event { what: *what, leaf: self.commits, from, published });
        }
        history.head()
    }

    fn commit_is_visible(&mut self) {
        let what = self.setting.what;
        let position = if self.setting.batch {
            self.commit(&[Invalidation::Nothing, what], false)
        } else {
            self.commit(&[what], false)
        };
        self.phase = Phase::Visible(position);
        self.visible_for = Some(0);
    }

    /// The host hears that it is committed, tells the others (R6), and begins to wait.
    fn reply_to_commit(&mut self) {
        let Phase::Visible(position) = self.phase else { return };
        let host = self.host();
        self.phase = Phase::Replied(position);
        let index = usize::try_from(position.0 - 1).unwrap();
        self.histories.last_mut().unwrap().events[index].published = true;
        let replied_at = self.processes[host].clock;
        let t0 = if self.bent(Bend::BarrierFromSending) { self.sent_at } else { replied_at };
        let members = self.early_list.take();
        self.waiters.push(Waiter { host, barrier: Barrier { position, t0, members } });
    }

    /// R8: told that it is so already, by a load that has just returned.
    fn revoke_again(&mut self) {
        self.again = true;
        if self.bent(Bend::RepeatedWithoutBarrier) {
            self.effective = Some(By::Acknowledged);
            return;
        }
        let (position, t0) = (self.now().head(), self.processes[1].clock);
        self.waiters.push(Waiter { host: 1, barrier: Barrier { position, t0, members: None } });
    }

    fn list(&self) -> Members {
        let replicas = self.rows.iter().map(|row| row.id).collect();
        let leases = self.rows.iter().map(|row| row.lease).filter(|_| !self.bent(Bend::ListByOwnLease));
        let lease = leases.max().unwrap_or_default();
        Members { tag: self.now().tag(), replicas, lease }
    }

    pub(super) fn is_effective(&self, waiter: &Waiter) -> Option<By> {
        let process = &self.processes[waiter.host];
        if self.bent(Bend::OwnCacheLeftOut) {
            let mut machine = (*process.machine).clone();
            if let Some(cursor) = &mut machine.cursor {
                cursor.applied = cursor.applied.max(waiter.barrier.position);
            }
            return machine.effective(&waiter.barrier, process.clock);
        }
        process.machine.effective(&waiter.barrier, process.clock)
    }

    // Registration and renewal.

    fn register(&mut self, index: usize) {
        let process = &mut self.processes[index];
        let id = id_of(index, process.registrations);
        process.registrations += 1;
        process.step(|machine| machine.registered(id));
        process.renewed = None;
        if self.bent(Bend::RegisteredAfterTheHeadWasRead) {
            self.processes[index].unlisted = true;
        } else {
            self.enter(index);
        }
    }

    /// The same transaction takes back what the process registered before.
    fn enter(&mut self, index: usize) {
        if let Some(id) = self.processes[index].machine.replica() {
            self.rows.retain(|row| process_of(row.id) != index);
            self.rows.push(Row { id, lease: self.setting.timing(index).lease, leaving: None });
        }
    }

    fn send_renewal(&mut self, index: usize) {
        let process = &mut self.processes[index];
        let t0 = process.clock;
        let sent = process.machine.renewal_sent(t0);
        process.renewal = sent.map(|sent| Renewal { sent, t0, reply: None });
    }

    fn run_renewal(&mut self, index: usize, head: Position) {
        let Some(renewal) = &self.processes[index].renewal else { return };
        let sent = renewal.sent;
        let may_renew = self.row(sent.replica).is_some_and(|row| row.leaving.is_none())
            || self.processes[index].unlisted
            || self.bent(Bend::RenewalIgnoresRegistration);
        let history = self.now();
        let leaf = |position: Position| history.leaf(position).filter(|_| position <= head);
        let answer = may_renew.then(|| RenewalAnswer {
            tag: history.tag(),
            head,
            leaf_at_applied: sent.applied.and_then(leaf),
            leaf_at_head: history.leaf(head),
            database_time: START,
        });
        if let Some(renewal) = &mut self.processes[index].renewal {
            renewal.reply = Some(Reply(answer));
        }
    }

    fn take_renewal(&mut self, index: usize) {
        let stamped_late = self.bent(Bend::LeaseStampedAtTheReply);
        let not_applied = self.bent(Bend::LeaseBeforeTheLogIsApplied);
        let process = &mut self.processes[index];
        let Some(Renewal { mut sent, t0, reply: Some(Reply(answer)) }) = process.renewal.take() else {
            return;
        };
        let now = process.clock;
        if stamped_late {
            sent.t0 = now;
        }
        match process.step(|machine| machine.renewal_answered(&sent, answer, now)) {
            Renewed::Leased | Renewed::Behind => process.renewed = process.renewed.max(Some(t0)),
            Renewed::Lost => process.renewed = None,
            Renewed::Ignored => {}
        }
        if not_applied {
            process.step(|machine| {
                let pending = machine.pending.drain(..).map(|pending| pending.lease);
                machine.lease = pending.chain(machine.lease).max_by_key(|lease| lease.until);
            });
        }
        self.acknowledge(index);
    }

    fn leave(&mut self, index: usize) {
        let stays_open = self.bent(Bend::RenewalAcceptedAfterLeaving);
        let process = &mut self.processes[index];
        process.row_left = process.machine.replica();
        process.step(|machine| {
            if stays_open {
                machine.lease = None;
                machine.pending.clear();
            } else {
                machine.close();
            }
        });
    }

    fn crash(&mut self, index: usize) {
        self.crashes += 1;
        let process = &self.processes[index];
        let machine = if self.setting.observer && index == self.host() {
            Machine::observer(self.setting.timing(index))
        } else {
            Machine::new(self.setting.timing(index), 1, 4)
        };
        let (clock, registrations) = (process.clock, process.registrations);
        self.processes[index] = Process { clock, registrations, ..Process::new(machine) };
        self.waiters.retain(|waiter| waiter.host != index);
        if index == self.host() && self.phase != Phase::Unsent {
            self.host_waits = false;
        }
    }

    // The log.

    fn hear(&mut self, index: usize, message: Message) {
        let process = &mut self.processes[index];
        if self.setting.bend == Some(Bend::FillWithoutFloor) {
            // A flush that notes nothing: what is remembered goes, and a late fill comes in.
            let nothing = message.overthrown.iter().map(|(at, _)| (*at, Invalidation::Nothing)).collect();
            process.step(|machine| {
                machine.apply(&Message { overthrown: nothing, ..message });
                machine.cache.clear();
            });
        } else {
            process.step(|machine| machine.apply(&message));
        }
        if self.setting.bend == Some(Bend::BusRenewsTheLease) {
            let until = process.clock.after(self.setting.timing(index).lease);
            process.step(|machine| {
                if let Some(lease) = &mut machine.lease {
                    lease.until = until;
                }
            });
        }
        self.acknowledge(index);
    }

    /// A message before which something is missing, and nobody asks what.
    fn hear_gap(&mut self, index: usize, history: usize, position: i64) {
        let message = self.histories[history].message(Position(position));
        if self.bent(Bend::GapSkipped) {
            let from = self.processes[index].machine.applied().next();
            self.hear(index, Message { from, ..message });
            return;
        }
        self.read_log(index);
        self.take_page(index);
        self.processes[index].step(|machine| {
            if let Some(cursor) = &mut machine.cursor {
                (cursor.applied, cursor.leaf) = (message.to, message.leaf);
            }
            machine.publish_leases();
        });
        self.acknowledge(index);
    }

    fn read_log(&mut self, index: usize) {
        let history = self.now();
        let page = self.processes[index].machine.read_sent().map(|sent| {
            let last = Position(history.head().0.min(sent.after.0 + self.setting.page).max(sent.after.0));
            let overthrown = history.overthrown(sent.after, last.min(history.head()));
            (sent, Page { tag: history.tag(), last, leaf: history.leaf(last), overthrown })
        });
        self.processes[index].page = page;
    }

    fn take_page(&mut self, index: usize) {
        let process = &mut self.processes[index];
        let Some((sent, page)) = process.page.take() else { return };
        if process.step(|machine| machine.read_answered(&sent, &page)) == Applied::Lost {
            process.renewed = None;
        }
        self.acknowledge(index);
    }

    // Fills.

    fn look_up(&mut self, index: usize, history: usize) {
        let history = &self.histories[history];
        let (position, is_live) = (history.head(), history.is_live());
        let process = &mut self.processes[index];
        let passenger = match process.request {
            Request::Waiting { doomed } => {
                process.request = Request::None;
                Some(Passenger { doomed, late: false })
            }
            Request::None | Request::Taken(_) | Request::Found(_) => None,
        };
        // Without a ticket it serves whoever waits, and is not remembered.
        let ticket = process.machine.ticket().unwrap_or(Ticket { generation: u64::MAX });
        // A no is not remembered either, and tells whoever waits nothing that could be wrong.
        process.fill = is_live.then_some(Fill { ticket, position, passenger, checked: false });
    }

    fn take_fill(&mut self, index: usize) {
        let bend = self.setting.bend;
        let process = &mut self.processes[index];
        let Some(fill) = process.fill.take() else { return };
        let Fill { ticket, position, .. } = fill;
        let may_come_in = ticket.generation == process.machine.generation;
        let passes = may_come_in && process.machine.overthrown.spares(&verdict(CREDENTIAL), position);
        let key = hash(CREDENTIAL);
        match bend {
            // As it would be where nothing looks a second time at what is in the cache.
            Some(Bend::FillUnchecked) if may_come_in => process.step(|machine| {
                machine.cache.insert(key, verdict(CREDENTIAL), machine.applied());
            }),
            Some(Bend::FillUncheckedByPosition) if may_come_in => {
                process.step(|machine| machine.cache.insert(key, verdict(CREDENTIAL), position));
            }
            Some(Bend::FillCheckedApart | Bend::FillCheckedApartByPosition) => {
                process.fill = passes.then_some(Fill { checked: true, ..fill });
            }
            Some(Bend::PositionFromASecondStatement) => {
                let second = self.now().head();
                self.processes[index].step(|machine| machine.fill(ticket, second, key, verdict(CREDENTIAL)));
            }
            Some(Bend::OnlyTheTokenIsAKey) => {
                let nobody = UserId(Uuid::from_u128(0xB0B));
                let id = TokenId(Uuid::from_u128(CREDENTIAL.into()));
                let credential = PersonCredential::PersonalAccessToken { id, expires_at: None };
                process
                    .step(|machine| machine.fill(ticket, position, key, Verdict::person(nobody, credential)));
            }
            _ => drop(process.step(|machine| machine.fill(ticket, position, key, verdict(CREDENTIAL)))),
        }
        if let Some(passenger) = fill.passenger {
            if passenger.doomed {
                self.broken = Some("P3");
            } else if passenger.late {
                self.broken = Some("P4");
            }
        }
    }

    /// Only where the check was made in a step of its own.
    fn insert_fill(&mut self, index: usize) {
        let by_position = self.bent(Bend::FillCheckedApartByPosition);
        let process = &mut self.processes[index];
        let Some(fill) = process.fill.take() else { return };
        process.step(|machine| {
            let position = if by_position { fill.position } else { machine.applied() };
            machine.cache.insert(hash(CREDENTIAL), verdict(CREDENTIAL), position);
        });
    }

    // Requests.

    fn ask(&mut self, index: usize) {
        let doomed = self.doomed();
        let unchecked = self.bent(Bend::NoLeaseCheck) || self.bent(Bend::LeaseCheckedOnlyAfterTheLook);
        let process = &mut self.processes[index];
        let now = process.clock;
        let lease = process.machine.lease();
        process.request = if lease.is_some_and(|lease| lease.holds(now)) || unchecked {
            let lease_lasts = self.setting.timing(index).lease;
            let proved_until = process.renewed.map(|t0| t0.after(lease_lasts)).filter(|until| now < *until);
            Request::Taken(Asking { lease, doomed, proved_until })
        } else if self.setting.lookups {
            Request::Waiting { doomed }
        } else {
            Request::None
        };
    }

    fn look(&mut self, index: usize) {
        let process = &mut self.processes[index];
        let Request::Taken(asking) = process.request else { return };
        process.request = if process.remembers() {
            Request::Found(asking)
        } else if self.setting.lookups {
            Request::Waiting { doomed: asking.doomed }
        } else {
            Request::None
        };
    }

    fn answer(&mut self, index: usize) {
        let bend = self.setting.bend;
        let process = &mut self.processes[index];
        let Request::Found(asking) = process.request else { return };
        let now = process.clock;
        let lease = match bend {
            Some(Bend::LeaseCheckedOnlyAfterTheLook) => process.machine.lease(),
            _ => asking.lease,
        };
        process.request = if lease.is_some_and(|lease| lease.holds(now)) || bend == Some(Bend::NoLeaseCheck) {
            if asking.doomed {
                self.broken = Some("P3");
            } else if asking.proved_until.is_none_or(|until| now >= until) {
                self.broken = Some("P4");
            }
            Request::None
        } else if self.setting.lookups {
            Request::Waiting { doomed: asking.doomed }
        } else {
            Request::None
        };
    }

    // The database.

    fn fail_over(&mut self, kept: i64, list: bool) {
        let former = self.now();
        let timeline = former.timeline + u32::from(!self.bent(Bend::TagKeptOverFailover));
        let kept_events = former.events.iter().take(usize::try_from(kept).unwrap());
        let events = kept_events.map(|event| Event { published: false, ..event.clone() }).collect();
        self.histories.push(History { timeline, events });
        if !list {
            self.rows.clear();
        }
        if let Phase::Visible(position) = self.phase
            && position.0 > kept
        {
            // It is sent again, because nobody was told that it was committed.
            self.phase = Phase::Sent;
            self.visible_for = None;
        }
    }
}
