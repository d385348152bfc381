//! Uniqueness of idempotency keys and event ids.

use super::{Batch, Committer, PartBytes};
use crate::error::{Error, Result};
use crate::store::layout::{self, OnceAnswer, OnceRecord};
use crate::store::{EventKeys, KeyHash, Once, Remembered};

impl Committer {
    pub(super) fn remember(&self, batch: &mut Batch, once: &Once, answer: OnceAnswer, body: &[u8]) {
        let record = OnceRecord {
            commit: self.meta.commit + 1,
            // The last time may be long ago: only what has an id of its time moves it.
            at: self.inner.clock.now().max(self.meta.last_time),
            request: once.body,
            answer,
        };
        let key = layout::once_key(&once.key);
        let record = PartBytes::Record(layout::encode(&key, &record, body));
        batch.history.add(vec![key.clone()], [record]);
        batch.unique.insert(key);
    }

    /// Returns the earlier answer to an idempotency key, or a conflict where it came with another request.
    pub(super) fn remembered(
        &self,
        once: &Once,
        from_slice: u32,
    ) -> Result<Option<Result<Remembered>>, layout::RecordError> {
        let hash = [KeyHash::of(&layout::once_key(&once.key))];
        for number in from_slice..=self.slice.number {
            let seen = self.inner.slice_with(number, &hash).and_then(|slice| {
                let seen = slice.map(|slice| self.inner.once_in(&slice, once));
                Ok(seen.transpose()?.flatten())
            });
            match seen {
                Ok(None) => {}
                Ok(Some(seen)) => return Ok(Some(seen)),
                // That it cannot be read is no failure of the store, only of what asked for it.
                Err(error) => return Ok(Some(Err(error.into()))),
            }
        }
        Ok(None)
    }

    /// Why a message with this event id is not accepted, if it is not.
    pub(super) fn event_id_taken(
        &self,
        batch: &Batch,
        event: &EventKeys,
        from_slice: u32,
    ) -> Result<Option<Error>, layout::RecordError> {
        let conflict = || {
            let conflict = "a message with this eventId was accepted within the last day";
            Ok(Some(Error::Conflict(conflict.to_owned())))
        };
        if batch.unique.contains(&event.keys[0]) {
            return conflict();
        }
        for number in from_slice..=self.slice.number {
            let taken = self
                .inner
                .slice_with(number, self.inner.event_hashes(number, event))
                .and_then(|slice| {
                    let taken = slice.map(|slice| self.inner.event_id_taken_in(&slice, event));
                    Ok(taken.transpose()?.unwrap_or(false))
                });
            match taken {
                Ok(false) => {}
                Ok(true) => return conflict(),
                Err(error) => return Ok(Some(error.into())),
            }
        }
        Ok(None)
    }
}
