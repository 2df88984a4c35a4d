mod development_code;
mod issuing;
mod linking;
mod turning_away;
mod undeliverable;
mod verifying;

use rstest::rstest;

use tally_events::user::UserRegistered;

use super::*;
use crate::{
    session,
    testing::{self, ADA, Fact, Given, LOGIN, after, code, fact, given, registered, session},
};

const KEY: Key = Key::from_bytes([7; 32]);
const SALT: &str = "00112233445566778899aabbccddeeff";
const LIFETIME: TimeDelta = TimeDelta::days(30);

fn minutes(count: i64) -> TimeDelta {
    TimeDelta::minutes(count)
}

/// What code `number` says: six times its last digit.
fn digits(number: u32) -> Digits {
    Digits::from_number(number % 10 * 111_111)
}

fn wrong() -> Digits {
    Digits::from_number(123_456)
}

fn email() -> EmailAddress {
    EmailAddress::parse("Ada@example.org").unwrap()
}

fn origin() -> Origin {
    Origin { address: Some("192.0.2.7".to_owned()), user_agent: None }
}

/// Code `number` was made `at` this time.
fn issued(number: u32, at: TimeDelta) -> Fact {
    fact(LOGIN, issue_event(number, None, after(at))).at(at)
}

fn issue_event(number: u32, user_id: Option<UserId>, now: DateTime<Utc>) -> LoginCodeIssued {
    LoginCodeIssued {
        code_id: code(number),
        user_id,
        salt: Hidden::new(SALT),
        mac: digits(number).mac(&KEY, code(number), SALT),
        expires_at: now + minutes(10),
        email: Personal::clear("ada@example.org"),
        address: origin().address(),
        user_agent: None,
    }
}

fn refusal(number: u32, user_id: Option<UserId>, reason: RefusalReason) -> LoginCodeRefused {
    LoginCodeRefused { code_id: code(number), user_id, reason, address: origin().address(), user_agent: None }
}

/// Code `number` was guessed wrongly `count` times.
fn guessed(number: u32, count: usize, at: TimeDelta) -> Vec<Fact> {
    vec![fact(LOGIN, refusal(number, None, RefusalReason::WrongCode)).at(at); count]
}

fn verified(number: u32) -> Fact {
    fact(LOGIN, LoginCodeVerified { code_id: code(number), user_id: ADA, session_id: session(9) })
}

fn undeliverable(number: u32, at: TimeDelta) -> Fact {
    fact(LOGIN, LoginCodeUndeliverable { code_id: code(number), user_id: None }).at(at)
}

fn suspended() -> Vec<Fact> {
    vec![registered(), testing::suspended()]
}

/// Eight codes in two hours, the last at minute 105, and 30 wrong guesses from minute 0 on.
fn thirty_guesses() -> Vec<Fact> {
    let guesses = [4, 4, 4, 4, 4, 4, 4, 2];
    (1..)
        .zip(guesses)
        .flat_map(|(number, count)| {
            let at = minutes(i64::from(number - 1) * 15);
            [vec![issued(number, at)], guessed(number, count, at)].concat()
        })
        .collect()
}

fn issue(number: u32) -> IssueCode {
    IssueCode {
        login: LOGIN,
        code: code(number),
        user: None,
        email: email(),
        salt: Hidden::new(SALT),
        mac: digits(number).mac(&KEY, code(number), SALT),
        origin: origin(),
    }
}

fn verify(typed: Digits) -> VerifyCode {
    VerifyCode {
        login: LOGIN,
        email: email(),
        typed,
        development: None,
        key: KEY,
        user: ADA,
        known: false,
        may_sign_up: true,
        link: None,
        session: session(1),
        opens: Opens::Session { lifetime: LIFETIME },
        origin: origin(),
    }
}

/// Code `number` lets Ada in at `now`.
#[track_caller]
fn lets_in(story: &Given, number: u32, now: DateTime<Utc>, command: &VerifyCode, new: bool) {
    let expires_at = now + LIFETIME;
    let verified = LoginCodeVerified { code_id: code(number), user_id: ADA, session_id: session(1) };
    let mut events: Vec<(StreamId, Event)> = vec![(LOGIN.into(), verified.into())];
    if new {
        let (email, name) = (Personal::clear("ada@example.org"), Personal::clear("ada"));
        events.push((ADA.into(), UserRegistered { email, name }.into()));
    }
    let started = session::started(ADA, SessionMethod::EmailCode, None, expires_at, &origin());
    events.push((session(1).into(), started.into()));
    story.when(command).then(Verification::Verified { user: ADA, session: session(1), expires_at }, events);
}

/// The live code is refused for `reason`; the answer is `outcome`.
#[track_caller]
fn turns_away(
    story: &Given,
    command: &VerifyCode,
    user: Option<UserId>,
    reason: RefusalReason,
    outcome: Verification,
) {
    story.when(command).then(outcome, [(LOGIN.into(), refusal(1, user, reason).into())]);
}
