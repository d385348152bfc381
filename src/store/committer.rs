//! The one writer: takes changes from a bounded queue, makes each batch durable, then answers.
//!
//! A batch forms while the disk works on the one before it, so the cost of a sync is shared by all
//! who wait. All that a batch changes is one record of the journal, and its append is the moment at which
//! the batch has happened. Then the index of history and the live database follow, in memory: see
//! `checkpoint`.
//!
//! Uniqueness is decided here, where nothing races. Outcomes of attempts have a queue of
//! their own that is never full: the lanes bound it. The first storage error is final: everything
//! that waits and everything that comes is answered with it, and the server ends the process.

mod accepting;
mod batch;
mod cancel;
mod changing;
mod erasing;
mod health;
mod operational;
mod queueing;
mod recording;
mod room;
mod unique;

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::checkpoint::{Ends, Since};
use super::effects::{self};
use super::engine::EngineError;
use super::expunge::Lately;
use super::index::OpenIndex;
use super::layout::{self, Meta, RecordError, SliceRecord};
use super::queue::{Command, Sender};
use super::slice::{self, Slice};
use super::slices::{self, Stretches};
use super::{Event, Fault, Inner, replay};
use crate::clock::Timestamp;
use crate::domain::id::{ID_TIME_STEP_MS, MessageId};
use crate::error::{Error, Result};
use crate::journal::{Journal, JournalError, PartPlace, RecordDraft};
use crate::watched;
use batch::{Answer, Batch, History, PartBytes, Staged};

/// A batch ends when it has this many commands or bytes: enough to share a sync widely, little
/// enough that the first in it does not wait long.
const BATCH_COMMANDS_MAX: usize = 1000;
const BATCH_BYTES_MAX: usize = 4 << 20;
/// And when it has this many puts and deletes, and entries of history.
const BATCH_CHANGES_MAX: usize = 4096;
/// A slice is full with this many keys: until it is sealed, its index is in memory, 53 bytes each.
const SLICE_KEYS_MAX: usize = 600_000;
/// And when it has begun so many segments: a place in it counts them in two bytes.
const SLICE_SEGMENTS_MAX: u64 = 60_000;
/// How many segments of the journal are removed between two commits.
const REMOVED_AT_A_TIME: usize = 16;

/// The committer's own state; it lives on the committer's thread.
pub struct Committer {
    inner: Arc<Inner>,
    journal: Journal,
    /// The content of the record that is being appended; kept for its memory.
    effects: Vec<u8>,
    since: Since,
    /// The checkpoint's position and the number of slices that were dropped when segments of the journal were
    /// removed last.
    removed_as_of: (u64, u64),
    /// Slices that were dropped: what comes for one of them later is too late.
    dropped: HashSet<u32>,
    erased: Lately,
    meta: Meta,
    /// Deliveries that wait, by the slice of their message.
    waiting: BTreeMap<u32, u64>,
    slice: CurrentSlice,
    /// The step of time of the newest id, and how many ids it has beside it.
    in_step: (u64, u32),
}

/// The slice that is written on.
struct CurrentSlice {
    number: u32,
    record: SliceRecord,
    /// The segment of the journal in which it begins.
    segment: u64,
    index: Arc<OpenIndex>,
    /// The same for readers.
    slice: Arc<Slice>,
}

impl Committer {
    /// `slice` is the newest one, to be written on.
    pub fn new(
        inner: Arc<Inner>,
        meta: Meta,
        journal: Journal,
        slice: (u32, SliceRecord),
    ) -> Result<Committer, RecordError> {
        let (number, record) = slice;
        let waiting = meta.waiting.iter().copied().collect();
        let slice = CurrentSlice::of(&inner, number, record)?;
        Ok(Committer {
            inner,
            journal,
            effects: Vec::new(),
            since: Since::default(),
            removed_as_of: (0, 0),
            dropped: HashSet::new(),
            erased: Lately::default(),
            meta,
            waiting,
            slice,
            in_step: (0, 0),
        })
    }

