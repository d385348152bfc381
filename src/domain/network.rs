//! Networks of addresses, and how settings and bodies spell them. An IPv4 address or network in the
//! form of IPv6 (`::ffff:192.0.2.7`) counts as the IPv4 one.

use std::net::IpAddr;

use ipnet::IpNet;

/// Reads a whole network such as `192.0.2.0/24`, or an address alone. The error says what the text
/// must be.
pub fn read(text: &str) -> Result<IpNet, String> {
    let network = network(text).map(canonical).ok_or_else(|| {
        "must be a network such as 192.0.2.0/24, or an address such as 192.0.2.7".to_owned()
    })?;
    // A firewall that is told 10.1.2.3/8 may take it for either.
    let whole = network.trunc();
    match whole == network {
        true => Ok(network),
        false => Err(format!(
            "must not name an address within the network: {whole} is the network, and {} the address \
             alone",
            network.addr()
        )),
    }
}

/// `IpNet` would read 010.0.0.1 as 10.0.0.1, which others take for 8.0.0.1.
fn network(text: &str) -> Option<IpNet> {
    let Some((address, length)) = text.split_once('/') else {
        return text.parse::<IpAddr>().ok().map(IpNet::from);
    };
    let length: u8 = length
        .parse()
        .ok()
        .filter(|it: &u8| it.to_string() == length)?;
    IpNet::new(address.parse().ok()?, length).ok()
}

/// Turns a network of IPv4-mapped addresses into the IPv4 network.
fn canonical(network: IpNet) -> IpNet {
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
    }

    #[test]
    fn a_network_is_whole_and_an_address_stands_for_itself() {
        for (text, expected) in [
            ("192.0.2.0/24", Some("192.0.2.0/24")),
            ("192.0.2.7", Some("192.0.2.7/32")),
            ("2001:db8::/32", Some("2001:db8::/32")),
            ("2001:DB8::7", Some("2001:db8::7/128")),
            ("::ffff:192.0.2.0/120", Some("192.0.2.0/24")),
            ("::ffff:192.0.2.7", Some("192.0.2.7/32")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("192.0.2.7/24", None),
            ("2001:db8::7/64", None),
            ("192.0.2.0/33", None),
            ("192.0.2.0/024", None),
            ("192.0.2.0/+24", None),
            ("192.0.2.0/", None),
            ("010.0.0.1", None),
            ("010.0.0.0/8", None),
            ("10.0/8", None),
            ("example.com", None),
            ("192.0.2.7:80", None),
            (" 192.0.2.7", None),
            ("", None),
        ] {
            let found = read(text).ok().map(|network| network.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
        let message = read("192.0.2.7/24").unwrap_err();
        assert!(message.contains("192.0.2.0/24 is the network"), "{message}");
    }
}
