//! One endpoint's queue and limits, in memory. Pure: no I/O, no time of its own.
//!
//! The store holds the whole queue; a lane holds a *window* of it, the deliveries that are due
//! first. Everything at or before the window's end is known here; deliveries behind it are read when
//! the window runs low. The worker tells the lane of deliveries that were stored, read, sent and
//! recorded, and asks it for the next one to send. The lane relies on news in the order of commits: a
//! delivery is reported as stored before its outcome is durable.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::budget::KeptMessage;
use super::gate::{Gate, Reached, Searched};
use super::hosts::{Host, HostPlace, PlaceTaker};
use super::throttle::{CatchingUp, Rates, Throttle};
use crate::clock::Timestamp;
use crate::domain::endpoint::Endpoint;
use crate::domain::health::Rest;
use crate::domain::id::{ApplicationId, MessageId};
use crate::domain::message::{Delivery, DeliveryKey};

/// Deliveries that a window holds at most, at about 150 bytes each and their payload.
pub const WINDOW_MAX: usize = 512;
/// How many deliveries the first read of a lane asks for; later reads follow its pace.
const FIRST_READ: usize = 32;

/// How long a lane waits after a failed read, or after an attempt for which this machine lacks
/// something, before it is tried again.
pub const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Deliveries that one search of a lane ends at most.
pub const ENDED_MAX: usize = 64;

/// A place in a lane's queue.
pub type Place = (Timestamp, MessageId);

pub fn place(key: &DeliveryKey) -> Place {
    (key.due, key.message)
}

/// A delivery in the window, with its message where that is at hand.
#[derive(Debug)]
pub struct Entry {
    pub delivery: Delivery,
    pub message: Option<KeptMessage>,
}

/// A stretch of a lane's queue that is to be read.
#[derive(Debug)]
pub struct Stretch {
    pub lane: u64,
    pub application: Option<ApplicationId>,
    pub behind: Option<Place>,
    pub limit: usize,
}

/// How far the window reaches.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// Nothing of the queue is known yet.
    Unread,
    /// Everything up to here is known.
    At(Place),
    /// The whole queue is known.
    Whole,
}

/// Limits that all lanes share.
#[derive(Clone, Copy, Debug)]
pub struct LaneLimits {
    pub in_flight_max: usize,
    pub unrecorded_max: usize,
}

/// Whether a lane may send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// Its first delivery is due then, or its throttle lets it send then.
    At(Timestamp),
    /// Something must happen first: an answer, a commit, a read, an endpoint enabled, a delivery, a
    /// place at its host.
    Waiting,
}

pub struct Lane {
    /// As of the last commit; absent when it was deleted.
    pub endpoint: Option<Arc<Endpoint>>,
    window: BTreeMap<Place, Entry>,
    end: End,
    /// A read is under way. `passed` collects deliveries that it may show although they are gone, and
    /// `late` those that it may have missed.
    reading: bool,
    passed: HashSet<Place>,
    late: Vec<Entry>,
    /// A message's payload was deleted since the read began: it may bring an older copy along.
    read_is_stale: bool,
    /// A delivery was given back since the read began, which leaves it out: read once more.
    read_is_short: bool,
    /// Nothing is sent or read before this.
    paused_until: Timestamp,
    /// Taken from the window, and the outcome is not yet durable.
    taken: HashSet<Place>,
    /// Of those, being sent now.
    in_flight: usize,
    /// The last attempts timed out: one slot until one succeeds, so that an endpoint that hangs
    /// does not hold many.
    hanging: bool,
    /// Deliveries taken since the last read: the pace for the next.
    pace: usize,
    /// Where the endpoint or its application has a rate.
    throttle: Option<Box<Throttle>>,
    gate: Gate,
    /// Where its backlog has a pace.
    catching_up: Option<Box<CatchingUp>>,
    /// The host that it sends to; absent with the endpoint.
    host: Option<Arc<Host>>,
    /// It waits in its host's line for a place.
    waits_for_host: bool,
    /// The place that it got there, until its turn.
    host_place: Option<HostPlace>,
    /// In the worker's round of ready lanes.
    pub queued: bool,
}

