//! A line between a process and a server it talks to, which can be cut, slow, or lossy.
//!
//! TCP hides what a network loses: a lost segment comes late, and all behind it with it. So a cut line
//! holds what was sent until it is mended, and delivers it then, which is also what is most dangerous.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    task::JoinHandle,
    time::sleep,
};

/// Lost once, it is sent again after this: the least that Linux waits.
const RETRANSMISSION: Duration = Duration::from_millis(200);
/// Of what is sent on a lossy line, and of the messages that another meddles with, for each way to meddle.
const TENTH: f64 = 0.1;
/// How often a lossy line gives a connection up.
const BROKEN: f64 = 0.002;

/// Which way something goes on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToServer,
    ToClient,
}

/// How a line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    #[default]
    Good,
    /// Nothing passes, either way.
    Cut,
    /// Nothing passes this way.
    CutOneWay(Way),
    /// Everything takes longer, by so much each way, and by twice as much at most.
    Slow { there: Duration, back: Duration },
    /// A tenth of what is sent is lost and sent again; now and then a connection breaks.
    Lossy,
    /// Of the messages that a NATS server delivers, a tenth are lost, a tenth come twice, and a tenth
    /// come after the next.
    Meddling,
}

impl Condition {
    fn lets_through(self, way: Way) -> bool {
        match self {
            Self::Cut => false,
            Self::CutOneWay(cut) => cut != way,
            Self::Good | Self::Slow { .. } | Self::Lossy | Self::Meddling => true,
        }
    }
}

/// Where a line ends.
#[derive(Clone, Debug)]
pub enum Server {
    /// A NATS server's address.
    Nats(String),
    /// A PostgreSQL server's socket.
    Postgres(PathBuf),
}

/// A line, with the address where clients find its beginning.
pub struct Line {
    address: SocketAddr,
    condition: watch::Sender<Condition>,
    accepting: JoinHandle<()>,
}

impl Line {
    /// A good line, whose dice fall as the seed says.
    ///
    /// # Panics
    /// When the machine has no free port.
    pub async fn to(server: Server, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let condition = watch::Sender::new(Condition::Good);
        let accepting = tokio::spawn(accept(listener, server, condition.subscribe(), seed));
        Self { address, condition, accepting }
    }

    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// What is sent from now on finds the line like this.
    pub fn be(&self, condition: Condition) {
        self.condition.send_replace(condition);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, server: Server, condition: watch::Receiver<Condition>, seed: u64) {
    let seeds = Arc::new(AtomicU64::new(seed));
    loop {
        let (client, _) = listener.accept().await.expect("our own socket");
        let lane = |way| {
            let dice = StdRng::seed_from_u64(seeds.fetch_add(1, Ordering::Relaxed));
            Lane { way, condition: condition.clone(), dice, held: None }
        };
        let (there, back) = (lane(Way::ToServer), lane(Way::ToClient));
        let server = server.clone();
        // A side that goes away ends the connection, as it would without a line.
        tokio::spawn(async move { drop(connect(client, server, there, back).await) });
    }
}

async fn connect(client: TcpStream, server: Server, mut there: Lane, mut back: Lane) -> io::Result<()> {
    // A handshake needs both ways.
    there.opens().await?;
    back.opens().await?;
    client.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    match server {
        Server::Nats(address) => {
            let server = TcpStream::connect(address).await?;
            server.set_nodelay(true)?;
            let (from_server, to_server) = server.into_split();
            tokio::select! {
                done = there.carry(from_client, to_server) => done,
                done = back.carry_messages(from_server, to_client) => done,
            }
        }
        Server::Postgres(socket) => {
            let (from_server, to_server) = UnixStream::connect(socket).await?.into_split();
            tokio::select! {
                done = there.carry(from_client, to_server) => done,
                done = back.carry(from_server, to_client) => done,
            }
        }
    }
}

/// One way of one connection.
struct Lane {
    way: Way,
    condition: watch::Receiver<Condition>,
    dice: StdRng,
    /// A message that the next one overtakes.
    held: Option<Vec<u8>>,
}

impl Lane {
    async fn carry(
        &mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from.read(&mut buffer).await?;
            self.pass().await?;
            if read == 0 {
                return Ok(());
            }
            to.write_all(&buffer[..read]).await?;
        }
    }

    /// As [`carry`](Self::carry), with an eye for single messages.
    async fn carry_messages(
        &mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        let mut came = Vec::new();
        loop {
            let read = from.read(&mut buffer).await?;
            self.pass().await?;
            if read == 0 {
                return Ok(());
            }
            came.extend_from_slice(&buffer[..read]);
            let mut out = Vec::with_capacity(came.len());
            while let Some(length) = first_frame(&came) {
                let frame: Vec<u8> = came.drain(..length).collect();
                self.meddle(frame, &mut out);
            }
            to.write_all(&out).await?;
        }
    }

