//! The store of the simulation: the queue, the registrations, and the commits that change both.
//!
//! Commits follow the rules of `store::committer`: where a delivery is put, when it is taken out, and
//! the order in which the scheduler is told.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::attempt::{Trigger, Verdict};
use crate::domain::disabled::Disabled;
use crate::domain::endpoint::{CatchUp, Endpoint};
use crate::domain::health::{FailedAttempt, Health, HealthRules, Rest};
use crate::domain::hold::{Held, HeldReason};
use crate::domain::id::{ApplicationId, EndpointId, MessageId, OrganisationId};
use crate::domain::message::{Delivery, DeliveryKey, Message, Origin};
use crate::domain::notice::NoticeRules;
use crate::domain::retry::{RetrySchedule, Waits};
use crate::scheduler::hosts::Hosts;
use crate::scheduler::lane::Place;
use crate::scheduler::throttle::Applications;
use crate::scheduler::turns::{Registered, Registrations};

pub const RETRY_AFTER_MS: [u64; 3] = [500, 3_000, 20_000];

/// A change of state that waits for its commit.
pub enum Command {
    Publish {
        message: Arc<Message>,
        lanes: Vec<u64>,
        due: Timestamp,
    },
    Outcome {
        delivery: Delivery,
        verdict: Verdict,
        signal: Signal,
    },
    /// Somebody asks for a probe.
    Probe {
        lane: u64,
    },
    Cancel(Vec<DeliveryKey>),
    Resend {
        lane: u64,
        message: MessageId,
    },
    Expunge(MessageId),
    Make(Arc<Endpoint>),
    Change {
        lane: u64,
        change: EndpointChange,
    },
    Delete {
        lane: u64,
    },
    ApplicationRate {
        application: ApplicationId,
        rate: Option<u16>,
    },
}

/// What the end of a delivery shows of its receiver.
#[derive(Clone, Copy, Debug)]
pub enum Signal {
    /// No request was made.
    Nothing,
    /// A search ended it.
    Search,
    Succeeded {
        started_at: Timestamp,
    },
    Failed {
        started_at: Timestamp,
        rest_until: Option<Timestamp>,
        /// Between 0 and 1, to spread probes.
        random: f64,
    },
}

#[derive(Clone, Copy, Debug)]
pub enum EndpointChange {
    Disabled,
    Held,
    /// It is enabled and released; with the pace of its backlog.
    Released(Option<u16>),
    Rate(Option<u16>),
    /// Another URL, at this host.
    Host(usize),
}

/// The news of a commit, as the scheduler hears it.
pub enum Told {
    Waiting(Delivery, Option<Arc<Message>>),
    Gone(DeliveryKey),
    Recorded(DeliveryKey),
    Endpoint(u64),
    Health(u64),
    Expunged(u64, MessageId),
}

impl Told {
    pub fn lane(&self) -> u64 {
        match self {
            Told::Waiting(delivery, _) => delivery.key.lane,
            Told::Gone(key) | Told::Recorded(key) => key.lane,
            Told::Endpoint(lane) | Told::Health(lane) | Told::Expunged(lane, _) => *lane,
        }
    }
}

/// A delivery in a line of the trace: its lane, its message's number, and when it is due.
pub fn short(key: &DeliveryKey) -> String {
    let due = key.due.0 as i64 - super::START as i64;
    format!(
        "lane {} message {} due {due}",
        key.lane,
        number_of(key.message)
    )
}

fn number_of(message: MessageId) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&message.0[5..13]);
    u64::from_be_bytes(number)
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Publish {
                message,
                lanes,
                due,
            } => {
                let (number, due) = (number_of(message.id), due.0 - message.accepted_at.0);
                write!(f, "message {number} for lanes {lanes:?} in {due}")
            }
            Command::Outcome {
                delivery,
                verdict,
                signal,
            } => {
                let delivery = short(&delivery.key);
                write!(f, "outcome of {delivery}: {verdict:?}, {signal:?}")
            }
            Command::Probe { lane } => write!(f, "probe lane {lane}"),
            Command::Cancel(keys) => {
                let keys: Vec<_> = keys.iter().map(short).collect();
                write!(f, "cancel {keys:?}")
            }
            Command::Resend { lane, message } => {
                write!(f, "resend lane {lane} message {}", number_of(*message))
            }
            Command::Expunge(message) => write!(f, "expunge message {}", number_of(*message)),
            Command::Make(endpoint) => {
                let (lane, rate) = (endpoint.number, endpoint.throttle_rate);
                write!(f, "make lane {lane} at {}, rate {rate:?}", endpoint.url)
            }
            Command::Change { lane, change } => write!(f, "lane {lane}: {change:?}"),
            Command::Delete { lane } => write!(f, "delete lane {lane}"),
            Command::ApplicationRate { application, rate } => {
                write!(f, "application {}: rate {rate:?}", application.0[0])
            }
        }
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Told::Waiting(delivery, _) => write!(f, "waiting: {}", short(&delivery.key)),
            Told::Gone(key) => write!(f, "gone: {}", short(key)),
            Told::Recorded(key) => write!(f, "recorded: {}", short(key)),
            Told::Endpoint(lane) => write!(f, "changed: lane {lane}"),
            Told::Health(lane) => write!(f, "another rest: lane {lane}"),
            Told::Expunged(lane, message) => {
                write!(f, "expunged: lane {lane} message {}", number_of(*message))
            }
        }
    }
}

