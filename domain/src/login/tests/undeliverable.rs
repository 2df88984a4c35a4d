use super::*;
use crate::{policy::authorize, principal::Principal};

fn declare(number: u32) -> DeclareUndeliverable {
    DeclareUndeliverable(IssuedCode { login: LOGIN, code: code(number), user: None })
}

fn seconds(count: i64) -> TimeDelta {
    TimeDelta::seconds(count)
}

#[test]
fn a_live_code_is_declared_undeliverable() {
    let event = LoginCodeUndeliverable { code_id: code(1), user_id: Some(ADA) };
    let command = DeclareUndeliverable(IssuedCode { user: Some(ADA), ..declare(1).0 });
    let story = given([issued(1, minutes(0))]).at(seconds(45));
    story.when(&command).then((), [(LOGIN.into(), event.into())]);
}

#[test]
fn it_is_declared_once() {
    let story = given([issued(1, minutes(0)), undeliverable(1, seconds(5))]).at(seconds(6));
    story.when(&declare(1)).unchanged(());
}

#[test]
fn a_code_that_another_replaced_is_left_alone() {
    let story = given([issued(1, minutes(0)), issued(2, minutes(1))]).at(minutes(1));
    story.when(&declare(1)).unchanged(());
}

#[test]
fn a_code_that_has_expired_is_left_alone() {
    given([issued(1, minutes(0))]).at(minutes(10)).when(&declare(1)).unchanged(());
}

/// It has arrived, whatever the mail server said.
#[test]
fn a_code_that_was_used_is_left_alone() {
    given([issued(1, minutes(0)), verified(1)]).when(&declare(1)).unchanged(());
}

#[test]
fn a_code_that_was_guessed_to_its_end_is_left_alone() {
    let story = given([vec![issued(1, minutes(0))], guessed(1, 5, minutes(0))].concat());
    story.when(&declare(1)).unchanged(());
    let until = after(seconds(60));
    story.when(&issue(2)).refused(LoginRefusal::TooManyCodes { until });
}

#[test]
fn an_undeliverable_code_lets_nobody_in() {
    let story = given([issued(1, minutes(0)), undeliverable(1, minutes(0))]);
    story.when(&verify(digits(1))).unchanged(Verification::NoLiveCode);
}

#[test]
fn another_code_is_made_at_once() {
    let event = issue_event(2, None, after(seconds(3)));
    let story = given([issued(1, minutes(0)), undeliverable(1, seconds(3))]).at(seconds(3));
    story.when(&issue(2)).then((), [(LOGIN.into(), event.into())]);
}

/// Only the undeliverable code's minute is over, not that of one before it.
#[test]
fn the_minute_after_an_earlier_code_still_counts() {
    let until = after(seconds(61));
    let story = given([issued(1, seconds(0)), undeliverable(1, seconds(1)), issued(2, seconds(1))]);
    story.at(seconds(2)).when(&issue(3)).refused(LoginRefusal::TooManyCodes { until });
}

#[test]
fn an_undeliverable_code_does_not_count_in_the_hour() {
    let four = (1..=4).map(|number| issued(number, minutes(i64::from(number)))).collect::<Vec<_>>();
    let lost = vec![issued(5, minutes(5)), undeliverable(5, minutes(5))];
    let event = issue_event(6, None, after(minutes(6)));
    let story = given([four.clone(), lost.clone()].concat()).at(minutes(6));
    story.when(&issue(6)).then((), [(LOGIN.into(), event.into())]);
    let story = given([four, lost, vec![issued(6, minutes(6))]].concat()).at(minutes(7));
    story.when(&issue(7)).refused(LoginRefusal::TooManyCodes { until: after(minutes(61)) });
}

#[test]
fn wrong_guesses_at_an_undeliverable_code_count_on() {
    let story = given([thirty_guesses(), vec![undeliverable(8, minutes(106))]].concat()).at(minutes(106));
    let until = after(TimeDelta::days(1));
    story.when(&issue(9)).refused(LoginRefusal::TooManyCodes { until });
}

/// A caller who could declare codes undeliverable would be bound by no limit.
#[test]
fn nobody_but_the_server_may_declare_it() {
    let ada = testing::by_session(session(1));
    for principal in [Principal::Anonymous, Principal::Operator, ada, testing::by_token(testing::token(1))] {
        let denied = authorize(principal, declare(1)).map(drop).unwrap_err();
        assert_eq!(denied.to_string(), "only the server itself knows this");
    }
    assert!(authorize(Principal::Server, declare(1)).is_ok());
}
