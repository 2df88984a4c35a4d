use rstest::rstest;

use super::*;
use crate::testing::{
    ADA, EVE, Fact, START, after, by_session, by_token, fact, given, person, session, token,
};

const LIFETIME: TimeDelta = TimeDelta::days(30);

fn origin() -> Origin {
    Origin { address: Some("192.0.2.7".to_owned()), user_agent: Some("tally/1".to_owned()) }
}

/// Session 1 of Ada, from an e-mailed code.
fn started_fact() -> Fact {
    fact(session(1), started(ADA, SessionMethod::EmailCode, None, after(LIFETIME), &Origin::default()))
}

fn ended_event() -> SessionEnded {
    SessionEnded { user_id: ADA, reason: SessionEndReason::LoggedOut }
}

fn ended_fact() -> Fact {
    fact(session(1), ended_event())
}

fn by_eve() -> Principal {
    person(EVE, PersonCredential::Session { id: session(7), expires_at: after(LIFETIME) })
}

mod for_the_command_line {
    use super::*;

    fn start() -> StartCommandLineSession {
        StartCommandLineSession {
            parent: session(1),
            session: session(2),
            lifetime: LIFETIME,
            origin: origin(),
        }
    }

    #[test]
    fn a_live_session_makes_another() {
        let last = LIFETIME - TimeDelta::microseconds(1);
        let expires_at = after(last + LIFETIME);
        let minted_by = Some(CredentialId::Session(session(1)));
        let event = started(ADA, SessionMethod::CommandLine, minted_by, expires_at, &origin());
        given([started_fact()])
            .by(by_session(session(1)))
            .at(last)
            .when(&start())
            .then(expires_at, [(session(2).into(), event.into())]);
    }

    #[rstest]
    #[case::ended(vec![started_fact(), ended_fact()], TimeDelta::zero())]
    #[case::expired(vec![started_fact()], LIFETIME)]
    #[case::unknown(vec![], TimeDelta::zero())]
    fn a_session_that_is_not_live_makes_none(#[case] history: Vec<Fact>, #[case] at: TimeDelta) {
        let story = given(history).by(by_session(session(1))).at(at);
        story.when(&start()).refused(SessionRefusal::Ended);
    }

    #[test]
    fn another_session_than_the_one_shown_makes_none() {
        let story = given([started_fact()]).by(by_session(session(3)));
        story.when(&start()).refused(SessionRefusal::Ended);
    }

    #[rstest]
    #[case::a_token(by_token(token(1)))]
    #[case::nobody(Principal::Anonymous)]
    #[case::an_operator(Principal::Operator)]
    fn only_a_session_makes_one(#[case] principal: Principal) {
        given([started_fact()]).by(principal).when(&start()).refused(SessionRefusal::NotASession);
    }
}

mod ending {
    use super::*;

    const END: EndSession = EndSession { session: session(1) };

    #[test]
    fn its_owner_ends_it() {
        let story = given([started_fact()]).by(by_session(session(1)));
        story.when(&END).then((), [(session(1).into(), ended_event().into())]);
    }

    #[test]
    fn its_owner_ends_it_from_another_session() {
        let story = given([started_fact()]).by(by_session(session(2)));
        story.when(&END).then((), [(session(1).into(), ended_event().into())]);
    }

    #[test]
    fn an_expired_session_is_ended_too() {
        let story = given([started_fact()]).by(by_session(session(1))).at(LIFETIME);
        story.when(&END).then((), [(session(1).into(), ended_event().into())]);
    }

    #[test]
    fn a_second_time_nothing_happens() {
        given([started_fact(), ended_fact()]).by(by_session(session(1))).when(&END).unchanged(());
    }

    #[rstest]
    #[case::a_stranger(by_eve())]
    #[case::nobody(Principal::Anonymous)]
    #[case::an_operator(Principal::Operator)]
    fn nobody_else_ends_it(#[case] principal: Principal) {
        given([started_fact()]).by(principal).when(&END).unchanged(());
    }

    #[test]
    fn an_unknown_session_is_nothing_to_end() {
        given([]).by(by_session(session(1))).when(&END).unchanged(());
    }

    /// The store waits for every replica, also when it was already so.
    #[test]
    fn success_asserts_a_revocation() {
        const { assert!(EndSession::REVOKES && !StartCommandLineSession::REVOKES) };
    }
}

#[test]
fn an_origin_formats_as_nothing() {
    assert_eq!(format!("{:?}", origin()), "Origin");
}

#[test]
fn a_session_is_live_from_its_start_until_it_expires() {
    let mut state = Session::INITIAL;
    assert!(!state.is_live(START));
    let event = started(ADA, SessionMethod::EmailCode, None, after(LIFETIME), &Origin::default());
    state.evolve(&event.into());
    assert!(state.is_live(START));
    assert!(!state.is_live(after(LIFETIME)));
    state.evolve(&ended_event().into());
    assert!(!state.is_live(START));
}
