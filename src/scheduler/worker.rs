//! A delivery actor: one thread with its own HTTP client and the lanes that hash to it.
//!
//! It wakes for a commit, an answer, a read, or the next due time; then lanes that are ready take
//! turns, one delivery a turn, while there are slots. The last quarter of the slots goes only to
//! lanes with nothing in flight, so that endpoints that hang never hold them all. An attempt is a
//! task of its own on this thread: send, judge, record, and tell the worker.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::alarms::Alarms;
use super::hosts::{Host, Place};
use super::lane::{self, Entry, Lane, Readiness};
use super::loader::{self, Loader, Wish};
use super::throttle::Rates;
use super::{LaneLook, Shared, Status};
use crate::clock::Timestamp;
use crate::delivery::{self, Sender, judge};
use crate::domain::attempt::{Failure, FailureKind, Outcome, Trigger, Verdict};
use crate::domain::endpoint::Endpoint;
use crate::domain::id::MessageId;
use crate::domain::message::{Delivery, DeliveryKey, Message, Origin};
use crate::domain::operational::attempt_event;
use crate::error::{Error, Result};
use crate::store::{Finished, Store};
use crate::telemetry::AttemptLine;
use crate::watched;

/// News that are taken in before lanes get their turns again.
const NEWS_MAX: usize = 256;
/// Attempts that are begun before news are taken in and those that run get on: a fresh delivery
/// never waits for more than this and a turn of each ready lane.
const BEGUN_MAX: usize = 64;
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
        place: Place,
    },
    /// A lane that waited for its host has a place there.
    Place {
        lane: u64,
        place: Place,
    },
    /// The settings of attempts from now on.
    Settings(Arc<delivery::Settings>),
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
        send_settings: Arc<delivery::Settings>,
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
        status: watch::Sender<Status>,
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

    fn status(&self) -> Status {
        let taken = self.slots_used > 0 || self.loading > 0 || self.in_line > 0;
        Status {
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
                let is_news = !matches!(error, Error::Unreadable(_))
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
    fn place_came(&mut self, number: u64, place: Place) {
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

    /// Gives ready lanes their turns while there are slots; true when it is only time for
    /// something else.
    fn send_some(&mut self) -> bool {
        let limits = self.shared.limits;
        let mut begun = 0;
        while self.slots_used < self.shared.slots {
            if begun == BEGUN_MAX {
                return true;
            }
            let Some(number) = self.ready.pop_front() else {
                return false;
            };
            // Read anew for each: `look_at` queues lanes that became due meanwhile, and an older time here
            // would put them back for ever.
            let now = self.store.clock().now();
            let reserved_only = self.slots_used >= self.shared.open_slots();
            let Some(lane) = self.lanes.get_mut(&number) else {
                continue;
            };
            if lane.readiness(now, &limits) != Readiness::Ready {
                lane.queued = false;
                lane.leave_host_place();
                self.look_at(number);
                continue;
            }
            if reserved_only && lane.in_flight() > 0 {
                lane.leave_host_place();
                self.parked.push(number);
                continue;
            }
            let Some(place) = lane.place_at_host(number, &self.news) else {
                lane.queued = false;
                self.in_line += usize::from(lane.waits_for_host());
                self.look_at(number);
                continue;
            };
            let endpoint = lane.endpoint.clone();
            let taken = lane.take();
            lane.queued = false;
            self.slots_used += 1;
            self.shared.unrecorded[self.number].fetch_add(1, Ordering::Relaxed);
            self.look_at(number);
            if let (Some(entry), Some(endpoint)) = (taken, endpoint) {
                begun += 1;
                watched::planned_panic("worker", &endpoint.description);
                self.begin(entry, endpoint, place);
            }
        }
        false
    }

    fn begin(&mut self, entry: Entry, endpoint: Arc<Endpoint>, place: Place) {
        match entry.message {
            Some(message) => {
                self.spawn_attempt(entry.delivery, endpoint, (*message).clone(), place);
            }
            None => {
                self.loading += 1;
                let application = endpoint.application;
                let delivery = entry.delivery;
                self.loader.wish(
                    Wish::Message {
                        application,
                        delivery,
                        place,
                    },
                    &self.news,
                );
            }
        }
    }

    fn send_loaded(
        &mut self,
        delivery: Delivery,
        message: Result<Option<Arc<Message>>>,
        place: Place,
    ) {
        let number = delivery.key.lane;
        let endpoint = self.lane(number).endpoint.clone();
        match (message, endpoint) {
            (Ok(Some(message)), Some(endpoint)) => {
                self.spawn_attempt(delivery, endpoint, message, place);
            }
            (Ok(None), Some(endpoint)) => {
                let why = loader::missing(&delivery);
                self.not_readable(delivery, endpoint, why.clone(), why);
            }
            (Err(error @ Error::Unreadable(_)), Some(endpoint)) => {
                let detail = loader::unreadable(&delivery);
                self.not_readable(delivery, endpoint, error.to_string(), detail);
            }
            (Err(Error::Unavailable { reason, .. }), _) => {
                log::debug!("{} waits: {reason}", delivery.key.message);
                self.give_back(delivery);
            }
            (Err(error), _) => {
                let error = format!("{} could not be read: {error}", delivery.key.message);
                log::error!("{error}");
                watched::note_error(error);
                self.give_back(delivery);
            }
            (Ok(_), None) => self.give_back(delivery),
        }
    }

    /// Its message is damaged or gone. The delivery is not dropped: its attempts go on by their
    /// schedule, each in the log, so that a slice that was put back is found.
    fn not_readable(
        &self,
        delivery: Delivery,
        endpoint: Arc<Endpoint>,
        reason: String,
        detail: String,
    ) {
        let message = delivery.key.message;
        let lane = delivery.key.lane;
        if self.store.note_unreadable(lane, Some(message), &reason) {
            let error = format!(
                "{message} waits for {} and cannot be read: {reason}",
                endpoint.id
            );
            log::error!("{error}");
            watched::note_error(error);
        }
        let failure = Failure {
            kind: FailureKind::NotSendable,
            detail,
        };
        self.record_not_sent(delivery, endpoint, None, failure);
    }

    /// Ends a delivery that was taken and not sent: it stays in the store as it was.
    fn give_back(&mut self, delivery: Delivery) {
        let number = delivery.key.lane;
        self.slots_used -= 1;
        self.shared.unrecorded[self.number].fetch_sub(1, Ordering::Relaxed);
        let now = self.store.clock().now();
        self.lane(number)
            .given_back(&lane::place(&delivery.key), now);
        self.look_at(number);
        self.unpark(number);
    }

    fn spawn_attempt(
        &self,
        delivery: Delivery,
        endpoint: Arc<Endpoint>,
        message: Arc<Message>,
        place: Place,
    ) {
        if message.expunged {
            let failure = Failure {
                kind: FailureKind::NotSendable,
                detail: "Its payload was deleted; no request was made.".to_owned(),
            };
            self.record_not_sent(delivery, endpoint, Some(&message), failure);
            return;
        }
        let end = message.expires_at;
        if let Some(end) = end.filter(|_| message.is_expired(self.store.clock().now())) {
            let failure = Failure {
                kind: FailureKind::Expired,
                detail: format!("the message expired at {end}; no request was made"),
            };
            self.record_not_sent(delivery, endpoint, Some(&message), failure);
            return;
        }
        let (sender, store) = (self.sender.clone(), self.store.clone());
        let (shared, news) = (self.shared.clone(), self.news.clone());
        shared.metrics.in_flight.inc();
        actix_rt::spawn(async move {
            let number = delivery.attempts + 1;
            let started_at = store.clock().now();
            let attempt = watched::contained_future(sender.attempt(&endpoint, &message, number));
            let attempted = attempt.await.unwrap_or_else(|_| {
                let method = sender.settings().method(&endpoint);
                Ok(Outcome::not_sent(
                    &endpoint.url,
                    method,
                    started_at,
                    broken_off(),
                ))
            });
            shared.metrics.in_flight.dec();
            drop(place);
            let outcome = match attempted {
                Ok(outcome) => outcome,
                Err(shortage) => {
                    shared.metrics.put_off(shortage, store.clock().now());
                    // The worker lives for as long as anything is in flight.
                    let _ = news.send(WorkerEvent::PutOff(delivery));
                    return;
                }
            };
            let failing = store.clone();
            let finished = watched::contained(|| {
                let ending = Ending {
                    shared: &shared,
                    settings: sender.settings(),
                    store: &store,
                    news: &news,
                };
                ending.finish(delivery, endpoint, Some(&message), outcome);
            });
            if finished.is_err() {
                // The outcome is lost, so the lane would wait for ever.
                failing.thread_panicked("the end of an attempt".to_owned());
            }
        });
    }

    /// An attempt without a request: its outcome is known already.
    fn record_not_sent(
        &self,
        delivery: Delivery,
        endpoint: Arc<Endpoint>,
        message: Option<&Message>,
        failure: Failure,
    ) {
        let now = self.store.clock().now();
        let method = self.sender.settings().method(&endpoint);
        // With the message in hand, its payload was deleted or it has expired: neither comes back.
        let outcome = Outcome {
            is_final: message.is_some(),
            ..Outcome::not_sent(&endpoint.url, method, now, failure)
        };
        let ending = Ending {
            shared: &self.shared,
            settings: self.sender.settings(),
            store: &self.store,
            news: &self.news,
        };
        ending.finish(delivery, endpoint, message, outcome);
    }
}

/// The failure of an attempt that panicked. It is recorded like any other: the next attempt may go
/// another way, and the endpoint's other deliveries do not wait for it.
fn broken_off() -> Failure {
    Failure {
        kind: FailureKind::InternalError,
        detail: "An internal error of postrider broke the attempt off, which says nothing about the \
                 receiver. Whether the request was sent is not known. The log of the server says more."
            .to_owned(),
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

/// Everything that the end of an attempt needs; the settings are those that it was made with.
struct Ending<'a> {
    shared: &'a Shared,
    settings: &'a delivery::Settings,
    store: &'a Store,
    news: &'a UnboundedSender<WorkerEvent>,
}

impl Ending<'_> {
    /// Judges an outcome, frees the attempt's slot, and makes the outcome durable.
    fn finish(
        &self,
        delivery: Delivery,
        endpoint: Arc<Endpoint>,
        message: Option<&Message>,
        outcome: Outcome,
    ) {
        let number = delivery.attempts + 1;
        let now = self.store.clock().now();
        let verdict = self.verdict(number, &endpoint, message, &outcome, now);
        self.free_slot(delivery.key.lane, &outcome);
        self.count(&delivery, message, &outcome, verdict);
        let test = message.is_some_and(|message| message.origin.is_test());
        let line = AttemptLine {
            message: delivery.key.message,
            endpoint: endpoint.id,
            number,
            outcome: &outcome,
            verdict,
            test,
        };
        self.shared.log.record(now, &line);
        let is_told_of = attempt_event(number, verdict).is_some();
        let event_id = message
            .filter(|_| is_told_of)
            .and_then(|message| message.event_id.clone());
        self.store.record_attempt(Finished {
            delivery,
            endpoint,
            number,
            outcome,
            verdict,
            test,
            event_id,
        });
    }

    fn verdict(
        &self,
        number: u32,
        endpoint: &Endpoint,
        message: Option<&Message>,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Verdict {
        let verdict = judge(
            outcome,
            number,
            self.settings.retry_schedule(endpoint),
            now,
            self.shared.retry_after_max,
            message.and_then(|message| message.expires_at),
            rand::random::<f64>(),
        );
        // Trying again would bring nothing.
        let only_once = |message: &Message| message.origin == Origin::TestOnce || message.expunged;
        match message.is_some_and(only_once) && verdict != Verdict::Delivered {
            true => Verdict::GiveUp,
            false => verdict,
        }
    }

    fn free_slot(&self, lane: u64, outcome: &Outcome) {
        let kind = outcome.failure.as_ref().map(|failure| failure.kind);
        // The worker lives for as long as anything is in flight.
        let _ = self.news.send(WorkerEvent::Sent {
            lane,
            timed_out: kind == Some(FailureKind::Timeout),
            succeeded: kind.is_none(),
        });
    }

    /// Counts the attempt, and of a delivered message how long that took since it was first due.
    fn count(
        &self,
        delivery: &Delivery,
        message: Option<&Message>,
        outcome: &Outcome,
        verdict: Verdict,
    ) {
        let metrics = &self.shared.metrics;
        metrics.attempt(outcome.failure.as_ref().map(|failure| failure.kind));
        if let Some(message) = message
            && verdict == Verdict::Delivered
            && delivery.trigger == Trigger::Scheduled
            && !message.origin.is_test()
        {
            let waited = outcome.started_at.since(message.first_due()).as_secs_f64();
            let answered = f64::from(outcome.timings.first_byte_us.unwrap_or_default()) / 1e6;
            let took = waited + answered;
            metrics.publish_to_receipt_seconds.observe(took);
            if delivery.attempts == 0 {
                metrics.first_receipts.observe(took);
            }
        }
    }
}

/// How many attempts wait to be recorded, or reads to come, by worker.
pub type Counts = Vec<AtomicUsize>;
