//! A whole service that checks Tallystick's tokens in its own process.
//!
//! It is one route, which says whose token it was shown. What it takes from its environment:
//!
//! | setting | |
//! |---|---|
//! | `DATABASE_URL` | the primary, as the role that `docs/embedding.md` makes; required |
//! | `NATS_URL` | the servers' NATS; without it, revocations wait for this service's lease |
//! | `TALLY_BUS_KEY` | with `NATS_URL`: what `tally verifier key` prints |
//! | `LISTEN` | where it listens, `127.0.0.1:8081` unless set |
//!
//! ```sh
//! DATABASE_URL=postgres://verifier:…@db.example.org/tally cargo run --package tally-fanout --example service
//! curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8081/whoami
//! ```

#![expect(
    clippy::disallowed_methods,
    reason = "this is a service of its own, with an environment of its own"
)]

use std::{env, error::Error, process::ExitCode};

use axum::{Extension, Router, http::StatusCode, routing::get};
use tally_fanout::{
    BusKey, NatsLogin, NatsServer, NatsSettings, Verified, Verifier, VerifierLayer, VerifierSettings,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let Err(failure) = serve().await else { return ExitCode::SUCCESS };
    eprintln!("error: {failure}");
    let mut source = failure.source();
    while let Some(error) = source {
        eprintln!("  because: {error}");
        source = error.source();
    }
    ExitCode::FAILURE
}

async fn serve() -> Result<(), Failure> {
    // Caught before anything begins, so that nothing is left on the list.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    // An error here is one that waiting would not mend: a wrong setting, a privilege that is missing.
    let verifier = Verifier::connect(settings()?).await?;

    // Behind the layer there is always a `Verified`. What may be asked without a token, such as
    // whether the service is well, stands outside of it.
    let health = verifier.clone();
    let app = Router::new()
        .route("/whoami", get(whoami))
        .layer(VerifierLayer::new(verifier.clone()))
        .route("/healthz", get(async move || health_of(&health)));

    let listener = TcpListener::bind(setting("LISTEN").unwrap_or("127.0.0.1:8081".to_owned())).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await?;

    // Last of all: it takes this process off the list of those that revocations wait for.
    verifier.shutdown().await;
    Ok(())
}

/// The handler asks nobody anything: whoever gets here has shown a good token.
async fn whoami(Extension(verified): Extension<Verified>) -> String {
    format!("{} by {}\n", verified.user, verified.credential)
}

/// Without a lease each request costs the database a lookup: right, and slower.
fn health_of(verifier: &Verifier) -> (StatusCode, String) {
    let status = verifier.status();
    let word = if status.lease_valid { "from memory" } else { "from the database" };
    (StatusCode::OK, format!("verifying {word}, {} tokens remembered\n", status.cached))
}

fn settings() -> Result<VerifierSettings, Failure> {
    let database_url = setting("DATABASE_URL").ok_or("DATABASE_URL is not set: set a URL of the primary")?;
    let bus = match (setting("NATS_URL"), setting("TALLY_BUS_KEY")) {
        (Some(url), Some(key)) => {
            let server = url.parse::<NatsServer>().map_err(|_| "NATS_URL is no address of a NATS server")?;
            let servers = vec![server];
            let nats = NatsSettings { servers, login: NatsLogin::Open, authorities: None };
            let key = key.parse::<BusKey>().map_err(|error| format!("TALLY_BUS_KEY is wrong: {error}"))?;
            Some((nats, key))
        }
        (None, None) => None,
        (Some(_), None) => return Err("NATS_URL is set without TALLY_BUS_KEY: set both, or neither".into()),
        (None, Some(_)) => return Err("TALLY_BUS_KEY is set without NATS_URL: set both, or neither".into()),
    };
    Ok(VerifierSettings { bus, ..VerifierSettings::new(database_url) })
}

fn setting(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}
