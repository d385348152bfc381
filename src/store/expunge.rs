//! Deleting what a message said, or what was answered to an attempt, and keeping that they were.
//!
//! The record is replaced in its slice by one without the content. sled writes what is new behind
//! what is old and reuses a stretch of its file later: the deleted bytes cannot be read through the
//! store any more, and stay in the file until it is rewritten there or the slice goes. In the journal
//! they stay until the file of their segment is written over.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::engine::{Changes, Engine};
use super::layout::{self, MessageMeta, RecordError};
use super::queue::{Command, Expunged};
use super::{Catalog, Inner, Store};
use crate::clock::Timestamp;
use crate::domain::attempt::Attempt;
use crate::domain::id::{ApplicationId, AttemptId, MessageId};
use crate::error::{Error, Result};

const NO_MESSAGE: Error = Error::not_found("message");
const NO_ATTEMPT: Error = Error::not_found("attempt");

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

    /// The slice, which may be an old one, is opened and read here: the committer, whom all changes
    /// wait for, only writes. Nothing else changes these records, and two that expunge one make the same
    /// of it.
    async fn expunge(&self, what: Expunged) -> Result<()> {
        let find = move |inner: &Inner| match what {
            Expunged::Payload(application, message) => payload(inner, application, message),
            Expunged::Answer(message, attempt) => answer(inner, message, attempt),
        };
        let content = self.read(find).await?;
        let (sender, answer) = oneshot::channel();
        self.offer(Command::Expunge {
            what,
            content,
            answer: sender,
        })?;
        self.answered(answer).await
    }
}

/// Where content is that is to be deleted.
pub struct Content {
    number: u32,
    slice: Arc<Engine>,
    /// What deletes it there; nothing where that was done before.
    changes: Changes,
}

impl Content {
    fn at(inner: &Inner, time: Timestamp) -> Result<Option<Content>, RecordError> {
        let Some(number) = inner.slices.at(time) else {
            return Ok(None);
        };
        let slice = inner.slice(number)?;
        Ok(slice.map(|slice| Content {
            number,
            slice,
            changes: Changes::default(),
        }))
    }

    /// The changes that delete it; nothing where the slice was dropped meanwhile, and the content with
    /// it. On the committer's thread.
    pub(super) fn into_changes(self, inner: &Inner) -> Option<OfSlice> {
        inner.slices.contains(self.number).then_some(OfSlice {
            number: self.number,
            engine: self.slice,
            changes: self.changes,
        })
    }
}

/// Changes of an older slice than the one that is written on, or of the same.
pub struct OfSlice {
    pub number: u32,
    pub engine: Arc<Engine>,
    pub changes: Changes,
}

/// The lanes that may have a copy of the message in memory.
pub fn lanes(catalog: &Catalog, application: ApplicationId) -> impl Iterator<Item = u64> + use<> {
    let entry = catalog.application_by_id(application);
    let endpoints = entry.iter().flat_map(|entry| &entry.endpoints);
    let lanes: Vec<u64> = endpoints.map(|endpoint| endpoint.number).collect();
    lanes.into_iter()
}

fn payload(inner: &Inner, application: ApplicationId, message: MessageId) -> Result<Content> {
    let mut content = Content::at(inner, message.time())?.ok_or(NO_MESSAGE)?;
    let Content { slice, changes, .. } = &mut content;
    let key = layout::message_key(application, message);
    let record = layout::get::<MessageMeta>(slice, &key)?.ok_or(NO_MESSAGE)?;
    let mut meta = record.meta;
    if !meta.expunged {
        meta.expunged = true;
        meta.is_raw = false;
        layout::replace_with(slice, changes, &key, &meta, b"{}")?;
    }
    Ok(content)
}

fn answer(inner: &Inner, message: MessageId, attempt: AttemptId) -> Result<Content> {
    let mut content = Content::at(inner, attempt.time())?.ok_or(NO_ATTEMPT)?;
    let Content { slice, changes, .. } = &mut content;
    let place = layout::attempt_of_message_key(message, attempt);
    let place = layout::get::<layout::AttemptPlace>(slice, &place)?.ok_or(NO_ATTEMPT)?;
    let key = layout::attempt_key(place.meta.lane, attempt);
    let record = layout::get::<Attempt>(slice, &key)?.ok_or(NO_ATTEMPT)?;
    let mut record = record.meta;
    if let Some(answer) = &mut record.answer {
        answer.body = EXPUNGED.to_vec();
        answer.headers = Vec::new();
        answer.truncated = false;
        layout::replace(slice, changes, &key, &record)?;
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::clock::Clock;
    use crate::store::layout::golden::rows::{self, LANE};
    use crate::store::tests::{message_to, opened_with, register};

    #[actix_web::test]
    async fn an_old_slice_is_opened_while_the_committer_is_busy_with_something_else() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp(1_700_000_000_000));
        let store = opened_with(&directory.path().join("data"), clock.clone());
        register(&store).await;
        let old = store.accept_message(message_to(vec![LANE])).await.unwrap();
        clock.advance_to(clock.now() + store.inner.settings.slice_age + Duration::from_secs(1));
        store.accept_message(message_to(vec![LANE])).await.unwrap();
        let is_open = || store.inner.slices.is_open(1);
        let deadline = Instant::now() + Duration::from_secs(20);
        // What noted its keys may still hold it.
        while is_open() {
            assert!(Instant::now() < deadline, "it is not closed");
            store.inner.slices.close_unused(0, Duration::ZERO);
        }
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (began, begins) = oneshot::channel();
        let decide = Box::new(move |_: Result<(&Catalog, _)>| {
            let _ = began.send(());
            let _ = wait.recv();
            None
        });
        store.offer(Command::Change { decide }).unwrap();
        begins.await.unwrap();
        let (expunging, id) = (store.clone(), old.id);
        let expunged =
            actix_web::rt::spawn(
                async move { expunging.expunge_payload(rows::APPLICATION, id).await },
            );
        while !is_open() {
            assert!(Instant::now() < deadline, "it waits for the committer");
            tokio::task::yield_now().await;
        }
        go.send(()).unwrap();
        expunged.await.unwrap().unwrap();
        let old = store.message(rows::APPLICATION, id).unwrap().unwrap();
        assert!(old.expunged && &old.payload[..] == b"{}");
        store.close().unwrap();
    }

    #[actix_web::test]
    async fn what_went_with_its_slice_is_not_found_and_breaks_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp(1_700_000_000_000));
        let store = opened_with(&directory.path().join("data"), clock.clone());
        register(&store).await;
        let old = store.accept_message(message_to(Vec::new())).await.unwrap();
        clock.advance_to(clock.now() + store.inner.settings.slice_age + Duration::from_secs(1));
        store.accept_message(message_to(Vec::new())).await.unwrap();
        let content = payload(&store.inner, rows::APPLICATION, old.id).unwrap();
        store.inner.slices.remove(1).unwrap();
        let (answer, answered) = oneshot::channel();
        let what = Expunged::Payload(rows::APPLICATION, old.id);
        let command = Command::Expunge {
            what,
            content,
            answer,
        };
        store.offer(command).unwrap();
        let answered = answered.await.unwrap();
        assert!(matches!(answered, Err(Error::NotFound(_))), "{answered:?}");
        assert_eq!(store.health(), Ok(()));
        store.close().unwrap();
    }
}
