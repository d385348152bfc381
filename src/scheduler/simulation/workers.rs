//! The workers of the simulation: the loop around [`Turns`], as `scheduler::worker` has it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rand::Rng;

use super::gate::GateModel;
use super::model::Reason;
use super::store::{Book, Command, Signal, Told, host_of, short};
use super::{Happening, World};
use crate::domain::attempt::Verdict;
use crate::domain::message::Delivery;
use crate::lock::locked;
use crate::scheduler::ended::Search;
use crate::scheduler::gate::Searched;
use crate::scheduler::hosts::{HostPlace, PlaceTaker};
use crate::scheduler::lane::{Entry, Stretch};
use crate::scheduler::turns::{Begin, Turn, TurnLimits, Turns};

/// Turns in a row that no input interrupts.
const TURNS_MAX: usize = 64;

pub struct Worker {
    pub turns: Turns<Book>,
    inbox: VecDeque<Input>,
    handed: Arc<Handed>,
    /// When it is planned to run.
    wakes_at: Option<u64>,
    /// It has heard of all lanes in which something waits.
    knows_lanes: bool,
    /// It has given turns to all lanes that had one, and had slots left.
    is_rested: bool,
}

/// What a worker hears of.
pub enum Input {
    Told(Told),
    Lane(u64),
    LanesRead,
    /// Nothing where the read failed.
    Read(u64, Option<(Vec<Entry>, bool)>),
    /// Nothing where the search failed.
    Searched(u64, Option<(Vec<Delivery>, Searched)>),
    Message(Delivery, HostPlace, Loaded),
    Place(u64, HostPlace),
    Sent {
        lane: u64,
        timed_out: bool,
        succeeded: bool,
    },
    PutOff(Delivery),
}

pub enum Loaded {
    /// Whether its payload was deleted.
    Message(bool),
    Failed,
}

/// A read that a worker wants.
pub enum Wish {
    Lanes,
    Stretch(Stretch),
    Search(Search),
    Message {
        delivery: Delivery,
        place: HostPlace,
    },
}

/// Places that lanes have waited for, on their way to a worker's inbox.
#[derive(Default)]
struct Handed {
    places: Mutex<VecDeque<(u64, HostPlace)>>,
    is_closed: AtomicBool,
}

impl PlaceTaker for Handed {
    fn take(&self, lane: u64, place: HostPlace) -> Result<(), HostPlace> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(place);
        }
        locked(self.places.lock()).push_back((lane, place));
        Ok(())
    }
}

impl Input {
    fn lane(&self) -> Option<u64> {
        match self {
            Input::Told(told) => Some(told.lane()),
            Input::LanesRead => None,
            Input::Lane(lane)
            | Input::Read(lane, _)
            | Input::Searched(lane, _)
            | Input::Place(lane, _)
            | Input::Sent { lane, .. } => Some(*lane),
            Input::Message(delivery, ..) | Input::PutOff(delivery) => Some(delivery.key.lane),
        }
    }
}

impl Worker {
    pub fn new(book: Book, limits: TurnLimits) -> Worker {
        let handed: Arc<Handed> = Arc::default();
        Worker {
            turns: Turns::new(book, limits, handed.clone()),
            inbox: VecDeque::new(),
            handed,
            wakes_at: None,
            knows_lanes: false,
            is_rested: false,
        }
    }

    /// It takes no place any more.
    pub fn close(&self) {
        self.handed.is_closed.store(true, Ordering::Relaxed);
    }

    /// All places that it was given have arrived at their lanes, and are used or given on.
    fn has_settled_places(&self) -> bool {
        let is_place = |input: &Input| matches!(input, Input::Place(..));
        self.is_rested
            && !self.inbox.iter().any(is_place)
            && locked(self.handed.places.lock()).is_empty()
    }
}

impl World {
    pub fn input(&mut self, worker: usize, input: Input) {
        self.process.workers[worker].inbox.push_back(input);
        let after = self.random.random_range(0..=2);
        self.wake_after(worker, after);
    }

