//! The settings: built-in `config.toml` ← file ← environment ← flags, checked once, at start.
//!
//! The commented `config.toml` of the repository is compiled in and is the defaults. A setting
//! that is unknown, of the wrong type or contradictory stops the start with its name.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use crate::domain::retry::RetrySchedule;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub store: Store,
    pub auth: Auth,
    pub delivery: Delivery,
    pub limits: Limits,
    pub log: Log,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub listen: SocketAddr,
    /// Threads that parse requests.
    pub workers: usize,
    pub drain_seconds: u64,
    /// A second listener for `/metrics` without a credential.
    pub metrics_listen: Option<SocketAddr>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    pub path: PathBuf,
    pub cache_bytes: u64,
    pub retention_days: u32,
    pub min_free_bytes: u64,
    /// A slice of history is closed for writing at this age …
    pub slice_hours: u32,
    /// … or at this size, whichever comes first.
    pub slice_bytes: u64,
    /// How often the registrations are exported beside the database.
    pub export_minutes: u32,
    /// A commit that takes longer ends the process.
    pub commit_timeout_seconds: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// The id of the default organisation, for a deployment that moves over; generated where empty.
    pub default_organisation: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    pub danger_allow_private_addresses: Vec<IpNet>,
    pub https_only: bool,
    pub extra_ca_file: Option<PathBuf>,
    /// "standard" (`webhook-*` headers) or "svix" (`svix-*` headers).
    pub default_profile: String,
    pub retry_delays_seconds: Vec<u64>,
    pub jitter: f64,
    pub retry_after_max_seconds: u64,
    pub request_timeout_seconds: u64,
    pub connect_timeout_seconds: u64,
    /// Idle connections are closed after one to two times this.
    pub idle_connection_seconds: u64,
    pub dns_cache_seconds: u64,
    /// Threads that send.
    pub workers: usize,
    pub in_flight_max: usize,
    pub in_flight_per_endpoint_max: usize,
    /// Sent with the outcome not yet durable, per endpoint.
    pub unrecorded_per_endpoint_max: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub payload_bytes: usize,
    pub url_bytes: usize,
    pub header_value_bytes: usize,
    pub headers_max: usize,
    pub endpoints_per_application_max: usize,
    pub channels_per_endpoint_max: usize,
    pub answer_read_bytes: usize,
    pub answer_kept_bytes: usize,
    pub list_page_max: usize,
    /// Deliveries that wait, in all; above it publishing gets 429.
    pub waiting_max: u64,
    /// Changes on their way to the disk; above it publishing gets 503.
    pub commit_queue_max: usize,
    pub connections_max: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// As RUST_LOG: "info", "info,postrider::delivery=debug".
    pub level: String,
    /// Lines about failed attempts per endpoint and minute; the rest is counted in one line.
    pub failures_per_endpoint_minute_max: u32,
}

impl Delivery {
    pub fn retry_schedule(&self) -> RetrySchedule {
        RetrySchedule {
            delays: self
                .retry_delays_seconds
                .iter()
                .copied()
                .map(Duration::from_secs)
                .collect(),
            jitter: self.jitter,
        }
    }

    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout_seconds)
    }
}
