//! Erasing what a message said, or what was answered to an attempt, and keeping that they were.
//!
//! In the journal the bytes are overwritten where they stand, before the caller is answered. With a
//! message's payload goes what was made of it: the URLs, headers and answers of its attempts. In a
//! database of history, from before that was in the journal, the record is replaced by one without the
//! content: sled writes what is new behind what is old, so the erased bytes cannot be read through the
//! store any more, and stay in its file until it is rewritten there or the slice goes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::deliveries::LogEnd;
use super::engine::{Changes, Engine};
use super::index::Place;
use super::layout::{self, AnswerContent, MessageMeta, RequestContent};
use super::queue::{Command, ExpungeAnswer, Expunged};
use super::slice::{AttemptFound, Found, Slice};
use super::{Inner, LOOK_AGAIN_MAX, Store, unavailable};
use crate::catalog::Catalog;
use crate::domain::attempt::Attempt;
use crate::domain::id::{ApplicationId, AttemptId, MessageId};
use crate::error::{Error, Result};
use crate::journal::PartPlace;

const NO_MESSAGE: Error = Error::not_found("message");
const NO_ATTEMPT: Error = Error::not_found("attempt");

impl Store {
    /// Erases a message's payload and what was made of it, and what waits of it will not be sent any
    /// more. An attempt that is under way goes on, and is logged without its content.
    pub async fn expunge_payload(
        &self,
        application: ApplicationId,
        message: MessageId,
    ) -> Result<()> {
        self.expunge(Expunged::Payload(application, message)).await
    }

    /// Erases the body and the headers of what was answered to an attempt.
    pub async fn expunge_answer(&self, message: MessageId, attempt: AttemptId) -> Result<()> {
        self.expunge(Expunged::Answer(message, attempt)).await
    }

    /// Slices, which may be old ones, are opened and read here: the committer, whom all changes wait
    /// for, only writes.
    async fn expunge(&self, what: Expunged) -> Result<()> {
        for _ in 0..LOOK_AGAIN_MAX {
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
            match self.answered(answer).await? {
                ExpungeAnswer::Done => return Ok(()),
                ExpungeAnswer::Moved => {}
            }
        }
        Err(unavailable("the message is being attempted all the time"))
    }
}

/// Where content stands that is to be erased.
pub struct Content {
    /// The slice that has it; where it goes, the content is gone.
    pub number: u32,
    pub parts: Vec<PartPlace>,
    pub databases: Vec<OfDatabase>,
    /// How far the message's log went before it was looked through.
    pub log_end: LogEnd,
}

/// Changes of a database of history.
pub struct OfDatabase {
    pub number: u32,
    pub engine: Arc<Engine>,
    pub changes: Changes,
}

/// Messages that were erased lately: attempts for them may be under way.
#[derive(Default)]
pub struct Lately {
    erased: HashMap<MessageId, Instant>,
}

impl Lately {
    pub fn has(&self, message: MessageId) -> bool {
        self.erased.contains_key(&message)
    }

    /// Notes one, and forgets those that are older than an attempt may take.
    pub fn note(&mut self, message: MessageId, longest: Duration) {
        self.erased.retain(|_, at| at.elapsed() <= longest);
        self.erased.insert(message, Instant::now());
    }
}

/// The lanes that may have a copy of the message in memory.
pub fn lanes(catalog: &Catalog, application: ApplicationId) -> impl Iterator<Item = u64> + use<> {
    let entry = catalog.application_by_id(application);
    let endpoints = entry.iter().flat_map(|entry| &entry.endpoints);
    let lanes: Vec<u64> = endpoints.map(|endpoint| endpoint.number).collect();
    lanes.into_iter()
}

impl Content {
    fn new(number: u32, log_end: LogEnd) -> Content {
        Content {
            number,
            parts: Vec::new(),
            databases: Vec::new(),
            log_end,
        }
    }

    /// Erases a part behind the record at a place.
    fn erase(&mut self, slice: &Slice, record: Place, behind: u16) {
        let part = record.part + behind;
        self.parts.extend(slice.part(Place { part, ..record }));
    }

