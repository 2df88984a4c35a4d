//! What was seen of everything that was revoked, compared with what was promised.

use std::time::{Duration, Instant};

use super::{
    ask::Asked,
    cluster::lease_of,
    race::{Attempt, Case, Outcome},
};
/// So near to the return of a revocation, either side of it, it is a matter of luck which came first.
const NEAR: Duration = Duration::from_millis(5);
/// What had passed a line when it was cut arrives within this.
const ON_THE_WAY: Duration = Duration::from_millis(100);
/// A socket is closed this soon after its replica has heard why, on a busy machine.
const CLOSING: Duration = Duration::from_secs(5);
/// A replica hears of a revocation this soon after it can hear anything again.
const RECOVERY: Duration = Duration::from_secs(10);
/// So many findings about one thing are told.
const TOLD_MAX: usize = 5;

/// What was done to the replicas.
#[derive(Debug, Default)]
pub struct Trouble {
    /// When not every replica may hear what is committed, by whatever way.
    pub deaf: Option<(Instant, Instant)>,
    pub blackouts: Vec<Blackout>,
}

/// Within this a replica cannot hear the database.
#[derive(Clone, Copy, Debug)]
pub struct Blackout {
    pub replica: usize,
    pub from: Instant,
    pub to: Instant,
}

/// The sum over many things.
#[derive(Debug, Default)]
pub struct Tally {
    /// Revocations that were said to be effective, and how long the calls took that said so.
    pub took: Vec<Duration>,
    pub verifies: usize,
    /// Of these, under way while the revocation was, or begun within [`NEAR`] afterwards.
    pub racing: usize,
    /// Of these, begun within [`NEAR`] of the revocation's return, before it or after.
    pub near: usize,
    /// Begun after a revocation was effective.
    pub after: usize,
    pub unavailable: usize,
    /// Of those begun after a revocation was effective, the yeses; and sockets that outlived it.
    pub accepted: usize,
    /// Sockets that were open when the revocation began, or opened while it was under way.
    pub sockets: usize,
    /// The longest that one of them was open after the revocation was effective.
    pub socket_max: Duration,
    /// What must not be: those, and everything else.
    pub wrong: Vec<String>,
}

impl Tally {
    pub fn of(case: &Case, trouble: &Trouble) -> Self {
        let mut tally = Self::default();
        let effective = case.effective();
        tally.took.extend(effective.map(|attempt| attempt.end - attempt.start));
        case.asked.iter().for_each(|asked| tally.judge(case, asked, &trouble.blackouts));
        if let Some(effective) = effective {
            tally.judge_sockets(case, effective, trouble);
        }
        tally
    }

    pub fn add(&mut self, other: &Self) {
        self.took.extend_from_slice(&other.took);
        self.verifies += other.verifies;
        self.racing += other.racing;
        self.near += other.near;
        self.after += other.after;
        self.unavailable += other.unavailable;
        self.accepted += other.accepted;
        self.sockets += other.sockets;
        self.socket_max = self.socket_max.max(other.socket_max);
        self.wrong.extend_from_slice(&other.wrong);
    }

    fn judge(&mut self, case: &Case, asked: &Asked, blackouts: &[Blackout]) {
        let effective = case.effective();
        let first = case.attempts.first().map(|attempt| attempt.start);
        self.verifies += 1;
        let is_after = effective.is_some_and(|attempt| asked.start > attempt.end);
        if let (Some(first), Some(attempt)) = (first, effective) {
            let is_racing = asked.end >= first && asked.start <= attempt.end + NEAR;
            self.racing += usize::from(is_racing);
            self.near += usize::from(is_racing && asked.start + NEAR >= attempt.end);
        }
        self.after += usize::from(is_after);
        match asked.answer {
            Some(200) => {
                if is_after {
                    self.accepted += 1;
                    self.wrong("accepted after it was revoked", case, asked);
                }
                // R5: whatever lease there was is over, and nobody was asked.
                let is_unfounded = |blackout: &Blackout| {
                    blackout.replica == asked.replica
                        && asked.start > blackout.from + lease_of(blackout.replica) + ON_THE_WAY
                        && asked.end < blackout.to
                };
                if blackouts.iter().any(is_unfounded) {
                    self.wrong("accepted without a lease and without the database", case, asked);
                }
            }
            Some(503) => self.unavailable += 1,
            Some(other) if other != case.question.no => {
                self.wrong("answered as nothing should be", case, asked);
            }
            Some(_) if first.is_none_or(|first| asked.end < first) => {
                self.wrong("refused before anybody revoked it", case, asked);
            }
            Some(_) | None => {}
        }
    }

