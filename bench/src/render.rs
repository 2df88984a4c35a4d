//! The tables of `docs/performance.md`, from the report: no number in them was ever typed.
//!
//! Between `<!-- figure NAME -->` and `<!-- end -->` stands what was measured last; everything else
//! on the page is prose and stays.

use std::{fmt::Write, fs, path::Path};

use crate::{
    Result,
    report::{Column, Figure, Report},
};

const BEGIN: &str = "<!-- figure ";
const END: &str = "<!-- end -->";

/// Writes the page anew.
pub fn render(report: &Report, page: &Path) -> Result<()> {
    let text = fs::read_to_string(page).map_err(|error| format!("{}: {error}", page.display()))?;
    let (text, missing) = replace(&text, report)?;
    fs::write(page, text)?;
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!("{} is written, but these were never measured: {}", page.display(), missing.join(", "))
            .into())
    }
}

/// The page with its figures, and the names of those that the report does not have: their place
/// stays as it was.
fn replace(page: &str, report: &Report) -> Result<(String, Vec<String>)> {
    let (mut text, mut missing) = (String::new(), Vec::new());
    let mut rest = page;
    while let Some((before, place)) = rest.split_once(BEGIN) {
        let (name, place) = place.split_once(" -->").ok_or("a place of a figure has no name")?;
        let (old, after) = place.split_once(END).ok_or_else(|| format!("the place of {name} has no end"))?;
        let _ = write!(text, "{before}{BEGIN}{name} -->");
        if let Some(figure) = report.figures.iter().find(|figure| figure.name == name) {
            let _ = write!(text, "\n\n{}\n", markdown(figure));
        } else {
            missing.push(name.to_owned());
            text.push_str(old);
        }
        text.push_str(END);
        rest = after;
    }
    text.push_str(rest);
    Ok((text, missing))
}

fn markdown(figure: &Figure) -> String {
    let columns = figure.columns();
    let line = |cell: &dyn Fn(&Column) -> String| {
        let cells: Vec<String> = columns.iter().map(cell).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = format!("**{}**\n\n", figure.title);
    text += &line(&|column| column.title.to_owned());
    text += &line(&|column| if column.is_number { "--:" } else { "---" }.to_owned());
    for row in &figure.rows {
        text += &line(&|column| (column.cell)(row).replace('|', "\\|"));
    }
    text.push('\n');
    for note in &figure.notes {
        let _ = writeln!(text, "- {note}");
    }
    let _ = writeln!(text, "\n`{}` on {}.", figure.command, figure.machine);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{RATE, Row, Sample};

    fn report() -> Report {
        let row = |side: &str, is_baseline, rate| {
            Row::new("1 callers", side, is_baseline, &[Sample::default().with(RATE, rate)])
        };
        let mut rows = vec![row("tally", false, 500.0), row("bare | SQL", true, 1000.0)];
        crate::report::compare(&mut rows);
        let figure = Figure {
            name: "appends".into(),
            title: "Bare appends".into(),
            command: "make bench".into(),
            machine: "a machine".into(),
            notes: vec!["What it is.".into()],
            rows,
        };
        Report { figures: vec![figure] }
    }

    #[test]
    fn figures_stand_in_their_places_and_prose_stays() {
        let page = "Before.\n<!-- figure appends -->\nold numbers\n<!-- end -->\nAfter.\n";
        let (text, missing) = replace(page, &report()).unwrap();
        assert!(missing.is_empty());
        assert!(text.starts_with("Before.\n<!-- figure appends -->\n\n**Bare appends**\n"), "{text}");
        assert!(text.contains("| 1 callers | bare \\| SQL | 1,000 | 0.50 |\n"), "{text}");
        assert!(text.ends_with("`make bench` on a machine.\n\n<!-- end -->\nAfter.\n"), "{text}");
        assert!(!text.contains("old numbers"));
        assert_eq!(replace(&text, &report()).unwrap().0, text, "rendered twice it is the same");
    }

    #[test]
    fn what_was_never_measured_is_named_and_its_place_stays() {
        let page = "<!-- figure login -->old<!-- end -->";
        assert_eq!(replace(page, &report()).unwrap(), (page.to_owned(), vec!["login".to_owned()]));
        assert!(replace("<!-- figure login -->", &report()).is_err());
    }
}
