//! The model: what has to hold, by the inputs that the workers took in and the attempts that began.
//!
//! Promises that hold at every attempt are asserted where it begins (`begin`). Whether a lane may send now
//! is asked with [`Model::reason`], which names the first reason why not; the simulation asserts that no
//! lane without a reason is left waiting. A new part of a lane's state needs: a field of [`LaneModel`], the
//! inputs that change it, an assertion in `begin`, and a [`Reason`] where it keeps a lane from sending.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::gate::GateModel;
use super::store::{ModelStore, Told, host_of, short};
use crate::clock::Timestamp;
use crate::domain::id::{ApplicationId, MessageId};
use crate::domain::message::DeliveryKey;
use crate::scheduler::lane::{self, Place, TRY_AGAIN};
use crate::scheduler::turns::{LaneLook, TurnLimits};

/// Why a lane does not send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    NothingDue,
    /// Disabled, held or deleted, or released by a commit of which its worker has not heard.
    Held,
    InFlight,
    Hanging,
    Unrecorded,
    Reading,
    Paused,
    /// All slots of its worker are taken, or those that are left are for lanes with none in flight.
    Slots,
    Rate,
    Host,
    /// Its breaker is open, or its receiver asked for a rest: the next probe is not due, or something is under way.
    Rests,
    /// It takes up sending again, with few attempts in flight.
    Ramp,
    /// What is due is of a backlog with a pace.
    Pace,
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Reason::NothingDue => "waits: nothing due",
            Reason::Held => "waits: held",
            Reason::InFlight => "waits: in flight",
            Reason::Hanging => "waits: hanging",
            Reason::Unrecorded => "waits: unrecorded",
            Reason::Reading => "waits: reading",
            Reason::Paused => "waits: paused",
            Reason::Slots => "waits: slots",
            Reason::Rate => "waits: rate",
            Reason::Host => "waits: host",
            Reason::Rests => "waits: rests",
            Reason::Ramp => "waits: ramp",
            Reason::Pace => "waits: pace",
        }
    }
}

/// A rate as a lane or an application has it. While a change is on its way, the highest of its rates holds.
#[derive(Debug)]
pub struct RateModel {
    /// All that may be in use; the last is the one that is stored.
    rates: Vec<Option<u16>>,
    /// In thousandths of a message.
    level: i64,
    at: Timestamp,
    since: Timestamp,
    is_used: bool,
    /// `level` is what is left, and not only the most that may be left.
    pub is_exact: bool,
}

const MESSAGE: i64 = 1000;

impl RateModel {
    pub fn new(rate: Option<u16>, since: Timestamp) -> RateModel {
        RateModel {
            rates: vec![rate],
            level: 0,
            at: since,
            since,
            is_used: false,
            is_exact: true,
        }
    }

    /// Messages a second at most; nothing where there is no limit.
    fn most(&self) -> Option<i64> {
        let most = self.rates.iter().copied().reduce(|a, b| a?.max(b?).into());
        most.flatten().map(i64::from)
    }

    fn refill(&mut self, now: Timestamp) {
        if let Some(rate) = self.most() {
            let gained = rate * now.since(self.at).as_millis() as i64;
            self.level = (self.level + gained).min(rate * MESSAGE);
        }
        self.at = now;
    }

    pub fn change(&mut self, rate: Option<u16>, now: Timestamp) {
        if self.rates.last() != Some(&rate) {
            self.refill(now);
            let was_full = self.most().is_some_and(|most| self.level >= most * MESSAGE);
            self.rates.push(rate);
            self.is_exact = false;
            // Its bucket may have been forgotten, or was never made: then there is a new one.
            if let Some(rate) = rate.map(i64::from)
                && (was_full || !self.is_used)
            {
                let gained = rate * now.since(self.since).as_millis() as i64;
                self.level = self.level.max(gained.min(rate * MESSAGE));
            }
        }
    }

    /// Everybody who uses it has heard of its last change.
    fn settle(&mut self, now: Timestamp) {
        if self.rates.len() < 2 {
            return;
        }
        self.refill(now);
        let had_no_limit = self.most().is_none();
        self.rates.drain(..self.rates.len() - 1);
        if let Some(rate) = self.most() {
            let full = rate * MESSAGE;
            self.level = if had_no_limit {
                full
            } else {
                self.level.min(full)
            };
        }
    }

