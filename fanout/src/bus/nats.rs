//! NATS between replicas: one subject for the installation, core messages, nothing kept anywhere.
//!
//! It is fast or it is not there. Whatever is lost on the way, at either end, the next renewal finds.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_nats::{Client, ConnectOptions, Event, ServerAddr, Subscriber, connection::State};
use futures::{FutureExt, StreamExt};
use rand::RngExt;
use tally_events::seal::Key;
use tokio::{sync::Notify, time::sleep};
use zeroize::Zeroizing;

use crate::metrics::METRICS;

/// Messages that wait for this replica; more are dropped, and it reads the log.
const QUEUE: usize = 4096;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// A server that is silent for two of these is taken for gone.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Between tries: from the first, doubled up to the last, and half as long again at random, so that a
/// server that comes back is not met by everybody at once.
const RECONNECT_FIRST: Duration = Duration::from_millis(50);
const RECONNECT_LAST: Duration = Duration::from_secs(4);
/// A start without NATS is worth a word after this.
const ABSENT_AFTER: Duration = Duration::from_secs(2);

/// How NATS is reached.
#[derive(Clone)]
pub struct NatsSettings {
    pub servers: Vec<ServerAddr>,
    pub login: NatsLogin,
    /// Certificates that the server's must be signed by, in PEM; none: those of the machine.
    pub authorities: Option<PathBuf>,
}

/// What NATS is shown.
#[derive(Clone)]
pub enum NatsLogin {
    /// What stands in the URL, or nothing.
    Open,
    UserAndPassword {
        user: String,
        password: Zeroizing<String>,
    },
    /// The seed of an Ed25519 key.
    Nkey(Zeroizing<String>),
    /// A creds file: a JWT and its seed.
    Credentials(Zeroizing<String>),
}

/// Why there can be no bus, whatever the network does.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    #[error("the NATS credentials cannot be read")]
    Credentials(#[source] std::io::Error),
    #[error("NATS cannot be used")]
    Connect(#[from] async_nats::ConnectError),
    #[error("NATS cannot be subscribed to")]
    Subscribe(#[from] async_nats::client::SubscribeError),
}

/// A connection, which comes back by itself, and what came by it.
pub struct Nats {
    client: Client,
    subject: String,
    /// Authenticates what is said between processes.
    key: Key,
    subscriber: Subscriber,
    /// Something may not have come.
    missed: Arc<Notify>,
}

/// What came by NATS.
pub(super) enum Came {
    Bytes(async_nats::Message),
    Missed,
    Closed,
}

impl Nats {
    /// Begins to connect and returns: a server that is not there yet is tried again for ever.
    ///
    /// `key` is the installation's, and names the subject too: installations that share a server do not
    /// hear each other.
    ///
    /// # Errors
    /// When the settings can never work.
    pub async fn connect(settings: NatsSettings, key: &Key) -> Result<Self, NatsError> {
        let missed = Arc::new(Notify::new());
        let notify = missed.clone();
        let options = ConnectOptions::new()
            .name("tallystick")
            .no_echo()
            .retry_on_initial_connect()
            .subscription_capacity(QUEUE)
            .connection_timeout(CONNECT_TIMEOUT)
            .ping_interval(PING_INTERVAL)
            .reconnect_delay_callback(delay)
            .event_callback(move |event| {
                if tell(&event) {
                    notify.notify_one();
                }
                std::future::ready(())
            });
        let options = match &settings.login {
            NatsLogin::Open => options,
            NatsLogin::UserAndPassword { user, password } => {
                options.user_and_password(user.clone(), password.to_string())
            }
            NatsLogin::Nkey(seed) => options.nkey(seed.to_string()),
            NatsLogin::Credentials(text) => options.credentials(text).map_err(NatsError::Credentials)?,
        };
        let options = match settings.authorities {
            Some(authorities) => options.add_root_certificates(authorities).require_tls(true),
            None => options,
        };
        let client = options.connect(settings.servers).await?;
        let subject = format!("tallystick.{}", key.fingerprint());
        let subscriber = client.subscribe(subject.clone()).await?;
        tokio::spawn(tell_of_absence(client.clone()));
        Ok(Self { client, subject, key: key.clone(), subscriber, missed })
    }

    pub(super) const fn key(&self) -> &Key {
        &self.key
    }

    pub(super) fn is_connected(&self) -> bool {
        is_connected(&self.client)
    }

    /// For whoever asks how it is while another listens.
    pub(crate) fn link(&self) -> NatsLink {
        NatsLink(self.client.clone())
    }

    /// Sends, or does not: nobody waits for a bus that is full.
    pub(super) fn send(&self, bytes: Vec<u8>) {
        let sent = self.client.publish(self.subject.clone(), bytes.into()).now_or_never();
        if !matches!(sent, Some(Ok(()))) {
            METRICS.unsent.increment(1);
            tracing::debug!("a message was not sent: the bus is full");
        }
    }

    /// The next that came. Nothing is lost when it is not waited for to the end.
    pub(super) async fn next(&mut self) -> Came {
        tokio::select! {
            biased;
            () = self.missed.notified() => Came::Missed,
            message = self.subscriber.next() => message.map_or(Came::Closed, Came::Bytes),
        }
    }
}

/// How the connection is.
pub(crate) struct NatsLink(Client);

impl NatsLink {
    pub(crate) fn is_connected(&self) -> bool {
        is_connected(&self.0)
    }
}

fn is_connected(client: &Client) -> bool {
    client.connection_state() == State::Connected
}

/// Whether something may not have come by it.
fn tell(event: &Event) -> bool {
    match event {
        Event::Connected => tracing::info!("NATS is there: revocations reach the other replicas at once"),
        Event::Disconnected => {
            tracing::warn!("NATS is away: revocations wait until every lease from before is over");
        }
        Event::SlowConsumer(_) => {
            METRICS.slow_consumer.increment(1);
            tracing::warn!("NATS sent more than this replica took: it reads the log");
        }
        Event::ServerError(error) => tracing::warn!(%error, "NATS says no"),
        Event::ClientError(error) => {
            tracing::warn!(%error, "NATS is not reached");
        }
        Event::LameDuckMode | Event::Draining | Event::Closed => tracing::info!(%event, "NATS stops"),
    }
    matches!(event, Event::Connected | Event::Disconnected | Event::SlowConsumer(_))
}

async fn tell_of_absence(client: Client) {
    sleep(ABSENT_AFTER).await;
    if !is_connected(&client) {
        tracing::warn!(
            "NATS is not there yet: until it is, revocations wait until every lease from before is over"
        );
    }
}

/// How long to wait before a try.
fn delay(tries: usize) -> Duration {
    let doublings = u32::try_from(tries.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    let least = RECONNECT_FIRST.saturating_mul(2_u32.saturating_pow(doublings)).min(RECONNECT_LAST);
    least.mul_f64(rand::rng().random_range(1.0..1.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_come_further_apart_up_to_an_end_and_not_all_at_once() {
        let milliseconds = |tries: usize| {
            let delays: Vec<u128> = (0..64).map(|_| delay(tries).as_millis()).collect();
            (*delays.iter().min().unwrap(), *delays.iter().max().unwrap())
        };
        for (tries, least) in [(0, 50), (1, 50), (2, 100), (5, 800), (8, 4000), (1_000_000, 4000)] {
            let (shortest, longest) = milliseconds(tries);
            assert!(shortest >= least && longest <= least * 3 / 2, "{tries}: {shortest} to {longest}");
            assert!(shortest < longest, "{tries}: always {shortest}");
        }
    }
}
