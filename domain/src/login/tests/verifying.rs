use tally_events::session::{ConsoleStarted, SessionStarted};

use super::*;

#[test]
fn the_right_code_opens_an_account_and_starts_a_session() {
    let story = given([issued(1, minutes(0))]).at(minutes(1));
    lets_in(&story, 1, after(minutes(1)), &verify(digits(1)), true);
}

#[test]
fn the_right_code_of_an_account_starts_a_session() {
    let story = given([registered(), issued(1, minutes(0))]).at(minutes(1));
    lets_in(&story, 1, after(minutes(1)), &verify(digits(1)), false);
}

/// The same door opens a session of the web console: 14 days unless it is refreshed, 90 in any case.
#[test]
fn the_right_code_starts_a_console_session() {
    let now = after(minutes(1));
    let story = given([registered(), issued(1, minutes(0))]).at(minutes(1));
    let refresh_hash = Hidden::new("c0ffee00".repeat(8));
    let opens = Opens::Console { refresh_hash: refresh_hash.clone() };
    let expires_at = now + TimeDelta::days(14);
    let started = SessionStarted {
        console: Some(ConsoleStarted { refresh_hash, ends_at: now + TimeDelta::days(90) }),
        ..session::started(ADA, SessionMethod::EmailCode, None, expires_at, &origin())
    };
    let verified = LoginCodeVerified { code_id: code(1), user_id: ADA, session_id: session(1) };
    story.when(&VerifyCode { opens, ..verify(digits(1)) }).then(
        Verification::Verified { user: ADA, session: session(1), expires_at },
        [(LOGIN.into(), verified.into()), (session(1).into(), started.into())],
    );
}

#[test]
fn an_account_logs_in_where_signup_is_prohibited() {
    let story = given([registered(), issued(1, minutes(0))]).at(minutes(1));
    let command = VerifyCode { may_sign_up: false, ..verify(digits(1)) };
    lets_in(&story, 1, after(minutes(1)), &command, false);
}

#[test]
fn without_a_code_nothing_fits() {
    given([]).when(&verify(digits(1))).unchanged(Verification::NoLiveCode);
}

#[rstest]
#[case::other_digits("123456")]
#[case::nothing("")]
#[case::a_part("11111")]
#[case::more("1111111")]
#[case::spaced(" 111111")]
fn wrong_digits_are_refused_and_counted(#[case] typed: &str) {
    let story = given([issued(1, minutes(0))]);
    let command = verify(Digits::new(typed));
    turns_away(&story, &command, None, RefusalReason::WrongCode, Verification::Wrong);
}

#[test]
fn wrong_digits_for_an_account_are_told_in_its_history() {
    let story = given([registered(), issued(1, minutes(0))]);
    turns_away(&story, &verify(wrong()), Some(ADA), RefusalReason::WrongCode, Verification::Wrong);
}

#[test]
fn a_code_made_under_another_key_does_not_fit() {
    let story = given([issued(1, minutes(0))]);
    let command = VerifyCode { key: Key::from_bytes([8; 32]), ..verify(digits(1)) };
    turns_away(&story, &command, None, RefusalReason::WrongCode, Verification::Wrong);
}

#[test]
fn a_code_works_until_its_last_moment() {
    let last = minutes(10) - TimeDelta::microseconds(1);
    let story = given([issued(1, minutes(0))]).at(last);
    lets_in(&story, 1, after(last), &verify(digits(1)), true);
}

#[test]
fn an_expired_code_fails() {
    let story = given([issued(1, minutes(0))]).at(minutes(10));
    story.when(&verify(digits(1))).unchanged(Verification::NoLiveCode);
}

#[test]
fn a_superseded_code_fails() {
    let story = given([issued(1, minutes(0)), issued(2, minutes(1))]).at(minutes(2));
    let event = refusal(2, None, RefusalReason::WrongCode);
    story.when(&verify(digits(1))).then(Verification::Wrong, [(LOGIN.into(), event.into())]);
}

