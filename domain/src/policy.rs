//! Who may do what, as data. What no row allows is denied.

use tally_events::Role;

use crate::{
    credential::CredentialKind,
    membership::Membership,
    principal::{Principal, PrincipalKind},
};

/// Everything that can be asked of the authority, commands and queries alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    IssueLoginCode,
    VerifyLoginCode,
    DeclareLoginCodeUndeliverable,
    LogInByIdentity,
    RefreshSession,
    RevokeRefreshToken,
    ListSessions,
    EndSession,
    EndOtherSessions,
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
    CreateWorkspace,
    ListWorkspaces,
    ReadWorkspace,
    ChangeWorkspace,
    DeleteWorkspace,
    ListMembers,
    ChangeMemberRole,
    RemoveMember,
    LeaveWorkspace,
    InviteMember,
    ListInvitations,
    RevokeInvitation,
    ListOwnInvitations,
    AnswerInvitation,
    CreateShareLink,
    ReadShareLink,
    RevokeShareLink,
    JoinByShareLink,
    ReadWorkspaceAuditTrail,
    FollowWorkspace,
}

/// One row: an action, who may, and what everyone else is told.
pub struct Rule {
    pub action: Action,
    pub allowed: &'static [PrincipalKind],
    /// The least role in the workspace it is about; none: it is about no workspace, or about one that
    /// the person is not in yet.
    pub role: Option<Role>,
    /// The refusal's words: what is missing.
    pub needs: &'static str,
}

const ANONYMOUS: PrincipalKind = PrincipalKind::Anonymous;
const OPERATOR: PrincipalKind = PrincipalKind::Operator;
const SERVER: PrincipalKind = PrincipalKind::Server;
const SESSION: PrincipalKind = PrincipalKind::Credential(CredentialKind::Session);
const CONSOLE: PrincipalKind = PrincipalKind::Credential(CredentialKind::ConsoleSession);
const PAT: PrincipalKind = PrincipalKind::Credential(CredentialKind::PersonalAccessToken);

const PERSON: &str = "a person's session or personal access token is required";
const SESSION_ONLY: &str = "a session is required";
const OPERATOR_ONLY: &str = "an operator on the machine is required";
const SERVER_ONLY: &str = "only the server itself knows this";
const LOGIN_DOOR: &str = "the login routes take no credential";
const REFRESH_TOKEN: &str = "a refresh token is its own proof and takes no credential beside";

/// The table.
pub const RULES: [Rule; 41] = [
    rule(Action::IssueLoginCode, &[ANONYMOUS], LOGIN_DOOR),
    rule(Action::VerifyLoginCode, &[ANONYMOUS], LOGIN_DOOR),
    rule(Action::DeclareLoginCodeUndeliverable, &[SERVER], SERVER_ONLY),
    rule(Action::LogInByIdentity, &[ANONYMOUS], LOGIN_DOOR),
    rule(Action::RefreshSession, &[ANONYMOUS], REFRESH_TOKEN),
    rule(Action::RevokeRefreshToken, &[ANONYMOUS], REFRESH_TOKEN),
    rule(Action::ListSessions, &[SESSION, CONSOLE, PAT], PERSON),
    rule(Action::EndSession, &[SESSION, CONSOLE, PAT], PERSON),
    rule(Action::EndOtherSessions, &[SESSION, CONSOLE, PAT], PERSON),
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
    rule(Action::CreateWorkspace, &[SESSION, CONSOLE, PAT], PERSON),
    rule(Action::ListWorkspaces, &[SESSION, CONSOLE, PAT], PERSON),
    within(Action::ReadWorkspace, Role::Member),
    within(Action::ChangeWorkspace, Role::Admin),
    within(Action::DeleteWorkspace, Role::Owner),
    within(Action::ListMembers, Role::Member),
    within(Action::ChangeMemberRole, Role::Admin),
    within(Action::RemoveMember, Role::Admin),
    within(Action::LeaveWorkspace, Role::Member),
    within(Action::InviteMember, Role::Admin),
    within(Action::ListInvitations, Role::Admin),
    within(Action::RevokeInvitation, Role::Admin),
    rule(Action::ListOwnInvitations, &[SESSION, CONSOLE, PAT], PERSON),
    rule(Action::AnswerInvitation, &[SESSION, CONSOLE, PAT], PERSON),
    within(Action::CreateShareLink, Role::Admin),
    within(Action::ReadShareLink, Role::Admin),
    within(Action::RevokeShareLink, Role::Admin),
    rule(Action::JoinByShareLink, &[SESSION, CONSOLE, PAT], PERSON),
    within(Action::ReadWorkspaceAuditTrail, Role::Admin),
    within(Action::FollowWorkspace, Role::Member),
];

