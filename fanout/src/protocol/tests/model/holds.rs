//! The rules as they are: nothing breaks a promise, wherever a world of each kind may go.
//!
//! The small ones are explored whole, the others so far as a test may take; with `TALLY_MODEL=long` they
//! are whole too, and take minutes each.

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

/// So many steps are taken in a world that takes long to be explored whole.
const STEPS: usize = 14;

/// This world keeps both promises.
fn holds(name: &str, setting: &Setting, steps_max: Option<usize>) {
    let explored = explore(setting, steps_max);
    println!("{name}: {} states, {} steps deep", explored.states, explored.depth);
    if let Some(path) = explored.counterexample {
        let (steps, broken, story) = story(path);
        panic!("{name}: {broken} is broken after {steps} steps:\n{story}");
    }
    assert_eq!(explored.unreached, [""; 0], "what this world is to show was not reached");
}

fn holds_as_far_as_time_allows(name: &str, setting: &Setting) {
    holds(name, setting, if is_long() { None } else { Some(STEPS) });
}

/// A world that is too large to be explored whole, and the part of it that is not.
fn holds_within(name: &str, setting: &Setting, part: &Setting) {
    if is_long() {
        holds(name, part, None);
    } else {
        holds(name, setting, Some(STEPS));
    }
}

#[test]
fn one_replica_that_revokes_and_answers() {
    holds("one replica", &Setting::alone(), None);
}

#[test]
fn everything_is_overthrown() {
    let setting =
        Setting { what: Invalidation::Everything, registrations: 2, crashes: 1, ..Setting::alone() };
    holds("everything overthrown", &setting, None);
}

#[test]
fn requests_at_any_time() {
    let setting = Setting { any_time: true, lookups: true, before: settled(0), ..Setting::alone() };
    holds("requests at any time", &setting, None);
}

#[test]
fn a_lease_against_a_revocation() {
    holds("lease", &Setting::plain(), None);
}

/// Whoever revokes was told a shorter one than whoever answers, and may not be able to read the list.
#[test]
fn a_lease_longer_than_that_of_whoever_revokes() {
    let short = |setting| Setting { short: true, ..setting };
    holds("a longer lease", &short(Setting::plain()), None);
    let clean_up = Setting { clean_up: true, ..Setting::hearing() };
    holds_as_far_as_time_allows("a longer lease, clean-up", &short(clean_up));
    let observer = Setting { observer: true, before: Vec::new(), ..Setting::alone() };
    holds("a longer lease, observer", &short(observer), None);
}

#[test]
fn two_that_begin_with_nothing() {
    holds_as_far_as_time_allows("beginning", &Setting { before: Vec::new(), ..Setting::plain() });
}

#[test]
fn gaps_between_messages_and_late_pages() {
    let setting = Setting { others: 1, pages_are_late: true, ..Setting::hearing() };
    holds_as_far_as_time_allows("gaps", &setting);
}

#[test]
fn a_batch_that_is_read_in_two_pages() {
    let setting = Setting { batch: true, page: 1, pages_are_late: true, ..Setting::hearing() };
    holds("batch", &setting, None);
}

#[test]
fn crashes_and_new_registrations() {
    let setting = Setting { crashes: 1, registrations: 2, ..Setting::hearing() };
    holds_as_far_as_time_allows("crash", &setting);
}

#[test]
fn cleaning_up_after_the_silent() {
    holds_as_far_as_time_allows("clean-up", &Setting { clean_up: true, ..Setting::hearing() });
    holds_as_far_as_time_allows("clean-up, later", &Setting::silent());
}

#[test]
fn leaving() {
    holds("leaving", &Setting { leaving: true, ..Setting::hearing() }, None);
}

#[test]
fn a_failover_that_loses_the_list() {
    let failover = Some(Failover { loses_list: true, loses_tail: false });
    holds_as_far_as_time_allows("failover", &Setting { failover, ..Setting::leased() });
}

#[test]
fn a_failover_that_loses_what_was_told() {
    let lossy = |loses_list| {
        let failover = Some(Failover { loses_list, loses_tail: true });
        Setting { failover, others: 1, ..Setting::losing() }
    };
    holds_within("lossy failover", &lossy(true), &lossy(false));
}

#[test]
fn a_revocation_that_is_repeated_elsewhere() {
    let repeated = |crashes| Setting { again: true, crashes, ..Setting::hearing() };
    holds_within("repeated", &repeated(1), &repeated(0));
}

#[test]
fn a_revocation_by_an_observer() {
    let alone = Setting { observer: true, before: Vec::new(), ..Setting::alone() };
    holds("observer", &alone, None);
}