    fn wake_after(&mut self, worker: usize, after: u64) {
        let at = self.time + after;
        let wakes_at = &mut self.process.workers[worker].wakes_at;
        if wakes_at.is_none_or(|planned| planned > at) {
            *wakes_at = Some(at);
            self.plan_at(after, Happening::Wake(worker));
        }
    }

    /// Passes on the places at hosts that were given back just now.
    pub fn collect_places(&mut self) {
        for worker in 0..self.process.workers.len() {
            let handed = self.process.workers[worker].handed.clone();
            let places = std::mem::take(&mut *locked(handed.places.lock()));
            for (lane, place) in places {
                self.input(worker, Input::Place(lane, place));
            }
        }
    }

    /// A worker takes in some inputs and gives lanes their turns.
    pub fn run_worker(&mut self, number: usize) {
        let worker = &mut self.process.workers[number];
        if worker.wakes_at == Some(self.time) {
            worker.wakes_at = None;
        }
        let max = match self.random.random_ratio(1, 2) {
            true => self.random.random_range(1..=4),
            false => usize::MAX,
        };
        for _ in 0..max {
            let Some(input) = self.process.workers[number].inbox.pop_front() else {
                break;
            };
            self.take_in(number, input);
            self.collect_places();
        }
        let now = self.now();
        self.process.workers[number].turns.wake(now);
        self.pass_reads(number);
        let more = self.give_turns(number);
        let worker = &self.process.workers[number];
        if more || !worker.inbox.is_empty() {
            let after = self.random.random_range(0..=1);
            self.wake_after(number, after);
        } else if let Some(due) = worker.turns.next_due() {
            self.trace(|| {
                let due = due.0 as i64 - super::START as i64;
                format!("worker {number} sleeps until {due}")
            });
            self.wake_after(number, due.since(now).as_millis() as u64);
        }
    }

    fn take_in(&mut self, number: usize, input: Input) {
        let (now, lane) = (self.now(), input.lane());
        let is_there = |world: &World| {
            let turns = &world.process.workers[number].turns;
            lane.filter(|lane| turns.look(*lane, now).is_some())
        };
        let was_there = is_there(self);
        self.take_in_input(number, input);
        if let Some(lane) = is_there(self)
            && was_there.is_none()
        {
            let gate = GateModel::made(lane, &self.store.borrow(), now);
            self.model.lane(lane).gate = gate;
        }
        self.pass_reads(number);
    }

    fn take_in_input(&mut self, number: usize, input: Input) {
        let now = self.now();
        let turns = &mut self.process.workers[number].turns;
        match input {
            Input::Told(told) => self.take_in_told(number, told),
            Input::Lane(lane) => turns.look_again(lane, now),
            Input::LanesRead => {
                turns.lanes_read(now);
                self.process.workers[number].knows_lanes = true;
                self.process.throttles.forget_idle(now);
                self.process.hosts.forget_idle();
            }
            Input::Read(lane, read) => self.take_in_read(number, lane, read),
            Input::Message(delivery, place, loaded) => {
                let endpoint = turns.loaded(delivery.key.lane, now);
                match loaded {
                    Loaded::Message(is_expunged) if endpoint.is_some() => {
                        self.attempt(number, delivery, is_expunged, place);
                    }
                    _ => {
                        self.model.end(&delivery.key);
                        drop(place);
                        self.give_back(number, &delivery);
                    }
                }
            }
            Input::Searched(lane, searched) => self.take_in_search(number, lane, searched),
            Input::Place(lane, place) => turns.place_came(lane, place, now),
            Input::Sent {
                lane,
                timed_out,
                succeeded,
            } => {
                self.model.hears_sent(lane, timed_out, succeeded);
                turns.sent(lane, timed_out, succeeded, now);
            }
            Input::PutOff(delivery) => self.give_back(number, &delivery),
        }
    }

