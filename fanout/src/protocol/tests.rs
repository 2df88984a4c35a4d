//! One test per rule, each named by what bending it would let through.

use std::time::Duration;

use tally_domain::{Dependency, PersonCredential};
use tally_events::{TokenId, UserId};
use uuid::Uuid;

use super::*;

mod model;
mod races;
mod random;

const SECOND: Duration = Duration::from_secs(1);
const TIMING: Timing =
    Timing { lease: SECOND, lease_max: Duration::from_secs(9), drift: Duration::from_millis(50) };
const START: DateTime<Utc> = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
const US: ReplicaId = ReplicaId(Uuid::from_u128(1));
const OTHER: ReplicaId = ReplicaId(Uuid::from_u128(2));

/// A time in milliseconds.
fn ms(milliseconds: u64) -> Mono {
    Mono(milliseconds * 1_000_000)
}

fn tag(timeline: u32) -> Tag {
    Tag { log_id: Uuid::from_u128(0x106), timeline: format!("{timeline:08X}") }
}

/// The leaf a history has at a position.
fn leaf(position: i64) -> Leaf {
    (position > 0).then(|| [u8::try_from(position).unwrap(); 32])
}

fn token(number: u8) -> Dependency {
    Dependency::Token(TokenId(Uuid::from_u128(number.into())))
}

const ADA: UserId = UserId(Uuid::from_u128(0xADA));

fn hash(number: u8) -> CredentialHash {
    CredentialHash([number; 32])
}

fn expiring(number: u8, expires_at: Option<DateTime<Utc>>) -> Verdict {
    let id = TokenId(Uuid::from_u128(number.into()));
    Verdict::person(ADA, PersonCredential::PersonalAccessToken { id, expires_at })
}

fn verdict(number: u8) -> Verdict {
    expiring(number, None)
}

fn head(position: i64) -> RenewalAnswer {
    head_of(1, position)
}

fn head_of(timeline: u32, position: i64) -> RenewalAnswer {
    RenewalAnswer {
        tag: tag(timeline),
        head: Position(position),
        leaf_at_applied: leaf(position),
        leaf_at_head: leaf(position),
        database_time: START,
    }
}

/// A batch in which the last event overthrows `what`.
fn batch(from: i64, to: i64, what: Invalidation) -> Message {
    Message {
        tag: tag(1),
        from: Position(from),
        to: Position(to),
        leaf: leaf(to),
        overthrown: vec![(Position(to), what)],
    }
}

fn page(last: i64, what: Invalidation) -> Page {
    Page { tag: tag(1), last: Position(last), leaf: leaf(last), overthrown: vec![(Position(last), what)] }
}

/// A registered replica that read the head, at `position`, at time 0.
fn at(position: i64) -> Machine {
    let mut machine = Machine::new(TIMING, 100, 1024);
    assert!(machine.registered(US));
    let sent = machine.renewal_sent(ms(0)).unwrap();
    assert_eq!(machine.renewal_answered(&sent, Some(head(position)), ms(5)), Renewed::Leased);
    machine
}

/// One that also remembers token 7, looked up at its position.
fn knowing_token_7(position: i64) -> Machine {
    let mut machine = at(position);
    let ticket = machine.ticket().unwrap();
    assert!(machine.fill(ticket, Position(position), hash(7), verdict(7)));
    machine
}

fn says_yes(machine: &Machine, now: Mono) -> bool {
    machine.answer(&hash(7), || now).is_some()
}

fn barrier(position: i64, t0: Mono, replicas: &[ReplicaId]) -> Barrier {
    let members = Members { tag: tag(1), replicas: replicas.to_vec(), lease: SECOND };
    Barrier { position: Position(position), t0, members: Some(members) }
}

fn said(replica: ReplicaId, position: i64) -> Acknowledgement {
    Acknowledgement { replica, tag: tag(1), applied: Position(position), leaf: leaf(position) }
}

// R1 and R2.

#[test]
fn without_a_registration_there_is_no_renewal_and_nothing_is_remembered() {
    let machine = Machine::new(TIMING, 100, 8);
    assert_eq!(machine.renewal_sent(ms(0)), None);
    assert_eq!(machine.ticket(), None);
}

