//! Racers: each mints a token, has every replica asked for it without a pause worth the name, revokes it by
//! any of them, and goes on asking. All of it is written down with its times, and judged later.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use tally_tests::Answer;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::faults::site::Door;

/// Between two questions of one connection.
const PAUSE: Duration = Duration::from_millis(3);
/// How long all are asked on after the revocation is effective.
const TAIL: Duration = Duration::from_millis(12);
/// Longer than any replica is stopped: what it says when it goes on is to be heard.
const ASK_TIMEOUT: Duration = Duration::from_secs(12);
/// After this a racer turns to another replica.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(3);
/// A revocation has been tried everywhere by then, and all is mended.
const REVOKE_DEADLINE: Duration = Duration::from_secs(60);

/// One token, from its minting until nobody waits for an answer about it.
pub struct Case {
    pub id: String,
    pub token: String,
    pub asked: Vec<Asked>,
    pub attempts: Vec<Attempt>,
}

impl Case {
    pub fn is_revoked(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.effective)
    }
}

/// What one replica was asked about the token.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub replica: usize,
    pub start: Instant,
    pub end: Instant,
    /// The status; none when no answer came.
    pub answer: Option<u16>,
}

/// One call to revoke it.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    pub replica: usize,
    pub start: Instant,
    pub end: Instant,
    /// Whether it was said that no replica accepts it any more.
    pub effective: bool,
}

/// What racers say.
pub enum Told {
    Case(Case),
    /// Something that must not be.
    Wrong(String),
}

/// Somebody with a session, who does it again and again.
pub struct Racer {
    doors: Arc<[Door]>,
    session: String,
    told: mpsc::UnboundedSender<Told>,
    dice: StdRng,
}

impl Racer {
    pub fn new(doors: Arc<[Door]>, session: String, told: mpsc::UnboundedSender<Told>, seed: u64) -> Self {
        Self { doors, session, told, dice: StdRng::seed_from_u64(seed) }
    }

