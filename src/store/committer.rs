//! The one writer: takes changes from a bounded queue, makes each batch durable, then answers.
//!
//! A batch forms while the disk works on the one before it, so the cost of a sync is shared by all
//! who wait. All that a batch changes is one record of the journal, and its append is the moment at which
//! the batch has happened. Then the databases follow, history before the queue that points into it,
//! without a sync of their own: see `checkpoint`.
//!
//! What must be unique is decided here, where nothing races. Outcomes of attempts have a queue of
//! their own that is never full: the lanes bound it. The first storage error is final: everything
//! that waits and everything that comes is answered with it, and the server ends the process.

mod accepting;
mod changing;
mod operational;
mod queueing;
mod recording;
mod unique;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::oneshot;

use super::catalog::Change;
use super::checkpoint::{Ends, Since};
use super::counters::Place;
use super::engine::{Changes, Engine, EngineError};
use super::expunge::OfSlice;
use super::layout::{self, LaneHour, Meta, SliceRecord};
use super::queue::{Command, Notify, ResendAnswer, Sender};
use super::slices;
use super::{Answered, Event, Fault, Inner, effects, replay};
use crate::clock::Timestamp;
use crate::domain::attempt::Attempt;
use crate::domain::id::{ID_TIME_STEP_MS, MessageId};
use crate::domain::message::{DeliveryKey, Message};
use crate::error::{Error, Result};
use crate::journal::{Journal, JournalError, RecordDraft};
use crate::watched;

/// A batch ends when it has this many commands or bytes: enough to share a sync widely, little
/// enough that the first in it does not wait long.
const BATCH_COMMANDS_MAX: usize = 1000;
const BATCH_BYTES_MAX: usize = 4 << 20;
/// And when it has this many puts and deletes: for each, sled keeps an outdated copy of a tree node
/// in memory until the whole batch is applied.
const BATCH_CHANGES_MAX: usize = 4096;

/// The committer's own state; it lives on the committer's thread.
pub struct Committer {
    inner: Arc<Inner>,
    journal: Journal,
    /// The content of the record that is being appended; kept for its memory.
    effects: Vec<u8>,
    since: Since,
    /// The position before which segments of the journal were removed.
    removed_to: u64,
    /// Slices that were dropped: what comes for one of them later is too late.
    dropped: HashSet<u32>,
    meta: Meta,
    /// Deliveries that wait, by the slice of their message.
    waiting: BTreeMap<u32, u64>,
    slice: CurrentSlice,
    /// The step of time of the newest id, and how many ids it has beside it.
    in_step: (u64, u32),
}

struct CurrentSlice {
    number: u32,
    record: SliceRecord,
    engine: Arc<Engine>,
}

/// One step from the state on disk to the next.
#[derive(Default)]
struct Batch {
    live: Changes,
    /// Of the newest slice …
    slice: Changes,
    /// … and of others, made after those.
    of_slices: Vec<OfSlice>,
    commands: usize,
    changes: Vec<Change>,
    events: Vec<Event>,
    answers: Vec<Answer>,
    /// Keys that this batch makes unique and the store does not show yet.
    unique: HashSet<Vec<u8>>,
    /// Deliveries that this batch puts into the queue …
    put: HashSet<DeliveryKey>,
    /// … and those that it takes out.
    taken: HashSet<DeliveryKey>,
    /// How this batch changes the number of waiting deliveries.
    waiting: HashMap<u32, i64>,
    messages: u64,
    attempts: u64,
    /// Operational events that there was no room for.
    untold: u64,
    /// What its attempts add to the statistics …
    counted: HashMap<Place, LaneHour>,
    /// … and which counters of earlier batches it takes along to the disk.
    counters: Vec<Place>,
    /// How this batch changes the number of registrations.
    registrations: i64,
    /// The highest endpoint number in this batch.
    endpoint_number: u64,
}

impl Batch {
    fn bytes(&self) -> usize {
        self.live.bytes() + self.slice.bytes()
    }

    /// Whether it puts a delivery of this message into the lane, or takes one out.
    fn touches(&self, lane: u64, message: MessageId) -> bool {
        let mut touched = self.put.iter().chain(&self.taken);
        touched.any(|key| key.message == message && key.lane == lane)
    }

