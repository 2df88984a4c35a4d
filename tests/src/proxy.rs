//! A stranger on the wire between a committer and PostgreSQL, who meddles with COMMIT.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use sqlx::postgres::PgConnectOptions;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::Notify,
};

use crate::{eventually, scratch::Scratch};

/// What happens to one COMMIT.
#[derive(Clone, Debug)]
pub enum Meddling {
    /// It arrives, and the answer is lost.
    LoseReply,
    /// It is lost, and the server learns at once that the client is gone.
    LoseCommit,
    /// The client is cut off at once; the COMMIT arrives when the gate opens.
    Late(Arc<Notify>),
    /// The client is cut off at once; when the gate opens, the server learns of it. No COMMIT arrives.
    Never(Arc<Notify>),
    /// It is kept from the server until the client goes away, and then it is lost.
    Withhold,
    /// It arrives, and its answer is kept from the client until that goes away.
    WithholdReply,
}

pub struct Proxy {
    scratch: Scratch,
    state: Arc<State>,
}

struct State {
    upstream: PathBuf,
    plans: Mutex<VecDeque<Meddling>>,
    /// COMMITs that were meddled with, as far as it goes without a gate or the client's end.
    meddled: AtomicUsize,
    open: AtomicBool,
    connections: AtomicUsize,
}

impl Proxy {
    /// Listens in front of the server that `options` name.
    ///
    /// # Panics
    /// When they name no socket.
    #[must_use]
    pub fn start(options: &PgConnectOptions) -> Self {
        let scratch = Scratch::new();
        let file = |directory: &Path| directory.join(format!(".s.PGSQL.{}", options.get_port()));
        let state = Arc::new(State {
            upstream: file(options.get_socket().expect("tests connect by socket")),
            plans: Mutex::default(),
            meddled: AtomicUsize::new(0),
            open: AtomicBool::new(true),
            connections: AtomicUsize::new(0),
        });
        let listener = UnixListener::bind(file(scratch.path())).expect("a socket of our own");
        tokio::spawn(accept(listener, state.clone()));
        Self { scratch, state }
    }

    /// The same database, by way of this proxy.
    #[must_use]
    pub fn options(&self, options: &PgConnectOptions) -> PgConnectOptions {
        options.clone().socket(self.scratch.path())
    }

    /// The same as a URL, as `DATABASE_URL` takes it.
    #[must_use]
    pub fn url(&self, options: &PgConnectOptions) -> String {
        let socket = self.scratch.path().display().to_string().replace('/', "%2F");
        format!("postgres://tally@{socket}/{}", options.get_database().unwrap_or("postgres"))
    }

    /// Meddles with the next COMMIT that has no plan yet.
    pub fn meddle(&self, plan: Meddling) {
        self.state.plans.lock().expect("nobody panics while holding it").push_back(plan);
    }

    /// Whether new connections are let through.
    pub fn let_in(&self, open: bool) {
        self.state.open.store(open, Ordering::SeqCst);
    }

    /// Waits until every plan was carried out as far as it goes without its gate.
    pub async fn meddled(&self) {
        eventually("a COMMIT to meddle with", async || {
            self.state.plans.lock().expect("nobody panics while holding it").is_empty().then_some(())
        })
        .await;
    }

    /// Waits until so many COMMITs since the start were meddled with: what a plan sends has arrived,
    /// and the server has answered.
    pub async fn carried_out(&self, commits: usize) {
        eventually("a plan to be carried out", async || {
            (self.state.meddled.load(Ordering::SeqCst) >= commits).then_some(())
        })
        .await;
    }

    /// Waits for so many connections since the start.
    pub async fn connected(&self, connections: usize) {
        eventually("a connection", async || {
            (self.state.connections.load(Ordering::SeqCst) >= connections).then_some(())
        })
        .await;
    }
}

async fn accept(listener: UnixListener, state: Arc<State>) {
    loop {
        let (client, _) = listener.accept().await.expect("our own socket");
        if !state.open.load(Ordering::SeqCst) {
            continue;
        }
        state.connections.fetch_add(1, Ordering::SeqCst);
        let state = state.clone();
        tokio::spawn(async move {
            // A side that goes away ends the connection, as it would without a proxy.
            drop(Box::pin(forward(client, &state)).await);
        });
    }
}

