//! Logs: one line an event, for people or for machines, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{Config, LogFormat};

/// Starts logging.
pub fn start(config: &Config) {
    // sqlx would log statements at debug, and a slow one at warn: their texts hold no values, but
    // they are not news either.
    let filter = EnvFilter::new(format!("{},sqlx=warn", config.log_level));
    let registry = tracing_subscriber::registry().with(filter);
    match config.log_format {
        LogFormat::Json => {
            let layer =
                fmt::layer().json().flatten_event(true).with_current_span(false).with_writer(std::io::stderr);
            registry.with(layer).init();
        }
        LogFormat::Pretty => {
            let layer = fmt::layer()
                .compact()
                .with_target(false)
                .with_ansi(std::io::stderr().is_terminal())
                .with_writer(std::io::stderr);
            registry.with(layer).init();
        }
    }
}
