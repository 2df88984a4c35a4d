use rstest::rstest;
use tally_events::{Event, SessionId, seal::Key, session::SessionMethod};

use super::*;
use crate::{
    principal::{PersonCredential, Principal},
    session::{Opens, Session, started},
    testing::{
        self, ADA, EVE, Fact, Given, START, after, by_console, eve_registered, fact, registered, reinstated,
        session, suspended,
    },
};

const SECOND: TimeDelta = TimeDelta::seconds(1);
const INSTANT: TimeDelta = TimeDelta::microseconds(1);
/// When the stories' first refresh is.
const LATER: TimeDelta = TimeDelta::minutes(14);

/// The refresh token of this number, of session 1.
fn token(number: u8) -> RefreshToken {
    of(session(1), number)
}

fn of(session: SessionId, number: u8) -> RefreshToken {
    RefreshToken::draw(session, &Key::from_bytes([3; 32]), |bytes| bytes.fill(number)).1
}

fn origin() -> Origin {
    Origin { address: Some("192.0.2.7".to_owned()), user_agent: Some("Browser/1".to_owned()) }
}

/// Ada has an account and console session 1, whose first refresh token is number 0; and then this happened.
fn given(history: impl IntoIterator<Item = Fact>) -> Given {
    testing::given([registered(), opened()].into_iter().chain(history))
}

fn opened() -> Fact {
    let opens = Opens::Console { refresh_hash: token(0).hash().clone() };
    fact(session(1), opens.started(ADA, SessionMethod::EmailCode, START, &Origin::default()))
}

fn refreshed_event(used: u8, next: u8, at: TimeDelta) -> SessionRefreshed {
    let origin = origin();
    SessionRefreshed {
        user_id: ADA,
        used_hash: token(used).hash().clone(),
        refresh_hash: token(next).hash().clone(),
        expires_at: after((at + REFRESH_LIFETIME).min(CONSOLE_LIFETIME_MAX)),
        address: origin.address(),
        user_agent: origin.user_agent(),
    }
}

fn repeated_event(next: u8) -> SessionRefreshRepeated {
    let (origin, refresh_hash) = (origin(), token(next).hash().clone());
    SessionRefreshRepeated {
        user_id: ADA,
        refresh_hash,
        address: origin.address(),
        user_agent: origin.user_agent(),
    }
}

fn refreshed(used: u8, next: u8, at: TimeDelta) -> Fact {
    fact(session(1), refreshed_event(used, next, at)).at(at)
}

fn repeated(next: u8, at: TimeDelta) -> Fact {
    fact(session(1), repeated_event(next)).at(at)
}

fn ended(reason: SessionEndReason) -> SessionEnded {
    SessionEnded { user_id: ADA, reason }
}

fn at_session(event: impl Into<Event>) -> [(StreamId, Event); 1] {
    [(session(1).into(), event.into())]
}

mod refreshing {
    use super::*;

    fn show(shown: u8) -> RefreshSession {
        RefreshSession { user: ADA, shown: token(shown), next: token(99), origin: origin() }
    }

    fn answer(at: TimeDelta, expires_at: TimeDelta) -> Refreshed {
        let access_expires_at = after((at + ACCESS_LIFETIME).min(expires_at));
        Refreshed { issued_at: after(at), access_expires_at, expires_at: after(expires_at) }
    }

    #[test]
    fn a_refresh_token_is_exchanged_for_the_next() {
        let then = answer(LATER, LATER + REFRESH_LIFETIME);
        given([]).at(LATER).when(&show(0)).then(then, at_session(refreshed_event(0, 99, LATER)));
    }

    #[test]
    fn the_next_one_is_exchanged_too() {
        let story = given([refreshed(0, 1, LATER)]).at(LATER * 2);
        let then = answer(LATER * 2, LATER * 2 + REFRESH_LIFETIME);
        story.when(&show(1)).then(then, at_session(refreshed_event(1, 99, LATER * 2)));
    }

    /// 14 days from the last refresh, and not from the first.
    #[test]
    fn a_session_lives_14_days_from_its_last_refresh() {
        let first = REFRESH_LIFETIME - INSTANT;
        let story = || given([refreshed(0, 1, first)]);
        let last = first + REFRESH_LIFETIME - INSTANT;
        let then = answer(last, last + REFRESH_LIFETIME);
        story().at(last).when(&show(1)).then(then, at_session(refreshed_event(1, 99, last)));
        story().at(last + INSTANT).when(&show(1)).refused(RefreshRefusal::Invalid);
    }

