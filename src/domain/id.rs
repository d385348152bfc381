//! Identifiers: a prefix and 27 characters of a KSUID with millisecond time, `msg_2f…`.
//!
//! Each noun's id is a type of its own. Ids made later sort later (to 4 ms, the resolution of a
//! KSUID's time), both as bytes in the store and as text in the API, so an id is a page cursor and
//! tells which slice holds its record.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use svix_ksuid::{KsuidLike, KsuidMs};

use crate::clock::Timestamp;

/// How many bytes an id takes in a key.
pub const ID_BYTES: usize = 20;

/// The resolution of the time in an id: two instants in the same step cannot be told apart.
pub const ID_TIME_STEP_MS: u64 = 4;

/// The instants that an id can carry (32 bits of seconds from 2014 on). As a bound, an instant
/// outside means the same as the nearest of these; without this limit it would wrap around.
pub const IDS_BEGIN: Timestamp = Timestamp::from_seconds(1_400_000_000);
pub const IDS_END: Timestamp = Timestamp::from_seconds(1_400_000_000 + u32::MAX as u64);

/// The text is not an id of the expected kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an id of this kind")
    }
}

impl std::error::Error for NotAnId {}

fn encode(prefix: &str, bytes: &[u8; ID_BYTES], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(prefix)?;
    f.write_str(&KsuidMs::from_bytes(*bytes).to_base62())
}

fn decode(prefix: &str, text: &str) -> Result<[u8; ID_BYTES], NotAnId> {
    let encoded = text.strip_prefix(prefix).ok_or(NotAnId)?;
    if encoded.len() != 27 || !encoded.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(NotAnId);
    }
    let ksuid = KsuidMs::from_base62(encoded).map_err(|_| NotAnId)?;
    // The decoder wraps a number that is too large around to another id; only the canonical form is
    // valid.
    if ksuid.to_base62() != encoded {
        return Err(NotAnId);
    }
    Ok(*ksuid.bytes())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; ID_BYTES]);

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl $name {
            pub const PREFIX: &'static str = $prefix;

            /// A new id whose time is `at`, with fresh randomness.
            pub fn at(at: Timestamp) -> Self {
                let instant = jiff::Timestamp::from_millisecond(at.0 as i64)
                    .expect("an instant that a clock can show");
                $name(*KsuidMs::new(Some(instant), None).bytes())
            }

            /// A new id whose time is `at`, and which sorts by `sequence` among those in the same
            /// step of time.
            pub fn in_order(at: Timestamp, sequence: u32, random: [u8; 11]) -> Self {
                let mut payload = [0; 15];
                payload[..4].copy_from_slice(&sequence.to_be_bytes());
                payload[4..].copy_from_slice(&random);
                let instant = jiff::Timestamp::from_millisecond(at.0 as i64)
                    .expect("an instant that a clock can show");
                $name(*KsuidMs::new(Some(instant), Some(&payload)).bytes())
            }

            /// The smallest id with this time: a bound for ranges, not an id of anything.
            pub fn first_at(at: Timestamp) -> Self {
                let instant = jiff::Timestamp::from_millisecond(at.0 as i64)
                    .expect("an instant that a clock can show");
                $name(*KsuidMs::new(Some(instant), Some(&[0; 15])).bytes())
            }

            /// The time in the id, rounded down to 4 ms.
            pub fn time(&self) -> Timestamp {
                let instant: jiff::Timestamp = KsuidMs::from_bytes(self.0).timestamp();
                Timestamp(instant.as_millisecond().max(0) as u64)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                encode($prefix, &self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                encode($prefix, &self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                decode($prefix, text).map($name)
            }
        }
    };
}

id!(OrganisationId, "org_");
id!(ApplicationId, "app_");
id!(EndpointId, "ep_");
id!(MessageId, "msg_");
id!(AttemptId, "atmpt_");
id!(TokenId, "tok_");
id!(VisitId, "sess_");
id!(JobId, "qtask_");

/// Whether a text is a step in a path, which clients take out of URLs before they send them.
pub fn is_dots(text: &str) -> bool {
    matches!(text, "." | "..")
}

pub const DOTS: &str = "may not be '.' or '..', which have a meaning of their own in a path";

/// Whether `text` can be a caller's own id: 1 to 256 of `a-z A-Z 0-9 - _ .`, and not in the form
/// of an id that postrider gives, which would be ambiguous in a path.
pub fn uid_problem(text: &str, prefix: &str) -> Option<&'static str> {
    if text.is_empty() || text.len() > 256 {
        return Some("must have 1 to 256 characters");
    }
    if !text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    {
        return Some("may contain only letters, digits, '-', '_' and '.'");
    }
    if is_dots(text) {
        return Some(DOTS);
    }
    if decode(prefix, text).is_ok() {
        return Some("must not look like an id that the server gives");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_and_keep_their_time() {
        let at = Timestamp(1_700_000_000_252);
        let id = MessageId::at(at);
        let text = id.to_string();
        assert!(text.starts_with("msg_") && text.len() == 31, "{text}");
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(id.time(), at);
        assert!(MessageId::first_at(at) <= id);
    }

    #[test]
    fn later_ids_sort_later_as_bytes_and_as_text() {
        let earlier = MessageId::at(Timestamp(1_700_000_000_000));
        let later = MessageId::at(Timestamp(1_700_000_000_004));
        assert!(earlier < later);
        assert!(earlier.to_string() < later.to_string());
    }

    #[test]
    fn ids_in_one_step_of_time_sort_by_their_sequence() {
        let at = Timestamp(1_700_000_000_002);
        let first = AttemptId::in_order(at, 0, [255; 11]);
        let second = AttemptId::in_order(at, 1, [0; 11]);
        assert!(AttemptId::first_at(at) < first && first < second);
        assert!(first.to_string() < second.to_string());
        assert_eq!(second.time(), Timestamp(1_700_000_000_000));
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        let other = ApplicationId::at(Timestamp(1_700_000_000_000)).to_string();
        for text in [
            "",
            "msg_",
            "msg_short",
            other.as_str(),
            "msg_zzzzzzzzzzzzzzzzzzzzzzzzzzz",
            "msg_€€€€€€€€€",
        ] {
            assert_eq!(text.parse::<MessageId>(), Err(NotAnId), "{text}");
        }
    }
}
