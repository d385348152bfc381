//! The lanes' queues: what is sent again, what is taken out, and where everything is put.

use std::sync::Arc;

use super::{Answer, Batch, Committer, Staged};
use crate::domain::attempt::Trigger;
use crate::domain::job::JobState;
use crate::domain::message::{Delivery, DeliveryKey, Message};
use crate::error::{Error, Result};
use crate::store::catalog::Change;
use crate::store::engine::EngineError;
use crate::store::jobs::ReplayStep;
use crate::store::layout::OnceAnswer;
use crate::store::queue::{Command, Expunged, Resend, Sender};
use crate::store::{Event, expunge, layout};

impl Committer {
    pub(super) fn stage_resend(
        &mut self,
        batch: &mut Batch,
        resend: Resend,
        answer: Sender<()>,
    ) -> Result<Staged, layout::RecordError> {
        if !self.is_there(resend.lane) {
            drop(answer.send(Err(Error::NotFound("endpoint"))));
            return Ok(Staged::More);
        }
        if let Some((once, from_slice)) = &resend.once {
            if batch.unique.contains(&layout::once_key(&once.key)) {
                return Ok(Staged::Later(Box::new(Command::Resend { resend, answer })));
            }
            if let Some(remembered) = self.remembered(once, *from_slice)? {
                drop(answer.send(remembered.map(|_| ())));
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
        if let Some((once, _)) = &resend.once {
            self.remember(batch, once, OnceAnswer::Answered(202), b"{}");
        }
        let attempts = match resend.waiting {
            None => 0,
            Some(key) => match self.take_out(batch, &key)? {
                Some(waited) => {
                    batch.events.push(Event::Gone(key));
                    waited.attempts
                }
                None => 0,
            },
        };
        let key = DeliveryKey {
            lane: resend.lane,
            due: self.tick(),
            message: resend.message.id,
        };
        let delivery = Delivery {
            key,
            attempts,
            trigger: Trigger::Manual,
        };
        // Without the message: its payload may have been deleted since it was read.
        self.put_back(batch, delivery, None)?;
        batch.answers.push(Answer::Done(answer));
        Ok(Staged::More)
    }

    /// Sends and says how far the job has come, in one commit. Where the job was canceled or its
    /// endpoint deleted a moment ago, nothing happens.
    pub(super) fn stage_replay(
        &mut self,
        batch: &mut Batch,
        step: ReplayStep,
    ) -> Result<(), layout::RecordError> {
        let job = self
            .inner
            .catalog()
            .job(step.organisation, step.job)
            .cloned();
        let Some(job) = job.filter(|job| job.is_running() && self.is_there(step.lane)) else {
            return Ok(());
        };
        let due = self.tick();
        let sent = step.sends.len() as u64;
        for send in step.sends {
            let waited = match send.waiting {
                None => None,
                Some(key) => {
                    let waited = self.take_out(batch, &key)?;
                    batch
                        .events
                        .extend(waited.as_ref().map(|_| Event::Gone(key)));
                    waited
                }
            };
            let key = DeliveryKey {
                lane: step.lane,
                due,
                message: send.message,
            };
            let delivery = Delivery {
                key,
                attempts: waited.map_or(0, |waited| waited.attempts),
                trigger: Trigger::Manual,
            };
            // Its message is read when its turn comes: a job keeps no payloads in memory.
            self.put_back(batch, delivery, None)?;
        }
        let mut job = (*job).clone();
        job.updated_at = due;
        job.behind = step.behind.or(job.behind);
        job.progress.looked_at += step.looked_at;
        job.progress.done += sent;
        if step.over {
            job.state = JobState::Finished;
        }
        let changes = [Change::PutJob(job)];
        self.stage_changes(batch, &changes)?;
        batch.changes.extend(changes);
        Ok(())
    }

    /// Deletes content in its slice, which may be an old one, and answers with the commit: a crash
    /// in between leaves it deleted and nobody told, and asking again does no harm.
    pub(super) fn stage_expunge(
        &mut self,
        batch: &mut Batch,
        what: Expunged,
        answer: Sender<()>,
    ) -> Result<Staged, layout::RecordError> {
        match expunge::changes(&self.inner, what) {
            Err(error) => drop(answer.send(Err(error))),
            Ok((slice, changes)) => {
                if !changes.is_empty() {
                    slice.commit(changes)?;
                }
                if let Expunged::Payload(application, message) = what {
                    let lanes = expunge::lanes(&self.inner.catalog(), application);
                    let told = lanes.map(|lane| Event::Expunged { lane, message });
                    batch.events.extend(told);
                }
                batch.answers.push(Answer::Done(answer));
            }
        }
        Ok(Staged::Enough)
    }

    /// Puts a new delivery into its lane's queue.
    pub(super) fn put_in(
        &self,
        batch: &mut Batch,
        delivery: Delivery,
        slice: u32,
        message: Option<Arc<Message>>,
    ) {
        let waiting = layout::Waiting {
            attempts: delivery.attempts,
            trigger: delivery.trigger,
        };
        let key = layout::waiting_key(&delivery.key);
        batch.live.put(&key, layout::encode(&key, &waiting, &[]));
        if delivery.trigger == Trigger::Manual {
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
        if waited.meta.trigger == Trigger::Manual {
            let note = layout::resent_key(key.message, key.lane);
            batch.live.delete(&note);
        }
        batch.taken.insert(*key);
        *batch.waiting.entry(self.slice_of(key.message)).or_default() -= 1;
        Ok(Some(waited.meta))
    }
}
