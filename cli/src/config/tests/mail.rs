use tally_api::mail::{Carrier, SmtpSecurity, SmtpSettings};

use super::*;

const HOST: (&str, &str) = ("SMTP_HOST", "mail.example.org");
const FROM: (&str, &str) = ("SMTP_FROM_EMAIL", "tally@example.org");
const USER: (&str, &str) = ("SMTP_USERNAME", "tally");
const PASSWORD: (&str, &str) = ("SMTP_PASSWORD", "hunter2");
const KEY: (&str, &str) = ("RESEND_API_KEY", "re_123");

fn smtp(settings: &[(&str, &str)]) -> SmtpSettings {
    match load(&[&[HOST, FROM], settings].concat()).mail.map(|mail| mail.carrier) {
        Some(Carrier::Smtp(smtp)) => smtp,
        Some(Carrier::Resend(_)) => panic!("by Resend"),
        None => panic!("not at all"),
    }
}

#[test]
fn a_host_alone_is_port_25_without_a_log_in() {
    let smtp = smtp(&[]);
    assert_eq!((smtp.host.as_str(), smtp.port), ("mail.example.org", 25));
    assert!(smtp.credentials.is_none() && !smtp.accepts_any_certificate);
    assert_eq!(smtp.hello, rustix::system::uname().nodename().to_string_lossy());
}

#[rstest]
#[case(&[], SmtpSecurity::Starttls)]
#[case(&[("SMTP_TLS", "starttls")], SmtpSecurity::Starttls)]
#[case(&[("SMTP_TLS", "StartTLS"), USER, PASSWORD], SmtpSecurity::Starttls)]
#[case(&[("SMTP_PORT", "587"), USER, PASSWORD], SmtpSecurity::Starttls)]
#[case(&[("SMTP_TLS", "required")], SmtpSecurity::Required)]
#[case(&[("SMTP_PORT", "465")], SmtpSecurity::Implicit)]
#[case(&[("SMTP_TLS", "implicit")], SmtpSecurity::Implicit)]
#[case(&[("SMTP_TLS", "smtps"), ("SMTP_PORT", "465")], SmtpSecurity::Implicit)]
#[case(&[("SMTP_TLS", "ssl"), USER, PASSWORD], SmtpSecurity::Implicit)]
#[case(&[("SMTP_TLS", "none"), ("SMTP_HOST", "localhost")], SmtpSecurity::None)]
#[case(&[("SMTP_TLS", "none"), ("SMTP_HOST", "127.0.0.9"), USER, PASSWORD], SmtpSecurity::None)]
#[case(&[("SMTP_TLS", "none"), ("SMTP_HOST", "::1")], SmtpSecurity::None)]
fn tls_is_what_the_word_says_and_the_port_implies(
    #[case] settings: &[(&str, &str)],
    #[case] security: SmtpSecurity,
) {
    assert_eq!(smtp(settings).security, security);
}

#[test]
fn the_sender_of_resend_serves_smtp_too_and_smtps_own_goes_before_it() {
    for own in [None, Some(FROM)] {
        let settings = [HOST, ("RESEND_FROM_EMAIL", "Tally <tally@example.org>")];
        assert!(load(&settings.into_iter().chain(own).collect::<Vec<_>>()).mail.is_some());
    }
    assert!(load(&[KEY, ("RESEND_FROM_EMAIL", "tally@example.org")]).mail.is_some());
}

/// Compose files and examples set these to their defaults without a mail server.
#[test]
fn defaults_without_a_host_are_no_mistake() {
    let config =
        load(&[("SMTP_PORT", "25"), ("SMTP_TLS_INSECURE", "false"), ("RESEND_FROM_EMAIL", "a@example.org")]);
    assert!(config.mail.is_none() && config.warnings.is_empty());
}