    /// Runs until the queue is closed and empty, then marks the store as cleanly closed.
    pub fn run(mut self) {
        let inner = self.inner.clone();
        let _ends = Ends(&inner.checkpoints);
        let mut pending: VecDeque<Command> = VecDeque::new();
        loop {
            if pending.is_empty() {
                pending = watched::idle_while(|| self.inner.queue.take());
                if pending.is_empty() {
                    break;
                }
            }
            let room = self.wait_for_room(&mut pending);
            let committed = room.and_then(|()| match pending.is_empty() {
                true => Ok(()),
                false => self.commit_some(&mut pending),
            });
            if let Err(error) = committed {
                self.inner.fail(Fault::Storage(format!("{error}")));
                let answer = || Error::storage(format!("{error}"));
                pending
                    .into_iter()
                    .for_each(|command| command.refuse(answer()));
                return;
            }
        }
        if let Err(error) = self.close() {
            let reason = format!("the last commit failed: {error}");
            self.inner.fail(Fault::Storage(reason));
        }
    }

    /// Marks the store as cleanly closed, and brings all of it into the databases.
    fn close(&mut self) -> Result<(), CommitError> {
        // Before a record says that the databases have it all, they do.
        let now_at = replay::checkpoint_at(&self.journal);
        if !self.inner.checkpoint_now(&mut self.since, now_at) {
            return Ok(());
        }
        self.meta.clean = true;
        self.commit(Batch::default())?;
        let now_at = replay::checkpoint_at(&self.journal);
        if self.inner.checkpoint_now(&mut self.since, now_at) {
            self.remove_segments()?;
        }
        Ok(())
    }

    /// Lets those segments go that no slice is in, and that the live database and the checkpoint file have
    /// all of, on disk.
    fn remove_segments(&mut self) -> Result<(), JournalError> {
        let done = self.inner.checkpoints.removable();
        let slices = self.inner.slices.removed_count();
        if (done, slices) != self.removed_as_of {
            // It syncs the directory, which may hang like a commit.
            self.inner.commit_began();
            let stretches = self.inner.slices.stretches();
            let removed = remove_segments(&mut self.journal, &stretches, done)?;
            self.inner.commit_ended();
            if removed < REMOVED_AT_A_TIME {
                self.removed_as_of = (done, slices);
            }
        }
        Ok(())
    }

    /// Stages commands until the batch is full or must end, and commits it.
    fn commit_some(&mut self, pending: &mut VecDeque<Command>) -> Result<(), CommitError> {
        // A new slice may begin with a new segment, and a disk that hangs is noticed there, too.
        self.inner.commit_began();
        let mut batch = Batch::default();
        self.roll_slice(&mut batch)?;
        while let Some(command) = pending.pop_front() {
            batch.commands += 1;
            match self.stage(&mut batch, command)? {
                Staged::More => {}
                Staged::Enough => break,
                Staged::Later(command) => {
                    pending.push_front(*command);
                    break;
                }
            }
            if batch.commands >= BATCH_COMMANDS_MAX
                || batch.bytes() >= BATCH_BYTES_MAX
                || batch.changes_count() >= BATCH_CHANGES_MAX
            {
                break;
            }
        }
        self.commit(batch)
    }

    /// The time for new ids: never before the newest slice's beginning, and never going back,
    /// whatever the clock does.
    fn tick(&mut self) -> Timestamp {
        let now = self.inner.clock.now();
        self.meta.last_time = now.max(self.meta.last_time).max(self.slice.record.first);
        self.meta.last_time
    }

    /// Counts the ids in one step of time, so that they sort in the order of their commits.
    fn next_in_step(&mut self, now: Timestamp) -> u32 {
        let step = now.0 / ID_TIME_STEP_MS;
        self.in_step = match self.in_step {
            (same, count) if same == step => (step, count + 1),
            _ => (step, 0),
        };
        self.in_step.1
    }

