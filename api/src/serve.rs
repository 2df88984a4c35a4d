//! Serving: the one place that hands the router to a listener.
//!
//! Connections are bounded in number, and one that does not finish a request's head in time is
//! closed: somebody who opens many and says nothing takes no place from others for long.

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequestParts, Request},
    http::request::Parts,
    response::Response,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore, watch},
    time::sleep,
};
use tower::{Service, ServiceExt};

use crate::{error::ApiError, head_timer::HeadTimer, routes::router, state::App};

/// How long the head of a request may take; an idle connection is closed after it too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// When the machine has no file descriptor left, accepting is tried again after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` resolves and the requests under way have ended.
///
/// Beyond `connections_max`, new connections wait in the listener's queue for a place.
pub async fn serve(
    listener: TcpListener,
    app: App,
    connections_max: usize,
    stop: impl Future<Output = ()> + Send,
) {
    serve_service(listener, router(app), connections_max, stop).await;
}

/// The same with any service.
pub(crate) async fn serve_service<S>(
    listener: TcpListener,
    service: S,
    connections_max: usize,
    stop: impl Future<Output = ()> + Send,
) where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    let mut http = http1::Builder::new();
    http.header_read_timeout(HEAD_TIMEOUT);
    let places = Arc::new(Semaphore::new(connections_max));
    let (tell, stopping) = watch::channel(false);
    let mut stop = pin!(stop);
    loop {
        let accepted = async {
            // The semaphore is never closed: this waits for a place and gets one.
            let place = places.clone().acquire_owned().await;
            (accept(&listener).await, place)
        };
        let ((stream, peer), place) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
        };
        let inner = service.clone();
        let connection = Connection(Arc::new(Held { place, peer, stopping: stopping.clone() }));
        let stopping = connection.clone();
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(connection.clone());
            inner.clone().oneshot(request.map(Body::new))
        });
        http.timer(HeadTimer::default());
        let http = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
        tokio::spawn(async move {
            let mut http = pin!(http);
            // A client that hangs up or is too slow is no news.
            tokio::select! {
                ended = &mut http => drop(ended),
                () = stopping.stopping() => {
                    // The request under way is answered, and none after it.
                    http.as_mut().graceful_shutdown();
                    drop(http.await);
                }
            }
        });
    }
    drop(listener);
    tell.send_replace(true);
    // Everybody has their place until they end, sockets too, which are no connections of HTTP any more.
    let all = u32::try_from(connections_max).unwrap_or(u32::MAX);
    drop(places.acquire_many(all).await);
}

/// What a request comes by. Whatever outlives the request and the connection's HTTP, such as a socket,
/// holds it and so keeps its place among those who may connect.
#[derive(Clone, Debug)]
pub struct Connection(Arc<Held>);

#[derive(Debug)]
struct Held {
    #[expect(dead_code, reason = "held, and given back when the last clone is dropped")]
    place: Result<OwnedSemaphorePermit, AcquireError>,
    peer: SocketAddr,
    stopping: watch::Receiver<bool>,
}

impl Connection {
    /// Who is at its other end: a client, or a proxy.
    pub fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    /// Resolves when the server stops.
    pub async fn stopping(&self) {
        let mut stopping = self.0.stopping.clone();
        // An error means that the server is gone.
        drop(stopping.wait_for(|stopping| *stopping).await);
    }
}

impl FromRequestParts<App> for Connection {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(ApiError::unavailable)
    }
}

/// The next connection. What only one client or one moment is to blame for is tried again.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Answers are small and whole: nothing is gained by waiting for more to send.
                drop(stream.set_nodelay(true));
                return (stream, peer);
            }
            Err(error) => match error.kind() {
                io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionRefused => {}
                _ => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "no connection can be accepted"
                    );
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}
