//! A delivery actor: one thread with its own HTTP client and the lanes that hash to it.
//!
//! It wakes for a commit, an answer, a read, or the next due time. `turns` decides which lane sends its next
//! delivery; the worker acts: it asks the clock, begins attempts, and has the loader read. An attempt is a
//! task of its own on this thread (`sending`): send, judge, record, and tell the worker (`ending`).

mod ending;
mod sending;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::error::SendError;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::ended::Ended;
use super::gate::Searched;
use super::hosts::{HostPlace, PlaceTaker};
use super::lane::Entry;
use super::loader::{Loader, Wish};
use super::turns::{LaneLook, Registered, Registrations, Turns};
use super::{Shared, WorkerStatus};
use crate::clock::Timestamp;
use crate::delivery::{self, Sender};
use crate::domain::health::Rest;
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
    /// A page of a search for deliveries whose schedule has ended.
    Searched {
        lane: u64,
        searched: Result<(Vec<Ended>, Searched)>,
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
    turns: Turns<Catalogued>,
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
        let catalogued = Catalogued {
            shared: shared.clone(),
            store: store.clone(),
        };
        let turns = Turns::new(catalogued, shared.limits, Arc::new(news.clone()));
        Worker {
            number,
            shared,
            store,
            sender,
            loader,
            news,
            turns,
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
                self.turns.wake(clock.now());
                self.read_on();
                self.send_some()
            };
            self.look_for_oldest(clock.now());
            status.send_replace(self.status());
            if stopping && self.turns.is_drained() {
                return;
            }
            if more {
                self.take_in_some(&mut events);
                tokio::task::yield_now().await;
                continue;
            }
            let next_due = self.turns.next_due();
            let alarm = async {
                match next_due.filter(|_| !stopping) {
                    Some(due) => clock.sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            if self.turns.in_flight() == 0 {
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
        self.oldest_due = self.turns.oldest_due(now);
    }

    fn status(&self) -> WorkerStatus {
        WorkerStatus {
            handled: self.handled,
            quiet: self.turns.is_quiet(),
            next_due: self.turns.next_due(),
            oldest_due: self.oldest_due,
            in_flight: self.turns.in_flight(),
        }
    }

    /// Has the loader read what lanes want to have read.
    fn read_on(&mut self) {
        while let Some(stretch) = self.turns.next_read() {
            self.loader.wish(Wish::Stretch(stretch), &self.news);
        }
        while let Some((search, endpoint)) = self.turns.next_search() {
            let schedule = self.sender.settings().retry_schedule(&endpoint).clone();
            self.loader.wish(Wish::Search(search, schedule), &self.news);
        }
    }

    fn take_in(&mut self, event: WorkerEvent) {
        let now = self.store.clock().now();
        match event {
            WorkerEvent::Stored(news) => {
                self.handled += 1;
                self.take_in_news(news, now);
            }
            WorkerEvent::Lane { lane } => {
                if self.store.catalog().endpoint_by_number(lane).is_none() {
                    self.store.forget_lane(lane);
                }
                self.turns.look_again(lane, now);
            }
            WorkerEvent::LanesRead => {
                self.turns.lanes_read(now);
                self.shared.throttles.forget_idle(now);
                self.shared.hosts.forget_idle();
            }
            WorkerEvent::Look { lanes, answer } => {
                // Whoever asked may have gone away.
                let looks = lanes.iter().filter_map(|lane| self.turns.look(*lane, now));
                drop(answer.send(looks.collect()));
            }
            WorkerEvent::Sending {
                lanes,
                message,
                answer,
            } => {
                let each = lanes.iter();
                let keys = each.flat_map(|lane| self.turns.sending(*lane, message));
                drop(answer.send(keys.collect()));
            }
            WorkerEvent::Read { lane, read } => self.take_in_read(lane, read, now),
            WorkerEvent::Searched { lane, searched } => self.take_in_search(lane, searched, now),
            WorkerEvent::Message {
                delivery,
                message,
                place,
            } => self.send_loaded(delivery, message, place, now),
            WorkerEvent::Place { lane, place } => self.turns.place_came(lane, place, now),
            WorkerEvent::Settings(settings) => {
                // With its rendered parts and connections; attempts under way hold the old one.
                self.sender = Rc::new(Sender::new(settings, self.store.clock().clone()));
            }
            WorkerEvent::PutOff(delivery) => self.turns.given_back(&delivery.key, now),
            WorkerEvent::Sent {
                lane,
                timed_out,
                succeeded,
            } => self.turns.sent(lane, timed_out, succeeded, now),
        }
        self.read_on();
    }

    /// Gives a lane the news of a commit.
    fn take_in_news(&mut self, news: News, now: Timestamp) {
        match news {
            News::Waiting(entry) => self.turns.stored(entry, now),
            News::Gone(key) => self.turns.gone(&key, now),
            News::Recorded(key) => self.turns.recorded(&key, now),
            News::Endpoint { lane } => self.turns.registrations_changed(lane, now),
            News::Health { lane } => self.turns.rest_changed(lane, now),
            News::Expunged { lane, message } => self.turns.expunged(lane, message, now),
        }
    }

    /// Ends the deliveries that a search found.
    fn take_in_search(
        &mut self,
        lane: u64,
        searched: Result<(Vec<Ended>, Searched)>,
        now: Timestamp,
    ) {
        let (ended, searched) = match searched {
            Ok(searched) => searched,
            Err(error) => {
                self.note_unread(lane, &error);
                return self.turns.search_failed(lane, now);
            }
        };
        self.turns.searched(lane, searched, now);
        for (delivery, message) in ended {
            if let Some(endpoint) = self.turns.take_ended(&delivery.key, now) {
                self.record_ended(delivery, endpoint, message.as_deref());
            }
        }
    }

    fn take_in_read(&mut self, lane: u64, read: Result<(Vec<Entry>, bool)>, now: Timestamp) {
        let error = match read {
            Ok((entries, whole)) => return self.turns.read(lane, entries, whole, now),
            Err(error) => error,
        };
        self.note_unread(lane, &error);
        self.turns.read_failed(lane, now);
    }

    fn note_unread(&self, lane: u64, error: &Error) {
        // Tried again each second; damage is reported once.
        let is_news = !matches!(error, Error::Unreadable { .. })
            || self.store.note_unreadable(lane, None, &error.to_string());
        if is_news {
            let error = format!("lane {lane} could not be read: {error}");
            log::error!("{error}");
            watched::note_error(error);
        }
    }
}

/// Lanes' registrations in the store's catalog.
struct Catalogued {
    shared: Arc<Shared>,
    store: Store,
}

impl Registrations for Catalogued {
    fn of(&self, lane: u64, now: Timestamp) -> Registered {
        let catalog = self.store.catalog();
        let Some((entry, endpoint)) = catalog.lane(lane) else {
            return Registered::default();
        };
        let application = &entry.application;
        let rates = self.shared.throttles.rates(
            endpoint.throttle_rate,
            application.id,
            application.throttle_rate,
            now,
        );
        Registered {
            endpoint: Some(endpoint.clone()),
            rates,
            host: Some(self.shared.hosts.of_url(&endpoint.url)),
        }
    }

    fn rest_of(&self, lane: u64) -> Option<Rest> {
        self.store.rest_of(lane)
    }
}

impl PlaceTaker for UnboundedSender<WorkerEvent> {
    fn take(&self, lane: u64, place: HostPlace) -> std::result::Result<(), HostPlace> {
        match self.send(WorkerEvent::Place { lane, place }) {
            Err(SendError(WorkerEvent::Place { place, .. })) => Err(place),
            _ => Ok(()),
        }
    }
}
