//! Serving: the one place that hands the router to a listener.

use std::{io, net::SocketAddr};

use axum::{ServiceExt, extract::Request};
use tokio::net::TcpListener;

use crate::{routes::router, state::App};

/// Serves until `stop` resolves and the requests under way have ended.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    app: App,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let service = ServiceExt::<Request>::into_make_service_with_connect_info::<SocketAddr>(router(app));
    axum::serve(listener, service).with_graceful_shutdown(stop).await
}
