//! NATS between replicas: one subject for the installation, core messages, nothing kept anywhere.
//!
//! It is fast or it is not there. Whatever is lost on the way, at either end, the next renewal finds.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::{Client, ConnectOptions, Event, Server, ServerAddr, Subscriber, connection::State};
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
        let obstacle = Arc::new(Obstacle::default());
        let gone = obstacle.clone();
        let options = ConnectOptions::new()
            .name("tallystick")
            .no_echo()
            .retry_on_initial_connect()
            .subscription_capacity(QUEUE)
            .connection_timeout(CONNECT_TIMEOUT)
            .ping_interval(PING_INTERVAL)
            .reconnect_delay_callback(delay)
            // Asked before every round of tries: nothing else is told what the last one met. Which server
            // is tried stays as it is.
            .reconnect_to_server_callback(move |servers, _| {
                obstacle.met(&servers);
                std::future::ready(None)
            })
            .event_callback(move |event| {
                if matches!(event, Event::Connected) {
                    gone.over();
                }
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
        // Why it is not reached is told by the obstacle, with its cause.
        Event::ClientError(error) => tracing::debug!(%error, "NATS is not reached"),
        Event::LameDuckMode | Event::Draining | Event::Closed => tracing::info!(%event, "NATS stops"),
    }
    matches!(event, Event::Connected | Event::Disconnected | Event::SlowConsumer(_))
}

/// What keeps NATS from being reached: told when it is met, and again when it is another.
#[derive(Default)]
struct Obstacle(Mutex<Option<String>>);

impl Obstacle {
    fn met(&self, servers: &[Server]) {
        let Some(error) = servers.iter().find_map(|server| server.last_error.clone()) else { return };
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.as_ref() != Some(&error) {
            tracing::warn!(%error, "{}", advice(&error));
            *told = Some(error);
        }
    }

    fn over(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// What to do about it, by the words of the library, of TLS and of the server.
fn advice(error: &str) -> &'static str {
    let speaks_of = |words: &[&str]| words.iter().any(|word| error.contains(word));
    if speaks_of(&["authorization violation", "signing nonce"]) {
        "NATS does not accept who this is: NATS_USER and NATS_PASSWORD, NATS_NKEY or NATS_CREDS must show a user that it knows"
    } else if speaks_of(&["peer certificate"]) {
        "NATS shows no certificate that is trusted here: NATS_CA must hold the authority that signed it, and NATS_URL a name that stands in it"
    } else if speaks_of(&["corrupt message"]) {
        "NATS does not speak TLS there: NATS_URL must lead to a server that does, or NATS_CA be unset and NATS_URL begin with nats://"
    } else {
        "NATS is not reached: NATS_URL must lead to a server that runs"
    }
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
