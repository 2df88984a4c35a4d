//! What was overthrown, and when: enough to say of a verdict whether it still holds.
//!
//! Each dependency has a place, found by hashing it, where the highest position stands at which
//! anything of that place was overthrown. A verdict that was read at that position or above knew of
//! it. Two dependencies may share a place: then a verdict falls although only its neighbour was
//! overthrown, and costs one lookup more. It never stands although it was overthrown itself,
//! because nothing here is ever forgotten or lowered as long as the history is the same.
//!
//! So it needs the same memory however many verdicts there are and however much is revoked, and
//! one note in it is all that a revocation costs a replica.

use tally_domain::{Dependency, Verdict};
use tally_events::Position;

#[derive(Clone, Debug)]
pub(crate) struct Overthrown {
    /// A power of two of them. Zeroed by the system when first touched.
    places: Box<[i64]>,
    /// Everything that was read below it is overthrown.
    floor: Position,
    /// The highest note: what was read there or above needs no look at the places.
    newest: Position,
}

impl Overthrown {
    pub(crate) fn new(places: usize) -> Self {
        Self {
            places: vec![0; places.next_power_of_two()].into(),
            floor: Position::ZERO,
            newest: Position::ZERO,
        }
    }

    /// As many places, and nothing overthrown yet.
    pub(crate) fn of_another_history(&self) -> Self {
        Self::new(self.places.len())
    }

    /// At `position`, everything that rests on this was overthrown.
    pub(crate) fn note(&mut self, dependency: Dependency, position: Position) {
        let place = &mut self.places[place_of(dependency, self.places.len())];
        *place = position.0.max(*place);
        self.newest = position.max(self.newest);
    }

    /// At `position`, everything was.
    pub(crate) fn everything(&mut self, position: Position) {
        self.floor = position.max(self.floor);
    }

    /// Whether a verdict that was read at `position` still holds.
    pub(crate) fn spares(&self, verdict: &Verdict, position: Position) -> bool {
        let spared = |dependency| self.places[place_of(dependency, self.places.len())] <= position.0;
        position >= self.floor && (position >= self.newest || verdict.depends_on().all(spared))
    }
}

/// Ids are random in their second half, and nobody chooses them; what kind of thing it is does not
/// matter, because ids of different kinds differ.
fn place_of(dependency: Dependency, places: usize) -> usize {
    let (high, low) = dependency.uuid().as_u64_pair();
    let mixed = (high.rotate_left(32) ^ low).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    // The upper bits are the well-mixed ones.
    usize::try_from(mixed >> 32).unwrap_or(usize::MAX) & (places - 1)
}