const fn rule(action: Action, allowed: &'static [PrincipalKind], needs: &'static str) -> Rule {
    Rule { action, allowed, role: None, needs }
}

/// What members of a workspace do there, from this role on.
const fn within(action: Action, role: Role) -> Rule {
    Rule { action, allowed: &[SESSION, CONSOLE, PAT], role: Some(role), needs: PERSON }
}

/// The least role for an action in a workspace; none: no role allows it.
#[must_use]
pub fn role_needed(action: Action) -> Option<Role> {
    RULES.iter().find(|rule| rule.action == action)?.role
}

/// Something policy decides on: every command and every query.
pub trait Act {
    const ACTION: Action;
}

/// A command or query together with the principal that may issue it.
///
/// Only [`authorize`] and [`authorize_within`] make one, and the store and the queries take nothing else, so code that
/// skips policy does not compile.
#[derive(Debug)]
pub struct Authorized<T> {
    principal: Principal,
    membership: Option<Membership>,
    inner: T,
}

impl<T> Authorized<T> {
    #[must_use]
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// As whom in which workspace; none for what is about no workspace.
    #[must_use]
    pub const fn membership(&self) -> Option<&Membership> {
        self.membership.as_ref()
    }

    #[must_use]
    pub const fn get(&self) -> &T {
        &self.inner
    }
}

/// Why policy said no.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Denied {
    /// Another credential is needed.
    #[error("{needs}")]
    Credential { action: Action, needs: &'static str },
    /// The credential would do; the role in the workspace is too low.
    #[error("insufficient permissions")]
    Role { action: Action },
}

/// Lets `principal` issue `inner`, or says what is missing.
///
/// # Errors
/// [`Denied`] when no row of the table allows it.
pub fn authorize<T: Act>(principal: Principal, inner: T) -> Result<Authorized<T>, Denied> {
    allowed(principal, None, inner)
}

/// The same for what is about a workspace, by a member of it.
///
/// # Errors
/// [`Denied`] when no row of the table allows it, or the role is too low.
pub fn authorize_within<T: Act>(
    principal: Principal,
    membership: Membership,
    inner: T,
) -> Result<Authorized<T>, Denied> {
    allowed(principal, Some(membership), inner)
}

fn allowed<T: Act>(
    principal: Principal,
    membership: Option<Membership>,
    inner: T,
) -> Result<Authorized<T>, Denied> {
    let denied = |needs| Denied::Credential { action: T::ACTION, needs };
    let rule = RULES
        .iter()
        .find(|rule| rule.action == T::ACTION)
        .ok_or_else(|| denied("no rule allows this action"))?;
    if !rule.allowed.contains(&principal.kind()) {
        return Err(denied(rule.needs));
    }
    let own = membership.filter(|membership| Some(membership.user) == principal.user());
    let suffices = |needed| own.is_some_and(|membership| membership.role >= needed);
    if rule.role.is_none_or(suffices) {
        Ok(Authorized { principal, membership: own, inner })
    } else {
        Err(Denied::Role { action: T::ACTION })
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

    struct Change;
    impl Act for Change {
        const ACTION: Action = Action::ChangeWorkspace;
    }

    fn ada() -> Principal {
        crate::testing::by_session(crate::testing::session(1))
    }

    fn membership(user: tally_events::UserId, role: Role) -> Membership {
        Membership { workspace: crate::testing::WORKSPACE, user, role }
    }

    #[test]
    fn in_a_workspace_the_role_decides() {
        use crate::testing::ADA;
        for (role, allowed) in [(Role::Member, false), (Role::Admin, true), (Role::Owner, true)] {
            let authorized = authorize_within(ada(), membership(ADA, role), Change);
            assert_eq!(authorized.is_ok(), allowed, "{role:?}");
        }
        let denied = authorize_within(ada(), membership(ADA, Role::Member), Change).map(|_| ()).unwrap_err();
        assert_eq!(denied.to_string(), "insufficient permissions");
    }

    #[test]
    fn nobody_acts_in_a_workspace_without_a_membership_of_their_own() {
        use crate::testing::EVE;
        assert!(authorize(ada(), Change).is_err());
        assert!(authorize_within(ada(), membership(EVE, Role::Owner), Change).is_err());
        assert!(authorize_within(Principal::Operator, membership(EVE, Role::Owner), Change).is_err());
    }
}
