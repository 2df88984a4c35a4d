//! What tests share: a scratch directory that cleans up after any end, real PostgreSQL clusters,
//! the real binary as a process with a client for it, and a stranger on the wire between the two.

#![allow(
    clippy::missing_panics_doc,
    clippy::double_must_use,
    reason = "tests panic when something is wrong: that is what they are for"
)]

mod certificate;
pub mod client;
pub mod clock;
pub mod gate;
pub mod issuer;
pub mod line;
pub mod log;
pub mod marks;
pub mod nats;
pub mod port;
pub mod postgres;
mod program;
pub mod proxy;
pub mod resend;
pub mod scratch;
pub mod server;
pub mod smtp;
mod watch;

use std::time::{Duration, Instant};

pub use certificate::certify;
pub use client::{Answer, Client, Console, Login};
pub use clock::FakeClock;
pub use gate::Gate;
pub use issuer::Issuer;
pub use line::{Condition, Line};
pub use marks::Marks;
pub use nats::NatsServer;
pub use port::Port;
pub use postgres::TempPostgres;
pub use proxy::{Meddling, Proxy};
pub use scratch::Scratch;
pub use server::Server;

/// Asks again until there is an answer.
///
/// # Panics
/// When there is none within a generous time, naming what was waited for.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited a minute for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
