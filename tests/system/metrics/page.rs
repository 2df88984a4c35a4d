//! A page of metrics, read as strictly as its format is written: Prometheus' text format, 0.0.4.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use tally_tests::{Answer, client::answer};

/// What a scraper is shown.
pub struct Page {
    /// The names of the metrics.
    pub names: BTreeSet<String>,
    pub samples: Vec<Sample>,
}

pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Page {
    pub async fn scrape(url: &str) -> Self {
        Self::read(&fetch(url).await.text)
    }

    /// Reads a page.
    ///
    /// # Panics
    /// At the first line that is wrong.
    pub fn read(text: &str) -> Self {
        let sample = Regex::new(r#"^([a-z_]+)(?:\{((?:[a-z_]+="[^"\\\n]*",?)+)\})? (\S+)$"#).unwrap();
        let label = Regex::new(r#"([a-z_]+)="([^"]*)""#).unwrap();
        let mut page = Self { names: BTreeSet::new(), samples: Vec::new() };
        let (mut explained, mut family, mut kind) = (String::new(), String::new(), String::new());
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').expect(line);
                assert!(words.ends_with('.'), "a sentence: {line}");
                explained = name.to_owned();
            } else if let Some(typed) = line.strip_prefix("# TYPE ") {
                let (name, of) = typed.split_once(' ').expect(line);
                assert_eq!(name, explained, "every metric is explained");
                assert!(["counter", "gauge", "histogram"].contains(&of), "{line}");
                assert_eq!(of == "counter", name.ends_with("_total"), "{line}");
                assert!(page.names.insert(name.to_owned()), "once: {line}");
                (family, kind) = (name.to_owned(), of.to_owned());
            } else {
                let parts = sample.captures(line).unwrap_or_else(|| panic!("no sample: {line}"));
                let suffix =
                    parts[1].strip_prefix(&family).unwrap_or_else(|| panic!("not of {family}: {line}"));
                let suffixes: &[&str] =
                    if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(suffixes.contains(&suffix), "{line}");
                let labels = parts.get(2).map_or("", |labels| labels.as_str());
                let labels =
                    label.captures_iter(labels).map(|label| (label[1].to_owned(), label[2].to_owned()));
                let value = parts[3].parse().expect(line);
                page.samples.push(Sample { name: parts[1].to_owned(), labels: labels.collect(), value });
            }
        }
        assert!(text.ends_with('\n'), "the last line is one");
        page.is_consistent();
        page
    }

    /// No sample twice, and the buckets of every histogram rise to its count.
    fn is_consistent(&self) {
        let mut seen = BTreeSet::new();
        for Sample { name, labels, .. } in &self.samples {
            assert!(seen.insert((name, labels)), "twice: {name} {labels:?}");
        }
        let mut below: BTreeMap<_, f64> = BTreeMap::new();
        for Sample { name, labels, value } in &self.samples {
            let Some(histogram) = name.strip_suffix("_bucket") else { continue };
            let mut of = labels.clone();
            let bound = of.remove("le").expect("a bucket has a bound");
            let least = below.insert((histogram, of.clone()), *value).unwrap_or_default();
            assert!(*value >= least, "{name} {labels:?} falls");
            if bound == "+Inf" {
                let of: Vec<_> = of.iter().map(|(name, value)| (&**name, &**value)).collect();
                assert_eq!(self.sum(&format!("{histogram}_count"), &of), *value, "{name} {labels:?}");
            }
        }
    }

    /// The samples of this name that have these labels, and perhaps others.
    fn of<'a>(&'a self, name: &'a str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = &'a Sample> {
        let has = |sample: &Sample| {
            labels.iter().all(|(name, value)| sample.labels.get(*name).is_some_and(|is| is == value))
        };
        self.samples.iter().filter(move |sample| sample.name == name && has(sample))
    }

    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.of(name, labels).map(|sample| sample.value).sum()
    }

    /// The value of the one sample; none where there is none.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let values: Vec<f64> = self.of(name, labels).map(|sample| sample.value).collect();
        assert!(values.len() <= 1, "{name} {labels:?}: {values:?}");
        values.first().copied()
    }
}

pub async fn fetch(url: &str) -> Answer {
    let client = reqwest::Client::builder().no_proxy().build().expect("a plain client");
    let answer = answer(client.get(url)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer
}
