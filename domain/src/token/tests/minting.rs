use rstest::rstest;

use super::*;

/// Ada mints token 9, for so many days.
fn mint(minted_by: CredentialId, expires_in_days: Option<i64>) -> MintToken {
    MintToken {
        token: token(9),
        minted_by,
        user: ADA,
        request: TokenRequest::new("laptop", expires_in_days).unwrap(),
        hash: CredentialHash([0xAB; 32]),
        prefix: "mul_01234567".to_owned(),
    }
}

/// Token 9 came to be, expiring so many days after the story began.
fn came_to_be(minted_by: CredentialId, expires: Option<i64>) -> [(StreamId, Event); 1] {
    [(
        token(9).into(),
        TokenMinted { hash: Hidden::new("ab".repeat(32)), ..minted_event(minted_by, expires) }.into(),
    )]
}

const BY_TOKEN: CredentialId = CredentialId::Token(token(1));

#[rstest]
#[case::for_ever(None)]
#[case::for_a_day(Some(1))]
#[case::longer_than_the_session(Some(3650))]
fn a_session_mints(#[case] lifetime: Option<i64>) {
    let story = given([session_started(session(1), 30)]).by(by_session(session(1)));
    let expires_at = lifetime.map(|count| after(days(count)));
    story.when(&mint(SESSION, lifetime)).then(expires_at, came_to_be(SESSION, lifetime));
}

#[test]
fn the_lifetime_counts_from_the_minting() {
    let story = given([session_started(session(1), 30)]).by(by_session(session(1))).at(days(2));
    story.when(&mint(SESSION, Some(5))).then(Some(after(days(7))), came_to_be(SESSION, Some(7)));
}

#[rstest]
#[case::shorter(Some(5), 5)]
#[case::as_long(Some(20), 20)]
#[case::longer(Some(21), 20)]
#[case::for_ever(None, 20)]
fn what_a_token_with_an_expiry_mints_never_outlives_it(#[case] wanted: Option<i64>, #[case] got: i64) {
    let story = given([minted(1, Some(20))]).by(by_token(token(1)));
    story.when(&mint(BY_TOKEN, wanted)).then(Some(after(days(got))), came_to_be(BY_TOKEN, Some(got)));
}

#[rstest]
#[case::for_ever(None)]
#[case::for_long(Some(3650))]
fn a_token_without_an_expiry_sets_no_limit(#[case] wanted: Option<i64>) {
    let story = given([minted(1, None)]).by(by_token(token(1)));
    let expires_at = wanted.map(|count| after(days(count)));
    story.when(&mint(BY_TOKEN, wanted)).then(expires_at, came_to_be(BY_TOKEN, wanted));
}

#[test]
fn the_limit_is_the_renewed_expiry() {
    let renewed = fact(token(1), TokenRenewed { user_id: ADA, expires_at: after(days(92)) });
    let story = given([minted(1, Some(5)), renewed]).by(by_token(token(1))).at(days(6));
    story.when(&mint(BY_TOKEN, None)).then(Some(after(days(92))), came_to_be(BY_TOKEN, Some(92)));
}

#[rstest]
#[case::revoked(vec![minted(1, None), revoked(1)], days(0))]
#[case::expired(vec![minted(1, Some(5))], days(5))]
#[case::unknown(vec![], days(0))]
fn a_dead_token_mints_nothing(#[case] history: Vec<Fact>, #[case] at: TimeDelta) {
    let story = given(history).by(by_token(token(1))).at(at);
    story.when(&mint(BY_TOKEN, None)).refused(TokenRefusal::CredentialEnded);
}

#[rstest]
#[case::ended(vec![session_started(session(1), 30), session_ended(session(1))], days(0))]
#[case::expired(vec![session_started(session(1), 30)], days(30))]
#[case::unknown(vec![], days(0))]
fn a_dead_session_mints_nothing(#[case] history: Vec<Fact>, #[case] at: TimeDelta) {
    let story = given(history).by(by_session(session(1))).at(at);
    story.when(&mint(SESSION, None)).refused(TokenRefusal::CredentialEnded);
}

