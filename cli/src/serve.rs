//! `tally serve`: puts the rooms together, runs until told to stop, and takes them apart in order.

use std::{
    io::{IsTerminal, Write},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use tally_api::{
    ApiSettings, App, AuthLimits, Clients, CookieSettings, Exporter, Freshness, Providers, ProxyTrust,
    mail::{Mailer, Outbox},
};
use tally_events::Position;
use tally_fanout::{Nats, Replica, ReplicaSettings, Usage};
use tally_store::{Clock, Limit, Rotation, Store, StoreOptions};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinHandle,
    time::{interval, timeout},
};

use crate::{
    config::{Config, Database, Environment, Secrets},
    database::Opened,
    logging,
    operator::Failure,
};

/// How long requests under way may take to end after the signal to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);
/// How long mails under way may take to leave after that.
const MAIL_TIMEOUT: Duration = Duration::from_secs(10);
/// Clients connected at once at most.
const CONNECTIONS_MAX: usize = 16_384;
/// File descriptors for the database, the embedded one, files and the runtime.
const OWN_DESCRIPTORS: usize = 256;
/// How long it may take after that to write down what credentials were used for.
const USAGE_TIMEOUT: Duration = Duration::from_secs(5);
const PURGE_INTERVAL: Duration = Duration::from_mins(1);
const MINUTE: Duration = Duration::from_mins(1);

/// Runs the server until SIGTERM or SIGINT.
pub async fn serve() -> Result<(), Failure> {
    let config = Config::load(&Environment::of_process()).map_err(Failure::Config)?;
    logging::start(&config);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    for error in &config.errors {
        tracing::error!("{error}");
    }
    // The signals are caught before anything is started, so that nothing is left running.
    let stop = stop_signal()?;
    let database = Opened::for_server(&config).await?;
    let outcome = serve_with(&config, &database, stop).await;
    let closed = database.close().await;
    outcome?;
    Ok(closed?)
}

/// Migrates and ends.
pub async fn migrate() -> Result<(), Failure> {
    let config = Config::load(&Environment::of_process()).map_err(Failure::Config)?;
    logging::start(&config);
    let database = Opened::for_command(&config).await?;
    let migrated = database.migrate().await;
    database.close().await?;
    migrated?;
    println!("The database is at this release.");
    Ok(())
}

async fn serve_with(config: &Config, database: &Opened, stop: watch::Receiver<bool>) -> Result<(), Failure> {
    // Before anything is started that counts.
    let metrics = match config.metrics {
        Some(address) => Some(ForMetrics::listen(address).await?),
        None => None,
    };
    database.migrate().await?;
    let secrets = Secrets::load(config)?;
    let pool = tally_store::connect(database.serving.clone(), config.connections);
    refuse_if_outdated(&pool).await?;
    tally_projections::runner::register(&pool).await.map_err(Failure::Database)?;
    let keys = secrets.unlock(pool.clone(), Rotation::Lead).await?;
    let (store, committer) = Store::start(StoreOptions {
        database: database.serving.clone(),
        pool: pool.clone(),
        keys,
        clock: Clock::default(),
        inline: tally_projections::inline(),
        inline_version: tally_projections::INLINE_VERSION,
    });
    let store = Arc::new(store);
    let nats = match &config.nats {
        Some(settings) => Some(Nats::connect(settings.clone(), store.keys().bus()).await?),
        None => None,
    };
    let replica = Replica::join(store.clone(), replica_settings(config), nats);
    let usage = Usage::start(&store, config.usage_interval);
    let mailer = mailer(config, &store, &replica)?;
    let (freshness, runners) = follow(&store);
    let purge = tokio::spawn(purge(pool.clone(), config.usage_days));

    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|source| Failure::Listen { address: config.listen, source })?;
    let address =
        listener.local_addr().map_err(|source| Failure::Listen { address: config.listen, source })?;
    let settings = api_settings(config, &secrets)?;
    let app = App::new(settings, store.clone(), replica.clone(), usage.clone(), freshness, mailer.clone());
    let serve_metrics = ForMetrics::serve(metrics, app.clone(), stopped(stop.clone()));
    announce(config, address);

    let serve = tally_api::serve(listener, app, connections_max(), stopped(stop.clone()));
    tokio::select! {
        ((), ()) = async { tokio::join!(serve, serve_metrics) } => {}
        () = overdue(stop) => {
            tracing::warn!("some requests did not end in time and were cut off");
        }
    }

    tracing::info!("stopping");
    // What was promised is mailed, or recorded as undeliverable, while that can be recorded.
    if let Mailer::Outbox(outbox) = &mailer {
        outbox.stop(MAIL_TIMEOUT).await;
    }
    drop(mailer);
    usage.stop(USAGE_TIMEOUT).await;
    // No more yes from memory first, then no more events, then nobody who reads them.
    replica.leave().await;
    purge.abort();
    drop(replica);
    drop(store);
    if timeout(DRAIN_TIMEOUT, committer).await.is_err() {
        tracing::warn!("the last commits did not end in time");
    }
    for runner in runners {
        runner.abort();
    }
    pool.close().await;
    Ok(())
}

/// Who counts, and where that is shown.
struct ForMetrics {
    exporter: Exporter,
    listener: TcpListener,
    address: SocketAddr,
}