impl Lane {
    /// A lane of which nothing is known (`read` it first) or known to be empty.
    pub fn new(endpoint: Option<Arc<Endpoint>>, known_empty: bool, now: Timestamp) -> Lane {
        let catch_up = endpoint.as_ref().and_then(|endpoint| endpoint.catch_up);
        Lane {
            endpoint,
            window: BTreeMap::new(),
            end: if known_empty { End::Whole } else { End::Unread },
            reading: false,
            passed: HashSet::new(),
            late: Vec::new(),
            read_is_stale: false,
            read_is_short: false,
            paused_until: Timestamp(0),
            taken: HashSet::new(),
            in_flight: 0,
            hanging: false,
            pace: 0,
            throttle: None,
            gate: Gate::default(),
            catching_up: CatchingUp::changed(None, catch_up, now),
            host: None,
            waits_for_host: false,
            host_place: None,
            queued: false,
        }
    }

    /// Takes note of a delivery that was stored.
    pub fn stored(&mut self, mut entry: Entry) {
        if !self.sends_soon() {
            // Others need the memory more.
            entry.message = None;
        }
        let at = place(&entry.delivery.key);
        self.gate.came();
        // A delivery that passed may come back to the same place.
        self.passed.remove(&at);
        let known = match self.end {
            End::Whole => true,
            End::At(end) => at <= end,
            End::Unread => false,
        };
        if known {
            self.insert(at, entry);
        } else if self.reading {
            self.late.push(entry);
        }
    }

    /// Takes note of a delivery that was taken out of the store without an attempt.
    pub fn gone(&mut self, at: Place) {
        self.window.remove(&at);
        if self.reading {
            self.passed.insert(at);
        }
    }

    /// The message's payload was deleted, so the message is read from the store again before it is sent.
    pub fn expunged(&mut self, message: MessageId) {
        let entries = self.window.values_mut().chain(&mut self.late);
        entries
            .filter(|entry| entry.delivery.key.message == message)
            .for_each(|entry| entry.message = None);
        self.read_is_stale = self.reading;
    }

    fn insert(&mut self, at: Place, entry: Entry) {
        if self.taken.contains(&at) {
            return;
        }
        self.window.insert(at, entry);
        if self.window.len() > WINDOW_MAX {
            self.window.pop_last();
            if let Some((last, _)) = self.window.last_key_value() {
                self.end = End::At(*last);
            }
        }
    }

    /// The next read, if it is time for one: the place behind which to read, and the number of deliveries.
    pub fn wants_read(&mut self) -> Option<(Option<Place>, usize)> {
        let low = self.window.len() * 2 < WINDOW_MAX.min(2 * (self.pace + 1));
        if self.reading || !self.sends() {
            return None;
        }
        let behind = match self.end {
            End::Whole => return None,
            End::Unread => None,
            End::At(_) if !low => return None,
            End::At(end) => Some(end),
        };
        self.reading = true;
        let room = WINDOW_MAX - self.window.len().min(WINDOW_MAX - 1);
        let limit = (2 * self.pace).clamp(FIRST_READ, room.max(FIRST_READ));
        self.pace = 0;
        Some((behind, limit))
    }

    /// Takes in the result of a read; `whole` when it reached the queue's end.
    pub fn read(&mut self, mut entries: Vec<Entry>, whole: bool) {
        if self.read_is_short {
            self.read_failed();
            return;
        }
        self.reading = false;
        if std::mem::take(&mut self.read_is_stale) {
            entries.iter_mut().for_each(|entry| entry.message = None);
        }
        let last = entries.last().map(|entry| place(&entry.delivery.key));
        let passed = std::mem::take(&mut self.passed);
        let late = std::mem::take(&mut self.late);
        self.end = match last {
            _ if whole => End::Whole,
            Some(last) => End::At(last),
            None => End::Whole,
        };
        for entry in entries {
            let at = place(&entry.delivery.key);
            if !passed.contains(&at) {
                self.insert(at, entry);
            }
        }
        for entry in late {
            let at = place(&entry.delivery.key);
            if !passed.contains(&at) {
                self.stored(entry);
            }
        }
    }

