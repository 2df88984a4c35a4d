//! How far long work has come, for whoever is looking: bars on a terminal, a line now and then
//! where the output is kept, nothing beside JSON.

use std::{
    collections::HashMap,
    fmt::Write,
    io::IsTerminal,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use serde_json::{Value, json};
use tally_events::Position;
use tally_projections::rebuild::Progress;

/// Before the first line about a projection; the pauses after it double, up to the last.
const FIRST_LINE_AFTER: Duration = Duration::from_secs(5);
const LINE_INTERVAL_MAX: Duration = Duration::from_mins(1);
const REDRAW_INTERVAL: Duration = Duration::from_millis(200);
const FOLDING: &str = "{prefix:<12} {bar:30} {percent:>3} %  {pos} of {len} events, {rate}, {eta} left";
const WORDS: &str = "{prefix:<12} {bar:30} {msg}";

#[derive(Clone)]
pub struct Bars(Arc<Inner>);

struct Inner {
    display: Display,
    works: Mutex<HashMap<&'static str, Work>>,
}

enum Display {
    Terminal(MultiProgress),
    Lines,
    Nothing,
}

/// The work on one projection.
struct Work {
    bar: ProgressBar,
    began: Instant,
    ended: Option<Instant>,
    /// Where it began: not at zero when it goes on where it was stopped.
    from: Option<Position>,
    position: Position,
    indexing: bool,
    readers_waited: Duration,
    told: Instant,
    quiet: Duration,
}

impl Bars {
    pub fn new(names: impl IntoIterator<Item = &'static str>, json: bool) -> Self {
        let display = match (json, std::io::stderr().is_terminal()) {
            (true, _) => Display::Nothing,
            (false, true) => Display::Terminal(MultiProgress::new()),
            (false, false) => Display::Lines,
        };
        let now = Instant::now();
        let works = names.into_iter().map(|name| {
            let bar = match &display {
                Display::Terminal(bars) => bars.add(ProgressBar::hidden()),
                Display::Lines | Display::Nothing => ProgressBar::hidden(),
            };
            bar.set_prefix(name);
            set_style(&bar, FOLDING);
            bar.enable_steady_tick(REDRAW_INTERVAL);
            let work = Work {
                bar,
                began: now,
                ended: None,
                from: None,
                position: Position::ZERO,
                indexing: false,
                readers_waited: Duration::ZERO,
                told: now,
                quiet: FIRST_LINE_AFTER,
            };
            (name, work)
        });
        let works = works.collect();
        Self(Arc::new(Inner { display, works: Mutex::new(works) }))
    }

    pub fn set(&self, name: &'static str, progress: Progress) {
        let mut works = self.works();
        let Some(work) = works.get_mut(name) else { return };
        let lines = matches!(self.0.display, Display::Lines);
        match progress {
            Progress::Folding { position, end } => {
                work.position = position;
                work.bar.set_length(end.0.unsigned_abs());
                if work.from.is_none() {
                    // What was folded before it was stopped is no work of this time.
                    work.from = Some(position);
                    work.began = Instant::now();
                    work.bar.set_position(position.0.unsigned_abs());
                    work.bar.reset_eta();
                } else {
                    work.bar.set_position(position.0.unsigned_abs());
                }
                if lines && work.told.elapsed() >= work.quiet {
                    work.told = Instant::now();
                    work.quiet = (work.quiet * 2).min(LINE_INTERVAL_MAX);
                    eprintln!("{}", work.line(name, end));
                }
            }
            Progress::Indexing => {
                work.bar.set_message("making indexes");
                set_style(&work.bar, WORDS);
                if lines && !work.indexing {
                    eprintln!("{name}: making indexes");
                }
                work.indexing = true;
            }
            Progress::Flipped { position, readers_waited } => {
                work.position = position;
                work.readers_waited = readers_waited;
                work.ended = Some(Instant::now());
                set_style(&work.bar, WORDS);
                work.bar.finish_with_message("done");
            }
        }
    }

    /// What a rebuild took, as a document.
    pub fn summary(&self, name: &'static str) -> Value {
        let works = self.works();
        let Some(work) = works.get(name) else { return Value::Null };
        let (events, seconds) = work.took();
        json!({
            "name": name, "position": work.position, "events": events, "seconds": seconds,
            "readers_waited_seconds": work.readers_waited.as_secs_f64(),
        })
    }

    /// Leaves the terminal to the results.
    pub fn clear(&self) {
        for work in self.works().values() {
            work.bar.finish_and_clear();
        }
    }

    fn works(&self) -> MutexGuard<'_, HashMap<&'static str, Work>> {
        // Somebody who panicked while drawing leaves numbers that are good enough to draw.
        self.0.works.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work {
    fn took(&self) -> (i64, f64) {
        let from = self.from.unwrap_or(self.position);
        let until = self.ended.unwrap_or_else(Instant::now);
        (self.position.0 - from.0, until.duration_since(self.began).as_secs_f64())
    }

    fn line(&self, name: &str, end: Position) -> String {
        let (events, seconds) = self.took();
        #[expect(clippy::cast_precision_loss, reason = "a rate is for reading")]
        let (rate, remaining) = (events as f64 / seconds, (end.0 - self.position.0) as f64);
        format!(
            "{name}: {} of {end} events, {rate:.0}/s, {:.0} s left",
            self.position,
            remaining / rate.max(1.0)
        )
    }
}

fn set_style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.with_key("rate", |state: &ProgressState, out: &mut dyn Write| {
            // A terminal that takes no text has nobody to tell.
            let _ = write!(out, "{:.0}/s", state.per_sec());
        }));
    }
}
