//! `/metrics`, on an address of its own: what the rooms count, and how things are when a scraper asks.
//!
//! Nothing is counted before [`Exporter::install`], and nothing where it is not called. Labels take
//! their values from tables of this program alone: never from a request, and never of a person.

mod counters;
mod gauges;

use std::time::Duration;

use axum::{
    Router,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::{
    net::TcpListener,
    task::spawn_blocking,
    time::{Instant, interval},
};

use crate::{serve::serve_service, state::App};
pub(crate) use counters::{HttpMetrics, METRICS, UNMATCHED};

/// The text format that every scraper reads.
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const HEADERS: [(HeaderName, HeaderValue); 3] = [
    (header::CONTENT_TYPE, CONTENT_TYPE),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
];
/// A scraper or two, and a person who looks.
const CONNECTIONS_MAX: usize = 16;
/// What histograms were told is kept until it is sorted into their buckets, this often.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

/// What everything is counted in, and shown from.
pub struct Exporter {
    handle: PrometheusHandle,
    installed: Instant,
}

/// Why nothing can be counted.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be collected: {0}")]
pub struct ExporterError(#[from] BuildError);

impl Exporter {
    /// Begins to count, for the whole process and until it ends. Called before anything is started that
    /// counts: what began without a recorder stays without.
    ///
    /// # Errors
    /// When the process counts already.
    pub fn install(version: &'static str) -> Result<Self, ExporterError> {
        let buckets = [counters::BUCKETS].into_iter();
        let mut buckets = buckets.chain(tally_store::metrics::BUCKETS).chain(tally_fanout::metrics::BUCKETS);
        let builder = buckets.try_fold(PrometheusBuilder::new(), |builder, (name, bounds)| {
            builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds)
        })?;
        let handle = builder.install_recorder()?;
        tally_store::metrics::register();
        tally_projections::metrics::register();
        tally_fanout::metrics::register();
        counters::register();
        gauges::register(version);
        Ok(Self { handle, installed: Instant::now() })
    }

    /// Serves `/metrics` until `stop` resolves and the scrapes under way have ended. Whoever reaches the
    /// listener may read it.
    pub async fn serve(self, listener: TcpListener, app: App, stop: impl Future<Output = ()> + Send) {
        let Self { handle, installed } = self;
        let upkeep = upkeep(handle.clone());
        gauges::set_start(app.store.clock(), installed);
        let router = Router::new().route("/metrics", get(scrape)).with_state(Page { handle, app });
        tokio::select! {
            () = serve_service(listener, router, CONNECTIONS_MAX, stop) => {}
            () = upkeep => {}
        }
    }
}

/// What the page is made of.
#[derive(Clone)]
struct Page {
    handle: PrometheusHandle,
    app: App,
}

async fn scrape(State(Page { handle, app }): State<Page>) -> Response {
    // It reads files of the system and writes some thousand lines: not between the requests.
    let rendered = spawn_blocking(move || {
        gauges::set(&app);
        handle.render()
    });
    match rendered.await {
        Ok(page) => (HEADERS, page).into_response(),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the metrics cannot be shown");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn upkeep(handle: PrometheusHandle) {
    let mut ticks = interval(UPKEEP_INTERVAL);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}
