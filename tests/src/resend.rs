//! A stand-in for the mail service Resend: HTTP on a port of its own, and what was asked of it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// What it does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// This status and body.
    Answer(u16, String),
    /// It says that everything is to be sent to this URL.
    Elsewhere(String),
    /// It takes the request and hangs up.
    Silence,
}

/// What was asked of it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Such as `POST /emails HTTP/1.1`.
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

impl Asked {
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
struct Book {
    asked: Vec<Asked>,
    /// The replies to come; the last one stays.
    replies: VecDeque<Reply>,
}

pub struct MailService {
    url: String,
    book: Arc<Mutex<Book>>,
}

impl MailService {
    /// Starts one that replies so, and with the last reply from then on.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let book = Arc::new(Mutex::new(Book { asked: Vec::new(), replies: replies.into_iter().collect() }));
        let kept = book.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let book = kept.clone();
                // A client that hangs up is no news.
                tokio::spawn(async move { drop(serve(stream, &book).await) });
            }
        });
        Self { url, book }
    }

    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Everything that was asked, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.book).asked.clone()
    }
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request a connection.
async fn serve(stream: TcpStream, book: &Mutex<Book>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut line, mut headers) = (String::new(), Vec::new());
    stream.read_line(&mut line).await?;
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await?;
        let Some((name, value)) = header.split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value.parse());
    let mut body = vec![0; length.and_then(Result::ok).unwrap_or_default()];
    stream.read_exact(&mut body).await?;
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let reply = {
        let mut book = lock(book);
        book.asked.push(Asked { line: line.trim().to_owned(), headers, body });
        if book.replies.len() > 1 { book.replies.pop_front() } else { book.replies.front().cloned() }
    };
    let (status, body, location) = match reply {
        Some(Reply::Answer(status, body)) => (status, body, String::new()),
        Some(Reply::Elsewhere(url)) => (307, String::new(), format!("location: {url}\r\n")),
        Some(Reply::Silence) | None => return stream.shutdown().await,
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} X\r\n{location}content-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all((head + &body).as_bytes()).await?;
    stream.shutdown().await
}
