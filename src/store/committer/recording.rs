//! Recording attempts: into the log, and their deliveries to their next due time.

use super::{Answer, Batch, Committer, PartBytes, Staged};
use crate::clock::Timestamp;
use crate::domain::attempt::{Attempt, Trigger, Verdict};
use crate::domain::id::AttemptId;
use crate::domain::message::{Delivery, DeliveryKey};
use crate::domain::operational::AttemptedMessage;
use crate::store::layout::{AnswerContent, RequestContent};
use crate::store::values::AttemptSignal;
use crate::store::{Event, Finished, counters, layout};

impl Committer {
    pub(super) fn stage_record(
        &mut self,
        batch: &mut Batch,
        mut finished: Finished,
    ) -> Result<Staged, layout::RecordError> {
        let now = self.tick();
        let delivery = finished.delivery;
        let signal = std::mem::replace(&mut finished.signal, AttemptSignal::Neither);
        let (event_type, event_id) = (finished.event_type.take(), finished.event_id.take());
        let mut attempt = self.attempt_of(finished, now);
        let waited = self.move_on(batch, &delivery, &attempt)?;
        if !waited && attempt.is_of_a_search() {
            // The search for what has ended saw the queue as it was before.
            return Ok(Staged::More);
        }
        self.log_attempt(batch, &mut attempt, &delivery.key, now);
        if waited {
            let message = AttemptedMessage {
                event_type: event_type.as_deref(),
                event_id: event_id.as_deref(),
            };
            self.tell_of_attempt(batch, delivery.key.lane, &attempt, message);
        }
        let event_type = event_type.as_deref();
        self.note_health(batch, delivery.key.lane, &attempt, event_type, signal)?;
        // Whatever comes next looks at the endpoint as it is then.
        Ok(match batch.changes.is_empty() {
            true => Staged::More,
            false => Staged::Enough,
        })
    }

    fn attempt_of(&mut self, finished: Finished, now: Timestamp) -> Attempt {
        let Finished {
            delivery,
            endpoint,
            number,
            outcome,
            verdict,
            test,
            ..
        } = finished;
        Attempt {
            id: AttemptId::in_order(now, self.next_in_step(now), rand::random()),
            application: endpoint.application,
            message: delivery.key.message,
            endpoint: endpoint.id,
            number,
            trigger: delivery.trigger,
            started_at: outcome.started_at,
            timings: outcome.timings,
            url: outcome.url,
            method: outcome.method.name().to_owned(),
            request_headers: outcome.request_headers,
            answer: outcome.answer,
            failure: outcome.failure,
            sent_again: outcome.sent_again,
            verdict,
            test,
        }
    }

    /// Writes it down, counts it, and has who watches for it told.
    pub(super) fn log_attempt(
        &self,
        batch: &mut Batch,
        attempt: &mut Attempt,
        of: &DeliveryKey,
        now: Timestamp,
    ) {
        let lane = of.lane;
        let key = layout::attempt_key(lane, attempt.id);
        let (request, answer) = layout::take_content(attempt);
        let parts = match self.is_erased(attempt.application, attempt.message) {
            true => parts_of(
                &key,
                attempt,
                &RequestContent::erased(),
                &AnswerContent::erased(),
            ),
            false => parts_of(&key, attempt, &request, &answer),
        };
        let by_message = layout::attempt_of_message_at(attempt.message, attempt.id, lane);
        batch.history.add(vec![key, by_message], parts);
        layout::put_content(attempt, request, answer);
        batch.attempts += 1;
        let hour = (lane, counters::hour_of(now));
        let counts = batch.counted.entry(hour).or_default();
        counts.count(attempt, of.due);
        if let Some(watcher) = self.inner.watchers.take(attempt.message) {
            let recorded = Answer::Recorded(watcher, Box::new(attempt.clone()));
            batch.answers.push(recorded);
        }
    }

    /// Takes the delivery out of the queue, and puts it where the verdict says. False where it was moved
    /// or cancelled while it was being sent; then only the log is left.
    fn move_on(
        &self,
        batch: &mut Batch,
        delivery: &Delivery,
        attempt: &Attempt,
    ) -> Result<bool, layout::RecordError> {
        let waited = self.take_out(batch, &delivery.key)?.is_some();
        batch.events.push(Event::Recorded(delivery.key));
        let due = match attempt.verdict {
            Verdict::Delivered | Verdict::GiveUp => None,
            Verdict::RetryAt(due) => Some(due),
            Verdict::DisableEndpoint => Some(attempt.started_at),
        };
        if let Some(due) = due.filter(|_| waited) {
            let again = Delivery {
                key: DeliveryKey {
                    due,
                    ..delivery.key
                },
                attempts: attempt.number,
                trigger: Trigger::Scheduled,
            };
            self.put_back(batch, again, None)?;
        }
        Ok(waited)
    }
}

/// The parts that an attempt has in the journal.
fn parts_of(
    key: &[u8],
    attempt: &Attempt,
    request: &RequestContent,
    answer: &AnswerContent,
) -> [PartBytes; 3] {
    let request_key = layout::content_key(layout::REQUEST, key);
    let answer_key = layout::content_key(layout::ANSWER, key);
    let parts = [
        layout::encode(key, attempt, &[]),
        layout::encode(&request_key, request, &[]),
        layout::encode(&answer_key, answer, &[]),
    ];
    parts.map(PartBytes::Record)
}
