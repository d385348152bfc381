//! Deliveries that somebody lets go of: out of the queue, and into the log as failed.

use super::{Answer, Batch, Committer, Staged};
use crate::domain::attempt::{Attempt, FailureKind, SendFailure, Timings, Verdict};
use crate::domain::endpoint::Endpoint;
use crate::domain::id::AttemptId;
use crate::error::Error;
use crate::store::cancel::{CancelHeld, HeldDelivery};
use crate::store::queue::Sender;
use crate::store::{Event, layout};

impl Committer {
    pub(super) fn stage_cancel_held(
        &mut self,
        batch: &mut Batch,
        cancel: CancelHeld,
        answer: Sender<usize>,
    ) -> Result<Staged, layout::RecordError> {
        let endpoint = self
            .inner
            .catalog()
            .endpoint_by_number(cancel.lane)
            .cloned();
        let Some(endpoint) = endpoint else {
            drop(answer.send(Err(Error::not_found("endpoint"))));
            return Ok(Staged::More);
        };
        let Some(why) = endpoint.why_held() else {
            drop(answer.send(Err(Error::Conflict(Endpoint::SENDS.to_owned()))));
            return Ok(Staged::More);
        };
        let detail =
            format!("The delivery was canceled while the endpoint was {why}; no request was made.");
        let mut canceled = 0;
        for delivery in &cancel.deliveries {
            let Some(waited) = self.take_out(batch, &delivery.key)? else {
                continue;
            };
            batch.events.push(Event::Gone(delivery.key));
            let mut attempt = self.canceled(&endpoint, delivery, &waited, cancel.method, &detail);
            let now = self.meta.last_time;
            self.log_attempt(batch, &mut attempt, &delivery.key, now);
            canceled += 1;
        }
        batch.answers.push(Answer::Canceled(answer, canceled));
        // Whoever looks for one of these deliveries looks at the log.
        Ok(Staged::Enough)
    }

    fn canceled(
        &mut self,
        endpoint: &Endpoint,
        delivery: &HeldDelivery,
        waited: &layout::Waiting,
        method: &str,
        detail: &str,
    ) -> Attempt {
        let now = self.tick();
        Attempt {
            id: AttemptId::in_order(now, self.next_in_step(now), rand::random()),
            application: endpoint.application,
            message: delivery.key.message,
            endpoint: endpoint.id,
            number: waited.attempts.saturating_add(1),
            trigger: waited.trigger,
            started_at: self.inner.clock.now(),
            timings: Timings::default(),
            url: endpoint.url.clone(),
            method: method.to_owned(),
            request_headers: Vec::new(),
            answer: None,
            failure: Some(SendFailure {
                kind: FailureKind::Canceled,
                detail: detail.to_owned(),
            }),
            sent_again: false,
            verdict: Verdict::GiveUp,
            test: delivery.is_test,
        }
    }
}
