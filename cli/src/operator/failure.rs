//! Why the server or an operator's command could not do its work.

use std::{io, net::SocketAddr};

use tally_api::mail::MailError;
use tally_projections::runner::FoldError;
use tally_store::{KeyRingError, MigrateError};

use crate::{
    client::ExitCode,
    config::{Problems, SecretsError},
    embedded::EmbeddedError,
};

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("the settings are wrong\n{0}")]
    Config(Problems),
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    #[error(transparent)]
    Keys(#[from] KeyRingError),
    #[error(transparent)]
    Providers(#[from] tally_api::ProviderError),
    #[error(transparent)]
    Nats(#[from] tally_fanout::NatsError),
    #[error("the database did not answer")]
    Database(#[source] sqlx::Error),
    #[error(transparent)]
    Fold(#[from] FoldError),
    #[error("cannot listen on {address}: choose another with PORT or TALLY_BIND")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("METRICS_ADDR: {address} cannot be listened on: choose another, or unset it to serve no metrics")]
    ListenForMetrics { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Exporter(#[from] tally_api::ExporterError),
    #[error(
        "a newer release writes this database (its projections are of version {found}, those of this release, {}, \
         of version {known}): start that release or a later one, or restore a backup from before it",
        env!("CARGO_PKG_VERSION")
    )]
    Outdated { found: i32, known: i32 },
    #[error(transparent)]
    Mail(#[from] MailError),
    #[error("signals cannot be caught")]
    Signals(#[source] io::Error),
    #[error("{0}")]
    BadInput(String),
    #[error("{0}")]
    NotFound(String),
    #[error("the command was not executed: {0}")]
    Command(String),
    #[error("{0} of the projections do not equal the fold of the log")]
    Differs(usize),
    #[error("{0} of the projections were not rebuilt: their tables are as they were")]
    NotRebuilt(usize),
}

impl Failure {
    pub const fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::BadInput(_) => ExitCode::BadInput,
            Self::NotFound(_) => ExitCode::NotFound,
            Self::Database(_) | Self::Migrate(MigrateError::Connect(_)) => ExitCode::Network,
            Self::Embedded(_)
            | Self::Migrate(_)
            | Self::Secrets(_)
            | Self::Keys(_)
            | Self::Providers(_)
            | Self::Nats(_)
            | Self::Fold(_)
            | Self::Mail(_)
            | Self::Listen { .. }
            | Self::ListenForMetrics { .. }
            | Self::Exporter(_)
            | Self::Outdated { .. }
            | Self::Signals(_)
            | Self::Command(_)
            | Self::Differs(_)
            | Self::NotRebuilt(_) => ExitCode::Other,
        }
    }
}
