use chrono::TimeDelta;
use rstest::rstest;
use tally_events::session::SessionMethod;

use super::*;
use crate::{
    principal::{PersonCredential, Principal},
    session::{Origin, StartCommandLineSession, started},
    testing::{
        self, ADA, EVE, Fact, Given, after, by_console, by_session, by_token, eve_registered, fact, person,
        registered, reinstated, session, suspended, token,
    },
};

const LIFETIME: TimeDelta = TimeDelta::days(30);

/// Ada has an account, and then this happened.
fn given(history: impl IntoIterator<Item = Fact>) -> Given {
    testing::given([registered()].into_iter().chain(history))
}

/// A session of Ada's, from an e-mailed code.
fn opened(number: u32) -> Fact {
    let event = started(ADA, SessionMethod::EmailCode, None, after(LIFETIME), &Origin::default());
    fact(session(number), event)
}

/// A session of Ada's that another one of hers started for the command line.
fn started_by(parent: u32, number: u32) -> Fact {
    let minted_by = Some(CredentialId::Session(session(parent)));
    let event = started(ADA, SessionMethod::CommandLine, minted_by, after(LIFETIME), &Origin::default());
    fact(session(number), event)
}

fn event(number: u32, reason: SessionEndReason) -> (StreamId, Event) {
    (session(number).into(), SessionEnded { user_id: ADA, reason }.into())
}

fn gone(number: u32) -> Fact {
    fact(session(number), SessionEnded { user_id: ADA, reason: SessionEndReason::LoggedOut })
}

fn by_eve() -> Principal {
    person(EVE, PersonCredential::Session { id: session(7), expires_at: after(LIFETIME) })
}

/// The store waits for every replica, also when it was already so.
#[test]
fn success_asserts_a_revocation() {
    const { assert!(EndSession::REVOKES && EndOtherSessions::REVOKES && !StartCommandLineSession::REVOKES) };
}

mod one {
    use super::*;

    fn end(below: impl IntoIterator<Item = u32>) -> EndSession {
        EndSession { session: session(1), below: below.into_iter().map(session).collect() }
    }

    #[rstest]
    #[case::the_session_itself(by_session(session(1)), SessionEndReason::LoggedOut)]
    #[case::the_console_session_itself(by_console(session(1)), SessionEndReason::LoggedOut)]
    #[case::another_session(by_session(session(2)), SessionEndReason::Requested)]
    #[case::another_console_session(by_console(session(2)), SessionEndReason::Requested)]
    #[case::a_token(by_token(token(1)), SessionEndReason::Requested)]
    fn its_owner_ends_it(#[case] by: Principal, #[case] reason: SessionEndReason) {
        given([opened(1)]).by(by).when(&end([])).then(vec![session(1)], [event(1, reason)]);
    }

    #[test]
    fn an_expired_session_is_ended_too() {
        let story = given([opened(1)]).by(by_session(session(1))).at(LIFETIME);
        story.when(&end([])).then(vec![session(1)], [event(1, SessionEndReason::LoggedOut)]);
    }

    /// To end is always safe, so it is not asked whether the session shown is still good.
    #[rstest]
    #[case::suspended(vec![suspended()])]
    #[case::from_before_a_suspension(vec![suspended(), reinstated()])]
    fn a_session_of_a_closed_account_is_ended_too(#[case] then: Vec<Fact>) {
        let story = given([vec![opened(1)], then].concat()).by(by_session(session(1)));
        story.when(&end([])).then(vec![session(1)], [event(1, SessionEndReason::LoggedOut)]);
    }

    #[test]
    fn what_it_started_goes_with_it() {
        let history = [opened(1), started_by(1, 2), started_by(1, 3)];
        given(history).by(by_session(session(1))).when(&end([2, 3])).then(
            vec![session(1), session(2), session(3)],
            [
                event(1, SessionEndReason::LoggedOut),
                event(2, SessionEndReason::ParentEnded),
                event(3, SessionEndReason::ParentEnded),
            ],
        );
    }