pub struct ModelStore {
    pub waiting: BTreeMap<DeliveryKey, Delivery>,
    pub endpoints: BTreeMap<u64, Arc<Endpoint>>,
    pub rates: BTreeMap<ApplicationId, Option<u16>>,
    pub messages: HashMap<MessageId, Arc<Message>>,
    /// Deleted lanes whose deliveries are still to be forgotten.
    pub orphans: BTreeSet<u64>,
    pub healths: BTreeMap<u64, Health>,
    pub rules: HealthRules,
    /// Deliveries that searches ended.
    pub ended: BTreeSet<DeliveryKey>,
}

impl ModelStore {
    pub fn new(rules: HealthRules) -> ModelStore {
        ModelStore {
            waiting: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            rates: BTreeMap::new(),
            messages: HashMap::new(),
            orphans: BTreeSet::new(),
            healths: BTreeMap::new(),
            rules,
            ended: BTreeSet::new(),
        }
    }

    /// Commits a batch. Changes of registrations are told before everything else, and rests before the
    /// outcomes that changed them.
    pub fn commit(&mut self, batch: impl Iterator<Item = Command>, now: Timestamp) -> Vec<Told> {
        let (mut changed, mut told) = (Vec::new(), Vec::new());
        let before = self.healths.clone();
        batch.for_each(|command| self.apply(command, now, &mut changed, &mut told));
        let rest_before = |lane: &u64| before.get(lane).and_then(Health::rest);
        let lanes: BTreeSet<u64> = before.keys().chain(self.healths.keys()).copied().collect();
        let rested = lanes.into_iter();
        let rested = rested.filter(|lane| rest_before(lane) != self.rest(*lane));
        let changed = changed.into_iter().map(Told::Endpoint);
        changed
            .chain(rested.map(Told::Health))
            .chain(told)
            .collect()
    }

    /// The rest of a lane.
    pub fn rest(&self, lane: u64) -> Option<Rest> {
        self.healths.get(&lane).and_then(Health::rest)
    }

    fn apply(
        &mut self,
        command: Command,
        now: Timestamp,
        changed: &mut Vec<u64>,
        told: &mut Vec<Told>,
    ) {
        match command {
            Command::Publish {
                message,
                lanes,
                due,
            } => {
                self.messages.insert(message.id, message.clone());
                for lane in lanes {
                    if self.endpoints.contains_key(&lane) {
                        let delivery = delivery(lane, due, message.id);
                        self.waiting.insert(delivery.key, delivery);
                        told.push(Told::Waiting(delivery, Some(message.clone())));
                    }
                }
            }
            Command::Outcome {
                delivery,
                verdict,
                signal,
            } => {
                self.note_health(delivery.key.lane, signal, verdict, now);
                self.record(delivery, verdict, signal, now, (changed, told));
            }
            Command::Probe { lane } => {
                if let Some(health) = self.healths.get_mut(&lane) {
                    health.probes_now(now);
                }
            }
            Command::Cancel(keys) => {
                let mut gone = keys;
                gone.retain(|key| self.waiting.remove(key).is_some());
                told.extend(gone.into_iter().map(Told::Gone));
            }
            Command::Resend { lane, message } => self.resend(lane, message, now, told),
            Command::Expunge(id) => self.expunge(id, told),
            Command::Make(endpoint) => {
                changed.push(endpoint.number);
                self.endpoints.insert(endpoint.number, endpoint);
            }
            Command::Change { lane, change } => {
                if let Some(endpoint) = self.endpoints.get_mut(&lane) {
                    let before = endpoint.clone();
                    change.apply(Arc::make_mut(endpoint), now);
                    changed.push(lane);
                    let is_enabled = before.disabled.is_some() && endpoint.disabled.is_none();
                    if is_enabled || before.url != endpoint.url {
                        self.healths.remove(&lane);
                    }
                }
            }
            Command::Delete { lane } => {
                if self.endpoints.remove(&lane).is_some() {
                    self.orphans.insert(lane);
                    self.healths.remove(&lane);
                    changed.push(lane);
                }
            }
            Command::ApplicationRate { application, rate } => {
                if self.rates.insert(application, rate) != Some(rate) {
                    changed.extend(self.lanes_of(application));
                }
            }
        }
    }

