//! What can happen next.

use super::{
    world::{Phase, Request, Row},
    *,
};

/// Events in a history at most.
const EVENTS_MAX: usize = 4;

impl World {
    pub(super) fn choices(&self, steps: &mut Vec<Step>) {
        steps.push(Step::Tick);
        if self.effective.is_none() {
            self.choices_of_revocation(steps);
            self.choices_of_list(steps);
        }
        for process in 0..self.processes.len() {
            if self.effective.is_some() && !self.caches(process) {
                continue;
            }
            self.choices_of_registration(process, steps);
            self.choices_of_log(process, steps);
            if self.caches(process) {
                self.choices_of_fill(process, steps);
                self.choices_of_request(process, steps);
            }
        }
        if let Some(failover) = self.setting.failover
            && self.histories.len() == 1
            && self.effective.is_none()
        {
            let head = self.now().head().0;
            for kept in self.kept_at_least(failover)..=head {
                steps.push(Step::FailOver { kept, list: true });
                if failover.loses_list {
                    steps.push(Step::FailOver { kept, list: false });
                }
            }
        }
    }

    /// What was acknowledged is on the standby (P2), and so is whatever somebody waits for.
    fn kept_at_least(&self, failover: Failover) -> i64 {
        let mut kept = self.waiters.iter().map(|waiter| waiter.barrier.position.0).max().unwrap_or(0);
        if let Phase::Replied(position) = self.phase {
            kept = kept.max(position.0);
        }
        if !failover.loses_tail {
            let told = self.now().events.iter().rposition(|event| event.published);
            kept = kept.max(told.map_or(0, |index| i64::try_from(index + 1).unwrap()));
        }
        kept
    }

    fn choices_of_revocation(&self, steps: &mut Vec<Step>) {
        let room = self.now().events.len() + usize::from(self.setting.batch) < EVENTS_MAX;
        match self.phase {
            Phase::Unsent => steps.push(Step::SendCommit),
            Phase::Sent if room => steps.push(Step::CommitIsVisible),
            Phase::Visible(_) if self.host_waits => steps.push(Step::ReplyToCommit),
            Phase::Sent | Phase::Visible(_) | Phase::Replied(_) => {}
        }
        if self.bent(Bend::ListReadBeforeTheCommit) && self.phase == Phase::Sent && self.early_list.is_none()
        {
            steps.push(Step::ReadListEarly);
        }
        if self.others < self.setting.others && self.now().events.len() < EVENTS_MAX {
            steps.push(Step::CommitAnother);
        }
        if self.bent(Bend::UncommittedPublished) && !self.trick_done && self.phase == Phase::Sent {
            steps.push(Step::PublishUncommitted);
        }
        if self.setting.again && !self.again && !self.now().is_live() {
            steps.push(Step::RevokeAgain);
        }
        for (index, waiter) in self.waiters.iter().enumerate() {
            let process = &self.processes[waiter.host];
            if waiter.barrier.members.is_none() {
                steps.push(Step::ReadList(index));
            }
            if self.is_effective(waiter).is_some() {
                steps.push(Step::BecomeEffective(index));
            }
            for (said, acknowledgement) in self.said.iter().enumerate() {
                let heard = process.machine.acknowledged.get(&acknowledgement.replica);
                let own = process.machine.replica() == Some(acknowledgement.replica);
                if !own && heard.is_none_or(|heard| *heard < acknowledgement.applied) {
                    steps.push(Step::HearAcknowledgement { waiter: index, said });
                }
            }
        }
    }

    fn choices_of_list(&self, steps: &mut Vec<Step>) {
        if self.bent(Bend::RegistryLost) && !self.trick_done {
            steps.push(Step::LoseRegistry);
        }
        if !self.setting.clean_up {
            return;
        }
        for (index, row) in self.rows.iter().enumerate() {
            match row.leaving {
                None => steps.push(Step::Mark(index)),
                Some(since) if self.cleaner >= since.after(self.waits_for(row)) => {
                    steps.push(Step::Remove(index));
                }
                Some(_) => {}
            }
        }
    }

    /// As long as a row must have been marked.
    fn waits_for(&self, row: &Row) -> Duration {
        let lease = if self.bent(Bend::CleanUpByOwnLease) { Duration::ZERO } else { row.lease };
        self.setting.timing(self.host()).bound(Some(lease))
    }

    fn choices_of_registration(&self, index: usize, steps: &mut Vec<Step>) {
        let process = &self.processes[index];
        if process.machine.is_unregistered() && process.registrations < self.setting.registrations {
            steps.push(Step::Register(index));
        }
        if process.unlisted {
            steps.push(Step::EnterInList(index));
        }
        if process.machine.replica().is_some() {
            if self.caches(index) {
                self.choices_of_renewal(index, steps);
            } else {
                steps.push(Step::Renew(index));
            }
            if self.setting.leaving && index == 1 {
                steps.push(Step::Leave(index));
            }
        }
        // Its late reply is all that is left of a replica that should have closed.
        if process.row_left.is_some() {
            steps.push(Step::DeleteRow(index));
        }
        if self.crashes < self.setting.crashes {
            steps.push(Step::Crash(index));
        }
    }