    /// It started between the look for what is below and the end.
    #[test]
    fn what_it_started_is_ended_after_it() {
        let story = given([opened(1), started_by(1, 2), gone(1)]).by(by_session(session(1)));
        story.when(&end([2])).then(vec![session(2)], [event(2, SessionEndReason::ParentEnded)]);
    }

    #[rstest]
    #[case::a_session_of_its_own(opened(2))]
    #[case::one_that_another_session_started(started_by(3, 2))]
    fn what_it_did_not_start_stays(#[case] other: Fact) {
        let story = given([opened(1), opened(3), other]).by(by_session(session(1)));
        story.when(&end([2])).then(vec![session(1)], [event(1, SessionEndReason::LoggedOut)]);
    }

    #[test]
    fn a_session_that_was_started_ends_the_one_that_started_it() {
        let story = given([opened(1), started_by(1, 2)]).by(by_session(session(2)));
        story.when(&end([2])).then(
            vec![session(1), session(2)],
            [event(1, SessionEndReason::Requested), event(2, SessionEndReason::ParentEnded)],
        );
    }

    #[test]
    fn a_second_time_nothing_happens() {
        let story = given([opened(1), started_by(1, 2), gone(1), gone(2)]).by(by_session(session(1)));
        story.when(&end([2])).unchanged(vec![]);
    }

    #[rstest]
    #[case::a_stranger(by_eve())]
    #[case::nobody(Principal::Anonymous)]
    #[case::an_operator(Principal::Operator)]
    fn nobody_else_ends_it(#[case] principal: Principal) {
        let story = given([eve_registered(), opened(1), started_by(1, 2)]).by(principal);
        story.when(&end([2])).unchanged(vec![]);
    }

    #[test]
    fn an_unknown_session_is_nothing_to_end() {
        given([]).by(by_session(session(1))).when(&end([2])).unchanged(vec![]);
    }
}

mod all_others {
    use super::*;

    fn end(sessions: impl IntoIterator<Item = u32>) -> EndOtherSessions {
        EndOtherSessions { user: ADA, sessions: sessions.into_iter().map(session).collect() }
    }

    #[test]
    fn those_that_are_named_end_and_the_one_in_use_stays() {
        let story = given([opened(1), opened(2), started_by(1, 3)]).by(by_session(session(1)));
        story.when(&end([1, 2, 3])).then(
            vec![session(2), session(3)],
            [event(2, SessionEndReason::OthersEnded), event(3, SessionEndReason::OthersEnded)],
        );
    }

    #[test]
    fn the_console_session_in_use_stays() {
        let story = given([opened(1), opened(2)]).by(by_console(session(1)));
        story.when(&end([1, 2])).then(vec![session(2)], [event(2, SessionEndReason::OthersEnded)]);
    }

    /// A token is no session, so all of them are others.
    #[test]
    fn by_a_token_all_of_them_end() {
        let story = given([opened(1)]).by(by_token(token(1)));
        story.when(&end([1])).then(vec![session(1)], [event(1, SessionEndReason::OthersEnded)]);
    }

    #[rstest]
    #[case::ended(vec![opened(2), gone(2)])]
    #[case::unknown(vec![])]
    fn what_is_not_there_is_nothing_to_end(#[case] history: Vec<Fact>) {
        given(history).by(by_session(session(1))).when(&end([2])).unchanged(vec![]);
    }

    #[rstest]
    #[case::a_stranger(by_eve())]
    #[case::nobody(Principal::Anonymous)]
    fn nobody_else_ends_them(#[case] principal: Principal) {
        given([eve_registered(), opened(1)]).by(principal).when(&end([1])).unchanged(vec![]);
    }

    /// The store reads the head of the log with the streams: without one there would be no position
    /// to wait for.
    #[test]
    fn nothing_to_end_is_said_as_of_a_position_too() {
        assert_eq!(end([]).reads(), [StreamId::from(ADA)]);
        given([]).by(by_session(session(1))).when(&end([])).unchanged(vec![]);
    }
}