    pub fn has_one(&mut self, now: Timestamp) -> bool {
        self.refill(now);
        self.most().is_none() || self.level >= MESSAGE
    }

    pub fn take(&mut self) {
        self.is_used = true;
        if self.most().is_some() {
            self.level -= MESSAGE;
        }
    }

    /// The time that so many messages take at most.
    fn time_of(&self, messages: usize) -> Duration {
        let rate = self.rates.last().copied().flatten();
        rate.map_or(Duration::ZERO, |rate| {
            Duration::from_secs(messages as u64).div_f64(f64::from(rate.max(1)))
        })
    }
}

#[derive(Debug)]
pub struct LaneModel {
    pub worker: usize,
    pub application: ApplicationId,
    /// The deliveries that wait, as of the news that its worker took in.
    pub known: BTreeSet<Place>,
    /// Its news that were committed and that its worker has not taken in, and those of its endpoint.
    pub untold: usize,
    pub untold_endpoint: usize,
    /// Attempts that have begun and of whose end its worker has not heard.
    pub in_flight: usize,
    /// Attempts that have begun and whose outcome is not recorded, as far as its worker has heard.
    pub unrecorded: BTreeSet<Place>,
    pub hanging: bool,
    /// Reads under way.
    pub reading: usize,
    /// It rests after something failed: it sends nothing before the first time, and has no reason to rest
    /// after the second. They differ where the clock was set back: the alarm of a lane that rests, or has
    /// rested, stands at the time of before until the store is looked at again.
    rests_until: Timestamp,
    may_rest_until: Timestamp,
    pub rate: RateModel,
    /// Other lanes' turns since it might have sent.
    passed_over: usize,
    /// Messages whose payload was deleted, as its worker has heard.
    pub expunged: BTreeSet<MessageId>,
    pub gate: GateModel,
}

impl LaneModel {
    fn has_due(&self, now: Timestamp) -> bool {
        let mut due = self.known.iter().take_while(|(due, _)| *due <= now);
        due.any(|place| !self.unrecorded.contains(place))
    }

    /// Something failed that its other deliveries need, too.
    pub fn rest(&mut self, now: Timestamp) {
        self.rests_until = now + TRY_AGAIN;
        self.may_rest_until = self.rests_until;
    }
}

/// Attempts at a host from their begin to their end, by application.
type AtHost = BTreeMap<ApplicationId, usize>;

pub struct Model {
    pub limits: TurnLimits,
    pub host_places: usize,
    pub lanes: BTreeMap<u64, LaneModel>,
    pub applications: BTreeMap<ApplicationId, RateModel>,
    /// Attempts from their begin to their end, with the hosts that they are at.
    in_flight: BTreeMap<DeliveryKey, usize>,
    hosts: BTreeMap<usize, AtHost>,
    /// By worker: slots that are taken as far as it has heard.
    pub slots: Vec<usize>,
}

impl Model {
    /// Before any attempt, after a start: everything that is stored counts as known.
    pub fn new(
        (limits, host_places, workers): (TurnLimits, usize, usize),
        store: &ModelStore,
        now: Timestamp,
    ) -> Model {
        let rates = store.rates.iter();
        let rates = rates.map(|(id, rate)| (*id, RateModel::new(*rate, now)));
        let mut model = Model {
            limits,
            host_places,
            lanes: BTreeMap::new(),
            applications: rates.collect(),
            in_flight: BTreeMap::new(),
            hosts: BTreeMap::new(),
            slots: vec![0; workers],
        };
        for (lane, endpoint) in &store.endpoints {
            let rate = RateModel::new(endpoint.throttle_rate, now);
            model.make_lane(*lane, endpoint.application, rate);
        }
        for key in store.waiting.keys() {
            if let Some(lane) = model.lanes.get_mut(&key.lane) {
                lane.known.insert(lane::place(key));
            }
        }
        model
    }

    pub fn make_lane(&mut self, lane: u64, application: ApplicationId, rate: RateModel) {
        let made = LaneModel {
            worker: crate::scheduler::worker_of(lane, self.slots.len()),
            application,
            known: BTreeSet::new(),
            untold: 0,
            untold_endpoint: 0,
            in_flight: 0,
            unrecorded: BTreeSet::new(),
            hanging: false,
            reading: 0,
            rests_until: Timestamp(0),
            may_rest_until: Timestamp(0),
            rate,
            passed_over: 0,
            expunged: BTreeSet::new(),
            gate: GateModel::default(),
        };
        self.lanes.insert(lane, made);
    }