#[test]
fn a_lease_counts_from_when_its_renewal_was_sent() {
    let mut machine = at(5);
    let sent = machine.renewal_sent(ms(300)).unwrap();
    machine.renewal_answered(&sent, Some(head(5)), ms(900));
    assert_eq!(machine.lease().unwrap().until, ms(1300));
}

#[test]
fn a_lease_waits_until_the_log_is_applied_as_far_as_the_head_it_was_read_with() {
    let mut machine = knowing_token_7(5);
    let sent = machine.renewal_sent(ms(300)).unwrap();
    let answer = RenewalAnswer { leaf_at_applied: leaf(5), ..head(6) };
    assert_eq!(machine.renewal_answered(&sent, Some(answer), ms(310)), Renewed::Behind);
    assert_eq!(machine.lease().unwrap().until, ms(1000), "the old lease alone");
    machine.apply(&batch(6, 6, Invalidation::Nothing));
    assert_eq!(machine.lease().unwrap().until, ms(1300));
}

#[test]
fn a_message_alone_extends_no_lease() {
    let mut machine = at(5);
    machine.apply(&batch(6, 6, Invalidation::Nothing));
    assert_eq!(machine.lease().unwrap().until, ms(1000));
}

#[test]
fn a_renewal_that_finds_no_row_ends_everything() {
    let mut machine = knowing_token_7(5);
    let sent = machine.renewal_sent(ms(300)).unwrap();
    assert_eq!(machine.renewal_answered(&sent, None, ms(310)), Renewed::Lost);
    assert!(machine.is_unregistered());
    assert!(!says_yes(&machine, ms(310)));
    assert_eq!((machine.lease(), machine.cached(), machine.ticket()), (None, 0, None));
}

#[test]
fn another_timeline_a_shorter_log_or_another_leaf_ends_everything() {
    let other_leaf = RenewalAnswer { leaf_at_applied: leaf(9), ..head(5) };
    let lost_leaf = RenewalAnswer { leaf_at_applied: None, ..head(9) };
    for answer in [head_of(2, 5), head(4), other_leaf, lost_leaf] {
        let mut machine = knowing_token_7(5);
        let sent = machine.renewal_sent(ms(300)).unwrap();
        assert_eq!(
            machine.renewal_answered(&sent, Some(answer.clone()), ms(310)),
            Renewed::Lost,
            "{answer:?}"
        );
        assert!(!says_yes(&machine, ms(310)), "{answer:?}");
    }
}

#[test]
fn a_renewal_of_an_earlier_registration_is_ignored() {
    let mut machine = knowing_token_7(5);
    let (first, late) = (machine.renewal_sent(ms(300)).unwrap(), machine.renewal_sent(ms(400)).unwrap());
    machine.renewal_answered(&first, None, ms(410));
    assert!(machine.registered(OTHER));
    assert_eq!(machine.renewal_answered(&late, Some(head(5)), ms(420)), Renewed::Ignored);
    assert_eq!(machine.lease(), None);
}

#[test]
fn nothing_below_the_first_head_comes_in() {
    let mut machine = at(5);
    let ticket = machine.ticket().unwrap();
    assert!(!machine.fill(ticket, Position(4), hash(7), verdict(7)));
}

// R3.

#[test]
fn a_batch_is_applied_once_and_in_order() {
    let mut machine = knowing_token_7(5);
    assert_eq!(machine.apply(&batch(4, 5, Invalidation::Nothing)), Applied::Duplicate);
    assert_eq!(machine.apply(&batch(7, 8, Invalidation::Nothing)), Applied::Gap);
    assert_eq!(machine.applied(), Position(5), "a gap is not skipped");
    assert_eq!(machine.apply(&batch(5, 6, Invalidation::Of(token(7)))), Applied::Yes);
    assert_eq!((machine.applied(), says_yes(&machine, ms(500))), (Position(6), false));
}

