//! Accepting messages: one, or many in one request.

use std::sync::Arc;

use super::{
    Answer, BATCH_BYTES_MAX, BATCH_CHANGES_MAX, Batch, Committer, PartBytes, Staged, other_request,
};
use crate::clock::Timestamp;
use crate::domain::attempt::Trigger;
use crate::domain::cost::Budget;
use crate::domain::id::MessageId;
use crate::domain::message::{Delivery, DeliveryKey, Message};
use crate::error::{Error, Result};
use crate::store::layout::{MessageMeta, OnceAnswer};
use crate::store::queue::{Command, Sender};
use crate::store::watchers::Watcher;
use crate::store::{Answered, BatchAnswer, NewBatch, NewMessage, Once, Remembered, Shown, layout};
use crate::watched;

/// The answer to a batch whose own could not be made. It is remembered like any other: the same request
/// again must not publish anew.
fn not_shown() -> Shown {
    const BODY: &str = r#"{"code":"internal_error","detail":"The messages that could be accepted are accepted, and a defect of postrider kept it from telling which. The log says where."}"#;
    Shown {
        answered: Answered {
            status: 500,
            body: BODY.as_bytes().to_vec(),
        },
        without_payloads: None,
    }
}

impl Committer {
    pub(super) fn stage_accept(
        &mut self,
        batch: &mut Batch,
        mut message: NewMessage,
        from_slice: u32,
        watcher: Option<Arc<Watcher>>,
        answer: Sender<Arc<Message>>,
    ) -> Result<Staged, layout::RecordError> {
        watched::planned_panic("commit", &message.event_type);
        if let Some(once) = &message.once {
            if batch.unique.contains(&layout::once_key(&once.key)) {
                return Ok(Staged::Later(Box::new(Command::Accept {
                    message,
                    from_slice,
                    watcher,
                    answer,
                })));
            }
            if let Some(remembered) = self.remembered(once, from_slice)? {
                let earlier = remembered.and_then(|seen| match seen.answer {
                    OnceAnswer::Message(application, id) => {
                        let earlier = self.inner.message(application, id)?;
                        earlier.ok_or(Error::not_found("message"))
                    }
                    OnceAnswer::Answered(_) => Err(other_request()),
                });
                drop(answer.send(earlier));
                return Ok(Staged::More);
            }
        }
        // Endpoints may have come and gone, and others may have taken the room since it was asked for.
        let matched = {
            let (catalog, clock) = (self.inner.catalog(), &self.inner.clock);
            message.match_anew(&catalog, clock, &mut Budget::of_commit())
        };
        if let Err(refused) = matched.and_then(|()| message.may_wait(&self.inner)) {
            drop(answer.send(Err(refused)));
            return Ok(Staged::More);
        }
        let once = message.once;
        match self.stage_message(batch, message, from_slice)? {
            Err(conflict) => drop(answer.send(Err(conflict))),
            Ok(accepted) => {
                if let Some(watcher) = watcher {
                    watcher.name(accepted.id);
                }
                if let Some(once) = &once {
                    let id = OnceAnswer::Message(accepted.application, accepted.id);
                    self.remember(batch, once, id, &[]);
                }
                batch.answers.push(Answer::Accepted(answer, accepted));
            }
        }
        Ok(Staged::More)
    }

    /// Stages all of it in one batch, which may become larger than a batch of single messages
    /// does: the request's limits bound it. One that already holds much is committed first.
    pub(super) fn stage_batch(
        &mut self,
        batch: &mut Batch,
        mut new: Box<NewBatch>,
        from_slices: Vec<u32>,
        once_from_slice: u32,
        answer: Sender<BatchAnswer>,
    ) -> Result<Staged, layout::RecordError> {
        let is_used = |once: &Once| batch.unique.contains(&layout::once_key(&once.key));
        let changes = new.messages.len() as u64 + new.deliveries();
        let fits = batch.bytes() + new.bytes <= BATCH_BYTES_MAX
            && (batch.changes_count() as u64) + changes <= BATCH_CHANGES_MAX as u64;
        let is_first = batch.commands == 1;
        if new.once.as_ref().is_some_and(is_used) || (!fits && !is_first) {
            return Ok(Staged::Later(Box::new(Command::AcceptBatch {
                batch: new,
                from_slices,
                once_from_slice,
                answer,
            })));
        }
        if let Some(once) = &new.once
            && let Some(remembered) = self.remembered(once, once_from_slice)?
        {
            let answered = remembered.and_then(Remembered::into_answered);
            drop(answer.send(answered.map(BatchAnswer::Earlier)));
            return Ok(Staged::More);
        }
        let matched = new.match_anew(&self.inner.catalog(), &self.inner.clock);
        let mut refused =
            match matched.and_then(|refused| new.may_wait(&self.inner).map(|()| refused)) {
                Ok(refused) => refused,
                Err(error) => {
                    drop(answer.send(Err(error)));
                    return Ok(Staged::More);
                }
            };
        let NewBatch {
            once,
            messages,
            show,
            ..
        } = *new;
        let mut results = Vec::with_capacity(messages.len());
        for (place, (message, from_slice)) in messages.into_iter().zip(from_slices).enumerate() {
            results.push(match refused.remove(&place) {
                Some(error) => Err(error),
                None => self.stage_message(batch, message, from_slice)?,
            });
        }
        // Too late for an error: what was staged is accepted, also where nothing can be shown of it.
        let shown = watched::contained(|| show(results));
        match shown.unwrap_or_else(|_| Ok(not_shown())) {
            Err(error) => drop(answer.send(Err(error))),
            Ok(shown) => {
                if let Some(once) = &once {
                    let status = OnceAnswer::Answered(shown.answered.status);
                    self.remember(batch, once, status, shown.kept_body());
                }
                batch.answers.push(Answer::Batch(answer, shown.answered));
            }
        }
        Ok(Staged::More)
    }

