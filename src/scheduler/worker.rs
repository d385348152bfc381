//! A delivery actor: one thread with its own HTTP client and the lanes that hash to it.
//!
//! It wakes for a commit, an answer, a read, or the next due time; then lanes that are ready take
//! turns, one delivery a turn, while there are slots. The last quarter of the slots goes only to
//! lanes with nothing in flight, so that endpoints that hang never hold them all. An attempt is a
//! task of its own on this thread (`sending`): send, judge, record, and tell the worker (`ending`).

mod ending;
mod sending;

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::alarms::Alarms;
use super::hosts::{Host, HostPlace};
use super::lane::{self, Entry, Lane, Readiness};
use super::loader::{Loader, Wish};
use super::throttle::Rates;
use super::{LaneLook, Shared, WorkerStatus};
use crate::clock::Timestamp;
use crate::delivery::{self, Sender};
use crate::domain::endpoint::Endpoint;
use crate::domain::id::MessageId;
use crate::domain::message::{Delivery, DeliveryKey, Message};
use crate::error::{Error, Result};
use crate::store::Store;
use crate::watched;

/// News that are taken in before lanes get their turns again.
const NEWS_MAX: usize = 256;
/// How often the store is looked at unasked, in the system's time: should anything that waits have
/// escaped a worker's notice, it is found then rather than at the next start.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// How often the oldest overdue delivery is looked for, which walks all lanes.
const OLDEST_EVERY: Duration = Duration::from_secs(1);

/// A commit's change of a lane.
pub enum News {
    Waiting(Entry),
    Gone(DeliveryKey),
    Recorded(DeliveryKey),
    Endpoint { lane: u64 },
    Health { lane: u64 },
    Expunged { lane: u64, message: MessageId },
}

pub enum WorkerEvent {
    Stored(News),
    /// Something waits in this lane; told at start and now and then.
    Lane {
        lane: u64,
    },
    /// All lanes in which something waits have been told.
    LanesRead,
    /// Somebody wants to know how these lanes do.
    Look {
        lanes: Arc<[u64]>,
        answer: oneshot::Sender<Vec<LaneLook>>,
    },
    /// Somebody wants to know which deliveries of these lanes, or of this message alone, are being
    /// sent.
    Sending {
        lanes: Arc<[u64]>,
        message: Option<MessageId>,
        answer: oneshot::Sender<Vec<DeliveryKey>>,
    },
    Read {
        lane: u64,
        read: Result<(Vec<Entry>, bool)>,
    },
    Message {
        delivery: Delivery,
        message: Result<Option<Arc<Message>>>,
        place: HostPlace,
    },
    /// A lane that waited for its host has a place there.
    Place {
        lane: u64,
        place: HostPlace,
    },
    /// The settings of attempts from now on.
    Settings(Arc<delivery::SendSettings>),
    /// No attempt was made, for want of something of this machine. Its slot is free.
    PutOff(Delivery),
    /// An attempt has its answer, or none; its slot is free.
    Sent {
        lane: u64,
        timed_out: bool,
        succeeded: bool,
    },
}

pub struct Worker {
    number: usize,
    shared: Arc<Shared>,
    store: Store,
    sender: Rc<Sender>,
    loader: Loader,
    /// To itself, for attempts and the loader.
    news: UnboundedSender<WorkerEvent>,
    lanes: HashMap<u64, Lane>,
    /// Lanes that may send, each once.
    ready: VecDeque<u64>,
    /// Ready lanes that must let others go first until slots are free again.
    parked: Vec<u64>,
    /// When lanes with nothing due now have something due.
    alarms: Alarms,
    /// A lane that is not in `lanes` is known to be empty.
    lanes_read: bool,
    slots_used: usize,
    /// Messages on their way from the loader.
    loading: usize,
    /// Lanes in the line of a host; each gets an event at its turn.
    in_line: usize,
    handled: u64,
    oldest_due: Option<Timestamp>,
    oldest_looked: Timestamp,
}

impl Worker {
    pub fn new(
        number: usize,
        shared: Arc<Shared>,
        store: Store,
        loader: Loader,
        send_settings: Arc<delivery::SendSettings>,
        news: UnboundedSender<WorkerEvent>,
    ) -> Worker {
        let sender = Rc::new(Sender::new(send_settings, store.clock().clone()));
        Worker {
            number,
            shared,
            store,
            sender,
            loader,
            news,
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            parked: Vec::new(),
            alarms: Alarms::default(),
            lanes_read: false,
            slots_used: 0,
            loading: 0,
            in_line: 0,
            handled: 0,
            oldest_due: None,
            oldest_looked: Timestamp(0),
        }
    }

