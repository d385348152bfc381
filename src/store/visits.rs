//! The last requests of visits are written down now and then.
//!
//! The keeper writes one down once it is minutes later than what is on disk. A restart therefore costs
//! a visit some minutes of the hours that it may be idle.

use std::time::Duration;

use super::{Inner, Store};
use crate::catalog::Catalog;
use crate::domain::visit::Surface;
use crate::error::Result;
use crate::rules::upkeep::{BATCH, ForgetVisits, KeepSeen, VisitSeen};

/// How far the time on disk may be behind.
pub(super) const WRITTEN_EVERY: Duration = Duration::from_secs(600);

impl Store {
    /// Writes down when visits were last used; the keeper does this every minute. Blocks on the disk.
    pub fn keep_visits(&self) -> Result<()> {
        self.inner.keep_visits(WRITTEN_EVERY)
    }
}

impl Inner {
    /// Brings the metrics up to date.
    pub(super) fn show_visits(&self, catalog: &Catalog) {
        for (surface, gauge) in Surface::ALL.into_iter().zip(&self.metrics.sessions) {
            gauge.set(catalog.visits_of(surface) as i64);
        }
    }

    /// Forgets the visits that a change of the secret has ended. The secret changes with a start alone.
    pub(super) fn forget_unsealed_visits(&self) -> Result<()> {
        let secret = self.settings.jwt_secret.as_ref();
        self.change_while(|catalog| {
            let keys = catalog.unsealed_visits(secret).take(BATCH);
            let keys: Vec<_> = keys.collect();
            (!keys.is_empty()).then_some(ForgetVisits { keys })
        })
    }

    pub(super) fn keep_visits(&self, by: Duration) -> Result<()> {
        self.change_while(|catalog| {
            let seen = catalog.seen_visits(by).take(BATCH);
            let seen: Vec<_> = seen.map(|(visit, at)| VisitSeen { visit, at }).collect();
            (!seen.is_empty()).then_some(KeepSeen { seen })
        })
    }
}