#[test]
fn after_a_gap_the_cursor_stands_where_the_log_was_read_to() {
    let mut machine = knowing_token_7(5);
    assert_eq!(machine.apply(&batch(9, 12, Invalidation::Nothing)), Applied::Gap);
    let sent = machine.read_sent().unwrap();
    assert_eq!(machine.read_answered(&sent, &page(10, Invalidation::Of(token(7)))), Applied::Yes);
    assert_eq!(machine.applied(), Position(10), "not at 12");
    assert!(!says_yes(&machine, ms(500)));
}

#[test]
fn a_page_that_was_overtaken_overthrows_only_what_is_new_in_it() {
    let mut machine = at(5);
    let sent = machine.read_sent().unwrap();
    machine.apply(&batch(6, 8, Invalidation::Nothing));
    assert_eq!(machine.read_answered(&sent, &page(7, Invalidation::Of(token(7)))), Applied::Duplicate);
    assert_eq!(machine.applied(), Position(8));
}

#[test]
fn a_page_or_a_batch_of_another_history_is_not_applied() {
    let mut machine = at(5);
    let foreign = Message { tag: tag(2), ..batch(6, 6, Invalidation::Nothing) };
    assert_eq!(machine.apply(&foreign), Applied::Foreign);
    let sent = machine.read_sent().unwrap();
    let foreign = Page { tag: tag(2), ..page(6, Invalidation::Nothing) };
    assert_eq!(machine.read_answered(&sent, &foreign), Applied::Lost);
    assert!(machine.is_unregistered());
}

#[test]
fn a_read_from_before_a_new_registration_is_not_applied() {
    let mut machine = at(5);
    let late = machine.read_sent().unwrap();
    let sent = machine.renewal_sent(ms(300)).unwrap();
    machine.renewal_answered(&sent, None, ms(310));
    machine.registered(OTHER);
    let sent = machine.renewal_sent(ms(320)).unwrap();
    machine.renewal_answered(&sent, Some(head(5)), ms(330));
    assert_eq!(machine.read_answered(&late, &page(9, Invalidation::Nothing)), Applied::Foreign);
}

#[test]
fn everything_can_be_overthrown_at_once() {
    let mut machine = knowing_token_7(5);
    let ticket = machine.ticket().unwrap();
    machine.apply(&batch(6, 6, Invalidation::Everything));
    assert_eq!(machine.cached(), 0);
    assert!(!machine.fill(ticket, Position(5), hash(8), verdict(8)), "looked up before it");
    assert!(machine.fill(ticket, Position(6), hash(8), verdict(8)));
}

#[test]
fn what_is_acknowledged_has_been_removed() {
    let mut machine = knowing_token_7(5);
    assert_eq!(machine.acknowledgement(), Some(said(US, 5)));
    machine.apply(&batch(6, 6, Invalidation::Of(token(7))));
    assert_eq!((machine.acknowledgement(), says_yes(&machine, ms(500))), (Some(said(US, 6)), false));
}

// R4.

#[test]
fn a_late_fill_does_not_bring_back_what_was_revoked_meanwhile() {
    let mut machine = at(5);
    let ticket = machine.ticket().unwrap();
    machine.apply(&batch(6, 6, Invalidation::Of(token(7))));
    assert!(!machine.fill(ticket, Position(5), hash(7), verdict(7)));
    assert!(machine.fill(ticket, Position(5), hash(8), verdict(8)), "another token is not touched");
}

#[test]
fn a_late_fill_is_checked_against_all_that_it_rests_on() {
    let mut machine = at(5);
    let ticket = machine.ticket().unwrap();
    machine.apply(&batch(6, 6, Invalidation::Of(Dependency::User(ADA))));
    assert!(!machine.fill(ticket, Position(5), hash(7), verdict(7)));
    assert!(machine.fill(ticket, Position(6), hash(7), verdict(7)), "what was read at 6 knew of it");
}

#[test]
fn nothing_that_was_overthrown_is_ever_forgotten() {
    let mut machine = knowing_token_7(5);
    let ticket = machine.ticket().unwrap();
    machine.apply(&batch(6, 6, Invalidation::Of(token(7))));
    for position in 7..=200 {
        machine.apply(&batch(position, position, Invalidation::Of(token(99))));
    }
    assert!(!machine.fill(ticket, Position(5), hash(7), verdict(7)), "looked up before 6");
    assert!(!says_yes(&machine, ms(500)));
    assert!(machine.fill(ticket, Position(6), hash(7), verdict(7)), "what was read at 6 knew of it");
    assert!(says_yes(&machine, ms(500)));
}

