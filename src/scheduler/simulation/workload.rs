//! What callers, operators and receivers do.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;

use super::plan::pick;
use super::store::{self, Command, EndpointChange, RETRY_AFTER_MS, Signal};
use super::workers::Input;
use super::{Happening, World};
use crate::clock::Timestamp;
use crate::domain::attempt::Verdict;
use crate::domain::endpoint::Endpoint;
use crate::domain::message::Delivery;
use crate::scheduler::hosts::HostPlace;

/// A receiver that does not answer is given up after this.
const TIMEOUT_MS: u64 = 15_000;

/// How a receiver does.
#[derive(Clone, Copy, Debug)]
pub enum Behaviour {
    Works,
    Slow,
    Fails,
    Flaky,
    Hangs,
    /// Now and then it asks to be left alone for a while.
    Busy,
    /// It says that it is gone, which disables its endpoint.
    Gone,
}

/// An attempt from its request to its answer.
pub struct Attempt {
    worker: usize,
    delivery: Delivery,
    started_at: Timestamp,
    ending: Ending,
    place: HostPlace,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    Succeeds,
    Fails,
    AsksForRest,
    TimesOut,
    Gone,
    /// No request is made: the payload was deleted.
    Erased,
    /// No request is made, for want of something of this machine.
    PutOff,
}

impl World {
    /// The registrations and the backlog that are there at the start.
    pub fn register_all(&mut self) {
        for application in 0..self.plan.applications {
            let rate = self.some_rate();
            let mut store = self.store.borrow_mut();
            store.rates.insert(store::application(application), rate);
        }
        for _ in 0..self.plan.endpoints {
            let endpoint = self.some_endpoint();
            let mut store = self.store.borrow_mut();
            store.endpoints.insert(endpoint.number, endpoint);
        }
        let lane = self.random.random_range(0..self.plan.endpoints);
        let of = self.store.borrow().endpoints[&lane].application;
        let now = self.now();
        for _ in 0..self.plan.backlog {
            let message = store::message(self.published.len() as u64, of, now);
            let late = Duration::from_millis(self.random.random_range(0..20_000));
            let due = match self.random.random_ratio(9, 10) {
                true => now.saturating_sub(late),
                false => now + late,
            };
            self.published.push((message.id, vec![lane]));
            let delivery = store::delivery(lane, due, message.id);
            let mut store = self.store.borrow_mut();
            store.messages.insert(message.id, message);
            store.waiting.insert(delivery.key, delivery);
        }
        let sizes = (self.plan.limits, self.plan.host_places, self.plan.workers);
        self.model = super::Model::new(sizes, &self.store.borrow(), now);
    }

    fn some_rate(&mut self) -> Option<u16> {
        let has_rate = self.random.random_ratio(self.plan.rates_percent, 100);
        has_rate.then(|| *pick(&mut self.random, &[1, 2, 5, 20, 100]))
    }

    /// A new endpoint, with its receiver.
    fn some_endpoint(&mut self) -> Arc<Endpoint> {
        let lane = self.lanes_made;
        self.lanes_made += 1;
        let application = self.random.random_range(0..self.plan.applications);
        let host = self.random.random_range(0..self.plan.hosts);
        let rate = self.some_rate();
        let behaviour = self.some_behaviour();
        self.receivers.insert(lane, behaviour);
        let mut endpoint = store::endpoint(lane, store::application(application), host, rate);
        endpoint.breaker_failures = match self.random.random_range(0..8) {
            0 => Some(0),
            1 => Some(1),
            _ => None,
        };
        Arc::new(endpoint)
    }

    fn some_behaviour(&mut self) -> Behaviour {
        match self.random.random_ratio(self.plan.bad_percent, 100) {
            false => Behaviour::Works,
            true => *pick(
                &mut self.random,
                &[
                    Behaviour::Slow,
                    Behaviour::Fails,
                    Behaviour::Flaky,
                    Behaviour::Flaky,
                    Behaviour::Hangs,
                    Behaviour::Hangs,
                    Behaviour::Busy,
                    Behaviour::Gone,
                ],
            ),
        }
    }

