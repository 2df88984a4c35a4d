//! What the door counts: requests, those that came too often, and mails.

use std::{
    collections::HashMap,
    sync::{LazyLock, OnceLock},
    time::Duration,
};

use axum::{
    extract::MatchedPath,
    http::{Method, StatusCode},
};
use metrics::{Counter, Histogram, counter, describe_counter, describe_histogram, histogram};

const REQUEST_SECONDS: &str = "tally_http_request_seconds";
const RATE_LIMITED: &str = "tally_rate_limited_total";
const MAILS: &str = "tally_mails_total";

/// Upper bounds of the buckets: a warm verdict takes some 10 µs, and no handler is waited for longer
/// than 20 s.
pub(super) const BUCKETS: (&str, &[f64]) = (
    REQUEST_SECONDS,
    &[0.000_1, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0],
);

/// The route of a request for which there is none.
pub(crate) const UNMATCHED: &str = "unmatched";
const METHODS: [Method; 7] =
    [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD, Method::OPTIONS];
/// Whoever sends a request may name any method.
const OTHER_METHOD: &str = "other";
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Every metric but the requests', made once.
pub(crate) static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

pub(super) fn register() {
    describe_histogram!(
        REQUEST_SECONDS,
        "Time to answer requests, by the route's pattern, method and class of status."
    );
    LazyLock::force(&METRICS);
}

pub(crate) struct Metrics {
    pub rate_limited: Counter,
    pub mails_handed_over: Counter,
    pub mails_refused: Counter,
    pub mails_given_up: Counter,
    pub mails_in_doubt: Counter,
}

impl Metrics {
    fn new() -> Self {
        describe_counter!(RATE_LIMITED, "Answers that told somebody to come back later (429).");
        describe_counter!(MAILS, "Mails that are no longer under way, by what became of them.");
        let mails = |outcome| counter!(MAILS, "outcome" => outcome);
        Self {
            rate_limited: counter!(RATE_LIMITED),
            mails_handed_over: mails("handed_over"),
            mails_refused: mails("refused"),
            mails_given_up: mails("given_up"),
            mails_in_doubt: mails("in_doubt"),
        }
    }
}

/// A histogram for each route, method and class of status that was ever answered. They are found without
/// a lock: the routes are known when the router is made.
pub(crate) struct HttpMetrics {
    routes: HashMap<String, OfRoute>,
    unmatched: OfRoute,
}

/// By method, the last for all others, and class.
struct OfRoute {
    name: String,
    answered: [[OnceLock<Histogram>; CLASSES.len()]; METHODS.len() + 1],
}

impl HttpMetrics {
    pub fn new(routes: impl IntoIterator<Item = String>) -> Self {
        let routes = routes.into_iter().map(|route| (route.clone(), OfRoute::new(route)));
        Self { routes: routes.collect(), unmatched: OfRoute::new(UNMATCHED.to_owned()) }
    }

    pub fn answered(&self, route: Option<&MatchedPath>, method: &Method, status: StatusCode, took: Duration) {
        let route = route.and_then(|route| self.routes.get(route.as_str())).unwrap_or(&self.unmatched);
        route.histogram(method, status).record(took);
        if status == StatusCode::TOO_MANY_REQUESTS {
            METRICS.rate_limited.increment(1);
        }
    }
}

impl OfRoute {
    fn new(name: String) -> Self {
        Self { name, answered: Default::default() }
    }

    fn histogram(&self, method: &Method, status: StatusCode) -> &Histogram {
        let known = METHODS.iter().position(|known| known == method);
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        self.answered[known.unwrap_or(METHODS.len())][class].get_or_init(|| {
            let method = known.map_or(OTHER_METHOD, |_| method.as_str()).to_owned();
            histogram!(
                REQUEST_SECONDS,
                "route" => self.name.clone(), "method" => method, "status" => CLASSES[class]
            )
        })
    }
}
