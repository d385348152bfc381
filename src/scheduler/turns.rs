//! The order of attempts: which lane sends its next delivery, and when. Pure: no I/O, no time of its own.
//!
//! A worker reports commits, answers, reads and places at hosts, each with the time. It then asks for the
//! reads that lanes want (`next_read`), and for turns one by one (`next`): lanes that are ready take turns,
//! one delivery a turn, while there are slots. The last quarter of the slots goes only to lanes with
//! nothing in flight, so that endpoints that hang never hold them all. A lane without anything due has an
//! alarm for its next delivery; a lane that has sent everything is forgotten.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::alarms::Alarms;
use super::ended::Search;
use super::gate::Searched;
use super::hosts::{Host, HostPlace, PlaceTaker};
use super::lane::{self, Entry, Lane, LaneLimits, Readiness, Stretch};
use super::throttle::Rates;
use crate::clock::Timestamp;
use crate::domain::endpoint::Endpoint;
use crate::domain::health::Rest;
use crate::domain::id::MessageId;
use crate::domain::message::DeliveryKey;

/// The registrations as of the last commit.
pub trait Registrations {
    /// Those of a lane.
    fn of(&self, lane: u64, now: Timestamp) -> Registered;

    /// The rest of a lane, where its endpoint fails.
    fn rest_of(&self, lane: u64) -> Option<Rest>;
}

/// A lane's registrations.
#[derive(Default)]
pub struct Registered {
    pub endpoint: Option<Arc<Endpoint>>,
    /// Those of the endpoint and of its application.
    pub rates: Rates,
    pub host: Option<Arc<Host>>,
}

/// The limits of one worker.
#[derive(Clone, Copy, Debug)]
pub struct TurnLimits {
    /// Attempts in flight at most.
    pub slots: usize,
    pub lane: LaneLimits,
}

impl TurnLimits {
    /// The slots that any lane may use; the rest is for lanes with none in flight.
    pub fn open_slots(&self) -> usize {
        (self.slots - self.slots / 4).max(1)
    }
}

/// How a lane does, as its worker sees it.
#[derive(Clone, Copy, Debug)]
pub struct LaneLook {
    pub lane: u64,
    pub in_flight: usize,
    /// Its last attempts timed out: one at a time is sent.
    pub hanging: bool,
    /// Something is due and waits for its turn at a rate.
    pub throttled: bool,
    /// Something is due and waits for a place at the receiving host.
    pub waits_for_host: bool,
}

/// The result of a lane's turn.
pub enum Turn {
    /// This attempt begins. It has a slot until `sent` or `given_back`.
    Begin(Begin),
    /// The lane had to let its turn pass. It gets another one by itself.
    Passed,
    /// No lane is ready, or no slot is free.
    Over,
}

pub struct Begin {
    pub entry: Entry,
    pub endpoint: Arc<Endpoint>,
    pub place: HostPlace,
}

/// The lanes of one worker.
pub struct Turns<R> {
    registrations: R,
    limits: TurnLimits,
    /// Gets the places at hosts for which lanes wait.
    taker: Arc<dyn PlaceTaker>,
    lanes: HashMap<u64, Lane>,
    /// Lanes that may send, each once.
    ready: VecDeque<u64>,
    /// Ready lanes that must let others go first until slots are free again.
    parked: Vec<u64>,
    /// When lanes with nothing due now have something due.
    alarms: Alarms,
    /// Reads that lanes want and that nobody has asked for yet.
    wanted: VecDeque<Stretch>,
    /// Searches of lanes, likewise.
    searches: VecDeque<Search>,
    /// A lane that is not in `lanes` is known to be empty.
    lanes_read: bool,
    slots_used: usize,
    /// Begun without a message at hand, and not `loaded` yet.
    loading: usize,
    /// Reads that are wanted or under way.
    reading: usize,
    /// Attempts whose outcome is not durable.
    unrecorded: usize,
    /// Lanes in the line of a host; each gets a place at its turn.
    in_line: usize,
}

impl<R: Registrations> Turns<R> {
    pub fn new(registrations: R, limits: TurnLimits, taker: Arc<dyn PlaceTaker>) -> Turns<R> {
        Turns {
            registrations,
            limits,
            taker,
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            parked: Vec::new(),
            alarms: Alarms::default(),
            wanted: VecDeque::new(),
            searches: VecDeque::new(),
            lanes_read: false,
            slots_used: 0,
            loading: 0,
            reading: 0,
            unrecorded: 0,
            in_line: 0,
        }
    }

