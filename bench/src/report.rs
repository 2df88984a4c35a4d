//! What was measured: figures of rows, a row per side of a case, with every round kept.

use std::{collections::BTreeMap, fs, path::Path};

use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

use crate::{
    Result,
    cpu::{Spent, micros_per},
};

/// Operations per second.
pub const RATE: &str = "rate";
/// CPU time per operation, microseconds: the server's, or this process's where there is none.
pub const PROCESS: &str = "process_us";
pub const POSTGRES: &str = "postgres_us";
pub const GENERATOR: &str = "generator_us";
/// Latency, microseconds.
pub const P50: &str = "p50_us";
pub const P99: &str = "p99_us";
pub const P999: &str = "p99.9_us";
/// For what is no rate: its unit is the row's.
pub const VALUE: &str = "value";

/// All of a run, as `target/bench.json` holds it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub figures: Vec<Figure>,
}

/// One question, with the answers of everybody who was asked.
#[derive(Debug, Serialize, Deserialize)]
pub struct Figure {
    pub name: String,
    pub title: String,
    /// The command that measured it.
    pub command: String,
    pub machine: String,
    /// What the sides are, and what was checked.
    pub notes: Vec<String>,
    pub rows: Vec<Row>,
}

/// One side of one case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub case: String,
    pub side: String,
    pub is_baseline: bool,
    /// Of [`VALUE`]; none for rates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Each quantity with its value in every round.
    pub rounds: BTreeMap<String, Vec<f64>>,
    /// The same, summed up: what tables show.
    pub summary: BTreeMap<String, Summary>,
    /// For a baseline: how many times its rate the product's is, the median over pairs of rounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_over_this: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Summary {
    /// None of nothing.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { median, min, max })
    }
}

/// What one side did in one round.
#[derive(Clone, Debug, Default)]
pub struct Sample(BTreeMap<&'static str, f64>);

impl Sample {
    /// Operations in so many seconds, at this expense.
    pub fn of_rate(operations: u64, seconds: f64, spent: Spent) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "operations of a benchmark are far below 2^52")]
        let rate = operations as f64 / seconds;
        let sample = Self::default()
            .with(RATE, rate)
            .with(PROCESS, micros_per(spent.process, operations))
            .with(POSTGRES, micros_per(spent.postgres, operations));
        match spent.generator {
            Some(generator) => sample.with(GENERATOR, micros_per(generator, operations)),
            None => sample,
        }
    }

    pub fn of_value(value: f64) -> Self {
        Self::default().with(VALUE, value)
    }

    #[must_use]
    pub fn with(mut self, quantity: &'static str, value: f64) -> Self {
        self.0.insert(quantity, value);
        self
    }

    pub fn get(&self, quantity: &str) -> Option<f64> {
        self.0.get(quantity).copied()
    }
}

impl Row {
    pub fn new(case: &str, side: &str, is_baseline: bool, samples: &[Sample]) -> Self {
        let mut rounds: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (quantity, value) in samples.iter().flat_map(|sample| &sample.0) {
            rounds.entry((*quantity).to_owned()).or_default().push(*value);
        }
        let summary =
            rounds.iter().filter_map(|(name, values)| Some((name.clone(), Summary::of(values)?))).collect();
        Self {
            case: case.to_owned(),
            side: side.to_owned(),
            is_baseline,
            unit: None,
            rounds,
            summary,
            product_over_this: None,
        }
    }

    /// A quantity with a unit of its own, such as bytes.
    pub fn of_values(case: &str, side: &str, is_baseline: bool, unit: &str, values: &[f64]) -> Self {
        let samples: Vec<Sample> = values.iter().copied().map(Sample::of_value).collect();
        Self { unit: Some(unit.to_owned()), ..Self::new(case, side, is_baseline, &samples) }
    }
}

/// Compares the first row, the product's, with every baseline, round by round.
pub fn compare(rows: &mut [Row]) {
    let Some((product, others)) = rows.split_first_mut() else { return };
    for other in others.iter_mut().filter(|row| row.is_baseline) {
        let quantity = if product.rounds.contains_key(RATE) { RATE } else { VALUE };
        let (Some(ours), Some(theirs)) = (product.rounds.get(quantity), other.rounds.get(quantity)) else {
            continue;
        };
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        other.product_over_this = Summary::of(&ratios).map(|summary| summary.median);
    }
}

impl Report {
    /// What an earlier run left, or nothing.
    pub fn read(path: &Path) -> Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => Ok(serde_json::from_str(&text)
                .map_err(|error| format!("{} is no report of this bench: {error}", path.display()))?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(format!("{}: {error}", path.display()).into()),
        }
    }

    /// Puts a figure in its place: a second measurement takes the place of the first.
    pub fn take(&mut self, figure: Figure) {
        match self.figures.iter_mut().find(|known| known.name == figure.name) {
            Some(known) => *known = figure,
            None => self.figures.push(figure),
        }
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(path, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(())
    }
}

