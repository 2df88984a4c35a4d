use rstest::rstest;
use tally_events::{Event, Personal, user::UserRegistered};

use super::*;
use crate::{
    claim,
    testing::{ADA, EVE, Fact, after, fact, given, registered, reinstated, session, suspended},
};

const LIFETIME: TimeDelta = TimeDelta::days(30);

fn identity() -> Identity {
    Identity::new("https://issuer.example", "248289761001").unwrap()
}

fn assertion(email: &str, hosted_domain: Option<&str>) -> Assertion {
    Assertion::new(identity(), EmailAddress::parse(email).unwrap(), Some(" Ada Lovelace "), hosted_domain)
}

fn origin() -> Origin {
    Origin { address: Some("192.0.2.7".to_owned()), user_agent: None }
}

/// Ada comes from an issuer that is not authoritative, where everybody may sign up.
fn comes(account: Account) -> LogInByIdentity {
    LogInByIdentity {
        assertion: assertion("ada@example.org", None),
        account,
        authoritative: false,
        may_sign_up: true,
        signup_rests_on_address: false,
        session: session(1),
        lifetime: LIFETIME,
        origin: origin(),
    }
}

fn linked(proof: IdentityProof) -> Fact {
    fact(ADA, identity().linked(proof))
}

fn logged_in() -> Entry {
    Entry::LoggedIn { user: ADA, session: session(1), expires_at: after(LIFETIME) }
}

/// The session's event after those of the account.
fn events(on_the_account: Vec<Event>) -> Vec<(StreamId, Event)> {
    let started = session::started(ADA, SessionMethod::Identity, None, after(LIFETIME), &origin());
    let mut events: Vec<_> = on_the_account.into_iter().map(|event| (ADA.into(), event)).collect();
    events.push((session(1).into(), started.into()));
    events
}

mod somebody_new {
    use super::*;

    #[test]
    fn gets_an_account_that_the_identity_opens_and_a_session() {
        let (email, name) = (Personal::clear("ada@example.org"), Personal::clear("Ada Lovelace"));
        let linked = identity().linked(IdentityProof::Registration);
        given([])
            .when(&comes(Account::New(ADA)))
            .then(logged_in(), events(vec![UserRegistered { email, name }.into(), linked.into()]));
    }

    #[test]
    fn without_a_name_is_called_like_the_address() {
        let command = LogInByIdentity {
            assertion: Assertion { name: None, ..assertion("ada@example.org", None) },
            ..comes(Account::New(ADA))
        };
        let (email, name) = (Personal::clear("ada@example.org"), Personal::clear("ada"));
        let linked = identity().linked(IdentityProof::Registration);
        given([])
            .when(&command)
            .then(logged_in(), events(vec![UserRegistered { email, name }.into(), linked.into()]));
    }

    #[test]
    fn is_turned_away_where_signup_is_prohibited_whoever_vouches() {
        for authoritative in [false, true] {
            let command = LogInByIdentity { may_sign_up: false, authoritative, ..comes(Account::New(ADA)) };
            given([]).when(&command).unchanged(Entry::SignupProhibited);
        }
    }
}

mod somebody_new_where_the_address_decides {
    use super::*;

    fn comes(authoritative: bool) -> LogInByIdentity {
        LogInByIdentity { signup_rests_on_address: true, authoritative, ..super::comes(Account::New(ADA)) }
    }

    #[test]
    fn has_to_prove_it_where_nobody_is_authoritative() {
        given([]).when(&comes(false)).unchanged(Entry::EmailVerificationRequired);
    }

    #[test]
    fn gets_an_account_on_the_word_of_who_is() {
        let (email, name) = (Personal::clear("ada@example.org"), Personal::clear("Ada Lovelace"));
        let linked = identity().linked(IdentityProof::Registration);
        given([])
            .when(&comes(true))
            .then(logged_in(), events(vec![UserRegistered { email, name }.into(), linked.into()]));
    }

    /// Before that nobody learns whether the address is on a list, was invited, or has an account.
    #[test]
    fn is_turned_away_only_when_it_is_proven() {
        for (authoritative, entry) in
            [(false, Entry::EmailVerificationRequired), (true, Entry::SignupProhibited)]
        {
            let command = LogInByIdentity { may_sign_up: false, ..comes(authoritative) };
            given([]).when(&command).unchanged(entry);
        }
    }
}

mod somebody_known_by_the_identity {
    use super::*;

    #[rstest]
    #[case(IdentityProof::Registration)]
    #[case(IdentityProof::Authority)]
    #[case(IdentityProof::EmailCode)]
    fn gets_a_session_and_nothing_else_happens(#[case] proof: IdentityProof) {
        given([registered(), linked(proof)])
            .when(&comes(Account::Linked(ADA)))
            .then(logged_in(), events(vec![]));
    }

    #[test]
    fn comes_in_where_signup_is_prohibited_and_by_another_address_too() {
        let command = LogInByIdentity {
            may_sign_up: false,
            assertion: assertion("ada@elsewhere.net", None),
            ..comes(Account::Linked(ADA))
        };
        given([registered(), linked(IdentityProof::EmailCode)])
            .when(&command)
            .then(logged_in(), events(vec![]));
    }