#[test]
fn the_newest_code_works() {
    let story = given([issued(1, minutes(0)), issued(2, minutes(1))]).at(minutes(2));
    lets_in(&story, 2, after(minutes(2)), &verify(digits(2)), true);
}

#[test]
fn a_superseded_code_stays_dead_when_the_newest_is_used() {
    let story = given([issued(1, minutes(0)), issued(2, minutes(1)), verified(2)]).at(minutes(2));
    story.when(&verify(digits(1))).unchanged(Verification::NoLiveCode);
}

#[test]
fn a_used_code_fails() {
    let story = given([registered(), issued(1, minutes(0)), verified(1)]);
    story.when(&verify(digits(1))).unchanged(Verification::NoLiveCode);
}

#[test]
fn after_four_wrong_guesses_the_right_code_still_works() {
    let story = given([vec![issued(1, minutes(0))], guessed(1, 4, minutes(0))].concat());
    lets_in(&story, 1, after(minutes(0)), &verify(digits(1)), true);
}

#[test]
fn after_five_wrong_guesses_the_right_code_fails() {
    let story = given([vec![issued(1, minutes(0))], guessed(1, 5, minutes(0))].concat());
    story.when(&verify(digits(1))).unchanged(Verification::NoLiveCode);
}

#[test]
fn a_new_code_starts_its_own_count() {
    let history = [vec![issued(1, minutes(0))], guessed(1, 5, minutes(0)), vec![issued(2, minutes(1))]];
    lets_in(&given(history.concat()).at(minutes(1)), 2, after(minutes(1)), &verify(digits(2)), true);
}

#[test]
fn thirty_wrong_guesses_in_a_day_stop_even_the_right_code() {
    let until = after(TimeDelta::days(1));
    let story = given(thirty_guesses()).at(minutes(106));
    story.when(&verify(digits(8))).refused(LoginRefusal::TooManyGuesses { until });
}

#[test]
fn twenty_nine_wrong_guesses_do_not() {
    let mut history = thirty_guesses();
    history.pop();
    lets_in(&given(history).at(minutes(106)), 8, after(minutes(106)), &verify(digits(8)), true);
}

#[test]
fn a_day_after_the_first_of_thirty_guesses_the_right_code_works() {
    let day = TimeDelta::days(1);
    let story = given([thirty_guesses(), vec![issued(9, day)]].concat()).at(day);
    lets_in(&story, 9, after(day), &verify(digits(9)), true);
}

mod tried_first {
    use super::*;

    fn tried(typed: Digits, known: bool) -> TryCode {
        TryCode(VerifyCode { known, ..verify(typed) })
    }

    /// Else the time it takes would tell whether there is one.
    #[test]
    fn without_a_look_at_the_account() {
        assert_eq!(tried(digits(1), true).reads(), [StreamId::from(LOGIN)]);
    }

    #[test]
    fn what_fits_leaves_no_trace_yet() {
        given([issued(1, minutes(0))]).when(&tried(digits(1), false)).unchanged(None);
    }

    #[rstest]
    #[case(false, None)]
    #[case(true, Some(ADA))]
    fn what_does_not_is_refused_and_counted(#[case] known: bool, #[case] user: Option<UserId>) {
        let refused = refusal(1, user, RefusalReason::WrongCode);
        given([issued(1, minutes(0))])
            .when(&tried(digits(2), known))
            .then(Some(Verification::Wrong), [(LOGIN.into(), refused.into())]);
    }

    #[test]
    fn without_a_code_nothing_fits_and_after_thirty_guesses_none_counts() {
        given([]).when(&tried(digits(1), true)).unchanged(Some(Verification::NoLiveCode));
        let story = given(thirty_guesses()).at(minutes(106));
        let refusal = story.when(&tried(digits(8), true)).refusal();
        assert!(matches!(refusal, LoginRefusal::TooManyGuesses { .. }), "{refusal:?}");
    }
}
