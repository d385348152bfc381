//! Applications that were deleted: the content of their messages and attempts is erased in the background.
//!
//! The commit that deletes an application leaves a to-do in the live database ([`Erasure`]), and from then on
//! nothing is logged with content for it. A thread goes through the slices that there were, and erases in
//! commits of a bounded size, each of which writes down how far it has come; so a start goes on there. The
//! applications take turns, one commit a turn, and the thread rests longer than it works: neither a large
//! one nor many hold up others.
//!
//! In each slice come the messages of the application, then the attempts of its messages. The attempts of
//! all applications stand there in the order of their messages, as do the messages of this one, in all
//! slices; so the walk leaps from each attempt that is another's to the application's next message, and to
//! the first attempt of that.
//!
//! A record that cannot be read is left out and counted. While there are such, the to-do stays and is begun
//! again after a while, at the latest until retention has taken the slice.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::content::{Content, Finder, Numbered};
use crate::clock::Timestamp;
use crate::domain::id::{ApplicationId, MessageId};
use crate::error::{Error, Result};
use crate::lock::locked;
use crate::store::engine::Engine;
use crate::store::keeper::LOOK_EVERY;
use crate::store::layout::{self, Erasure, RecordError};
use crate::store::queue::{Command, ExpungeAnswer, Expunged};
use crate::store::slice::{AttemptFound, FoundItem, Slice};
use crate::store::{Inner, Store};
use crate::watched;

/// For each commit, a rest so many times as long.
const REST: u32 = 3;
/// How many keys a commit looks at; few in tests.
const LOOKED_AT_MAX: usize = if cfg!(test) { 20 } else { 10_000 };
/// How long after one that left something out an erasure begins again.
const AGAIN_AFTER: Duration = Duration::from_secs(3600);
/// How long after a commit that failed it is tried again.
const FAILED_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// The deleted applications that still have content, each with the time from which on it is to be erased.
#[derive(Default)]
pub struct Erasures {
    due: Mutex<BTreeMap<ApplicationId, Timestamp>>,
}

impl Erasures {
    pub fn of(live: &Engine) -> Result<Erasures, RecordError> {
        let mut due = BTreeMap::new();
        for item in live.prefix(&[layout::ERASURE]) {
            due.insert(layout::application_of_erasure(&item?.0)?, Timestamp(0));
        }
        let due = Mutex::new(due);
        Ok(Erasures { due })
    }

    fn due(&self, now: Timestamp) -> Vec<ApplicationId> {
        let due = locked(self.due.lock());
        let due = due.iter().filter(|(_, at)| **at <= now);
        due.map(|(application, _)| *application).collect()
    }

    fn later(&self, application: ApplicationId, at: Timestamp) {
        locked(self.due.lock()).insert(application, at);
    }

    fn count(&self) -> usize {
        locked(self.due.lock()).len()
    }
}

/// Erases what falls due, until the store is closed.
pub fn run(inner: &Inner) {
    inner.show_erasures();
    while !inner.sleep(LOOK_EVERY) {
        erase_due(inner);
    }
}

/// Erases what is due, one commit of each application in turn. One that fails comes again later, and holds up
/// no other.
fn erase_due(inner: &Inner) {
    loop {
        let due = inner.erasures.due(inner.clock.now());
        if due.is_empty() {
            return;
        }
        for application in due {
            let began = Instant::now();
            let erased = watched::contained(|| inner.erase_some(application));
            let failed = erased.unwrap_or(Err(Error::Defect)).err();
            if inner.sleep(began.elapsed() * REST) {
                return;
            }
            if let Some(error) = failed {
                let error = format!(
                    "the deleted application {application} is not erased yet, and will be: {error}"
                );
                log::warn!("{error}");
                watched::note_error(error);
                inner
                    .erasures
                    .later(application, inner.clock.now() + FAILED_AGAIN_AFTER);
            }
        }
    }
}

impl Store {
    /// How many deleted applications still have content.
    pub fn erasures(&self) -> usize {
        self.inner.erasures.count()
    }
}

impl Inner {
    /// An application was deleted, durably.
    pub(in crate::store) fn erasure_begins(&self, application: ApplicationId) {
        self.erasures.later(application, Timestamp(0));
        self.show_erasures();
    }

    fn show_erasures(&self) {
        let count = self.erasures.count();
        self.metrics.erasures.set(count as i64);
    }