    /// How many puts and deletes it has.
    fn changes_count(&self) -> usize {
        self.live.count() + self.slice.count()
    }
}

enum Answer {
    Accepted(Sender<Arc<Message>>, Arc<Message>),
    Answered(Sender<Answered>, Answered),
    Done(Sender<()>),
    Resent(Sender<ResendAnswer>),
    Notify(Notify),
    Recorded(oneshot::Sender<Attempt>, Box<Attempt>),
}

impl Answer {
    fn give(self, result: Result<()>) {
        // A caller that has gone away needs no answer.
        match self {
            Answer::Accepted(sender, message) => drop(sender.send(result.map(|()| message))),
            Answer::Answered(sender, answered) => drop(sender.send(result.map(|()| answered))),
            Answer::Done(sender) => drop(sender.send(result)),
            Answer::Resent(sender) => drop(sender.send(result.map(|()| ResendAnswer::Done))),
            Answer::Notify(notify) => notify(result),
            Answer::Recorded(watcher, attempt) => {
                if result.is_ok() {
                    drop(watcher.send(*attempt));
                }
            }
        }
    }
}

enum Staged {
    More,
    /// The batch must be committed before anything else is looked at.
    Enough,
    /// This command depends on what the batch holds: commit, then look again.
    Later(Box<Command>),
}

