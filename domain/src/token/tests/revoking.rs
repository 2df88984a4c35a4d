use rstest::rstest;

use super::*;

fn revoke(root: u32, line: impl IntoIterator<Item = u32>) -> RevokeTokens {
    let root = CredentialId::Token(token(root));
    RevokeTokens { root, line: line.into_iter().map(token).collect() }
}

fn gone(number: u32, reason: RevocationReason) -> (StreamId, Event) {
    (token(number).into(), TokenRevoked { user_id: ADA, reason }.into())
}

fn requested(number: u32) -> (StreamId, Event) {
    gone(number, RevocationReason::Requested)
}

/// Token `number` went with its line, whose root was token 1.
fn with_its_line(number: u32) -> (StreamId, Event) {
    gone(number, RevocationReason::Line(token(1)))
}

fn foreign(number: u32) -> Fact {
    fact(token(number), TokenMinted { user_id: EVE, ..minted_event(SESSION, None) })
}

#[rstest]
#[case::by_session(by_session(session(1)))]
#[case::by_another_token(by_token(token(2)))]
#[case::by_itself(by_token(token(1)))]
fn its_owner_revokes_a_token(#[case] principal: Principal) {
    let story = given([minted(1, None), minted(2, None)]).by(principal);
    story.when(&revoke(1, [])).then(vec![token(1)], [requested(1)]);
}

/// To revoke is always safe, so it is not asked whether the credential shown is still good.
#[rstest]
#[case::revoked(vec![revoked(2)])]
#[case::suspended(vec![suspended()])]
#[case::from_before_a_suspension(vec![suspended(), reinstated()])]
fn a_credential_that_ended_a_moment_ago_still_revokes(#[case] then: Vec<Fact>) {
    let story = given([vec![minted(1, None), minted(2, None)], then].concat()).by(by_token(token(2)));
    story.when(&revoke(1, [])).then(vec![token(1)], [requested(1)]);
}

#[test]
fn an_expired_token_is_revoked_too() {
    let story = given([minted(1, Some(5))]).by(by_session(session(1))).at(days(6));
    story.when(&revoke(1, [])).then(vec![token(1)], [requested(1)]);
}

#[rstest]
#[case::unknown(vec![])]
#[case::foreign(vec![foreign(1)])]
#[case::already_revoked(vec![minted(1, None), revoked(1)])]
fn otherwise_nothing_happens(#[case] history: Vec<Fact>) {
    given(history).by(by_session(session(1))).when(&revoke(1, [])).unchanged(vec![]);
}

#[test]
fn a_whole_line_goes_and_each_says_why() {
    let history = [minted(1, None), minted_below(2, 1, None), minted_below(3, 2, Some(9))];
    let story = given(history).by(by_session(session(1)));
    let all = vec![token(1), token(2), token(3)];
    story.when(&revoke(1, [2, 3])).then(all, [requested(1), with_its_line(2), with_its_line(3)]);
}

#[test]
fn of_a_line_only_what_is_left_goes() {
    let history =
        [minted(1, None), revoked(1), minted_below(2, 1, None), minted_below(3, 2, None), revoked(3)];
    let story = given(history).by(by_session(session(1)));
    story.when(&revoke(1, [2, 3])).then(vec![token(2)], [with_its_line(2)]);
}

#[test]
fn foreign_and_unknown_tokens_in_a_line_are_left_alone() {
    let story = given([minted(1, None), foreign(2)]).by(by_session(session(1)));
    story.when(&revoke(1, [2, 3])).then(vec![token(1)], [requested(1)]);
}

#[test]
fn a_token_named_twice_is_revoked_once() {
    let story = given([minted(1, None), minted_below(2, 1, None)]).by(by_session(session(1)));
    story.when(&revoke(1, [1, 2, 1, 2])).then(vec![token(1), token(2)], [requested(1), with_its_line(2)]);
}

#[rstest]
#[case::nobody(Principal::Anonymous)]
#[case::an_operator(Principal::Operator)]
fn only_a_person_revokes(#[case] principal: Principal) {
    given([minted(1, None)]).by(principal).when(&revoke(1, [])).refused(TokenRefusal::NotAPerson);
}

/// The store waits for every replica, also when it was already so.
#[test]
fn success_asserts_a_revocation() {
    const { assert!(RevokeTokens::REVOKES && !MintToken::REVOKES && !RenewToken::REVOKES) };
}

/// What an ended session had minted says whose it was; what is somebody else's, and what is gone, stays as
/// it is.
#[test]
fn what_a_session_minted_goes_with_the_session() {
    let command =
        RevokeTokens { root: CredentialId::Session(session(7)), line: [1, 2, 3, 1].map(token).to_vec() };
    let reason = RevocationReason::Session(session(7));
    given([minted(1, None), revoked(1), minted(2, None), foreign(3)])
        .by(by_session(session(1)))
        .when(&command)
        .then(vec![token(2)], [gone(2, reason)]);
    given([minted(2, None)])
        .by(by_session(session(1)))
        .when(&RevokeTokens { line: vec![], ..command })
        .unchanged(vec![]);
}
