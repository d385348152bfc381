//! The health of an endpoint as answers show it: its breaker, and why it is disabled.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::kit::extract::{Body, optional_text, text};
use crate::clock::Timestamp;
use crate::domain::endpoint::{CatchUp, Endpoint};
use crate::domain::health::{Failing, Health, Rest};
use crate::error::Result;
use crate::rules::checks::Problems;

/// The part of an endpoint that its attempts decide.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthOut {
    /// Why the endpoint is disabled: by a caller's hand, because its receiver answered 410, because its receiver
    /// asked for it with the header `webhook-delivery: disable`, or because nothing but failures came for the hours of
    /// `disableAfterHours`. Absent where it is not disabled, or where an earlier version disabled it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["by-hand", "gone", "requested", "failing"]), default)]
    disabled_reason: Option<&'static str>,
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "optional_text"
    )]
    #[schemars(default)]
    disabled_at: Option<Timestamp>,
    /// Since when attempts have failed without a success. Absent where the last one succeeded.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "optional_text"
    )]
    #[schemars(default)]
    failing_since: Option<Timestamp>,
    /// How many attempts have failed since then, probes among them. Absent where the last one succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default)]
    failures: Option<u32>,
    /// When the endpoint is disabled if nothing succeeds until then; shown once a fifth of that time is over.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "optional_text"
    )]
    #[schemars(default)]
    disables_at: Option<Timestamp>,
    breaker: BreakerOut,
    /// How fast it gets what waited when it was enabled or released.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default)]
    catch_up: Option<CatchUpOut>,
}

/// Whether messages go to the endpoint, as its breaker has it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EndpointBreakerOut")]
#[serde(rename_all = "camelCase")]
pub struct BreakerOut {
    /// `closed`: messages are sent. `open`: too many attempts failed in a row, and `resting`: the receiver asked with
    /// `Retry-After` to be left alone; then nothing is sent but one probe at `nextProbeAt`.
    #[schemars(extend("enum" = ["closed", "open", "resting"]))]
    state: &'static str,
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "optional_text"
    )]
    #[schemars(default)]
    since: Option<Timestamp>,
    /// It may pass while nothing waits: the next message is the probe then.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "optional_text"
    )]
    #[schemars(default)]
    next_probe_at: Option<Timestamp>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EndpointCatchUpOut")]
#[serde(rename_all = "camelCase")]
struct CatchUpOut {
    /// Messages a second.
    rate: u16,
    /// Messages that were published before this are sent at that rate at most.
    #[serde(serialize_with = "text")]
    published_before: Timestamp,
}

/// The pace of what waits.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(rename = "EndpointCatchUpIn")]
#[serde(default, deny_unknown_fields)]
pub struct CatchUpIn {
    /// Messages a second at most of those that wait now; as fast as the usual limits allow where absent.
    #[schemars(range(min = 1))]
    rate: Option<u16>,
}

impl CatchUpIn {
    /// Returns the rate in a body. No body and an empty object count alike.
    pub fn rate_in(body: &Body) -> Result<Option<u16>> {
        let rate = body.json_or_default::<CatchUpIn>()?.rate;
        let mut problems = Problems::default();
        if rate == Some(0) {
            problems.add(&["body", "rate"], "must be 1 to 65535");
        }
        problems.done().map(|()| rate)
    }
}

impl HealthOut {
    pub fn of(endpoint: &Endpoint, health: Option<&Health>) -> HealthOut {
        let failing = health.and_then(|health| health.failing.as_ref());
        let disabled = endpoint
            .disabled
            .filter(|disabled| disabled.reason.name().is_some());
        HealthOut {
            disabled_reason: disabled.and_then(|disabled| disabled.reason.name()),
            disabled_at: disabled.map(|disabled| disabled.at),
            failing_since: failing.map(|failing| failing.since),
            failures: failing.map(|failing| failing.failures),
            disables_at: failing
                .filter(|failing| failing.warned > 0 && endpoint.disabled.is_none())
                .and_then(|failing| failing.disables_at),
            breaker: BreakerOut::of(failing.and_then(|failing: &Failing| failing.rest)),
            catch_up: endpoint.catch_up.map(CatchUpOut::from),
        }
    }
}

impl BreakerOut {
    pub fn of(rest: Option<Rest>) -> BreakerOut {
        BreakerOut {
            state: rest.map_or("closed", |rest| rest.reason.name()),
            since: rest.map(|rest| rest.since),
            next_probe_at: rest.map(|rest| rest.probe_at),
        }
    }
}

impl From<CatchUp> for CatchUpOut {
    fn from(catch_up: CatchUp) -> CatchUpOut {
        CatchUpOut {
            rate: catch_up.rate,
            published_before: catch_up.published_before,
        }
    }
}
