//! The end of an attempt: judged, counted, logged and recorded.

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use super::WorkerEvent;
use crate::clock::Timestamp;
use crate::delivery::{self, control, judge, rest_until};
use crate::domain::attempt::{FailureKind, Outcome, Trigger, Verdict};
use crate::domain::endpoint::Endpoint;
use crate::domain::message::{Delivery, Message, Origin};
use crate::domain::operational::attempt_event;
use crate::scheduler::Shared;
use crate::store::{AttemptSignal, FailureSignal, Finished, Store};
use crate::telemetry::AttemptLine;

/// Everything that the end of an attempt needs; the settings are those that it was made with.
pub struct Ending<'a> {
    pub shared: &'a Shared,
    pub settings: &'a delivery::SendSettings,
    pub store: &'a Store,
    pub news: &'a UnboundedSender<WorkerEvent>,
}

impl Ending<'_> {
    /// Judges an outcome, frees the attempt's slot, and makes the outcome durable.
    pub fn finish(
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
        let signal = self.signal(&endpoint, message, &outcome, now);
        let is_told_of =
            attempt_event(number, verdict).is_some() || matches!(signal, AttemptSignal::Failed(_));
        let told = message.filter(|_| is_told_of);
        let event_id = told.and_then(|message| message.event_id.clone());
        let event_type = told.map(|message| message.event_type.clone());
        self.store.record_attempt(Finished {
            delivery,
            endpoint,
            number,
            outcome,
            verdict,
            test,
            event_id,
            signal,
            event_type,
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

    /// What the attempt shows of its receiver. A test that fails shows nothing: whoever tries an endpoint out may try
    /// what it does not take. Nor does an attempt for which no request was made.
    fn signal(
        &self,
        endpoint: &Endpoint,
        message: Option<&Message>,
        outcome: &Outcome,
        now: Timestamp,
    ) -> AttemptSignal {
        let Some(failure) = &outcome.failure else {
            let control = outcome.answer.as_ref().map(control).unwrap_or_default();
            return AttemptSignal::Succeeded {
                disables: control.disables,
            };
        };
        let is_test = message.is_some_and(|message| message.origin.is_test());
        if is_test || !failure.kind.is_the_receivers() {
            return AttemptSignal::Neither;
        }
        AttemptSignal::Failed(Box::new(FailureSignal {
            rules: self.settings.health_rules(endpoint),
            rest_until: rest_until(outcome, now, self.shared.lane_retry_after_max),
        }))
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
