use chrono::TimeDelta;

use crate::client::output::{Head, clean, span, table};

#[test]
fn other_peoples_names_have_no_power_over_the_terminal() {
    assert_eq!(
        clean("a\x1b[2Jb\nc\r\u{9b}d\u{202e}e\u{2066}"),
        "a\u{fffd}[2Jb\u{fffd}c\u{fffd}\u{fffd}d\u{fffd}e\u{fffd}"
    );
    assert_eq!(clean(" Ada Lovelace 李 é "), "Ada Lovelace 李 é");
    let rows = [vec!["\x1b]0;x\x07".to_owned(), "two\nlines".to_owned()]];
    let lines = table(&[Head("A", None), Head("B", None)], 2, rows);
    assert_eq!(lines[1..], ["\u{fffd}]0;x\u{fffd}  two\u{fffd}lines"]);
}

#[test]
fn cells_are_cut_to_their_columns_also_wide_ones() {
    let rows =
        ["my ci tokens", "李李李李李李李李", "short"].map(|name| vec![name.to_owned(), "end".to_owned()]);
    let lines = table(&[Head("NAME", Some(8)), Head("X", None)], 2, rows);
    assert_eq!(lines[1..], ["my ci t…  end", "李李李…   end", "short     end"]);
}

#[test]
fn spans_are_told_by_their_greatest_unit() {
    assert_eq!(span(TimeDelta::seconds(-5)), "0 min");
    assert_eq!(span(TimeDelta::minutes(59)), "59 min");
    assert_eq!(span(TimeDelta::hours(23)), "23 h");
    assert_eq!(span(TimeDelta::days(90)), "90 d");
}
