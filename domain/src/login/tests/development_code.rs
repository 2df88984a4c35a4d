use super::*;

fn with_development_code(typed: Digits) -> VerifyCode {
    VerifyCode { development: Some(Digits::new("888888")), ..verify(typed) }
}

#[test]
fn it_works_while_a_code_is_live() {
    let story = given([issued(1, minutes(0))]);
    lets_in(&story, 1, after(minutes(0)), &with_development_code(Digits::new("888888")), true);
}

#[test]
fn the_mailed_code_works_beside_it() {
    let story = given([issued(1, minutes(0))]);
    lets_in(&story, 1, after(minutes(0)), &with_development_code(digits(1)), true);
}

#[rstest]
#[case::none(vec![], 0)]
#[case::expired(vec![issued(1, minutes(0))], 10)]
#[case::used(vec![issued(1, minutes(0)), verified(1)], 1)]
fn it_needs_a_live_code(#[case] history: Vec<Fact>, #[case] minute: i64) {
    let story = given(history).at(minutes(minute));
    let command = with_development_code(Digits::new("888888"));
    story.when(&command).unchanged(Verification::NoLiveCode);
}

#[test]
fn it_is_a_wrong_guess_where_none_is_configured() {
    let story = given([issued(1, minutes(0))]);
    let command = verify(Digits::new("888888"));
    turns_away(&story, &command, None, RefusalReason::WrongCode, Verification::Wrong);
}
