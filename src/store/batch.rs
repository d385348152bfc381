//! Messages that are accepted together: one command to the committer, one commit, one answer.
//!
//! Which of them can be accepted is known only where nothing races, so the answer is made there,
//! by the caller's function. Under the request's idempotency key it is kept without payloads: these are
//! erased with their messages, and must stand nowhere else.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::queue::Command;
use super::{Answered, EVENT_ID_UNIQUE, EventKeys, Inner, NewMessage, Once, Searched, Store};
use crate::catalog::Catalog;
use crate::clock::{Clock, Timestamp};
use crate::domain::cost::Budget;
use crate::domain::filter::{Facts, Parts};
use crate::domain::message::Message;
use crate::error::{Error, Result};
use crate::rules::matching::matched_since;

/// Makes the answer for a whole batch from the result of each message. An error accepts nothing.
pub type Show = Box<dyn FnOnce(Vec<Result<Arc<Message>>>) -> Result<Shown> + Send>;

/// The answer for a whole batch.
#[derive(Debug)]
pub struct Shown {
    pub answered: Answered,
    /// The same body without payloads, where it has any, to be kept.
    pub without_payloads: Option<Vec<u8>>,
}

impl Shown {
    pub(super) fn kept_body(&self) -> &[u8] {
        self.without_payloads
            .as_ref()
            .unwrap_or(&self.answered.body)
    }
}

/// The answer to a batch.
#[derive(Debug)]
pub enum BatchAnswer {
    Accepted(Answered),
    /// As it was kept, without payloads: the batch came before with the same idempotency key.
    Earlier(Answered),
}

/// Messages to accept in one step, all that can be or none. `show` must give an answer where one
/// of them is accepted: then it is too late for an error.
pub struct NewBatch {
    pub once: Option<Once>,
    pub(super) messages: Vec<NewMessage>,
    pub(super) show: Show,
    /// Memory that it holds, roughly.
    pub(super) bytes: usize,
}

impl NewBatch {
    /// The messages' own `once` has no effect.
    pub fn new(messages: Vec<NewMessage>, once: Option<Once>, show: Show) -> NewBatch {
        // A message has some text beside its payload.
        const MESSAGE_BYTES: usize = size_of::<NewMessage>() + 256;
        let bytes_of = |one: &NewMessage| {
            let pairs = one.metadata.iter().chain(&one.headers);
            let texts: usize = pairs.map(|(name, text)| name.len() + text.len()).sum();
            MESSAGE_BYTES + one.payload.len() + texts + one.lanes.len() * size_of::<u64>()
        };
        NewBatch {
            once,
            bytes: messages.iter().map(bytes_of).sum(),
            messages,
            show,
        }
    }

    pub fn deliveries(&self) -> u64 {
        let lanes = self.messages.iter().map(|one| one.lanes.len() as u64);
        lanes.sum()
    }

    /// Matches its messages again where they may be for others now. Returns why some of them are
    /// refused, by their places; without their application all of them are.
    pub(super) fn match_anew(
        &mut self,
        catalog: &Catalog,
        clock: &Clock,
    ) -> Result<BTreeMap<usize, Error>> {
        let mut refused = BTreeMap::new();
        // One for all of them: everybody waits for the writer.
        let mut budget = Budget::of_commit();
        for (place, message) in self.messages.iter_mut().enumerate() {
            match message.match_anew(catalog, clock, &mut budget) {
                Ok(()) => {}
                Err(whole @ (Error::NotFound(_) | Error::Unavailable { .. })) => return Err(whole),
                Err(error) => {
                    // It takes no room.
                    message.lanes.clear();
                    refused.insert(place, error);
                }
            }
        }
        Ok(refused)
    }

    /// Whether there is room for all of it. It is of one application.
    pub(super) fn may_wait(&self, inner: &Inner) -> Result<()> {
        let Some(first) = self.messages.first() else {
            return Ok(());
        };
        let lanes = self.messages.iter().flat_map(|one| &one.lanes);
        inner.may_accept(first.application, self.deliveries(), lanes)
    }
}