impl ForMetrics {
    async fn listen(address: SocketAddr) -> Result<Self, Failure> {
        let refused = |source| Failure::ListenForMetrics { address, source };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { exporter: Exporter::install(env!("CARGO_PKG_VERSION"))?, listener, address })
    }

    async fn serve(metrics: Option<Self>, app: App, stop: impl Future<Output = ()> + Send) {
        let Some(Self { exporter, listener, address }) = metrics else { return };
        tracing::info!(%address, "metrics are served");
        exporter.serve(listener, app, stop).await;
    }
}

/// A server that may not write is not started: one that was running reads on, but nobody is served
/// by more of them.
async fn refuse_if_outdated(pool: &sqlx::PgPool) -> Result<(), Failure> {
    let (found, known) = (
        tally_store::inline_version(pool).await.map_err(Failure::Database)?,
        tally_projections::INLINE_VERSION,
    );
    if found > known { Err(Failure::Outdated { found, known }) } else { Ok(()) }
}

fn replica_settings(config: &Config) -> ReplicaSettings {
    ReplicaSettings {
        lease: config.lease,
        capacity: config.cache_capacity,
        warm_start: config.warm_start,
        ..ReplicaSettings::default()
    }
}

fn api_settings(config: &Config, secrets: &Secrets) -> Result<ApiSettings, Failure> {
    let per_minute = |count| Limit { count, period: MINUTE };
    let providers =
        Providers::new(config.providers.clone(), &config.public_origin, config.google_redirects.clone())?;
    Ok(ApiSettings {
        signer: secrets.signer(),
        cookies: CookieSettings::new(&config.frontend_origin, config.cookie_domain.as_deref()),
        allowed_origins: config.allowed_origins.clone(),
        session_lifetime: config.session_lifetime,
        signup: config.signup.clone(),
        limits: AuthLimits {
            send: per_minute(config.send_per_minute),
            verify: per_minute(config.verify_per_minute),
        },
        proxies: ProxyTrust(config.trusted_proxies.clone()),
        development_code: config.development_code.clone(),
        clients: Clients::new(&config.clients),
        google_client_id: config.google_client_id.clone(),
        providers,
        frontend: config.frontend_origin.parse().expect("the configuration has read it as an origin"),
        workspace_creation_disabled: config.workspace_creation_disabled,
        count_requests: config.metrics.is_some(),
        server_version: env!("CARGO_PKG_VERSION"),
    })
}

fn mailer(config: &Config, store: &Store, replica: &Replica) -> Result<Mailer, Failure> {
    let Some(settings) = config.mail.clone() else { return Ok(Mailer::Log) };
    Ok(Mailer::Outbox(Outbox::start(settings, store.clock().clone(), replica.clone())?))
}

/// Starts a runner for each projection that follows the log.
fn follow(store: &Store) -> (Freshness, Vec<JoinHandle<()>>) {
    let mut checkpoints = Vec::new();
    let mut runners = Vec::new();
    for projection in tally_projections::following() {
        let (tell, checkpoint) = watch::channel(Position::ZERO);
        checkpoints.push((projection.name(), checkpoint));
        let (pool, feed) = (store.pool().clone(), store.subscribe());
        runners.push(tokio::spawn(tally_projections::runner::follow(pool, projection, feed, tell)));
    }
    (Freshness::new(checkpoints), runners)
}

/// Deletes what has had its time, every minute.
async fn purge(pool: sqlx::PgPool, usage_days: u16) {
    let mut ticks = interval(PURGE_INTERVAL);
    loop {
        ticks.tick().await;
        match tally_store::purge(&pool, usage_days).await {
            Ok(purged) if purged != tally_store::Purged::default() => {
                tracing::debug!(?purged, "purged");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "nothing was purged"),
        }
    }
}

/// How many clients may be connected at once: what the machine allows, less what the server itself
/// holds open.
fn connections_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit on open files cannot be raised: fewer clients can connect");
    }
    let descriptors =
        rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let free = usize::try_from(descriptors).unwrap_or(usize::MAX).saturating_sub(OWN_DESCRIPTORS);
    free.clamp(64, CONNECTIONS_MAX)
}

/// Becomes true when the process is told to stop.
fn stop_signal() -> Result<watch::Receiver<bool>, Failure> {
    let (tell, stop) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Signals)?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tell.send_replace(true);
        // Keeps the channel open for those who ask later.
        tell.closed().await;
    });
    Ok(stop)
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the task above is gone, and the runtime with it.
    drop(stop.wait_for(|stop| *stop).await);
}

async fn overdue(stop: watch::Receiver<bool>) {
    stopped(stop).await;
    tokio::time::sleep(DRAIN_TIMEOUT).await;
}

/// Tells the log, and a person who started the server by hand what to type next.
fn announce(config: &Config, address: SocketAddr) {
    tracing::info!(%address, production = config.production, "listening");
    if config.production
        || !std::io::stdout().is_terminal() && !matches!(config.database, Database::Embedded { .. })
    {
        return;
    }
    let code =
        if config.mail.is_some() { "the code comes by mail" } else { "the code is printed in this log" };
    let login = format!("tally login --server http://{address}");
    let width = login.len();
    let text = format!(
        "\nTallystick is listening on http://{address}\n\n\
         In another terminal:\n\n  \
           {login}  {code}\n  \
           {:width$}  mint a token\n  \
           {:width$}  see who did what\n\n",
        "tally token create laptop", "tally audit"
    );
    // Nobody reading is no reason not to serve.
    drop(std::io::stdout().write_all(text.as_bytes()));
}