    /// The next ready lane's turn. One time holds for the whole turn: a lane that it shows as not due yet
    /// gets an alarm, and is not queued again at once, which would repeat for ever.
    pub fn next(&mut self, now: Timestamp) -> Turn {
        if !self.has_slot() {
            return Turn::Over;
        }
        let Some(number) = self.ready.pop_front() else {
            return Turn::Over;
        };
        let reserved_only = self.slots_used >= self.limits.open_slots();
        let Some(lane) = self.lanes.get_mut(&number) else {
            return Turn::Passed;
        };
        if lane.readiness(now, &self.limits.lane) != Readiness::Ready {
            lane.queued = false;
            lane.leave_host_place();
            self.look_at(number, now);
            return Turn::Passed;
        }
        if reserved_only && lane.in_flight() > 0 {
            lane.leave_host_place();
            self.parked.push(number);
            return Turn::Passed;
        }
        let Some(place) = lane.place_at_host(number, &self.taker) else {
            lane.queued = false;
            self.in_line += usize::from(lane.waits_for_host());
            self.look_at(number, now);
            return Turn::Passed;
        };
        lane.queued = false;
        let begun = lane.endpoint.clone().zip(lane.take(now));
        let Some((endpoint, entry)) = begun else {
            return Turn::Passed;
        };
        self.slots_used += 1;
        self.unrecorded += 1;
        self.loading += usize::from(entry.message.is_none());
        self.look_at(number, now);
        Turn::Begin(Begin {
            entry,
            endpoint,
            place,
        })
    }

    pub fn has_slot(&self) -> bool {
        self.slots_used < self.limits.slots
    }

    /// The next read that a lane wants. Its result comes back by `read` or `read_failed`.
    pub fn next_read(&mut self) -> Option<Stretch> {
        self.wanted.pop_front()
    }

    /// The next search that a lane wants, with its endpoint. Its result comes back by `searched` or `search_failed`.
    pub fn next_search(&mut self) -> Option<(Search, Arc<Endpoint>)> {
        while let Some(search) = self.searches.pop_front() {
            let lane = self.lanes.get_mut(&search.lane);
            match lane.as_ref().and_then(|lane| lane.endpoint.clone()) {
                Some(endpoint) => return Some((search, endpoint)),
                None => {
                    self.reading -= 1;
                    if let Some(lane) = lane {
                        lane.search_lost();
                    }
                }
            }
        }
        None
    }