#[test]
fn a_suspended_person_loses_every_credential() {
    let mut machine = knowing_token_7(5);
    machine.apply(&batch(6, 6, Invalidation::Of(Dependency::User(ADA))));
    assert!(!says_yes(&machine, ms(500)));
}

/// The database may be ahead of what is applied here: a verdict that was read there knew of what
/// is applied later, and of nothing beyond.
#[test]
fn what_was_read_ahead_stands_until_something_newer_overthrows_it() {
    let mut machine = at(5);
    let ticket = machine.ticket().unwrap();
    assert!(machine.fill(ticket, Position(7), hash(7), verdict(7)));
    machine.apply(&batch(6, 7, Invalidation::Of(token(7))));
    assert!(says_yes(&machine, ms(500)));
    machine.apply(&batch(8, 8, Invalidation::Of(token(7))));
    assert!(!says_yes(&machine, ms(500)));
}

/// With one place for all, every verdict falls with every other, and none stands that should not.
#[test]
fn dependencies_that_share_a_place_fall_together() {
    let mut machine = Machine::new(TIMING, 100, 1);
    machine.registered(US);
    let sent = machine.renewal_sent(ms(0)).unwrap();
    machine.renewal_answered(&sent, Some(head(5)), ms(5));
    let ticket = machine.ticket().unwrap();
    assert!(machine.fill(ticket, Position(5), hash(7), verdict(7)));
    machine.apply(&batch(6, 6, Invalidation::Of(token(99))));
    assert!(!says_yes(&machine, ms(500)));
    assert!(!machine.fill(ticket, Position(5), hash(7), verdict(7)));
    assert!(machine.fill(ticket, Position(6), hash(7), verdict(7)));
}

/// Positions of a history that was left say nothing of the next, which may be shorter.
#[test]
fn another_history_begins_with_nothing_overthrown() {
    let mut machine = at(150);
    machine.apply(&batch(151, 151, Invalidation::Of(token(7))));
    let sent = machine.renewal_sent(ms(300)).unwrap();
    machine.renewal_answered(&sent, Some(head_of(2, 5)), ms(310));
    machine.registered(OTHER);
    let sent = machine.renewal_sent(ms(320)).unwrap();
    machine.renewal_answered(&sent, Some(head_of(2, 5)), ms(330));
    let ticket = machine.ticket().unwrap();
    assert!(machine.fill(ticket, Position(5), hash(7), verdict(7)));
    assert!(says_yes(&machine, ms(500)));
}

#[test]
fn a_fill_from_before_a_new_registration_stays_out() {
    let mut machine = at(5);
    let ticket = machine.ticket().unwrap();
    let sent = machine.renewal_sent(ms(300)).unwrap();
    machine.renewal_answered(&sent, Some(head_of(2, 5)), ms(310));
    machine.registered(OTHER);
    let sent = machine.renewal_sent(ms(320)).unwrap();
    machine.renewal_answered(&sent, Some(head_of(2, 5)), ms(330));
    assert!(!machine.fill(ticket, Position(5), hash(7), verdict(7)));
}

// R5.

#[test]
fn memory_answers_under_a_lease_and_not_after_it() {
    let machine = knowing_token_7(5);
    assert!(says_yes(&machine, ms(999)));
    assert!(!says_yes(&machine, ms(1000)));
}

/// A process that is stopped between the look and the answer, or before the look.
#[test]
fn the_lease_must_hold_before_the_look_and_after_it() {
    let machine = knowing_token_7(5);
    for (before, after) in [(999, 1001), (1001, 999)] {
        let mut times = [ms(before), ms(after)].into_iter();
        let answer = machine.answer(&hash(7), || times.next().unwrap());
        assert_eq!(answer, None, "before {before}, after {after}");
    }
}