    #[test]
    fn is_turned_away_while_suspended() {
        let history = [registered(), linked(IdentityProof::EmailCode), suspended()];
        given(history.clone()).when(&comes(Account::Linked(ADA))).unchanged(Entry::AccountSuspended);
        given(history.into_iter().chain([reinstated()]))
            .when(&comes(Account::Linked(ADA)))
            .then(logged_in(), events(vec![]));
    }

    #[test]
    fn is_not_made_anew_when_the_account_is_gone() {
        given([]).when(&comes(Account::Linked(ADA))).refused(IdentityRefusal::Gone);
    }
}

mod somebody_with_the_address_of_an_account {
    use super::*;

    #[test]
    fn is_linked_on_the_word_of_who_is_authoritative() {
        let command = LogInByIdentity { authoritative: true, ..comes(Account::OfAddress(ADA)) };
        given([registered()])
            .when(&command)
            .then(logged_in(), events(vec![identity().linked(IdentityProof::Authority).into()]));
    }

    #[test]
    fn has_to_prove_the_address_where_nobody_is() {
        given([registered()])
            .when(&comes(Account::OfAddress(ADA)))
            .unchanged(Entry::EmailVerificationRequired);
    }

    #[test]
    fn does_not_learn_that_the_account_is_suspended_before_that() {
        given([registered(), suspended()])
            .when(&comes(Account::OfAddress(ADA)))
            .unchanged(Entry::EmailVerificationRequired);
    }

    #[test]
    fn is_turned_away_and_not_linked_while_the_account_is_suspended() {
        let command = LogInByIdentity { authoritative: true, ..comes(Account::OfAddress(ADA)) };
        given([registered(), suspended()]).when(&command).unchanged(Entry::AccountSuspended);
    }

    #[test]
    fn is_not_given_a_new_account_when_that_one_is_gone() {
        for authoritative in [false, true] {
            let command = LogInByIdentity { authoritative, ..comes(Account::OfAddress(ADA)) };
            given([]).when(&command).refused(IdentityRefusal::Gone);
        }
    }
}

#[test]
fn the_account_of_an_identity_goes_before_that_of_its_address() {
    assert_eq!(Account::of(Some(ADA), Some(EVE)), Account::Linked(ADA));
    assert_eq!(Account::of(Some(ADA), None), Account::Linked(ADA));
    assert_eq!(Account::of(None, Some(EVE)), Account::OfAddress(EVE));
    assert!(matches!(Account::of(None, None), Account::New(_)));
}

#[rstest]
#[case::its_own_domain(&["gmail.com", "googlemail.com"], true, "ada@googlemail.com", None, true)]
#[case::another_domain(&["gmail.com"], true, "ada@example.org", None, false)]
#[case::a_domain_below(&["example.org"], true, "ada@sub.example.org", None, false)]
#[case::a_domain_above(&["sub.example.org"], true, "ada@example.org", None, false)]
#[case::a_domain_that_ends_like_it(&["example.org"], true, "ada@badexample.org", None, false)]
#[case::the_hosted_domain(&[], true, "ada@example.org", Some("Example.org"), true)]
#[case::another_hosted_domain(&[], true, "ada@example.org", Some("example.net"), false)]
#[case::an_empty_hosted_domain(&[], true, "ada@example.org", Some(""), false)]
#[case::a_hosted_domain_where_that_says_nothing(&[], false, "ada@example.org", Some("example.org"), false)]
fn authority_is_for_a_domain(
    #[case] domains: &[&str],
    #[case] hosted_domains: bool,
    #[case] email: &str,
    #[case] hosted_domain: Option<&str>,
    #[case] expected: bool,
) {
    let domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
    let authority = Authority { domains, hosted_domains };
    assert_eq!(authority.speaks_for(&assertion(email, hosted_domain)), expected);
}

#[test]
fn an_identity_is_one_of_its_issuer() {
    let one = Identity::new("https://one.example", "1").unwrap();
    for (issuer, subject) in [("https://two.example", "1"), ("https://one.example", "2")] {
        assert_ne!(one.unique(), Identity::new(issuer, subject).unwrap().unique());
    }
    let event = Event::from(one.linked(IdentityProof::EmailCode));
    let [taken] = &claim::taken(&event)[..] else { panic!("a clear event takes one thing") };
    assert_eq!((taken.namespace, &*taken.value), (claim::Namespace::UserIdentity, &*one.unique()));
}

#[test]
fn what_names_nobody_is_no_identity() {
    let long = "a".repeat(SUBJECT_CHARACTERS_MAX + 1);
    for subject in ["", "a\nb", "a\0", &long] {
        assert_eq!(Identity::new("https://issuer.example", subject), Err(IdentityError::Subject));
    }
    for issuer in ["", "https://issuer.example\n1"] {
        assert_eq!(Identity::new(issuer, "1"), Err(IdentityError::Issuer));
    }
    assert!(Identity::new("https://issuer.example", &long[1..]).is_ok());
}

#[rstest]
#[case(Some("  Ada "), Some("Ada"))]
#[case(Some(" "), None)]
#[case(Some("Ada\u{7}"), None)]
#[case(None, None)]
fn a_name_that_nobody_could_give_themselves_is_left_out(
    #[case] said: Option<&str>,
    #[case] kept: Option<&str>,
) {
    let email = EmailAddress::parse("ada@example.org").unwrap();
    assert_eq!(Assertion::new(identity(), email, said, None).name.as_deref(), kept);
}
