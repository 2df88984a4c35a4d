//! What a run of events makes of rows that have an id: each row once, in its last state.

use std::collections::HashMap;

use uuid::Uuid;

/// Rows in the order in which they first appear.
pub(crate) struct ById<T> {
    rows: Vec<(Uuid, T)>,
    latest: HashMap<Uuid, usize>,
}

impl<T: Default> ById<T> {
    pub fn new() -> Self {
        Self { rows: Vec::new(), latest: HashMap::new() }
    }

    /// A row that comes to be. A second one of the same id is a row too: the table refuses it.
    pub fn create(&mut self, id: Uuid) -> &mut T {
        let at = self.rows.len();
        self.latest.insert(id, at);
        self.rows.push((id, T::default()));
        &mut self.rows[at].1
    }

    /// A row as the run has left it so far.
    pub fn change(&mut self, id: Uuid) -> &mut T {
        match self.latest.get(&id) {
            Some(&at) => &mut self.rows[at].1,
            None => self.create(id),
        }
    }

    pub fn into_rows(self) -> Vec<(Uuid, T)> {
        self.rows
    }
}
