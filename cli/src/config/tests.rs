mod mail;
mod nats;

use rstest::rstest;

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn environment(settings: &[(&str, &str)]) -> Environment {
    Environment(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

pub fn load(settings: &[(&str, &str)]) -> Config {
    Config::load(&environment(settings)).map_err(|problems| problems.to_string()).unwrap()
}

pub fn problem(settings: &[(&str, &str)]) -> String {
    match Config::load(&environment(settings)) {
        Ok(_) => panic!("{settings:?} was accepted"),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn nothing_set_is_a_development_server_on_loopback_with_its_own_database() {
    let config = load(&[]);
    assert!(matches!(config.database, Database::Embedded { .. }));
    assert!(!config.production);
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.session_lifetime, TimeDelta::days(30));
}

#[test]
fn an_external_database_is_production_on_all_addresses() {
    let config = load(&[("DATABASE_URL", "postgres://tally@db/tally"), ("JWT_SECRET", SECRET)]);
    assert!(config.production);
    assert_eq!(config.listen.to_string(), "[::]:8080");
    assert_eq!(config.allowed_origins, ["http://localhost:3000"]);
}

#[test]
fn an_embedded_database_that_serves_others_is_production() {
    let config = load(&[("TALLY_BIND", "0.0.0.0"), ("JWT_SECRET", SECRET)]);
    assert!(config.production);
}

#[rstest]
#[case(&[("PORT", "http")], "PORT is `http`: set a port number from 0 to 65535")]
#[case(&[("METRICS_ADDR", "9100")], "METRICS_ADDR is `9100`: set an IP address and a port, such as 127.0.0.1:9100")]
#[case(&[("METRICS_ADDR", ":9100")], "METRICS_ADDR is `:9100`: set an IP address and a port, such as 127.0.0.1:9100")]
#[case(&[("PORT", "70000")], "PORT is `70000`: set a port number from 0 to 65535")]
#[case(&[("APP_ENV", "prod")], "APP_ENV is `prod`: set one of production, development, test, staging")]
#[case(&[("DATABASE_URL", "mysql://db"), ("APP_ENV", "test")], "DATABASE_URL is not a PostgreSQL URL such as postgres://user:password@host:5432/database: correct it, or unset it for the default")]
#[case(&[("MIGRATE_DATABASE_URL", "postgres://o@db/t")], "MIGRATE_DATABASE_URL is set without DATABASE_URL: set both, or neither for the embedded database")]
#[case(&[("DATABASE_MIN_CONNS", "9"), ("DATABASE_MAX_CONNS", "3")], "DATABASE_MIN_CONNS is 9, more than the 3 of DATABASE_MAX_CONNS: lower the one or raise the other")]
#[case(&[("CORS_ALLOWED_ORIGINS", "*")], "CORS_ALLOWED_ORIGINS holds `*`, which browsers refuse together with credentials; name each origin: separate entries by commas, each as described")]
#[case(&[("RATE_LIMIT_AUTH", "0")], "RATE_LIMIT_AUTH is 0: set a whole number of at least 1")]
#[case(&[("LOG_LEVEL", "loud")], "LOG_LEVEL is `loud`, which is neither a level (off, error, warn, info, debug, trace) nor a filter such as info,tally_store=debug: correct it, or unset it for the default")]
#[case(&[("TALLY_LEASE_MS", "50")], "TALLY_LEASE_MS is 50: set 200 to 10000 milliseconds")]
#[case(
    &[("TALLY_USAGE_INTERVAL_MS", "99")],
    "TALLY_USAGE_INTERVAL_MS is 99: set 100 to 600000 milliseconds"
)]
#[case(&[("TALLY_USAGE_DAYS", "3651")], "TALLY_USAGE_DAYS is 3651: set 1 to 3650 days")]
#[case(&[("APP_ENV", "production")], "JWT_SECRET is required in production: set at least 32 random characters, for example from `openssl rand -base64 48`")]
#[case(&[("APP_ENV", "production"), ("JWT_SECRET", "short")], "JWT_SECRET is shorter than 32 characters: set at least 32 random characters, for example from `openssl rand -base64 48`")]
#[case(&[("APP_ENV", "production"), ("JWT_SECRET", "multica-dev-secret-change-in-production")], "JWT_SECRET is a published default: set at least 32 random characters, for example from `openssl rand -base64 48`")]
#[case(&[("APP_ENV", "production"), ("JWT_SECRET", SECRET), ("TALLY_JWT_SECRET_PREVIOUS", "short")], "TALLY_JWT_SECRET_PREVIOUS holds a secret shorter than 32 characters: separate entries by commas, each as described")]
#[case(&[("APP_ENV", "production"), ("JWT_SECRET", SECRET), ("TALLY_JWT_SECRET_PREVIOUS", "Multica-Dev-Secret-Change-In-Production")], "TALLY_JWT_SECRET_PREVIOUS holds a published default: separate entries by commas, each as described")]
fn a_wrong_setting_is_named_with_its_cure(#[case] settings: &[(&str, &str)], #[case] words: &str) {
    assert_eq!(problem(settings), words);
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let words = problem(&[("PORT", "x"), ("APP_ENV", "y"), ("RATE_LIMIT_AUTH", "z")]);
    assert_eq!(words.lines().count(), 3, "{words}");
}

#[test]
fn a_database_password_is_never_shown() {
    assert!(!problem(&[("DATABASE_URL", "mysql://u:hunter2@db"), ("APP_ENV", "test")]).contains("hunter2"));
}

#[rstest]
#[case("soon")]
#[case("0")]
#[case("-1h")]
#[case("99999999999999999999h")]
fn a_wrong_session_lifetime_warns_and_is_30_days(#[case] lifetime: &str) {
    let config = load(&[("AUTH_TOKEN_TTL", lifetime)]);
    assert_eq!(config.session_lifetime, TimeDelta::days(30));
    assert_eq!(config.warnings.len(), 1);
}

#[test]
fn a_session_lifetime_over_ten_years_warns_and_is_taken() {
    let config = load(&[("AUTH_TOKEN_TTL", "87648h")]);
    assert_eq!((config.session_lifetime, config.warnings.len()), (TimeDelta::hours(87_648), 1));
}

#[test]
fn a_development_code_is_ignored_in_production_and_said_so() {
    let config = load(&[
        ("APP_ENV", "production"),
        ("JWT_SECRET", SECRET),
        ("MULTICA_DEV_VERIFICATION_CODE", "888888"),
    ]);
    assert!(config.development_code.is_none());
    assert!(config.errors[0].contains("ignored"));
    assert!(load(&[("MULTICA_DEV_VERIFICATION_CODE", "888888")]).development_code.is_some());
}

#[test]
fn the_environment_goes_before_the_url_and_the_url_before_the_default() {
    let url = ("DATABASE_URL", "postgres://tally@db/tally?pool_max_conns=7&sslmode=disable&pool_min_conns=2");
    let config = load(&[url, ("JWT_SECRET", SECRET)]);
    assert_eq!((config.connections.max, config.connections.min), (7, 2));
    let config = load(&[url, ("JWT_SECRET", SECRET), ("DATABASE_MAX_CONNS", "9")]);
    assert_eq!((config.connections.max, config.connections.min), (9, 2));
    let config = load(&[("DATABASE_URL", "postgres://tally@db/tally"), ("JWT_SECRET", SECRET)]);
    assert_eq!((config.connections.max, config.connections.min), (25, 5));
}

#[test]
fn several_secrets_may_have_gone_before() {
    let previous = format!("{}, {}", SECRET.to_uppercase(), SECRET.repeat(2));
    let settings =
        [("APP_ENV", "production"), ("JWT_SECRET", SECRET), ("TALLY_JWT_SECRET_PREVIOUS", &previous)];
    let exposed = |config: &Config| {
        config.jwt_secrets_previous.iter().map(|secret| secret.expose().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(exposed(&load(&settings)), [SECRET.to_uppercase(), SECRET.repeat(2)]);
    assert!(load(&settings[..2]).jwt_secrets_previous.is_empty());
    // Outside production a secret may be anything, and so may one that went before.
    assert_eq!(load(&[("TALLY_JWT_SECRET_PREVIOUS", "short")]).jwt_secrets_previous.len(), 1);
}

#[test]
fn a_setting_without_effect_is_told() {
    let config = load(&[("MULTICA_CLOUD_FLEET_URL", "https://fleet.example.org")]);
    assert_eq!(
        config.warnings,
        ["MULTICA_CLOUD_FLEET_URL is set and has no effect yet: cloud-node tokens are refused"]
    );
}

#[test]
fn the_committed_reference_is_what_the_table_says() {
    let committed = include_str!("../../../docs/configuration.md");
    assert_eq!(committed, reference::page(), "run `tally config reference > docs/configuration.md`");
}
