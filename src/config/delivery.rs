//! `[delivery]`: allowed addresses, the default profile, retries, timeouts, and how much may be in
//! flight.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::SourceAddress;
use super::setting::{
    ANY, DAY_SECONDS, Rule, Setting, any_text, optional, reads, setting, text, texts, whole, wholes,
};
use crate::clock::Timestamp;
use crate::domain::header::may_be_of_a_message;
use crate::domain::health::{DISABLE_AFTER_HOURS_MAX, FAILURES_MAX, HealthRules};
use crate::domain::retry::{RetrySchedule, WAIT_MAX, Waits};
use crate::domain::secret::SignatureType;

const IN_FLIGHT_MAX: u64 = 1_000_000;
const REQUEST_TIMEOUT_SECONDS_MAX: u64 = 3600;
const WAIT_SECONDS_MAX: u64 = WAIT_MAX.as_secs();

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeliverySection {
    #[serde(deserialize_with = "super::setting::networks")]
    pub danger_allow_private_addresses: Vec<IpNet>,
    /// Never reached, whatever is allowed.
    #[serde(deserialize_with = "super::setting::networks")]
    pub deny_addresses: Vec<IpNet>,
    pub https_only: bool,
    pub extra_ca_file: Option<PathBuf>,
    /// The profile of endpoints that name none.
    pub default_profile: String,
    /// The kind of secret that is made up for endpoints that come without one.
    pub default_signature_type: SignatureType,
    /// Names of headers that single messages may have.
    pub message_headers: Vec<String>,
    /// What an endpoint must do before messages go to it.
    pub verify_endpoints: VerifyEndpoints,
    /// Whether endpoints may have transformations.
    pub transformations: bool,
    pub retry_delays_seconds: Vec<u64>,
    pub jitter: f64,
    pub retry_after_max_seconds: u64,
    /// How long a lane rests at most because its receiver asked for it.
    pub lane_retry_after_max_seconds: u64,
    /// 0: an endpoint is never disabled because it fails.
    pub disable_after_hours: u64,
    pub breaker: BreakerSection,
    pub request_timeout_seconds: u64,
    pub connect_timeout_seconds: u64,
    /// Idle connections are closed after one to two times this.
    pub idle_connection_seconds: u64,
    pub dns_cache_seconds: u64,
    /// Asked in place of the system's servers, unless empty.
    pub dns_servers: Vec<DnsServer>,
    /// From which requests come, for the firewalls of receivers.
    pub source_addresses: Vec<SourceAddress>,
    /// Threads that send.
    pub workers: usize,
    pub in_flight_max: usize,
    pub in_flight_per_endpoint_max: usize,
    /// To one receiving host, whoever's endpoints are there.
    pub in_flight_per_host_max: usize,
    /// Sent with the outcome not yet durable, per endpoint.
    pub unrecorded_per_endpoint_max: usize,
}

/// When a lane stops sending to an endpoint that fails, and how it tries anew.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct BreakerSection {
    /// Failed attempts in a row; 0: never.
    pub failures: u32,
    pub min_open_after_seconds: u64,
    pub probe_first_seconds: u64,
    pub probe_max_seconds: u64,
}

pub(super) const BREAKER: &[Setting] = &[
    setting("failures", whole(0..=FAILURES_MAX as u64)),
    setting("min_open_after_seconds", whole(0..=DAY_SECONDS)),
    setting("probe_first_seconds", whole(1..=DAY_SECONDS)),
    setting("probe_max_seconds", whole(1..=DAY_SECONDS)),
];

