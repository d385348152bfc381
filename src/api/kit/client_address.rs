//! The address of the client that sent a request, also through proxies.
//!
//! A connection comes from its peer. Where that is one of `server.trusted_proxies`, the client is
//! taken from the header that the proxies write, `server.client_address_header`. Each proxy appends
//! a hop to it, and the client is the rightmost hop that is not a trusted proxy. The client itself
//! may have written everything to the left of that, and also the other header of the two, which is
//! ignored.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use actix_web::HttpRequest;
use actix_web::http::header::{FORWARDED, HeaderMap, HeaderName, X_FORWARDED_FOR};
use ipnet::IpNet;

use super::context::Context;
use crate::config::ClientAddressHeader;
use crate::domain::network::is_in;

/// No chain of proxies is this long; hops to the left of it are the client's own words.
const HOPS_MAX: usize = 32;

/// The network of an IPv6 client, in bits: it has all addresses in there, so that they count as
/// one.
const V6_PREFIX: u32 = 64;

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    /// Never one of IPv4 in the form of IPv6.
    pub ip: IpAddr,
    /// The peer is a trusted proxy that named no client: no limit of one client applies.
    pub is_proxy: bool,
}

impl ClientAddress {
    pub fn of(request: &HttpRequest, context: &Context) -> ClientAddress {
        let peer = request.peer_addr();
        // Only a test's request has no connection.
        let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
        let server = &context.config.server;
        let header = server.client_address_header;
        ClientAddress::behind(peer, request.headers(), &server.trusted_proxies, header)
    }

    fn behind(
        peer: IpAddr,
        headers: &HeaderMap,
        proxies: &[IpNet],
        header: ClientAddressHeader,
    ) -> ClientAddress {
        let peer = peer.to_canonical();
        if !is_in(peer, proxies) {
            return ClientAddress {
                ip: peer,
                is_proxy: false,
            };
        }
        let mut nearest = peer;
        for hop in hops(headers, header) {
            // A hop that is not an address hides everything to the left of it.
            let Some(ip) = hop else { break };
            if !is_in(ip, proxies) {
                return ClientAddress {
                    ip,
                    is_proxy: false,
                };
            }
            nearest = ip;
        }
        ClientAddress {
            ip: nearest,
            is_proxy: true,
        }
    }

    /// Returns the address by which the client is counted: its own, or its network of 64 bits for
    /// IPv6. None for a proxy, which stands for many clients.
    pub fn counted_as(&self) -> Option<IpAddr> {
        (!self.is_proxy).then(|| counted_as(self.ip))
    }
}

/// The address by which a client is counted: see [`ClientAddress::counted_as`].
pub fn counted_as(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let network = u128::from(ip) & (u128::MAX << (128 - V6_PREFIX));
            IpAddr::V6(Ipv6Addr::from(network))
        }
        v4 => v4,
    }
}

/// Reads the address in a hop.
type ReadHop = fn(&[u8]) -> Option<IpAddr>;

/// Returns the hops of a request from right to left, with `None` in place of one that is not an
/// address.
fn hops(
    headers: &HeaderMap,
    header: ClientAddressHeader,
) -> impl Iterator<Item = Option<IpAddr>> + '_ {
    let (name, quotes, read): (HeaderName, bool, ReadHop) = match header {
        ClientAddressHeader::XForwardedFor => (X_FORWARDED_FOR, false, address),
        ClientAddressHeader::Forwarded => (FORWARDED, true, address_of_element),
    };
    // Lines of the same name are one list, in their order (RFC 9110, section 5.3).
    let lines: Vec<_> = headers.get_all(name).collect();
    let elements = lines
        .into_iter()
        .rev()
        .flat_map(move |line| FromTheRight::new(line.as_bytes(), b',', quotes));
    elements.take(HOPS_MAX).map(read)
}

/// The parts of a text, the last one first. The text is read from the right, byte by byte, so that
/// nothing that the client wrote can reach into a proxy's part, such as a quote that never ends or
/// bytes that are not ASCII.
struct FromTheRight<'a> {
    rest: Option<&'a [u8]>,
    at: u8,
    /// Whether separators within quotes are ignored.
    quotes: bool,
}

