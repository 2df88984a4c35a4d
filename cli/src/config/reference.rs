//! Every setting there is: the table that the reference page is made of.

/// One setting, as the reference shows it.
pub struct Setting {
    pub name: &'static str,
    pub default: &'static str,
    pub meaning: &'static str,
}

/// The settings this release reads, by topic.
pub const SETTINGS: &[Setting] = &[
    setting(
        "APP_ENV",
        "`production`; `development` when the embedded database serves loopback only",
        "`production`, `staging`, `development` or `test`. Only `production` is strict.",
    ),
    setting("PORT", "`8080`", "Port to listen on; `0` takes a free one and prints it."),
    setting("TALLY_BIND", "`127.0.0.1` with the embedded database, else `::`", "Address to listen on."),
    setting(
        "TALLY_DATA_DIR",
        "`/var/lib/tallystick` for root, else `$XDG_DATA_HOME/tallystick`",
        "Directory (mode 0700) of the embedded database and the generated keys.",
    ),
    setting(
        "DATABASE_URL",
        "none: an embedded PostgreSQL in the data directory",
        "PostgreSQL 15 or newer. `pool_max_conns` and `pool_min_conns` may stand in its query.",
    ),
    setting(
        "MIGRATE_DATABASE_URL",
        "`DATABASE_URL`",
        "The role that owns the tables, where the serving role may only use them.",
    ),
    setting("DATABASE_MAX_CONNS", "`25`", "Connections at most."),
    setting("DATABASE_MIN_CONNS", "`5`", "Connections kept open."),
    setting(
        "TALLY_POSTGRES_BIN",
        "found on `PATH`, then in `/usr/lib/postgresql/*/bin`",
        "Directory of the PostgreSQL binaries for the embedded database.",
    ),
    setting(
        "TALLY_MASTER_KEY",
        "generated in the data directory",
        "32 bytes in base64 or hex that wrap every other key. Losing it loses all personal data.",
    ),
    setting(
        "JWT_SECRET",
        "generated in the data directory outside production; required in production",
        "Signs session JWTs; at least 32 characters in production.",
    ),
    setting(
        "TALLY_JWT_SECRET_PREVIOUS",
        "none",
        "Comma-separated secrets whose signatures are accepted beside that of `JWT_SECRET`: to replace it without anybody being logged out, see `docs/operations.md`.",
    ),
    setting(
        "FRONTEND_ORIGIN",
        "`http://localhost:3000`",
        "Where the web client lives. https makes cookies `Secure`.",
    ),
    setting(
        "CORS_ALLOWED_ORIGINS",
        "`FRONTEND_ORIGIN`, and localhost outside production",
        "Comma-separated origins that browsers may call from, with credentials.",
    ),
    setting(
        "COOKIE_DOMAIN",
        "none: the host that set them",
        "Domain of the cookies. An IP address is ignored with a warning.",
    ),
    setting(
        "AUTH_TOKEN_TTL",
        "`720h` (30 days)",
        "How long a session lives: `8760h`, `1h30m`, or whole seconds.",
    ),
    setting(
        "ALLOW_SIGNUP",
        "`true`",
        "`true`, `false`, or `invited` for addresses with a pending invitation.",
    ),
    setting(
        "ALLOWED_EMAIL_DOMAINS",
        "none",
        "Comma-separated domains that may sign up; when set, nobody else may.",
    ),
    setting(
        "ALLOWED_EMAILS",
        "none",
        "Comma-separated addresses that may sign up; when set, nobody else may.",
    ),
    setting(
        "DISABLE_WORKSPACE_CREATION",
        "`false`",
        "Whether nobody may create a workspace. Clients are told by `/api/config`.",
    ),
    setting(
        "GOOGLE_CLIENT_ID",
        "none",
        "This server's registration at Google. Told to clients by `/api/config`.",
    ),
    setting("GOOGLE_CLIENT_SECRET", "none: nobody can log in with Google", "Its secret."),
    setting(
        "GOOGLE_REDIRECT_URI",
        "`/auth/callback` at `FRONTEND_ORIGIN`",
        "Comma-separated URLs that clients of `POST /auth/google` may have their codes sent to, letter for letter.",
    ),
    setting(
        "TALLY_OIDC_PROVIDERS",
        "none",
        "OpenID Connect issuers that people may come from: a JSON array of objects (see docs/oidc.md).",
    ),
    setting(
        "TALLY_PUBLIC_ORIGIN",
        "`FRONTEND_ORIGIN`",
        "Where browsers reach this server. Issuers send them back to `/auth/oidc/{name}/callback` there.",
    ),
    setting(
        "MULTICA_DEV_VERIFICATION_CODE",
        "none",
        "Six digits that fit every live code. Ignored in production, with an error in the log.",
    ),
    setting(
        "SMTP_HOST",
        "none",
        "Mail server that mails leave by; see [mail.md](mail.md). It goes before Resend.",
    ),
    setting("SMTP_PORT", "`25`", "Port of the mail server. `465` implies `SMTP_TLS=implicit`."),
    setting("SMTP_USERNAME", "none: no log-in", "User at the mail server."),
    setting(
        "SMTP_PASSWORD",
        "none: no log-in",
        "Password at the mail server. It is sent over TLS alone, or to this machine.",
    ),
    setting(
        "SMTP_TLS",
        "`starttls`",
        "`starttls`: required where there is a password, else used where it is offered. `required`: always. `implicit` (or `smtps`, `ssl`): TLS from the first byte. `none`: for a relay on this machine.",
    ),
    setting("SMTP_TLS_INSECURE", "`false`", "Whether any certificate of the mail server is accepted."),
    setting("SMTP_EHLO_NAME", "the machine's host name", "Name that the mail server is greeted with."),
    setting(
        "SMTP_FROM_EMAIL",
        "`RESEND_FROM_EMAIL`",
        "Who mails are from: `tally@example.org` or `Tally <tally@example.org>`.",
    ),
    setting("RESEND_API_KEY", "none", "Key of the mail service Resend, where no mail server is set."),
    setting("RESEND_FROM_EMAIL", "none", "Who mails are from, as `SMTP_FROM_EMAIL`."),
    setting(
        "TALLY_RESEND_URL",
        "`https://api.resend.com`",
        "Where the mail service, or a stand-in for it, is.",
    ),
    setting(
        "TALLY_MAIL_TEMPLATES",
        "none: the built-in texts",
        "Directory of files that replace the mails' texts; see [mail.md](mail.md).",
    ),
    setting(
        "RATE_LIMIT_AUTH",
        "`5`",
        "Codes that one address may have sent per minute, and logins with Google.",
    ),
    setting(
        "RATE_LIMIT_AUTH_VERIFY",
        "`20`",
        "Codes that one address may try per minute, and logins by other providers.",
    ),
    setting(
        "RATE_LIMIT_TRUSTED_PROXIES",
        "none",
        "Comma-separated networks whose `X-Forwarded-For` is believed.",
    ),
    setting(
        "LOG_LEVEL",
        "`info`",
        "`error`, `warn`, `info`, `debug`, or a filter such as `info,tally_store=debug`.",
    ),
    setting(
        "METRICS_ADDR",
        "none: no metrics are collected",
        "IP address and port where Prometheus finds `/metrics`, such as `127.0.0.1:9100`. Whoever reaches it may read them: see [operations.md](operations.md#metrics).",
    ),
    setting("TALLY_LOG_FORMAT", "`json` in production, else `pretty`", "`json` or `pretty`."),
    setting(
        "TALLY_LEASE_MS",
        "`1000`",
        "How long a replica may answer from memory without hearing from the database, 200 to 10000. When a replica is dead, a revocation waits a little longer than the longest of those that replicas were told, and up to 10000 while the database does not tell which those are.",
    ),
    setting(
        "TALLY_OAUTH_CLIENTS",
        "none",
        "Comma-separated services that may ask `/oauth/introspect`, each as `id:secret`. In production a secret has at least 32 characters; none holds a comma.",
    ),
    setting(
        "NATS_URL",
        "none: with several replicas a revocation waits for `TALLY_LEASE_MS`",
        "Comma-separated addresses of a NATS server (2.9 or newer) or its cluster: `nats://…`, or `tls://…`.",
    ),
    setting("NATS_USER", "what the address holds", "User at the NATS server."),
    setting("NATS_PASSWORD", "none", "Password at the NATS server."),
    setting(
        "NATS_NKEY",
        "none",
        "File with the seed of a user's key for the NATS server, instead of a password.",
    ),
    setting("NATS_CREDS", "none", "Creds file for the NATS server, instead of a password."),
    setting(
        "NATS_CA",
        "those of the machine",
        "File with the certificates, in PEM, that the NATS server's must be signed by; TLS is then required.",
    ),
    setting("TALLY_CACHE_CAPACITY", "`1000000`", "Verdicts kept in memory at most."),
    setting(
        "TALLY_WARM_START",
        "`true`",
        "Whether a replica reads the newest tokens into memory when it starts, as many as there is room for; `false` leaves that to the first verification of each.",
    ),
    setting(
        "TALLY_USAGE_INTERVAL_MS",
        "`30000`",
        "How often a replica writes down which credentials were used, 100 to 600000: what is shown as last used may be so much behind, and a replica that is killed forgets so much.",
    ),
    setting(
        "TALLY_USAGE_DAYS",
        "`90`",
        "How long it is kept in which hours a credential was used, and from which addresses, 1 to 3650.",
    ),
];

/// Settings of later releases: set, they are told to have no effect.
pub const NOT_YET: &[(&str, &str)] = &[("MULTICA_CLOUD_FLEET_URL", "cloud-node tokens are refused")];

const fn setting(name: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { name, default, meaning }
}

/// The reference page.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# Settings\n\nRead once, from the environment. Empty counts as unset. `tally config check` says what is wrong \
         before a start would. This page is printed by `tally config reference`.\n\n| setting | default | meaning |\n|---|---|---|\n",
    );
    let rows = SETTINGS
        .iter()
        .map(|Setting { name, default, meaning }| format!("| `{name}` | {default} | {meaning} |\n"));
    page.extend(rows);
    page
}
