//! The turns of ready lanes: from a delivery to an attempt under way.

use std::sync::Arc;

use super::ending::Ending;
use super::{Worker, WorkerEvent};
use crate::clock::Timestamp;
use crate::domain::attempt::{FailureKind, Outcome, SendFailure};
use crate::domain::endpoint::Endpoint;
use crate::domain::message::{Delivery, Message};
use crate::error::{Error, Result};
use crate::scheduler::hosts::HostPlace;
use crate::scheduler::loader::{self, Wish};
use crate::scheduler::turns::{Begin, Turn};
use crate::watched;

/// Attempts that are begun before news are taken in and those that run get on: a fresh delivery
/// never waits for more than this and a turn of each ready lane.
const BEGUN_MAX: usize = 64;

impl Worker {
    /// Gives ready lanes their turns while there are slots; true when it is only time for
    /// something else.
    pub(super) fn send_some(&mut self) -> bool {
        let mut begun = 0;
        while self.turns.has_slot() {
            if begun == BEGUN_MAX {
                return true;
            }
            // Read anew for each: lanes become due meanwhile, and each attempt has its own time.
            let now = self.store.clock().now();
            let turn = self.turns.next(now);
            self.read_on();
            match turn {
                Turn::Begin(begin) => {
                    begun += 1;
                    watched::planned_panic("worker", &begin.endpoint.description);
                    self.begin(begin);
                }
                Turn::Passed => {}
                Turn::Over => return false,
            }
        }
        false
    }

    fn begin(&mut self, begin: Begin) {
        let Begin {
            entry,
            endpoint,
            place,
        } = begin;
        match entry.message {
            Some(message) => {
                self.spawn_attempt(entry.delivery, endpoint, (*message).clone(), place);
            }
            None => {
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

    pub(super) fn send_loaded(
        &mut self,
        delivery: Delivery,
        message: Result<Option<Arc<Message>>>,
        place: HostPlace,
        now: Timestamp,
    ) {
        let endpoint = self.turns.loaded(delivery.key.lane, now);
        match (message, endpoint) {
            (Ok(Some(message)), Some(endpoint)) => {
                self.spawn_attempt(delivery, endpoint, message, place);
            }
            (Ok(None), Some(endpoint)) => {
                let why = loader::missing(&delivery);
                self.not_readable(delivery, endpoint, why.clone(), why);
            }
            (Err(error @ Error::Unreadable { .. }), Some(endpoint)) => {
                let detail = loader::unreadable(&delivery);
                self.not_readable(delivery, endpoint, error.to_string(), detail);
            }
            (Err(Error::Unavailable { reason, .. }), _) => {
                log::debug!("{} waits: {reason}", delivery.key.message);
                self.turns.given_back(&delivery.key, now);
            }
            (Err(error), _) => {
                let error = format!("{} could not be read: {error}", delivery.key.message);
                log::error!("{error}");
                watched::note_error(error);
                self.turns.given_back(&delivery.key, now);
            }
            (Ok(_), None) => self.turns.given_back(&delivery.key, now),
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
        if self.store.note_unreadable_message(lane, message, &reason) {
            let error = format!(
                "{message} waits for {} and cannot be read: {reason}",
                endpoint.id
            );
            log::error!("{error}");
            watched::note_error(error);
        }
        let failure = SendFailure {
            kind: FailureKind::NotSendable,
            detail,
        };
        self.record_not_sent(delivery, endpoint, None, failure);
    }

    fn spawn_attempt(
        &self,
        delivery: Delivery,
        endpoint: Arc<Endpoint>,
        message: Arc<Message>,
        place: HostPlace,
    ) {
        if message.expunged {
            let failure = SendFailure {
                kind: FailureKind::NotSendable,
                detail: "Its payload was deleted; no request was made.".to_owned(),
            };
            self.record_not_sent(delivery, endpoint, Some(&message), failure);
            return;
        }
        let end = message.expires_at;
        if let Some(end) = end.filter(|_| message.is_expired(self.store.clock().now())) {
            let failure = SendFailure {
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

    /// A delivery whose whole schedule ended while the breaker was open.
    pub(super) fn record_ended(
        &self,
        delivery: Delivery,
        endpoint: Arc<Endpoint>,
        message: Option<&Message>,
    ) {
        let failure = SendFailure {
            kind: FailureKind::BreakerOpen,
            detail: "The endpoint failed too often in a row, and its breaker was open until the last retry \
                     would have been made; no further request was made."
                .to_owned(),
        };
        self.record_not_sent(delivery, endpoint, message, failure);
    }

    /// An attempt without a request: its outcome is known already.
    fn record_not_sent(
        &self,
        delivery: Delivery,
        endpoint: Arc<Endpoint>,
        message: Option<&Message>,
        failure: SendFailure,
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
fn broken_off() -> SendFailure {
    SendFailure {
        kind: FailureKind::InternalError,
        detail: "An internal error of postrider broke the attempt off, which says nothing about the \
                 receiver. Whether the request was sent is not known. The log of the server says more."
            .to_owned(),
    }
}
