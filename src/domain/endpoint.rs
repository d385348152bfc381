//! A URL that receives an application's messages.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::id::{ApplicationId, EndpointId, OrganisationId};
use super::profile::Method;
use super::retry::RetrySchedule;
use super::secret::Secret;
use crate::clock::Timestamp;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    pub id: EndpointId,
    /// A small integer, never given twice in one store: names the endpoint's lane, and the
    /// endpoint itself in APIs whose ids are numeric.
    pub number: u64,
    pub organisation: OrganisationId,
    pub application: ApplicationId,
    /// The caller's own id, unique in the application; works wherever the id works.
    pub uid: Option<String>,
    /// Without userinfo, which became `basic_auth`.
    pub url: String,
    pub description: String,
    /// Its deliveries are held, not dropped, until it is enabled again.
    pub disabled: bool,
    /// Only messages of these event types; all where absent.
    pub event_types: Option<Vec<String>>,
    /// Only messages in at least one of these channels; all where absent.
    pub channels: Option<Vec<String>>,
    pub metadata: BTreeMap<String, String>,
    /// Messages a second.
    pub throttle_rate: Option<u16>,
    /// The newest first; those after it are valid until they expire.
    pub secrets: Vec<EndpointSecret>,
    /// Sent with every request, names as given.
    pub headers: BTreeMap<String, String>,
    pub basic_auth: Option<BasicAuth>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// What its requests look like; the server's default profile where absent.
    #[serde(default)]
    pub profile: Option<String>,
    /// One of its profile's methods; the first of them where absent.
    #[serde(default)]
    pub method: Option<Method>,
    /// Sent as `headers` are, and never shown.
    #[serde(default)]
    pub auth_headers: BTreeMap<String, String>,
    /// In place of its profile's.
    #[serde(default)]
    pub retry: Option<RetrySchedule>,
    /// The time for one attempt, in place of its profile's.
    #[serde(default)]
    pub timeout_seconds: Option<u32>,
}

/// A signing secret and how long it is used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointSecret {
    pub secret: Secret,
    /// When it stops being used for signatures; the newest has no end.
    pub expires_at: Option<Timestamp>,
}

/// Credentials for HTTP Basic authentication at the receiver.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct BasicAuth {
    pub username: String,
    pub password: String,
}

impl fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BasicAuth({}, …)", self.username)
    }
}

impl Endpoint {
    /// Whether it is the platform's own.
    pub fn is_operational(&self) -> bool {
        self.application.is_operational(self.organisation)
    }

    /// Whether a message of this event type and these channels is for this endpoint. Being
    /// disabled does not matter here: its deliveries are held.
    pub fn matches(&self, event_type: &str, channels: &[String]) -> bool {
        let event_matches = match &self.event_types {
            None => true,
            Some(wanted) => wanted.iter().any(|name| name == event_type),
        };
        let channel_matches = match &self.channels {
            None => true,
            Some(wanted) => channels.iter().any(|channel| wanted.contains(channel)),
        };
        event_matches && channel_matches
    }

    /// The secrets to sign with at this time, newest first.
    pub fn live_secrets(&self, now: Timestamp) -> impl Iterator<Item = &Secret> {
        self.secrets
            .iter()
            .filter(move |one| one.expires_at.is_none_or(|end| end > now))
            .map(|one| &one.secret)
    }
}

/// Whether the value of a header with this name is shown as `***` wherever headers are shown.
pub fn is_sensitive(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["auth", "secret", "token", "key", "cookie", "password"]
        .iter()
        .any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_speak_of_secrets_are_sensitive() {
        for (name, expected) in [
            ("Authorization", true),
            ("X-API-KEY", true),
            ("x-api-key", true),
            ("Set-Cookie", true),
            ("x-ClientSecret", true),
            ("X-Access-Token", true),
            ("db-password", true),
            ("webhook-signature", false),
            ("webhook-id", false),
            ("Content-Type", false),
            ("", false),
        ] {
            assert_eq!(is_sensitive(name), expected, "{name}");
        }
    }
}