    /// Erases as much of an application as one commit does.
    fn erase_some(&self, application: ApplicationId) -> Result<()> {
        let key = layout::erasure_key(application);
        let Some(record) = layout::get::<Erasure>(&self.live, &key)? else {
            self.erasure_is_over(application);
            return Ok(());
        };
        let mut walk = Walk::new(self, application, record.meta);
        let is_over = walk.run();
        let Walk {
            erasure,
            finder,
            unreadable,
            ..
        } = walk;
        let next = match is_over {
            false => Some(erasure.clone()),
            true if erasure.left_out > 0 => Some(Erasure::new(erasure.deleted_at, erasure.until)),
            true => None,
        };
        if let Some(error) = unreadable {
            watched::note_error(error);
        }
        self.commit_erased(application, next, finder.found())?;
        match (is_over, erasure.left_out) {
            (false, _) => {}
            (true, 0) => {
                log::info!("the content of the deleted application {application} is erased");
                self.erasure_is_over(application);
            }
            (true, left_out) => {
                log::error!(
                    "{left_out} records of the deleted application {application} or of its slices could \
                     not be read, and so not be erased: see the last error of store-eraser in the status. \
                     It is tried again in an hour, until retention takes them"
                );
                let again_at = self.clock.now() + AGAIN_AFTER;
                self.erasures.later(application, again_at);
            }
        }
        Ok(())
    }

    fn commit_erased(
        &self,
        application: ApplicationId,
        next: Option<Erasure>,
        content: Content,
    ) -> Result<ExpungeAnswer> {
        let what = Expunged::Application(application, next);
        self.run(|answer| Command::Expunge {
            what,
            content,
            answer,
        })
    }

    fn erasure_is_over(&self, application: ApplicationId) {
        locked(self.erasures.due.lock()).remove(&application);
        self.show_erasures();
    }
}

/// A way through the slices, which ends where there is enough for one commit.
pub(super) struct Walk<'a> {
    inner: &'a Inner,
    application: ApplicationId,
    pub(super) erasure: Erasure,
    pub(super) finder: Finder,
    looked_at: usize,
    /// A message that is known to be the application's: it may have many attempts.
    its: Option<MessageId>,
    /// Why something was left out, if it was.
    unreadable: Option<String>,
}

/// Whose attempt it is.
enum Whose {
    Its,
    /// Another's, and the application's next message is this, if there is one.
    Others(Option<MessageId>),
    /// Another's, or of nobody knows whom; where the application's next message is cannot be told.
    Unknown,
}

impl<'a> Walk<'a> {
    pub(super) fn new(inner: &'a Inner, application: ApplicationId, erasure: Erasure) -> Walk<'a> {
        Walk {
            inner,
            application,
            erasure,
            finder: Finder::new(inner.slices.reader()),
            looked_at: 0,
            its: None,
            unreadable: None,
        }
    }

    /// True where it came to the end.
    pub(super) fn run(&mut self) -> bool {
        let slices = self.inner.slices.list().into_iter();
        let numbers: Vec<u32> = slices.map(|(number, _)| number).collect();
        let within = self.erasure.slice..=self.erasure.until;
        for number in numbers.into_iter().filter(|one| within.contains(one)) {
            if number > self.erasure.slice {
                self.erasure.slice = number;
                self.erasure.from.clear();
            }
            match self.slice(number) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(error) => self.leave_out(number, &error),
            }
        }
        true
    }

    /// False where there is enough for one commit before the end of the slice.
    fn slice(&mut self, number: u32) -> Result<bool, RecordError> {
        match self.inner.slice(number)? {
            Some(slice) => {
                if self.erasure.from.is_empty() {
                    let gaps = slice.gaps().iter();
                    gaps.for_each(|gap| self.leave_out(number, gap));
                }
                let slice = (number, &*slice);
                Ok(self.messages(slice)? && self.attempts(slice)?)
            }
            None => Ok(true),
        }
    }

    fn messages(&mut self, slice: Numbered<'_>) -> Result<bool, RecordError> {
        let prefix = layout::messages_prefix(self.application);
        let end = layout::end_of(&prefix);
        let from = self.erasure.from.clone().max(prefix);
        if from >= end {
            return Ok(true);
        }
        let (number, messages) = slice;
        for item in messages.readable(Bound::Included(from), Bound::Excluded(end.clone())) {
            if self.is_enough() {
                return Ok(false);
            }
            self.looked_at += 1;
            let (key, found) = item?;
            if let Err(error) = self.finder.payload(slice, &key, &found) {
                self.leave_out(number, &error);
            }
            self.erasure.from = layout::behind_record(&key);
        }
        self.erasure.from = end;
        Ok(true)
    }

