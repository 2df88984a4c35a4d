//! Wrong settings stop a start, and say which and how to mend it.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use rstest::rstest;

use crate::support::BINARY;

const GOOD_SECRET: &str = "0123456789abcdef0123456789abcdef";
const BAD_INPUT: Option<i32> = Some(5);

fn run(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data = directory.path().join("data");
    let mut command = Command::new(BINARY);
    command.args(arguments).env_clear().env("TALLY_DATA_DIR", &data).env("PATH", "/usr/bin:/bin");
    command.envs(settings.iter().copied()).stdin(Stdio::null());
    let output = command.output().expect("the binary runs");
    assert!(!Path::new(&data).exists(), "a start that was refused made a data directory");
    output
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[rstest]
#[case::port("PORT", "http", "set a port number from 0 to 65535")]
#[case::port_of_six_digits("PORT", "123456", "set a port number from 0 to 65535")]
#[case::port_below_zero("PORT", "-1", "set a port number from 0 to 65535")]
#[case::metrics_without_an_address(
    "METRICS_ADDR",
    "9100",
    "set an IP address and a port, such as 127.0.0.1:9100"
)]
#[case::metrics_by_a_name(
    "METRICS_ADDR",
    "localhost:9100",
    "set an IP address and a port, such as 127.0.0.1:9100"
)]
#[case::metrics_port(
    "METRICS_ADDR",
    "127.0.0.1:91000",
    "set an IP address and a port, such as 127.0.0.1:9100"
)]
#[case::bind("TALLY_BIND", "localhost", "set an IP address such as 127.0.0.1")]
#[case::app_env("APP_ENV", "prod", "set one of production, development, test, staging")]
#[case::scheme("DATABASE_URL", "mysql://tally@db/tally", "a PostgreSQL URL such as")]
#[case::no_url("DATABASE_URL", "db.example.org", "a PostgreSQL URL such as")]
#[case::owner_alone("MIGRATE_DATABASE_URL", "postgres://owner@db/tally", "set both, or neither")]
#[case::no_connections("DATABASE_MAX_CONNS", "0", "set a whole number of at least 1")]
#[case::connections("DATABASE_MAX_CONNS", "many", "set a whole number of at least 1")]
#[case::crossed_connections("DATABASE_MIN_CONNS", "99", "lower the one or raise the other")]
#[case::master_key("TALLY_MASTER_KEY", "too-short", "32 bytes in base64 or hex")]
#[case::frontend("FRONTEND_ORIGIN", "app.example.org", "an origin such as https://app.example.org")]
#[case::frontend_with_a_path(
    "FRONTEND_ORIGIN",
    "https://app.example.org/x",
    "an origin such as https://app.example.org"
)]
#[case::every_origin("CORS_ALLOWED_ORIGINS", "*", "name each origin")]
#[case::null_origin("CORS_ALLOWED_ORIGINS", "null", "an origin such as https://app.example.org")]
#[case::one_bad_origin(
    "CORS_ALLOWED_ORIGINS",
    "https://a.example,javascript:0",
    "an origin such as https://app.example.org"
)]
#[case::signup("ALLOW_SIGNUP", "yes", "set one of true, false, invited")]
#[case::emails("ALLOWED_EMAILS", "ada@example.org,nobody", "not an e-mail address")]
#[case::workspaces("DISABLE_WORKSPACE_CREATION", "on", "set one of true, false, 1, 0")]
#[case::development_code("MULTICA_DEV_VERIFICATION_CODE", "12345", "set six digits, such as 888888")]
#[case::development_code_of_letters(
    "MULTICA_DEV_VERIFICATION_CODE",
    "abcdef",
    "set six digits, such as 888888"
)]
#[case::public_origin("TALLY_PUBLIC_ORIGIN", "api.example.org", "an origin such as https://app.example.org")]
#[case::providers("TALLY_OIDC_PROVIDERS", "google", "is not JSON from line 1 column 1 on")]
#[case::provider_without_a_secret(
    "TALLY_OIDC_PROVIDERS",
    r#"[{"name": "acme", "issuer": "https://login.acme.example", "client_id": "tally"}]"#,
    "holds `acme`, which has no client_secret"
)]
#[case::google_without_an_id("GOOGLE_CLIENT_SECRET", "hunter2", "set both, or neither")]
#[case::google_redirect("GOOGLE_REDIRECT_URI", "/auth/callback", "a URL such as https://app.example.org")]
#[case::no_limit("RATE_LIMIT_AUTH", "0", "set a whole number of at least 1")]
#[case::negative_limit("RATE_LIMIT_AUTH_VERIFY", "-20", "set a whole number of at least 1")]
#[case::proxies("RATE_LIMIT_TRUSTED_PROXIES", "10.0.0.0/33", "a network such as 10.0.0.0/8")]
#[case::log_format("TALLY_LOG_FORMAT", "xml", "set one of pretty, json")]
#[case::short_lease("TALLY_LEASE_MS", "1", "set 200 to 10000 milliseconds")]
#[case::long_lease("TALLY_LEASE_MS", "3600000", "set 200 to 10000 milliseconds")]
#[case::usage_always("TALLY_USAGE_INTERVAL_MS", "0", "set 100 to 600000 milliseconds")]
#[case::usage_never("TALLY_USAGE_INTERVAL_MS", "600001", "set 100 to 600000 milliseconds")]
#[case::usage_forgotten("TALLY_USAGE_DAYS", "0", "set 1 to 3650 days")]
#[case::usage_without_end("TALLY_USAGE_DAYS", "forever", "set a whole number of days")]
#[case::warm_start("TALLY_WARM_START", "tepid", "set one of true, false, 1, 0")]
#[case::capacity("TALLY_CACHE_CAPACITY", "plenty", "set a whole number of credentials")]
fn a_wrong_setting_stops_the_start_with_its_name_and_its_cure(
    #[case] name: &str,
    #[case] value: &str,
    #[case] cure: &str,
) {
    for arguments in
        [["serve"].as_slice(), &["config", "check"], &["migrate"], &["user", "suspend", "ada@example.org"]]
    {
        let output = run(arguments, &[("APP_ENV", "test"), (name, value)]);
        let said = said(&output);
        assert_eq!(output.status.code(), BAD_INPUT, "{arguments:?}: {said}");
        assert!(said.contains(&format!("{name} ")) && said.contains(cure), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}: what is wrong is no result");
    }
}

