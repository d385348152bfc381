//! The lanes' queues: what is sent again, what is taken out, and where everything is put.

use std::sync::Arc;

use super::{Answer, Batch, Committer, Staged};
use crate::catalog::Change;
use crate::clock::Timestamp;
use crate::domain::attempt::Trigger;
use crate::domain::job::{Job, JobState};
use crate::domain::message::{Delivery, DeliveryKey, Message};
use crate::error::{Error, Result};
use crate::store::deliveries::Now;
use crate::store::engine::EngineError;
use crate::store::jobs::ReplayStep;
use crate::store::layout::{OnceAnswer, RecordError};
use crate::store::queue::{Command, Resend, ResendAnswer, Sender};
use crate::store::{Event, SendAgain, layout};

impl Committer {
    pub(super) fn stage_resend(
        &mut self,
        batch: &mut Batch,
        resend: Resend,
        answer: Sender<ResendAnswer>,
    ) -> Result<Staged, layout::RecordError> {
        if !self.is_there(resend.lane) {
            drop(answer.send(Err(Error::not_found("endpoint"))));
            return Ok(Staged::More);
        }
        if let Some((once, from_slice)) = &resend.once {
            if batch.unique.contains(&layout::once_key(&once.key)) {
                return Ok(Staged::Later(Box::new(Command::Resend { resend, answer })));
            }
            if let Some(remembered) = self.remembered(once, *from_slice)? {
                drop(answer.send(remembered.map(|_| ResendAnswer::Done)));
                return Ok(Staged::More);
            }
        }
        if resend.message.expunged {
            let conflict = "the message's payload was deleted, and cannot be sent again";
            drop(answer.send(Err(Error::Conflict(conflict.to_owned()))));
            return Ok(Staged::More);
        }
        if resend.message.is_expired(self.inner.clock.now()) {
            let conflict =
                "the message has expired (expiresAt), and nothing of it is sent any more";
            drop(answer.send(Err(Error::Conflict(conflict.to_owned()))));
            return Ok(Staged::More);
        }
        if batch.touches(resend.lane, resend.message.id) {
            return Ok(Staged::Later(Box::new(Command::Resend { resend, answer })));
        }
        let due = self.inner.clock.now();
        if !self.send_now(batch, resend.lane, &resend.send, due, true)? {
            drop(answer.send(Ok(ResendAnswer::Moved)));
            return Ok(Staged::More);
        }
        if let Some((once, _)) = &resend.once {
            self.remember(batch, once, OnceAnswer::Answered(202), b"{}");
        }
        batch.answers.push(Answer::Resent(answer));
        Ok(Staged::More)
    }

    /// Makes a delivery due now: one that waits is moved, and one that has ended begins anew. Nothing
    /// is done, and `false` returned, where it cannot be told how it stands; and, where `is_followed` is
    /// false, where it was attempted since it was looked for. The batch must not touch it already.
    fn send_now(
        &self,
        batch: &mut Batch,
        lane: u64,
        send: &SendAgain,
        due: Timestamp,
        is_followed: bool,
    ) -> Result<bool, layout::RecordError> {
        // Retention took the message since. Its delivery would be counted in another slice, and perhaps not in
        // the one where it is taken out.
        if !send.slice().is_some_and(|slice| self.is_kept(slice)) {
            return Ok(false);
        }
        let newest = (self.slice.number, &*self.slice.slice);
        let now = match self.inner.where_now(newest, send, lane, is_followed) {
            // One attempt that cannot be read fails whoever asked for it, not the store.
            Err(RecordError::Engine(error)) => return Err(error.into()),
            Err(damage) => {
                log::error!("{} cannot be sent again just now: {damage}", send.message);
                return Ok(false);
            }
            Ok(now) => now,
        };
        let waited = match now {
            Now::Moved => return Ok(false),
            Now::Ended => None,
            Now::Waits(key) => {
                batch.events.push(Event::Gone(key));
                self.take_out(batch, &key)?
            }
        };
        let message = send.message;
        let delivery = Delivery {
            key: DeliveryKey { lane, due, message },
            attempts: waited.map_or(0, |waited| waited.attempts),
            trigger: Trigger::Manual,
        };
        // Its message is read when its turn comes: a job keeps no payloads in memory, and the payload
        // of one that was resent may have been deleted since it was read.
        self.put_back(batch, delivery, None)?;
        Ok(true)
    }

