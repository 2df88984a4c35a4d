//! A client for what wrk cannot do: several requests that belong together. It keeps one connection
//! and does as little as it can, because it shares the machine with the server.

use std::fmt::Write;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{Result, product::Token, verify};

/// An answer longer than this is none that is asked for here.
const ANSWER_BYTES_MAX: usize = 1 << 20;

const JSON: &str = "application/json";

pub struct Connection {
    stream: TcpStream,
    host: String,
    buffer: Vec<u8>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// The head as it came, without the status line.
    pub head: String,
    pub body: String,
}

impl Connection {
    /// Connects to `http://host:port`.
    pub async fn open(url: &str) -> Result<Self> {
        let host = url.strip_prefix("http://").ok_or_else(|| format!("{url} is not http"))?;
        let stream = TcpStream::connect(host).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, host: host.to_owned(), buffer: Vec::with_capacity(4096) })
    }

    /// Asks whether a token is good, as a proxy does; fails unless it is.
    pub async fn verify(&mut self, token: &Token) -> Result<Answer> {
        self.ask(token.secret.expose()).await?.expect(200)
    }

    /// Asks what a bearer is good for, as a proxy does.
    pub async fn ask(&mut self, bearer: &str) -> Result<Answer> {
        self.send("GET", verify::PATH, &[("X-Original-Method", "GET")], Some(bearer), None).await
    }

    pub async fn get(&mut self, path: &str, bearer: &str) -> Result<Answer> {
        self.send("GET", path, &[], Some(bearer), None).await
    }

    pub async fn patch(&mut self, path: &str, bearer: &str, body: &str) -> Result<Answer> {
        self.send("PATCH", path, &[], Some(bearer), Some((JSON, body))).await
    }

    /// Sends JSON that came by a proxy, from this address.
    pub async fn post_from(&mut self, address: &str, path: &str, body: &str) -> Result<Answer> {
        self.send("POST", path, &[("X-Forwarded-For", address)], None, Some((JSON, body))).await
    }

    pub async fn post(&mut self, path: &str, bearer: &str, body: &str) -> Result<Answer> {
        self.send("POST", path, &[], Some(bearer), Some((JSON, body))).await
    }

    pub async fn delete(&mut self, path: &str, bearer: &str) -> Result<Answer> {
        self.send("DELETE", path, &[], Some(bearer), None).await
    }

    /// Sends a body of some type, with this header for who it is.
    pub async fn post_as(
        &mut self,
        authorization: &str,
        path: &str,
        content_type: &str,
        body: &str,
    ) -> Result<Answer> {
        self.send("POST", path, &[("Authorization", authorization)], None, Some((content_type, body))).await
    }

    async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        bearer: Option<&str>,
        body: Option<(&str, &str)>,
    ) -> Result<Answer> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.host);
        // Writing to a text cannot fail.
        for (name, value) in headers {
            let _ = write!(request, "{name}: {value}\r\n");
        }
        if let Some(bearer) = bearer {
            let _ = write!(request, "Authorization: Bearer {bearer}\r\n");
        }
        let (content_type, body) = body.unwrap_or_default();
        if !content_type.is_empty() {
            let length = body.len();
            let _ = write!(request, "Content-Type: {content_type}\r\nContent-Length: {length}\r\n");
        }
        let _ = write!(request, "\r\n{body}");
        self.stream.write_all(request.as_bytes()).await?;
        self.receive().await
    }

    async fn receive(&mut self) -> Result<Answer> {
        self.buffer.clear();
        loop {
            if let Some((answer, length)) = parse(&self.buffer)? {
                if length != self.buffer.len() {
                    return Err("an answer is longer than it says".into());
                }
                return Ok(answer);
            }
            if self.buffer.len() > ANSWER_BYTES_MAX {
                return Err("an answer does not end".into());
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the server hung up".into());
            }
        }
    }
}

/// The answer and its length, once all of it is there.
fn parse(bytes: &[u8]) -> Result<Option<(Answer, usize)>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end])?;
    let (line, head) = head.split_once("\r\n").unwrap_or((head, ""));
    let status: u16 = line.split(' ').nth(1).ok_or("no status")?.parse()?;
    let length = match header(head, "content-length") {
        Some(length) => length.parse()?,
        // 204 and 304 have no body, RFC 9110 section 8.6.
        None if matches!(status, 204 | 304) => 0,
        None => return Err(format!("an answer without a length: {line}").into()),
    };
    let whole = end + 4 + length;
    if bytes.len() < whole {
        return Ok(None);
    }
    let body = std::str::from_utf8(&bytes[end + 4..whole])?.to_owned();
    Ok(Some((Answer { status, head: head.to_owned(), body }, whole)))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}

impl Answer {
    /// The answer, if its status is this one.
    pub fn expect(self, status: u16) -> Result<Self> {
        if self.status == status {
            Ok(self)
        } else {
            Err(format!("{} instead of {status}: {}", self.status, self.body).into())
        }
    }

    pub fn json(&self) -> Result<serde_json::Value> {
        Ok(serde_json::from_str(&self.body)?)
    }

    /// The headers that a handler has given, which leaves those of the connection and the moment.
    pub fn headers(&self) -> Vec<(String, String)> {
        let own = ["content-length", "date", "connection"];
        let lines = self.head.split("\r\n").filter_map(|line| line.split_once(':'));
        lines
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .filter(|(name, _)| !own.contains(&name.as_str()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_length_is_there() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Log-Position: 7\r\n\r\nhello";
        for end in 0..text.len() {
            assert!(parse(&text[..end]).unwrap().is_none(), "{end}");
        }
        let (answer, length) = parse(text).unwrap().unwrap();
        assert_eq!((answer.status, answer.body.as_str(), length), (200, "hello", text.len()));
        assert_eq!(answer.headers(), [("x-log-position".to_owned(), "7".to_owned())]);
    }

    #[test]
    fn no_content_has_no_length() {
        let (answer, _) = parse(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap();
        assert_eq!(answer.expect(204).unwrap().body, "");
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