#[rstest]
#[case::parameter_that_is_no_number("pool_max_conns=many")]
#[case::no_connections("pool_max_conns=0")]
#[case::negative("pool_min_conns=-1")]
fn a_wrong_pool_parameter_stops_the_start_too(#[case] parameter: &str) {
    let url = format!("postgres://tally:hunter2@127.0.0.1:1/tally?{parameter}");
    for arguments in [["serve"].as_slice(), &["config", "check"]] {
        let output = run(arguments, &[("APP_ENV", "test"), ("DATABASE_URL", &url)]);
        let said = said(&output);
        assert_eq!(output.status.code(), BAD_INPUT, "{said}");
        let name = parameter.split('=').next().expect("a name");
        assert!(said.contains("DATABASE_URL ") && said.contains(name) && !said.contains("hunter2"), "{said}");
    }
}

#[rstest]
#[case::none(None, "is required in production")]
#[case::empty(Some(""), "is required in production")]
#[case::blank(Some("   "), "is required in production")]
#[case::short(Some("hunter2-hunter2-hunter2-hunter2"), "is shorter than 32 characters")]
#[case::published(Some("multica-dev-secret-change-in-production"), "is a published default")]
#[case::published_in_capitals(Some("MULTICA-DEV-SECRET-CHANGE-IN-PRODUCTION"), "is a published default")]
fn production_does_not_start_without_a_secret_of_its_own(#[case] secret: Option<&str>, #[case] wrong: &str) {
    for place in [
        ("APP_ENV", "production"),
        ("TALLY_BIND", "0.0.0.0"),
        ("DATABASE_URL", "postgres://tally@127.0.0.1:1/tally"),
    ] {
        for arguments in [["serve"].as_slice(), &["config", "check"]] {
            let mut settings = vec![place];
            settings.extend(secret.map(|secret| ("JWT_SECRET", secret)));
            let output = run(arguments, &settings);
            let said = said(&output);
            assert_eq!(output.status.code(), BAD_INPUT, "{place:?}: {said}");
            assert!(said.contains(&format!("JWT_SECRET {wrong}")) && said.contains("openssl rand"), "{said}");
            if let Some(secret) = secret.filter(|secret| !secret.trim().is_empty()) {
                assert!(!said.contains(secret), "{said}");
            }
        }
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once_and_no_secret_with_it() {
    let settings = [
        ("APP_ENV", "production"),
        ("PORT", "x"),
        ("JWT_SECRET", "hunter2-signs"),
        ("TALLY_MASTER_KEY", "hunter2-wraps"),
        ("DATABASE_URL", "mysql://tally:hunter2-connects@db/tally"),
        ("MIGRATE_DATABASE_URL", "postgres:/owner:hunter2-owns@db:port/tally"),
        ("MULTICA_DEV_VERIFICATION_CODE", "hunter2"),
        ("FRONTEND_ORIGIN", "https://user:hunter2-browses@app.example.org"),
        ("CORS_ALLOWED_ORIGINS", "https://user:hunter2-calls@app.example.org"),
        ("SMTP_PASSWORD", "hunter2-mails"),
        ("GOOGLE_CLIENT_SECRET", "hunter2-googles"),
        ("RESEND_API_KEY", "hunter2-resends"),
    ];
    for arguments in [["serve"].as_slice(), &["config", "check"]] {
        let output = run(arguments, &settings);
        let said = said(&output);
        assert_eq!(output.status.code(), BAD_INPUT, "{said}");
        for name in [
            "PORT",
            "JWT_SECRET",
            "TALLY_MASTER_KEY",
            "DATABASE_URL",
            "MIGRATE_DATABASE_URL",
            "FRONTEND_ORIGIN",
            "SMTP_PASSWORD",
            "RESEND_FROM_EMAIL",
        ] {
            assert!(said.contains(&format!("{name} ")), "{name} is missing: {said}");
        }
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn good_settings_are_said_to_be_good_and_no_secret_with_it() {
    let settings = [
        ("APP_ENV", "production"),
        ("JWT_SECRET", GOOD_SECRET),
        ("TALLY_MASTER_KEY", &"ab".repeat(32)),
        ("DATABASE_URL", "postgres://tally:hunter2@db/tally?pool_max_conns=7"),
        ("MULTICA_DEV_VERIFICATION_CODE", "424242"),
        ("SMTP_HOST", "mail.example.org"),
        ("SMTP_USERNAME", "tally"),
        ("SMTP_PASSWORD", "hunter2"),
        ("SMTP_TLS_INSECURE", "true"),
        ("SMTP_FROM_EMAIL", "tally@example.org"),
        ("RESEND_API_KEY", "hunter2-resends"),
        ("AUTH_TOKEN_TTL", "soon"),
    ];
    let output = run(&["config", "check"], &settings);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for word in [
        "production mode",
        "MULTICA_DEV_VERIFICATION_CODE is set in production and ignored",
        "SMTP_TLS_INSECURE is set: any certificate is accepted",
        "RESEND_API_KEY is set and has no effect beside SMTP_HOST",
        "AUTH_TOKEN_TTL",
    ] {
        assert!(said.contains(word), "{word} is missing: {said}");
    }
    for secret in ["hunter2", GOOD_SECRET, "abab", "424242"] {
        assert!(!said.contains(secret), "{said}");
    }
}