    #[test]
    fn a_session_that_is_refreshed_for_ever_ends_after_90_days() {
        let days = |days| TimeDelta::days(days);
        let history = (1..9).map(|week| {
            let number = u8::try_from(week).unwrap();
            refreshed(number - 1, number, days(week * 10))
        });
        let story = given(history);
        let last = days(80) + SECOND;
        let then = answer(last, days(90));
        story.at(last).when(&show(8)).then(then, at_session(refreshed_event(8, 99, last)));
    }

    #[test]
    fn an_access_token_never_outlives_its_session() {
        let (used, last) = (TimeDelta::days(80), CONSOLE_LIFETIME_MAX - SECOND);
        let story = given([fact(session(1), refreshed_event(0, 1, used)).at(used)]);
        let Refreshed { access_expires_at, expires_at, .. } = answer(last, CONSOLE_LIFETIME_MAX);
        assert_eq!(access_expires_at, expires_at);
        let then = answer(last, CONSOLE_LIFETIME_MAX);
        story.at(last).when(&show(1)).then(then, at_session(refreshed_event(1, 99, last)));
    }

    /// The answer was lost: the same token comes again, and gets another one beside the lost one.
    #[rstest]
    #[case::at_once(TimeDelta::zero())]
    #[case::just_in_time(REFRESH_GRACE - INSTANT)]
    fn a_token_that_was_used_a_moment_ago_gets_another_answer(#[case] since: TimeDelta) {
        let story = given([refreshed(0, 1, LATER)]).at(LATER + since);
        let then = answer(LATER + since, LATER + REFRESH_LIFETIME);
        story.when(&show(0)).then(then, at_session(repeated_event(99)));
    }

    #[rstest]
    #[case::what_the_first_answer_brought(1)]
    #[case::what_the_second_answer_brought(2)]
    fn whichever_answer_arrived_goes_on(#[case] arrived: u8) {
        let at = LATER * 2;
        let story = given([refreshed(0, 1, LATER), repeated(2, LATER + SECOND)]).at(at);
        let then = answer(at, at + REFRESH_LIFETIME);
        story.when(&show(arrived)).then(then, at_session(refreshed_event(arrived, 99, at)));
    }

    /// Two hold one each of what a repeated refresh brought: one is used first, and the other one says so.
    #[rstest]
    #[case::the_second(1, 2)]
    #[case::the_first(2, 1)]
    fn the_other_answer_is_dead_at_once(#[case] first: u8, #[case] second: u8) {
        let history = [refreshed(0, 1, LATER), repeated(2, LATER + SECOND), refreshed(first, 3, LATER * 2)];
        given(history).at(LATER * 2).when(&show(second)).refused(RefreshRefusal::Reused);
    }

    #[rstest]
    #[case::when_the_moment_is_over(vec![refreshed(0, 1, LATER)], REFRESH_GRACE)]
    #[case::also_if_it_was_repeated_in_it(vec![refreshed(0, 1, LATER), repeated(2, LATER + SECOND * 9)], REFRESH_GRACE)]
    #[case::when_its_successor_was_used(vec![refreshed(0, 1, LATER), refreshed(1, 2, LATER + SECOND)], SECOND)]
    #[case::long_after(vec![refreshed(0, 1, LATER), refreshed(1, 2, LATER * 2)], TimeDelta::days(10))]
    fn a_token_that_was_used_before_is_told(#[case] history: Vec<Fact>, #[case] since: TimeDelta) {
        given(history).at(LATER + since).when(&show(0)).refused(RefreshRefusal::Reused);
    }

    #[test]
    fn a_token_is_repeated_so_often_and_no_more() {
        let repeats =
            |count: usize| (0..count).map(|number| repeated(u8::try_from(number).unwrap() + 2, LATER));
        let story =
            |count| given([refreshed(0, 1, LATER)].into_iter().chain(repeats(count))).at(LATER + SECOND);
        let then = answer(LATER + SECOND, LATER + REFRESH_LIFETIME);
        story(REPEATS_MAX - 1).when(&show(0)).then(then, at_session(repeated_event(99)));
        story(REPEATS_MAX).when(&show(0)).refused(RefreshRefusal::TooManyRepeats);
    }