    /// Stages one message with its deliveries; a conflict, and nothing staged, where its event id
    /// is taken.
    pub(super) fn stage_message(
        &mut self,
        batch: &mut Batch,
        message: NewMessage,
        from_slice: u32,
    ) -> Result<Result<Arc<Message>>, layout::RecordError> {
        let event = message.event_keys();
        if let Some(event) = &event
            && let Some(refused) = self.event_id_taken(batch, event, from_slice)?
        {
            return Ok(Err(refused));
        }
        let event_key = event.map(|event| {
            let [key, _] = event.keys;
            batch.unique.insert(key.clone());
            key
        });
        Ok(Ok(self.put_message(batch, message, event_key.as_deref())))
    }

    /// Writes a message into history, with the key of its event id where it has one, and its deliveries
    /// into the queue.
    pub(super) fn put_message(
        &mut self,
        batch: &mut Batch,
        mut message: NewMessage,
        event_key: Option<&[u8]>,
    ) -> Arc<Message> {
        // An endpoint that was named may be gone by now; those that matched are all there.
        if message.matched_as_of.is_none() {
            message.lanes.retain(|lane| self.is_there(*lane));
        }
        let now = self.tick();
        let id = MessageId::in_order(now, self.next_in_step(now), rand::random());
        let commit = self.meta.commit + 1;
        let meta = MessageMeta {
            commit,
            accepted_at: now,
            event_type: message.event_type,
            event_id: message.event_id,
            channels: message.channels,
            origin: message.origin,
            tags: message.tags,
            deliver_at: message.deliver_at,
            expires_at: message.expires_at,
            expunged: false,
            is_raw: message.is_raw,
            content_type: message.content_type,
            endpoints_matched: u32::try_from(message.lanes.len()).ok(),
            metadata: message.metadata,
            headers: message.headers,
        };
        let key = layout::message_key(message.application, id);
        let record = PartBytes::Record(layout::encode(&key, &meta, &[]));
        let payload = PartBytes::Payload(message.payload.clone());
        let event_key = event_key.map(|key| layout::event_id_at(key, id));
        let keys = [key].into_iter().chain(event_key).collect();
        batch.history.add(keys, [record, payload]);
        batch.messages += 1;
        let accepted = Arc::new(Message {
            id,
            application: message.application,
            event_type: meta.event_type,
            event_id: meta.event_id,
            channels: meta.channels,
            payload: message.payload,
            is_raw: meta.is_raw,
            content_type: meta.content_type,
            accepted_at: now,
            origin: meta.origin,
            tags: meta.tags,
            deliver_at: meta.deliver_at,
            expires_at: meta.expires_at,
            expunged: false,
            endpoints_matched: meta.endpoints_matched,
            metadata: meta.metadata,
            headers: meta.headers,
        });
        let due = self.first_due(&accepted);
        for lane in message.lanes {
            let delivery = Delivery {
                key: DeliveryKey {
                    lane,
                    due,
                    message: id,
                },
                attempts: 0,
                trigger: Trigger::Scheduled,
            };
            self.put_in(batch, delivery, self.slice.number, Some(accepted.clone()));
        }
        accepted
    }

    /// When its deliveries are due, by the clock that they are attempted by: where that was set back,
    /// this is before the time of the message's id, which never goes back.
    fn first_due(&self, message: &Message) -> Timestamp {
        let now = self.inner.clock.now();
        let at_once = message.deliver_at.map_or(now, |at| at.max(now));
        match at_once < message.id.time() {
            true => at_once,
            false => message.first_due(),
        }
    }
}
