//! Networks of addresses. One of IPv4 in the form of IPv6 is one of IPv4, so is an address.

use std::net::IpAddr;

use ipnet::IpNet;

/// What a text names: a network such as `192.0.2.0/24`, or an address alone.
pub fn read(text: &str) -> Option<IpNet> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let network = text.parse::<IpNet>().ok().or_else(address);
    network.map(canonical)
}

/// Networks of IPv4-mapped addresses as the IPv4 networks that they are.
pub fn canonical(network: IpNet) -> IpNet {
    let mapped = network.addr().to_canonical();
    match (network, network.prefix_len().checked_sub(96)) {
        (IpNet::V6(_), Some(length)) if mapped.is_ipv4() => {
            IpNet::new(mapped, length).unwrap_or(network)
        }
        _ => network,
    }
}

/// Whether an address is in one of the networks.
pub fn is_in(ip: IpAddr, networks: &[IpNet]) -> bool {
    let ip = ip.to_canonical();
    let mut networks = networks.iter().copied().map(canonical);
    networks.any(|network| network.contains(&ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_a_network_in_whichever_form_either_is_written() {
        for (ip, network, expected) in [
            ("10.1.2.3", "10.0.0.0/8", true),
            ("::ffff:10.1.2.3", "10.0.0.0/8", true),
            ("10.1.2.3", "::ffff:10.0.0.0/104", true),
            ("11.1.2.3", "::ffff:10.0.0.0/104", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "::ffff:10.1.2.3", true),
            ("10.1.2.3", "::/0", false),
            ("2001:db8::1", "2001:db8::/32", true),
            ("2001:db8::1", "2001:db9::/32", false),
        ] {
            let networks = [read(network).unwrap()];
            let ip = ip.parse().unwrap();
            assert_eq!(is_in(ip, &networks), expected, "{ip} {network}");
        }
        for text in ["", "example.com", "10.0.0.0/33", "10.0.0.1:80"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
