use super::*;

#[test]
fn the_first_code_is_made() {
    let event = issue_event(1, None, after(minutes(0)));
    given([]).when(&issue(1)).then((), [(LOGIN.into(), event.into())]);
}

#[test]
fn a_code_for_an_account_names_it() {
    let event = issue_event(1, Some(ADA), after(minutes(0)));
    let command = IssueCode { user: Some(ADA), ..issue(1) };
    given([registered()]).when(&command).then((), [(LOGIN.into(), event.into())]);
}

#[test]
fn what_is_stored_fits_the_mailed_digits_of_this_code_alone() {
    let key = Key::from_bytes([8; 32]);
    let mac = digits(1).mac(&KEY, code(1), SALT);
    assert_eq!(mac.len(), 64);
    for other in [
        digits(2).mac(&KEY, code(1), SALT),
        digits(1).mac(&key, code(1), SALT),
        digits(1).mac(&KEY, code(2), SALT),
        digits(1).mac(&KEY, code(1), "salt"),
    ] {
        assert_ne!(mac, other);
    }
}

#[test]
fn small_numbers_have_six_digits_too() {
    assert_eq!(Digits::from_number(42).expose(), "000042");
    assert_eq!(format!("{:?}", digits(1)), "Digits");
}

#[test]
fn a_second_code_within_a_minute_is_refused() {
    let until = after(TimeDelta::seconds(60));
    let story = given([issued(1, minutes(0))]).at(TimeDelta::milliseconds(59_999));
    story.when(&issue(2)).refused(LoginRefusal::TooManyCodes { until });
}

#[test]
fn a_second_code_after_a_minute_is_made() {
    let event = issue_event(2, None, after(TimeDelta::seconds(60)));
    let story = given([issued(1, minutes(0))]).at(TimeDelta::seconds(60));
    story.when(&issue(2)).then((), [(LOGIN.into(), event.into())]);
}

#[test]
fn the_minute_counts_after_the_code_was_used_too() {
    let until = after(TimeDelta::seconds(60));
    let story = given([issued(1, minutes(0)), verified(1)]).at(TimeDelta::seconds(30));
    story.when(&issue(2)).refused(LoginRefusal::TooManyCodes { until });
}

fn five_codes() -> Vec<Fact> {
    (1..=5).map(|number| issued(number, minutes(i64::from(number)))).collect()
}

#[test]
fn a_sixth_code_within_an_hour_is_refused() {
    let until = after(minutes(61));
    let story = given(five_codes()).at(minutes(61) - TimeDelta::milliseconds(1));
    story.when(&issue(6)).refused(LoginRefusal::TooManyCodes { until });
}

#[test]
fn a_sixth_code_is_made_an_hour_after_the_first() {
    let event = issue_event(6, None, after(minutes(61)));
    given(five_codes()).at(minutes(61)).when(&issue(6)).then((), [(LOGIN.into(), event.into())]);
}

#[test]
fn a_seventh_code_waits_for_the_second() {
    let story = given([five_codes(), vec![issued(6, minutes(61))]].concat()).at(minutes(61));
    let until = after(minutes(62));
    story.when(&issue(7)).refused(LoginRefusal::TooManyCodes { until });
}

#[test]
fn thirty_wrong_guesses_stop_new_codes_for_a_day() {
    let until = after(TimeDelta::days(1));
    let story = given(thirty_guesses()).at(TimeDelta::days(1) - TimeDelta::milliseconds(1));
    story.when(&issue(9)).refused(LoginRefusal::TooManyCodes { until });
}

#[test]
fn a_day_after_the_first_of_thirty_guesses_a_code_is_made() {
    let event = issue_event(9, None, after(TimeDelta::days(1)));
    let story = given(thirty_guesses()).at(TimeDelta::days(1));
    story.when(&issue(9)).then((), [(LOGIN.into(), event.into())]);
}

/// Commands and states are formatted into logs; what a code can be guessed from is not.
#[test]
fn salt_and_mac_format_as_nothing() {
    let mut login = Login::INITIAL;
    login.evolve(&issued(1, minutes(0)).recorded(1));
    let (salt, mac) = (SALT, digits(1).mac(&KEY, code(1), SALT));
    let event = issue_event(1, None, after(minutes(0)));
    for formatted in [format!("{login:?}"), format!("{:?}", issue(1)), format!("{event:?}")] {
        assert!(!formatted.contains(salt) && !formatted.contains(&*mac), "{formatted}");
    }
}
