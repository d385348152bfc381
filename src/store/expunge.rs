//! Erasing what a message said, or what was answered to an attempt, and keeping that they were.
//!
//! In the journal the bytes are overwritten where they stand, before the caller is answered. With a
//! message's payload goes what was made of it: the URLs, headers and answers of its attempts. In a
//! database of history, from before that was in the journal, the record is replaced by one without the
//! content: sled writes what is new behind what is old, so the erased bytes cannot be read through the
//! store any more, and stay in its file until it is rewritten there or the slice goes.
//!
//! The payload comes first, and from its commit on attempts are logged without content; so the attempts
//! that are found after it are all that have any, however many commits their erasing takes. A crash in
//! between leaves some of them as they were, and the caller without an answer.
//!
//! | file | holds |
//! |---|---|
//! | `content` | the content that one commit erases |
//! | `applications` | applications that were deleted, whose messages and attempts are erased in the background |

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::layout::{self, RecordError};
use super::queue::{Command, ExpungeAnswer, Expunged};
use super::{Inner, LOOK_AGAIN_MAX, Store, unavailable};
use crate::catalog::Catalog;
use crate::domain::id::{ApplicationId, AttemptId, MessageId};
use crate::error::{Error, Result};
use content::Finder;

mod applications;
mod content;

pub use applications::{Erasures, run};
pub use content::{Content, OfDatabase};

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
        let find = move |inner: &Inner| payload(inner, application, message);
        self.expunge(find).await?;
        let mut behind = None;
        let mut unreadable = None;
        loop {
            let find = move |inner: &Inner| attempts(inner, message, behind);
            let found = self.read(find).await?;
            if !found.content.is_empty() {
                let commit = self.commit_expunged(Expunged::Attempts, found.content);
                commit.await?;
            }
            unreadable = unreadable.or(found.unreadable);
            behind = found.reached;
            if behind.is_none() {
                return unreadable.map_or(Ok(()), Err);
            }
        }
    }

    /// Erases the body and the headers of what was answered to an attempt.
    pub async fn expunge_answer(
        &self,
        application: ApplicationId,
        message: MessageId,
        attempt: AttemptId,
    ) -> Result<()> {
        let mut with_request = false;
        for _ in 0..LOOK_AGAIN_MAX {
            let of = (application, message, attempt);
            let find = move |inner: &Inner| answer(inner, of, with_request);
            match self.expunge(find).await? {
                ExpungeAnswer::Done => return Ok(()),
                ExpungeAnswer::WithRequest => with_request = true,
            }
        }
        Err(unavailable("the message is being erased"))
    }

    /// Slices, which may be old ones, are opened and read here: the committer, whom all changes wait
    /// for, only writes.
    async fn expunge(
        &self,
        find: impl FnOnce(&Inner) -> Result<(Expunged, Content)> + Send + 'static,
    ) -> Result<ExpungeAnswer> {
        let (what, content) = self.read(find).await?;
        self.commit_expunged(what, content).await
    }

    async fn commit_expunged(&self, what: Expunged, content: Content) -> Result<ExpungeAnswer> {
        let (sender, answer) = oneshot::channel();
        self.offer(Command::Expunge {
            what,
            content,
            answer: sender,
        })?;
        self.answered(answer).await
    }
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

fn payload(
    inner: &Inner,
    application: ApplicationId,
    message: MessageId,
) -> Result<(Expunged, Content)> {
    let number = inner.slices.at(message.time()).ok_or(NO_MESSAGE)?;
    let slice = inner.slice(number)?.ok_or(NO_MESSAGE)?;
    let key = layout::message_key(application, message);
    let found = slice.get(&key)?.ok_or(NO_MESSAGE)?;
    let mut finder = Finder::new(inner.slices.reader());
    let taken = finder.payload((number, &slice), &key, &found);
    taken.map_err(|error| inner.unless_dropped(number, error, NO_MESSAGE))?;
    let what = Expunged::Payload {
        slice: number,
        application,
        message,
    };
    Ok((what, finder.found()))
}

/// How far through the attempts of a message an erasure has come: the slice, and the last of them in it.
type Reached = (u32, AttemptId);

/// The attempts of a message that one commit erases.
struct Attempts {
    content: Content,
    /// How far they reach; nothing where they are the last.
    reached: Option<Reached>,
    /// Why others cannot be read, if there may be any.
    unreadable: Option<Error>,
}

/// The attempts of a message behind those that earlier commits have erased. Damage keeps none from being erased
/// that can be read.
fn attempts(inner: &Inner, message: MessageId, behind: Option<Reached>) -> Result<Attempts> {
    let mut finder = Finder::new(inner.slices.reader());
    let mut reached = behind;
    let mut is_more = false;
    let mut unreadable = None;
    'slices: for number in inner.slices.with_attempts_of(message) {
        let behind = match behind {
            Some((slice, _)) if number < slice => continue,
            Some((slice, last)) if number == slice => Some(last),
            _ => None,
        };
        let slice = match inner.slice(number) {
            Ok(Some(slice)) => slice,
            Ok(None) => continue,
            Err(error) if error.passes() => return Err(error.into()),
            Err(error) => {
                unreadable.get_or_insert(error);
                continue;
            }
        };
        for found in slice.readable_attempts_of_message(message, behind) {
            if finder.is_full() {
                is_more = true;
                break 'slices;
            }
            let found = found?;
            match finder.attempt((number, &slice), &found, true) {
                // It was dropped meanwhile.
                Err(_) if !inner.slices.contains(number) => break,
                taken => taken?,
            }
            reached = Some((number, found.id));
        }
        if let Some(gap) = slice.gap_in_attempts_of(message) {
            unreadable.get_or_insert_with(|| RecordError::Gap(gap.clone()));
        }
    }
    Ok(Attempts {
        content: finder.found(),
        reached: reached.filter(|_| is_more),
        unreadable: unreadable.map(Error::from),
    })
}

fn answer(
    inner: &Inner,
    (application, message, attempt): (ApplicationId, MessageId, AttemptId),
    with_request: bool,
) -> Result<(Expunged, Content)> {
    let number = inner.slices.at(attempt.time()).ok_or(NO_ATTEMPT)?;
    let slice = inner.slice(number)?.ok_or(NO_ATTEMPT)?;
    let found = slice.attempt_by_id(message, attempt)?.ok_or(NO_ATTEMPT)?;
    let mut finder = Finder::new(inner.slices.reader());
    let taken = finder.attempt((number, &slice), &found, with_request);
    taken.map_err(|error| inner.unless_dropped(number, error, NO_ATTEMPT))?;
    let what = Expunged::Answer {
        slice: number,
        application,
        message,
        with_request,
    };
    Ok((what, finder.found()))
}

impl Inner {
    /// What cannot be read because its slice was dropped is not there.
    fn unless_dropped(&self, slice: u32, error: RecordError, gone: Error) -> Error {
        match self.slices.contains(slice) {
            true => error.into(),
            false => gone,
        }
    }
}

#[cfg(test)]
mod tests;
