//! The visits in memory, with the time of their last request.
//!
//! Each request of a visit notes its time without a lock of its own, so that it waits for nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Catalog;
use crate::clock::Timestamp;
use crate::domain::id::VisitId;
use crate::domain::jwt::JwtSecret;
use crate::domain::visit::{IDLE_MAX, SignedInWith, Surface, Visit};

/// A visit with the time of its last request.
#[derive(Debug)]
pub struct VisitEntry {
    pub visit: Visit,
    /// Milliseconds.
    seen_at: AtomicU64,
}

impl VisitEntry {
    fn new(visit: Visit, seen_at: Timestamp) -> VisitEntry {
        let seen_at = visit.seen_at.max(seen_at);
        VisitEntry {
            visit,
            seen_at: seen_at.0.into(),
        }
    }

    /// The time of the last request.
    pub fn seen_at(&self) -> Timestamp {
        Timestamp(self.seen_at.load(Ordering::Relaxed))
    }

    /// Notes a request.
    pub fn seen(&self, now: Timestamp) {
        self.seen_at.fetch_max(now.0, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
pub(super) struct Visits {
    by_id: BTreeMap<VisitId, Arc<VisitEntry>>,
    by_key: HashMap<[u8; 32], VisitId>,
    /// How many there are of each surface.
    by_surface: [usize; Surface::ALL.len()],
}

impl Visits {
    pub(super) fn put(&mut self, visit: Visit) {
        let (id, key) = (visit.id, visit.key);
        let seen_at = self.by_id.get(&id).map(|old| old.seen_at());
        if seen_at.is_none() {
            self.by_surface[visit.surface as usize] += 1;
        }
        let entry = VisitEntry::new(visit, seen_at.unwrap_or_default());
        self.by_key.insert(key, id);
        self.by_id.insert(id, Arc::new(entry));
    }

    pub(super) fn delete(&mut self, key: &[u8; 32]) {
        let id = self.by_key.remove(key);
        if let Some(entry) = id.and_then(|id| self.by_id.remove(&id)) {
            self.by_surface[entry.visit.surface as usize] -= 1;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }
}

impl Catalog {
    /// The number of visits of a surface, over or not.
    pub fn visits_of(&self, surface: Surface) -> usize {
        self.visits.by_surface[surface as usize]
    }

    /// All visits, sorted by id, over or not.
    pub fn visits(&self) -> impl DoubleEndedIterator<Item = &Arc<VisitEntry>> {
        self.visits.by_id.values()
    }

    pub fn visit_by_id(&self, id: VisitId) -> Option<&Arc<VisitEntry>> {
        self.visits.by_id.get(&id)
    }

    /// By the SHA-256 of the cookie.
    pub fn visit(&self, key: &[u8; 32]) -> Option<&Arc<VisitEntry>> {
        self.visits.by_id.get(self.visits.by_key.get(key)?)
    }

    /// Whether the visit has ended: nobody used it for long, or its credential has ended. The seal of a
    /// signed token is not looked at, for which the secret is needed.
    pub fn is_over(&self, entry: &VisitEntry, now: Timestamp) -> bool {
        let visit = &entry.visit;
        let has_ended = match &visit.with {
            SignedInWith::Token(id) => self.token(*id).is_none_or(|token| {
                let is_past = token.expires_at.is_some_and(|end| end <= now);
                is_past || token.hash != visit.credential
            }),
            SignedInWith::Signed { claims, .. } => {
                claims.have_ended(now) || !self.takes_signed(claims, || visit.credential, now)
            }
        };
        has_ended || now.since(entry.seen_at()) >= IDLE_MAX
    }

    /// The keys of visits of signed tokens whose seal is not this secret's: since the secret was changed
    /// they prove nothing, and never will.
    pub fn unsealed_visits(&self, secret: Option<&JwtSecret>) -> impl Iterator<Item = [u8; 32]> {
        let unsealed = self.visits().filter(move |entry| match &entry.visit.with {
            SignedInWith::Token(_) => false,
            SignedInWith::Signed { seal, .. } => {
                let credential = &entry.visit.credential;
                !secret.is_some_and(|secret| secret.has_sealed(credential, seal))
            }
        });
        unsealed.map(|entry| entry.visit.key)
    }

    /// Last requests that are later than what is on disk by so much.
    pub fn seen_visits(&self, by: Duration) -> impl Iterator<Item = (VisitId, Timestamp)> {
        let entries = self.visits().map(|entry| (entry, entry.seen_at()));
        let late = entries.filter(move |(entry, at)| at.since(entry.visit.seen_at) >= by);
        late.map(|(entry, at)| (entry.visit.id, at))
    }
}