    /// A socket ends with what it rests on, as soon as its replica hears of it, and is told nothing that
    /// came later.
    fn judge_sockets(&mut self, case: &Case, effective: &Attempt, trouble: &Trouble) {
        let first = case.attempts[0].start;
        let soon = effective.end + CLOSING;
        let due = match trouble.deaf {
            Some((from, to)) if from < soon => soon.max(to + RECOVERY),
            Some(_) | None => soon,
        };
        // Those that ended earlier did so with their replica.
        for heard in case.heard.iter().filter(|heard| heard.end >= first) {
            self.sockets += 1;
            let late = heard.end.saturating_duration_since(effective.end);
            self.socket_max = self.socket_max.max(late);
            let is_told = case.afterwards.is_some_and(|later| heard.told.iter().any(|told| *told >= later));
            for (is_wrong, what) in [
                (heard.end > due, "its socket stayed open"),
                (is_told, "its socket was told of what came later"),
            ] {
                if is_wrong {
                    self.accepted += 1;
                    let (Case { kind, id, .. }, replica) = (case, heard.replica);
                    let text = format!("{kind:?} {id}: {what}, by replica {replica} for {late:?}");
                    self.wrong.push(text);
                }
            }
        }
    }

    fn wrong(&mut self, what: &str, case: &Case, asked: &Asked) {
        if self.wrong.len() >= TOLD_MAX {
            return;
        }
        let begun = case.attempts.first().map(|attempt| since(asked.start, attempt.start));
        let ended = case.effective().map(|attempt| since(asked.start, attempt.end));
        let calls = case.attempts.iter().map(|call| {
            let (took, outcome) = (call.end - call.start, call.outcome);
            format!("by replica {} in {took:?}: {outcome:?}", call.replica)
        });
        self.wrong.push(format!(
            "{:?} {} was {what}: {:?} by replica {} within {:?}; asked {:.1} ms after the first call to revoke it, {:.1} ms after that was effective; {:?}",
            case.kind,
            case.id,
            asked.answer,
            asked.replica,
            asked.end - asked.start,
            begun.unwrap_or_default(),
            ended.unwrap_or_default(),
            calls.collect::<Vec<_>>(),
        ));
    }

