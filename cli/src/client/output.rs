//! What the client prints: results on standard output, all else on standard error.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use chrono::{DateTime, Utc};
use comfy_table::{ColumnConstraint, ContentArrangement, Row, Table, Width};
use serde::Serialize;

use super::failure::Failure;

/// Prints one line of result.
pub(super) fn line(text: impl Display) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::Output(error),
    })
}

/// Prints the command's one JSON document.
pub(super) fn json(document: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(document).map_err(|error| Failure::Output(error.into()))?;
    line(text)
}

/// Tells the person something that is no result.
pub(super) fn note(text: &str) {
    // Nobody can be told that standard error is closed.
    let _ = writeln!(anstream::stderr(), "{}", clean(text));
}

pub(super) fn warn(text: &str) {
    labelled("\x1b[1;33m", "warning", text);
}

/// One line on standard error behind a coloured label.
pub(super) fn labelled(style: &str, label: &str, text: &str) {
    // As in `note`.
    let _ = writeln!(anstream::stderr(), "{style}{label}:\x1b[0m {}", clean(text));
}

/// The text on one line and without power over the terminal: names are other people's, and so may be the server.
pub(super) fn clean(text: &str) -> String {
    let harmful = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.trim().chars().map(|c| if harmful(c) { '\u{fffd}' } else { c }).collect()
}

/// Columns of the terminal that standard output is; none if it is a file or a pipe, which take any width.
pub(super) fn terminal_width() -> Option<u16> {
    let stdout = io::stdout();
    let width = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout).ok())??.ws_col;
    (width > 0).then_some(width)
}

/// A column: its head, and how many characters it may take. None: as many as its longest cell.
pub(super) struct Head(pub(super) &'static str, pub(super) Option<u16>);

/// Blanks between columns, where there is room for two.
pub(super) const GAP: u16 = 2;

/// Lays rows out in columns, each row on one line; the first line is the heads. Of what is too long the end is cut off.
pub(super) fn table(heads: &[Head], gap: u16, rows: impl IntoIterator<Item = Vec<String>>) -> Vec<String> {
    let mut table = Table::new();
    table
        .load_preset(comfy_table::presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::MAX)
        .set_truncation_indicator("…")
        .set_header(heads.iter().map(|head| head.0));
    for cells in rows {
        let mut row = Row::from(cells.iter().map(|cell| clean(cell)));
        row.max_height(1);
        table.add_row(row);
    }
    for (column, head) in table.column_iter_mut().zip(heads) {
        column.set_padding((0, gap));
        // Cells are cut where they end, not at the blank before.
        column.set_delimiter('\0');
        column.set_constraint(match head.1 {
            Some(width) => ColumnConstraint::Absolute(Width::Fixed(width.saturating_add(gap))),
            None => ColumnConstraint::ContentWidth,
        });
    }
    let mut lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    if let Some(head) = lines.first_mut() {
        *head = format!("\x1b[1m{head}\x1b[0m");
    }
    lines
}

/// A day, as tables show it.
pub(super) fn day(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d").to_string()
}

/// A span of time by its greatest unit: `5 min`, `3 h`, `12 d`.
pub(super) fn span(span: chrono::TimeDelta) -> String {
    match (span.num_days(), span.num_hours(), span.num_minutes()) {
        (0, 0, minutes) => format!("{} min", minutes.max(0)),
        (0, hours, _) => format!("{hours} h"),
        (days, ..) => format!("{days} d"),
    }
}
