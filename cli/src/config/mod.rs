//! The configuration: read once from the environment, typed, and wrong in no silent way.

mod clients;
mod mail;
mod nats;
mod origin;
mod problems;
mod providers;
pub mod reference;
mod secrets;
mod settings;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use chrono::TimeDelta;
use ipnet::IpNet;
use sqlx::postgres::PgConnectOptions;
use tally_domain::{
    credential::Plaintext,
    lifetime,
    login::Digits,
    signup::{SignupMode, SignupPolicy},
};

pub use problems::{Problem, Problems};
pub use secrets::{Secrets, SecretsError};

/// The environment, as one value that tests can make.
#[derive(Clone, Default)]
pub struct Environment(pub BTreeMap<String, String>);

impl Environment {
    /// The environment of this process.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment of the server")]
    pub fn of_process() -> Self {
        // A value that is not UTF-8 is kept as far as it can be read, and then refused by its parser.
        Self(
            std::env::vars_os()
                .map(|(k, v)| (k.to_string_lossy().into_owned(), v.to_string_lossy().into_owned()))
                .collect(),
        )
    }

    /// The value of a setting; empty counts as unset.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }
}

/// Where the log lives.
#[derive(Clone)]
pub enum Database {
    /// A private PostgreSQL in the data directory.
    Embedded { binaries: Option<PathBuf>, search_path: Option<String> },
    External {
        /// What serves requests.
        serving: Box<PgConnectOptions>,
        /// What owns the tables, where that is another role.
        migrating: Box<PgConnectOptions>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Pretty,
    Json,
}

/// Everything the server is told, checked.
#[derive(Clone)]
pub struct Config {
    pub data_dir: PathBuf,
    pub database: Database,
    pub connections: tally_store::ConnectionLimits,
    pub production: bool,
    pub listen: SocketAddr,
    /// Where metrics are served; none: nowhere, and none are collected.
    pub metrics: Option<SocketAddr>,
    pub frontend_origin: String,
    pub allowed_origins: Vec<String>,
    pub cookie_domain: Option<String>,
    pub session_lifetime: TimeDelta,
    pub signup: SignupPolicy,
    pub workspace_creation_disabled: bool,
    pub send_per_minute: u32,
    pub verify_per_minute: u32,
    pub trusted_proxies: Vec<IpNet>,
    pub development_code: Option<Digits>,
    /// Who may introspect credentials: id and secret.
    pub clients: Vec<(String, Plaintext)>,
    pub google_client_id: Option<String>,
    /// How mail leaves; none: codes are printed to the log.
    pub mail: Option<tally_api::mail::MailSettings>,
    /// Issuers that people may come from.
    pub providers: Vec<tally_api::ProviderSettings>,
    pub google_redirects: Vec<String>,
    /// Where browsers reach this server.
    pub public_origin: String,
    pub master_key: Option<tally_events::seal::Key>,
    pub jwt_secret: Option<secrets::Text>,
    pub jwt_secrets_previous: Vec<secrets::Text>,
    pub log_level: String,
    pub log_format: LogFormat,
    /// What replicas hear each other by; none: the database alone.
    pub nats: Option<tally_fanout::NatsSettings>,
    pub lease: Duration,
    pub cache_capacity: usize,
    /// Whether memory is filled with the newest tokens at the start.
    pub warm_start: bool,
    /// How often it is written down what credentials were used for, and for how many days that is kept.
    pub usage_interval: Duration,
    pub usage_days: u16,
    /// Told once logging is up.
    pub warnings: Vec<String>,
    /// The same, of what a person should mend although the server starts.
    pub errors: Vec<String>,
}

impl Config {
    /// Reads and checks every setting.
    ///
    /// # Errors
    /// All that is wrong, at once: each names the setting, what is wrong and what would be right.
    pub fn load(environment: &Environment) -> Result<Self, Problems> {
        let mut reader = settings::Reader::new(environment);
        let config = Self::read(&mut reader);
        reader.finish(config)
    }

