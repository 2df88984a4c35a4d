mod minting;
mod renewing;
mod revoking;

use tally_events::{
    SessionId,
    session::{SessionEndReason, SessionEnded, SessionMethod, SessionStarted},
};

use super::*;
use crate::testing::{
    self, ADA, EVE, Fact, Given, after, by_session, by_token, eve_registered, fact, minted, minted_event,
    person, registered, reinstated, session, suspended, token,
};

const SESSION: CredentialId = CredentialId::Session(session(1));

/// Ada has an account, and then this happened.
fn given(history: impl IntoIterator<Item = Fact>) -> Given {
    testing::given([registered()].into_iter().chain(history))
}

fn days(count: i64) -> TimeDelta {
    TimeDelta::days(count)
}

/// Token `number` was minted by token `parent`.
fn minted_below(number: u32, parent: u32, expires: Option<i64>) -> Fact {
    fact(token(number), minted_event(CredentialId::Token(token(parent)), expires))
}

fn revoked(number: u32) -> Fact {
    fact(token(number), TokenRevoked { user_id: ADA, reason: RevocationReason::Requested })
}

fn session_started(id: SessionId, expires: i64) -> Fact {
    let event = SessionStarted {
        user_id: ADA,
        method: SessionMethod::EmailCode,
        minted_by: None,
        expires_at: after(days(expires)),
        address: None,
        user_agent: None,
        console: None,
    };
    fact(id, event)
}

fn session_ended(id: SessionId) -> Fact {
    fact(id, SessionEnded { user_id: ADA, reason: SessionEndReason::LoggedOut })
}

#[test]
fn a_token_is_live_until_it_expires_or_is_revoked() {
    let mut state = Token::INITIAL;
    assert_eq!(state.live(after(days(0))), None);
    state.evolve(&minted(1, Some(5)).recorded(1));
    assert!(state.live(after(days(5)) - TimeDelta::microseconds(1)).is_some());
    assert_eq!(state.live(after(days(5))), None);
    state.evolve(&fact(token(1), TokenRenewed { user_id: ADA, expires_at: after(days(9)) }).recorded(2));
    assert!(state.live(after(days(5))).is_some());
    state.evolve(&revoked(1).recorded(3));
    assert_eq!(state.live(after(days(0))), None);
}

#[test]
fn a_token_without_an_expiry_is_live_for_ever() {
    let mut state = Token::INITIAL;
    state.evolve(&minted(1, None).recorded(1));
    assert!(state.live(DateTime::<Utc>::MAX_UTC).is_some());
}