    /// Sends and says how far the job has come, in one commit. Where the job was canceled or its
    /// endpoint deleted a moment ago, nothing happens.
    pub(super) fn stage_replay(
        &mut self,
        batch: &mut Batch,
        step: ReplayStep,
        answer: Sender<()>,
    ) -> Result<Staged, layout::RecordError> {
        let mut sends = step.sends.iter().map(|send| send.send.message);
        if sends.any(|message| batch.touches(step.lane, message)) {
            return Ok(Staged::Later(Box::new(Command::Replay { step, answer })));
        }
        let job = self
            .inner
            .catalog()
            .job(step.organisation, step.job)
            .cloned();
        if let Some(job) = job.filter(|job| job.is_running() && self.is_there(step.lane)) {
            self.stage_replay_step(batch, (*job).clone(), step)?;
        }
        batch.answers.push(Answer::Done(answer));
        // What comes next looks at the job as it is then.
        Ok(Staged::Enough)
    }

    fn stage_replay_step(
        &mut self,
        batch: &mut Batch,
        mut job: Job,
        step: ReplayStep,
    ) -> Result<(), layout::RecordError> {
        let due = self.inner.clock.now();
        let mut sent = 0;
        while let Some(next) = step.sends.get(sent)
            && self.send_now(batch, step.lane, &next.send, due, false)?
        {
            sent += 1;
        }
        let last = sent.checked_sub(1).map(|last| step.sends[last]);
        let (behind, looked_at, over) = match sent == step.sends.len() {
            true => (step.behind, step.looked_at, step.over),
            false => (
                last.map(|last| last.send.message),
                last.map_or(0, |last| last.looked_at),
                false,
            ),
        };
        job.updated_at = self.tick();
        job.behind = behind.or(job.behind);
        job.progress.looked_at += looked_at;
        job.progress.done += sent as u64;
        if over {
            job.state = JobState::Finished;
        }
        let changes = [Change::PutJob(job)];
        self.stage_changes(batch, &changes)?;
        batch.changes.extend(changes);
        Ok(())
    }

    pub(super) fn stage_cancel(
        &self,
        batch: &mut Batch,
        deliveries: Vec<DeliveryKey>,
        answer: Sender<()>,
    ) -> Result<Staged, layout::RecordError> {
        for key in deliveries {
            if self.take_out(batch, &key)?.is_some() {
                batch.events.push(Event::Gone(key));
            }
        }
        batch.answers.push(Answer::Done(answer));
        Ok(Staged::More)
    }

    /// Puts a new delivery into its lane's queue.
    pub(super) fn put_in(
        &self,
        batch: &mut Batch,
        delivery: Delivery,
        slice: u32,
        message: Option<Arc<Message>>,
    ) {
        let (key, record) = layout::waiting(&delivery);
        batch.live.put(&key, record);
        if is_noted(&delivery.key, delivery.trigger) {
            let note = layout::resent_key(delivery.key.message, delivery.key.lane);
            let due = delivery.key.due;
            layout::put(&mut batch.live, &note, &layout::Resent { due }, &[]);
        }
        // One that this batch also takes out was there before and is there after.
        if !batch.taken.remove(&delivery.key) {
            batch.put.insert(delivery.key);
        }
        *batch.waiting.entry(slice).or_default() += 1;
        batch.events.push(Event::Waiting { delivery, message });
    }

    /// Puts a delivery into its lane's queue again, unless it stands there already: two resends
    /// within a millisecond are one.
    pub(super) fn put_back(
        &self,
        batch: &mut Batch,
        delivery: Delivery,
        message: Option<Arc<Message>>,
    ) -> Result<(), EngineError> {
        let stored = self
            .inner
            .live
            .contains(&layout::waiting_key(&delivery.key))?;
        let there = stored && !batch.taken.contains(&delivery.key);
        if !there && !batch.put.contains(&delivery.key) {
            self.put_in(
                batch,
                delivery,
                self.slice_of(delivery.key.message),
                message,
            );
        }
        Ok(())
    }

