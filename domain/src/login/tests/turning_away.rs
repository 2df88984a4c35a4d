use super::*;

fn uninvited(typed: Digits) -> VerifyCode {
    VerifyCode { may_sign_up: false, ..verify(typed) }
}

#[test]
fn signup_is_prohibited_only_after_the_right_code() {
    let story = given([issued(1, minutes(0))]);
    let reason = RefusalReason::SignupProhibited;
    turns_away(&story, &uninvited(digits(1)), None, reason, Verification::SignupProhibited);
}

#[test]
fn a_wrong_code_does_not_tell_that_signup_is_prohibited() {
    let story = given([issued(1, minutes(0))]);
    turns_away(&story, &uninvited(wrong()), None, RefusalReason::WrongCode, Verification::Wrong);
}

#[test]
fn a_suspended_account_is_told_only_after_the_right_code() {
    let story = given([suspended(), vec![issued(1, minutes(0))]].concat());
    let reason = RefusalReason::AccountSuspended;
    turns_away(&story, &verify(digits(1)), Some(ADA), reason, Verification::AccountSuspended);
}

#[test]
fn a_wrong_code_does_not_tell_that_the_account_is_suspended() {
    let story = given([suspended(), vec![issued(1, minutes(0))]].concat());
    turns_away(&story, &verify(wrong()), Some(ADA), RefusalReason::WrongCode, Verification::Wrong);
}

#[rstest]
fn being_turned_away_uses_the_code_up(
    #[values(RefusalReason::SignupProhibited, RefusalReason::AccountSuspended)] reason: RefusalReason,
) {
    let story = given([issued(1, minutes(0)), fact(LOGIN, refusal(1, None, reason))]);
    story.when(&verify(digits(1))).unchanged(Verification::NoLiveCode);
}

#[rstest]
fn being_turned_away_is_no_wrong_guess(
    #[values(RefusalReason::SignupProhibited, RefusalReason::AccountSuspended)] reason: RefusalReason,
) {
    let away = vec![fact(LOGIN, refusal(1, None, reason)); 30];
    let event = issue_event(2, None, after(minutes(1)));
    let story = given([vec![issued(1, minutes(0))], away].concat()).at(minutes(1));
    story.when(&issue(2)).then((), [(LOGIN.into(), event.into())]);
}
