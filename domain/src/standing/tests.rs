use chrono::TimeDelta;
use rstest::rstest;
use tally_events::{
    session::{SessionEndReason, SessionEnded, SessionMethod},
    token::{RevocationReason, TokenRevoked},
};

use super::*;
use crate::{
    session::{Origin, started},
    testing::{
        ADA, EVE, Fact, START, after, eve_registered, fact, log, minted, registered, reinstated, session,
        suspended, token,
    },
};

const SESSION: CredentialId = CredentialId::Session(session(1));
const TOKEN: CredentialId = CredentialId::Token(token(1));

/// Both credentials of Ada's come to be, for five days.
fn made() -> Vec<Fact> {
    let event = started(ADA, SessionMethod::EmailCode, None, after(TimeDelta::days(5)), &Origin::default());
    vec![fact(session(1), event), minted(1, Some(5))]
}

/// Both are revoked.
fn revoked() -> Vec<Fact> {
    vec![
        fact(session(1), SessionEnded { user_id: ADA, reason: SessionEndReason::LoggedOut }),
        fact(token(1), TokenRevoked { user_id: ADA, reason: RevocationReason::Requested }),
    ]
}

fn world(history: &[Vec<Fact>]) -> World {
    let reads = [ADA.into(), EVE.into(), stream_of(SESSION), stream_of(TOKEN)];
    World::given(&reads, &log(history.concat()))
}

#[rstest]
#[case::of_an_open_account(vec![vec![registered()], made()])]
#[case::made_after_a_suspension(vec![vec![registered(), suspended(), reinstated()], made()])]
fn a_credential_is_good_until_it_expires(
    #[case] history: Vec<Vec<Fact>>,
    #[values(SESSION, TOKEN)] credential: CredentialId,
) {
    let (world, expiry) = (world(&history), after(TimeDelta::days(5)));
    assert!(world.good(ADA, credential, START));
    assert!(world.good(ADA, credential, expiry - TimeDelta::microseconds(1)));
    assert!(!world.good(ADA, credential, expiry));
}

#[rstest]
#[case::never_made(vec![vec![registered()]])]
#[case::revoked(vec![vec![registered()], made(), revoked()])]
#[case::of_no_account(vec![made()])]
#[case::suspended(vec![vec![registered()], made(), vec![suspended()]])]
#[case::made_while_suspended(vec![vec![registered(), suspended()], made()])]
#[case::from_before_a_suspension(vec![vec![registered()], made(), vec![suspended(), reinstated()]])]
#[case::from_during_a_suspension(vec![vec![registered(), suspended()], made(), vec![reinstated()]])]
#[case::from_before_the_second_suspension(vec![
    vec![registered(), suspended(), reinstated()], made(), vec![suspended(), reinstated()],
])]
fn it_is_not_good(#[case] history: Vec<Vec<Fact>>, #[values(SESSION, TOKEN)] credential: CredentialId) {
    assert!(!world(&history).good(ADA, credential, START));
}

#[rstest]
fn it_is_good_for_its_owner_alone(#[values(SESSION, TOKEN)] credential: CredentialId) {
    assert!(!world(&[vec![registered(), eve_registered()], made()]).good(EVE, credential, START));
}

/// As `credentials_after` of the table of users.
#[test]
fn an_account_remembers_where_it_was_last_suspended_or_reinstated() {
    let mut user = User::INITIAL;
    for (fact, position, expected) in [(registered(), 3, 0), (suspended(), 5, 5), (reinstated(), 8, 8)] {
        user.evolve(&fact.recorded(position));
        assert_eq!(user.credentials_after, Position(expected));
    }
    assert!(!user.admits(Position(8)) && user.admits(Position(9)));
}
