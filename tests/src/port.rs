//! A port that stays one's own.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// A port on loopback that the kernel gives to nobody else for as long as this lives. Nobody listens on it
/// by this alone, so whoever connects is refused; a server that is told of it may come and go.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    // Bound and not listening: servers bind over it, because they too allow that an address is used again.
    _held: TcpSocket,
}

impl Port {
    #[must_use]
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        Self { address: socket.local_addr().expect("it is bound"), _held: socket }
    }

    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    #[must_use]
    pub const fn number(&self) -> u16 {
        self.address.port()
    }
}

impl Default for Port {
    fn default() -> Self {
        Self::new()
    }
}