impl<'a> FromTheRight<'a> {
    fn new(text: &'a [u8], at: u8, quotes: bool) -> FromTheRight<'a> {
        let rest = Some(text);
        FromTheRight { rest, at, quotes }
    }
}

impl<'a> Iterator for FromTheRight<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        let mut quoted = false;
        let end = (0..rest.len()).rev().find(|index| {
            if rest[*index] == b'"' && self.quotes {
                let before = rest[..*index].iter().rev();
                let backslashes = before.take_while(|byte| **byte == b'\\').count();
                quoted ^= backslashes % 2 == 0;
            }
            rest[*index] == self.at && !quoted
        });
        let (part, rest) = match end {
            Some(index) => (&rest[index + 1..], Some(&rest[..index])),
            None => (rest, None),
        };
        self.rest = rest;
        Some(part.trim_ascii())
    }
}

/// The address in an element of `Forwarded`, `for=192.0.2.60;proto=http` (RFC 7239, section 4).
fn address_of_element(element: &[u8]) -> Option<IpAddr> {
    let mut pairs = FromTheRight::new(element, b';', true);
    let node = pairs.find_map(|pair| {
        let (name, value) = std::str::from_utf8(pair).ok()?.split_once('=')?;
        let is_client = name.trim().eq_ignore_ascii_case("for");
        is_client.then_some(value.trim())
    })?;
    let unquoted = node
        .strip_prefix('"')
        .and_then(|node| node.strip_suffix('"'));
    address(unquoted.unwrap_or(node).as_bytes())
}

