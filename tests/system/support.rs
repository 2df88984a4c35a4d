//! The server most tests share: started once, stopped when this process ends.

use tally_tests::{Client, Server};
use tokio::sync::OnceCell;

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_tally");

/// A server that tests share. Each test brings its own people, so they do not meet.
pub async fn shared() -> &'static Server {
    static SERVER: OnceCell<Server> = OnceCell::const_new();
    SERVER.get_or_init(|| Server::start(BINARY, &[])).await
}

/// A client of the shared server.
pub async fn client() -> Client {
    shared().await.client()
}

/// An address nobody else uses.
pub fn address(name: &str) -> String {
    format!("{name}-{}@example.org", uuid::Uuid::now_v7().simple())
}