    pub fn lane(&mut self, lane: u64) -> &mut LaneModel {
        self.lanes
            .get_mut(&lane)
            .expect("lanes are never forgotten here")
    }

    /// A commit has happened, of which nobody has heard.
    pub fn committed(&mut self, told: &[Told]) {
        for one in told {
            let Some(lane) = self.lanes.get_mut(&one.lane()) else {
                continue;
            };
            lane.untold += 1;
            lane.untold_endpoint += usize::from(matches!(one, Told::Endpoint(_)));
        }
    }

    /// A worker takes in what a commit changed.
    pub fn hears(&mut self, told: &Told, store: &ModelStore, now: Timestamp) {
        let Some(lane) = self.lanes.get_mut(&told.lane()) else {
            return;
        };
        lane.untold -= 1;
        match told {
            Told::Waiting(delivery, _) => {
                lane.known.insert(lane::place(&delivery.key));
            }
            Told::Gone(key) => {
                lane.known.remove(&lane::place(key));
            }
            Told::Recorded(key) => {
                lane.known.remove(&lane::place(key));
                let was_begun = lane.unrecorded.remove(&lane::place(key));
                assert!(was_begun, "{} is recorded and did not begin", short(key));
            }
            Told::Endpoint(_) => {
                lane.untold_endpoint -= 1;
                lane.gate.endpoint_changed(told.lane(), store, now);
                if lane.untold_endpoint == 0 {
                    lane.rate.settle(now);
                }
                let application = lane.application;
                let mut others = self.lanes.values();
                let is_told =
                    |lane: &LaneModel| lane.application != application || lane.untold_endpoint == 0;
                if others.all(is_told)
                    && let Some(rate) = self.applications.get_mut(&application)
                {
                    rate.settle(now);
                }
            }
            Told::Health(number) => lane.gate.rest_changed(store.rest(*number), now),
            Told::Expunged(_, message) => {
                lane.expunged.insert(*message);
            }
        }
    }

    /// An attempt begins: every promise about it.
    pub fn begin(&mut self, key: &DeliveryKey, store: &ModelStore, has_copy: bool, now: Timestamp) {
        let (place, name) = (lane::place(key), short(key));
        let lane = self.lanes.get_mut(&key.lane).expect("it was made");
        assert!(
            key.due <= now,
            "{name} begins before it is due, at {}",
            now.0
        );
        let is_held = store.is_held(key.lane) && lane.untold_endpoint == 0;
        assert!(!is_held, "{name} begins and its lane is held");
        let waits = lane.known.contains(&place) || store.waiting.contains_key(key);
        assert!(waits || lane.untold > 0, "{name} begins and is gone");
        assert!(
            !store.ended.contains(key),
            "{name} begins and was ended by a search"
        );
        let others = lane.unrecorded.len();
        // A read under way may bring what else is due.
        let mut due = lane.known.range(..=(now, MessageId([0xff; 20])));
        let due = due.find(|one| **one != place && !lane.unrecorded.contains(one));
        let due = due.copied().filter(|_| lane.reading == 0);
        lane.gate.begin(place, others, due, now);
        let is_new = lane.unrecorded.insert(place) && !self.in_flight.contains_key(key);
        assert!(is_new, "{name} begins a second time at once");
        let erased = has_copy && lane.expunged.contains(&key.message);
        assert!(!erased, "{name} has a payload that was deleted");
        assert!(
            lane.rests_until <= now,
            "{name} begins while its lane rests"
        );
        self.take_slot(key, now);
    }

    /// It is within all limits and rates.
    fn take_slot(&mut self, key: &DeliveryKey, now: Timestamp) {
        let name = short(key);
        let lane = self.lanes.get_mut(&key.lane).expect("it was made");
        let limits = self.limits.lane;
        lane.in_flight += 1;
        let in_flight_max = if lane.hanging {
            1
        } else {
            limits.in_flight_max
        };
        let (in_flight, is_hanging) = (lane.in_flight, lane.hanging);
        assert!(
            in_flight <= in_flight_max,
            "{name}: {in_flight} in flight, hanging: {is_hanging}"
        );
        lane.gate.assert_ramp(in_flight);
        let unrecorded = lane.unrecorded.len();
        assert!(
            unrecorded <= limits.unrecorded_max,
            "{name}: {unrecorded} unrecorded"
        );
        let slots = &mut self.slots[lane.worker];
        *slots += 1;
        assert!(*slots <= self.limits.slots, "{name}: {slots} slots");
        let is_reserved = *slots > self.limits.open_slots();
        assert!(
            !is_reserved || lane.in_flight == 1,
            "{name} takes a reserved slot and has {in_flight} in flight"
        );

        assert!(
            lane.rate.has_one(now),
            "{name} is above its rate: {:?}",
            lane.rate
        );
        lane.rate.take();
        let application = lane.application;
        lane.passed_over = 0;
        if let Some(rate) = self.applications.get_mut(&application) {
            assert!(
                rate.has_one(now),
                "{name} is above its application's rate: {rate:?}"
            );
            rate.take();
        }
    }