impl Figure {
    /// The table a person reads at the terminal.
    pub fn table(&self) -> Table {
        let columns = self.columns();
        let mut table = Table::new();
        table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(columns.iter().map(|column| column.title));
        for row in &self.rows {
            table.add_row(columns.iter().map(|column| (column.cell)(row)));
        }
        for (index, _) in columns.iter().enumerate().filter(|(_, column)| column.is_number) {
            if let Some(column) = table.column_mut(index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }

    /// Those columns that any row fills.
    pub fn columns(&self) -> Vec<Column> {
        COLUMNS
            .into_iter()
            .filter(|column| self.rows.iter().any(|row| !(column.cell)(row).is_empty()))
            .collect()
    }
}

#[derive(Clone, Copy)]
pub struct Column {
    pub title: &'static str,
    pub is_number: bool,
    pub cell: fn(&Row) -> String,
}

const COLUMNS: [Column; 16] = [
    Column { title: "case", is_number: false, cell: |row| row.case.clone() },
    Column { title: "side", is_number: false, cell: |row| row.side.clone() },
    Column { title: "per second", is_number: true, cell: |row| range(row, RATE) },
    Column { title: "value", is_number: true, cell: |row| range(row, VALUE) },
    Column { title: "unit", is_number: false, cell: |row| row.unit.clone().unwrap_or_default() },
    Column {
        title: "tally ÷ this",
        is_number: true,
        cell: |row| row.product_over_this.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
    },
    Column { title: "CPU µs: process", is_number: true, cell: |row| median(row, PROCESS) },
    Column { title: "postgres", is_number: true, cell: |row| median(row, POSTGRES) },
    Column { title: "generator", is_number: true, cell: |row| median(row, GENERATOR) },
    Column { title: "p50 ms", is_number: true, cell: |row| milliseconds(row, P50) },
    Column { title: "p99 ms", is_number: true, cell: |row| milliseconds(row, P99) },
    Column { title: "p99.9 ms", is_number: true, cell: |row| milliseconds(row, P999) },
    Column { title: "revoked per second", is_number: true, cell: |row| range(row, crate::revoking::REVOKED) },
    Column {
        title: "revocation p99 ms",
        is_number: true,
        cell: |row| milliseconds(row, crate::revoking::REVOCATION_P99),
    },
    Column { title: "lag at end", is_number: true, cell: |row| median(row, crate::mints::LAG) },
    Column {
        title: "per second, caught up",
        is_number: true,
        cell: |row| range(row, crate::mints::SUSTAINED),
    },
];

fn range(row: &Row, quantity: &str) -> String {
    row.summary.get(quantity).map_or_else(String::new, |summary| {
        let Summary { median, min, max } = *summary;
        if (min - max).abs() < f64::EPSILON {
            number(median)
        } else {
            format!("{} ({} – {})", number(median), number(min), number(max))
        }
    })
}

fn median(row: &Row, quantity: &str) -> String {
    row.summary.get(quantity).map(|summary| number(summary.median)).unwrap_or_default()
}

fn milliseconds(row: &Row, quantity: &str) -> String {
    let written = |summary: &Summary| {
        let milliseconds = summary.median / 1000.0;
        // What takes no microsecond is told in nanoseconds' digits.
        if milliseconds < 0.01 { format!("{milliseconds:.5}") } else { format!("{milliseconds:.2}") }
    };
    row.summary.get(quantity).map(written).unwrap_or_default()
}

/// Three digits that say something; thousands set apart.
pub fn number(value: f64) -> String {
    if value.abs() < 9.995 {
        return format!("{value:.2}");
    }
    if value.abs() < 99.95 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |rest| ("-", rest));
    let mut grouped = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(side: &str, is_baseline: bool, rates: &[f64]) -> Row {
        let samples: Vec<Sample> = rates.iter().map(|rate| Sample::default().with(RATE, *rate)).collect();
        Row::new("64 callers", side, is_baseline, &samples)
    }

    #[test]
    fn a_baseline_is_compared_round_by_round() {
        // The machine got slower from round to round: pairs do not care, medians of each would.
        let mut rows =
            [row("tally", false, &[900.0, 500.0, 90.0]), row("bare", true, &[1000.0, 1000.0, 100.0])];
        compare(&mut rows);
        assert_eq!(rows[1].product_over_this, Some(0.9));
        assert_eq!(rows[0].product_over_this, None);
    }

    #[test]
    fn the_median_of_an_even_number_of_rounds_is_between_the_middle_two() {
        assert_eq!(Summary::of(&[4.0, 1.0, 3.0, 2.0]), Some(Summary { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn numbers_are_short_and_grouped() {
        let shown: Vec<String> = [0.5, 12.34, 999.6, 1_234_567.0, -4321.0].into_iter().map(number).collect();
        assert_eq!(shown, ["0.50", "12.3", "1,000", "1,234,567", "-4,321"]);
    }

    #[test]
    fn a_second_measurement_takes_the_place_of_the_first() {
        let figure = |title: &str| Figure {
            name: "appends".into(),
            title: title.into(),
            command: String::new(),
            machine: String::new(),
            notes: Vec::new(),
            rows: vec![row("tally", false, &[1.0])],
        };
        let mut report = Report::default();
        report.take(figure("first"));
        report.take(figure("second"));
        assert_eq!(report.figures.iter().map(|figure| &figure.title).collect::<Vec<_>>(), ["second"]);
    }
}