#[rstest]
#[case(&[HOST], "SMTP_FROM_EMAIL is required with SMTP_HOST: set the address that mails are from, such as Tally <tally@example.org>")]
#[case(&[KEY, FROM], "RESEND_FROM_EMAIL is required with RESEND_API_KEY: set the address that mails are from, such as Tally <tally@example.org>")]
#[case(&[HOST, ("SMTP_FROM_EMAIL", "tally")], "SMTP_FROM_EMAIL is neither an address such as tally@example.org nor one with a name such as Tally <tally@example.org>: correct it, or unset it for the default")]
#[case(&[FROM, ("SMTP_HOST", "mail.example.org:587")], "SMTP_HOST is `mail.example.org:587`, which is neither a host name nor an address; a port goes into SMTP_PORT: correct it, or unset it for the default")]
#[case(&[HOST, FROM, ("SMTP_PORT", "0")], "SMTP_PORT is `0`: set a port number from 1 to 65535")]
#[case(&[HOST, FROM, ("SMTP_TLS", "tls")], "SMTP_TLS is `tls`: set one of starttls, required, implicit, smtps, ssl, none")]
#[case(&[HOST, FROM, USER], "SMTP_USERNAME is set without SMTP_PASSWORD: set both, or neither for a relay that asks for none")]
#[case(&[HOST, FROM, PASSWORD], "SMTP_PASSWORD is set without SMTP_USERNAME: set both, or neither for a relay that asks for none")]
#[case(&[USER], "SMTP_USERNAME is set without SMTP_HOST: set SMTP_HOST, or unset it")]
#[case(&[PASSWORD, KEY, ("RESEND_FROM_EMAIL", "a@example.org")], "SMTP_PASSWORD is set without SMTP_HOST: set SMTP_HOST, or unset it")]
#[case(&[HOST, FROM, ("SMTP_TLS", "none")], "SMTP_TLS is `none` and SMTP_HOST is another machine: set it only for a relay on this machine; a relay elsewhere may go without STARTTLS where no password is set")]
#[case(&[HOST, FROM, ("SMTP_TLS", "starttls"), ("SMTP_PORT", "465")], "SMTP_TLS is `starttls` with SMTP_PORT 465: set implicit, or another port: 465 speaks TLS from the first byte")]
#[case(&[FROM, ("SMTP_HOST", "localhost"), ("SMTP_TLS", "none"), ("SMTP_TLS_INSECURE", "1")], "SMTP_TLS_INSECURE is set with SMTP_TLS `none`: unset it: without TLS there is no certificate")]
#[case(&[HOST, FROM, ("SMTP_EHLO_NAME", "mail example")], "SMTP_EHLO_NAME is `mail example`, which is no host name such as mail.example.org: correct it, or unset it for the default")]
#[case(&[("RESEND_FROM_EMAIL", "a@example.org"), ("RESEND_API_KEY", "re 1")], "RESEND_API_KEY holds blanks or characters no key has: copy the key again")]
#[case(&[KEY, ("RESEND_FROM_EMAIL", "a@example.org"), ("TALLY_RESEND_URL", "http://example.org")], "TALLY_RESEND_URL is neither an https URL such as https://api.resend.com nor one of this machine: correct it, or unset it for the default")]
fn what_cannot_work_is_named_with_its_cure(#[case] settings: &[(&str, &str)], #[case] words: &str) {
    assert_eq!(problem(settings), words);
}

#[test]
fn what_works_and_should_be_known_is_a_warning() {
    let warnings = load(&[HOST, FROM, KEY, ("SMTP_TLS_INSECURE", "true")]).warnings;
    let [insecure, both] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(insecure.starts_with("SMTP_TLS_INSECURE is set: any certificate is accepted"));
    assert_eq!(both, "RESEND_API_KEY is set and has no effect beside SMTP_HOST");
    let production = load(&[("APP_ENV", "production"), ("JWT_SECRET", SECRET)]).warnings;
    assert_eq!(
        production,
        ["neither SMTP_HOST nor RESEND_API_KEY is set: login codes are printed to this log"]
    );
}

#[test]
fn no_password_or_key_is_ever_shown() {
    for settings in [
        [PASSWORD, ("PORT", "x")],
        [("RESEND_API_KEY", "hunter2 "), ("PORT", "x")],
        [("RESEND_API_KEY", "hunter2 x"), FROM],
    ] {
        assert!(!problem(&settings).contains("hunter2"));
    }
}