    /// How long all but so many of a hundred revocations took at most.
    pub fn took_at(&self, percent: usize) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        took.get((took.len() * percent / 100).min(took.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// In milliseconds, below zero when `later` was earlier.
fn since(later: Instant, earlier: Instant) -> f64 {
    let after = later.saturating_duration_since(earlier).as_secs_f64();
    (after - earlier.saturating_duration_since(later).as_secs_f64()) * 1000.0
}

mod tests {
    use super::super::{ask::Question, listen::Heard, subject::Kind};
    use super::*;

    fn case(asked: Vec<Asked>, heard: Vec<Heard>, attempts: Vec<Attempt>) -> Case {
        let (kind, question) = (Kind::Token, Question::of_credential(""));
        Case { kind, id: String::new(), question, asked, heard, attempts, afterwards: Some(7) }
    }

    /// A token that was revoked from 100 ms on, effective at 110 ms, and asked for once.
    fn judged(start_ms: u64, end_ms: u64, answer: Option<u16>, blackout_ms: Option<(u64, u64)>) -> Tally {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let asked = vec![Asked { replica: 1, start: at(start_ms), end: at(end_ms), answer }];
        let attempts = vec![
            Attempt { replica: 0, start: at(100), end: at(101), outcome: Outcome::Unknown },
            Attempt { replica: 0, start: at(105), end: at(110), outcome: Outcome::Effective },
        ];
        let blackouts: Vec<Blackout> = blackout_ms
            .iter()
            .map(|(from, to)| Blackout { replica: 1, from: at(*from), to: at(*to) })
            .collect();
        Tally::of(&case(asked, Vec::new(), attempts), &Trouble { deaf: None, blackouts })
    }

    #[test]
    fn what_is_wrong_is_found() {
        for (start, end, answer, words) in [
            (111, 112, Some(200), Some("accepted after")),
            (111, 5000, Some(200), Some("accepted after")),
            (110, 112, Some(200), None),
            (10, 5000, Some(200), None),
            (10, 99, Some(401), Some("refused before")),
            (10, 101, Some(401), None),
            (111, 112, Some(401), None),
            (111, 112, Some(503), None),
            (111, 112, None, None),
            (50, 51, Some(500), Some("answered as nothing should be")),
            (111, 112, Some(404), Some("answered as nothing should be")),
        ] {
            let wrong = judged(start, end, answer, None).wrong;
            assert_eq!(wrong.len(), usize::from(words.is_some()), "{start} {end} {answer:?}: {wrong:?}");
            assert!(words.is_none_or(|words| wrong[0].contains(words)), "{wrong:?}");
        }
    }

    #[test]
    fn a_yes_needs_a_lease_or_the_database() {
        let wrong =
            |start: u64, blackout| judged(5000 + start, 5001 + start, Some(200), Some(blackout)).wrong.len();
        // The token is revoked long before: one finding is that.
        let over = u64::try_from((lease_of(1) + ON_THE_WAY).as_millis()).unwrap();
        assert_eq!(wrong(over + 1, (5000, 9000)), 2);
        assert_eq!(wrong(over - 1, (5000, 9000)), 1);
        assert_eq!(wrong(over + 1, (5000, 5000 + over + 2)), 1, "it was mended meanwhile");
    }

    #[test]
    fn racing_is_counted_near_and_after() {
        let counts = |start, end| {
            let tally = judged(start, end, Some(401), None);
            (tally.racing, tally.near, tally.after)
        };
        assert_eq!(counts(10, 99), (0, 0, 0));
        assert_eq!(counts(99, 100), (1, 0, 0));
        assert_eq!(counts(104, 106), (1, 0, 0));
        assert_eq!(counts(105, 106), (1, 1, 0));
        assert_eq!(counts(115, 116), (1, 1, 1));
        assert_eq!(counts(116, 117), (0, 0, 1));
    }

    #[test]
    fn a_socket_ends_in_time_and_is_told_nothing_later() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let slack_ms = u64::try_from(CLOSING.as_millis()).unwrap();
        let judged = |end_ms: u64, told: &[i64], deaf_ms: Option<(u64, u64)>| {
            let heard = vec![Heard { replica: 1, told: told.to_vec(), end: at(end_ms) }];
            let attempt = Attempt { replica: 0, start: at(100), end: at(110), outcome: Outcome::Effective };
            let deaf = deaf_ms.map(|(from, to)| (at(from), at(to)));
            let trouble = Trouble { deaf, blackouts: Vec::new() };
            let tally = Tally::of(&case(Vec::new(), heard, vec![attempt]), &trouble);
            (tally.sockets, tally.wrong.len())
        };
        assert_eq!(judged(99, &[], None), (0, 0), "it ended before anybody revoked anything");
        assert_eq!(judged(100, &[6], None), (1, 0));
        assert_eq!(judged(110 + slack_ms, &[], None), (1, 0));
        assert_eq!(judged(111 + slack_ms, &[], None), (1, 1));
        assert_eq!(judged(105, &[6, 7], None), (1, 1));
        assert_eq!(judged(111 + slack_ms, &[7], None), (1, 2));
        assert_eq!(judged(15_000, &[], Some((105, 5000))), (1, 0), "its replica may not have heard");
        assert_eq!(judged(15_001, &[], Some((105, 5000))), (1, 1));
        assert_eq!(judged(15_000, &[], Some((111 + slack_ms, 5000 + slack_ms))), (1, 1), "that came later");
    }
}
