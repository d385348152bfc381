//! Which addresses may be dialled.
//!
//! An endpoint's URL is a stranger's input, so it must never reach what only this machine or its
//! network can reach: loopback, private networks, a cloud's metadata service, and services that
//! listen at this machine's public addresses behind its firewall. The rule is asked at the
//! connection itself, after the name was resolved, about exactly the addresses that are dialled
//! (`connect.rs`); the check of a URL when an endpoint is created is only a quicker answer. Nothing
//! here resolves or connects. A refusal does not tell which of the rules it was.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, RwLock};

use ipnet::IpNet;
use url::{Host, Url};

use crate::config::DeliverySection;
use crate::domain::network::is_in;
use crate::lock::locked;

/// The addresses of this machine's interfaces, as they were found last. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct OwnAddresses(Arc<RwLock<Vec<IpAddr>>>);

impl OwnAddresses {
    /// Asks the system which addresses there are now: interfaces come and go. It is a conversation
    /// with the kernel, so not for a thread that answers requests. After an error the addresses
    /// from before still count.
    pub fn find(&self) -> Result<(), String> {
        match if_addrs::get_if_addrs() {
            Ok(interfaces) => {
                self.set(interfaces.iter().map(|one| one.ip()));
                Ok(())
            }
            Err(error) => Err(format!(
                "the addresses of this machine cannot be read, so endpoints may reach those that \
                 are public (a systemd unit needs AF_NETLINK in RestrictAddressFamilies): {error}"
            )),
        }
    }

    /// Takes these for the machine's addresses.
    pub fn set(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        let addresses = addresses.into_iter().map(|ip| ip.to_canonical()).collect();
        *locked(self.0.write()) = addresses;
    }

    fn contains(&self, ip: IpAddr) -> bool {
        locked(self.0.read()).contains(&ip)
    }
}

/// Global unicast without this machine's own addresses, and the networks that the operator allows on
/// top, but none that the operator denies.
#[derive(Clone, Debug, Default)]
pub struct AddressRule {
    deny: Vec<IpNet>,
    allow: Vec<IpNet>,
    own: OwnAddresses,
}

impl AddressRule {
    pub fn new(delivery: &DeliverySection, own: OwnAddresses) -> AddressRule {
        AddressRule {
            deny: delivery.deny_addresses.clone(),
            allow: delivery.danger_allow_private_addresses.clone(),
            own,
        }
    }

    pub fn allows(&self, ip: IpAddr) -> bool {
        // The kernel dials the IPv4 host when it is given an IPv4-mapped address.
        let ip = ip.to_canonical();
        if is_in(ip, &self.deny) {
            return false;
        }
        is_in(ip, &self.allow)
            || !self.own.contains(ip)
                && match ip {
                    IpAddr::V4(ip) => is_global_v4(ip),
                    IpAddr::V6(ip) => is_global_v6(ip),
                }
    }

    /// The problem with this URL's host, as far as one can be found without resolving it.
    pub fn url_problem(&self, url: &Url) -> Option<String> {
        let allowed = match url.host()? {
            Host::Ipv4(ip) => self.allows(ip.into()),
            Host::Ipv6(ip) => self.allows(ip.into()),
            Host::Domain(name) if is_localhost(name) => {
                self.allows(Ipv4Addr::LOCALHOST.into()) || self.allows(Ipv6Addr::LOCALHOST.into())
            }
            Host::Domain(_) => true,
        };
        (!allowed).then(|| "must not lead to a private, local or reserved address".to_owned())
    }
}

/// `localhost` and everything below it (RFC 6761, section 6.3).
pub fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last_label = name.rsplit('.').next().unwrap_or(name);
    last_label.eq_ignore_ascii_case("localhost")
}

