//! The database of this configuration: given, or embedded.

use std::{ffi::OsStr, time::Duration};

use sqlx::postgres::PgConnectOptions;
use tally_store::{MigrateError, Unknown};
use tokio::time::{Instant, sleep};

use crate::{
    config::{Config, Database},
    embedded::{Attached, Embedded, EmbeddedError},
};

/// How long a given database may take to be there: it may start beside us.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);

/// A database to use, and the private one to stop afterwards, if it is ours.
pub struct Opened {
    pub serving: PgConnectOptions,
    pub migrating: PgConnectOptions,
    owned: Owned,
}

enum Owned {
    Nothing,
    Server(Box<Embedded>),
    Command(Box<Attached>),
}

impl Opened {
    /// For the server: the embedded database is started, and nobody else may start it.
    pub async fn for_server(config: &Config) -> Result<Self, EmbeddedError> {
        Self::open(config, true).await
    }

    /// For a command beside the server: uses the server's embedded database if it runs.
    pub async fn for_command(config: &Config) -> Result<Self, EmbeddedError> {
        Self::open(config, false).await
    }

    async fn open(config: &Config, server: bool) -> Result<Self, EmbeddedError> {
        match &config.database {
            Database::External { serving, migrating } => Ok(Self {
                serving: serving.as_ref().clone(),
                migrating: migrating.as_ref().clone(),
                owned: Owned::Nothing,
            }),
            Database::Embedded { binaries, search_path } => {
                let search_path = search_path.as_deref().map(OsStr::new);
                let (options, owned) = if server {
                    let embedded =
                        Embedded::start(&config.data_dir, binaries.as_deref(), search_path).await?;
                    (embedded.connect_options(), Owned::Server(Box::new(embedded)))
                } else {
                    let attached =
                        Embedded::attach(&config.data_dir, binaries.as_deref(), search_path).await?;
                    (attached.connect_options(), Owned::Command(Box::new(attached)))
                };
                Ok(Self { serving: options.clone(), migrating: options, owned })
            }
        }
    }

    /// Migrates, waiting a while for a database that is still starting.
    pub async fn migrate(&self) -> Result<(), MigrateError> {
        let deadline = Instant::now() + PATIENCE;
        let mut told = false;
        loop {
            match tally_store::migrate(&self.migrating).await {
                Err(MigrateError::Connect(error)) if Instant::now() < deadline => {
                    if !told {
                        tracing::warn!(error = &error as &dyn std::error::Error, "waiting for the database");
                        told = true;
                    }
                    sleep(PAUSE).await;
                }
                outcome => return outcome.map(|unknown| tell_unknown(&unknown)),
            }
        }
    }

    /// Stops the private database, if it is ours. Close every pool first.
    pub async fn close(self) -> Result<(), EmbeddedError> {
        match self.owned {
            Owned::Nothing => Ok(()),
            Owned::Server(embedded) => embedded.stop().await,
            Owned::Command(attached) => attached.stop().await,
        }
    }
}

/// A database that a newer release has migrated serves this one too, but its operator should know.
fn tell_unknown(unknown: &[Unknown]) {
    if unknown.is_empty() {
        return;
    }
    let list: Vec<String> = unknown.iter().map(ToString::to_string).collect();
    tracing::warn!(
        "a newer release has migrated this database; this one ({}) does not know {} and works without: finish the \
         upgrade, or the return to this release",
        env!("CARGO_PKG_VERSION"),
        list.join(", ")
    );
}
