//! Keys that make requests unique: idempotency keys, which are answered as before, and event ids.
//!
//! The committer looks them up in the newest slice, where nothing races; older slices are looked
//! through before, on threads that may block.

use std::ops::Range;
use std::time::Duration;

use super::filters::KeyHash;
use super::slice::Slice;
use super::{Answered, Inner, Store, committer, layout};
use crate::domain::id::{ApplicationId, MessageId, OrganisationId};
use crate::error::{Error, Result};

/// How long an idempotency key is remembered.
pub const ONCE_REMEMBERED: Duration = Duration::from_secs(12 * 3600);
/// How long an `eventId` is verified to be unique; the contract's "only up to a day".
pub const EVENT_ID_UNIQUE: Duration = Duration::from_secs(24 * 3600);

/// The caller's wish that a request happens once: both are SHA-256, of the key in its scope
/// (organisation, method, path) and of the request's body.
#[derive(Clone, Copy, Debug)]
pub struct Once {
    pub key: [u8; 32],
    pub body: [u8; 32],
}

/// An idempotency key's earlier answer.
pub struct Remembered {
    pub answer: layout::OnceAnswer,
    pub body: Vec<u8>,
}

impl Remembered {
    /// For a request that is not answered with one message.
    pub(super) fn into_answered(self) -> Result<Answered> {
        match self.answer {
            layout::OnceAnswer::Answered(status) => Ok(Answered {
                status,
                body: self.body,
            }),
            layout::OnceAnswer::Message(..) => Err(committer::other_request()),
        }
    }
}

/// Where the store notes that an event id was used in an application.
#[derive(Clone)]
pub struct EventKeys {
    pub application: ApplicationId,
    /// The newest way to write it down first; see [`layout::event_id_keys`].
    pub keys: [Vec<u8>; 2],
    pub hashes: [KeyHash; 2],
}

impl EventKeys {
    pub(super) fn new(
        organisation: OrganisationId,
        application: ApplicationId,
        event_id: &str,
    ) -> EventKeys {
        let keys = layout::event_id_keys(organisation, application, event_id);
        let hashes = [KeyHash::of(&keys[0]), KeyHash::of(&keys[1])];
        EventKeys {
            application,
            keys,
            hashes,
        }
    }
}

pub enum Searched {
    Found(Remembered),
    /// In no slice before this one.
    UpTo(u32),
}

impl Inner {
    /// Returns the earlier answer to an idempotency key that this slice has, if any.
    pub(super) fn once_in(
        &self,
        slice: &Slice,
        once: &Once,
    ) -> Result<Option<Result<Remembered>>, layout::RecordError> {
        let key = layout::once_key(&once.key);
        let Some((seen, body)) = slice.once(&key)? else {
            return Ok(None);
        };
        let age = self.clock.now().since(seen.at);
        // A key of the batch being built is not there yet, so a commit ahead of ours is dead.
        if !self.happened(seen.commit) || age > ONCE_REMEMBERED {
            return Ok(None);
        }
        if seen.request != once.body {
            let conflict = "this idempotency key was used for a request with another body";
            return Ok(Some(Err(Error::Conflict(conflict.to_owned()))));
        }
        let answer = seen.answer;
        // One of the same uid that was made since has had no such message.
        if let layout::OnceAnswer::Message(application, _) = answer
            && self.catalog().application_by_id(application).is_none()
        {
            return Ok(None);
        }
        Ok(Some(Ok(Remembered { answer, body })))
    }

    /// The message that has this event id, by this slice's word.
    pub(super) fn event_id_in(
        &self,
        slice: &Slice,
        event: &EventKeys,
    ) -> Result<Option<MessageId>, layout::RecordError> {
        for key in &event.keys {
            let found = slice.event_id(key, event.application)?.filter(|found| {
                found.application == event.application && self.happened(found.commit)
            });
            if let Some(found) = found {
                return Ok(Some(found.message));
            }
        }
        Ok(None)
    }

    pub(super) fn event_id_taken_in(
        &self,
        slice: &Slice,
        event: &EventKeys,
    ) -> Result<bool, layout::RecordError> {
        let message = self.event_id_in(slice, event)?;
        let age = |message: MessageId| self.clock.now().since(message.time());
        Ok(message.is_some_and(|message| age(message) <= EVENT_ID_UNIQUE))
    }

    /// The slices that reach into the stretch of time that ends now.
    pub(super) fn slices_within(&self, stretch: Duration) -> (u32, u32) {
        let newest = self.slices.newest().map_or(0, |(number, _)| number);
        let began = self.clock.now().saturating_sub(stretch);
        let oldest = self.slices.at(began).unwrap_or(self.slices.oldest());
        (oldest.min(newest), newest)
    }
}

impl Store {
    /// Looks for an idempotency key in all slices but the newest, which the committer looks at.
    pub(super) async fn search_once(&self, once: Once) -> Result<Searched> {
        let (oldest, newest) = self.inner.slices_within(ONCE_REMEMBERED);
        let found = self.remembered_in(oldest..newest, once).await?;
        Ok(found.map_or(Searched::UpTo(newest), Searched::Found))
    }

    /// Returns the earlier answer to a request that would be refused now for want of room: the caller may
    /// be asking again because that answer got lost.
    pub(super) async fn seen_or(&self, once: Option<Once>, refused: Error) -> Result<Remembered> {
        let Some(once) = once else {
            return Err(refused);
        };
        let (oldest, newest) = self.inner.slices_within(ONCE_REMEMBERED);
        let found = self.remembered_in(oldest..newest + 1, once).await?;
        found.ok_or(refused)
    }

    pub(super) async fn remembered_in(
        &self,
        slices: Range<u32>,
        once: Once,
    ) -> Result<Option<Remembered>> {
        let hash = [KeyHash::of(&layout::once_key(&once.key))];
        let slices = self.inner.may_hold(slices, &hash);
        if slices.is_empty() {
            return Ok(None);
        }
        self.read(move |inner| {
            for number in slices {
                let Some(engine) = inner.slice_with(number, &hash)? else {
                    continue;
                };
                if let Some(seen) = inner.once_in(&engine, &once)? {
                    return seen.map(Some);
                }
            }
            Ok(None)
        })
        .await
    }
}