    fn choices_of_renewal(&self, index: usize, steps: &mut Vec<Step>) {
        let process = &self.processes[index];
        // The one before it is given up. One that was sent at the same moment could bring no more.
        let until = process.clock.after(self.setting.timing(index).lease);
        let is_new = process.machine.lease.is_none_or(|lease| lease.until < until)
            && process.renewal.as_ref().is_none_or(|sent| sent.t0 < process.clock);
        if is_new && process.row_left.is_none() {
            steps.push(Step::SendRenewal(index));
        }
        match &process.renewal {
            None => {}
            Some(renewal) if renewal.reply.is_some() => steps.push(Step::TakeRenewal(index)),
            Some(_) => {
                steps.push(Step::RunRenewal(index));
                if self.bent(Bend::StandbyHead) && !self.now().events.is_empty() {
                    steps.push(Step::RunRenewalOnStandby(index));
                }
            }
        }
    }

    fn choices_of_log(&self, index: usize, steps: &mut Vec<Step>) {
        let process = &self.processes[index];
        let Some(cursor) = &process.machine.cursor else { return };
        for (history, log) in self.histories.iter().enumerate().filter(|(_, log)| log.tag() == cursor.tag) {
            for (at, event) in log.events.iter().enumerate().filter(|(_, event)| event.published) {
                let position = i64::try_from(at + 1).unwrap();
                let contiguous = event.from <= cursor.applied.0 + 1;
                let is_new = position > cursor.applied.0;
                if (is_new && contiguous) || self.renews_by_bus(index) {
                    steps.push(Step::Hear { process: index, history, position });
                }
                let skips = self.bent(Bend::GapSkipped) || self.bent(Bend::CursorSetToTheMessage);
                if is_new && !contiguous && skips {
                    steps.push(Step::HearGap { process: index, history, position });
                }
                let is_said = self.said.iter().any(|said| said.applied.0 >= position);
                if is_new && self.bent(Bend::AcknowledgedBeforeRemoval) && !is_said {
                    steps.push(Step::AcknowledgeUnapplied { process: index, history, position });
                }
            }
        }
        if self.bent(Bend::UncommittedPublished) && self.trick_done && cursor.applied == Position::ZERO {
            steps.push(Step::HearUncommitted(index));
        }
        let behind = cursor.applied < self.now().head() || cursor.tag != self.now().tag();
        if process.page.is_some() {
            steps.push(Step::TakePage(index));
        } else if behind && self.setting.pages_are_late {
            steps.push(Step::ReadLog(index));
        } else if behind {
            steps.push(Step::CatchUp(index));
        }
    }

    /// Only where the bus may do so: any message, heard once more, prolongs a lease.
    fn renews_by_bus(&self, index: usize) -> bool {
        let process = &self.processes[index];
        let lease = process.machine.lease.filter(|lease| lease.holds(process.clock));
        self.bent(Bend::BusRenewsTheLease)
            && lease.is_some_and(|lease| lease.until.0 < process.clock.0 + LEASE)
    }

    fn choices_of_fill(&self, index: usize, steps: &mut Vec<Step>) {
        let process = &self.processes[index];
        match &process.fill {
            Some(fill) if fill.checked => steps.push(Step::InsertFill(index)),
            Some(_) => steps.push(Step::TakeFill(index)),
            None => {
                let wanted = process.machine.ticket().is_some() && !process.remembers();
                let waited_for = matches!(process.request, Request::Waiting { .. });
                if waited_for || (wanted && self.now().is_live()) {
                    steps.push(Step::LookUp(index));
                }
                if self.bent(Bend::DeposedPrimaryAnswers) && waited_for && self.histories.len() > 1 {
                    steps.push(Step::LookUpInDeposed(index));
                }
            }
        }
    }

    fn choices_of_request(&self, index: usize, steps: &mut Vec<Step>) {
        let process = &self.processes[index];
        match process.request {
            Request::None => {
                let worth_it = process.remembers() || process.fill.is_some() || self.setting.lookups;
                if worth_it && !process.unlisted && (self.setting.any_time || self.doomed()) {
                    steps.push(Step::Ask(index));
                }
            }
            Request::Taken(_) => steps.push(Step::Look(index)),
            Request::Found(_) => steps.push(Step::Answer(index)),
            Request::Waiting { .. } => {
                if self.bent(Bend::EarlierFlightJoined) && process.fill.is_some() {
                    steps.push(Step::JoinFlight(index));
                }
            }
        }
    }
}
