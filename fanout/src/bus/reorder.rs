//! Batches that came before what goes before them.
//!
//! Two replicas commit one after the other, and their messages overtake each other on the way. What is
//! missing then comes a moment later, which is sooner than it could be read.

use std::{collections::BTreeMap, time::Duration};

use tally_events::Position;

use crate::{bus::Said, protocol::Mono};

/// How long something may be missing before the log is read.
const WINDOW: Duration = Duration::from_millis(3);
/// More than this is no matter of a moment.
const HELD_MAX: usize = 256;

/// What came too early, by where it begins.
#[derive(Default)]
pub struct Reorder {
    held: BTreeMap<Position, Said>,
    /// Since when something has been missing.
    since: Option<Mono>,
}

impl Reorder {
    /// Keeps a batch for which something is missing. False: there is too much; read the log.
    pub fn hold(&mut self, said: Said, now: Mono) -> bool {
        self.since.get_or_insert(now);
        self.held.insert(said.message.from, said);
        self.held.len() <= HELD_MAX
    }

    /// The next batch that fits to what is applied.
    pub fn next(&mut self, applied: Position) -> Option<Said> {
        let entry = self.held.first_entry().filter(|entry| *entry.key() <= applied.next())?;
        let said = entry.remove();
        if self.held.is_empty() {
            self.since = None;
        }
        Some(said)
    }

    /// When the log is to be read instead; none while nothing is missing.
    pub fn deadline(&self) -> Option<Mono> {
        self.since.map(|since| since.after(WINDOW))
    }

    /// The log was read, or another is followed.
    pub fn clear(&mut self) {
        self.held.clear();
        self.since = None;
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::protocol::{Message, Tag};

    fn said(from: i64, to: i64) -> Said {
        let tag = Tag { log_id: Uuid::nil(), timeline: "00000001".to_owned() };
        let (from, to) = (Position(from), Position(to));
        Said { message: Message { tag, from, to, leaf: None, overthrown: vec![] }, batch: None }
    }

    fn from(said: Option<Said>) -> Option<i64> {
        said.map(|said| said.message.from.0)
    }

    #[test]
    fn what_came_early_comes_out_in_order_when_the_rest_is_there() {
        let mut reorder = Reorder::default();
        assert!(reorder.hold(said(7, 9), Mono(1_000)));
        assert!(reorder.hold(said(5, 6), Mono(2_000)));
        assert_eq!(from(reorder.next(Position(3))), None);
        assert_eq!(reorder.deadline(), Some(Mono(1_000).after(WINDOW)), "the first one counts");
        assert_eq!(from(reorder.next(Position(4))), Some(5));
        assert_eq!(from(reorder.next(Position(6))), Some(7));
        assert_eq!((from(reorder.next(Position(9))), reorder.deadline()), (None, None));
    }

    #[test]
    fn too_much_is_not_held() {
        let mut reorder = Reorder::default();
        let held = (0..=256).map(|at| reorder.hold(said(10 + at, 10 + at), Mono(0))).filter(|held| *held);
        assert_eq!(held.count(), HELD_MAX);
        reorder.clear();
        assert_eq!((from(reorder.next(Position(300))), reorder.deadline()), (None, None));
    }
}