    /// Runs until `stop` is true and nothing is in flight any more.
    pub async fn run(
        mut self,
        mut events: UnboundedReceiver<WorkerEvent>,
        status: watch::Sender<WorkerStatus>,
        mut stop: watch::Receiver<bool>,
    ) {
        let clock = self.store.clock().clone();
        let mut look_again = tokio::time::interval(LOOK_AGAIN);
        look_again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            watched::working();
            let stopping = *stop.borrow_and_update();
            let more = !stopping && {
                self.wake_due(clock.now());
                self.send_some()
            };
            self.look_for_oldest(clock.now());
            status.send_replace(self.status());
            if stopping && self.is_drained() {
                return;
            }
            if more {
                self.take_in_some(&mut events);
                tokio::task::yield_now().await;
                continue;
            }
            let next_due = self.alarms.next();
            let alarm = async {
                match next_due.filter(|_| !stopping) {
                    Some(due) => clock.sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            if self.slots_used == 0 {
                watched::idle();
            }
            tokio::select! {
                biased;
                event = events.recv() => {
                    let Some(event) = event else { return };
                    self.take_in(event);
                    self.take_in_some(&mut events);
                }
                // The first tick is at once: that is the look at the start.
                _ = look_again.tick() => {
                    let (worker, workers) = (self.number, self.shared.workers);
                    self.loader.wish(Wish::Lanes { worker, workers }, &self.news);
                }
                changed = stop.changed(), if !stopping => if changed.is_err() { return },
                () = alarm => {}
            }
        }
    }

    fn take_in_some(&mut self, events: &mut UnboundedReceiver<WorkerEvent>) {
        for _ in 0..NEWS_MAX {
            let Ok(event) = events.try_recv() else { break };
            self.take_in(event);
        }
    }

    fn look_for_oldest(&mut self, now: Timestamp) {
        if now.since(self.oldest_looked) < OLDEST_EVERY {
            return;
        }
        self.oldest_looked = now;
        let overdue = self
            .lanes
            .values()
            .filter_map(Lane::first_due)
            .filter(|due| *due <= now);
        self.oldest_due = overdue.min();
    }

    fn is_drained(&self) -> bool {
        self.slots_used == 0 && self.lanes.values().all(|lane| lane.unrecorded() == 0)
    }

    fn status(&self) -> WorkerStatus {
        let taken = self.slots_used > 0 || self.loading > 0 || self.in_line > 0;
        WorkerStatus {
            handled: self.handled,
            quiet: self.lanes_read
                && !taken
                && self.ready.is_empty()
                && self.parked.is_empty()
                && self.shared.unrecorded[self.number].load(Ordering::Relaxed) == 0
                && self.shared.reads[self.number].load(Ordering::Relaxed) == 0,
            next_due: self.alarms.next(),
            oldest_due: self.oldest_due,
            in_flight: self.slots_used,
        }
    }

    /// How a lane does; nothing where it is not known here.
    fn look(&self, number: u64) -> Option<LaneLook> {
        let lane = self.lanes.get(&number)?;
        let now = self.store.clock().now();
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

    fn sending(&self, number: u64, message: Option<MessageId>) -> Vec<DeliveryKey> {
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

    fn take_in(&mut self, event: WorkerEvent) {
        match event {
            WorkerEvent::Stored(news) => {
                self.handled += 1;
                let number = self.take_in_news(news);
                self.look_at(number);
            }
            WorkerEvent::Lane { lane } => self.look_again(lane),
            WorkerEvent::LanesRead => {
                self.lanes_read = true;
                self.forget_idle();
            }
            WorkerEvent::Look { lanes, answer } => {
                // Whoever asked may have gone away.
                let looks = lanes.iter().filter_map(|number| self.look(*number));
                drop(answer.send(looks.collect()));
            }
            WorkerEvent::Sending {
                lanes,
                message,
                answer,
            } => {
                let each = lanes.iter();
                let keys = each.flat_map(|number| self.sending(*number, message));
                drop(answer.send(keys.collect()));
            }
            WorkerEvent::Read { lane, read } => self.take_in_read(lane, read),
            WorkerEvent::Message {
                delivery,
                message,
                place,
            } => {
                self.loading -= 1;
                self.send_loaded(delivery, message, place);
            }
            WorkerEvent::Place { lane, place } => self.place_came(lane, place),
            WorkerEvent::Settings(settings) => {
                // With its rendered parts and connections; attempts under way hold the old one.
                self.sender = Rc::new(Sender::new(settings, self.store.clock().clone()));
            }
            WorkerEvent::PutOff(delivery) => self.give_back(delivery),
            WorkerEvent::Sent {
                lane: number,
                timed_out,
                succeeded,
            } => {
                self.slots_used -= 1;
                self.lane(number).sent(timed_out, succeeded);
                self.look_at(number);
                self.unpark(number);
            }
        }
    }

    /// Gives a lane the news of a commit, and returns the lane's number.
    fn take_in_news(&mut self, news: News) -> u64 {
        match news {
            News::Waiting(entry) => {
                let number = entry.delivery.key.lane;
                self.lane(number).stored(entry);
                number
            }
            News::Gone(key) => {
                self.lane(key.lane).gone(lane::place(&key));
                key.lane
            }
            News::Recorded(key) => {
                self.shared.unrecorded[self.number].fetch_sub(1, Ordering::Relaxed);
                self.lane(key.lane).recorded(&lane::place(&key));
                key.lane
            }
            News::Endpoint { lane: number } => {
                let registered = Registered::now(&self.store, &self.shared, number);
                let now = self.store.clock().now();
                let lane = self.lane(number);
                lane.endpoint_changed(registered.endpoint);
                lane.rates_changed(registered.rates, now);
                lane.host_changed(registered.host);
                number
            }
            News::Health { lane } => lane,
            News::Expunged { lane, message } => {
                if let Some(known) = self.lanes.get_mut(&lane) {
                    known.expunged(message);
                }
                lane
            }
        }
    }

    /// Something waits in this lane by the store's word.
    fn look_again(&mut self, number: u64) {
        if self.store.catalog().endpoint_by_number(number).is_none() {
            self.store.forget_lane(number);
        }
        self.lane_of_which(number, false).look_again();
        self.look_at(number);
    }

    fn take_in_read(&mut self, number: u64, read: Result<(Vec<Entry>, bool)>) {
        self.shared.reads[self.number].fetch_sub(1, Ordering::Relaxed);
        match read {
            Ok((entries, whole)) => self.lane(number).read(entries, whole),
            Err(error) => {
                // Tried again each second; damage is reported once.
                let is_news = !matches!(error, Error::Unreadable { .. })
                    || self.store.note_unreadable(number, None, &error.to_string());
                if is_news {
                    let error = format!("lane {number} could not be read: {error}");
                    log::error!("{error}");
                    watched::note_error(error);
                }
                let now = self.store.clock().now();
                let lane = self.lane(number);
                lane.read_failed();
                lane.pause(now);
            }
        }
        self.look_at(number);
    }

    fn lane(&mut self, number: u64) -> &mut Lane {
        self.lane_of_which(number, self.lanes_read)
    }

    /// The lane as it is in memory, or anew, of which nothing is known or that it is empty.
    fn lane_of_which(&mut self, number: u64, known_empty: bool) -> &mut Lane {
        let (store, shared) = (&self.store, &self.shared);
        self.lanes.entry(number).or_insert_with(|| {
            let registered = Registered::now(store, shared, number);
            let mut lane = Lane::new(registered.endpoint, known_empty);
            lane.rates_changed(registered.rates, store.clock().now());
            lane.host_changed(registered.host);
            lane
        })
    }

    /// A lane that has sent all it had stays for as long as its throttle counts that.
    fn forget_idle(&mut self) {
        let now = self.store.clock().now();
        self.lanes.retain(|_, lane| !lane.is_forgettable(now));
        self.shared.throttles.forget_idle(now);
        self.shared.hosts.forget_idle();
    }

    /// A lane's turn at its host has come. If the lane cannot use it at once, the next lane gets it.
    fn place_came(&mut self, number: u64, place: HostPlace) {
        self.in_line -= 1;
        let waited = match self.lanes.get_mut(&number) {
            Some(lane) => lane.host_place_came(place),
            None => return,
        };
        if waited {
            self.look_at(number);
        }
        let is_full = self.slots_used >= self.shared.slots;
        if let Some(lane) = self.lanes.get_mut(&number)
            && (is_full || !lane.queued)
        {
            lane.leave_host_place();
        }
    }

    /// After anything about a lane changed: reads on, queues it for its turn, sets its alarm, or
    /// forgets it.
    fn look_at(&mut self, number: u64) {
        let now = self.store.clock().now();
        let limits = self.shared.limits;
        let Some(lane) = self.lanes.get_mut(&number) else {
            return;
        };
        if !lane.is_paused(now)
            && let Some((behind, limit)) = lane.wants_read()
        {
            let application = lane.endpoint.as_ref().map(|endpoint| endpoint.application);
            self.shared.reads[self.number].fetch_add(1, Ordering::Relaxed);
            self.loader.wish(
                Wish::Stretch {
                    lane: number,
                    application,
                    behind,
                    limit,
                },
                &self.news,
            );
        }
        match lane.readiness(now, &limits) {
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

    fn wake_due(&mut self, now: Timestamp) {
        while let Some(number) = self.alarms.take_due(now) {
            self.look_at(number);
        }
    }

    /// A lane has freed a slot. All parked lanes get turns again once open slots are free; before
    /// that this one does if it has nothing in flight any more: the last slots are kept for it.
    fn unpark(&mut self, number: u64) {
        if self.slots_used < self.shared.open_slots() {
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

/// A lane's registrations as of the last commit.
#[derive(Default)]
struct Registered {
    endpoint: Option<Arc<Endpoint>>,
    /// Those of the endpoint and of its application.
    rates: Rates,
    host: Option<Arc<Host>>,
}

impl Registered {
    fn now(store: &Store, shared: &Shared, lane: u64) -> Registered {
        let catalog = store.catalog();
        let Some((entry, endpoint)) = catalog.lane(lane) else {
            return Registered::default();
        };
        let application = &entry.application;
        let rates = shared.throttles.rates(
            endpoint.throttle_rate,
            application.id,
            application.throttle_rate,
            store.clock().now(),
        );
        Registered {
            endpoint: Some(endpoint.clone()),
            rates,
            host: Some(shared.hosts.of_url(&endpoint.url)),
        }
    }
}

/// How many attempts wait to be recorded, or reads to come, by worker.
pub type Counts = Vec<AtomicUsize>;