/// What a client asks for before the startup, if it wants to speak TLS.
const SSL_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();

/// The frontend's side of the protocol, as far as COMMIT must be found in it.
#[derive(Default)]
struct Frontend {
    buffer: Vec<u8>,
    started: bool,
    /// The name of the prepared COMMIT.
    commit: Option<Vec<u8>>,
}

impl Frontend {
    /// The next whole message, and its kind: 0 before the startup is over.
    fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        let head = usize::from(self.started);
        let length = u32::from_be_bytes(self.buffer.get(head..head + 4)?.try_into().ok()?) as usize + head;
        if self.buffer.len() < length {
            return None;
        }
        let message: Vec<u8> = self.buffer.drain(..length).collect();
        if self.started {
            return Some((message[0], message));
        }
        self.started = message[4..8] != SSL_REQUEST;
        Some((0, message))
    }

    /// Whether this message binds the prepared COMMIT; remembers its preparation.
    fn is_commit(&mut self, kind: u8, message: &[u8]) -> bool {
        let mut texts = message.get(5..).unwrap_or_default().split(|byte| *byte == 0);
        let (first, second) = (texts.next().unwrap_or_default(), texts.next().unwrap_or_default());
        if kind == b'P' && second == b"commit" {
            self.commit = Some(first.to_vec());
        }
        kind == b'B' && self.commit.as_deref() == Some(second)
    }
}

async fn forward(mut client: UnixStream, state: &State) -> std::io::Result<()> {
    let mut server = UnixStream::connect(&state.upstream).await?;
    let mut frontend = Frontend::default();
    let (mut from_client, mut from_server) = ([0; 8192], [0; 8192]);
    let mut meddling: Option<(Meddling, Vec<u8>)> = None;
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                frontend.buffer.extend_from_slice(&from_client[..read]);
                while let Some((kind, message)) = frontend.message() {
                    if meddling.is_none() && frontend.is_commit(kind, &message) {
                        meddling = state.plans.lock().expect("nobody panics while holding it").pop_front().map(|plan| (plan, Vec::new()));
                    }
                    let Some((_, commit)) = &mut meddling else {
                        server.write_all(&message).await?;
                        continue;
                    };
                    commit.extend_from_slice(&message);
                    // Sync ends the COMMIT.
                    if kind == b'S' && let Some((plan, commit)) = meddling.take() {
                        return meddle(plan, &commit, client, server, &state.meddled).await;
                    }
                }
            }
            read = server.read(&mut from_server) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                client.write_all(&from_server[..read]).await?;
            }
        }
    }
}

async fn meddle(
    plan: Meddling,
    commit: &[u8],
    mut client: UnixStream,
    mut server: UnixStream,
    meddled: &AtomicUsize,
) -> std::io::Result<()> {
    let done = || meddled.fetch_add(1, Ordering::SeqCst);
    match plan {
        Meddling::LoseReply => {
            server.write_all(commit).await?;
            server.read_exact(&mut [0]).await?;
            done();
        }
        Meddling::LoseCommit => drop(done()),
        Meddling::Late(gate) => {
            drop(client);
            done();
            gate.notified().await;
            server.write_all(commit).await?;
            server.read_exact(&mut [0]).await?;
        }
        Meddling::Never(gate) => {
            drop(client);
            done();
            gate.notified().await;
        }
        Meddling::Withhold => {
            done();
            ended(&mut client).await;
        }
        Meddling::WithholdReply => {
            server.write_all(commit).await?;
            server.read_exact(&mut [0]).await?;
            done();
            ended(&mut client).await;
        }
    }
    Ok(())
}

/// Waits until the other side has closed; what it still sends is lost.
async fn ended(side: &mut UnixStream) {
    let mut lost = [0; 8192];
    while side.read(&mut lost).await.is_ok_and(|read| read > 0) {}
}