/// An address as proxies write it: `192.0.2.60`, `2001:db8::1`, `[2001:db8::1]`, each of them perhaps
/// with a port.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let in_brackets = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let plain = in_brackets.unwrap_or(text).parse::<IpAddr>();
    let with_port = || text.parse::<SocketAddr>().map(|address| address.ip());
    let ip = plain.or_else(|_| with_port()).ok()?;
    Some(ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;
    use proptest::prelude::*;

    fn headers(name: HeaderName, lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name.clone(), HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    fn found(peer: &str, headers: &HeaderMap, header: ClientAddressHeader) -> ClientAddress {
        let proxies = ["10.0.0.0/8", "::1/128"].map(|one| one.parse().unwrap());
        ClientAddress::behind(peer.parse().unwrap(), headers, &proxies, header)
    }

    #[test]
    fn the_client_is_the_rightmost_hop_that_is_no_trusted_proxy() {
        for (peer, lines, ip, is_proxy) in [
            // Nobody but a trusted proxy is believed.
            ("192.0.2.9", vec!["198.51.100.1"], "192.0.2.9", false),
            ("192.0.2.9", vec![], "192.0.2.9", false),
            ("10.0.0.1", vec!["198.51.100.1"], "198.51.100.1", false),
            (
                "::ffff:10.0.0.1",
                vec!["198.51.100.1"],
                "198.51.100.1",
                false,
            ),
            ("::1", vec!["2001:db8::1"], "2001:db8::1", false),
            ("10.0.0.1", vec!["[2001:db8::1]:99"], "2001:db8::1", false),
            ("10.0.0.1", vec!["198.51.100.1:4711"], "198.51.100.1", false),
            (
                "10.0.0.1",
                vec!["::ffff:198.51.100.1"],
                "198.51.100.1",
                false,
            ),
            // What the client wrote itself is to the left.
            (
                "10.0.0.1",
                vec!["1.1.1.1, 198.51.100.1"],
                "198.51.100.1",
                false,
            ),
            (
                "10.0.0.1",
                vec!["1.1.1.1, 198.51.100.1, 10.2.3.4"],
                "198.51.100.1",
                false,
            ),
            (
                "10.0.0.1",
                vec!["1.1.1.1", "198.51.100.1", "10.2.3.4"],
                "198.51.100.1",
                false,
            ),
            (
                "10.0.0.1",
                vec!["10.9.9.9, 198.51.100.1"],
                "198.51.100.1",
                false,
            ),
            // No client is named.
            ("10.0.0.1", vec![], "10.0.0.1", true),
            ("10.0.0.1", vec![""], "10.0.0.1", true),
            (
                "10.0.0.1",
                vec!["198.51.100.1, unknown, 10.2.3.4"],
                "10.2.3.4",
                true,
            ),
            ("10.0.0.1", vec!["198.51.100.1,"], "10.0.0.1", true),
            ("10.0.0.1", vec!["10.9.9.9, 10.2.3.4"], "10.9.9.9", true),
        ] {
            let headers = headers(X_FORWARDED_FOR, &lines);
            let found = found(peer, &headers, ClientAddressHeader::XForwardedFor);
            let ip = ip.parse().unwrap();
            assert_eq!(found, ClientAddress { ip, is_proxy }, "{peer} {lines:?}");
        }
    }

    #[test]
    fn forwarded_is_read_as_its_standard_says() {
        for (lines, ip) in [
            (
                vec!["for=192.0.2.60;proto=http;by=203.0.113.43"],
                "192.0.2.60",
            ),
            (
                vec!["proto=http; For=\"[2001:db8:cafe::17]:4711\""],
                "2001:db8:cafe::17",
            ),
            (vec!["for=192.0.2.43, for=198.51.100.17"], "198.51.100.17"),
            (vec!["for=192.0.2.43", "for=10.0.0.9"], "192.0.2.43"),
            // A comma and a semicolon within quotes end nothing.
            (
                vec!["for=192.0.2.43;host=\"a,for=1.1.1.1;\\\",\""],
                "192.0.2.43",
            ),
            (vec!["for=192.0.2.43, for=_hidden"], "10.0.0.1"),
            (vec!["proto=http"], "10.0.0.1"),
            (vec!["for=\"192.0.2.43"], "10.0.0.1"),
        ] {
            let mut headers = headers(FORWARDED, &lines);
            headers.append(X_FORWARDED_FOR, HeaderValue::from_static("1.1.1.1"));
            let found = found("10.0.0.1", &headers, ClientAddressHeader::Forwarded);
            assert_eq!(found.ip, ip.parse::<IpAddr>().unwrap(), "{lines:?}");
        }
    }

    #[test]
    fn an_ipv6_network_counts_as_one_client_and_a_proxy_as_none() {
        let client = |ip: &str, is_proxy| ClientAddress {
            ip: ip.parse().unwrap(),
            is_proxy,
        };
        let counted = |ip, is_proxy| client(ip, is_proxy).counted_as().map(|ip| ip.to_string());
        assert_eq!(counted("192.0.2.1", false).as_deref(), Some("192.0.2.1"));
        let network = Some("2001:db8:0:1::");
        assert_eq!(counted("2001:db8:0:1::5", false).as_deref(), network);
        assert_eq!(counted("2001:db8:0:1:9::", false).as_deref(), network);
        assert_eq!(counted("192.0.2.1", true), None);
    }

    proptest! {
        /// Whatever stands in the header, what a client writes before the proxy's hop changes nothing.
        #[test]
        fn what_the_client_wrote_changes_nothing(
            words in prop::collection::vec(prop_oneof![b' '..=b'~', 0x80..=0xffu8], 0..80),
        ) {
            for (header, name, hop) in [
                (ClientAddressHeader::XForwardedFor, X_FORWARDED_FOR, "198.51.100.1"),
                (ClientAddressHeader::Forwarded, FORWARDED, "for=\"198.51.100.1:80\";host=\"a\\\",b\""),
            ] {
                let line = [&words, b", ".as_slice(), hop.as_bytes()].concat();
                let mut headers = HeaderMap::new();
                headers.append(name, HeaderValue::from_bytes(&line).unwrap());
                let found = found("10.0.0.1", &headers, header);
                prop_assert_eq!(found.ip, "198.51.100.1".parse::<IpAddr>().unwrap());
            }
        }
    }
}