    /// An attempt that begins goes to this host.
    pub fn begin_at(&mut self, key: &DeliveryKey, host: usize) {
        let application = self.lane(key.lane).application;
        self.in_flight.insert(*key, host);
        let at_host = self.hosts.entry(host).or_default();
        *at_host.entry(application).or_default() += 1;
        let all: usize = at_host.values().sum();
        assert!(
            all <= self.host_places,
            "{}: {all} attempts at host {host}",
            short(key)
        );
        let (own, open) = (at_host[&application], open_of(self.host_places));
        assert!(
            own <= open,
            "{}: {own} attempts of an application at host {host}",
            short(key)
        );
    }

    /// An attempt has ended, of which its worker has not heard.
    pub fn end(&mut self, key: &DeliveryKey) {
        let host = self.in_flight.remove(key).expect("it began");
        let application = self.lane(key.lane).application;
        let own = self
            .hosts
            .get_mut(&host)
            .and_then(|at| at.get_mut(&application));
        *own.expect("it was counted") -= 1;
    }

    /// A worker hears that an attempt has ended.
    pub fn hears_sent(&mut self, lane: u64, timed_out: bool, succeeded: bool) {
        let lane = self.lanes.get_mut(&lane).expect("it was made");
        self.slots[lane.worker] -= 1;
        lane.in_flight -= 1;
        lane.hanging = timed_out || (lane.hanging && !succeeded);
        if succeeded {
            lane.gate.succeeded(self.limits.lane.in_flight_max);
        }
    }

    /// A delivery that a search found is taken, to end without an attempt. That takes a slot above all limits.
    pub fn take_ended(&mut self, key: &DeliveryKey) {
        let name = short(key);
        let lane = self.lanes.get_mut(&key.lane).expect("it was made");
        assert!(lane.gate.rests(), "{name} ends and its lane does not rest");
        let is_new = lane.unrecorded.insert(lane::place(key)) && !self.in_flight.contains_key(key);
        assert!(is_new, "{name} is ended while it is under way");
        lane.in_flight += 1;
        self.slots[lane.worker] += 1;
    }

    /// A worker hears that an attempt was not made.
    pub fn hears_given_back(&mut self, key: &DeliveryKey, now: Timestamp) {
        let lane = self.lanes.get_mut(&key.lane).expect("it was made");
        self.slots[lane.worker] -= 1;
        lane.in_flight -= 1;
        lane.unrecorded.remove(&lane::place(key));
        lane.rest(now);
    }

    /// The clock is set back.
    pub fn set_back(&mut self, before: Timestamp, now: Timestamp) {
        let lanes = self.lanes.values_mut();
        let rates = lanes.flat_map(|lane| lane.gate.pace().into_iter().chain([&mut lane.rate]));
        for rate in rates.chain(self.applications.values_mut()) {
            rate.refill(before);
            rate.refill(now);
            rate.is_exact = false;
        }
        for lane in self.lanes.values_mut() {
            lane.gate.set_back(now);
            // No rest becomes longer by it.
            lane.rests_until = match lane.rests_until <= before {
                true => Timestamp(0),
                false => lane.rests_until.min(now + TRY_AGAIN),
            };
        }
    }

    /// The lanes of a worker in which something is due, as far as it has heard.
    pub fn lanes_with_due(&mut self, worker: usize, now: Timestamp) -> Vec<u64> {
        let mut due = Vec::new();
        for (number, lane) in &mut self.lanes {
            if lane.worker != worker {
                continue;
            }
            match lane.has_due(now) {
                true => due.push(*number),
                false => lane.passed_over = 0,
            }
        }
        due
    }

