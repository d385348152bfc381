//! How many deliveries wait, by lane and by application, and how many of them are held.
//!
//! The committer brings the counts up to date after each commit, and every change of an endpoint
//! moves its lane's count to where it belongs. They are in memory only: a start counts the queue
//! anew (see `recount`), so they cost a few bytes for each lane in which something waits and
//! nothing on disk. Publishing is measured against them: held deliveries have a limit of their own,
//! so that one customer's disabled endpoints stop nobody else's publishing, and an application has
//! a share.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use super::{Inner, StoreSettings, low_space, unavailable};
use crate::catalog::Catalog;
use crate::domain::endpoint::Endpoint;
use crate::domain::id::ApplicationId;
use crate::error::{Error, Result};
use crate::lock::locked;

/// Deliveries that wait: some to be sent, some held because their endpoint is disabled, not verified, or held
/// by the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitingCounts {
    pub to_send: u64,
    pub held: u64,
}

impl WaitingCounts {
    pub fn all(self) -> u64 {
        self.to_send + self.held
    }

    fn of(&mut self, held: bool) -> &mut u64 {
        match held {
            true => &mut self.held,
            false => &mut self.to_send,
        }
    }
}

#[derive(Debug, Default)]
pub struct Backlog {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: WaitingCounts,
    applications: HashMap<ApplicationId, WaitingCounts>,
    lanes: HashMap<u64, Lane>,
}

/// A lane in which something waits, and where it is counted.
#[derive(Clone, Copy, Debug)]
struct Lane {
    count: u64,
    /// None where the endpoint was deleted: its deliveries are forgotten soon.
    application: Option<ApplicationId>,
    held: bool,
}

impl Lane {
    fn of(catalog: &Catalog, number: u64) -> Lane {
        let lane = catalog.lane(number);
        Lane {
            count: 0,
            application: lane.map(|(entry, _)| entry.application.id),
            held: lane.is_none_or(|(_, endpoint)| endpoint.is_held()),
        }
    }
}

impl Counts {
    /// Counts `more` deliveries at the lane's places.
    fn add(&mut self, lane: Lane, more: i64) {
        let change = |count: &mut u64| *count = count.saturating_add_signed(more);
        change(self.all.of(lane.held));
        if let Some(application) = lane.application {
            let waits = self.applications.entry(application).or_default();
            change(waits.of(lane.held));
            if waits.all() == 0 {
                self.applications.remove(&application);
            }
        }
    }
}

impl Backlog {
    /// Takes in what a commit, or a stretch of the count, adds to lanes and takes from them.
    pub fn count(&self, catalog: &Catalog, changes: impl Iterator<Item = (u64, i64)>) {
        let mut counts = self.lock();
        for (number, more) in changes {
            let lane = counts.lanes.entry(number);
            let lane = lane.or_insert_with(|| Lane::of(catalog, number));
            lane.count = lane.count.saturating_add_signed(more);
            let lane = *lane;
            counts.add(lane, more);
            if lane.count == 0 {
                counts.lanes.remove(&number);
            }
        }
    }

    /// Moves the counts of lanes whose endpoints were changed or deleted.
    pub fn sort_anew(&self, catalog: &Catalog, lanes: &[u64]) {
        let mut counts = self.lock();
        for number in lanes {
            let Some(before) = counts.lanes.get(number).copied() else {
                continue;
            };
            let now = Lane {
                count: before.count,
                ..Lane::of(catalog, *number)
            };
            let count = before.count as i64;
            counts.add(before, -count);
            counts.add(now, count);
            counts.lanes.insert(*number, now);
        }
    }

    pub fn all(&self) -> WaitingCounts {
        self.lock().all
    }

    /// Of all, and of the application.
    fn with(&self, application: ApplicationId) -> (WaitingCounts, WaitingCounts) {
        let counts = self.lock();
        let own = counts.applications.get(&application);
        (counts.all, own.copied().unwrap_or_default())
    }

    /// How many deliveries wait for these lanes.
    pub fn of_lanes(&self, lanes: impl Iterator<Item = u64>) -> u64 {
        let counts = self.lock();
        let found = lanes.filter_map(|number| counts.lanes.get(&number));
        found.map(|lane| lane.count).sum()
    }

    /// The applications of which at least this many deliveries wait.
    pub fn large(&self, min: u64) -> Vec<(ApplicationId, WaitingCounts)> {
        let counts = self.lock();
        let large = counts.applications.iter();
        large
            .filter(|(_, waits)| waits.all() >= min)
            .map(|(application, waits)| (*application, *waits))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        locked(self.counts.lock())
    }
}

/// How many deliveries may wait.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    pub to_send: u64,
    pub held: u64,
    /// Of one application, held ones included.
    pub application: u64,
}

impl Room {
    pub fn of(settings: &StoreSettings) -> Room {
        Room {
            to_send: settings.waiting_max,
            held: settings.held_max,
            application: settings.waiting_per_application_max,
        }
    }

