//! Every rule bent, one at a time: each lets through a yes that must not be, and it is found.
//!
//! The rows are those of the protocol's last table, *Bend one rule*, and three where leases differ.

use super::*;

/// The shortest counterexample is of this many steps, those of the setting's beginning not counted.
fn breaks(row: &str, setting: &Setting) -> &'static str {
    let explored = explore(setting, None);
    let Some(path) = explored.counterexample else {
        panic!("{row}: nothing is broken in {} states", explored.states)
    };
    let (steps, broken, story) = story(path);
    let (before, states) = (setting.before.len(), explored.states);
    println!(
        "{row}: {broken} breaks {steps} steps after the first {before}, among {states} states:\n{story}"
    );
    broken
}

#[test]
fn epsilon_is_zero_and_clocks_drift() {
    let setting = Setting { drift: 0, ..Setting::plain() };
    breaks("ε = 0 with drift", &setting.bent(Bend::EpsilonZero));
}

#[test]
fn no_lease_check() {
    breaks("no lease check", &Setting::plain().bent(Bend::NoLeaseCheck));
}

#[test]
fn t0_stamped_at_the_reply() {
    breaks("t0 stamped at the reply", &Setting::plain().bent(Bend::LeaseStampedAtTheReply));
}

#[test]
fn barrier_counted_from_sending_commit() {
    breaks("barrier counted from sending COMMIT", &Setting::plain().bent(Bend::BarrierFromSending));
}

#[test]
fn lease_without_applied_up_to_the_head() {
    breaks("lease without applied ≥ H", &Setting::plain().bent(Bend::LeaseBeforeTheLogIsApplied));
}

#[test]
fn lease_checked_only_after_the_lookup() {
    breaks("lease checked only after the lookup", &Setting::plain().bent(Bend::LeaseCheckedOnlyAfterTheLook));
}

#[test]
fn replica_list_read_before_the_commit() {
    breaks("replica list read before the commit", &Setting::plain().bent(Bend::ListReadBeforeTheCommit));
}

#[test]
fn registration_after_the_head_read() {
    breaks("registration after the head read", &Setting::plain().bent(Bend::RegisteredAfterTheHeadWasRead));
}

#[test]
fn registry_lost_in_a_crash() {
    breaks("registry lost in a crash", &Setting::plain().bent(Bend::RegistryLost));
}

#[test]
fn fill_without_check() {
    breaks("fill without check", &Setting::plain().bent(Bend::FillUnchecked));
}

#[test]
fn fill_without_floor() {
    let setting = Setting { what: Invalidation::Everything, ..Setting::plain() };
    breaks("fill without floor", &setting.bent(Bend::FillWithoutFloor));
}

#[test]
fn position_from_a_second_statement() {
    breaks("position from a second statement", &Setting::plain().bent(Bend::PositionFromASecondStatement));
}

#[test]
fn fill_check_apart_from_insert() {
    breaks("fill check apart from insert", &Setting::plain().bent(Bend::FillCheckedApart));
}

#[test]
fn only_the_token_as_key() {
    let setting = Setting { what: Invalidation::Of(Dependency::User(ADA)), ..Setting::plain() };
    breaks("only the token as key", &setting.bent(Bend::OnlyTheTokenIsAKey));
}

#[test]
fn acknowledge_before_removal() {
    breaks("acknowledge before removal", &Setting::plain().bent(Bend::AcknowledgedBeforeRemoval));
}

#[test]
fn own_cache_left_out() {
    let setting = Setting { before: settled(0), ..Setting::alone() };
    breaks("own cache left out", &setting.bent(Bend::OwnCacheLeftOut));
}

#[test]
fn no_op_success_without_barrier() {
    let setting = Setting { again: true, ..Setting::plain() };
    breaks("no-op success without barrier", &setting.bent(Bend::RepeatedWithoutBarrier));
}

#[test]
fn joining_an_earlier_flight() {
    let setting = Setting { lookups: true, ..Setting::plain() };
    breaks("joining an earlier flight", &setting.bent(Bend::EarlierFlightJoined));
}