/// IANA's IPv4 Special-Purpose Address Registry, multicast, and one metadata service that stands
/// at a global address.
const FORBIDDEN_V4: [([u8; 4], u8); 17] = [
    ([0, 0, 0, 0], 8),          // this network, unspecified
    ([10, 0, 0, 0], 8),         // private
    ([100, 64, 0, 0], 10),      // carrier-grade NAT
    ([127, 0, 0, 0], 8),        // loopback
    ([168, 63, 129, 16], 32),   // Azure's platform services
    ([169, 254, 0, 0], 16),     // link-local, metadata services
    ([172, 16, 0, 0], 12),      // private
    ([192, 0, 0, 0], 24),       // protocol assignments
    ([192, 0, 2, 0], 24),       // documentation
    ([192, 88, 99, 0], 24),     // 6to4 relays
    ([192, 168, 0, 0], 16),     // private
    ([198, 18, 0, 0], 15),      // benchmarking
    ([198, 51, 100, 0], 24),    // documentation
    ([203, 0, 113, 0], 24),     // documentation
    ([224, 0, 0, 0], 4),        // multicast
    ([240, 0, 0, 0], 4),        // reserved
    ([255, 255, 255, 255], 32), // broadcast
];

/// Parts of 2000::/3 that are not global unicast, or that carry an IPv4 address inside.
const FORBIDDEN_V6: [([u16; 2], u8); 4] = [
    ([0x2001, 0x0000], 23), // protocol assignments: Teredo, benchmarking, ORCHID
    ([0x2001, 0x0db8], 32), // documentation
    ([0x2002, 0x0000], 16), // 6to4
    ([0x3fff, 0x0000], 20), // documentation
];

fn is_global_v4(ip: Ipv4Addr) -> bool {
    let ip = ip.to_bits();
    !FORBIDDEN_V4.iter().any(|(network, length)| {
        let network = u32::from_be_bytes(*network);
        (ip ^ network) >> (32 - length) == 0
    })
}