    /// When a lane has something due that is not due now, or not before its rate allows it.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.alarms.next()
    }

    /// Gives turns to the lanes that have something due by now.
    pub fn wake(&mut self, now: Timestamp) {
        while let Some(number) = self.alarms.take_due(now) {
            self.look_at(number, now);
        }
    }

    /// A delivery waits that did not before, or waits at another time.
    pub fn stored(&mut self, entry: Entry, now: Timestamp) {
        let number = entry.delivery.key.lane;
        self.lane(number, now).stored(entry);
        self.look_at(number, now);
    }

    /// A delivery was taken out of the store without an attempt.
    pub fn gone(&mut self, key: &DeliveryKey, now: Timestamp) {
        self.lane(key.lane, now).gone(lane::place(key));
        self.look_at(key.lane, now);
    }

    /// The outcome of an attempt is durable.
    pub fn recorded(&mut self, key: &DeliveryKey, now: Timestamp) {
        self.unrecorded -= 1;
        self.lane(key.lane, now).recorded(&lane::place(key));
        self.look_at(key.lane, now);
    }

    /// The registrations of a lane were changed or deleted.
    pub fn registrations_changed(&mut self, number: u64, now: Timestamp) {
        let registered = self.registrations.of(number, now);
        let lane = self.lane(number, now);
        lane.endpoint_changed(registered.endpoint, now);
        lane.rates_changed(registered.rates, now);
        lane.host_changed(registered.host);
        self.look_at(number, now);
    }

    /// The lane came to rest, or has another rest, or none any more.
    pub fn rest_changed(&mut self, number: u64, now: Timestamp) {
        if let Some(lane) = self.lanes.get_mut(&number) {
            lane.rest_changed(self.registrations.rest_of(number));
        }
        self.look_at(number, now);
    }

    /// The message's payload was deleted: a copy of it must not be sent.
    pub fn expunged(&mut self, number: u64, message: MessageId, now: Timestamp) {
        if let Some(lane) = self.lanes.get_mut(&number) {
            lane.expunged(message);
        }
        self.look_at(number, now);
    }

    /// Something waits in this lane by the store's word.
    pub fn look_again(&mut self, number: u64, now: Timestamp) {
        self.lane_of_which(number, false, now).look_again();
        self.look_at(number, now);
    }

    /// The store has named all lanes in which something waits. A lane that has sent all it had stays for
    /// as long as its throttle counts that.
    pub fn lanes_read(&mut self, now: Timestamp) {
        self.lanes_read = true;
        self.lanes.retain(|_, lane| !lane.is_forgettable(now));
    }

    /// A read has its result; `whole` where it reached the end of the lane's queue.
    pub fn read(&mut self, number: u64, entries: Vec<Entry>, whole: bool, now: Timestamp) {
        self.reading -= 1;
        self.lane(number, now).read(entries, whole);
        self.look_at(number, now);
    }

    /// A read failed. The lane rests before it tries again.
    pub fn read_failed(&mut self, number: u64, now: Timestamp) {
        self.reading -= 1;
        let lane = self.lane(number, now);
        lane.read_failed();
        lane.pause(now);
        self.look_at(number, now);
    }

    /// A page of a search has its result.
    pub fn searched(&mut self, number: u64, searched: Searched, now: Timestamp) {
        self.reading -= 1;
        self.lane(number, now).searched(searched, now);
        self.look_at(number, now);
    }

    /// A search failed. The lane rests before it tries again.
    pub fn search_failed(&mut self, number: u64, now: Timestamp) {
        self.reading -= 1;
        let lane = self.lane(number, now);
        lane.search_lost();
        lane.pause(now);
        self.look_at(number, now);
    }

    /// Takes a delivery that is to end without an attempt, and returns its endpoint. It has a slot until `sent`.
    pub fn take_ended(&mut self, key: &DeliveryKey, now: Timestamp) -> Option<Arc<Endpoint>> {
        let lane = self.lane(key.lane, now);
        let endpoint = lane.endpoint.clone()?;
        if !lane.take_ended(lane::place(key)) {
            return None;
        }
        self.slots_used += 1;
        self.unrecorded += 1;
        Some(endpoint)
    }

    /// The message of an attempt that began without one was read, or cannot be read. Returns the endpoint
    /// as it is now, if it is still there.
    pub fn loaded(&mut self, number: u64, now: Timestamp) -> Option<Arc<Endpoint>> {
        self.loading -= 1;
        self.lane(number, now).endpoint.clone()
    }

    /// A lane's turn at its host has come. If the lane cannot use it at once, the next lane gets it.
    pub fn place_came(&mut self, number: u64, place: HostPlace, now: Timestamp) {
        self.in_line -= 1;
        let waited = match self.lanes.get_mut(&number) {
            Some(lane) => lane.host_place_came(place),
            None => return,
        };
        if waited {
            self.look_at(number, now);
        }
        let is_full = !self.has_slot();
        if let Some(lane) = self.lanes.get_mut(&number)
            && (is_full || !lane.queued)
        {
            lane.leave_host_place();
        }
    }

    /// An attempt has its answer, or none. Its slot is free.
    pub fn sent(&mut self, number: u64, timed_out: bool, succeeded: bool, now: Timestamp) {
        self.slots_used -= 1;
        let limits = self.limits.lane;
        self.lane(number, now).sent(timed_out, succeeded, &limits);
        self.look_at(number, now);
        self.unpark(number);
    }

    /// A delivery was taken and not sent. It stays in the store as it was.
    pub fn given_back(&mut self, key: &DeliveryKey, now: Timestamp) {
        self.slots_used -= 1;
        self.unrecorded -= 1;
        self.lane(key.lane, now).given_back(&lane::place(key), now);
        self.look_at(key.lane, now);
        self.unpark(key.lane);
    }

    /// How a lane does; nothing where it is not known here.
    pub fn look(&self, number: u64, now: Timestamp) -> Option<LaneLook> {
        let lane = self.lanes.get(&number)?;
        // A lane that could send now and waits for its alarm waits for its turn at a rate.
        let throttled = lane.has_only_its_rate_to_wait_for(now);
        Some(LaneLook {
            lane: number,
            in_flight: lane.in_flight(),
            hanging: lane.is_hanging(),
            throttled: throttled && self.alarms.is_set(number),
            waits_for_host: lane.waits_for_host(),
        })
    }

    /// The deliveries of a lane that are being sent, or whose outcome is not durable; only that of a
    /// message where one is given.
    pub fn sending(&self, number: u64, message: Option<MessageId>) -> Vec<DeliveryKey> {
        let Some(lane) = self.lanes.get(&number) else {
            return Vec::new();
        };
        let is_wanted = |id: MessageId| message.is_none_or(|wanted| wanted == id);
        let places = lane.taken().filter(|(_, id)| is_wanted(*id));
        places
            .map(|&(due, message)| DeliveryKey {
                lane: number,
                due,
                message,
            })
            .collect()
    }

    /// Attempts in flight.
    pub fn in_flight(&self) -> usize {
        self.slots_used
    }

    /// When the delivery that waits longest was due, where one is overdue. This walks all lanes.
    pub fn oldest_due(&self, now: Timestamp) -> Option<Timestamp> {
        let firsts = self.lanes.values().filter_map(Lane::first_due);
        firsts.filter(|due| *due <= now).min()
    }

    /// Nothing is in flight any more, and every outcome is durable.
    pub fn is_drained(&self) -> bool {
        self.slots_used == 0 && self.lanes.values().all(|lane| lane.unrecorded() == 0)
    }

    /// Nothing is due, in flight, being read or being recorded.
    pub fn is_quiet(&self) -> bool {
        let taken = self.slots_used > 0 || self.loading > 0 || self.in_line > 0;
        self.lanes_read
            && !taken
            && self.ready.is_empty()
            && self.parked.is_empty()
            && self.unrecorded == 0
            && self.reading == 0
    }

    #[cfg(test)]
    pub fn lanes_count(&self) -> usize {
        self.lanes.len()
    }

    fn lane(&mut self, number: u64, now: Timestamp) -> &mut Lane {
        self.lane_of_which(number, self.lanes_read, now)
    }

    /// The lane as it is in memory, or anew, of which nothing is known or that it is empty.
    fn lane_of_which(&mut self, number: u64, known_empty: bool, now: Timestamp) -> &mut Lane {
        let registrations = &self.registrations;
        self.lanes.entry(number).or_insert_with(|| {
            let registered = registrations.of(number, now);
            let mut lane = Lane::new(registered.endpoint, known_empty, now);
            lane.rates_changed(registered.rates, now);
            lane.host_changed(registered.host);
            lane.rest_changed(registrations.rest_of(number));
            lane
        })
    }

    /// After anything about a lane changed: reads on, queues it for its turn, sets its alarm, or
    /// forgets it.
    fn look_at(&mut self, number: u64, now: Timestamp) {
        let Some(lane) = self.lanes.get_mut(&number) else {
            return;
        };
        if !lane.is_paused(now)
            && let Some((behind, limit)) = lane.wants_read()
        {
            self.reading += 1;
            self.wanted.push_back(Stretch {
                lane: number,
                application: lane.endpoint.as_ref().map(|endpoint| endpoint.application),
                behind,
                limit,
            });
        }
        if !lane.is_paused(now)
            && let Some(from) = lane.wants_search(now, &self.limits.lane)
            && let Some(endpoint) = &lane.endpoint
        {
            self.reading += 1;
            self.searches.push_back(Search {
                lane: number,
                application: endpoint.application,
                from,
                since: lane.rests_since(),
            });
        }
        match lane.readiness(now, &self.limits.lane) {
            Readiness::Ready if !lane.queued => {
                lane.queued = true;
                self.ready.push_back(number);
            }
            Readiness::Ready => {}
            Readiness::At(due) => self.alarms.set(number, due),
            Readiness::Waiting => {
                self.alarms.clear(number);
                let lane = self.lanes.get(&number);
                if lane.is_some_and(|lane| lane.is_forgettable(now)) {
                    self.lanes.remove(&number);
                }
            }
        }
    }

    /// A lane has freed a slot. All parked lanes get turns again once open slots are free; before
    /// that this one does if it has nothing in flight any more: the last slots are kept for it.
    fn unpark(&mut self, number: u64) {
        if self.slots_used < self.limits.open_slots() {
            self.ready.extend(self.parked.drain(..));
            return;
        }
        let lane = self.lanes.get(&number);
        if lane.is_some_and(|lane| lane.in_flight() == 0)
            && let Some(place) = self.parked.iter().position(|parked| *parked == number)
        {
            self.ready.push_back(self.parked.swap_remove(place));
        }
    }
}
