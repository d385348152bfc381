//! The endpoints that the operator holds, in the status: so that nobody forgets them.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Kind, Problem, Severity};
use crate::api::kit::extract::text;
use crate::catalog::Catalog;
use crate::clock::Timestamp;
use crate::domain::id::OrganisationId;
use crate::store::Store;

/// The organisation's endpoints that are held by the operator.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "StatusHolds")]
pub struct HoldsOut {
    /// How many are held, your own among them.
    endpoints: usize,
    /// How many deliveries wait for them.
    waiting: u64,
    /// Since when the first of them is held.
    #[serde(serialize_with = "text")]
    since: Timestamp,
}

impl HoldsOut {
    /// Nothing where none is held.
    pub fn of(store: &Store, catalog: &Catalog, organisation: OrganisationId) -> Option<HoldsOut> {
        if catalog.held_endpoints() == 0 {
            return None;
        }
        let entries = catalog.applications(organisation);
        let entries = entries.chain(catalog.operational(organisation));
        let endpoints = entries.flat_map(|entry| &entry.endpoints);
        let held = endpoints.filter_map(|one| Some((one.number, one.held?.since)));
        let held: Vec<(u64, Timestamp)> = held.collect();
        let since = held.iter().map(|(_, since)| *since).min()?;
        let lanes = held.iter().map(|(lane, _)| *lane);
        Some(HoldsOut {
            endpoints: held.len(),
            waiting: store.waiting_for(lanes),
            since,
        })
    }

    pub fn problem(&self) -> Problem {
        let endpoints = match self.endpoints {
            1 => "1 endpoint is".to_owned(),
            count => format!("{count} endpoints are"),
        };
        let deliveries = match self.waiting {
            1 => "1 delivery waits".to_owned(),
            count => format!("{count} deliveries wait"),
        };
        let message = format!(
            "{endpoints} held by the operator: {deliveries} for the release (POST /api/v1/release \
             releases all)."
        );
        Problem::new(Severity::Warning, Kind::EndpointsHeld, message)
    }
}
