//! Holds of endpoints: those of a store that was just restored, and figures of what waits for held ones.

use super::engine::Changes;
use super::open::{open_files, to_open_error};
use super::restored::being_restored;
use super::{Inner, OpenError, Store, StoreSettings, layout, replay};
use crate::catalog::{Catalog, Change};
use crate::clock::{Clock, Timestamp};
use crate::domain::endpoint::Endpoint;
use crate::domain::hold::Held;

/// Endpoints that one commit holds.
const AT_ONCE: usize = 500;

impl Store {
    /// How many deliveries wait for these lanes.
    pub fn waiting_for(&self, lanes: impl Iterator<Item = u64>) -> u64 {
        self.inner.backlog.of_lanes(lanes)
    }
}

impl Inner {
    /// Brings the metric up to date.
    pub(super) fn show_held_endpoints(&self, catalog: &Catalog) {
        let held = catalog.held_endpoints();
        self.metrics.endpoints_held.set(held as i64);
    }
}

/// Holds all endpoints of a store whose restore is not finished, so that its server sends nothing before somebody
/// has looked. Returns how many there are. One that was held in the copy already keeps its time and its reason.
pub fn hold_restored(settings: &StoreSettings, clock: &Clock) -> Result<usize, OpenError> {
    let settings = &being_restored(settings);
    let mut files = open_files(settings, clock)?;
    let now = clock.now();
    let failed = |error| to_open_error(&settings.path, error);
    let lanes = Vec::from_iter(files.catalog.lanes());
    for lanes in lanes.chunks(AT_ONCE) {
        let mut changes = Changes::default();
        let endpoints = lanes
            .iter()
            .filter_map(|lane| files.catalog.endpoint_by_number(*lane));
        for endpoint in endpoints.filter(|endpoint| endpoint.held.is_none()) {
            let key = layout::endpoint_key(endpoint.application, endpoint.id);
            let held = restored_held(endpoint, now);
            layout::replace(&files.live, &mut changes, &key, &held)
                .map_err(|error| failed(error.into()))?;
        }
        files.meta.commit += 1;
        layout::replace(&files.live, &mut changes, &[layout::META], &files.meta)
            .map_err(|error| failed(error.into()))?;
        replay::commit_at_rest(settings, &mut files.journal, &files.live, changes, now)?;
    }
    Ok(lanes.len())
}

/// Holds the endpoints among registrations that make a new store.
pub(super) fn hold_contents(contents: &mut [Change], now: Timestamp) {
    for change in contents {
        if let Change::PutEndpoint(endpoint) = change
            && endpoint.held.is_none()
        {
            endpoint.held = Some(Held::restored(now));
        }
    }
}

fn restored_held(endpoint: &Endpoint, now: Timestamp) -> Endpoint {
    Endpoint {
        held: Some(Held::restored(now)),
        ..endpoint.clone()
    }
}