    /// The store reports that something waits: a lane at rest reads its queue anew. Deliveries in the
    /// window stay there, since reading them a second time changes nothing.
    pub fn look_again(&mut self) {
        if self.taken.is_empty() && !self.reading {
            self.end = End::Unread;
        }
    }

    /// A read failed; it may be tried again.
    pub fn read_failed(&mut self) {
        self.reading = false;
        self.read_is_stale = false;
        self.read_is_short = false;
        self.passed.clear();
        self.late.clear();
        // Late deliveries are in the store, behind the known ones, so it is read from the beginning.
        self.window.clear();
        self.end = End::Unread;
    }

    /// Whether it may send now, if its host has a place; a lane that must wait for its throttle keeps
    /// its turn until it is asked again.
    pub fn readiness(&mut self, now: Timestamp, limits: &LaneLimits) -> Readiness {
        // A clock that was set back makes no pause longer.
        self.paused_until = self.paused_until.min(now + TRY_AGAIN);
        let mut readiness = self.readiness_by_queue(now, limits);
        if self.waits_for_host && readiness == Readiness::Ready {
            readiness = Readiness::Waiting;
        }
        if readiness == Readiness::Ready
            && let Some(at) = self.paced_until(now)
        {
            readiness = Readiness::At(at);
        }
        match &mut self.throttle {
            None => readiness,
            Some(throttle) if readiness == Readiness::Ready => match throttle.free_at(now) {
                free_at if free_at <= now => Readiness::Ready,
                free_at => Readiness::At(free_at),
            },
            Some(throttle) => {
                throttle.step_back();
                readiness
            }
        }
    }

    /// When the first delivery may be sent at the pace of the backlog, where it is of it and that is not now.
    fn paced_until(&mut self, now: Timestamp) -> Option<Timestamp> {
        let (_, message) = self.next_place(now)?;
        let catching_up = self.catching_up.as_mut()?;
        catching_up.free_at(message, now).filter(|at| *at > now)
    }

    fn readiness_by_queue(&mut self, now: Timestamp, limits: &LaneLimits) -> Readiness {
        let Some(endpoint) = &self.endpoint else {
            return Readiness::Waiting;
        };
        let in_flight_max = if self.hanging {
            1
        } else {
            self.gate.in_flight_max(limits.in_flight_max)
        };
        // A probe is by itself: what comes next depends on its outcome, which the store decides on.
        let probes =
            self.gate.rest().is_some() && (!self.taken.is_empty() || self.gate.is_searching());
        if endpoint.is_held()
            || probes
            || self.in_flight >= in_flight_max
            || self.taken.len() >= limits.unrecorded_max
        {
            return Readiness::Waiting;
        }
        match self.window.first_key_value() {
            // It reads once it has rested, which may find something that is due before what it knows.
            first if self.is_paused(now) && (first.is_none() || self.end == End::Unread) => {
                Readiness::At(self.paused_until)
            }
            None => Readiness::Waiting,
            Some(((due, _), _)) => {
                let at = self.paused_until.max(*due).max(self.gate.opens_at(now));
                match self.gate.search_at() {
                    _ if at <= now => Readiness::Ready,
                    // Where the search could not begin just now, the lane is looked at again before long.
                    Some(search_at) => Readiness::At(at.min(search_at.max(now + TRY_AGAIN))),
                    None => Readiness::At(at),
                }
            }
        }
    }

    /// Takes the first delivery out to send it. Ask `readiness` first.
    pub fn take(&mut self, now: Timestamp) -> Option<Entry> {
        let at = self.next_place(now)?;
        let entry = self.window.remove(&at)?;
        self.gate.takes(at.1);
        if let Some(catching_up) = &mut self.catching_up {
            catching_up.take(at.1);
        }
        self.take_place(at);
        self.pace += 1;
        if let Some(throttle) = &mut self.throttle {
            throttle.take();
        }
        Some(entry)
    }

