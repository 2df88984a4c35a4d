//! Who may do what, as data. What no row allows is denied.

use crate::{
    credential::CredentialKind,
    principal::{Principal, PrincipalKind},
};

/// Everything that can be asked of the authority, commands and queries alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    IssueLoginCode,
    VerifyLoginCode,
    EndSession,
    StartCommandLineSession,
    MintPersonalAccessToken,
    RenewPersonalAccessToken,
    RevokePersonalAccessToken,
    ListPersonalAccessTokens,
    ReadProfile,
    ChangeProfile,
    DescribeCredential,
    EnterByProxy,
    ReadAuditTrail,
    SuspendUser,
    ReinstateUser,
}

/// One row: an action, who may, and what everyone else is told.
pub struct Rule {
    pub action: Action,
    pub allowed: &'static [PrincipalKind],
    /// The refusal's words: what is missing.
    pub needs: &'static str,
}

const ANONYMOUS: PrincipalKind = PrincipalKind::Anonymous;
const OPERATOR: PrincipalKind = PrincipalKind::Operator;
const SESSION: PrincipalKind = PrincipalKind::Credential(CredentialKind::Session);
const CONSOLE: PrincipalKind = PrincipalKind::Credential(CredentialKind::ConsoleSession);
const PAT: PrincipalKind = PrincipalKind::Credential(CredentialKind::PersonalAccessToken);

const PERSON: &str = "a person's session or personal access token is required";
const SESSION_ONLY: &str = "a session is required";
const OPERATOR_ONLY: &str = "an operator on the machine is required";
const LOGIN_DOOR: &str = "the login routes take no credential";

/// The table.
pub const RULES: [Rule; 15] = [
    rule(Action::IssueLoginCode, &[ANONYMOUS], LOGIN_DOOR),
    rule(Action::VerifyLoginCode, &[ANONYMOUS], LOGIN_DOOR),
    rule(Action::EndSession, &[SESSION, CONSOLE], SESSION_ONLY),
    rule(Action::StartCommandLineSession, &[SESSION], SESSION_ONLY),
    rule(Action::MintPersonalAccessToken, &[SESSION, CONSOLE, PAT], PERSON),
    rule(Action::RenewPersonalAccessToken, &[PAT], "only personal access tokens can be renewed"),
    rule(Action::RevokePersonalAccessToken, &[SESSION, CONSOLE, PAT], PERSON),
    rule(Action::ListPersonalAccessTokens, &[SESSION, CONSOLE, PAT], PERSON),
    rule(Action::ReadProfile, &[SESSION, CONSOLE, PAT], PERSON),
    rule(Action::ChangeProfile, &[SESSION, CONSOLE, PAT], PERSON),
    rule(Action::DescribeCredential, &[SESSION, CONSOLE, PAT], PERSON),
    rule(Action::EnterByProxy, &[SESSION, CONSOLE, PAT], PERSON),
    rule(Action::ReadAuditTrail, &[SESSION, CONSOLE, PAT], PERSON),
    rule(Action::SuspendUser, &[OPERATOR], OPERATOR_ONLY),
    rule(Action::ReinstateUser, &[OPERATOR], OPERATOR_ONLY),
];

const fn rule(action: Action, allowed: &'static [PrincipalKind], needs: &'static str) -> Rule {
    Rule { action, allowed, needs }
}

/// Something policy decides on: every command and every query.
pub trait Act {
    const ACTION: Action;
}

/// A command or query together with the principal that may issue it.
///
/// Only [`authorize`] makes one, and the store and the queries take nothing else, so code that
/// skips policy does not compile.
#[derive(Debug)]
pub struct Authorized<T> {
    principal: Principal,
    inner: T,
}

impl<T> Authorized<T> {
    #[must_use]
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    #[must_use]
    pub const fn get(&self) -> &T {
        &self.inner
    }
}

/// Why policy said no.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{needs}")]
pub struct Denied {
    pub action: Action,
    pub needs: &'static str,
}

/// Lets `principal` issue `inner`, or says what is missing.
///
/// # Errors
/// [`Denied`] when no row of the table allows it.
pub fn authorize<T: Act>(principal: Principal, inner: T) -> Result<Authorized<T>, Denied> {
    let denied = |needs| Denied { action: T::ACTION, needs };
    let rule = RULES
        .iter()
        .find(|rule| rule.action == T::ACTION)
        .ok_or_else(|| denied("no rule allows this action"))?;
    if rule.allowed.contains(&principal.kind()) {
        Ok(Authorized { principal, inner })
    } else {
        Err(denied(rule.needs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::{Holder, KINDS};

    #[test]
    fn each_action_has_one_row() {
        for (index, rule) in RULES.iter().enumerate() {
            assert_eq!(rule.action as usize, index, "{:?} stands out of order", rule.action);
        }
    }

    /// The contract's list of what a machine credential may never do; in the original, a task
    /// token could mint its owner's personal access token.
    #[test]
    fn a_machine_credential_may_do_nothing_with_a_persons_credentials() {
        let machines = KINDS.iter().filter(|row| row.holder == Holder::Machine);
        for machine in machines {
            for rule in RULES {
                let kind = PrincipalKind::Credential(machine.kind);
                assert!(!rule.allowed.contains(&kind), "{:?} may {:?}", machine.kind, rule.action);
            }
        }
    }

    #[test]
    fn a_query_by_nobody_is_denied() {
        struct Read;
        impl Act for Read {
            const ACTION: Action = Action::ReadAuditTrail;
        }
        let denied = authorize(Principal::Anonymous, Read).map(|_| ()).unwrap_err();
        assert_eq!(denied.to_string(), PERSON);
    }
}