impl NewMessage {
    /// Matches it again where what decides it has changed since, so that it goes to the endpoints
    /// that there are when it is committed. An error where its application is gone: nothing comes into a
    /// deleted application, whose messages are being erased. Only filters that have changed since are
    /// asked; where even these cost more than the writer has for a command, it can be published again.
    pub(super) fn match_anew(
        &mut self,
        catalog: &Catalog,
        clock: &Clock,
        budget: &mut Budget,
    ) -> Result<()> {
        let application = self.application;
        let Some(as_of) = self.matched_as_of else {
            let entry = catalog.application_by_id(application);
            return entry.map(|_| ()).ok_or(Error::not_found("application"));
        };
        let anew = matched_since(
            as_of,
            &self.lanes,
            catalog,
            application,
            &self.event_type,
            || Facts::new(self.parts(clock.now())),
            budget,
        )?;
        if let Some(anew) = anew {
            self.lanes = anew.lanes;
            self.matched_as_of = Some(anew.as_of);
        }
        Ok(())
    }

    /// What filters can ask of it, before its commit.
    fn parts(&self, now: Timestamp) -> Parts<'_> {
        Parts {
            event_type: &self.event_type,
            event_id: self.event_id.as_deref(),
            channels: &self.channels,
            tags: &self.tags,
            metadata: &self.metadata,
            accepted_at: now,
            payload: std::str::from_utf8(&self.payload).unwrap_or_default(),
            is_raw: self.is_raw,
        }
    }

    /// Whether there is room for its deliveries.
    pub(super) fn may_wait(&self, inner: &Inner) -> Result<()> {
        let lanes = &self.lanes;
        inner.may_accept(self.application, lanes.len() as u64, lanes.iter())
    }

    /// Where the store notes that its event id was used.
    pub(super) fn event_keys(&self) -> Option<EventKeys> {
        let event_id = self.event_id.as_ref()?;
        Some(EventKeys::new(
            self.organisation,
            self.application,
            event_id,
        ))
    }
}

impl Store {
    /// Stores all messages of the batch that can be accepted with one commit, so that a crash
    /// leaves all of them or none, and answers with what the batch shows of it; with what it showed
    /// then, where its idempotency key was seen with the same body.
    pub async fn accept_batch(&self, batch: NewBatch) -> Result<BatchAnswer> {
        if let Err(refused) = batch.may_wait(&self.inner) {
            let seen = self.seen_or(batch.once, refused).await?;
            return seen.into_answered().map(BatchAnswer::Earlier);
        }
        let mut once_from_slice = self.newest_slice();
        if let Some(once) = batch.once {
            match self.search_once(once).await? {
                Searched::Found(seen) => return seen.into_answered().map(BatchAnswer::Earlier),
                Searched::UpTo(slice) => once_from_slice = once_from_slice.min(slice),
            }
        }
        let keys = batch.messages.iter().map(NewMessage::event_keys);
        let from_slices = self.search_event_ids(keys.collect()).await?;
        let (sender, answer) = oneshot::channel();
        self.offer(Command::AcceptBatch {
            batch: Box::new(batch),
            from_slices,
            once_from_slice,
            answer: sender,
        })?;
        self.answered(answer).await
    }

    /// For each event id the slice from which on the committer must look: it is in none before.
    pub(super) async fn search_event_ids(
        &self,
        events: Vec<Option<EventKeys>>,
    ) -> Result<Vec<u32>> {
        let (oldest, newest) = self.inner.slices_within(EVENT_ID_UNIQUE);
        let mut from = vec![newest; events.len()];
        let sought = |event: &EventKeys| self.inner.may_hold_event(oldest..newest, event);
        let slices = |event: &Option<EventKeys>| event.as_ref().map_or(Vec::new(), sought);
        let slices: Vec<Vec<u32>> = events.iter().map(slices).collect();
        if slices.iter().all(Vec::is_empty) {
            return Ok(from);
        }
        self.read(move |inner| {
            for ((event, slices), from) in events.iter().zip(slices).zip(&mut from) {
                let Some(event) = event else { continue };
                for number in slices {
                    if let Some(engine) =
                        inner.slice_with(number, inner.event_hashes(number, event))?
                        && inner.event_id_taken_in(&engine, event)?
                    {
                        *from = number;
                        break;
                    }
                }
            }
            Ok(from)
        })
        .await
    }
}