    fn take_in_told(&mut self, number: usize, told: Told) {
        let now = self.now();
        self.trace(|| format!("worker {number} hears {told:?}"));
        self.model.hears(&told, &self.store.borrow(), now);
        let turns = &mut self.process.workers[number].turns;
        match told {
            Told::Waiting(delivery, message) => {
                let message = message.and_then(|message| self.process.budget.keep(message));
                turns.stored(Entry { delivery, message }, now);
            }
            Told::Gone(key) => turns.gone(&key, now),
            Told::Recorded(key) => turns.recorded(&key, now),
            Told::Endpoint(lane) => turns.registrations_changed(lane, now),
            Told::Health(lane) => turns.rest_changed(lane, now),
            Told::Expunged(lane, message) => turns.expunged(lane, message, now),
        }
    }

    fn take_in_read(&mut self, number: usize, lane: u64, read: Option<(Vec<Entry>, bool)>) {
        let now = self.now();
        self.trace(|| {
            let read = read.as_ref().map(|(entries, whole)| (entries.len(), whole));
            format!("worker {number} gets of lane {lane} {read:?}")
        });
        let model = self.model.lane(lane);
        model.reading -= 1;
        let turns = &mut self.process.workers[number].turns;
        match read {
            Some((entries, whole)) => turns.read(lane, entries, whole, now),
            None => {
                model.rest(now);
                turns.read_failed(lane, now);
            }
        }
    }

    /// Ends the deliveries that a search found.
    fn take_in_search(
        &mut self,
        number: usize,
        lane: u64,
        searched: Option<(Vec<Delivery>, Searched)>,
    ) {
        let now = self.now();
        self.trace(|| format!("worker {number} has searched lane {lane}: {searched:?}"));
        let model = self.model.lane(lane);
        model.gate.search_ends();
        let turns = &mut self.process.workers[number].turns;
        let Some((ended, searched)) = searched else {
            model.rest(now);
            return turns.search_failed(lane, now);
        };
        turns.searched(lane, searched, now);
        for delivery in ended {
            let turns = &mut self.process.workers[number].turns;
            if turns.take_ended(&delivery.key, now).is_none() {
                continue;
            }
            self.seen.count("ended by a search");
            self.model.take_ended(&delivery.key);
            self.input(
                number,
                Input::Sent {
                    lane,
                    timed_out: false,
                    succeeded: false,
                },
            );
            self.command(Command::Outcome {
                delivery,
                verdict: Verdict::GiveUp,
                signal: Signal::Search,
            });
        }
    }

    fn give_back(&mut self, number: usize, delivery: &Delivery) {
        let now = self.now();
        self.seen.count("given back");
        self.trace(|| format!("worker {number} gives back {}", short(&delivery.key)));
        self.model.hears_given_back(&delivery.key, now);
        let turns = &mut self.process.workers[number].turns;
        turns.given_back(&delivery.key, now);
    }

    fn pass_reads(&mut self, number: usize) {
        while let Some(stretch) = self.process.workers[number].turns.next_read() {
            let lane = self.model.lane(stretch.lane);
            lane.reading += 1;
            assert_eq!(lane.reading, 1, "lane {} reads twice at once", stretch.lane);
            self.trace(|| {
                let behind = stretch
                    .behind
                    .map(|(due, _)| due.0 as i64 - super::START as i64);
                let (lane, limit) = (stretch.lane, stretch.limit);
                format!("worker {number} wants {limit} of lane {lane} behind {behind:?}")
            });
            self.wish(number, Wish::Stretch(stretch));
        }
        while let Some((search, _)) = self.process.workers[number].turns.next_search() {
            let now = self.now();
            self.model.lane(search.lane).gate.search_begins(now);
            self.trace(|| format!("worker {number} wants {search:?}"));
            self.wish(number, Wish::Search(search));
        }
    }