    /// The delivery that is sent next: the first, but no message is the probe of a lane twice in a row where another
    /// one is due.
    fn next_place(&self, now: Timestamp) -> Option<Place> {
        let mut places = self.window.keys();
        let first = *places.next()?;
        let another = places.next().filter(|(due, _)| *due <= now);
        match another {
            Some(another) if self.gate.passes_by(first.1) => Some(*another),
            _ => Some(first),
        }
    }

    fn take_place(&mut self, at: Place) {
        self.taken.insert(at);
        if self.reading {
            self.passed.insert(at);
        }
        self.in_flight += 1;
    }

    /// Where its queue is to be searched for deliveries whose schedule has ended behind an open breaker, if it is time
    /// for that.
    pub fn wants_search(&mut self, now: Timestamp, limits: &LaneLimits) -> Option<Reached> {
        let has_room =
            self.taken.is_empty() || self.taken.len() + ENDED_MAX <= limits.unrecorded_max;
        if !has_room || !self.sends() {
            return None;
        }
        self.gate.wants_search(now)
    }

    /// When it came to rest.
    pub fn rests_since(&self) -> Timestamp {
        self.gate.rest().map_or(Timestamp(0), |rest| rest.since)
    }

    /// A search has no result, and begins anew.
    pub fn search_lost(&mut self) {
        self.gate.search_lost();
    }

    /// A search has its result.
    pub fn searched(&mut self, searched: Searched, now: Timestamp) {
        self.gate.searched(searched, now);
    }

    /// Takes a delivery out that is to end without an attempt; false where it is taken already.
    pub fn take_ended(&mut self, at: Place) -> bool {
        if self.taken.contains(&at) || self.gate.rest().is_none() {
            return false;
        }
        self.window.remove(&at);
        self.take_place(at);
        true
    }

    /// An answer came, or none in time.
    pub fn sent(&mut self, timed_out: bool, succeeded: bool, limits: &LaneLimits) {
        self.in_flight -= 1;
        if timed_out {
            self.hanging = true;
        } else if succeeded {
            self.hanging = false;
            self.gate.succeeded(limits.in_flight_max);
        }
    }

    /// The outcome of a delivery is durable.
    pub fn recorded(&mut self, at: &Place) {
        self.taken.remove(at);
        if self.reading {
            self.passed.insert(*at);
        }
    }

    /// A delivery was taken and could not be sent. It is unchanged in the store and is read again. The lane
    /// sends nothing for a while, because its other deliveries lack the same.
    pub fn given_back(&mut self, at: &Place, now: Timestamp) {
        self.in_flight -= 1;
        self.taken.remove(at);
        self.pause(now);
        if self.reading {
            self.read_is_short = true;
        } else {
            self.read_failed();
        }
    }

    /// Lets the lane rest; news of it do not end the rest.
    pub fn pause(&mut self, now: Timestamp) {
        self.paused_until = now + TRY_AGAIN;
    }

    pub fn is_paused(&self, now: Timestamp) -> bool {
        self.paused_until > now
    }

    /// Its last attempts timed out.
    pub fn is_hanging(&self) -> bool {
        self.hanging
    }