#[test]
fn memory_knows_when_a_credential_has_expired() {
    let mut machine = at(5);
    let ticket = machine.ticket().unwrap();
    let expires_at = Some(START + TimeDelta::milliseconds(200));
    machine.fill(ticket, Position(5), hash(7), expiring(7, expires_at));
    // Database time was START at 5 ms.
    assert!(says_yes(&machine, ms(204)));
    assert!(!says_yes(&machine, ms(205)));
}

// R7.

/// A replica that has known its history for long enough.
fn settled(position: i64) -> (Machine, Mono) {
    let mut machine = at(position);
    let sent = machine.renewal_sent(ms(2000)).unwrap();
    machine.renewal_answered(&sent, Some(head(position)), ms(2000));
    (machine, ms(2000))
}

#[test]
fn alone_a_revocation_is_effective_when_the_own_cache_has_it() {
    let (mut machine, now) = settled(5);
    let barrier = barrier(6, now, &[US]);
    assert_eq!(machine.effective(&barrier, now), None, "the own cache is a cache too");
    machine.apply(&batch(6, 6, Invalidation::Of(token(7))));
    assert_eq!(machine.effective(&barrier, now), Some(By::Acknowledged));
}

#[test]
fn the_own_replica_counts_even_when_the_list_lacks_it() {
    let (machine, now) = settled(5);
    assert_eq!(machine.effective(&barrier(6, now, &[]), now), None);
}

#[test]
fn with_others_it_is_effective_when_all_have_said_so_or_by_time() {
    let (mut machine, now) = settled(5);
    let barrier = barrier(6, now, &[US, OTHER]);
    machine.apply(&batch(6, 6, Invalidation::Of(token(7))));
    machine.acknowledged(&said(OTHER, 5));
    assert_eq!(machine.effective(&barrier, now), None);
    let (just_before, at_last) = (ms(2000 + 1049), ms(2000 + 1050));
    assert_eq!(machine.effective(&barrier, just_before), None);
    assert_eq!(machine.effective(&barrier, at_last), Some(By::Time));
    machine.acknowledged(&said(OTHER, 6));
    assert_eq!(machine.effective(&barrier, now), Some(By::Acknowledged));
}

#[test]
fn an_acknowledgement_under_another_history_does_not_count() {
    let (mut machine, now) = settled(5);
    machine.apply(&batch(6, 6, Invalidation::Nothing));
    machine.acknowledged(&Acknowledgement { tag: tag(2), ..said(OTHER, 9) });
    machine.acknowledged(&Acknowledgement { leaf: leaf(9), ..said(OTHER, 6) });
    assert_eq!(machine.effective(&barrier(6, now, &[US, OTHER]), now), None);
}

#[test]
fn whoever_has_acknowledged_is_counted() {
    let (mut machine, now) = settled(5);
    let barrier = barrier(6, now, &[US, OTHER]);
    let counted = |machine: &Machine, barrier: &Barrier| {
        machine.roll_call(barrier).map(|RollCall { acknowledged, registered }| (acknowledged, registered))
    };
    assert_eq!(counted(&machine, &barrier), Some((0, 2)));
    machine.apply(&batch(6, 6, Invalidation::Nothing));
    machine.acknowledged(&said(OTHER, 5));
    assert_eq!(counted(&machine, &barrier), Some((1, 2)));
    machine.acknowledged(&said(OTHER, 6));
    assert_eq!(counted(&machine, &barrier), Some((2, 2)));
    let mut of_another_history = barrier.clone();
    of_another_history.members.as_mut().unwrap().tag = tag(2);
    assert_eq!(counted(&machine, &of_another_history), Some((0, 2)));
    assert_eq!(counted(&machine, &Barrier { members: None, ..barrier }), None);
}

#[test]
fn a_list_of_another_history_than_the_own_is_waited_for_by_time() {
    let (machine, now) = settled(9);
    let mut barrier = barrier(6, now, &[US]);
    assert_eq!(machine.effective(&barrier, now), Some(By::Acknowledged));
    barrier.members.as_mut().unwrap().tag = tag(2);
    assert_eq!(machine.effective(&barrier, now), None);
}