    fn meddle(&mut self, frame: Vec<u8>, out: &mut Vec<u8>) {
        if !frame.starts_with(b"MSG ") {
            out.extend_from_slice(&frame);
            return;
        }
        let overtaken = self.held.take();
        let meddles = *self.condition.borrow() == Condition::Meddling;
        let fate: f64 = if meddles { self.dice.random() } else { 1.0 };
        // Below one tenth it is lost.
        if fate >= 3.0 * TENTH {
            out.extend_from_slice(&frame);
        } else if fate >= 2.0 * TENTH {
            self.held = Some(frame);
        } else if fate >= TENTH {
            out.extend_from_slice(&frame);
            out.extend_from_slice(&frame);
        }
        out.extend(overtaken.into_iter().flatten());
    }

    /// Ends when what was sent now arrives; an error when the connection breaks instead.
    async fn pass(&mut self) -> io::Result<()> {
        self.opens().await?;
        let condition = *self.condition.borrow();
        match condition {
            Condition::Slow { there, back } => {
                sleep(if self.way == Way::ToServer { there } else { back }).await;
            }
            Condition::Lossy if self.dice.random_bool(BROKEN) => return Err(io::ErrorKind::TimedOut.into()),
            Condition::Lossy if self.dice.random_bool(TENTH) => sleep(RETRANSMISSION).await,
            Condition::Good
            | Condition::Cut
            | Condition::CutOneWay(_)
            | Condition::Lossy
            | Condition::Meddling => {
                return Ok(());
            }
        }
        // It may have been cut meanwhile.
        self.opens().await
    }

    /// Ends when something may pass: not before the line is mended, where it is cut.
    async fn opens(&mut self) -> io::Result<()> {
        let way = self.way;
        let open = self.condition.wait_for(|condition| condition.lets_through(way)).await;
        open.map(drop).map_err(|_| io::ErrorKind::NotConnected.into())
    }
}

/// How long the first frame is of what a NATS server says, once all of it is there: a line, and behind
/// the line of a message its payload.
fn first_frame(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let text = std::str::from_utf8(&bytes[..line]).ok()?.trim_end();
    let payload = match text.split_once(' ') {
        Some(("MSG" | "HMSG", rest)) => rest.rsplit(' ').next()?.parse::<usize>().ok()? + 2,
        _ => 0,
    };
    (bytes.len() >= line + payload).then_some(line + payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_whole() {
        let said = b"INFO {}\r\nMSG tally 1 5\r\na\r\nbc\r\nPING\r\n";
        let mut rest = &said[..];
        let mut frames = Vec::new();
        while let Some(length) = first_frame(rest) {
            frames.push(&rest[..length]);
            rest = &rest[length..];
        }
        assert_eq!(frames, [&b"INFO {}\r\n"[..], b"MSG tally 1 5\r\na\r\nbc\r\n", b"PING\r\n"]);
        for cut in 10..25 {
            assert_eq!(first_frame(&said[9..cut]), None, "{cut}");
        }
    }

    /// What a lane that meddles makes of numbered messages, and of a line between them.
    #[test]
    fn messages_are_lost_doubled_and_overtaken_and_lines_are_not() {
        let condition = watch::Sender::new(Condition::Meddling);
        let mut lane = Lane {
            way: Way::ToClient,
            condition: condition.subscribe(),
            dice: StdRng::seed_from_u64(7),
            held: None,
        };
        let mut out = Vec::new();
        for number in 100..300 {
            lane.meddle(format!("MSG s 1 3\r\n{number}\r\n").into_bytes(), &mut out);
            lane.meddle(b"PING\r\n".to_vec(), &mut out);
        }
        let out = String::from_utf8(out).expect("text");
        let numbers: Vec<u32> = out.lines().filter_map(|line| line.parse().ok()).collect();
        let lost = (100..300).filter(|number| !numbers.contains(number)).count();
        let twice = (100..300).filter(|number| numbers.iter().filter(|n| *n == number).count() == 2).count();
        assert!((10..40).contains(&lost) && (10..40).contains(&twice), "{lost} lost, {twice} twice");
        assert_eq!(out.matches("PING").count(), 200);
        let mut order = numbers.clone();
        order.dedup();
        assert!(!order.is_sorted(), "{numbers:?}");
        condition.send_replace(Condition::Good);
        let mut out = Vec::new();
        lane.meddle(b"MSG s 1 1\r\na\r\n".to_vec(), &mut out);
        assert_eq!(out, b"MSG s 1 1\r\na\r\n");
    }
}
