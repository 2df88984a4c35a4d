//! An operator's templates, and what stops a start.

use std::{fs, process::Command};

use super::*;
use crate::support::BINARY;

/// What a command of the binary says, and whether it succeeded.
fn run(arguments: &[&str], settings: &[(&str, &str)]) -> (bool, String) {
    let mut command = Command::new(BINARY);
    let output =
        command.env_clear().envs(settings.iter().copied()).args(arguments).output().expect("the binary runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).expect("UTF-8"))
}

#[tokio::test]
async fn an_operators_templates_take_the_place_of_the_built_in() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("login_code.subject"), "{{ site }}: come in\n").expect("a file");
    fs::write(directory.path().join("layout.html"), "<h1>Acme</h1>{% block body %}{% endblock %}")
        .expect("a file");
    let mail = MailServer::start(Behaviour::default()).await;
    let path = directory.path().display().to_string();
    let server = mailing_by(&mail, &[("TALLY_MAIL_TEMPLATES", &path)]).await;
    let email = address("template");
    asked(&server.client(), &email).await;
    let letter = mail.mail_to(&email).await;
    assert_eq!(letter.header("Subject"), "localhost:3000: come in");
    let code = letter.code().expect("a code");
    assert!(letter.html().starts_with("<h1>Acme</h1>") && letter.html().contains(&code));
}

/// A broken template stops the check and the start, with file and line.
#[test]
fn a_broken_template_stops_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("login_code.html");
    fs::write(&file, "<p>\n{{ kode }}\n").expect("a file");
    let (templates, data) = (directory.path().display().to_string(), directory.path().join("data"));
    let data = data.display().to_string();
    let settings = [
        ("SMTP_HOST", "localhost"),
        SENDER,
        ("TALLY_MAIL_TEMPLATES", &*templates),
        ("TALLY_DATA_DIR", &*data),
    ];
    let words = format!(
        "TALLY_MAIL_TEMPLATES holds {}, which is wrong at line 2: undefined value: `kode` is undefined",
        file.display()
    );
    for arguments in [&["config", "check"][..], &["serve"]] {
        let (success, said) = run(arguments, &settings);
        assert!(!success && said.contains(&words), "{said}");
    }
    assert!(!directory.path().join("data").exists(), "nothing was started");
}

/// In production the log says at every start that codes will be in it.
#[test]
fn production_without_a_mailer_is_told() {
    let secret = "0123456789abcdef0123456789abcdef";
    let (success, said) = run(&["config", "check"], &[("APP_ENV", "production"), ("JWT_SECRET", secret)]);
    assert!(success, "{said}");
    assert!(said.contains(
        "warning: neither SMTP_HOST nor RESEND_API_KEY is set: login codes are printed to this log"
    ));
}
