mod minting;
mod renewing;
mod revoking;

use tally_events::{
    SessionId,
    session::{SessionEndReason, SessionEnded, SessionMethod, SessionStarted},
    user::{UserReinstated, UserSuspended},
};

use super::*;
use crate::testing::{ADA, EVE, Fact, after, by_session, by_token, fact, given, person, session, token};

const SESSION: CredentialId = CredentialId::Session(session(1));

fn days(count: i64) -> TimeDelta {
    TimeDelta::days(count)
}

/// The event of a token of Ada's that expires so many days after the story began.
fn minted_event(minted_by: CredentialId, expires: Option<i64>) -> TokenMinted {
    TokenMinted {
        kind: TokenKind::PersonalAccessToken,
        user_id: ADA,
        name: Personal::clear("laptop"),
        hash: "0ff1ce00".repeat(8),
        prefix: "mul_01234567".to_owned(),
        minted_by,
        expires_at: expires.map(|count| after(days(count))),
    }
}

/// Token `number` was minted by a session of Ada's.
fn minted(number: u32, expires: Option<i64>) -> Fact {
    fact(token(number), minted_event(SESSION, expires))
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
    state.evolve(&minted_event(SESSION, Some(5)).into());
    assert!(state.live(after(days(5)) - TimeDelta::microseconds(1)).is_some());
    assert_eq!(state.live(after(days(5))), None);
    state.evolve(&TokenRenewed { user_id: ADA, expires_at: after(days(9)) }.into());
    assert!(state.live(after(days(5))).is_some());
    state.evolve(&TokenRevoked { user_id: ADA, reason: RevocationReason::Requested }.into());
    assert_eq!(state.live(after(days(0))), None);
}

#[test]
fn a_token_without_an_expiry_is_live_for_ever() {
    let mut state = Token::INITIAL;
    state.evolve(&minted_event(SESSION, None).into());
    assert!(state.live(DateTime::<Utc>::MAX_UTC).is_some());
}
