//! What replicas are asked, in as few steps as HTTP allows, and what they said when.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::faults::site::Door;

/// Between two questions of one connection.
const PAUSE: Duration = Duration::from_millis(3);
/// Longer than any replica is stopped: what it says when it goes on is to be heard.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(12);

/// A request that is answered 200 for as long as what it rests on is live, and then no more.
#[derive(Clone, Debug)]
pub struct Question {
    request: Arc<str>,
    /// The status that says no.
    pub no: u16,
}

/// What one replica was asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub replica: usize,
    pub start: Instant,
    pub end: Instant,
    /// The status; none when no answer came.
    pub answer: Option<u16>,
}

/// Asks one replica one question, on a connection of its own.
pub struct Asker {
    replica: usize,
    door: Door,
    question: Question,
    asked: Arc<Mutex<Vec<Asked>>>,
    connection: Option<BufReader<TcpStream>>,
}

impl Question {
    pub fn new(path: &str, credential: &str, no: u16) -> Self {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: tally\r\nx-original-method: GET\r\nauthorization: Bearer {credential}\r\n\r\n"
        );
        Self { request: request.into(), no }
    }

    /// Whether the credential is good for anything.
    pub fn of_credential(credential: &str) -> Self {
        Self::new("/auth/verify", credential, 401)
    }
}

impl Asker {
    pub fn new(replica: usize, door: Door, question: Question, asked: Arc<Mutex<Vec<Asked>>>) -> Self {
        Self { replica, door, question, asked, connection: None }
    }

    pub async fn hammer(mut self, halt: Arc<AtomicBool>) {
        while !halt.load(Ordering::SeqCst) {
            self.ask().await;
            sleep(PAUSE).await;
        }
    }

    pub async fn ask_once(mut self) {
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
        let answer = timeout(ASK_TIMEOUT, exchange(connection, &self.question)).await;
        let answer = answer.ok().and_then(Result::ok);
        let asked = Asked { replica: self.replica, start, end: Instant::now(), answer };
        if answer.is_none() {
            self.connection = None;
        }
        self.asked.lock().unwrap().push(asked);
    }
}

/// The status that a replica answers with.
async fn exchange(connection: &mut BufReader<TcpStream>, question: &Question) -> io::Result<u16> {
    connection.write_all(question.request.as_bytes()).await?;
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

/// What a replica says once it knows: 503 and no answer are neither yes nor no. None: not within `limit`.
pub async fn verdict(door: &Door, question: &Question, limit: Duration) -> Option<u16> {
    let asking = async {
        loop {
            let address = door.client().address().to_owned();
            if let Ok(stream) = TcpStream::connect(address).await
                && let Ok(status) = exchange(&mut BufReader::new(stream), question).await
                && status != 503
            {
                return status;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(limit, asking).await.ok()
}
