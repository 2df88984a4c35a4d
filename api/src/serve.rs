//! Serving: the one place that hands the router to a listener.
//!
//! Connections are bounded in number, and one that does not finish a request's head in time is
//! closed: somebody who opens many and says nothing takes no place from others for long.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{body::Body, extract::ConnectInfo};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::sleep,
};
use tower::ServiceExt;

use crate::{head_timer::HeadTimer, routes::router, state::App};

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
    let router = router(app);
    let mut http = http1::Builder::new();
    http.header_read_timeout(HEAD_TIMEOUT);
    let places = Arc::new(Semaphore::new(connections_max));
    let connections = GracefulShutdown::new();
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
        let router = router.clone();
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            router.clone().oneshot(request.map(Body::new))
        });
        http.timer(HeadTimer::default());
        let connection = connections.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // A client that hangs up or is too slow is no news.
            drop(connection.await);
            drop(place);
        });
    }
    drop(listener);
    connections.shutdown().await;
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