    /// A step of the workload.
    pub fn work(&mut self) {
        if self.is_calm {
            return;
        }
        self.steps_left -= 1;
        if self.steps_left == self.plan.steps / 2 {
            self.flood();
        }
        match self.random.random_range(0..100) {
            0..55 => self.publish(),
            55..63 => self.change_endpoint(),
            63..67 => self.change_receiver(),
            67..69 => {
                let application =
                    store::application(self.random.random_range(0..self.plan.applications));
                let rate = self.some_rate();
                self.command(Command::ApplicationRate { application, rate });
            }
            69..71 => {
                let endpoint = self.some_endpoint();
                self.command(Command::Make(endpoint));
            }
            71..73 => {
                if let Some(lane) = self.some_lane() {
                    self.command(Command::Delete { lane });
                }
            }
            73..80 => self.cancel(),
            80..87 => self.resend(),
            87..92 => self.expunge(),
            92..95 if self.plan.restarts => self.restart(),
            95..98 if self.plan.sets_clock_back => self.set_clock_back(),
            98..100 => {
                if let Some(lane) = self.some_lane() {
                    self.command(Command::Probe { lane });
                }
            }
            _ => {}
        }
        let after = match self.random.random_ratio(1, 12) {
            true => 10_000,
            false => self.random.random_range(0..=self.plan.pause_ms),
        };
        self.plan_at(after, Happening::Work);
    }

    fn some_lane(&mut self) -> Option<u64> {
        let store = self.store.borrow();
        let lanes: Vec<u64> = store.endpoints.keys().copied().collect();
        (!lanes.is_empty()).then(|| *pick(&mut self.random, &lanes))
    }

    fn publish(&mut self) {
        let of = store::application(self.random.random_range(0..self.plan.applications));
        let lanes = self.store.borrow().lanes_of(of);
        let wants = self.random.random_range(1..=4);
        let now = self.now();
        for _ in 0..self.random.random_range(1..=10) {
            let mut lanes = lanes.clone();
            lanes.retain(|_| self.random.random_ratio(wants, 4));
            let message = store::message(self.published.len() as u64, of, now);
            self.published.push((message.id, lanes.clone()));
            let due = match self.random.random_ratio(1, 6) {
                true => now + Duration::from_millis(self.random.random_range(0..30_000)),
                false => now,
            };
            self.command(Command::Publish {
                message,
                lanes,
                due,
            });
        }
    }

    /// More than a lane has room for in memory.
    fn flood(&mut self) {
        let Some(lane) = self.some_lane() else { return };
        let of = self.store.borrow().endpoints[&lane].application;
        let now = self.now();
        for _ in 0..self.plan.flood {
            let message = store::message(self.published.len() as u64, of, now);
            self.published.push((message.id, vec![lane]));
            let late = self.random.random_range(0..20_000);
            self.command(Command::Publish {
                message,
                lanes: vec![lane],
                due: now + Duration::from_millis(late),
            });
        }
    }

    fn change_endpoint(&mut self) {
        let Some(lane) = self.some_lane() else { return };
        let change = match self.random.random_range(0..10) {
            0..2 => EndpointChange::Disabled,
            2..4 => EndpointChange::Held,
            4..6 => EndpointChange::Released(self.some_pace()),
            6..8 => EndpointChange::Rate(self.some_rate()),
            _ => EndpointChange::Host(self.random.random_range(0..self.plan.hosts)),
        };
        self.command(Command::Change { lane, change });
    }

    /// The pace of a backlog, for some releases.
    pub fn some_pace(&mut self) -> Option<u16> {
        let has_pace = self.random.random_ratio(1, 3);
        has_pace.then(|| *pick(&mut self.random, &[1, 3, 20]))
    }

    fn change_receiver(&mut self) {
        if let Some(lane) = self.some_lane() {
            let behaviour = self.some_behaviour();
            self.receivers.insert(lane, behaviour);
        }
    }

    fn cancel(&mut self) {
        let Some(lane) = self.some_lane() else { return };
        let count = self.random.random_range(1..5);
        let store = self.store.borrow();
        let keys = store
            .lane(lane, None)
            .take(count)
            .map(|one| one.key)
            .collect();
        drop(store);
        self.command(Command::Cancel(keys));
    }

    fn resend(&mut self) {
        if self.published.is_empty() {
            return;
        }
        for _ in 0..self.random.random_range(1..4) {
            let (message, lanes) = pick(&mut self.random, &self.published);
            let (message, lanes) = (*message, lanes.clone());
            if !lanes.is_empty() {
                let lane = *pick(&mut self.random, &lanes);
                self.command(Command::Resend { lane, message });
            }
        }
    }

    fn expunge(&mut self) {
        if !self.published.is_empty() {
            // One of the last, which may be under way.
            let last = self.published.len();
            let at = self.random.random_range(last.saturating_sub(10)..last);
            self.command(Command::Expunge(self.published[at].0));
        }
    }