    fn stage(
        &mut self,
        batch: &mut Batch,
        command: Command,
    ) -> Result<Staged, layout::RecordError> {
        match command {
            Command::Accept {
                message,
                from_slice,
                watcher,
                answer,
            } => self.stage_accept(batch, message, from_slice, watcher, answer),
            Command::AcceptBatch {
                batch: new,
                from_slices,
                once_from_slice,
                answer,
            } => self.stage_batch(batch, new, from_slices, once_from_slice, answer),
            Command::Record { finished } => self.stage_record(batch, *finished),
            Command::Change { decide } => self.stage_change(batch, decide),
            Command::ChangeOnce {
                once,
                from_slice,
                decide,
                answer,
            } => self.stage_change_once(batch, once, from_slice, decide, answer),
            Command::Resend { resend, answer } => self.stage_resend(batch, resend, answer),
            Command::Replay { step, answer } => self.stage_replay(batch, step, answer),
            Command::Cancel { deliveries, answer } => self.stage_cancel(batch, deliveries, answer),
            Command::CancelHeld { cancel, answer } => self.stage_cancel_held(batch, cancel, answer),
            Command::Probe { lane, answer } => Ok(self.stage_probe(batch, lane, answer)),
            Command::Expunge {
                what,
                content,
                answer,
            } => self.stage_expunge(batch, what, content, answer),
            Command::DropSlice { number, answer } => Ok(self.stage_drop(batch, number, answer)),
            Command::Tell {
                lanes,
                mails,
                answer,
            } => Ok(self.stage_tell(batch, lanes, &mails, answer)),
            Command::Mailed { told, answer } => Ok(self.stage_mailed(batch, told, answer)),
        }
    }

    fn stage_drop(&mut self, batch: &mut Batch, number: u32, answer: Sender<()>) -> Staged {
        let waiting = self.waiting.get(&number).copied().unwrap_or_default();
        let change = batch.waiting.get(&number).copied().unwrap_or_default();
        if waiting.saturating_add_signed(change) > 0 {
            let reason = "a delivery of the slice was put back into the queue just now";
            drop(answer.send(Err(Error::Conflict(reason.to_owned()))));
            return Staged::More;
        }
        batch.live.delete(&layout::slice_key(number));
        self.dropped.insert(number);
        batch.answers.push(Answer::Done(answer));
        Staged::Enough
    }

    fn is_there(&self, lane: u64) -> bool {
        self.inner.catalog().endpoint_by_number(lane).is_some()
    }

    fn slice_of(&self, message: MessageId) -> u32 {
        let time = message.time();
        if time >= self.slice.record.first {
            return self.slice.number;
        }
        self.inner.slices.at(time).unwrap_or(self.slice.number)
    }

    /// Begins a new slice when the current one is old or full.
    fn roll_slice(&mut self, batch: &mut Batch) -> Result<(), RecordError> {
        let settings = &self.inner.settings;
        let age = self.inner.clock.now().since(self.slice.record.first);
        let (segment, _) = self.journal.next();
        let is_full = self.meta.slice.bytes >= settings.slice_bytes
            || self.slice.index.len() >= SLICE_KEYS_MAX
            || segment - self.slice.segment >= SLICE_SEGMENTS_MAX;
        if self.meta.slice.bytes == 0 || (!is_full && age < settings.slice_age) {
            return Ok(());
        }
        if !is_full {
            // By its age: retention takes it by itself, and what it leaves free of its last segment is
            // little against a whole one.
            match self.journal.begin_segment() {
                // Then the slice begins within the segment, and goes with it.
                Err(error) if error.passes() && !self.journal.has_failed() => {}
                begun => begun?,
            }
        }
        self.tick();
        let inner = &self.inner;
        // Before anybody can know of the new slice and open it.
        inner
            .discard_slice_files(self.slice.number + 1)
            .map_err(EngineError::from)?;
        let (number, record) = slices::begin(
            &inner.live,
            &inner.slices,
            &mut self.meta,
            &mut batch.live,
            self.journal.next(),
            Some(self.slice.attempts_since()),
        )?;
        log::info!("history goes on in slice {number}");
        self.slice = CurrentSlice::of(inner, number, record)?;
        Ok(())
    }

