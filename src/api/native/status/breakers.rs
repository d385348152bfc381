//! Endpoints whose receivers fail, in the status: those that get nothing but probes, and those that were disabled.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Kind, Problem, Severity};
use crate::catalog::Catalog;
use crate::domain::disabled::DisabledReason;
use crate::domain::health::{Rest, RestReason};
use crate::domain::id::OrganisationId;
use crate::store::Store;

/// The organisation's endpoints that get nothing but probes. Those that are disabled or held do not count.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "StatusBreakers")]
pub struct BreakersOut {
    /// How many have an open breaker, your own among them.
    open: usize,
    /// How many deliveries wait for them.
    waiting: u64,
    /// How many rest because their receivers asked for it with `Retry-After`.
    resting: usize,
}

impl BreakersOut {
    /// `resting` has the lanes that rest.
    pub fn of(
        store: &Store,
        catalog: &Catalog,
        organisation: OrganisationId,
        resting: &[(u64, Rest)],
    ) -> BreakersOut {
        let is_ours = |lane: u64| {
            let endpoint = catalog.endpoint_by_number(lane);
            endpoint.is_some_and(|one| one.organisation == organisation && !one.is_held())
        };
        let lanes = |reason: RestReason| -> Vec<u64> {
            let those = resting.iter().filter(|(_, rest)| rest.reason == reason);
            let lanes = those.map(|(lane, _)| *lane);
            lanes.filter(|lane| is_ours(*lane)).collect()
        };
        let open = lanes(RestReason::Failures);
        BreakersOut {
            open: open.len(),
            waiting: store.waiting_for(open.into_iter()),
            resting: lanes(RestReason::RetryAfter).len(),
        }
    }

    /// Nothing where no breaker is open.
    pub fn problem(&self) -> Option<Problem> {
        let endpoints = match self.open {
            0 => return None,
            1 => "1 endpoint".to_owned(),
            count => format!("{count} endpoints"),
        };
        let deliveries = match self.waiting {
            1 => "1 delivery waits".to_owned(),
            count => format!("{count} deliveries wait"),
        };
        let message = format!(
            "{endpoints} failed so often in a row that nothing but probes is sent there: {deliveries} until one \
             succeeds (GET …/endpoint?status=open lists an application's)."
        );
        Some(Problem::new(
            Severity::Warning,
            Kind::EndpointsOpen,
            message,
        ))
    }
}

/// The organisation's endpoints that are disabled because of their attempts, by the reason.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "StatusDisabledAutomatically")]
pub struct DisabledOut {
    /// The receiver answered 410.
    gone: usize,
    /// The receiver asked for it, with the header `webhook-delivery: disable`.
    requested: usize,
    /// Nothing but failures came for the hours of `disableAfterHours`.
    failing: usize,
}

impl DisabledOut {
    pub fn of(catalog: &Catalog, organisation: OrganisationId) -> DisabledOut {
        let mut counts = DisabledOut::default();
        let entries = catalog.applications(organisation);
        let entries = entries.chain(catalog.operational(organisation));
        let endpoints = entries.flat_map(|entry| &entry.endpoints);
        for disabled in endpoints.filter_map(|endpoint| endpoint.disabled) {
            match disabled.reason {
                DisabledReason::Gone => counts.gone += 1,
                DisabledReason::Requested => counts.requested += 1,
                DisabledReason::Failing => counts.failing += 1,
                DisabledReason::Unknown | DisabledReason::ByHand => {}
            }
        }
        counts
    }
}