#[rstest]
#[case::by_session(by_session(session(1)), SESSION)]
#[case::by_token(by_token(token(1)), BY_TOKEN)]
fn a_suspended_account_mints_nothing(#[case] principal: Principal, #[case] minted_by: CredentialId) {
    let history = [session_started(session(1), 30), minted(1, None), suspended()];
    given(history).by(principal).when(&mint(minted_by, None)).refused(TokenRefusal::CredentialEnded);
}

#[test]
fn a_reinstated_account_mints_again() {
    let history = [suspended(), reinstated(), session_started(session(1), 30), minted(1, None)];
    let story = given(history.clone()).by(by_session(session(1)));
    story.when(&mint(SESSION, None)).then(None, came_to_be(SESSION, None));
    let story = given(history).by(by_token(token(1)));
    story.when(&mint(BY_TOKEN, None)).then(None, came_to_be(BY_TOKEN, None));
}

/// The guard let the request in before the suspension; the reinstatement came before the decision.
#[rstest]
#[case::by_session(by_session(session(1)), SESSION)]
#[case::by_token(by_token(token(1)), BY_TOKEN)]
fn a_credential_from_before_a_suspension_mints_nothing_after_the_reinstatement(
    #[case] principal: Principal,
    #[case] minted_by: CredentialId,
) {
    let history = [session_started(session(1), 30), minted(1, None), suspended(), reinstated()];
    given(history).by(principal).when(&mint(minted_by, None)).refused(TokenRefusal::CredentialEnded);
}

#[test]
fn another_persons_credential_mints_nothing_for_ada() {
    let foreign = fact(token(1), TokenMinted { user_id: EVE, ..minted_event(SESSION, None) });
    let story = given([foreign]).by(by_token(token(1)));
    story.when(&mint(BY_TOKEN, None)).refused(TokenRefusal::CredentialEnded);
}

#[rstest]
#[case::another_session(by_session(session(2)))]
#[case::a_token(by_token(token(1)))]
#[case::a_stranger(person(EVE, PersonCredential::Session { id: session(1), expires_at: after(days(30)) }))]
fn the_credential_shown_is_the_one_that_mints(#[case] principal: Principal) {
    let history = [session_started(session(1), 30), session_started(session(2), 30), minted(1, None)];
    given(history).by(principal).when(&mint(SESSION, None)).refused(TokenRefusal::CredentialEnded);
}

#[rstest]
#[case::nobody(Principal::Anonymous)]
#[case::an_operator(Principal::Operator)]
fn only_a_person_mints(#[case] principal: Principal) {
    let story = given([session_started(session(1), 30)]).by(principal);
    story.when(&mint(SESSION, None)).refused(TokenRefusal::NotAPerson);
}

#[test]
fn the_plaintext_is_in_no_part_of_the_command() {
    let secret = Plaintext::new("mul_0123456789ABCDEFGHIJKLMNOPQRST4PMbyp");
    let request = TokenRequest::new(" laptop ", None).unwrap();
    assert_eq!(request.name(), "laptop");
    let command = MintToken::new(ADA, SESSION, request, &secret);
    assert_eq!(command.prefix, "mul_01234567");
    assert_eq!(command.hash, secret.hash());
    assert!(!format!("{command:?}").contains("89ABC"));
    assert!(!format!("{command:?}").contains("laptop"));
}

#[rstest]
#[case::no_name("  ", None, TokenRequestError::NameMissing)]
#[case::a_long_name(&"ü".repeat(201), None, TokenRequestError::NameTooLong)]
#[case::no_day("laptop", Some(0), TokenRequestError::LifetimeOutOfRange)]
#[case::a_day_ago("laptop", Some(-1), TokenRequestError::LifetimeOutOfRange)]
#[case::over_ten_years("laptop", Some(3651), TokenRequestError::LifetimeOutOfRange)]
#[case::past_counting("laptop", Some(i64::MAX), TokenRequestError::LifetimeOutOfRange)]
fn a_request_that_cannot_be_met_says_why(
    #[case] name: &str,
    #[case] expires_in_days: Option<i64>,
    #[case] error: TokenRequestError,
) {
    assert_eq!(TokenRequest::new(name, expires_in_days).map(|_| ()), Err(error));
}

#[test]
fn a_name_of_200_characters_and_ten_years_are_within_the_limits() {
    assert!(TokenRequest::new(&"ü".repeat(200), Some(3650)).is_ok());
}