#[test]
fn a_history_that_is_new_to_us_may_have_lost_registrations() {
    let machine = at(9);
    let barrier = barrier(6, ms(100), &[US]);
    // The tag is known since 5 ms.
    assert_eq!(machine.effective(&barrier, ms(1054)), None);
    assert_eq!(machine.effective(&barrier, ms(1055)), Some(By::Acknowledged));
    assert_eq!(machine.ask_again_at(&barrier, ms(100)), ms(1055));
}

/// Somebody was started with another setting.
#[test]
fn a_lease_that_is_longer_than_ours_is_waited_for() {
    let (machine, now) = settled(9);
    let mut barrier = barrier(6, now, &[US, OTHER]);
    barrier.members.as_mut().unwrap().lease = 3 * SECOND;
    let over = now.after(3 * SECOND + TIMING.drift);
    assert_eq!(machine.effective(&barrier, Mono(over.0 - 1)), None);
    assert_eq!(machine.effective(&barrier, over), Some(By::Time));
    barrier.members.as_mut().unwrap().lease = SECOND / 5;
    assert_eq!(machine.effective(&barrier, now.after(TIMING.bound(Some(SECOND)))), Some(By::Time));
}

/// And a list is trusted only when such a lease, of a row that it may have lost, must be over.
#[test]
fn a_longer_lease_makes_a_history_new_for_longer() {
    let machine = at(9);
    let mut barrier = barrier(6, ms(100), &[US]);
    barrier.members.as_mut().unwrap().lease = 3 * SECOND;
    // The tag is known since 5 ms.
    assert_eq!(machine.effective(&barrier, ms(3054)), None);
    assert_eq!(machine.ask_again_at(&barrier, ms(100)), ms(3055));
    assert_eq!(machine.effective(&barrier, ms(3055)), Some(By::Acknowledged));
}

/// Somebody may be on it who was told the longest lease there is, until it can be read.
#[test]
fn an_unreadable_list_is_waited_for_by_time() {
    let (machine, now) = settled(9);
    let unread = Barrier { members: None, ..barrier(6, now, &[]) };
    let over = now.after(TIMING.lease_max + TIMING.drift);
    assert_eq!(machine.effective(&unread, Mono(over.0 - 1)), None);
    assert_eq!(machine.effective(&unread, over), Some(By::Time));
    let read = barrier(6, now, &[US, OTHER]);
    assert_eq!(machine.effective(&read, now.after(TIMING.bound(Some(SECOND)))), Some(By::Time));
}

#[test]
fn an_observer_waits_for_those_in_the_list_and_for_nobody_else() {
    let machine = Machine::observer(TIMING);
    assert_eq!(machine.effective(&barrier(6, ms(0), &[]), ms(0)), Some(By::Acknowledged));
    assert_eq!(machine.effective(&barrier(6, ms(0), &[OTHER]), ms(1049)), None);
    assert_eq!(machine.effective(&barrier(6, ms(0), &[OTHER]), ms(1050)), Some(By::Time));
}

#[test]
fn an_observer_does_not_trust_an_empty_list_that_a_failover_may_have_emptied() {
    let machine = Machine::observer(TIMING);
    let mut barrier = barrier(6, ms(0), &[]);
    barrier.members.as_mut().unwrap().tag = tag(2);
    assert_eq!(machine.effective(&barrier, ms(0)), None);
}

// R9.

#[test]
fn after_leaving_a_late_renewal_brings_no_lease() {
    let mut machine = knowing_token_7(5);
    let late = machine.renewal_sent(ms(300)).unwrap();
    machine.close();
    assert!(!says_yes(&machine, ms(300)));
    assert_eq!(machine.renewal_answered(&late, Some(head(5)), ms(310)), Renewed::Ignored);
    assert_eq!((machine.lease(), machine.ticket()), (None, None));
    assert!(!machine.registered(OTHER), "nothing brings it back");
}

#[test]
fn an_observer_remembers_nothing() {
    let mut machine = Machine::observer(TIMING);
    assert!(!machine.registered(US));
    assert_eq!((machine.ticket(), machine.renewal_sent(ms(0))), (None, None));
}