    fn set_clock_back(&mut self) {
        let before = self.now();
        self.set_back += self.random.random_range(1..20_000);
        let now = self.now();
        self.seen.count("set back");
        self.trace(|| format!("the clock is set back to {}", now.0));
        self.model.set_back(before, now);
    }

    /// A request is made; or none, where the payload was deleted.
    pub fn attempt(
        &mut self,
        worker: usize,
        delivery: Delivery,
        is_expunged: bool,
        place: HostPlace,
    ) {
        let (latency, ending) = match is_expunged {
            true => (0, Ending::Erased),
            false => self.answer_of(delivery.key.lane),
        };
        let attempt = Attempt {
            worker,
            delivery,
            started_at: self.now(),
            ending,
            place,
        };
        self.planned += 1;
        let number = self.planned;
        self.process.attempts.insert(number, attempt);
        self.plan_at(latency, Happening::Answer(number));
    }

    /// How long a receiver takes, and how that ends.
    fn answer_of(&mut self, lane: u64) -> (u64, Ending) {
        let random = &mut self.random;
        let quick = random.random_range(1..=40);
        if self.is_calm {
            return (quick, Ending::Succeeds);
        }
        if random.random_ratio(self.plan.faults_percent, 100) {
            return (0, Ending::PutOff);
        }
        match self.receivers[&lane] {
            Behaviour::Works => (quick, Ending::Succeeds),
            Behaviour::Slow => (random.random_range(200..9_000), Ending::Succeeds),
            Behaviour::Fails => (quick, Ending::Fails),
            Behaviour::Hangs => (TIMEOUT_MS, Ending::TimesOut),
            Behaviour::Busy => match random.random_ratio(1, 3) {
                true => (quick, Ending::AsksForRest),
                false => (quick, Ending::Succeeds),
            },
            Behaviour::Gone => (quick, Ending::Gone),
            Behaviour::Flaky => match random.random_range(0..4) {
                0 => (TIMEOUT_MS, Ending::TimesOut),
                1 => (quick, Ending::Fails),
                _ => (quick, Ending::Succeeds),
            },
        }
    }

    /// An attempt ends: its worker hears of it, and its outcome waits for a commit.
    pub fn answer(&mut self, number: u64) {
        let attempt = self.process.attempts.remove(&number).expect("it began");
        let Attempt {
            worker,
            delivery,
            started_at,
            ending,
            place,
        } = attempt;
        let lane = delivery.key.lane;
        self.trace(|| format!("{ending:?}: {}", store::short(&delivery.key)));
        self.model.end(&delivery.key);
        drop(place);
        if ending == Ending::PutOff {
            self.input(worker, Input::PutOff(delivery));
            return;
        }
        self.input(
            worker,
            Input::Sent {
                lane,
                timed_out: ending == Ending::TimesOut,
                succeeded: ending == Ending::Succeeds,
            },
        );
        let verdict = self.verdict(&delivery, ending);
        let signal = self.signal(ending, started_at);
        self.command(Command::Outcome {
            delivery,
            verdict,
            signal,
        });
    }

    fn signal(&mut self, ending: Ending, started_at: Timestamp) -> Signal {
        let rest = Duration::from_millis(self.random.random_range(1..10_000));
        match ending {
            Ending::Erased | Ending::PutOff => Signal::Nothing,
            Ending::Succeeds => Signal::Succeeded { started_at },
            Ending::Fails | Ending::AsksForRest | Ending::TimesOut | Ending::Gone => {
                let asks = ending == Ending::AsksForRest;
                Signal::Failed {
                    started_at,
                    rest_until: asks.then(|| self.now() + rest),
                    random: self.random.random(),
                }
            }
        }
    }

    fn verdict(&mut self, delivery: &Delivery, ending: Ending) -> Verdict {
        let erased = self.store.borrow().messages[&delivery.key.message].expunged;
        let retry_after = RETRY_AFTER_MS.get(delivery.attempts as usize);
        match (ending, retry_after) {
            (Ending::Succeeds, _) => Verdict::Delivered,
            (Ending::Gone, _) => Verdict::DisableEndpoint,
            (_, Some(after)) if !erased => {
                let after = after * self.random.random_range(80..=120) / 100;
                Verdict::RetryAt(self.now() + Duration::from_millis(after))
            }
            _ => Verdict::GiveUp,
        }
    }
}