    /// The places of deliveries that were taken and whose outcome is not yet durable.
    pub fn taken(&self) -> impl Iterator<Item = &Place> {
        self.taken.iter()
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Sent or being sent, with the outcome not yet durable.
    pub fn unrecorded(&self) -> usize {
        self.taken.len()
    }

    /// When the first delivery is or was due, in a lane that sends. In one that rests nothing is late.
    pub fn first_due(&self) -> Option<Timestamp> {
        let is_open = self.gate.rest().is_none();
        let first = self.window.first_key_value();
        let first = first.filter(|_| is_open && self.sends());
        first.map(|((due, _), _)| *due)
    }

    /// Its first delivery is due, and nothing but a rate keeps it from being sent.
    pub fn has_only_its_rate_to_wait_for(&self, now: Timestamp) -> bool {
        let due = self.first_due();
        self.throttle.is_some() && due.is_some_and(|due| due.max(self.paused_until) <= now)
    }

    /// Takes note of a change of the endpoint, or of its end.
    pub fn endpoint_changed(&mut self, endpoint: Option<Arc<Endpoint>>, now: Timestamp) {
        let sent = self.sends();
        self.endpoint = endpoint;
        let catch_up = self
            .endpoint
            .as_ref()
            .and_then(|endpoint| endpoint.catch_up);
        self.catching_up = CatchingUp::changed(self.catching_up.take(), catch_up, now);
        self.gate.schedule_changed();
        if !sent && self.sends() {
            // Much may have come together while it was held.
            self.gate.begin_ramp();
        }
        if !self.sends() {
            self.window
                .values_mut()
                .for_each(|entry| entry.message = None);
        }
    }

    /// Takes note of the rest of the lane, as of the last commit.
    pub fn rest_changed(&mut self, rest: Option<Rest>) {
        self.gate.rest_changed(rest);
        if rest.is_some() {
            // Others need the memory more.
            self.window
                .values_mut()
                .for_each(|entry| entry.message = None);
        }
    }

    /// Takes note of the rates of the endpoint and its application.
    pub fn rates_changed(&mut self, rates: Rates, now: Timestamp) {
        self.throttle = Throttle::changed(self.throttle.take(), rates, now);
    }

    /// Takes note of the host that it sends to, now or from now on.
    pub fn host_changed(&mut self, host: Option<Arc<Host>>) {
        let is_same = match (&self.host, &host) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            _ => false,
        };
        if !is_same {
            self.waits_for_host = false;
            self.host_place = None;
        }
        self.host = host;
    }

    /// The place at its host that it was given, or one that is free there; else it waits in line.
    /// Ask `readiness` first.
    pub fn place_at_host(&mut self, number: u64, taker: &Arc<dyn PlaceTaker>) -> Option<HostPlace> {
        let given = self.host_place.take();
        given.or_else(|| {
            let (host, endpoint) = (self.host.as_ref()?, self.endpoint.as_ref()?);
            let place = host.place(endpoint.application, number, taker);
            self.waits_for_host = place.is_none();
            place
        })
    }

    /// Takes a place for which it has waited, to use at its turn; false where it did not.
    pub fn host_place_came(&mut self, place: HostPlace) -> bool {
        let is_mine = self.host.as_ref().is_some_and(|host| place.is_at(host));
        let waited = is_mine && std::mem::take(&mut self.waits_for_host);
        if waited {
            self.host_place = Some(place);
        }
        waited
    }

    /// Lets others have the place at its host that it does not use now.
    pub fn leave_host_place(&mut self) {
        self.host_place = None;
    }

    pub fn waits_for_host(&self) -> bool {
        self.waits_for_host
    }

    /// A delivery that is stored now goes out at once or within a second or so.
    fn sends_soon(&self) -> bool {
        let throttle = self.throttle.as_ref();
        let throttled = throttle.is_some_and(|one| self.window.len() >= one.a_seconds_worth());
        self.sends() && !throttled && self.gate.rest().is_none()
    }

    fn sends(&self) -> bool {
        self.endpoint
            .as_ref()
            .is_some_and(|endpoint| !endpoint.is_held())
    }

    /// Nothing is lost when this lane is forgotten and made anew as known to be empty.
    pub fn is_forgettable(&self, now: Timestamp) -> bool {
        if !self.taken.is_empty() || self.reading || self.queued || self.gate.is_searching() {
            return false;
        }
        let throttle = self.throttle.as_ref();
        let empty = self.window.is_empty()
            && self.end == End::Whole
            && !self.hanging
            && throttle.is_none_or(|throttle| throttle.is_forgettable(now));
        empty || self.endpoint.is_none()
    }
}

#[cfg(test)]
mod tests;
