//! Values that records of several kinds hold.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::NotARecord;
use crate::domain::id::{
    ApplicationId, AttemptId, EndpointId, JobId, MessageId, OrganisationId, TokenId, VisitId,
};

/// An id: 20 bytes in a record, its text in an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id<T>(pub T);

/// An id of the domain, by its bytes.
pub trait IdBytes {
    fn bytes(&self) -> &[u8; 20];
    fn from_bytes(bytes: [u8; 20]) -> Self;
}

macro_rules! ids {
    ($($name:ident),*) => {$(
        impl IdBytes for $name {
            fn bytes(&self) -> &[u8; 20] {
                &self.0
            }

            fn from_bytes(bytes: [u8; 20]) -> $name {
                $name(bytes)
            }
        }
    )*};
}

ids!(
    ApplicationId,
    AttemptId,
    EndpointId,
    JobId,
    MessageId,
    OrganisationId,
    TokenId,
    VisitId
);

impl<T: IdBytes + fmt::Display> Serialize for Id<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.collect_str(&self.0),
            false => self.0.bytes().serialize(serializer),
        }
    }
}

impl<'de, T: IdBytes + FromStr<Err: fmt::Display>> Deserialize<'de> for Id<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Id<T>, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map(Id).map_err(de::Error::custom)
        } else {
            let bytes = <[u8; 20]>::deserialize(deserializer)?;
            Ok(Id(T::from_bytes(bytes)))
        }
    }
}

/// An address of the internet protocol: its bytes in a record, text in an export.
#[derive(Clone, Copy)]
pub struct Address(pub IpAddr);

#[derive(Serialize, Deserialize)]
enum Octets {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(&self.0);
        }
        let octets = match self.0 {
            IpAddr::V4(address) => Octets::V4(address.octets()),
            IpAddr::V6(address) => Octets::V6(address.octets()),
        };
        octets.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            return text.parse().map(Address).map_err(de::Error::custom);
        }
        Ok(Address(match Octets::deserialize(deserializer)? {
            Octets::V4(octets) => octets.into(),
            Octets::V6(octets) => octets.into(),
        }))
    }
}

/// A network: an address and the length of its prefix in a record, text in an export.
#[derive(Clone, Copy)]
pub struct Network(Prefix);

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Prefix {
    V4([u8; 4], u8),
    V6([u8; 16], u8),
}

impl From<&IpNet> for Network {
    fn from(network: &IpNet) -> Network {
        Network(match network {
            IpNet::V4(network) => Prefix::V4(network.addr().octets(), network.prefix_len()),
            IpNet::V6(network) => Prefix::V6(network.addr().octets(), network.prefix_len()),
        })
    }
}

impl TryFrom<Network> for IpNet {
    type Error = NotARecord;

    fn try_from(network: Network) -> Result<IpNet, NotARecord> {
        let network = match network.0 {
            Prefix::V4(octets, length) => Ipv4Net::new(octets.into(), length).map(IpNet::V4),
            Prefix::V6(octets, length) => Ipv6Net::new(octets.into(), length).map(IpNet::V6),
        };
        network.map_err(|_| NotARecord("the prefix of a network is longer than its address"))
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return self.0.serialize(serializer);
        }
        let network = IpNet::try_from(*self).map_err(|NotARecord(why)| ser::Error::custom(why))?;
        serializer.collect_str(&network)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Network, D::Error> {
        if !deserializer.is_human_readable() {
            return Prefix::deserialize(deserializer).map(Network);
        }
        let text = String::deserialize(deserializer)?;
        let network: IpNet = text.parse().map_err(de::Error::custom)?;
        Ok(Network::from(&network))
    }
}

/// A stretch of time.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Duration1 {
    secs: u64,
    nanos: u32,
}

impl From<&Duration> for Duration1 {
    fn from(duration: &Duration) -> Duration1 {
        Duration1 {
            secs: duration.as_secs(),
            nanos: duration.subsec_nanos(),
        }
    }
}

impl TryFrom<Duration1> for Duration {
    type Error = NotARecord;

    fn try_from(span: Duration1) -> Result<Duration, NotARecord> {
        match span.nanos {
            0..1_000_000_000 => Ok(Duration::new(span.secs, span.nanos)),
            _ => Err(NotARecord(
                "a stretch of time has more nanoseconds than a second",
            )),
        }
    }
}

/// Bytes as one slice: serde would hand them to bincode one by one.
pub mod byte_slice {
    use std::borrow::Cow;
    use std::fmt;

    use serde::{Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Cow<'static, [u8]>, D::Error> {
        struct Bytes;
        impl<'de> de::Visitor<'de> for Bytes {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(bytes)
            }
        }
        deserializer.deserialize_byte_buf(Bytes).map(Cow::Owned)
    }
}

/// Declares the record of an enum without values, and the ways between the two. The order of the
/// variants is what is written: new ones are appended.
macro_rules! mirrored {
    ($(#[$meta:meta])* $record:ident of $domain:ident { $($variant:ident),* $(,)? }) => {
        #[derive(Clone, Copy, serde::Serialize, serde::Deserialize)]
        $(#[$meta])*
        pub enum $record {
            $($variant),*
        }

        impl From<&$domain> for $record {
            fn from(value: &$domain) -> $record {
                match value {
                    $($domain::$variant => $record::$variant),*
                }
            }
        }

        impl From<$record> for $domain {
            fn from(record: $record) -> $domain {
                match record {
                    $($record::$variant => $domain::$variant),*
                }
            }
        }
    };
}

pub(super) use mirrored;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_value_of_the_domain_is_is_refused() {
        let network = |prefix| IpNet::try_from(Network(prefix)).map(|network| network.to_string());
        assert_eq!(
            network(Prefix::V4([192, 0, 2, 0], 24)).as_deref(),
            Ok("192.0.2.0/24")
        );
        let too_long = NotARecord("the prefix of a network is longer than its address");
        assert_eq!(network(Prefix::V4([192, 0, 2, 0], 33)), Err(too_long));
        assert_eq!(network(Prefix::V6([0; 16], 129)), Err(too_long));

        let duration = |nanos| Duration::try_from(Duration1 { secs: 1, nanos });
        assert_eq!(duration(999_999_999), Ok(Duration::new(1, 999_999_999)));
        assert!(duration(1_000_000_000).is_err());
    }

    #[test]
    fn an_export_has_texts_for_what_a_record_has_bytes_for() {
        let id: Id<TokenId> = Id(TokenId([6; 20]));
        let text = format!("\"{}\"", id.0);
        assert_eq!(serde_json::to_string(&id).unwrap(), text);
        assert_eq!(serde_json::from_str::<Id<TokenId>>(&text).unwrap(), id);
        // Another kind's id is none of this kind.
        assert!(serde_json::from_str::<Id<JobId>>(&text).is_err());

        for (text, is_network) in [
            (r#""2001:db8::/32""#, true),
            (r#""192.0.2.7""#, false),
            (r#""192.0.2.0/33""#, false),
        ] {
            let read = serde_json::from_str::<Network>(text);
            assert_eq!(read.is_ok(), is_network, "{text}");
            if let Ok(network) = read {
                assert_eq!(serde_json::to_string(&network).unwrap(), text);
            }
        }
        let address: Address = serde_json::from_str(r#""2001:db8::7""#).unwrap();
        assert_eq!(serde_json::to_string(&address).unwrap(), r#""2001:db8::7""#);
    }
}
