//! How many sockets a person holds on this replica.
//!
//! A socket takes one of the server's places for connections for as long as it lives. Without a limit
//! one person could take them all, and nobody else would be answered.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

use tally_events::UserId;

/// More than the tabs, machines and agents of any person.
pub(super) const SOCKETS_PER_PERSON_MAX: usize = 64;

/// Who holds how many.
#[derive(Clone, Default)]
pub struct Places(Arc<Mutex<HashMap<UserId, usize>>>);

/// One of them, for as long as it is not dropped.
pub(super) struct Place {
    all: Places,
    user: UserId,
}

impl Places {
    /// How many there are of all people.
    pub(crate) fn taken(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    /// None: the person holds as many as they may.
    pub(super) fn take(&self, user: UserId) -> Option<Place> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(user).or_default();
        (*count < SOCKETS_PER_PERSON_MAX).then(|| {
            *count += 1;
            Place { all: self.clone(), user }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = held.entry(self.user) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_holds_so_many_and_gives_them_back() {
        let (places, ada, eve) = (Places::default(), UserId::new(), UserId::new());
        let mut held: Vec<Place> =
            (0..SOCKETS_PER_PERSON_MAX).map(|_| places.take(ada).expect("a place")).collect();
        assert!(places.take(ada).is_none());
        assert!(places.take(eve).is_some(), "another person has places of their own");
        held.pop();
        held.push(places.take(ada).expect("the one that was given back"));
        assert!(places.take(ada).is_none());
        drop(held);
        assert!(places.0.lock().unwrap().is_empty(), "nothing is kept of who is gone");
    }
}