    #[rstest]
    #[case::ended(vec![fact(session(1), ended(SessionEndReason::Requested))], RefreshRefusal::Invalid)]
    #[case::suspended(vec![suspended()], RefreshRefusal::Suspended)]
    #[case::from_before_a_suspension(vec![suspended(), reinstated()], RefreshRefusal::Invalid)]
    fn a_session_that_is_not_good_is_not_refreshed(
        #[case] history: Vec<Fact>,
        #[case] refusal: RefreshRefusal,
    ) {
        given(history).when(&show(0)).refused(refusal);
    }

    /// What was used before says nothing new of a session that has ended.
    #[test]
    fn a_used_token_of_an_ended_session_is_no_news() {
        let history = [refreshed(0, 1, LATER), fact(session(1), ended(SessionEndReason::RefreshTokenReused))];
        given(history).at(LATER * 2).when(&show(0)).refused(RefreshRefusal::Invalid);
    }

    #[test]
    fn a_session_of_another_kind_is_not_refreshed() {
        let event = started(ADA, SessionMethod::EmailCode, None, after(REFRESH_LIFETIME), &Origin::default());
        let story = testing::given([registered(), fact(session(1), event)]);
        story.when(&show(0)).refused(RefreshRefusal::Invalid);
    }

    #[test]
    fn another_persons_session_is_not_refreshed() {
        let story = given([eve_registered()]);
        story.when(&RefreshSession { user: EVE, ..show(0) }).refused(RefreshRefusal::Invalid);
    }

    /// A next token of another session would carry on this one, and name that one.
    #[test]
    fn the_next_token_is_of_the_same_session() {
        let elsewhere = RefreshSession { next: of(session(2), 99), ..show(0) };
        given([]).when(&elsewhere).refused(RefreshRefusal::Invalid);
    }
}

mod revoking {
    use super::*;

    fn revoke(number: u8) -> RevokeRefreshToken {
        RevokeRefreshToken { shown: token(number) }
    }

    #[test]
    fn success_asserts_a_revocation() {
        const { assert!(RevokeRefreshToken::REVOKES && !RefreshSession::REVOKES) };
    }

    #[rstest]
    #[case::that_may_be_used(1, TimeDelta::days(1))]
    #[case::that_a_repeated_refresh_brought(2, TimeDelta::days(1))]
    #[case::that_was_used_a_moment_ago(0, SECOND)]
    fn whoever_holds_a_token_logs_out_with_it(#[case] number: u8, #[case] since: TimeDelta) {
        let story = given([refreshed(0, 1, LATER), repeated(2, LATER)]).at(LATER + since);
        story.when(&revoke(number)).then((), at_session(ended(SessionEndReason::LoggedOut)));
    }

    #[rstest]
    #[case::when_the_moment_is_over(0, REFRESH_GRACE)]
    #[case::of_which_nothing_is_kept(42, SECOND)]
    fn a_used_token_ends_the_session(#[case] number: u8, #[case] since: TimeDelta) {
        let story = given([refreshed(0, 1, LATER)]).at(LATER + since);
        story.when(&revoke(number)).then((), at_session(ended(SessionEndReason::RefreshTokenReused)));
    }

    #[test]
    fn a_second_time_nothing_happens() {
        given([fact(session(1), ended(SessionEndReason::Requested))]).when(&revoke(0)).unchanged(());
    }

    #[test]
    fn a_session_of_another_kind_is_left_alone() {
        let event = started(ADA, SessionMethod::EmailCode, None, after(REFRESH_LIFETIME), &Origin::default());
        testing::given([registered(), fact(session(1), event)]).when(&revoke(0)).unchanged(());
        testing::given([registered()]).when(&revoke(0)).unchanged(());
    }
}

/// An access token of a console session is as good as the session.
#[test]
fn it_is_the_session_that_a_credential_rests_on() {
    let Principal::Person { credential, .. } = by_console(session(1)) else { unreachable!("a person") };
    assert_eq!(credential.id(), tally_events::CredentialId::Session(session(1)));
    assert!(matches!(credential, PersonCredential::ConsoleSession { .. }));
}

#[test]
fn events_of_refreshing_do_nothing_to_a_session_of_another_kind() {
    let event = started(ADA, SessionMethod::EmailCode, None, after(SECOND), &Origin::default());
    let mut state = Session::INITIAL;
    state.evolve(&fact(session(1), event).recorded(1));
    let before = state.clone();
    state.evolve(&refreshed(0, 1, LATER).recorded(2));
    state.evolve(&repeated(2, LATER).recorded(3));
    assert_eq!(state, before);
}