/// Only 2000::/3 is given out as global unicast; that leaves out loopback, unique local,
/// link-local, site-local, multicast, NAT64 (64:ff9b::) and the forms with IPv4 inside.
fn is_global_v6(ip: Ipv6Addr) -> bool {
    let [first, second, ..] = ip.segments();
    let start = u32::from(first) << 16 | u32::from(second);
    let global = first >> 13 == 0b001;
    global
        && !FORBIDDEN_V6.iter().any(|([first, second], length)| {
            let network = u32::from(*first) << 16 | u32::from(*second);
            (start ^ network) >> (32 - length) == 0
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|one| one.parse().unwrap()).collect()
    }

    fn rule(allow: &[&str]) -> AddressRule {
        AddressRule {
            allow: networks(allow),
            ..AddressRule::default()
        }
    }

    #[test]
    fn denied_networks_win_over_allowed_ones_and_own_addresses_are_refused() {
        let own = OwnAddresses::default();
        own.set(["8.8.8.8", "2606:4700::1", "::ffff:9.9.9.9"].map(|ip| ip.parse().unwrap()));
        for (allow, deny, ip, expected) in [
            (&[][..], &[][..], "8.8.4.4", true),
            (&[], &[], "8.8.8.8", false),
            (&[], &[], "::ffff:8.8.8.8", false),
            (&[], &[], "9.9.9.9", false),
            (&[], &[], "2606:4700::1", false),
            (&[], &[], "2606:4700::2", true),
            (&["8.8.8.0/24"], &[], "8.8.8.8", true),
            (&["8.8.8.0/24"], &["8.8.8.8/32"], "8.8.8.8", false),
            (&["8.8.8.0/24"], &["8.8.8.8/32"], "8.8.8.9", true),
            (&["10.0.0.0/8"], &["10.1.0.0/16"], "10.1.2.3", false),
            (&["10.0.0.0/8"], &["10.1.0.0/16"], "::ffff:10.1.2.3", false),
            (&["10.0.0.0/8"], &["::ffff:10.1.0.0/112"], "10.1.2.3", false),
            (&["10.0.0.0/8"], &["::ffff:10.1.0.0/112"], "10.2.2.3", true),
            (&["::ffff:10.0.0.0/104"], &[], "10.2.2.3", true),
            (&["127.0.0.0/8"], &["0.0.0.0/0"], "127.0.0.1", false),
            (&[], &["0.0.0.0/0"], "1.1.1.1", false),
            (&[], &["0.0.0.0/0"], "2606:4700::2", true),
            (&[], &["::/0"], "2606:4700::2", false),
            (&[], &["2606:4700::/32"], "2606:4700::2", false),
        ] {
            let rule = AddressRule {
                allow: networks(allow),
                deny: networks(deny),
                own: own.clone(),
            };
            let found = rule.allows(ip.parse().unwrap());
            assert_eq!(found, expected, "{ip}, allowed {allow:?}, denied {deny:?}");
        }
        // The machine has got other addresses.
        let rule = AddressRule {
            own: own.clone(),
            ..AddressRule::default()
        };
        own.set(["8.8.4.4".parse().unwrap()]);
        assert!(rule.allows("8.8.8.8".parse().unwrap()));
        assert!(!rule.allows("8.8.4.4".parse().unwrap()));
    }

    #[test]
    fn the_systems_addresses_are_found_and_told_in_the_same_words_as_others() {
        let own = OwnAddresses::default();
        own.find().unwrap();
        assert!(own.contains(Ipv4Addr::LOCALHOST.into()));
        own.set(["8.8.8.8".parse().unwrap()]);
        let rule = AddressRule {
            deny: networks(&["1.1.1.1/32"]),
            own,
            ..AddressRule::default()
        };
        let told = |host: &str| {
            let url = Url::parse(&format!("https://{host}/")).unwrap();
            rule.url_problem(&url).unwrap()
        };
        assert_eq!(told("8.8.8.8"), told("10.0.0.1"));
        assert_eq!(told("1.1.1.1"), told("10.0.0.1"));
    }

    #[test]
    fn global_addresses_may_be_dialled() {
        for ip in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.15",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:200::1",
            "2a00::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(rule(&[]).allows(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn everything_else_may_not() {
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.1.2.3",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::808:808",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:0:4136:e378::1",
            "2001:2::1",
            "2001:10::1",
            "2001:1ff::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:808:808::1",
            "3fff::1",
            "3fff:fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!rule(&[]).allows(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn the_operator_can_allow_networks() {
        let rule = rule(&["10.1.0.0/16", "fd00::/64"]);
        for (ip, expected) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("::10.1.2.3", false),
            ("10.2.0.1", false),
            ("fd00::1", true),
            ("fd00:0:0:1::1", false),
            ("8.8.8.8", true),
        ] {
            assert_eq!(rule.allows(ip.parse().unwrap()), expected, "{ip}");
        }
    }

    #[test]
    fn a_forbidden_host_is_noticed_in_every_spelling() {
        for host in [
            "127.0.0.1",
            "127.1.2.3",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0x7f000001",
            "0177.0.0.1",
            "0",
            "0.0.0.0",
            "10.0.0.1",
            "192.168.0.1",
            "100.64.0.1",
            "169.254.169.254",
            "127.0.0.1.",
            "%31%32%37.0.0.1",
            "①②⑦.0.0.1",
            "[::]",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::ffff:10.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[fe80::1]",
            "[fc00::1]",
            "localhost",
            "LOCALHOST",
            "localhost.",
            "a.localhost",
            "a.b.localhost.",
        ] {
            let url = Url::parse(&format!("http://{host}:8080/hook")).unwrap();
            assert!(rule(&[]).url_problem(&url).is_some(), "{host}");
        }
    }

    #[test]
    fn other_hosts_are_judged_when_they_are_dialled() {
        for host in [
            "example.com",
            "8.8.8.8",
            "[2606:4700::1]",
            "localhost.example.com",
        ] {
            let url = Url::parse(&format!("https://{host}/hook")).unwrap();
            assert_eq!(rule(&[]).url_problem(&url), None, "{host}");
        }
        for host in ["localhost", "127.0.0.1", "[::ffff:127.0.0.1]"] {
            let url = Url::parse(&format!("http://{host}/hook")).unwrap();
            assert_eq!(rule(&["127.0.0.0/8"]).url_problem(&url), None, "{host}");
        }
    }
}