    /// Takes a delivery out of its lane's queue; nothing if it is not there any more.
    pub(super) fn take_out(
        &self,
        batch: &mut Batch,
        key: &DeliveryKey,
    ) -> Result<Option<layout::Waiting>, layout::RecordError> {
        let bytes = layout::waiting_key(key);
        if batch.taken.contains(key) {
            return Ok(None);
        }
        let Some(waited) = layout::get::<layout::Waiting>(&self.inner.live, &bytes)? else {
            return Ok(None);
        };
        batch.live.delete(&bytes);
        if is_noted(key, waited.meta.trigger) {
            let note = layout::resent_key(key.message, key.lane);
            batch.live.delete(&note);
        }
        batch.taken.insert(*key);
        *batch.waiting.entry(self.slice_of(key.message)).or_default() -= 1;
        Ok(Some(waited.meta))
    }
}

/// Whether a note beside the queue says where the delivery waits, because nothing else does: it was made
/// due by hand, or the clock was set back before it was.
fn is_noted(key: &DeliveryKey, trigger: Trigger) -> bool {
    trigger == Trigger::Manual || key.due < key.message.time()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;
    use crate::catalog::Catalog;
    use crate::clock::Clock;
    use crate::domain::attempt::{FailureKind, Outcome, SendFailure, Verdict};
    use crate::domain::id::JobId;
    use crate::domain::job::{Progress, Replay, Which, Work};
    use crate::domain::profile::Method;
    use crate::rules::decision::Planned;
    use crate::store::layout::golden::rows::{self, LANE};
    use crate::store::tests::{message_to, opened_with, register};
    use crate::store::{AttemptSignal, Finished, ReplaySend, Store};

    const START: Timestamp = Timestamp(1_700_000_000_000);

    struct Fixture {
        _directory: tempfile::TempDir,
        clock: Clock,
        store: Store,
    }

    impl Fixture {
        async fn new() -> Fixture {
            let directory = tempfile::tempdir().unwrap();
            let clock = Clock::manual(START);
            let store = opened_with(&directory.path().join("data"), clock.clone());
            register(&store).await;
            Fixture {
                _directory: directory,
                clock,
                store,
            }
        }

        fn later(&self) -> Timestamp {
            self.clock
                .advance_to(self.clock.now() + Duration::from_secs(1));
            self.clock.now()
        }

        async fn publish(&self) -> Arc<Message> {
            let message = self.store.accept_message(message_to(vec![LANE])).await;
            message.unwrap()
        }

        fn look(&self, message: &Message) -> SendAgain {
            self.store.inner.look_for(message, LANE).unwrap()
        }

        fn waiting(&self) -> Vec<Delivery> {
            self.store.waiting(LANE, None, 10).unwrap()
        }

        /// Nothing of what was handed to the committer is left to do.
        async fn settle(&self) {
            self.store
                .change(Planned(|_: &Catalog| Ok((Vec::new(), ()))))
                .await
                .unwrap();
        }

        /// The delivery that waits first is attempted.
        async fn attempt(&self, verdict: Verdict) {
            let delivery = self.waiting()[0];
            let failure = SendFailure {
                kind: FailureKind::NotSendable,
                detail: String::new(),
            };
            let now = self.clock.now();
            self.store.record_attempt(Finished {
                delivery,
                endpoint: Arc::new(rows::endpoint()),
                number: delivery.attempts + 1,
                outcome: Outcome::not_sent("http://a.test/", Method::Post, now, failure),
                verdict,
                test: false,
                event_id: None,
                signal: AttemptSignal::Neither,
                event_type: None,
            });
            self.settle().await;
        }

        async fn resend(&self, message: &Arc<Message>, send: SendAgain) -> ResendAnswer {
            let (answer, answered) = oneshot::channel();
            let resend = Resend {
                message: message.clone(),
                lane: LANE,
                send,
                once: None,
            };
            let command = Command::Resend { resend, answer };
            self.store.offer(command).unwrap();
            answered.await.unwrap().unwrap()
        }
    }

    #[actix_web::test]
    async fn a_resend_of_what_was_attempted_meanwhile_queues_no_second_delivery() {
        let fixture = Fixture::new().await;
        let message = fixture.publish().await;
        for attempts in 1..4 {
            let seen = fixture.look(&message);
            let retry = fixture.later() + Duration::from_secs(60);
            fixture.attempt(Verdict::RetryAt(retry)).await;
            assert_eq!(fixture.resend(&message, seen).await, ResendAnswer::Done);
            let waiting = fixture.waiting();
            assert_eq!(waiting.len(), 1);
            assert_eq!(waiting[0].attempts, attempts);
            assert_eq!(waiting[0].trigger, Trigger::Manual);
            assert_eq!(waiting[0].key.due, fixture.clock.now());
        }
        fixture.store.close().unwrap();
    }

    #[actix_web::test]
    async fn resends_that_both_saw_the_delivery_ended_queue_one() {
        let fixture = Fixture::new().await;
        let message = fixture.publish().await;
        fixture.attempt(Verdict::Delivered).await;
        assert_eq!(fixture.waiting(), []);
        let (first, second) = (fixture.look(&message), fixture.look(&message));
        for seen in [first, second] {
            fixture.later();
            assert_eq!(fixture.resend(&message, seen).await, ResendAnswer::Done);
            assert_eq!(fixture.waiting().len(), 1);
        }
        // And one that comes when that was attempted, too, and is to be retried.
        let retry = fixture.later() + Duration::from_secs(60);
        fixture.attempt(Verdict::RetryAt(retry)).await;
        assert_eq!(fixture.resend(&message, second).await, ResendAnswer::Done);
        assert_eq!(fixture.waiting().len(), 1);
        fixture.store.close().unwrap();
    }

    #[actix_web::test]
    async fn an_outcome_and_a_resend_in_one_batch_queue_one() {
        let fixture = Fixture::new().await;
        let message = fixture.publish().await;
        let sent = [fixture.look(&message), fixture.look(&message)];
        let answers = sent.map(|send| {
            let (answer, answered) = oneshot::channel();
            let message = message.clone();
            let once = None;
            let lane = LANE;
            let resend = Resend {
                message,
                lane,
                send,
                once,
            };
            let command = Command::Resend { resend, answer };
            (command, answered)
        });
        // What holds the committer up, so that both come in one batch.
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (began, begins) = oneshot::channel();
        let decide = Box::new(move |_: Result<(&Catalog, _)>| {
            let _ = began.send(());
            let _ = wait.recv();
            None
        });
        fixture.store.offer(Command::Change { decide }).unwrap();
        begins.await.unwrap();
        let mut answered = Vec::new();
        for (command, answer) in answers {
            fixture.store.offer(command).unwrap();
            answered.push(answer);
        }
        go.send(()).unwrap();
        for answer in answered {
            assert_eq!(answer.await.unwrap().unwrap(), ResendAnswer::Done);
        }
        assert_eq!(fixture.waiting().len(), 1);
        fixture.store.close().unwrap();
    }

    /// It would be counted in another slice, and be missed there when it is taken out.
    #[actix_web::test]
    async fn a_resend_that_comes_behind_the_drop_of_its_slice_queues_nothing() {
        let fixture = Fixture::new().await;
        let store = &fixture.store;
        let message = fixture.publish().await;
        fixture.attempt(Verdict::Delivered).await;
        let age = store.inner.settings.slice_age + Duration::from_secs(1);
        fixture.clock.advance_to(fixture.clock.now() + age);
        let other = fixture.publish().await;
        fixture.attempt(Verdict::Delivered).await;
        assert_eq!(store.slices(), [1, 2]);
        let seen = fixture.look(&message);
        let (answer, answered) = oneshot::channel();
        store
            .offer(Command::DropSlice { number: 1, answer })
            .unwrap();
        answered.await.unwrap().unwrap();
        assert_eq!(fixture.resend(&message, seen).await, ResendAnswer::Moved);
        store.inner.slices.remove(1).unwrap();
        assert_eq!(fixture.resend(&message, seen).await, ResendAnswer::Moved);
        let gone = store.inner.look_for(&message, LANE);
        assert!(matches!(gone, Err(Error::NotFound(_))), "{gone:?}");
        assert_eq!(fixture.waiting(), []);
        // And one of a message that is kept goes on.
        let seen = fixture.look(&other);
        assert_eq!(fixture.resend(&other, seen).await, ResendAnswer::Done);
        assert_eq!(store.waiting_count(), 1);
        store.close().unwrap();
    }

    #[actix_web::test]
    async fn a_step_of_a_replay_ends_before_what_was_attempted_meanwhile() {
        let fixture = Fixture::new().await;
        let job = Job {
            id: JobId::at(START),
            organisation: rows::ORGANISATION,
            work: Work::Replay(Replay {
                application: rows::APPLICATION,
                endpoint: rows::ENDPOINT,
                which: Which::Missing,
                since: START,
                until: START,
            }),
            state: JobState::Running,
            created_at: START,
            updated_at: START,
            behind: None,
            progress: Progress::default(),
            result: None,
        };
        let id = job.id;
        let put = fixture
            .store
            .change(Planned(|_: &Catalog| Ok((vec![Change::PutJob(job)], ()))));
        put.await.unwrap();
        let moved = fixture.publish().await;
        fixture.later();
        let still = fixture.publish().await;
        let seen = [fixture.look(&still), fixture.look(&moved)];
        let retry = fixture.later() + Duration::from_secs(60);
        fixture.attempt(Verdict::RetryAt(retry)).await;
        let sends = seen.into_iter().zip([3, 7]);
        let step = |sends: Vec<ReplaySend>| ReplayStep {
            organisation: rows::ORGANISATION,
            job: id,
            lane: LANE,
            behind: sends.last().map(|last| last.send.message),
            sends,
            looked_at: 9,
            over: true,
        };
        let sends = sends.map(|(send, looked_at)| ReplaySend { send, looked_at });
        fixture.store.replay(step(sends.collect())).await.unwrap();
        let now = || {
            let catalog = fixture.store.catalog();
            (**catalog.job(rows::ORGANISATION, id).unwrap()).clone()
        };
        let job = now();
        assert_eq!(job.behind, Some(still.id));
        assert_eq!((job.progress.looked_at, job.progress.done), (3, 1));
        assert_eq!(job.state, JobState::Running);
        let dues = |fixture: &Fixture| {
            let waiting = fixture.waiting().into_iter();
            waiting.map(|one| one.key.due).collect::<Vec<_>>()
        };
        assert_eq!(dues(&fixture), [fixture.clock.now(), retry]);
        // The next begins there.
        let send = fixture.look(&moved);
        let again = step(vec![ReplaySend { send, looked_at: 4 }]);
        fixture.store.replay(again).await.unwrap();
        assert_eq!(now().state, JobState::Finished);
        assert_eq!(dues(&fixture), [fixture.clock.now(); 2]);
        fixture.store.close().unwrap();
    }

    #[actix_web::test]
    async fn where_the_clock_is_set_back_what_is_new_is_due_at_once_and_found() {
        let fixture = Fixture::new().await;
        let store = &fixture.store;
        let before = fixture.publish().await;
        fixture.attempt(Verdict::Delivered).await;
        let back = fixture
            .clock
            .now()
            .saturating_sub(Duration::from_secs(7200));
        fixture.clock.set(back);
        let endpoint = Arc::new(rows::endpoint());
        let state = |message: &Message| store.delivery(message, &endpoint).unwrap();
        let mut last = before.id;
        let mut messages = Vec::new();
        for _ in 0..3 {
            let message = fixture.publish().await;
            assert!(message.id > last, "ids go on");
            assert_eq!(state(&message).unwrap().next_due, Some(back));
            assert!(store.was_sent_to(&message, &[LANE]).unwrap());
            last = message.id;
            messages.push(message);
        }
        // What is to come later comes then, by the clock as it is now.
        let later = back + Duration::from_secs(60);
        let mut deferred = message_to(vec![LANE]);
        deferred.deliver_at = Some(later);
        let deferred = store.accept_message(deferred).await.unwrap();
        assert_eq!(state(&deferred).unwrap().next_due, Some(later));
        let dues = fixture.waiting();
        let dues: Vec<Timestamp> = dues.iter().map(|one| one.key.due).collect();
        assert_eq!(dues, [back, back, back, later]);

        // A resend moves it, a retry is found, and an end leaves nothing behind.
        let now = fixture.later();
        let resent = store.resend(messages[2].clone(), endpoint.clone(), None);
        resent.await.unwrap();
        assert_eq!(state(&messages[2]).unwrap().next_due, Some(now));
        assert_eq!(fixture.waiting().len(), 4);
        let retry = now + Duration::from_secs(5);
        fixture.attempt(Verdict::RetryAt(retry)).await;
        assert_eq!(state(&messages[0]).unwrap().next_due, Some(retry));
        for _ in 0..4 {
            fixture.attempt(Verdict::Delivered).await;
        }
        assert_eq!(fixture.waiting(), []);
        for message in messages.iter().chain([&deferred]) {
            let note = layout::resent_key(message.id, LANE);
            assert!(!store.inner.live.contains(&note).unwrap());
        }
        store.close().unwrap();
    }
}
