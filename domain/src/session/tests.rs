use rstest::rstest;
use tally_events::session::{SessionEndReason, SessionEnded};

use super::*;
use crate::testing::{
    self, ADA, EVE, Fact, Given, START, after, by_console, by_session, by_token, eve_registered, fact,
    person, registered, reinstated, session, suspended, token,
};

const LIFETIME: TimeDelta = TimeDelta::days(30);

/// Ada has an account, and then this happened.
fn given(history: impl IntoIterator<Item = Fact>) -> Given {
    testing::given([registered()].into_iter().chain(history))
}

fn origin() -> Origin {
    Origin { address: Some("192.0.2.7".to_owned()), user_agent: Some("tally/1".to_owned()) }
}

/// Session 1 of Ada, from an e-mailed code.
fn started_fact() -> Fact {
    fact(session(1), started(ADA, SessionMethod::EmailCode, None, after(LIFETIME), &Origin::default()))
}

fn ended_fact() -> Fact {
    fact(session(1), SessionEnded { user_id: ADA, reason: SessionEndReason::LoggedOut })
}

fn by_eve(number: u32) -> Principal {
    person(EVE, PersonCredential::Session { id: session(number), expires_at: after(LIFETIME) })
}

mod for_the_command_line {
    use super::*;

    #[test]
    fn a_session_by_an_identity_makes_one_too() {
        let by_identity = fact(
            session(1),
            started(ADA, SessionMethod::Identity, None, after(LIFETIME), &Origin::default()),
        );
        let minted_by = Some(CredentialId::Session(session(1)));
        let event = started(ADA, SessionMethod::CommandLine, minted_by, after(LIFETIME), &origin());
        given([by_identity])
            .by(by_session(session(1)))
            .when(&start())
            .then(after(LIFETIME), [(session(2).into(), event.into())]);
    }

    fn start() -> StartCommandLineSession {
        StartCommandLineSession {
            user: ADA,
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
    #[case::suspended(vec![started_fact(), suspended()], TimeDelta::zero())]
    #[case::from_before_a_suspension(vec![started_fact(), suspended(), reinstated()], TimeDelta::zero())]
    fn a_session_that_is_not_good_makes_none(#[case] history: Vec<Fact>, #[case] at: TimeDelta) {
        let story = given(history).by(by_session(session(1))).at(at);
        story.when(&start()).refused(SessionRefusal::Ended);
    }

    #[test]
    fn another_session_than_the_one_shown_makes_none() {
        let story = given([started_fact()]).by(by_session(session(3)));
        story.when(&start()).refused(SessionRefusal::Ended);
    }

    #[test]
    fn a_session_of_a_reinstated_account_makes_another() {
        let minted_by = Some(CredentialId::Session(session(1)));
        let event = started(ADA, SessionMethod::CommandLine, minted_by, after(LIFETIME), &origin());
        let story = given([suspended(), reinstated(), started_fact()]).by(by_session(session(1)));
        story.when(&start()).then(after(LIFETIME), [(session(2).into(), event.into())]);
    }

    /// Session 1, which another one made for the command line.
    fn for_the_command_line() -> Fact {
        let minted_by = Some(CredentialId::Session(session(3)));
        let method = SessionMethod::CommandLine;
        fact(session(1), started(ADA, method, minted_by, after(LIFETIME), &Origin::default()))
    }

    #[test]
    fn a_session_of_the_command_line_makes_no_further_one() {
        let story = given([for_the_command_line()]).by(by_session(session(1)));
        story.when(&start()).refused(SessionRefusal::NotFromALogin);
        assert_eq!(SessionRefusal::NotFromALogin.to_string(), "a session from a login is required");
    }

    #[test]
    fn one_that_ended_is_told_so_first() {
        let story = given([for_the_command_line(), ended_fact()]).by(by_session(session(1)));
        story.when(&start()).refused(SessionRefusal::Ended);
    }

    #[test]
    fn another_persons_session_makes_none() {
        let story = given([eve_registered(), started_fact()]).by(by_eve(1));
        story.when(&start()).refused(SessionRefusal::Ended);
        story.when(&StartCommandLineSession { user: EVE, ..start() }).refused(SessionRefusal::Ended);
    }

    /// A leaked access token would else outlive its minutes by a month.
    #[rstest]
    #[case::a_console_session(by_console(session(1)))]
    #[case::a_token(by_token(token(1)))]
    #[case::nobody(Principal::Anonymous)]
    #[case::an_operator(Principal::Operator)]
    fn only_a_session_makes_one(#[case] principal: Principal) {
        given([started_fact()]).by(principal).when(&start()).refused(SessionRefusal::NotASession);
    }
}

#[test]
fn an_origin_formats_as_nothing() {
    assert_eq!(format!("{:?}", origin()), "Origin");
}

#[test]
fn a_session_is_live_from_its_start_until_it_expires() {
    let mut state = Session::INITIAL;
    assert_eq!(state.live(START), None);
    state.evolve(&started_fact().recorded(1));
    assert!(state.live(START).is_some());
    assert!(state.live(after(LIFETIME) - TimeDelta::microseconds(1)).is_some());
    assert_eq!(state.live(after(LIFETIME)), None);
    state.evolve(&ended_fact().recorded(2));
    assert_eq!(state.live(START), None);
}
