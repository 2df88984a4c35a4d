//! The audit trail as a table that keeps its columns from one page to the next.

use chrono::{DateTime, Utc};

use super::event::Event;
use crate::client::output::{self, GAP, Head};

/// From here on there is room for whole ids.
const WIDE: u16 = 200;
/// Below this, every character counts.
const NARROW: u16 = 100;
/// The last characters of an id: those that random ids differ in.
const ID_TAIL_CHARACTERS: usize = 8;
const DETAIL_CHARACTERS_MIN: u16 = 12;

/// The widths of the columns, found with the first page.
pub(super) struct Layout {
    /// The terminal's width; none: no terminal, and as wide as it gets.
    width: Option<u16>,
    columns: Option<[u16; 5]>,
}

impl Layout {
    pub(super) const fn new(width: Option<u16>) -> Self {
        Self { width, columns: None }
    }

    /// The page's lines, in its order; the first page's begin with the heads.
    pub(super) fn lines(&mut self, events: &[Event]) -> Vec<String> {
        if events.is_empty() {
            return Vec::new();
        }
        let rows: Vec<[String; 6]> = events.iter().map(|event| self.cells(event)).collect();
        let first = self.columns.is_none();
        let columns = *self.columns.get_or_insert_with(|| columns(&rows));
        let gap = if self.is_narrow() { 1 } else { GAP };
        let before: u16 = columns.iter().map(|width| width + gap).sum();
        let detail = self.width.map(|width| width.saturating_sub(before + gap).max(DETAIL_CHARACTERS_MIN));
        let [position, time, name, actor, credential] = columns.map(Some);
        let heads = [
            Head("POSITION", position),
            Head("TIME", time),
            Head("EVENT", name),
            Head("ACTOR", actor),
            Head("CREDENTIAL", credential),
            Head("DETAIL", detail),
        ];
        let lines = output::table(&heads, gap, rows.into_iter().map(Vec::from));
        lines.into_iter().skip(usize::from(!first)).collect()
    }

    fn cells(&self, event: &Event) -> [String; 6] {
        let id = |id: &str| self.id(id);
        let actor = match &event.actor.id {
            Some(actor) if self.is_narrow() && event.actor.kind == "user" => id(actor),
            Some(actor) => format!("{} {}", event.actor.kind, id(actor)),
            None => event.actor.kind.clone(),
        };
        [
            event.position.to_string(),
            self.time(event.recorded_at),
            event.name.clone(),
            actor,
            event.credential_id.as_deref().map_or_else(|| "-".to_owned(), id),
            event.detail(id),
        ]
    }

    fn is_narrow(&self) -> bool {
        self.width.is_some_and(|width| width < NARROW)
    }

    fn is_wide(&self) -> bool {
        self.width.is_none_or(|width| width >= WIDE)
    }

    fn id(&self, id: &str) -> String {
        let characters = id.chars().count();
        if self.is_wide() || characters <= ID_TAIL_CHARACTERS {
            return id.to_owned();
        }
        let tail: String = id.chars().skip(characters - ID_TAIL_CHARACTERS).collect();
        format!("…{tail}")
    }

    fn time(&self, time: DateTime<Utc>) -> String {
        let format = if self.is_wide() { "%Y-%m-%dT%H:%M:%SZ" } else { "%m-%d %H:%M:%S" };
        time.format(format).to_string()
    }
}

/// As wide as this page needs, with a little room for names that come later.
fn columns(rows: &[[String; 6]]) -> [u16; 5] {
    let least = ["POSITION".len(), "TIME".len(), "session.started".len(), "ACTOR".len(), "CREDENTIAL".len()];
    std::array::from_fn(|column| {
        let longest = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        u16::try_from(longest.max(least[column])).unwrap_or(u16::MAX).min(120)
    })
}
