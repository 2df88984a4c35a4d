use super::parse;
use crate::client::login::Way;
use crate::client::{Command, ExitCode, Failure, LoginArgs};

fn login(words: &[&str]) -> LoginArgs {
    match parse(&[&["login"], words].concat()).expect("it parses").command {
        Command::Login(args) => args,
        other => panic!("{other:?}"),
    }
}

fn given(words: &[&str]) -> String {
    match login(words).way().expect("a way") {
        Way::Token(token) => token.expose().to_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn contract_login_token_with_a_value_is_taken_in_both_spellings() {
    assert_eq!(given(&["--token", "mul_abc"]), "mul_abc");
    assert_eq!(given(&["--token=mul_abc"]), "mul_abc");
    assert_eq!(given(&["--token= mul_abc "]), "mul_abc");
}

#[test]
fn contract_login_token_without_a_value_asks() {
    for words in [&["--token"][..], &["--token="], &["--token", ""], &["--token=  "], &["--token", "--json"]]
    {
        assert!(matches!(login(words).way(), Ok(Way::AskToken)), "{words:?}");
    }
}

#[test]
fn contract_login_token_with_something_behind_it_is_an_error_that_repeats_nothing() {
    for words in [&["--token", "mul_abc", "rest"][..], &["--token=mul_abc", "rest"], &["mul_abc"]] {
        let failure = login(words).way().expect_err("refused");
        assert_eq!(failure.exit_code(), ExitCode::BadInput);
        let text = failure.to_string();
        assert!(!text.contains("mul_abc") && !text.contains("rest"), "{text}");
    }
}

#[test]
fn the_other_ways_to_log_in() {
    assert!(matches!(login(&[]).way(), Ok(Way::Code { email: None })));
    assert!(
        matches!(login(&["--email", "a@b"]).way(), Ok(Way::Code { email: Some(email) }) if email == "a@b")
    );
    assert!(matches!(login(&["--with-token"]).way(), Ok(Way::ReadToken)));
    assert!(parse(&["login", "--with-token", "--token", "x"]).is_err());
    assert!(parse(&["login", "--email", "a@b", "--token", "x"]).is_err());
}

#[test]
fn arguments_do_not_format_secrets() {
    let line = parse(&["login", "--token", "mul_abc", "mul_def"]).expect("it parses");
    let text = format!("{line:?}");
    assert!(!text.contains("mul_"), "{text}");
    let line = parse(&["token", "revoke", "mul_abc"]).expect("it parses");
    assert!(!format!("{line:?}").contains("mul_"));
}

#[test]
fn a_command_line_that_is_not_understood_is_bad_input_and_help_is_not() {
    for words in [
        &["audit", "--limit", "0"][..],
        &["audit", "--limit", "201"],
        &["nothing"],
        &["--profile", "../x", "login"],
    ] {
        assert_eq!(ExitCode::from(&parse(words).expect_err("refused")), ExitCode::BadInput, "{words:?}");
    }
    for days in ["0", "3651", "-1", "x"] {
        let option = format!("--expires-in-days={days}");
        assert!(parse(&["token", "create", "ci", &option]).is_err(), "{days}");
    }
    assert!(parse(&["token", "create", "ci", "--expires-in-days=3650"]).is_ok());
    assert_eq!(ExitCode::from(&parse(&["audit", "--help"]).expect_err("help")), ExitCode::Ok);
}

#[test]
fn the_command_line_is_well_formed() {
    use clap::CommandFactory;
    super::Line::command().debug_assert();
}

#[test]
fn contract_exit_codes() {
    let numbers = [
        (ExitCode::Ok, 0),
        (ExitCode::Other, 1),
        (ExitCode::Network, 2),
        (ExitCode::Auth, 3),
        (ExitCode::NotFound, 4),
        (ExitCode::BadInput, 5),
    ];
    for (code, number) in numbers {
        assert_eq!(code as u8, number);
    }
    let server = || "http://x".to_owned();
    assert_eq!(Failure::LoggedOut { server: server() }.exit_code(), ExitCode::Auth);
    assert_eq!(Failure::Interrupted.exit_code(), ExitCode::Other);
    assert_eq!(Failure::Input(server()).exit_code(), ExitCode::BadInput);
    assert!(Failure::LoggedOut { server: server() }.to_string().contains("run `tally login`"));
}
