//! What was seen of tokens, compared with what was promised.

use std::time::{Duration, Instant};

use super::race::{Asked, Case};

/// So near to the return of a revocation, either side of it, it is a matter of luck which came first.
const NEAR: Duration = Duration::from_millis(5);
/// Δ, as replicas are set: nothing is answered from memory for longer after the database was last heard.
const LEASE: Duration = Duration::from_secs(1);
/// What had passed a line when it was cut arrives within this.
const ON_THE_WAY: Duration = Duration::from_millis(100);
/// So many findings are told in full.
const TOLD_MAX: usize = 20;

/// Within this a replica cannot hear the database.
#[derive(Clone, Copy, Debug)]
pub struct Blackout {
    pub replica: usize,
    pub from: Instant,
    pub to: Instant,
}

/// The sum over all tokens of one fault.
#[derive(Debug, Default)]
pub struct Tally {
    /// Revocations that were said to be effective, and how long the calls took that said so.
    pub took: Vec<Duration>,
    pub verifies: usize,
    /// Of these, under way while the token was being revoked, or begun within [`NEAR`] afterwards.
    pub racing: usize,
    /// Of these, begun within [`NEAR`] of the revocation's return, before it or after.
    pub near: usize,
    /// Begun after a revocation was effective.
    pub after: usize,
    pub unavailable: usize,
    /// Of those begun after a revocation was effective, the yeses.
    pub accepted: usize,
    /// What must not be: those, and everything else.
    pub wrong: Vec<String>,
}

impl Tally {
    pub fn judge(&mut self, case: &Case, blackouts: &[Blackout]) {
        let effective = case.attempts.iter().find(|attempt| attempt.effective);
        let first = case.attempts.first().map(|attempt| attempt.start);
        self.took.extend(effective.map(|attempt| attempt.end - attempt.start));
        for asked in &case.asked {
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
                            && asked.start > blackout.from + LEASE + ON_THE_WAY
                            && asked.end < blackout.to
                    };
                    if blackouts.iter().any(is_unfounded) {
                        self.wrong("accepted without a lease and without the database", case, asked);
                    }
                }
                Some(401) if first.is_none_or(|first| asked.end < first) => {
                    self.wrong("refused before anybody revoked it", case, asked);
                }
                Some(503) => self.unavailable += 1,
                Some(401) | None => {}
                Some(_) => self.wrong("answered as nothing should be", case, asked),
            }
        }
    }

    fn wrong(&mut self, what: &str, case: &Case, asked: &Asked) {
        let text = if self.wrong.len() < TOLD_MAX {
            let begun = case.attempts.first().map(|attempt| since(asked.start, attempt.start));
            let ended = case.attempts.iter().find(|attempt| attempt.effective);
            let ended = ended.map(|attempt| since(asked.start, attempt.end));
            let calls = case.attempts.iter().map(|call| {
                let (took, effective) = (call.end - call.start, call.effective);
                format!("by replica {} in {took:?}, effective: {effective}", call.replica)
            });
            format!(
                "token {} was {what}: {:?} by replica {} within {:?}; asked {:.1} ms after the first call to revoke it, {:.1} ms after that was effective; {:?}",
                case.id,
                asked.answer,
                asked.replica,
                asked.end - asked.start,
                begun.unwrap_or_default(),
                ended.unwrap_or_default(),
                calls.collect::<Vec<_>>(),
            )
        } else {
            what.to_owned()
        };
        self.wrong.push(text);
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
    use super::super::race::Attempt;
    use super::*;

    /// A token that was revoked from 100 ms on, effective at 110 ms, and asked for once.
    fn judged(start_ms: u64, end_ms: u64, answer: Option<u16>, blackout_ms: Option<(u64, u64)>) -> Tally {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let asked = vec![Asked { replica: 1, start: at(start_ms), end: at(end_ms), answer }];
        let attempts = vec![
            Attempt { replica: 0, start: at(100), end: at(101), effective: false },
            Attempt { replica: 0, start: at(105), end: at(110), effective: true },
        ];
        let blackouts: Vec<Blackout> = blackout_ms
            .iter()
            .map(|(from, to)| Blackout { replica: 1, from: at(*from), to: at(*to) })
            .collect();
        let mut tally = Tally::default();
        tally.judge(&Case { id: String::new(), token: String::new(), asked, attempts }, &blackouts);
        tally
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
        assert_eq!(wrong(1101, (5000, 9000)), 2);
        assert_eq!(wrong(1099, (5000, 9000)), 1);
        assert_eq!(wrong(1101, (5000, 6102)), 1, "it was mended meanwhile");
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
}
