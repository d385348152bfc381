//! The health of endpoints: changed in the commit of the attempt or of the registration that changes it.

use super::{Answer, Batch, Committer, Staged};
use crate::catalog::Change;
use crate::clock::Timestamp;
use crate::domain::attempt::{Attempt, FailureKind, Verdict};
use crate::domain::disabled::{Disabled, DisabledReason};
use crate::domain::endpoint::Endpoint;
use crate::domain::health::{FailedAttempt, Health};
use crate::store::engine::EngineError;
use crate::store::health::Mails;
use crate::store::layout;
use crate::store::queue::Sender;
use crate::store::values::{AttemptSignal, FailureSignal};

impl Committer {
    /// Takes an attempt into the health of its endpoint, and disables the endpoint where that is due.
    pub(super) fn note_health(
        &mut self,
        batch: &mut Batch,
        lane: u64,
        attempt: &Attempt,
        event_type: Option<&str>,
        signal: AttemptSignal,
    ) -> Result<(), layout::RecordError> {
        // Not the time of ids, which never goes back: rests are compared with the clock.
        let now = self.inner.clock.now();
        let reason = match signal {
            AttemptSignal::Neither => {
                self.note_ended(batch, lane, attempt, now);
                None
            }
            AttemptSignal::Succeeded { disables } => {
                self.note_success(batch, lane, attempt.started_at, now);
                disables.then_some(DisabledReason::Requested)
            }
            AttemptSignal::Failed(failed) => {
                self.note_failure(batch, lane, attempt, (event_type, &failed), now)
            }
        };
        let is_asked = attempt.verdict == Verdict::DisableEndpoint;
        match is_asked.then_some(reason_of(attempt)).or(reason) {
            Some(reason) => self.disable_endpoint(batch, lane, reason, attempt),
            None => Ok(()),
        }
    }

    fn note_success(&self, batch: &mut Batch, lane: u64, started_at: Timestamp, now: Timestamp) {
        if let Some(mut health) = self.health(batch, lane) {
            health.succeeded(started_at, &self.inner.settings.notices, now);
            batch.put_health(lane, health);
        }
    }

    /// A delivery that failed for good without a request is told of all the same.
    fn note_ended(&self, batch: &mut Batch, lane: u64, attempt: &Attempt, now: Timestamp) {
        let failure = attempt.failure.as_ref();
        let Some(failure) = failure.filter(|one| one.kind == FailureKind::BreakerOpen) else {
            return;
        };
        if let Some(mut health) = self.health(batch, lane) {
            health.ended(&failure.detail, &self.inner.settings.notices, now);
            batch.put_health(lane, health);
        }
    }

    /// Returns why the endpoint is to be disabled, where it is.
    fn note_failure(
        &self,
        batch: &mut Batch,
        lane: u64,
        attempt: &Attempt,
        (event_type, signal): (Option<&str>, &FailureSignal),
        now: Timestamp,
    ) -> Option<DisabledReason> {
        if !self.is_there(lane) {
            // Its endpoint was deleted meanwhile.
            return None;
        }
        let mut health = self.health(batch, lane).unwrap_or_default();
        let failed = FailedAttempt {
            started_at: attempt.started_at,
            rest_until: signal.rest_until,
            exhausted: attempt.verdict == Verdict::GiveUp,
            failure: &attempt.failure_words().unwrap_or_default(),
            event_type: event_type.unwrap_or_default(),
        };
        let notices = &self.inner.settings.notices;
        health.failed(&failed, &signal.rules, notices, now, rand::random());
        let disables = health.disables();
        batch.put_health(lane, health);
        disables.then_some(DisabledReason::Failing)
    }

    /// Disables an endpoint because of this attempt, unless it is disabled already, and has it told of.
    fn disable_endpoint(
        &mut self,
        batch: &mut Batch,
        lane: u64,
        reason: DisabledReason,
        attempt: &Attempt,
    ) -> Result<(), layout::RecordError> {
        let current = self.inner.catalog().endpoint_by_number(lane).cloned();
        let Some(current) = current.filter(|current| current.disabled.is_none()) else {
            return Ok(());
        };
        let at = self.inner.clock.now();
        let mut health = self.health(batch, lane).unwrap_or_default();
        let failing_since = health.failing.as_ref().map(|failing| failing.since);
        health.disabled(&attempt.failure_words().unwrap_or_default(), at);
        batch.put_health(lane, health);
        let endpoint = Endpoint {
            disabled: Some(Disabled { at, reason }),
            updated_at: at,
            ..(*current).clone()
        };
        let fail_since = failing_since.unwrap_or(attempt.started_at);
        self.tell_of_disabled(batch, &endpoint, fail_since);
        batch.disabled.push(reason);
        let changes = [Change::PutEndpoint(endpoint)];
        self.stage_changes(batch, &changes)?;
        batch.changes.extend(changes);
        Ok(())
    }