    pub async fn race(mut self, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::SeqCst) {
            match self.mint().await {
                Some((id, token)) => self.race_for(id, token).await,
                None => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn race_for(&mut self, id: String, token: String) {
        let (asked, halt) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let doors = self.doors.clone();
        let all = || {
            doors.iter().enumerate().map(|(replica, door)| Asker {
                replica,
                door: door.clone(),
                token: token.clone(),
                asked: asked.clone(),
                connection: None,
            })
        };
        let mut askers: Vec<JoinHandle<()>> =
            all().map(|asker| tokio::spawn(asker.hammer(halt.clone()))).collect();
        // The first answers are looked up, the later ones remembered; sometimes none is there yet.
        let before = Duration::from_micros(self.dice.random_range(0..20_000));
        sleep(before).await;
        let attempts = self.revoke(&id).await;
        // Whoever still waits for an answer, such as that of a replica that is stopped, cannot ask.
        askers.extend(all().map(|asker| tokio::spawn(asker.ask_once())));
        sleep(TAIL).await;
        halt.store(true, Ordering::SeqCst);
        let told = self.told.clone();
        tokio::spawn(async move {
            join_all(askers).await;
            let asked = std::mem::take(&mut *asked.lock().unwrap());
            // Nobody listens any more when a test has failed.
            drop(told.send(Told::Case(Case { id, token, asked, attempts })));
        });
    }

    /// Revokes by one replica after the other until one says that it is effective.
    async fn revoke(&mut self, id: &str) -> Vec<Attempt> {
        let deadline = Instant::now() + REVOKE_DEADLINE;
        let mut attempts = Vec::new();
        loop {
            let (replica, request) = self.request(Method::DELETE, &format!("/api/tokens/{id}"));
            let start = Instant::now();
            let answer = exchange(request).await;
            let effective = match &answer {
                Some(answer) if answer.status == 204 => {
                    if answer.header("x-revocation") != Some("effective") {
                        self.wrong(format!("a revocation is not said to be effective: {:?}", answer.headers));
                    }
                    true
                }
                Some(answer) if answer.status != 503 => {
                    self.wrong(format!(
                        "a revocation by replica {replica}: {} {}",
                        answer.status, answer.text
                    ));
                    false
                }
                Some(_) | None => false,
            };
            attempts.push(Attempt { replica, start, end: Instant::now(), effective });
            if effective {
                return attempts;
            }
            if Instant::now() > deadline {
                self.wrong(format!("token {id} cannot be revoked"));
                return attempts;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn mint(&mut self) -> Option<(String, String)> {
        let (replica, request) = self.request(Method::POST, "/api/tokens");
        let answer = exchange(request.json(&json!({ "name": "laptop" }))).await?;
        match answer.status {
            201 => {
                let body = answer.json();
                let field = |name: &str| body[name].as_str().expect("a text").to_owned();
                Some((field("id"), field("token")))
            }
            503 => None,
            status => {
                self.wrong(format!("a mint by replica {replica}: {status} {}", answer.text));
                None
            }
        }
    }

    /// A request to any of the replicas, and which it is.
    fn request(&mut self, method: Method, path: &str) -> (usize, RequestBuilder) {
        let doors: Vec<(usize, &Door)> = self.doors.iter().enumerate().collect();
        let (replica, door) = doors.choose(&mut self.dice).expect("there are replicas");
        (*replica, door.client().request(method, path).bearer_auth(&self.session))
    }

    fn wrong(&self, what: String) {
        drop(self.told.send(Told::Wrong(what)));
    }
}

async fn exchange(request: RequestBuilder) -> Option<Answer> {
    let response = request.timeout(COMMAND_TIMEOUT).send().await.ok()?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Some(Answer { status, headers, text: response.text().await.ok()? })
}

/// Asks one replica about one token, on a connection of its own.
struct Asker {
    replica: usize,
    door: Door,
    token: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    connection: Option<BufReader<TcpStream>>,
}

impl Asker {
    async fn hammer(mut self, halt: Arc<AtomicBool>) {
        while !halt.load(Ordering::SeqCst) {
            self.ask().await;
            sleep(PAUSE).await;
        }
    }

    async fn ask_once(mut self) {
        self.ask().await;
    }

    async fn ask(&mut self) {
        if self.connection.is_none() {
            let address = self.door.client().address().to_owned();
            let Ok(Ok(stream)) = timeout(ASK_TIMEOUT, TcpStream::connect(address)).await else { return };
            self.connection = Some(BufReader::new(stream));
        }
        let Some(connection) = &mut self.connection else { return };
        let start = Instant::now();
        let answer = timeout(ASK_TIMEOUT, verify(connection, &self.token)).await;
        let answer = answer.ok().and_then(Result::ok);
        let asked = Asked { replica: self.replica, start, end: Instant::now(), answer };
        if answer.is_none() {
            self.connection = None;
        }
        self.asked.lock().unwrap().push(asked);
    }
}

/// What a replica says of a credential, in as few steps as HTTP allows: the status.
async fn verify(connection: &mut BufReader<TcpStream>, credential: &str) -> io::Result<u16> {
    let request = format!(
        "GET /auth/verify HTTP/1.1\r\nhost: tally\r\nx-original-method: GET\r\nauthorization: Bearer {credential}\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).await?;
    let (mut status, mut length, mut line) = (None, 0, String::new());
    loop {
        line.clear();
        if connection.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = line.trim_end();
        if status.is_none() {
            status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        } else if let Some(value) = text.strip_prefix("content-length: ") {
            length = value.parse().map_err(|_| io::ErrorKind::InvalidData)?;
        } else if text.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await?;
    status.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// What a replica says of a credential once it knows: 503 and no answer are neither yes nor no. None:
/// not within `limit`.
pub async fn verdict(door: &Door, credential: &str, limit: Duration) -> Option<u16> {
    let asking = async {
        loop {
            let address = door.client().address().to_owned();
            if let Ok(stream) = TcpStream::connect(address).await
                && let Ok(status) = verify(&mut BufReader::new(stream), credential).await
                && status != 503
            {
                return status;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(limit, asking).await.ok()
}