    fn attempts(&mut self, slice: Numbered<'_>) -> Result<bool, RecordError> {
        let first = vec![layout::ATTEMPT_OF_MESSAGE];
        let end = layout::end_of(&first);
        self.erasure.from = self.erasure.from.clone().max(first);
        // Each time from the application's next message on.
        loop {
            let from = Bound::Included(self.erasure.from.clone());
            let attempts = slice.1.readable(from, Bound::Excluded(end.clone()));
            let mut next = None;
            for item in attempts {
                if self.is_enough() {
                    return Ok(false);
                }
                self.looked_at += 1;
                let (key, found) = item?;
                match self.whose(slice, &key, &found) {
                    Whose::Its => self.attempt(slice, &key, &found),
                    Whose::Unknown => {}
                    Whose::Others(message) => {
                        next = message;
                        break;
                    }
                }
                self.erasure.from = layout::behind_record(&key);
            }
            match next {
                Some(next) => self.erasure.from = layout::attempts_of_message_prefix(next),
                None => return Ok(true),
            }
        }
    }

    fn attempt(&mut self, slice: Numbered<'_>, key: &[u8], found: &FoundItem) {
        let taken = AttemptFound::of(key, found);
        let taken = taken.and_then(|found| self.finder.attempt(slice, &found, true));
        if let Err(error) = taken {
            self.leave_out(slice.0, &error);
        }
    }

    fn whose(&mut self, (number, slice): Numbered<'_>, key: &[u8], found: &FoundItem) -> Whose {
        let Some(message) = layout::message_of_attempt(key) else {
            return Whose::Unknown;
        };
        if self.its == Some(message) {
            return Whose::Its;
        }
        let is_its = match self.next_message(message) {
            Some(Some(next)) if next == message => true,
            Some(next) => return Whose::Others(next),
            // Nothing but the attempt itself tells.
            None => match self.says_it_is_its(slice, key, found) {
                Ok(is_its) => is_its,
                Err(error) => {
                    self.leave_out(number, &error);
                    false
                }
            },
        };
        match is_its {
            true => {
                self.its = Some(message);
                Whose::Its
            }
            false => Whose::Unknown,
        }
    }

    fn says_it_is_its(
        &self,
        slice: &Slice,
        key: &[u8],
        found: &FoundItem,
    ) -> Result<bool, RecordError> {
        let found = AttemptFound::of(key, found)?;
        let attempt = slice.attempt_without_content(&found)?;
        Ok(attempt.is_some_and(|attempt| attempt.application == self.application))
    }

    /// The application's first message from this one on, or none. Where a later slice cannot be read, the
    /// first that it may have. None where it cannot be told: the message's own slice cannot be read or was
    /// dropped, or one behind it was, of whose messages attempts may be left.
    fn next_message(&mut self, from: MessageId) -> Option<Option<MessageId>> {
        let first = self.inner.slices.at(from.time())?;
        let slices = self.inner.slices.list().into_iter();
        let within = first..=self.erasure.until;
        let slices = slices.filter(|(number, _)| within.contains(number));
        for (expected, (number, record)) in (first..).zip(slices) {
            self.looked_at += 1;
            if number != expected {
                return None;
            }
            match self.first_in(number, from) {
                Ok(None) if self.inner.slices.contains(number) => {}
                Ok(None) => return None,
                Ok(found) => return Some(found),
                Err(_) if number == first => return None,
                Err(_) => return Some(Some(MessageId::first_at(record.first))),
            }
        }
        Some(None)
    }

    fn first_in(&self, number: u32, from: MessageId) -> Result<Option<MessageId>, RecordError> {
        let Some(slice) = self.inner.slice(number)? else {
            return Ok(None);
        };
        let end = layout::end_of(&layout::messages_prefix(self.application));
        let from = Bound::Included(layout::message_key(self.application, from));
        let first = slice.range(from, Bound::Excluded(end)).next().transpose()?;
        Ok(first.map(|(key, _)| MessageId(layout::last_id(&key))))
    }

    fn leave_out(&mut self, slice: u32, error: &impl ToString) {
        // What was dropped is gone.
        if self.inner.slices.contains(slice) {
            self.erasure.left_out += 1;
            self.unreadable.get_or_insert_with(|| error.to_string());
        }
    }

    fn is_enough(&self) -> bool {
        self.finder.is_full() || self.looked_at >= LOOKED_AT_MAX
    }
}