pub(super) const SETTINGS: &[Setting] = &[
    setting(
        "danger_allow_private_addresses",
        Rule::Networks { not_all: None },
    ),
    setting("deny_addresses", Rule::Networks { not_all: None }),
    setting("https_only", Rule::Flag),
    // Read where deliveries start, which tells what is wrong with it.
    optional("extra_ca_file", any_text()),
    setting("default_profile", any_text()),
    setting(
        "default_signature_type",
        text(reads::<SignatureType>, "must be one of hmac, ed25519"),
    ),
    setting(
        "message_headers",
        texts(
            may_be_of_a_message,
            "must be names of headers that are neither secret nor set by the server, such as \
             'traceparent' (authorization, cookies, content-type and webhook-... are not)",
        ),
    ),
    setting(
        "verify_endpoints",
        text(reads::<VerifyEndpoints>, "must be one of off, challenge"),
    ),
    setting("transformations", Rule::Flag),
    setting("retry_delays_seconds", wholes(100, 1..=WAIT_SECONDS_MAX)),
    setting(
        "jitter",
        Rule::Number {
            least: 0.0,
            most: 1.0,
        },
    ),
    setting("retry_after_max_seconds", whole(0..=WAIT_SECONDS_MAX)),
    setting("lane_retry_after_max_seconds", whole(0..=DAY_SECONDS)),
    setting(
        "disable_after_hours",
        whole(0..=DISABLE_AFTER_HOURS_MAX as u64),
    ),
    setting(
        "request_timeout_seconds",
        whole(1..=REQUEST_TIMEOUT_SECONDS_MAX),
    ),
    setting(
        "connect_timeout_seconds",
        whole(1..=REQUEST_TIMEOUT_SECONDS_MAX),
    ),
    setting("idle_connection_seconds", whole(1..=DAY_SECONDS)),
    setting("dns_cache_seconds", whole(0..=DAY_SECONDS)),
    setting(
        "dns_servers",
        texts(
            reads::<DnsServer>,
            "must be addresses such as '10.0.0.53' or '10.0.0.53:5353'",
        ),
    ),
    setting(
        "source_addresses",
        Rule::Networks {
            not_all: Some("a firewall that is told so lets everybody in"),
        },
    ),
    setting("workers", whole(1..=64)),
    setting("in_flight_max", whole(1..=IN_FLIGHT_MAX)),
    setting("in_flight_per_endpoint_max", whole(1..=IN_FLIGHT_MAX)),
    setting("in_flight_per_host_max", whole(1..=ANY)),
    setting("unrecorded_per_endpoint_max", whole(1..=ANY)),
];

/// How endpoints show that their owners want the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerifyEndpoints {
    Off,
    /// They echo a challenge.
    Challenge,
}

/// A DNS server: an address, with a port where that is not 53.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsServer(pub SocketAddr);

impl TryFrom<String> for DnsServer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let with_port = text.parse().ok();
        let alone = || Some(SocketAddr::new(text.parse().ok()?, 53));
        let server = with_port.or_else(alone).map(DnsServer);
        server.ok_or_else(|| format!("'{text}' is not the address of a DNS server"))
    }
}

impl From<DnsServer> for String {
    fn from(server: DnsServer) -> String {
        server.0.to_string()
    }
}

impl DeliverySection {
    /// When an endpoint that gets a URL now is challenged; absent where endpoints are not verified.
    pub fn challenge_at(&self, now: Timestamp) -> Option<Timestamp> {
        (self.verify_endpoints == VerifyEndpoints::Challenge).then_some(now)
    }

    /// The rules for endpoints and profiles that have none of their own.
    pub fn health_rules(&self) -> HealthRules {
        let breaker = &self.breaker;
        HealthRules {
            failures: breaker.failures,
            min_open_after: Duration::from_secs(breaker.min_open_after_seconds),
            probe_first: Duration::from_secs(breaker.probe_first_seconds),
            probe_max: Duration::from_secs(breaker.probe_max_seconds),
            disable_after: Duration::from_secs(3600 * self.disable_after_hours),
        }
    }

    pub fn retry_schedule(&self) -> RetrySchedule {
        RetrySchedule {
            waits: Waits::Listed(
                self.retry_delays_seconds
                    .iter()
                    .copied()
                    .map(Duration::from_secs)
                    .collect(),
            ),
            jitter: self.jitter,
        }
    }

    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout_seconds)
    }
}
