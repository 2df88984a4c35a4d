//! The rules as they are: nothing breaks a promise, wherever a world of each kind may go.
//!
//! Each world is explored whole, to narrow bounds; with `TALLY_MODEL=long` to wide ones, which takes hours.

use super::*;

#[expect(clippy::disallowed_methods, reason = "a test is told how far to go")]
fn is_long() -> bool {
    let how = std::env::var("TALLY_MODEL").unwrap_or_default();
    match how.as_str() {
        "" => false,
        "long" => true,
        other => panic!("TALLY_MODEL is {other:?}; leave it unset, or set it to \"long\""),
    }
}

/// In a narrow world that is too large to be explored whole, this many steps are taken. Every bent rule
/// breaks a promise within them.
const STEPS: usize = 16;

fn holds(name: &str, narrow: (Setting, Option<usize>), wide: Setting) {
    let (setting, steps_max) = if is_long() { (wide, None) } else { narrow };
    let explored = explore(&setting, steps_max);
    println!("{name}: {} states, {} steps deep", explored.states, explored.depth);
    if let Some(path) = explored.counterexample {
        let (steps, broken, story) = story(path);
        panic!("{name}: {broken} is broken after {steps} steps:\n{story}");
    }
    assert_eq!(explored.unreached, [""; 0], "what this world is to show was not reached");
}

const fn whole(setting: Setting) -> (Setting, Option<usize>) {
    (setting, None)
}

const fn in_part(setting: Setting) -> (Setting, Option<usize>) {
    (setting, Some(STEPS))
}

#[test]
fn one_replica_that_revokes_and_answers() {
    let again = Setting { registrations: 2, crashes: 1, what: Invalidation::Everything, ..Setting::alone() };
    holds("one replica", whole(Setting::alone()), again);
}

#[test]
fn requests_at_any_time() {
    let narrow = Setting { any_time: true, lookups: true, before: settled(0), ..Setting::alone() };
    let wide = Setting { any_time: true, lookups: true, ..Setting::plain() };
    holds("requests at any time", in_part(narrow), wide);
}

#[test]
fn a_lease_against_a_revocation() {
    holds("lease", whole(Setting::plain()), Setting { before: Vec::new(), ..Setting::plain() });
}

#[test]
fn gaps_between_messages_and_late_pages() {
    let narrow = Setting { others: 1, pages_are_late: true, ..Setting::hearing() };
    let wide = Setting { others: 2, page: 1, pages_are_late: true, ..Setting::plain() };
    holds("gaps", in_part(narrow), wide);
}

#[test]
fn a_batch_that_is_read_in_two_pages() {
    let batch = |setting| Setting { batch: true, page: 1, pages_are_late: true, ..setting };
    holds("batch", in_part(batch(Setting::hearing())), batch(Setting::plain()));
}

#[test]
fn crashes_and_new_registrations() {
    let crash = |setting| Setting { crashes: 1, registrations: 2, ..setting };
    holds("crash", in_part(crash(Setting::hearing())), crash(Setting::plain()));
}

#[test]
fn cleaning_up_after_the_silent() {
    let clean = |setting| Setting { clean_up: true, ..setting };
    holds(
        "clean-up",
        in_part(clean(Setting::hearing())),
        Setting { registrations: 2, ..clean(Setting::plain()) },
    );
}

#[test]
fn leaving() {
    let leaving = |setting| Setting { leaving: true, ..setting };
    holds("leaving", whole(leaving(Setting::hearing())), leaving(Setting::plain()));
}

#[test]
fn a_failover_that_loses_the_list() {
    let failover = Some(Failover { loses_list: true, loses_tail: false });
    let narrow = Setting { failover, ..Setting::leased() };
    holds("failover", in_part(narrow), Setting { failover, registrations: 2, ..Setting::plain() });
}

#[test]
fn a_failover_that_loses_what_was_told() {
    let failover = Some(Failover { loses_list: true, loses_tail: true });
    let narrow = Setting { failover, others: 1, ..Setting::leased() };
    holds(
        "lossy failover",
        in_part(narrow),
        Setting { failover, others: 1, registrations: 2, ..Setting::plain() },
    );
}

#[test]
fn a_revocation_that_is_repeated_elsewhere() {
    let again = |setting| Setting { again: true, crashes: 1, ..setting };
    holds("repeated", in_part(again(Setting::hearing())), again(Setting::plain()));
}

#[test]
fn a_revocation_by_an_observer() {
    let observer = |replicas| Setting {
        observer: true,
        replicas,
        caches: vec![0],
        before: Vec::new(),
        ..Setting::plain()
    };
    holds("observer", whole(observer(1)), observer(2));
}