    fn read(reader: &mut settings::Reader<'_>) -> Self {
        let data_dir = reader.path("TALLY_DATA_DIR").unwrap_or_else(|| default_data_dir(reader.environment));
        let database = read_database(reader);
        let embedded = matches!(database, Database::Embedded { .. });
        let address = reader.parse::<IpAddr>("TALLY_BIND", "an IP address such as 127.0.0.1");
        let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let address = address.unwrap_or(if embedded { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { any });
        let port = reader.parse::<u16>("PORT", "a port number from 0 to 65535").unwrap_or(8080);
        let production = match reader.one_of("APP_ENV", &["production", "development", "test", "staging"]) {
            Some(name) => name == "production",
            None => !(embedded && address.is_loopback()),
        };
        let frontend_origin = reader
            .mapped("FRONTEND_ORIGIN", origin::parse)
            .unwrap_or_else(|| "http://localhost:3000".to_owned());
        let public_origin =
            reader.mapped("TALLY_PUBLIC_ORIGIN", origin::parse).unwrap_or_else(|| frontend_origin.clone());
        let connections = read_connections(reader);
        Self {
            data_dir,
            database,
            connections,
            production,
            listen: SocketAddr::new(address, port),
            metrics: reader.parse("METRICS_ADDR", "an IP address and a port, such as 127.0.0.1:9100"),
            allowed_origins: read_allowed_origins(reader, &frontend_origin, production, port),
            mail: mail::read(reader, &frontend_origin, production),
            google_redirects: providers::read_google_redirects(reader, &frontend_origin),
            frontend_origin,
            public_origin,
            cookie_domain: reader.text("COOKIE_DOMAIN"),
            session_lifetime: read_session_lifetime(reader),
            signup: read_signup(reader),
            workspace_creation_disabled: reader.flag("DISABLE_WORKSPACE_CREATION"),
            send_per_minute: reader.count("RATE_LIMIT_AUTH").unwrap_or(5),
            verify_per_minute: reader.count("RATE_LIMIT_AUTH_VERIFY").unwrap_or(20),
            trusted_proxies: read_proxies(reader),
            development_code: read_development_code(reader, production),
            clients: clients::read(reader, production),
            google_client_id: reader.text("GOOGLE_CLIENT_ID"),
            providers: providers::read(reader, production),
            master_key: reader.mapped("TALLY_MASTER_KEY", secrets::parse_master_key),
            jwt_secret: read_jwt_secret(reader, production, embedded),
            jwt_secrets_previous: read_previous_jwt_secrets(reader, production),
            log_level: reader.mapped("LOG_LEVEL", log_filter).unwrap_or_else(|| "info".to_owned()),
            log_format: match reader.one_of("TALLY_LOG_FORMAT", &["pretty", "json"]).as_deref() {
                Some("json") => LogFormat::Json,
                Some(_) => LogFormat::Pretty,
                None => {
                    if production {
                        LogFormat::Json
                    } else {
                        LogFormat::Pretty
                    }
                }
            },
            nats: nats::read(reader),
            lease: read_lease(reader),
            cache_capacity: reader
                .parse::<usize>("TALLY_CACHE_CAPACITY", "a whole number of credentials")
                .unwrap_or(1_000_000),
            warm_start: reader.switch("TALLY_WARM_START").unwrap_or(true),
            usage_interval: read_usage_interval(reader),
            usage_days: read_usage_days(reader),
            warnings: Vec::new(),
            errors: Vec::new(),
        }
    }
}

/// Where data goes when nobody said: the state directory of a root service, or the user's own.
pub fn default_data_dir(environment: &Environment) -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/tallystick");
    }
    let home =
        || environment.get("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from).join(".local/share");
    environment.get("XDG_DATA_HOME").map_or_else(home, PathBuf::from).join("tallystick")
}

fn read_database(reader: &mut settings::Reader<'_>) -> Database {
    const EXPECTED: &str = "a PostgreSQL URL such as postgres://user:password@host:5432/database";
    let options = |text: &str| {
        let scheme = text.starts_with("postgres://") || text.starts_with("postgresql://");
        let parsed = settings::without_pool_parameters(text).parse::<PgConnectOptions>();
        // What failed to parse may hold a password, so it is not shown.
        parsed.ok().filter(|_| scheme).map(Box::new).ok_or_else(|| format!("is not {EXPECTED}"))
    };
    let migrating = reader.mapped("MIGRATE_DATABASE_URL", options);
    let binaries = reader.path("TALLY_POSTGRES_BIN");
    if reader.environment.get("DATABASE_URL").is_some() {
        let serving = reader.mapped("DATABASE_URL", options).unwrap_or_default();
        return Database::External { migrating: migrating.unwrap_or_else(|| serving.clone()), serving };
    }
    if migrating.is_some() {
        reader.problem(
            "MIGRATE_DATABASE_URL",
            "is set without DATABASE_URL",
            "set both, or neither for the embedded database",
        );
    }
    Database::Embedded { binaries, search_path: reader.environment.get("PATH").map(str::to_owned) }
}

fn read_connections(reader: &mut settings::Reader<'_>) -> tally_store::ConnectionLimits {
    let from_url =
        (read_pool_parameter(reader, "pool_max_conns", 1), read_pool_parameter(reader, "pool_min_conns", 0));
    let max = reader.count("DATABASE_MAX_CONNS").or(from_url.0).unwrap_or(25);
    let min = reader
        .parse::<u32>("DATABASE_MIN_CONNS", "a whole number of connections")
        .or(from_url.1)
        .unwrap_or(5.min(max));
    if min > max {
        reader.problem(
            "DATABASE_MIN_CONNS",
            &format!("is {min}, more than the {max} of DATABASE_MAX_CONNS"),
            "lower the one or raise the other",
        );
    }
    tally_store::ConnectionLimits { min, max }
}

/// A number of connections in the query of `DATABASE_URL`.
fn read_pool_parameter(reader: &mut settings::Reader<'_>, name: &str, least: u32) -> Option<u32> {
    let text = settings::pool_parameter(reader.environment.get("DATABASE_URL")?, name)?;
    let number = text.parse::<u32>().ok().filter(|number| *number >= least);
    if number.is_none() {
        let cure = format!("set a whole number of at least {least}");
        reader.problem("DATABASE_URL", &format!("holds {name}=`{text}`"), &cure);
    }
    number
}

fn read_allowed_origins(
    reader: &mut settings::Reader<'_>,
    frontend_origin: &str,
    production: bool,
    port: u16,
) -> Vec<String> {
    if let Some(listed) = reader.list("CORS_ALLOWED_ORIGINS", origin::parse) {
        return listed;
    }
    let mut origins = vec![frontend_origin.to_owned()];
    if !production {
        for host in ["localhost", "127.0.0.1"] {
            origins.extend([3000, 5173, 5174, port].map(|port| format!("http://{host}:{port}")));
        }
    }
    origins
}

fn read_session_lifetime(reader: &mut settings::Reader<'_>) -> TimeDelta {
    let Some(text) = reader.text("AUTH_TOKEN_TTL") else { return lifetime::SESSION_LIFETIME };
    match lifetime::parse(&text) {
        Ok(lifetime) => {
            if lifetime > lifetime::LIFETIME_WARNING {
                reader.warn(format!("AUTH_TOKEN_TTL is {text}: sessions live for more than ten years"));
            }
            lifetime
        }
        Err(error) => {
            reader.warn(format!("AUTH_TOKEN_TTL: {error}; sessions live for 30 days"));
            lifetime::SESSION_LIFETIME
        }
    }
}

fn read_signup(reader: &mut settings::Reader<'_>) -> SignupPolicy {
    let mode = match reader.one_of("ALLOW_SIGNUP", &["true", "false", "invited"]).as_deref() {
        Some("false") => SignupMode::Closed,
        Some("invited") => SignupMode::Invited,
        _ => SignupMode::Open,
    };
    let lower = |text: &str| Ok(text.trim_start_matches('@').to_lowercase());
    let email = |text: &str| {
        let email = tally_domain::EmailAddress::parse(text);
        email
            .map(|email| email.as_str().to_owned())
            .map_err(|_| format!("holds `{text}`, which is not an e-mail address"))
    };
    SignupPolicy {
        mode,
        domains: reader.list("ALLOWED_EMAIL_DOMAINS", lower).unwrap_or_default(),
        emails: reader.list("ALLOWED_EMAILS", email).unwrap_or_default(),
    }
}

fn read_proxies(reader: &mut settings::Reader<'_>) -> Vec<IpNet> {
    let network = |text: &str| {
        let single = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse::<IpNet>()
            .or_else(|_| single())
            .map_err(|_| format!("holds `{text}`, which is not a network such as 10.0.0.0/8"))
    };
    reader.list("RATE_LIMIT_TRUSTED_PROXIES", network).unwrap_or_default()
}

fn read_development_code(reader: &mut settings::Reader<'_>, production: bool) -> Option<Digits> {
    let code = reader.text("MULTICA_DEV_VERIFICATION_CODE")?;
    if production {
        reader.error_later("MULTICA_DEV_VERIFICATION_CODE is set in production and ignored: unset it, or set APP_ENV=development".to_owned());
        return None;
    }
    if code.len() != tally_domain::login::CODE_DIGITS || !code.bytes().all(|byte| byte.is_ascii_digit()) {
        reader.problem(
            "MULTICA_DEV_VERIFICATION_CODE",
            "is not six digits",
            "set six digits, such as 888888",
        );
    }
    Some(Digits::new(code))
}

fn read_jwt_secret(
    reader: &mut settings::Reader<'_>,
    production: bool,
    embedded: bool,
) -> Option<secrets::Text> {
    let secret = reader.text("JWT_SECRET");
    if production {
        const CURE: &str = "set at least 32 random characters, for example from `openssl rand -base64 48`";
        match secret.as_deref() {
            None => reader.problem("JWT_SECRET", "is required in production", CURE),
            Some(known) if secrets::is_known_default(known) => {
                reader.problem("JWT_SECRET", "is a published default", CURE);
            }
            Some(short) if short.len() < secrets::SECRET_BYTES_MIN => {
                reader.problem("JWT_SECRET", "is shorter than 32 characters", CURE);
            }
            Some(_) => {}
        }
    } else if secret.is_none() && !embedded {
        reader.warn("JWT_SECRET is not set: one is generated in the data directory, which other replicas do not share".to_owned());
    }
    secret.map(secrets::Text::new)
}

/// What they sign is accepted, so they must be as good as the one that signs.
fn read_previous_jwt_secrets(reader: &mut settings::Reader<'_>, production: bool) -> Vec<secrets::Text> {
    let checked = |secret: &str| match secret {
        known if production && secrets::is_known_default(known) => {
            Err("holds a published default".to_owned())
        }
        short if production && short.len() < secrets::SECRET_BYTES_MIN => {
            Err("holds a secret shorter than 32 characters".to_owned())
        }
        secret => Ok(secrets::Text::new(secret.to_owned())),
    };
    reader.list("TALLY_JWT_SECRET_PREVIOUS", checked).unwrap_or_default()
}

/// A filter as it was written. A word alone must be a level: the filter's own parser would take
/// anything else for the name of a module, and log nothing of all the others.
fn log_filter(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |word: &str| LEVELS.contains(&word.trim().to_lowercase().as_str());
    let readable = text.split(',').all(|part| part.contains('=') || is_level(part));
    if readable && tracing_subscriber::EnvFilter::try_new(text).is_ok() {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "is `{text}`, which is neither a level ({}) nor a filter such as info,tally_store=debug",
            LEVELS.join(", ")
        ))
    }
}