    /// Which limit `more` deliveries of the application would break; `split` tells, where it
    /// matters, which of them would be held.
    fn refusal(
        &self,
        (all, own): (WaitingCounts, WaitingCounts),
        application: ApplicationId,
        more: u64,
        split: impl FnOnce() -> WaitingCounts,
    ) -> Option<String> {
        // What waits for nobody takes no room.
        if more == 0 {
            return None;
        }
        if own.all() + more > self.application {
            return Some(format!(
                "{} deliveries of application {application} wait, held ones included, of {} that \
                 may (limits.waiting_per_application_max): enable, release or delete its endpoints that \
                 are disabled or held, or wait until more are sent",
                own.all(),
                self.application,
            ));
        }
        if all.to_send + more <= self.to_send && all.held + more <= self.held {
            return None;
        }
        let more = split();
        if more.to_send > 0 && all.to_send + more.to_send > self.to_send {
            return Some(format!(
                "{} deliveries of all applications wait to be sent, of {} that may \
                 (limits.waiting_max), and no more fit",
                all.to_send, self.to_send,
            ));
        }
        if more.held > 0 && all.held + more.held > self.held {
            return Some(format!(
                "{} deliveries of all applications are held, of {} that may be (limits.held_max), and \
                 no more fit: enable, release or delete the endpoints that are disabled or held",
                all.held, self.held,
            ));
        }
        None
    }
}

impl Inner {
    /// Whether deliveries of this application to these lanes may wait, beside what waits now. Takes
    /// the catalog, where room is scarce.
    pub fn may_accept<'a>(
        &self,
        application: ApplicationId,
        count: u64,
        lanes: impl Iterator<Item = &'a u64>,
    ) -> Result<()> {
        self.may_wait(application, count, || self.split(lanes))
    }

    /// The same for deliveries to one endpoint. Takes no catalog: those who ask may hold it.
    pub fn may_accept_at(&self, endpoint: &Endpoint, count: u64) -> Result<()> {
        self.may_wait(endpoint.application, count, || {
            let mut split = WaitingCounts::default();
            *split.of(endpoint.is_held()) = count;
            split
        })
    }

    fn may_wait(
        &self,
        application: ApplicationId,
        count: u64,
        split: impl FnOnce() -> WaitingCounts,
    ) -> Result<()> {
        if self.low_space.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(unavailable(&low_space(&self.settings)));
        }
        let waits = self.backlog.with(application);
        match Room::of(&self.settings).refusal(waits, application, count, split) {
            None => Ok(()),
            Some(refusal) => Err(Error::TooMany(refusal)),
        }
    }

    /// Why there is not this room for deliveries of this application to these lanes. What is being
    /// committed is not counted yet, so a commit can go beyond a limit by its own size.
    pub fn refusal<'a>(
        &self,
        room: &Room,
        application: ApplicationId,
        count: u64,
        lanes: impl Iterator<Item = &'a u64>,
    ) -> Option<String> {
        let waits = self.backlog.with(application);
        room.refusal(waits, application, count, || self.split(lanes))
    }

    fn split<'a>(&self, lanes: impl Iterator<Item = &'a u64>) -> WaitingCounts {
        let catalog = self.catalog();
        let mut split = WaitingCounts::default();
        for lane in lanes {
            *split.of(Lane::of(&catalog, *lane).held) += 1;
        }
        split
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_limit_that_is_reached() {
        let room = Room {
            to_send: 100,
            held: 50,
            application: 30,
        };
        let waits = |to_send, held| WaitingCounts { to_send, held };
        let application = ApplicationId([1; 20]);
        for (all, own, more, expected) in [
            (waits(0, 0), waits(0, 0), waits(30, 0), None),
            (waits(70, 20), waits(15, 14), waits(1, 0), None),
            (
                waits(70, 20),
                waits(15, 15),
                waits(1, 0),
                Some("limits.waiting_per_application_max"),
            ),
            // What goes to nobody takes no room, not even beyond the limit.
            (waits(101, 51), waits(31, 0), waits(0, 0), None),
            // Held ones of others are in nobody's way …
            (waits(99, 50), waits(0, 0), waits(1, 0), None),
            (
                waits(100, 0),
                waits(0, 0),
                waits(1, 0),
                Some("limits.waiting_max"),
            ),
            // … nor are those that wait in the way of what will be held.
            (waits(100, 49), waits(0, 0), waits(0, 1), None),
            (
                waits(0, 49),
                waits(0, 0),
                waits(1, 2),
                Some("limits.held_max"),
            ),
        ] {
            let refusal = room.refusal((all, own), application, more.all(), || more);
            let named = |limit: &str| refusal.as_deref().is_some_and(|one| one.contains(limit));
            match expected {
                None => assert_eq!(refusal, None),
                Some(limit) => assert!(named(&format!("({limit})")), "{limit}: {refusal:?}"),
            }
        }
    }

    #[test]
    fn counts_of_lanes_without_an_endpoint_come_and_go() {
        let backlog = Backlog::default();
        let catalog = Catalog::default();
        backlog.count(&catalog, [(1, 1), (2, 1), (1, 1)].into_iter());
        let held = |held| WaitingCounts { to_send: 0, held };
        assert_eq!(backlog.all(), held(3));
        backlog.sort_anew(&catalog, &[1, 2, 3]);
        backlog.count(&catalog, [(1, -2), (2, -1)].into_iter());
        assert_eq!(backlog.all(), held(0));
        assert!(backlog.lock().lanes.is_empty());
    }
}
