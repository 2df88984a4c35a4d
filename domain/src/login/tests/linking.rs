//! A code that came back together with an account elsewhere.

use super::*;

const ISSUER: &str = "https://issuer.example";

fn identity() -> Identity {
    Identity::new(ISSUER, "248289761001").unwrap()
}

fn with_link(typed: Digits) -> VerifyCode {
    VerifyCode { link: Some(identity()), ..verify(typed) }
}

/// What a right code does, from its own event to the session's.
fn events(now: DateTime<Utc>, on_the_account: Vec<Event>) -> Vec<(StreamId, Event)> {
    let verified = LoginCodeVerified { code_id: code(1), user_id: ADA, session_id: session(1) };
    let started = session::started(ADA, SessionMethod::EmailCode, None, now + LIFETIME, &origin());
    let mut events = vec![(LOGIN.into(), verified.into())];
    events.extend(on_the_account.into_iter().map(|event| (ADA.into(), event)));
    events.push((session(1).into(), started.into()));
    events
}

fn let_in(now: DateTime<Utc>) -> Verification {
    Verification::Verified { user: ADA, session: session(1), expires_at: now + LIFETIME }
}

#[test]
fn the_right_code_links_the_identity_to_the_account_in_the_same_commit() {
    let now = after(minutes(1));
    let linked = identity().linked(IdentityProof::EmailCode);
    given([registered(), issued(1, minutes(0))])
        .at(minutes(1))
        .when(&with_link(digits(1)))
        .then(let_in(now), events(now, vec![linked.into()]));
}

#[test]
fn an_account_that_the_code_opens_gets_the_identity_too() {
    let now = after(minutes(1));
    let (email, name) = (Personal::clear("ada@example.org"), Personal::clear("ada"));
    let linked = identity().linked(IdentityProof::EmailCode);
    given([issued(1, minutes(0))])
        .at(minutes(1))
        .when(&with_link(digits(1)))
        .then(let_in(now), events(now, vec![UserRegistered { email, name }.into(), linked.into()]));
}

#[test]
fn wrong_digits_link_nothing() {
    let story = given([registered(), issued(1, minutes(0))]);
    turns_away(&story, &with_link(wrong()), Some(ADA), RefusalReason::WrongCode, Verification::Wrong);
}

#[test]
fn without_a_live_code_nothing_is_linked() {
    given([registered()]).when(&with_link(digits(1))).unchanged(Verification::NoLiveCode);
    given([registered(), issued(1, minutes(0))])
        .at(minutes(10))
        .when(&with_link(digits(1)))
        .unchanged(Verification::NoLiveCode);
}

#[test]
fn the_right_code_of_a_suspended_account_links_nothing() {
    let story = given([suspended(), vec![issued(1, minutes(0))]].concat());
    let reason = RefusalReason::AccountSuspended;
    turns_away(&story, &with_link(digits(1)), Some(ADA), reason, Verification::AccountSuspended);
}

#[test]
fn the_right_code_of_somebody_who_may_not_sign_up_links_nothing() {
    let story = given([issued(1, minutes(0))]);
    let command = VerifyCode { may_sign_up: false, ..with_link(digits(1)) };
    turns_away(&story, &command, None, RefusalReason::SignupProhibited, Verification::SignupProhibited);
}
