//! What every request passes: ids, removed headers, one log line, and an end in time.
//!
//! It is one function, because each layer costs what the verdict itself costs.

use std::{
    any::Any,
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::{FutureExt, future::BoxFuture};
use tally_events::RequestId;
use tally_fanout::request::strip_identity;
use tokio::time::{Instant, timeout};
use tower::{Layer, Service};
use tracing::Level;
use uuid::{Uuid, fmt::Hyphenated};

use crate::{
    error::{self, ApiError, Code, Family},
    guard,
    metrics::{HttpMetrics, UNMATCHED},
    routes::is_asked_per_request,
    state::App,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A handler that takes longer is not waited for: its client is told to come back.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Around every route: a request comes in without forged headers and with a name; an answer goes out
/// in the words of its family, with the headers every answer has, and is told in the log.
#[derive(Clone)]
pub struct Pass {
    pub metrics: Option<Arc<HttpMetrics>>,
}

impl<S> Layer<S> for Pass {
    type Service = Passing<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Passing { pass: self.clone(), inner }
    }
}

/// A route with it around. A service of its own: that of axum's `from_fn` copies the route once more for
/// each request, and boxes it.
#[derive(Clone)]
pub struct Passing<S> {
    pass: Pass,
    inner: S,
}

impl<S> Service<Request> for Passing<S>
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send + 'static>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let started = Instant::now();
        strip_identity(request.headers_mut());
        let id = name_request(&mut request);
        let asked = Asked::of(&request);
        let family = Family::of(request.uri().path());
        let metrics = self.pass.metrics.clone();
        let answered = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        Box::pin(async move {
            let response = match answered.await {
                Ok(Ok(response)) => response,
                Err(panic) => panicked(&panic),
            };
            Ok(finish(response, family, id, &asked, started, metrics.as_deref()))
        })
    }
}

/// What every answer goes out with.
fn finish(
    response: Response,
    family: Family,
    id: RequestId,
    asked: &Asked,
    started: Instant,
    metrics: Option<&HttpMetrics>,
) -> Response {
    let mut response = error::render(response, family, id);
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id_value(id.0));
    // Answers may hold secrets: nobody keeps a copy, and nobody guesses a type.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(metrics) = metrics {
        metrics.answered(asked.route.as_ref(), &asked.method, response.status(), started.elapsed());
    }
    asked.log(id, response.status(), started);
    response
}

/// Around the routes that browsers and command lines call, not those that proxies and services ask:
/// where a change may come from, and an answer in time.
pub async fn admit(State(app): State<App>, request: Request, next: Next) -> Result<Response, ApiError> {
    guard::check_origin(&app, &request)?;
    // A handler that does not end is not waited for.
    timeout(REQUEST_TIMEOUT, next.run(request)).await.map_err(|_| ApiError::unavailable())
}

/// Names the request, in its events, its log line and its answer. A client's own UUID is kept.
fn name_request(request: &mut Request) -> RequestId {
    let sent = request.headers().get(&REQUEST_ID).and_then(|value| value.to_str().ok()?.parse().ok());
    let id = sent.unwrap_or_else(RequestId::new);
    request.extensions_mut().insert(id);
    id
}

/// An id as the value of a header.
pub(crate) fn id_value(id: Uuid) -> HeaderValue {
    let mut text = [0; Hyphenated::LENGTH];
    let text = id.hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(text).expect("hexadecimal digits and hyphens are visible ASCII")
}

/// What the log tells of a request: the route's pattern, never its query or its headers.
struct Asked {
    method: Method,
    route: Option<MatchedPath>,
}

impl Asked {
    fn of(request: &Request) -> Self {
        Self { method: request.method().clone(), route: request.extensions().get().cloned() }
    }

    /// One line per request. Those that machines send all day are told only to who listens closely:
    /// a proxy or a service asks once per request of its own, and tells of that itself.
    fn log(&self, id: RequestId, status: StatusCode, started: Instant) {
        let route = self.route.as_ref().map_or(UNMATCHED, MatchedPath::as_str);
        let routine = route.ends_with("/health") || route.ends_with('z') || is_asked_per_request(route);
        let routine = routine && !status.is_server_error();
        if routine && !tracing::enabled!(Level::DEBUG) {
            return;
        }
        let (method, status) = (&self.method, status.as_u16());
        let duration_ms = (started.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        if routine {
            tracing::debug!(request.id = %id, http.method = %method, http.route = route, http.status = status, duration_ms, "request");
        } else {
            tracing::info!(request.id = %id, http.method = %method, http.route = route, http.status = status, duration_ms, "request");
        }
    }
}

/// A panicking handler is a defect: a 500 without a word about the inside.
fn panicked(_: &(dyn Any + Send)) -> Response {
    tracing::error!("a handler panicked");
    ApiError::new(Code::Internal, "internal error").into_response()
}
