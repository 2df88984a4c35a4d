use rstest::rstest;

use super::*;

/// Token 1 renews itself; `parent` is what a projection knew of its line.
fn renew(parent: Option<u32>) -> RenewToken {
    RenewToken { user: ADA, token: token(1), parent: parent.map(token) }
}

/// Token 1 was renewed until this many days after the story began.
#[track_caller]
fn renews(
    history: impl IntoIterator<Item = Fact>,
    at: TimeDelta,
    command: RenewToken,
    expires_at: TimeDelta,
) {
    let expires_at = after(expires_at);
    let event = TokenRenewed { user_id: ADA, expires_at };
    given(history)
        .by(by_token(token(1)))
        .at(at)
        .when(&command)
        .then(Renewal { expires_at: Some(expires_at), renewed: true }, [(token(1).into(), event.into())]);
}

/// Token 1 keeps its expiry.
#[track_caller]
fn keeps(history: impl IntoIterator<Item = Fact>, at: TimeDelta, command: RenewToken, expires: Option<i64>) {
    let expires_at = expires.map(|count| after(days(count)));
    given(history)
        .by(by_token(token(1)))
        .at(at)
        .when(&command)
        .unchanged(Renewal { expires_at, renewed: false });
}

#[test]
fn a_token_that_never_expires_needs_no_renewal() {
    keeps([minted(1, None)], days(1000), renew(None), None);
}

#[test]
fn with_more_than_seven_days_left_nothing_happens() {
    keeps([minted(1, Some(20))], days(13) - TimeDelta::microseconds(1), renew(None), Some(20));
}

#[rstest]
#[case::seven_days(days(13))]
#[case::a_moment(days(20) - TimeDelta::microseconds(1))]
fn with_seven_days_left_or_less_it_lives_ninety_more(#[case] at: TimeDelta) {
    renews([minted(1, Some(20))], at, renew(None), at + days(90));
}

#[test]
fn the_second_of_two_renewals_does_nothing() {
    let renewed = fact(token(1), TokenRenewed { user_id: ADA, expires_at: after(days(104)) });
    keeps([minted(1, Some(20)), renewed], days(14), renew(None), Some(104));
}

#[rstest]
#[case::far_above(None, 104)]
#[case::later(Some(200), 104)]
#[case::sooner(Some(50), 50)]
fn a_renewal_never_outlives_the_token_above(#[case] parent_expires: Option<i64>, #[case] got: i64) {
    let history = [minted(2, parent_expires), minted_below(1, 2, Some(20))];
    renews(history, days(14), renew(Some(2)), days(got));
}

#[test]
fn a_token_that_already_lives_as_long_as_the_one_above_gains_nothing() {
    keeps([minted(2, Some(20)), minted_below(1, 2, Some(20))], days(14), renew(Some(2)), Some(20));
}

#[rstest]
#[case::revoked(vec![minted(2, None), revoked(2), minted_below(1, 2, Some(20))])]
#[case::expired(vec![minted(2, Some(14)), minted_below(1, 2, Some(20))])]
#[case::from_before_a_suspension(vec![minted(2, None), suspended(), reinstated(), minted_below(1, 2, Some(20))])]
fn a_token_whose_parent_is_gone_lives_out_its_days(#[case] history: Vec<Fact>) {
    keeps(history, days(14), renew(Some(2)), Some(20));
}

#[rstest]
#[case::revoked(vec![minted(1, Some(20)), revoked(1)], days(14))]
#[case::expired(vec![minted(1, Some(20))], days(20))]
#[case::unknown(vec![], days(14))]
#[case::suspended(vec![minted(1, Some(20)), suspended()], days(14))]
#[case::from_before_a_suspension(vec![minted(1, Some(20)), suspended(), reinstated()], days(14))]
fn a_dead_token_is_not_renewed(#[case] history: Vec<Fact>, #[case] at: TimeDelta) {
    let story = given(history).by(by_token(token(1))).at(at);
    story.when(&renew(None)).refused(TokenRefusal::CredentialEnded);
}

#[test]
fn a_token_of_a_reinstated_account_is_renewed() {
    renews([suspended(), reinstated(), minted(1, Some(20))], days(14), renew(None), days(104));
}

#[test]
fn a_stranger_who_names_themselves_renews_nothing_of_adas() {
    let eve = PersonCredential::PersonalAccessToken { id: token(1), expires_at: None };
    let story = given([eve_registered(), minted(1, Some(20))]).by(person(EVE, eve)).at(days(14));
    story.when(&RenewToken { user: EVE, ..renew(None) }).refused(TokenRefusal::CredentialEnded);
}

#[rstest]
#[case::another_token_of_its_owner(by_token(token(3)))]
#[case::a_stranger(person(EVE, PersonCredential::PersonalAccessToken { id: token(1), expires_at: None }))]
fn a_token_is_renewed_by_itself_alone(#[case] principal: Principal) {
    let story = given([minted(1, Some(20)), minted(3, None)]).by(principal).at(days(14));
    story.when(&renew(None)).refused(TokenRefusal::CredentialEnded);
}

#[rstest]
#[case::a_session(by_session(session(1)))]
#[case::nobody(Principal::Anonymous)]
#[case::an_operator(Principal::Operator)]
fn only_a_token_can_be_renewed(#[case] principal: Principal) {
    let story = given([minted(1, Some(20))]).by(principal).at(days(14));
    story.when(&renew(None)).refused(TokenRefusal::NotRenewable);
}

#[rstest]
#[case::a_parent_that_was_not_named(vec![minted(2, None), minted_below(1, 2, Some(20))], None)]
#[case::another_parent(vec![minted(2, None), minted(3, None), minted_below(1, 2, Some(20))], Some(3))]
#[case::no_parent_at_all(vec![minted(1, Some(20)), minted(3, None)], Some(3))]
fn a_wrong_line_is_refused(#[case] history: Vec<Fact>, #[case] parent: Option<u32>) {
    let story = given(history).by(by_token(token(1))).at(days(14));
    story.when(&renew(parent)).refused(TokenRefusal::LineChanged);
}