    /// Makes a batch durable, which is the moment at which it has happened. Then indexes, databases and
    /// memory follow, and those who wait are answered.
    fn commit(&mut self, mut batch: Batch) -> Result<(), CommitError> {
        let started = Instant::now();
        self.inner.commit_began();
        self.meta.commit += 1;
        self.stage_healths(&mut batch)?;
        self.stage_meta(&mut batch)?;
        let first_part = self.append(&batch)?;
        self.inner.commit.store(self.meta.commit, Ordering::Release);
        self.apply_history(&mut batch, first_part)?;
        let recount = self.inner.recount.commit();
        let live = std::mem::take(&mut batch.live);
        self.inner.live.apply(live, layout::is_never_put_twice);
        self.inner.committed(&self.meta);
        recount.done(&self.inner, &batch.put, &batch.taken);
        self.has_happened(batch, started);
        let now_at = replay::checkpoint_at(&self.journal);
        self.inner.checkpoint_if_due(&mut self.since, now_at);
        Ok(self.remove_segments()?)
    }

    /// Counts in the record of the store what the batch brings.
    fn stage_meta(&mut self, batch: &mut Batch) -> Result<(), EngineError> {
        self.count_in_meta(batch);
        if !batch.history.entries.is_empty() {
            let meta = &mut self.meta.slice;
            meta.commit = self.meta.commit;
            meta.messages += batch.messages;
            meta.attempts += batch.attempts;
            meta.bytes += batch.history.bytes as u64;
        }
        let key = [layout::META];
        layout::replace(&self.inner.live, &mut batch.live, &key, &self.meta)?;
        Ok(())
    }

    /// Answers where the record's first part stands.
    fn append(&mut self, batch: &Batch) -> Result<PartPlace, JournalError> {
        let databases = batch.of_databases.iter();
        let databases = databases.map(|one| (one.number, &one.changes));
        let counted = batch
            .counted
            .iter()
            .map(|(place, counts)| (*place, *counts));
        let History { entries, parts, .. } = &batch.history;
        effects::encode(databases, &batch.live, entries, counted, &mut self.effects);
        let parts: Vec<&[u8]> = parts.iter().map(PartBytes::bytes).collect();
        let draft = RecordDraft {
            time_ms: self.inner.clock.now().0,
            effects: &self.effects,
            parts: &parts,
            ..RecordDraft::default()
        };
        let appended = self.journal.append(&draft, &batch.erased)?;
        self.effects.clear();
        self.effects.shrink_to(2 * BATCH_BYTES_MAX);
        self.since.journal_bytes += appended.bytes;
        Ok(appended.place(0))
    }

    /// Shows what is durable of history to readers.
    fn apply_history(&mut self, batch: &mut Batch, first: PartPlace) -> Result<(), EngineError> {
        let entries = std::mem::take(&mut batch.history).entries;
        let places = slice::places(first, self.slice.segment, entries);
        let counted = batch
            .counted
            .iter()
            .map(|(place, counts)| (*place, *counts));
        self.slice.index.add(places, counted);
        for one in batch.of_databases.drain(..) {
            self.since.wrote_to(one.number, &one.engine);
            self.since.has_databases = true;
            match one.engine.apply(one.changes) {
                // It was dropped meanwhile.
                Err(_) if !self.inner.slices.contains(one.number) => {}
                applied => applied?,
            }
        }
        Ok(())
    }