    /// Changes an attempt in a database.
    fn change(
        &mut self,
        number: u32,
        engine: &Arc<Engine>,
        change: impl FnOnce(&Engine, &mut Changes) -> Result<()>,
    ) -> Result<()> {
        let mut changes = Changes::default();
        change(engine, &mut changes)?;
        let engine = engine.clone();
        self.databases.push(OfDatabase {
            number,
            engine,
            changes,
        });
        Ok(())
    }

    fn checked(self, inner: &Inner) -> Result<Content> {
        // Where a part cannot be found, the caller is told, and not the committer.
        match inner.slices.reader().can_erase(&self.parts) {
            Err(_) if !inner.slices.contains(self.number) => Err(NO_MESSAGE),
            found => {
                found.map_err(layout::RecordError::from)?;
                Ok(self)
            }
        }
    }
}

fn payload(inner: &Inner, application: ApplicationId, message: MessageId) -> Result<Content> {
    let log_end = inner.log_end(message)?;
    let number = inner.slices.at(message.time()).ok_or(NO_MESSAGE)?;
    let slice = inner.slice(number)?.ok_or(NO_MESSAGE)?;
    let key = layout::message_key(application, message);
    let mut content = Content::new(number, log_end);
    match (slice.get(&key)?.ok_or(NO_MESSAGE)?, &*slice) {
        (Found::Place(record), _) => content.erase(&slice, record, 1),
        (Found::Value(_), Slice::Database(engine)) => {
            content.change(number, engine, |engine, changes| {
                expunge_message(engine, changes, &key)
            })?;
        }
        _ => return Err(NO_MESSAGE),
    }
    for number in inner.numbers_since(message.time()) {
        let Some(slice) = inner.slice(number)? else {
            continue;
        };
        for found in slice.attempts_of_message(message, None) {
            let found = found?;
            content.erase_attempt(number, &slice, &found, true)?;
        }
    }
    content.checked(inner)
}

fn expunge_message(engine: &Engine, changes: &mut Changes, key: &[u8]) -> Result<()> {
    let record = layout::get::<MessageMeta>(engine, key)?.ok_or(NO_MESSAGE)?;
    let mut meta = record.meta;
    meta.expunged = true;
    meta.is_raw = false;
    layout::replace_with(engine, changes, key, &meta, b"{}")?;
    Ok(())
}

fn answer(inner: &Inner, message: MessageId, attempt: AttemptId) -> Result<Content> {
    let log_end = inner.log_end(message)?;
    let number = inner.slices.at(attempt.time()).ok_or(NO_ATTEMPT)?;
    let slice = inner.slice(number)?.ok_or(NO_ATTEMPT)?;
    let found = slice.attempt_by_id(message, attempt)?.ok_or(NO_ATTEMPT)?;
    let mut content = Content::new(number, log_end);
    content.erase_attempt(number, &slice, &found, false)?;
    content.checked(inner)
}

impl Content {
    /// Erases what was answered to an attempt, and what was sent where that is wanted, too.
    fn erase_attempt(
        &mut self,
        number: u32,
        slice: &Slice,
        found: &AttemptFound,
        with_request: bool,
    ) -> Result<()> {
        match (slice, &found.found) {
            (Slice::Database(engine), _) => {
                let key = layout::attempt_key(found.lane, found.id);
                self.change(number, engine, |engine, changes| {
                    expunge_attempt(engine, changes, &key, with_request)
                })
            }
            (Slice::Journal(_), Found::Place(record)) => {
                if with_request {
                    self.erase(slice, *record, 1);
                }
                self.erase(slice, *record, 2);
                Ok(())
            }
            _ => unreachable!("what was found is of this slice"),
        }
    }
}

fn expunge_attempt(
    engine: &Engine,
    changes: &mut Changes,
    key: &[u8],
    with_request: bool,
) -> Result<()> {
    let Some(record) = layout::get::<Attempt>(engine, key)? else {
        return Ok(());
    };
    let mut attempt = record.meta;
    let (request, _) = layout::take_content(&mut attempt);
    let request = match with_request {
        true => RequestContent::erased(),
        false => request,
    };
    layout::put_content(&mut attempt, request, AnswerContent::erased());
    if let Some(answer) = &mut attempt.answer {
        answer.truncated = false;
    }
    layout::replace(engine, changes, key, &attempt)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::clock::{Clock, Timestamp};
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