    fn record(
        &mut self,
        delivery: Delivery,
        verdict: Verdict,
        signal: Signal,
        now: Timestamp,
        (changed, told): (&mut Vec<u64>, &mut Vec<Told>),
    ) {
        let key = delivery.key;
        let waited = self.waiting.remove(&key).is_some();
        if waited && matches!(signal, Signal::Search) {
            self.ended.insert(key);
        }
        told.push(Told::Recorded(key));
        let due = match verdict {
            Verdict::Delivered | Verdict::GiveUp => None,
            Verdict::RetryAt(due) => Some(due),
            Verdict::DisableEndpoint => Some(now),
        };
        // Where it was moved or cancelled while it was being sent, only the log is left.
        if let Some(due) = due.filter(|_| waited) {
            let again = Delivery {
                key: DeliveryKey { due, ..key },
                attempts: delivery.attempts + 1,
                trigger: Trigger::Scheduled,
            };
            self.put_back(again, told);
        }
        if verdict == Verdict::DisableEndpoint
            && let Some(endpoint) = self.endpoints.get_mut(&key.lane)
        {
            Arc::make_mut(endpoint).disabled = Some(Disabled::by_hand(Timestamp(0)));
            changed.push(key.lane);
        }
    }

    /// Takes an outcome into the health of an endpoint.
    fn note_health(&mut self, lane: u64, signal: Signal, verdict: Verdict, now: Timestamp) {
        let Some(endpoint) = self.endpoints.get(&lane) else {
            return;
        };
        let notices = NoticeRules::default();
        let mut health = self.healths.remove(&lane).unwrap_or_default();
        match signal {
            Signal::Nothing => {}
            Signal::Search => health.ended("", &notices, now),
            Signal::Succeeded { started_at } => health.succeeded(started_at, &notices, now),
            Signal::Failed {
                started_at,
                rest_until,
                random,
            } => {
                let failures = endpoint.breaker_failures.unwrap_or(self.rules.failures);
                let rules = HealthRules {
                    failures,
                    ..self.rules
                };
                let attempt = FailedAttempt {
                    started_at,
                    rest_until,
                    exhausted: verdict == Verdict::GiveUp,
                    failure: "",
                    event_type: "",
                };
                health.failed(&attempt, &rules, &notices, now, random);
            }
        }
        if !health.is_default() {
            self.healths.insert(lane, health);
        }
    }

    fn resend(&mut self, lane: u64, id: MessageId, now: Timestamp, told: &mut Vec<Told>) {
        let message = self.messages.get(&id);
        let may_be_sent = message.is_some_and(|message| !message.expunged);
        if !may_be_sent || !self.endpoints.contains_key(&lane) {
            return;
        }
        let mut waiting = self.lane(lane, None);
        let waits = waiting.find(|one| one.key.message == id).copied();
        drop(waiting);
        if let Some(waits) = waits {
            self.waiting.remove(&waits.key);
            told.push(Told::Gone(waits.key));
        }
        let again = Delivery {
            attempts: waits.map_or(0, |waits| waits.attempts),
            trigger: Trigger::Manual,
            ..delivery(lane, now, id)
        };
        self.put_back(again, told);
    }

    fn put_back(&mut self, delivery: Delivery, told: &mut Vec<Told>) {
        self.ended.remove(&delivery.key);
        if self.waiting.insert(delivery.key, delivery).is_none() {
            told.push(Told::Waiting(delivery, None));
        }
    }

    fn expunge(&mut self, id: MessageId, told: &mut Vec<Told>) {
        if let Some(message) = self.messages.get_mut(&id) {
            Arc::make_mut(message).expunged = true;
            let application = message.application;
            let lanes = self.lanes_of(application).into_iter();
            told.extend(lanes.map(|lane| Told::Expunged(lane, id)));
        }
    }

    pub fn lanes_of(&self, application: ApplicationId) -> Vec<u64> {
        let all = self.endpoints.values();
        let own = all.filter(|endpoint| endpoint.application == application);
        own.map(|endpoint| endpoint.number).collect()
    }

    /// What waits in a lane behind a place.
    pub fn lane(&self, lane: u64, behind: Option<Place>) -> impl Iterator<Item = &Delivery> {
        let key = |(due, message)| DeliveryKey { lane, due, message };
        let from = match behind {
            Some(place) => Bound::Excluded(key(place)),
            None => Bound::Included(key((Timestamp(0), MessageId([0; 20])))),
        };
        let end = key((Timestamp(u64::MAX), MessageId([0xff; 20])));
        let range = self.waiting.range((from, Bound::Included(end)));
        range.map(|(_, delivery)| delivery)
    }

