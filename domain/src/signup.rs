//! Who may open an account.

use crate::email::EmailAddress;

/// The `ALLOW_SIGNUP` setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignupMode {
    #[default]
    Open,
    /// Only addresses with a pending invitation.
    Invited,
    Closed,
}

/// Mode and lists together. An entry of a list passes in every mode; where a list is set, nobody else does.
#[derive(Clone, Debug, Default)]
pub struct SignupPolicy {
    pub mode: SignupMode,
    /// Lower case, without `@`.
    pub domains: Vec<String>,
    /// Lower case.
    pub emails: Vec<String>,
}

impl SignupPolicy {
    /// Whether the address decides who may open an account. Then it must be theirs for certain.
    #[must_use]
    pub fn rests_on_the_address(&self) -> bool {
        self.mode != SignupMode::Open || self.lists_somebody()
    }

    const fn lists_somebody(&self) -> bool {
        !(self.domains.is_empty() && self.emails.is_empty())
    }

    /// Whether a new account may be opened for this address.
    #[must_use]
    pub fn admits(&self, email: &EmailAddress, invited: bool) -> bool {
        if !self.lists_somebody() {
            return match self.mode {
                SignupMode::Open => true,
                SignupMode::Invited => invited,
                SignupMode::Closed => false,
            };
        }
        self.emails.iter().any(|listed| listed == email.as_str())
            || self.domains.iter().any(|listed| listed == email.domain())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn only_where_everybody_may_sign_up_does_the_address_decide_nothing() {
        let listed = || vec!["example.org".to_owned()];
        assert!(!SignupPolicy::default().rests_on_the_address());
        for policy in [
            SignupPolicy { mode: SignupMode::Invited, ..SignupPolicy::default() },
            SignupPolicy { mode: SignupMode::Closed, ..SignupPolicy::default() },
            SignupPolicy { domains: listed(), ..SignupPolicy::default() },
            SignupPolicy { emails: vec!["ada@example.org".to_owned()], ..SignupPolicy::default() },
        ] {
            assert!(policy.rests_on_the_address(), "{policy:?}");
        }
    }

    #[rstest]
    #[case(SignupMode::Open, false, true)]
    #[case(SignupMode::Invited, false, false)]
    #[case(SignupMode::Invited, true, true)]
    #[case(SignupMode::Closed, true, false)]
    fn without_lists_the_mode_decides(
        #[case] mode: SignupMode,
        #[case] invited: bool,
        #[case] admitted: bool,
    ) {
        let policy = SignupPolicy { mode, ..SignupPolicy::default() };
        assert_eq!(policy.admits(&EmailAddress::parse("ada@example.org").unwrap(), invited), admitted);
    }

    #[rstest]
    #[case("ada@example.org", true)]
    #[case("bob@sub.example.org", false)]
    #[case("eve@elsewhere.net", true)]
    #[case("mal@elsewhere.net", false)]
    fn where_lists_are_set_only_they_decide(
        #[values(SignupMode::Open, SignupMode::Invited, SignupMode::Closed)] mode: SignupMode,
        #[case] email: &str,
        #[case] admitted: bool,
    ) {
        let policy = SignupPolicy {
            mode,
            domains: vec!["example.org".to_owned()],
            emails: vec!["eve@elsewhere.net".to_owned()],
        };
        assert_eq!(policy.admits(&EmailAddress::parse(email).unwrap(), true), admitted);
    }
}
