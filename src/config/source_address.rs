//! An address, or a network of addresses, from which requests to receivers come.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::domain::network;

/// Shown as it is written in firewalls: a single address without its prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SourceAddress(IpNet);

impl TryFrom<String> for SourceAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let network = network::read(&text).map_err(|message| format!("'{text}' {message}"))?;
        Ok(SourceAddress(network))
    }
}

impl From<SourceAddress> for String {
    fn from(address: SourceAddress) -> String {
        address.to_string()
    }
}

impl fmt::Display for SourceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.prefix_len() == self.0.max_prefix_len() {
            true => self.0.addr().fmt(f),
            false => self.0.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks_are_shown_as_firewalls_have_them() {
        for (text, expected) in [
            ("203.0.113.7", Some("203.0.113.7")),
            ("203.0.113.7/32", Some("203.0.113.7")),
            ("203.0.113.0/28", Some("203.0.113.0/28")),
            ("2001:DB8::7", Some("2001:db8::7")),
            ("2001:db8::/64", Some("2001:db8::/64")),
            ("203.0.113.7/28", None),
            ("203.0.113.7/33", None),
            ("203.0.113.7:80", None),
            ("example.com", None),
            ("", None),
        ] {
            let read = SourceAddress::try_from(text.to_owned());
            let shown = read.ok().map(|address| address.to_string());
            assert_eq!(shown.as_deref(), expected, "{text}");
        }
    }
}