#[test]
fn bus_renews_the_lease() {
    let setting = Setting { others: 1, ..Setting::hearing() };
    breaks("bus renews the lease", &setting.bent(Bend::BusRenewsTheLease));
}

#[test]
fn gap_skipped() {
    let setting = Setting { others: 1, ..Setting::hearing() };
    breaks("gap skipped", &setting.bent(Bend::GapSkipped));
}

#[test]
fn cursor_set_to_the_end_of_the_message() {
    let setting = Setting { others: 2, page: 1, ..Setting::hearing() };
    breaks("cursor set to `to`", &setting.bent(Bend::CursorSetToTheMessage));
}

#[test]
fn uncommitted_batch_published() {
    let setting = Setting { others: 1, ..Setting::hearing() };
    breaks("uncommitted batch published", &setting.bent(Bend::UncommittedPublished));
}

#[test]
fn standby_head() {
    breaks("standby head", &Setting::plain().bent(Bend::StandbyHead));
}

#[test]
fn naive_clean_up() {
    let setting = Setting { clean_up: true, ..Setting::hearing() };
    breaks("naive clean-up", &setting.bent(Bend::NaiveCleanUp));
}

#[test]
fn clean_up_waits_for_a_lease_of_its_own() {
    let setting = Setting { clean_up: true, short: true, ..Setting::hearing() };
    breaks("clean-up by the own lease", &setting.bent(Bend::CleanUpByOwnLease));
}

#[test]
fn barrier_waits_for_a_lease_of_its_own() {
    let setting = Setting { short: true, ..Setting::plain() };
    breaks("barrier by the own lease", &setting.clone().bent(Bend::ListByOwnLease));
    breaks("an unread list by the own lease", &setting.bent(Bend::UnreadListByOwnLease));
}

#[test]
fn renewal_ignores_registration() {
    breaks("renewal ignores registration", &Setting::silent().bent(Bend::RenewalIgnoresRegistration));
}

#[test]
fn late_renewal_after_leaving() {
    let setting = Setting { leaving: true, ..Setting::hearing() };
    breaks("late renewal after leaving", &setting.bent(Bend::RenewalAcceptedAfterLeaving));
}

#[test]
fn tag_kept_over_a_lossy_failover() {
    let failover = Some(Failover { loses_list: false, loses_tail: true });
    let setting = Setting { failover, others: 1, ..Setting::losing() };
    breaks("tag kept over a lossy failover", &setting.bent(Bend::TagKeptOverFailover));
}

#[test]
fn deposed_primary_answers() {
    let failover = Some(Failover { loses_list: false, loses_tail: false });
    let setting = Setting { failover, lookups: true, ..Setting::plain() };
    breaks("deposed primary answers", &setting.bent(Bend::DeposedPrimaryAnswers));
}

// The other promise. Above, requests begin only when they must not end in a yes.

#[test]
fn a_yes_without_a_lease() {
    let setting = Setting { any_time: true, ..Setting::leased() };
    assert_eq!(breaks("no lease check, at any time", &setting.bent(Bend::NoLeaseCheck)), "P4");
}

#[test]
fn a_yes_by_a_statement_that_was_sent_before() {
    let setting = Setting { any_time: true, lookups: true, ..Setting::leased() };
    assert_eq!(breaks("joining, at any time", &setting.bent(Bend::EarlierFlightJoined)), "P4");
}

// What is kept twice.

/// An entry keeps the position it was read at, and every look compares it. So within one history the
/// check of a fill, its floor apart, is the second of two, and may be left out or made too early.
#[test]
fn within_a_history_every_look_repeats_the_check_of_a_fill() {
    for bend in [Bend::FillUncheckedByPosition, Bend::FillCheckedApartByPosition] {
        let explored = explore(&Setting::hearing().bent(bend), None);
        assert!(explored.counterexample.is_none(), "{bend:?} breaks a promise");
    }
}