impl Committer {
    pub fn new(inner: Arc<Inner>, meta: Meta, journal: Journal) -> Result<Committer, EngineError> {
        let (number, record) = inner
            .slices
            .newest()
            .expect("a store has a slice from its start");
        let engine = inner.slices.get(number)?;
        let waiting = meta.waiting.iter().copied().collect();
        let slice = CurrentSlice {
            number,
            record,
            engine,
        };
        let removed_to = journal.tip().position - 1;
        Ok(Committer {
            inner,
            journal,
            effects: Vec::new(),
            since: Since::default(),
            removed_to,
            dropped: HashSet::new(),
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
            if let Err(error) = self.commit_some(&mut pending) {
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
        self.keep_all_counters()?;
        // Before a record says that the databases have it all, they do.
        let now_at = replay::checkpoint_at(&self.journal);
        if !self.inner.checkpoint_now(&mut self.since, now_at) {
            return Ok(());
        }
        self.meta.clean = true;
        self.meta.format = layout::FORMAT_AT_REST;
        self.commit(Batch::default())?;
        let now_at = replay::checkpoint_at(&self.journal);
        if self.inner.checkpoint_now(&mut self.since, now_at) {
            self.remove_segments()?;
        }
        Ok(())
    }

    /// Lets those segments go that the databases and the checkpoint file have all of, on disk.
    fn remove_segments(&mut self) -> Result<(), JournalError> {
        let done = self.inner.checkpoints.removable();
        if done > self.removed_to {
            self.journal.remove_segments(done, |_| true)?;
            self.removed_to = done;
        }
        Ok(())
    }

    /// Stages commands until the batch is full or must end, and commits it.
    fn commit_some(&mut self, pending: &mut VecDeque<Command>) -> Result<(), CommitError> {
        let mut batch = Batch::default();
        self.roll_slice(&mut batch)?;
        if self.inner.counters.is_due(self.inner.clock.now()) {
            self.stage_counters(&mut batch)?;
        }
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

    fn stage_counters(&mut self, batch: &mut Batch) -> Result<(), layout::RecordError> {
        let counters = &self.inner.counters;
        batch.counters = counters.stage(&self.slice.engine, &mut batch.slice)?;
        Ok(())
    }

    fn keep_all_counters(&mut self) -> Result<(), CommitError> {
        while !self.inner.counters.is_empty() {
            let mut batch = Batch::default();
            self.stage_counters(&mut batch)?;
            self.commit(batch)?;
        }
        Ok(())
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
            Command::Expunge {
                what,
                content,
                answer,
            } => self.stage_expunge(batch, what, content, answer),
            Command::KeepCounters => Ok(Staged::More),
            Command::DropSlice { number, answer } => Ok(self.stage_drop(batch, number, answer)),
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
    fn roll_slice(&mut self, batch: &mut Batch) -> Result<(), EngineError> {
        let settings = &self.inner.settings;
        let age = self.inner.clock.now().since(self.slice.record.first);
        let is_full = self.meta.slice.bytes >= settings.slice_bytes;
        if self.meta.slice.bytes == 0 || (!is_full && age < settings.slice_age) {
            return Ok(());
        }
        self.tick();
        let inner = &self.inner;
        // Before anybody can know of the new slice and open it.
        inner.discard_slice_files(self.slice.number + 1)?;
        let (number, record) =
            slices::begin(&inner.live, &inner.slices, &mut self.meta, &mut batch.live)?;
        let engine = inner.slices.get(number)?;
        self.since.has_old_slices = true;
        log::info!("history goes on in slice {number}");
        self.slice = CurrentSlice {
            number,
            record,
            engine,
        };
        Ok(())
    }

    /// Makes a batch durable, which is the moment at which it has happened. Then the databases and memory
    /// follow, and those who wait are answered.
    fn commit(&mut self, mut batch: Batch) -> Result<(), CommitError> {
        let started = Instant::now();
        self.inner.commit_began();
        self.meta.commit += 1;
        self.stage_meta(&mut batch)?;
        self.append(&batch)?;
        self.inner.commit.store(self.meta.commit, Ordering::Release);
        self.apply_history(&mut batch)?;
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

    /// Counts in the records of the store and of the newest slice what the batch brings.
    fn stage_meta(&mut self, batch: &mut Batch) -> Result<(), EngineError> {
        self.count_in_meta(batch);
        if !batch.slice.is_empty() {
            let meta = &mut self.meta.slice;
            meta.commit = self.meta.commit;
            meta.messages += batch.messages;
            meta.attempts += batch.attempts;
            meta.bytes += batch.slice.bytes() as u64;
            let key = [layout::META];
            batch.slice.put(&key, layout::encode(&key, &*meta, &[]));
        }
        let key = [layout::META];
        layout::replace(&self.inner.live, &mut batch.live, &key, &self.meta)?;
        Ok(())
    }

    fn append(&mut self, batch: &Batch) -> Result<(), JournalError> {
        let newest = Some((self.slice.number, &batch.slice));
        let newest = newest.filter(|(_, changes)| !changes.is_empty());
        let others = batch.of_slices.iter();
        let others = others.map(|one| (one.number, &one.changes));
        let history = Vec::from_iter(newest.into_iter().chain(others));
        effects::encode(history.into_iter(), &batch.live, &mut self.effects);
        let draft = RecordDraft {
            time_ms: self.inner.clock.now().0,
            effects: &self.effects,
            ..RecordDraft::default()
        };
        let appended = self.journal.append(&draft, &[])?;
        self.effects.clear();
        self.effects.shrink_to(2 * BATCH_BYTES_MAX);
        self.since.journal_bytes += appended.bytes;
        Ok(())
    }

    /// Makes the durable changes of history in its slices.
    fn apply_history(&mut self, batch: &mut Batch) -> Result<(), EngineError> {
        if !batch.slice.is_empty() {
            if !batch.counters.is_empty() {
                self.inner.counters.write_begins();
            }
            self.slice.engine.apply(std::mem::take(&mut batch.slice))?;
            self.since.wrote_to(self.slice.number, &self.slice.engine);
            if !batch.counters.is_empty() {
                let now = self.inner.clock.now();
                self.inner.counters.write_ended(&batch.counters, now);
            }
        }
        for one in batch.of_slices.drain(..) {
            self.since.wrote_to(one.number, &one.engine);
            self.since.has_old_slices = true;
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
        let now = self.inner.clock.now();
        self.inner.counters.add(batch.counted, now);
        let metrics = &self.inner.metrics;
        metrics.accepted.inc_by(batch.messages);
        if batch.commands > 0 {
            metrics.commit_batch_size.observe(batch.commands as f64);
            metrics
                .commit_seconds
                .observe(started.elapsed().as_secs_f64());
        }
        self.inner.apply(batch.changes);
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

/// Why a commit failed.
#[derive(Debug, thiserror::Error)]
enum CommitError {
    #[error(transparent)]
    Record(#[from] layout::RecordError),
    #[error("the journal: {0}")]
    Journal(#[from] JournalError),
}

impl From<EngineError> for CommitError {
    fn from(error: EngineError) -> CommitError {
        layout::RecordError::from(error).into()
    }
}

pub fn other_request() -> Error {
    Error::Conflict("this idempotency key was used for another request".to_owned())
}