    /// An endpoint is put: one that is enabled, or gets another URL, starts anew; one whose breaker is turned off closes it.
    pub(super) fn health_of_changed(&self, batch: &mut Batch, endpoint: &Endpoint) {
        let (starts_anew, closes) = {
            let catalog = self.inner.catalog();
            let Some(before) = catalog.endpoint_by_number(endpoint.number) else {
                return;
            };
            let is_enabled = before.disabled.is_some() && endpoint.disabled.is_none();
            let closes = endpoint.breaker_failures == Some(0)
                && before.breaker_failures != endpoint.breaker_failures;
            (is_enabled || before.url != endpoint.url, closes)
        };
        if (starts_anew || closes)
            && let Some(mut health) = self.health(batch, endpoint.number)
        {
            match starts_anew {
                true => health.starts_anew(),
                false => health.closes(),
            }
            batch.put_health(endpoint.number, health);
        }
    }

    /// An endpoint is deleted.
    pub(super) fn forget_health(&self, batch: &mut Batch, lane: u64) {
        if self.health(batch, lane).is_some() {
            batch.healths.insert(lane, None);
        }
    }

    /// Somebody asks for a probe of a lane that rests.
    pub(super) fn stage_probe(&self, batch: &mut Batch, lane: u64, answer: Sender<()>) -> Staged {
        if let Some(mut health) = self.health(batch, lane) {
            health.probes_now(self.inner.clock.now());
            batch.put_health(lane, health);
        }
        batch.answers.push(Answer::Done(answer));
        Staged::More
    }

    /// Makes the messages of these lanes that are due.
    pub(super) fn stage_tell(
        &mut self,
        batch: &mut Batch,
        lanes: Vec<u64>,
        mails: &Mails,
        answer: Sender<()>,
    ) -> Staged {
        let now = self.inner.clock.now();
        for lane in lanes {
            let Some(mut health) = self.health(batch, lane) else {
                continue;
            };
            let endpoint = self.inner.catalog().endpoint_by_number(lane).cloned();
            let Some(endpoint) = endpoint else {
                batch.healths.insert(lane, None);
                continue;
            };
            let is_mailed = mails(&self.inner.catalog(), &endpoint);
            let is_disabled = endpoint.disabled.is_some();
            let notices = &self.inner.settings.notices;
            let told = health.tell(notices, is_disabled, is_mailed, now);
            batch.put_health(lane, health);
            if let Some(told) = told {
                self.tell_of_notice(batch, &endpoint, &told);
            }
        }
        batch.answers.push(Answer::Done(answer));
        Staged::Enough
    }

    /// Notes that these messages were mailed.
    pub(super) fn stage_mailed(
        &self,
        batch: &mut Batch,
        told: Vec<(u64, Timestamp)>,
        answer: Sender<()>,
    ) -> Staged {
        for (lane, at) in told {
            if let Some(mut health) = self.health(batch, lane) {
                health.mailed(at);
                batch.put_health(lane, health);
            }
        }
        batch.answers.push(Answer::Done(answer));
        Staged::Enough
    }

    /// Writes the healths that the batch changes, each once.
    pub(super) fn stage_healths(&self, batch: &mut Batch) -> Result<(), EngineError> {
        for (lane, health) in &batch.healths {
            let key = layout::health_key(*lane);
            match health {
                Some(health) => {
                    layout::replace(&self.inner.live, &mut batch.live, &key, health)?;
                }
                None => {
                    layout::delete(&self.inner.live, &mut batch.live, &key)?;
                }
            }
        }
        Ok(())
    }

    /// The health as the batch leaves it so far.
    fn health(&self, batch: &Batch, lane: u64) -> Option<Health> {
        match batch.healths.get(&lane) {
            Some(health) => health.clone(),
            None => self.inner.healths.of(lane),
        }
    }
}

impl Batch {
    fn put_health(&mut self, lane: u64, health: Health) {
        let health = (!health.is_default()).then_some(health);
        self.healths.insert(lane, health);
    }
}

fn reason_of(attempt: &Attempt) -> DisabledReason {
    match attempt.answer.as_ref().map(|answer| answer.status) {
        Some(410) => DisabledReason::Gone,
        _ => DisabledReason::Requested,
    }
}