fn read_lease(reader: &mut settings::Reader<'_>) -> Duration {
    let bounds = tally_fanout::LEASE_MIN.as_millis()..=tally_fanout::LEASE_MAX.as_millis();
    let milliseconds = reader.parse::<u64>("TALLY_LEASE_MS", "milliseconds").unwrap_or(1000);
    if !bounds.contains(&milliseconds.into()) {
        reader.problem("TALLY_LEASE_MS", &format!("is {milliseconds}"), "set 200 to 10000 milliseconds");
    }
    Duration::from_millis(milliseconds)
}

fn read_usage_interval(reader: &mut settings::Reader<'_>) -> Duration {
    const BOUNDS: std::ops::RangeInclusive<u64> = 100..=600_000;
    let milliseconds = reader.parse::<u64>("TALLY_USAGE_INTERVAL_MS", "milliseconds").unwrap_or(30_000);
    if !BOUNDS.contains(&milliseconds) {
        let wrong = format!("is {milliseconds}");
        reader.problem("TALLY_USAGE_INTERVAL_MS", &wrong, "set 100 to 600000 milliseconds");
    }
    Duration::from_millis(milliseconds)
}

fn read_usage_days(reader: &mut settings::Reader<'_>) -> u16 {
    const BOUNDS: std::ops::RangeInclusive<u16> = 1..=3650;
    let days = reader.parse::<u16>("TALLY_USAGE_DAYS", "a whole number of days").unwrap_or(90);
    if !BOUNDS.contains(&days) {
        reader.problem("TALLY_USAGE_DAYS", &format!("is {days}"), "set 1 to 3650 days");
    }
    days
}

#[cfg(test)]
mod tests;
