//! `[limits]`: sizes and counts of everything that comes in.

use serde::{Deserialize, Serialize};

use super::setting::{ANY, MIB, Setting, reads, setting, text, whole};
use crate::domain::event_type::Strictness;
use crate::domain::retry::RETRIES_MAX;

/// Payloads and answers are held in memory whole, one for each request under way.
const HELD_WHOLE_BYTES_MAX: u64 = 64 * MIB;

/// The answer to a batch is kept in one record, and may repeat what came in.
const BATCH_BYTES_MAX: u64 = 32 * MIB;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LimitsSection {
    pub payload_bytes: usize,
    /// Of one request that publishes many messages.
    pub batch_messages_max: usize,
    pub batch_bytes: usize,
    pub batch_deliveries_max: usize,
    pub url_bytes: usize,
    pub header_value_bytes: usize,
    pub headers_max: usize,
    pub endpoints_per_application_max: usize,
    pub channels_per_endpoint_max: usize,
    /// What endpoints may set in place of their profile's.
    pub endpoint_timeout_seconds_max: u32,
    pub endpoint_retries_max: u32,
    /// The whole length of a retry schedule.
    pub endpoint_retry_days_max: u32,
    /// What becomes of a message, or of a choice of an endpoint, whose event type is not registered.
    pub require_known_event_types: Strictness,
    pub answer_read_bytes: usize,
    pub answer_kept_bytes: usize,
    pub list_page_max: usize,
    /// Of the items of one page.
    pub page_bytes: usize,
    /// Of all answers that are being sent.
    pub answers_bytes: usize,
    /// Of those to one customer.
    pub answers_per_customer_bytes: usize,
    /// Requests a second, on average, of a customer and of a credential of the platform; 0 for no limit.
    pub requests_per_customer_second_max: u32,
    pub requests_per_platform_token_second_max: u32,
    /// How many seconds' worth may come at once.
    pub requests_burst_seconds: u32,
    /// Reads of history of one customer that are made at once, and that wait.
    pub reads_per_customer_max: usize,
    pub reads_waiting_per_customer_max: usize,
    pub read_wait_seconds: u64,
    /// Deliveries that wait to be sent, in all; above it publishing gets 429, as above the next two.
    pub waiting_max: u64,
    /// Deliveries that are held, in all: their endpoint is disabled, not verified, or held by the operator.
    pub held_max: u64,
    /// Deliveries of one application that wait, held ones included.
    pub waiting_per_application_max: u64,
    /// Changes on their way to the disk; above it publishing gets 503.
    pub commit_queue_max: usize,
    pub connections_max: usize,
    /// Of one client; further ones are closed.
    pub connections_per_address_max: usize,
    /// Requests without a valid credential; above it they get 429, as above the next one.
    pub auth_failures_per_address_minute_max: u64,
    pub auth_failures_per_token_prefix_minute_max: u64,
    /// Browsers signed in to the console and the portal: with one credential, with one customer's links
    /// and keys, and in all. One more ends the one that was idle for the longest.
    pub sessions_per_credential_max: usize,
    pub sessions_per_customer_max: usize,
    pub sessions_max: usize,
    /// Sign-ins within a minute; above it they get 429.
    pub sign_ins_per_credential_minute_max: u64,
    pub sign_ins_per_customer_minute_max: u64,
}

pub(super) const SETTINGS: &[Setting] = &[
    setting("payload_bytes", whole(2..=HELD_WHOLE_BYTES_MAX)),
    setting("batch_messages_max", whole(1..=10_000)),
    setting("batch_bytes", whole(2..=BATCH_BYTES_MAX)),
    setting("batch_deliveries_max", whole(1..=100_000)),
    setting("url_bytes", whole(16..=65_536)),
    setting("header_value_bytes", whole(1..=65_536)),
    setting("headers_max", whole(0..=1000)),
    setting("endpoints_per_application_max", whole(1..=ANY)),
    setting("channels_per_endpoint_max", whole(1..=ANY)),
    setting("endpoint_timeout_seconds_max", whole(1..=3600)),
    setting("endpoint_retries_max", whole(0..=RETRIES_MAX as u64)),
    setting("endpoint_retry_days_max", whole(1..=366)),
    setting(
        "require_known_event_types",
        text(reads::<Strictness>, "must be one of off, warn, reject"),
    ),
    setting("answer_read_bytes", whole(2..=HELD_WHOLE_BYTES_MAX)),
    setting("answer_kept_bytes", whole(0..=HELD_WHOLE_BYTES_MAX)),
    setting("list_page_max", whole(1..=10_000)),
    setting("page_bytes", whole(1..=ANY)),
    setting("answers_bytes", whole(1..=ANY)),
    setting("answers_per_customer_bytes", whole(1..=ANY)),
    setting("requests_per_customer_second_max", whole(0..=1_000_000)),
    setting(
        "requests_per_platform_token_second_max",
        whole(0..=1_000_000),
    ),
    setting("requests_burst_seconds", whole(1..=60)),
    // There are twice as many threads for reads.
    setting("reads_per_customer_max", whole(1..=64)),
    setting("reads_waiting_per_customer_max", whole(1..=10_000)),
    setting("read_wait_seconds", whole(1..=300)),
    setting("waiting_max", whole(1..=ANY)),
    setting("held_max", whole(1..=ANY)),
    setting("waiting_per_application_max", whole(1..=ANY)),
    setting("commit_queue_max", whole(1..=ANY)),
    setting("connections_max", whole(1..=ANY)),
    setting("connections_per_address_max", whole(1..=ANY)),
    setting("auth_failures_per_address_minute_max", whole(1..=ANY)),
    setting("auth_failures_per_token_prefix_minute_max", whole(1..=ANY)),
    setting("sessions_per_credential_max", whole(1..=ANY)),
    setting("sessions_per_customer_max", whole(1..=ANY)),
    setting("sessions_max", whole(1..=ANY)),
    setting("sign_ins_per_credential_minute_max", whole(1..=ANY)),
    setting("sign_ins_per_customer_minute_max", whole(1..=ANY)),
];
