use chrono::TimeDelta;
use rstest::rstest;
use tally_events::{
    session::{SessionEndReason, SessionEnded, SessionMethod},
    token::{RevocationReason, TokenRevoked},
};

use super::*;
use crate::{
    principal::{PersonCredential, Principal},
    session::{Origin, started},
    testing::{
        ADA, EVE, Fact, after, by_session, by_token, fact, given, minted, person, registered, reinstated,
        session, suspended, token,
    },
};

mod profile {
    use super::*;

    const SESSION: CredentialId = CredentialId::Session(session(1));
    const TOKEN: CredentialId = CredentialId::Token(token(1));

    /// Ada, logged in by session 1 for a day, with token 1.
    fn logged_in() -> Vec<Fact> {
        let event =
            started(ADA, SessionMethod::EmailCode, None, after(TimeDelta::days(1)), &Origin::default());
        vec![registered(), fact(session(1), event), minted(1, None)]
    }

    fn change(credential: CredentialId, change: ProfileChange) -> ChangeProfile {
        ChangeProfile { user: ADA, credential, change }
    }

    fn name() -> ProfileChange {
        ProfileChange { name: Some("Ada Lovelace".to_owned()), ..ProfileChange::default() }
    }

    #[rstest]
    #[case::by_session(by_session(session(1)), SESSION)]
    #[case::by_token(by_token(token(1)), TOKEN)]
    fn only_what_was_sent_changes(#[case] principal: Principal, #[case] credential: CredentialId) {
        let changed = UserProfileChanged {
            name: Some(Personal::clear("Ada Lovelace")),
            ..UserProfileChanged::default()
        };
        let story = given(logged_in()).by(principal);
        story.when(&change(credential, name())).then((), [(ADA.into(), changed.into())]);
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
        let story = given(logged_in()).by(by_session(session(1)));
        story.when(&change(SESSION, all)).then((), [(ADA.into(), changed.into())]);
    }

    #[test]
    fn when_nothing_was_sent_nothing_happens() {
        let story = given(logged_in()).by(by_session(session(1)));
        story.when(&change(SESSION, ProfileChange::default())).unchanged(());
    }

    #[rstest]
    #[case::a_stranger(person(EVE, PersonCredential::Session { id: session(1), expires_at: after(TimeDelta::days(1)) }))]
    #[case::another_session(by_session(session(2)))]
    #[case::another_credential(by_token(token(1)))]
    #[case::nobody(Principal::Anonymous)]
    #[case::an_operator(Principal::Operator)]
    fn nobody_else_changes_it(#[case] principal: Principal) {
        let story = given(logged_in()).by(principal);
        story.when(&change(SESSION, name())).refused(UserRefusal::Unknown);
    }

    #[test]
    fn an_unknown_account_has_no_profile() {
        let story = given(logged_in().split_off(1)).by(by_session(session(1)));
        story.when(&change(SESSION, name())).refused(UserRefusal::Unknown);
    }

    #[test]
    fn an_unknown_credential_changes_nothing() {
        let story = given([registered()]).by(by_session(session(1)));
        story.when(&change(SESSION, name())).refused(UserRefusal::Unknown);
    }

    #[test]
    fn an_expired_session_changes_nothing() {
        let story = given(logged_in()).by(by_session(session(1))).at(TimeDelta::days(1));
        story.when(&change(SESSION, name())).refused(UserRefusal::Unknown);
    }

    /// The guard let the request in; what happened then came before the decision.
    #[rstest]
    #[case::ended(vec![
        fact(session(1), SessionEnded { user_id: ADA, reason: SessionEndReason::LoggedOut }),
        fact(token(1), TokenRevoked { user_id: ADA, reason: RevocationReason::Requested }),
    ])]
    #[case::suspended(vec![suspended()])]
    #[case::suspended_and_reinstated(vec![suspended(), reinstated()])]
    fn a_credential_that_just_ended_changes_nothing(#[case] then: Vec<Fact>) {
        let history = [logged_in(), then].concat();
        for (principal, credential) in [(by_session(session(1)), SESSION), (by_token(token(1)), TOKEN)] {
            let story = given(history.clone()).by(principal);
            story.when(&change(credential, name())).refused(UserRefusal::Unknown);
        }
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
