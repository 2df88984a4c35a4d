//! Whose address a request came from.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, request::Parts},
};
use ipnet::IpNet;

use crate::{error::ApiError, serve::Connection, state::App};

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address of a request's client.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub IpAddr);

impl FromRequestParts<App> for ClientAddress {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let connection = Connection::from_request_parts(parts, app).await?;
        Ok(Self(app.settings.proxies.client(connection.peer(), &parts.headers)))
    }
}

/// The proxies whose `X-Forwarded-For` is believed.
#[derive(Clone, Debug, Default)]
pub struct ProxyTrust(pub Vec<IpNet>);

impl ProxyTrust {
    /// The client's address: the peer's, or, behind trusted proxies, the rightmost one in
    /// `X-Forwarded-For` that is not such a proxy. Everything left of it is the client's own word.
    #[must_use]
    pub fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.ip().to_canonical();
        let forwarded: Vec<&str> = headers
            .get_all(FORWARDED_FOR)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .collect();
        for hop in forwarded.into_iter().rev() {
            if !self.0.iter().any(|net| net.contains(&client)) {
                break;
            }
            match parse(hop) {
                Some(address) => client = address,
                // A trusted proxy passed on rubbish: what stands behind it is unknown.
                None => break,
            }
        }
        client
    }
}

/// An address, with or without a port.
fn parse(hop: &str) -> Option<IpAddr> {
    let address =
        hop.parse::<IpAddr>().or_else(|_| hop.parse::<SocketAddr>().map(|socket| socket.ip())).ok()?;
    Some(address.to_canonical())
}

/// What limits count under: the address, or its /64 for IPv6, which one customer holds whole.
#[must_use]
pub fn limited_as(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::no_proxy_is_trusted("", "203.0.113.9:1", "198.51.100.1", "203.0.113.9")]
    #[case::the_rightmost_untrusted_counts(
        "10.0.0.0/8",
        "10.0.0.1:1",
        "192.0.2.66, 198.51.100.1, 10.0.0.2",
        "198.51.100.1"
    )]
    #[case::an_untrusted_peer_is_not_believed("10.0.0.0/8", "203.0.113.9:1", "198.51.100.1", "203.0.113.9")]
    #[case::rubbish_stops_the_walk("10.0.0.0/8", "10.0.0.1:1", "198.51.100.1, rubbish", "10.0.0.1")]
    #[case::all_trusted_gives_the_leftmost("10.0.0.0/8", "10.0.0.1:1", "10.0.0.3, 10.0.0.2", "10.0.0.3")]
    #[case::a_port_is_dropped("10.0.0.0/8", "10.0.0.1:1", "198.51.100.1:4711", "198.51.100.1")]
    #[case::ipv6("fd00::/8", "[fd00::1]:1", "2001:db8::7", "2001:db8::7")]
    #[case::a_mapped_address_is_its_ipv4("10.0.0.0/8", "[::ffff:10.0.0.1]:1", "198.51.100.1", "198.51.100.1")]
    fn the_client(#[case] trusted: &str, #[case] peer: &str, #[case] forwarded: &str, #[case] client: &str) {
        let trust = ProxyTrust(
            trusted.split(',').filter(|net| !net.is_empty()).map(|net| net.parse().unwrap()).collect(),
        );
        let headers = HeaderMap::from_iter([(
            FORWARDED_FOR.parse().unwrap(),
            HeaderValue::from_str(forwarded).unwrap(),
        )]);
        assert_eq!(trust.client(peer.parse().unwrap(), &headers).to_string(), client);
    }

    #[test]
    fn ipv6_is_counted_by_its_64() {
        assert_eq!(limited_as("2001:db8:1:2:3:4:5:6".parse().unwrap()), "2001:db8:1:2::/64");
        assert_eq!(limited_as("192.0.2.1".parse().unwrap()), "192.0.2.1");
    }
}