    /// Gives lanes their turns. True where it is only time for something else.
    fn give_turns(&mut self, number: usize) -> bool {
        let now = self.now();
        let begun_max = self.random.random_range(1..=TURNS_MAX);
        // Where it had rested, no lane has waited for its turn yet.
        let candidates = match self.process.workers[number].is_rested {
            true => Vec::new(),
            false => self.lanes_without_reason(number),
        };
        let mut begun = 0;
        let mut passed = 0;
        self.process.workers[number].is_rested = false;
        let more = loop {
            if begun == begun_max {
                break true;
            }
            let turn = self.process.workers[number].turns.next(now);
            self.pass_reads(number);
            let sender = match turn {
                Turn::Begin(begin) => {
                    begun += 1;
                    Some(self.begin(number, begin))
                }
                Turn::Passed => {
                    passed += 1;
                    assert!(passed < 10_000, "turns go round for ever");
                    None
                }
                Turn::Over => break false,
            };
            for lane in candidates.iter().filter(|lane| Some(**lane) != sender) {
                let is_passed_over = self.model.is_passed_over(*lane);
                assert!(
                    !is_passed_over || self.reason(*lane).is_some(),
                    "lane {lane} sees others' turns and gets none"
                );
            }
        };
        let has_slot = self.process.workers[number].turns.has_slot();
        let rests = !more && has_slot;
        self.seen.count(if rests { "rests" } else { "full" });
        self.process.workers[number].is_rested = rests;
        if rests {
            let left = self.lanes_without_reason(number);
            assert!(
                left.is_empty(),
                "lanes {left:?} could send at {} and do not; {}",
                now.0,
                self.left()
            );
        } else {
            // Those that have to wait for something else now get a turn later than they would have.
            let mut waits = |lane: &u64| self.reason(*lane).is_some();
            let waiting: Vec<u64> = candidates.into_iter().filter(&mut waits).collect();
            for lane in waiting {
                self.model.waits_for_no_turn(lane);
            }
        }
        more
    }

    /// The lanes of a worker that have to send, or wait for their turn.
    fn lanes_without_reason(&mut self, number: usize) -> Vec<u64> {
        if !self.process.workers[number].knows_lanes {
            return Vec::new();
        }
        let due = self.model.lanes_with_due(number, self.now());
        let without = due.into_iter().filter(|lane| match self.reason(*lane) {
            None => true,
            Some(reason) => {
                self.seen.count(reason.name());
                self.model.waits_for_no_turn(*lane);
                false
            }
        });
        without.collect()
    }

    fn reason(&mut self, lane: u64) -> Option<Reason> {
        let now = self.now();
        let store = self.store.borrow();
        let workers = &self.process.workers;
        let worker = self.model.lane(lane).worker;
        let is_host_sure = || workers.iter().all(Worker::has_settled_places);
        let look = || workers[worker].turns.look(lane, now);
        self.model.reason(lane, &store, now, is_host_sure, look)
    }

    /// An attempt begins. Returns its lane.
    fn begin(&mut self, number: usize, begin: Begin) -> u64 {
        let now = self.now();
        let Begin {
            entry,
            endpoint,
            place,
        } = begin;
        let delivery = entry.delivery;
        let key = delivery.key;
        self.trace(|| format!("worker {number} begins {}", short(&key)));
        self.seen.count("begun");
        let digest = &mut self.seen.digest;
        *digest = digest
            .wrapping_mul(31)
            .wrapping_add(key.lane ^ now.0 ^ key.due.0);
        let has_copy = entry
            .message
            .as_ref()
            .is_some_and(|message| !message.expunged);
        self.model.begin(&key, &self.store.borrow(), has_copy, now);
        self.model.begin_at(&key, host_of(&endpoint));
        match entry.message {
            Some(message) => self.attempt(number, delivery, message.expunged, place),
            None => self.wish(number, Wish::Message { delivery, place }),
        }
        key.lane
    }
}