    /// The first reason why a lane does not send now; nothing where it has to send. `look` is asked where a
    /// lane waits for others, and then `is_host_sure` says whether all places that are given have arrived.
    pub fn reason(
        &mut self,
        number: u64,
        store: &ModelStore,
        now: Timestamp,
        is_host_sure: impl FnOnce() -> bool,
        look: impl FnOnce() -> Option<LaneLook>,
    ) -> Option<Reason> {
        let lane = self.lanes.get_mut(&number)?;
        if !lane.has_due(now) {
            return Some(Reason::NothingDue);
        }
        let limits = self.limits.lane;
        let in_flight = lane.in_flight;
        let slots = self.slots[lane.worker];
        // The quick ones first: this is asked for every lane whenever a worker rests.
        if slots >= self.limits.slots || (slots >= self.limits.open_slots() && in_flight > 0) {
            return Some(Reason::Slots);
        } else if in_flight >= limits.in_flight_max {
            return Some(Reason::InFlight);
        } else if lane.hanging && in_flight > 0 {
            return Some(Reason::Hanging);
        } else if lane.unrecorded.len() >= limits.unrecorded_max {
            return Some(Reason::Unrecorded);
        } else if lane.reading > 0 {
            return Some(Reason::Reading);
        } else if lane.may_rest_until > now {
            return Some(Reason::Paused);
        } else if lane.untold_endpoint > 0 || store.is_held(number) {
            return Some(Reason::Held);
        } else if !lane.rate.has_one(now) {
            return Some(Reason::Rate);
        }
        let (unrecorded, known) = (&lane.unrecorded, &lane.known);
        if let Some(reason) = lane.gate.reason(in_flight, unrecorded, known, now) {
            return Some(reason);
        }
        let (is_rate_sure, rests) = (lane.rate.is_exact, lane.gate.rests());
        let application = lane.application;
        let shared = self.applications.get(&application);
        let is_shared = shared.is_some_and(|rate| rate.rates.iter().any(Option::is_some));
        let look = look()?;
        // Siblings may have been promised what is left. Of a lane that rests nothing shows whether it waits for that.
        if (look.throttled || rests) && (is_shared || !is_rate_sure) {
            return Some(Reason::Rate);
        }
        let host = host_of(&store.endpoints[&number]);
        let may_wait = !is_host_sure() || !self.has_place(host, application);
        (look.waits_for_host && may_wait).then_some(Reason::Host)
    }

    fn has_place(&self, host: usize, application: ApplicationId) -> bool {
        let Some(at_host) = self.hosts.get(&host) else {
            return true;
        };
        let all: usize = at_host.values().sum();
        let own = at_host.get(&application).copied().unwrap_or_default();
        all < open_of(self.host_places) || (own == 0 && all < self.host_places)
    }

    /// A lane that might have sent saw another one's turn. It gets its own before it sees more turns than
    /// there are lanes. Returns whether it has seen that many.
    pub fn is_passed_over(&mut self, lane: u64) -> bool {
        let max = self.lanes.len();
        let lane = self.lane(lane);
        lane.passed_over += 1;
        lane.passed_over > max
    }

    /// It has a reason not to send, so it does not wait for its turn.
    pub fn waits_for_no_turn(&mut self, lane: u64) {
        self.lane(lane).passed_over = 0;
    }

    /// The time that rates alone take for all that waits.
    pub fn time_by_rates(&mut self, store: &ModelStore) -> Duration {
        let lanes = self.lanes.iter_mut();
        let of_lanes = lanes.map(|(lane, one)| {
            let count = store.lane(*lane, None).count();
            let pace = one.gate.pace().map(|pace| pace.time_of(count));
            one.rate.time_of(count).max(pace.unwrap_or_default())
        });
        let all = store.waiting.len();
        let of_applications = self.applications.values().map(|rate| rate.time_of(all));
        of_lanes.chain(of_applications).max().unwrap_or_default()
    }

    /// Nothing is under way any more.
    pub fn assert_at_rest(&self) {
        assert!(self.in_flight.is_empty(), "{:?}", self.in_flight);
        assert!(
            self.slots.iter().all(|slots| *slots == 0),
            "{:?}",
            self.slots
        );
        for (number, lane) in &self.lanes {
            assert!(
                lane.in_flight == 0 && lane.unrecorded.is_empty(),
                "{number}: {lane:?}"
            );
        }
    }
}

/// The places that one application may have.
fn open_of(places: usize) -> usize {
    (places - places / 4).max(1)
}