    /// Counts what waits and what is registered.
    fn count_in_meta(&mut self, batch: &Batch) {
        for (slice, change) in &batch.waiting {
            let count = self.waiting.entry(*slice).or_default();
            *count = count.saturating_add_signed(*change);
        }
        self.waiting.retain(|_, count| *count > 0);
        let meta = &mut self.meta;
        let waiting = self.waiting.iter();
        meta.waiting = waiting.map(|(slice, count)| (*slice, *count)).collect();
        meta.registrations = meta
            .registrations
            .saturating_add_signed(batch.registrations);
        meta.last_endpoint_number = meta.last_endpoint_number.max(batch.endpoint_number);
    }

    /// Takes a batch that is durable into memory, tells of it and answers.
    fn has_happened(&self, batch: Batch, started: Instant) {
        if batch.untold > 0 {
            log::warn!(
                "{} operational events were dropped: too much waits, or too little disk is free",
                batch.untold
            );
        }
        self.inner.counters.add(&batch.counted);
        let metrics = &self.inner.metrics;
        metrics.accepted.inc_by(batch.messages);
        for reason in &batch.disabled {
            metrics.endpoint_disabled(*reason);
        }
        if batch.commands > 0 {
            metrics.commit_batch_size.observe(batch.commands as f64);
            metrics
                .commit_seconds
                .observe(started.elapsed().as_secs_f64());
        }
        self.inner.apply(batch.changes);
        // Before the outcomes that changed them: a lane that rests must not send once more meanwhile.
        let rested = self.inner.healths.apply(batch.healths);
        metrics.breakers_opened.inc_by(rested.opened);
        metrics.lanes_resting.inc_by(rested.resting);
        for lane in rested.lanes {
            self.inner.tell(Event::Health { lane });
        }
        batch
            .events
            .into_iter()
            .for_each(|event| self.inner.tell(event));
        batch
            .answers
            .into_iter()
            .for_each(|answer| answer.give(Ok(())));
    }
}

impl CurrentSlice {
    /// The oldest message that an attempt in it is for; the last of all ids where there is no attempt.
    fn attempts_since(&self) -> MessageId {
        let attempts = vec![layout::ATTEMPT_OF_MESSAGE];
        let end = Bound::Excluded(layout::end_of(&attempts));
        let first = self.index.range(Bound::Included(attempts), end).next();
        let message = first.and_then(|(key, _)| layout::message_of_attempt(&key));
        message.unwrap_or(MessageId([0xff; 20]))
    }

    fn of(inner: &Inner, number: u32, record: SliceRecord) -> Result<CurrentSlice, RecordError> {
        let slice = inner.slices.get(number)?;
        let Slice::Journal(in_journal) = &*slice else {
            unreachable!("what is written on is in the journal")
        };
        let index = in_journal.in_memory().expect("it is not sealed").clone();
        let stretch = record.stretch.expect("so is its record");
        Ok(CurrentSlice {
            number,
            record,
            segment: stretch.segment,
            index,
            slice,
        })
    }
}

/// Lets those segments go that the live database has all of, on disk, up to `applied`, and that are in
/// none of the stretches; a few at a time, since everybody waits meanwhile.
fn remove_segments(
    journal: &mut Journal,
    stretches: &Stretches,
    applied: u64,
) -> Result<usize, JournalError> {
    let left = Cell::new(REMOVED_AT_A_TIME);
    journal.remove_segments(applied, |segment, end| {
        let is_kept = stretches.reach_into(segment.begin.position..end);
        if is_kept || left.get() == 0 {
            return false;
        }
        left.set(left.get() - 1);
        true
    })
}

/// Why a commit failed.
#[derive(Debug, thiserror::Error)]
enum CommitError {
    #[error(transparent)]
    Record(#[from] layout::RecordError),
    #[error("the journal: {0}")]
    Journal(#[from] JournalError),
    #[error("nothing could be written any more: {0}")]
    NoRoom(String),
}

impl From<EngineError> for CommitError {
    fn from(error: EngineError) -> CommitError {
        layout::RecordError::from(error).into()
    }
}

pub fn other_request() -> Error {
    Error::Conflict("this idempotency key was used for another request".to_owned())
}
