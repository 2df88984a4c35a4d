use rstest::rstest;
use tally_events::user::UserRegistered;

use super::*;
use crate::{
    principal::{PersonCredential, Principal},
    testing::{ADA, EVE, Fact, after, by_session, by_token, fact, given, person, session, token},
};

fn registered() -> Fact {
    let (email, name) = (Personal::clear("ada@example.org"), Personal::clear("ada"));
    fact(ADA, UserRegistered { email, name })
}

fn suspended() -> Fact {
    fact(ADA, UserSuspended {})
}

fn reinstated() -> Fact {
    fact(ADA, UserReinstated {})
}

mod profile {
    use super::*;

    fn change(change: ProfileChange) -> ChangeProfile {
        ChangeProfile { user: ADA, change }
    }

    fn name() -> ProfileChange {
        ProfileChange { name: Some("Ada Lovelace".to_owned()), ..ProfileChange::default() }
    }

    #[rstest]
    #[case::by_session(by_session(session(1)))]
    #[case::by_token(by_token(token(1)))]
    fn only_what_was_sent_changes(#[case] principal: Principal) {
        let changed = UserProfileChanged {
            name: Some(Personal::clear("Ada Lovelace")),
            ..UserProfileChanged::default()
        };
        let story = given([registered()]).by(principal);
        story.when(&change(name())).then((), [(ADA.into(), changed.into())]);
    }

    #[test]
    fn every_field_can_change_and_an_empty_text_is_kept_as_such() {
        let text = |text: &str| Some(text.to_owned());
        let all = ProfileChange {
            name: text("Ada"),
            avatar_url: text("https://example.org/a.png"),
            language: text("ja"),
            timezone: text(""),
            profile_description: text("engines"),
        };
        let changed = UserProfileChanged {
            name: Some(Personal::clear("Ada")),
            avatar_url: Some(Personal::clear("https://example.org/a.png")),
            language: Some(Personal::clear("ja")),
            timezone: Some(Personal::clear("")),
            profile_description: Some(Personal::clear("engines")),
        };
        let story = given([registered()]).by(by_session(session(1)));
        story.when(&change(all)).then((), [(ADA.into(), changed.into())]);
    }

    #[test]
    fn when_nothing_was_sent_nothing_happens() {
        let story = given([registered()]).by(by_session(session(1)));
        story.when(&change(ProfileChange::default())).unchanged(());
    }

    #[rstest]
    #[case::a_stranger(person(EVE, PersonCredential::Session { id: session(7), expires_at: after(chrono::TimeDelta::days(1)) }))]
    #[case::nobody(Principal::Anonymous)]
    #[case::an_operator(Principal::Operator)]
    fn nobody_else_changes_it(#[case] principal: Principal) {
        given([registered()]).by(principal).when(&change(name())).refused(UserRefusal::Unknown);
    }

    #[test]
    fn an_unknown_account_has_no_profile() {
        given([]).by(by_session(session(1))).when(&change(name())).refused(UserRefusal::Unknown);
    }
}

mod suspension {
    use super::*;

    const SUSPEND: SuspendUser = SuspendUser { user: ADA };
    const REINSTATE: ReinstateUser = ReinstateUser { user: ADA };

    #[rstest]
    #[case::open(vec![registered()])]
    #[case::reinstated(vec![registered(), suspended(), reinstated()])]
    fn an_open_account_is_suspended(#[case] history: Vec<Fact>) {
        let story = given(history).by(Principal::Operator);
        story.when(&SUSPEND).then((), [(ADA.into(), UserSuspended {}.into())]);
    }

    #[test]
    fn a_suspended_account_is_already_so() {
        given([registered(), suspended()]).by(Principal::Operator).when(&SUSPEND).unchanged(());
    }

    #[test]
    fn a_suspended_account_is_reinstated() {
        let story = given([registered(), suspended()]).by(Principal::Operator);
        story.when(&REINSTATE).then((), [(ADA.into(), UserReinstated {}.into())]);
    }

    #[rstest]
    #[case::open(vec![registered()])]
    #[case::reinstated(vec![registered(), suspended(), reinstated()])]
    fn an_open_account_needs_no_reinstatement(#[case] history: Vec<Fact>) {
        given(history).by(Principal::Operator).when(&REINSTATE).unchanged(());
    }

    #[test]
    fn an_unknown_account_is_neither_suspended_nor_reinstated() {
        let story = given([]).by(Principal::Operator);
        story.when(&SUSPEND).refused(UserRefusal::Unknown);
        story.when(&REINSTATE).refused(UserRefusal::Unknown);
    }

    /// The store waits for every replica, also when it was already so.
    #[test]
    fn suspension_asserts_a_revocation_and_reinstatement_none() {
        const { assert!(SuspendUser::REVOKES && !ReinstateUser::REVOKES) };
    }
}
