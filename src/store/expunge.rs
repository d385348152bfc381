//! Deleting what a message said, or what was answered to an attempt, and keeping that they were.
//!
//! The record is replaced in its slice by one without the content. sled writes what is new behind
//! what is old and reuses a stretch of its file later: the deleted bytes cannot be read through the
//! store any more, and stay in the file until it is rewritten there or the slice goes.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::engine::{Changes, Engine};
use super::layout::{self, MessageMeta};
use super::queue::{Command, Expunged};
use super::{Catalog, Inner, Store};
use crate::domain::attempt::Attempt;
use crate::domain::id::{ApplicationId, AttemptId, MessageId};
use crate::error::{Error, Result};

/// What stands where an answer's body was.
const EXPUNGED: &[u8] = b"EXPUNGED";

impl Store {
    /// Deletes a message's payload, and what waits of it will not be sent any more. An attempt
    /// that is under way goes on.
    pub async fn expunge_payload(
        &self,
        application: ApplicationId,
        message: MessageId,
    ) -> Result<()> {
        self.expunge(Expunged::Payload(application, message)).await
    }

    /// Deletes the body and the headers of what was answered to an attempt.
    pub async fn expunge_answer(&self, message: MessageId, attempt: AttemptId) -> Result<()> {
        self.expunge(Expunged::Answer(message, attempt)).await
    }

    async fn expunge(&self, what: Expunged) -> Result<()> {
        let (sender, answer) = oneshot::channel();
        self.offer(Command::Expunge {
            what,
            answer: sender,
        })?;
        self.answered(answer).await
    }
}

/// The slice that holds the content, and what deletes it there; nothing where that was done
/// before.
pub fn changes(inner: &Inner, what: Expunged) -> Result<(Arc<Engine>, Changes)> {
    match what {
        Expunged::Payload(application, message) => payload(inner, application, message),
        Expunged::Answer(message, attempt) => answer(inner, message, attempt),
    }
}

/// The lanes that may have a copy of the message in memory.
pub fn lanes(catalog: &Catalog, application: ApplicationId) -> impl Iterator<Item = u64> + use<> {
    let entry = catalog.application_by_id(application);
    let endpoints = entry.iter().flat_map(|entry| &entry.endpoints);
    let lanes: Vec<u64> = endpoints.map(|endpoint| endpoint.number).collect();
    lanes.into_iter()
}

fn payload(
    inner: &Inner,
    application: ApplicationId,
    message: MessageId,
) -> Result<(Arc<Engine>, Changes)> {
    const NOT_FOUND: Error = Error::NotFound("message");
    let slice = inner.slice_at(message.time())?.ok_or(NOT_FOUND)?;
    let key = layout::message_key(application, message);
    let record = layout::get::<MessageMeta>(&slice, &key)?.ok_or(NOT_FOUND)?;
    let mut meta = record.meta;
    let mut changes = Changes::default();
    if !meta.expunged {
        meta.expunged = true;
        meta.is_raw = false;
        layout::replace_with(&slice, &mut changes, &key, &meta, b"{}")?;
    }
    Ok((slice, changes))
}

fn answer(inner: &Inner, message: MessageId, attempt: AttemptId) -> Result<(Arc<Engine>, Changes)> {
    const NOT_FOUND: Error = Error::NotFound("attempt");
    let slice = inner.slice_at(attempt.time())?.ok_or(NOT_FOUND)?;
    let place = layout::attempt_of_message_key(message, attempt);
    let place = layout::get::<layout::AttemptPlace>(&slice, &place)?.ok_or(NOT_FOUND)?;
    let key = layout::attempt_key(place.meta.lane, attempt);
    let mut record = layout::get::<Attempt>(&slice, &key)?.ok_or(NOT_FOUND)?.meta;
    let mut changes = Changes::default();
    if let Some(answer) = &mut record.answer {
        answer.body = EXPUNGED.to_vec();
        answer.headers = Vec::new();
        answer.truncated = false;
        layout::replace(&slice, &mut changes, &key, &record)?;
    }
    Ok((slice, changes))
}