    /// The lanes in which something waits.
    pub fn lanes_with_work(&self) -> Vec<u64> {
        let mut lanes: Vec<u64> = self.waiting.keys().map(|key| key.lane).collect();
        lanes.dedup();
        lanes
    }

    /// Whether nothing may be sent to this lane's endpoint.
    pub fn is_held(&self, lane: u64) -> bool {
        let endpoint = self.endpoints.get(&lane);
        endpoint.is_none_or(|endpoint| endpoint.is_held())
    }
}

impl EndpointChange {
    fn apply(self, endpoint: &mut Endpoint, now: Timestamp) {
        match self {
            EndpointChange::Disabled => {
                endpoint.disabled = Some(Disabled::by_hand(Timestamp(0)));
            }
            EndpointChange::Held => {
                endpoint.held = Some(Held {
                    since: now,
                    reason: HeldReason::ByHand,
                });
            }
            EndpointChange::Released(pace) => {
                endpoint.disabled = None;
                endpoint.held = None;
                endpoint.catch_up = CatchUp::at(pace, now);
            }
            EndpointChange::Rate(rate) => endpoint.throttle_rate = rate,
            EndpointChange::Host(host) => endpoint.url = url(host, endpoint.number),
        }
    }
}

/// The registrations as lanes look them up.
pub struct Book {
    pub store: Rc<RefCell<ModelStore>>,
    pub throttles: Rc<Applications>,
    pub hosts: Rc<Hosts>,
}

impl Registrations for Book {
    fn of(&self, lane: u64, now: Timestamp) -> Registered {
        let store = self.store.borrow();
        let Some(endpoint) = store.endpoints.get(&lane) else {
            return Registered::default();
        };
        let application = endpoint.application;
        let rate = store.rates.get(&application).copied().flatten();
        let own = endpoint.throttle_rate;
        Registered {
            rates: self.throttles.rates(own, application, rate, now),
            host: Some(self.hosts.of_url(&endpoint.url)),
            endpoint: Some(endpoint.clone()),
        }
    }

    fn rest_of(&self, lane: u64) -> Option<Rest> {
        self.store.borrow().rest(lane)
    }
}

pub fn delivery(lane: u64, due: Timestamp, message: MessageId) -> Delivery {
    Delivery {
        key: DeliveryKey { lane, due, message },
        attempts: 0,
        trigger: Trigger::Scheduled,
    }
}

pub fn application(number: usize) -> ApplicationId {
    ApplicationId([number as u8; 20])
}

fn url(host: usize, lane: u64) -> String {
    format!("http://h{host}.example/{lane}")
}

/// The number of the host in an endpoint's URL.
pub fn host_of(endpoint: &Endpoint) -> usize {
    let name = endpoint.url.trim_start_matches("http://h");
    let number = name.split('.').next().map(str::parse);
    number.and_then(Result::ok).expect("`url` made it")
}

/// The schedule of retries of all endpoints.
pub fn schedule() -> RetrySchedule {
    let waits = RETRY_AFTER_MS.map(Duration::from_millis);
    RetrySchedule {
        waits: Waits::Listed(waits.to_vec()),
        jitter: 0.2,
    }
}

pub fn endpoint(lane: u64, of: ApplicationId, host: usize, rate: Option<u16>) -> Endpoint {
    Endpoint {
        url: url(host, lane),
        throttle_rate: rate,
        ..Endpoint::new(
            EndpointId([lane as u8; 20]),
            OrganisationId([1; 20]),
            of,
            lane,
            Timestamp(0),
        )
    }
}

pub fn message(number: u64, application: ApplicationId, now: Timestamp) -> Arc<Message> {
    // The time comes first, as in every id.
    let since = now.0 - 1_400_000_000_000;
    let mut id = [0; 20];
    id[..4].copy_from_slice(&((since / 1000) as u32).to_be_bytes());
    id[4] = (since % 1000 / 4) as u8;
    id[5..13].copy_from_slice(&number.to_be_bytes());
    Arc::new(Message {
        id: MessageId(id),
        application,
        event_type: String::new(),
        event_id: None,
        channels: Vec::new(),
        payload: vec![b' '; 100].into(),
        is_raw: false,
        content_type: None,
        accepted_at: now,
        origin: Origin::Published,
        tags: Vec::new(),
        deliver_at: None,
        expires_at: None,
        expunged: false,
        endpoints_matched: None,
        metadata: BTreeMap::new(),
        headers: BTreeMap::new(),
    })
}
