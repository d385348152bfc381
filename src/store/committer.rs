//! The one writer: takes changes from a bounded queue, makes each batch durable, then answers.
//!
//! A batch forms while the disk works on the one before it, so the cost of a sync is shared by all
//! who wait. Within a batch history goes to its slice first and is synced, then the live database:
//! its commit is the moment at which the batch has happened. A process that dies in between leaves
//! records in a slice whose commit number the live database never reached; they were never
//! answered, and the next start declares those numbers dead.
//!
//! What must be unique is decided here, where nothing races. Outcomes of attempts have a queue of
//! their own that is never full: the lanes bound it. The first storage error is final: everything
//! that waits and everything that comes is answered with it, and the server ends the process.

mod accepting;
mod operational;
mod queueing;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::catalog::Change;
use super::counters::{self, Place};
use super::engine::{Changes, Engine, EngineError};
use super::layout::{self, LaneHour, Meta, OnceAnswer, OnceRecord, SliceRecord};
use super::queue::{Command, Notify, ResendAnswer, Sender};
use super::slices;
use super::{Answered, Event, EventKeys, Fault, Finished, Inner, KeyHash, Once};
use crate::clock::Timestamp;
use crate::domain::attempt::{Attempt, Trigger, Verdict};
use crate::domain::id::{AttemptId, ID_TIME_STEP_MS, MessageId, OrganisationId};
use crate::domain::message::{Delivery, DeliveryKey, Message};
use crate::domain::organisation::Organisation;
use crate::error::{Error, Result};

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
    slice: Changes,
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
    pub fn new(inner: Arc<Inner>, meta: Meta) -> Result<Committer, EngineError> {
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
        Ok(Committer {
            inner,
            meta,
            waiting,
            slice,
            in_step: (0, 0),
        })
    }

    /// Runs until the queue is closed and empty, then marks the store as cleanly closed.
    pub fn run(mut self) {
        let mut pending: VecDeque<Command> = VecDeque::new();
        loop {
            if pending.is_empty() {
                pending = self.inner.queue.take();
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
        if let Err(error) = self.keep_all_counters().and_then(|()| {
            self.meta.clean = true;
            self.commit(Batch::default())
        }) {
            let reason = format!("the last commit failed: {error}");
            self.inner.fail(Fault::Storage(reason));
        }
    }

    /// Stages commands until the batch is full or must end, and commits it.
    fn commit_some(&mut self, pending: &mut VecDeque<Command>) -> Result<(), layout::RecordError> {
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

    fn keep_all_counters(&mut self) -> Result<(), layout::RecordError> {
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
            Command::Record { finished } => {
                self.stage_record(batch, *finished)?;
                Ok(if batch.changes.is_empty() {
                    Staged::More
                } else {
                    Staged::Enough
                })
            }
            Command::Change { decide } => {
                let decided = decide(&self.inner.catalog());
                if let Some((changes, notify)) = decided {
                    self.stage_changes(batch, &changes)?;
                    self.tell_of_changes(batch, &changes);
                    batch.changes.extend(changes);
                    batch.answers.push(Answer::Notify(notify));
                }
                Ok(Staged::Enough)
            }
            Command::ChangeOnce {
                once,
                from_slice,
                decide,
                answer,
            } => {
                match self.remembered(&once, from_slice)? {
                    Some(remembered) => {
                        let answered = remembered.and_then(super::Remembered::into_answered);
                        drop(answer.send(answered));
                    }
                    None => {
                        let decided = super::decided(decide, &self.inner.catalog());
                        match decided {
                            Err(error) => drop(answer.send(Err(error))),
                            Ok((changes, answered)) => {
                                self.stage_changes(batch, &changes)?;
                                self.tell_of_changes(batch, &changes);
                                batch.changes.extend(changes);
                                self.remember(
                                    batch,
                                    &once,
                                    OnceAnswer::Answered(answered.status),
                                    &answered.body,
                                );
                                batch.answers.push(Answer::Answered(answer, answered));
                            }
                        }
                    }
                }
                Ok(Staged::Enough)
            }
            Command::Resend { resend, answer } => self.stage_resend(batch, resend, answer),
            Command::Replay { step, answer } => self.stage_replay(batch, step, answer),
            Command::Cancel { deliveries, answer } => {
                for key in deliveries {
                    if self.take_out(batch, &key)?.is_some() {
                        batch.events.push(Event::Gone(key));
                    }
                }
                batch.answers.push(Answer::Done(answer));
                Ok(Staged::More)
            }
            Command::Expunge {
                what,
                content,
                answer,
            } => self.stage_expunge(batch, what, content, answer),
            Command::KeepCounters => Ok(Staged::More),
            Command::DropSlice { number, answer } => {
                let waiting = self.waiting.get(&number).copied().unwrap_or_default();
                let change = batch.waiting.get(&number).copied().unwrap_or_default();
                if waiting.saturating_add_signed(change) > 0 {
                    let reason = "a delivery of the slice was put back into the queue just now";
                    drop(answer.send(Err(Error::Conflict(reason.to_owned()))));
                    return Ok(Staged::More);
                }
                batch.live.delete(&layout::slice_key(number));
                batch.answers.push(Answer::Done(answer));
                Ok(Staged::Enough)
            }
        }
    }

    fn stage_record(
        &mut self,
        batch: &mut Batch,
        finished: Finished,
    ) -> Result<(), layout::RecordError> {
        let Finished {
            delivery,
            endpoint,
            number,
            outcome,
            verdict,
            test,
            event_id,
        } = finished;
        let now = self.tick();
        let id = AttemptId::in_order(now, self.next_in_step(now), rand::random());
        let message = delivery.key.message;
        let attempt = Attempt {
            id,
            application: endpoint.application,
            message,
            endpoint: endpoint.id,
            number,
            trigger: delivery.trigger,
            started_at: outcome.started_at,
            timings: outcome.timings,
            url: outcome.url,
            method: outcome.method.name().to_owned(),
            request_headers: outcome.request_headers,
            answer: outcome.answer,
            failure: outcome.failure,
            sent_again: outcome.sent_again,
            verdict,
            test,
        };
        let lane = delivery.key.lane;
        layout::put(
            &mut batch.slice,
            &layout::attempt_key(lane, id),
            &attempt,
            &[],
        );
        let place = layout::AttemptPlace { lane };
        layout::put(
            &mut batch.slice,
            &layout::attempt_of_message_key(message, id),
            &place,
            &[],
        );
        batch.attempts += 1;
        let hour = (lane, counters::hour_of(now));
        let counts = batch.counted.entry(hour).or_default();
        counts.count(&attempt, delivery.key.due);
        if let Some(watcher) = self.inner.watchers.take(message) {
            let recorded = Answer::Recorded(watcher, Box::new(attempt.clone()));
            batch.answers.push(recorded);
        }
        // It may have been moved or cancelled while it was being sent; then only the log is left.
        let waited = self.take_out(batch, &delivery.key)?.is_some();
        batch.events.push(Event::Recorded(delivery.key));
        let due = match verdict {
            Verdict::Delivered | Verdict::GiveUp => None,
            Verdict::RetryAt(due) => Some(due),
            Verdict::DisableEndpoint => Some(attempt.started_at),
        };
        if let Some(due) = due.filter(|_| waited) {
            let again = Delivery {
                key: DeliveryKey {
                    due,
                    ..delivery.key
                },
                attempts: number,
                trigger: Trigger::Scheduled,
            };
            self.put_back(batch, again, None)?;
        }
        if waited {
            self.tell_of_attempt(batch, lane, &attempt, event_id.as_deref());
        }
        if verdict == Verdict::DisableEndpoint {
            let current = self.inner.catalog().endpoint_by_number(lane).cloned();
            if let Some(current) = current.filter(|current| !current.disabled) {
                let mut disabled = (*current).clone();
                disabled.disabled = true;
                disabled.updated_at = self.meta.last_time;
                self.tell_of_gone(batch, &disabled, &attempt);
                let changes = [Change::PutEndpoint(disabled)];
                self.stage_changes(batch, &changes)?;
                batch.changes.extend(changes);
            }
        }
        Ok(())
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

    fn stage_changes(&self, batch: &mut Batch, changes: &[Change]) -> Result<(), EngineError> {
        self.stage_new_organisations(batch, changes);
        for change in changes {
            match change {
                Change::PutEndpoint(one) => {
                    batch.endpoint_number = batch.endpoint_number.max(one.number);
                }
                Change::DeleteApplication(id) => {
                    let entry = self.inner.catalog().application_by_id(*id).cloned();
                    for endpoint in entry.iter().flat_map(|entry| &entry.endpoints) {
                        self.delete(batch, &layout::endpoint_key(*id, endpoint.id))?;
                    }
                }
                _ => {}
            }
            let (key, record) = layout::registration(change);
            self.delete(batch, &key)?;
            if let Some(record) = record {
                layout::put_encoded(&mut batch.live, &key, record);
                batch.registrations += 1;
            }
        }
        Ok(())
    }

    /// A signed token may speak for an organisation that nobody has heard of: it comes into being
    /// with what is first registered in it.
    fn stage_new_organisations(&self, batch: &mut Batch, changes: &[Change]) {
        let new: BTreeSet<OrganisationId> = {
            let catalog = self.inner.catalog();
            let owners = changes.iter().filter_map(Change::owner);
            owners
                .filter(|owner| catalog.organisation(*owner).is_none())
                .collect()
        };
        for id in new {
            let organisation = Organisation {
                id,
                name: id.to_string(),
                created_at: self.inner.clock.now(),
            };
            layout::put(
                &mut batch.live,
                &layout::organisation_key(id),
                &organisation,
                &[],
            );
            batch.registrations += 1;
            batch.changes.push(Change::PutOrganisation(organisation));
        }
    }

    fn delete(&self, batch: &mut Batch, key: &[u8]) -> Result<(), EngineError> {
        if layout::delete(&self.inner.live, &mut batch.live, key)? {
            batch.registrations -= 1;
        }
        Ok(())
    }

    fn remember(&self, batch: &mut Batch, once: &Once, answer: OnceAnswer, body: &[u8]) {
        let record = OnceRecord {
            commit: self.meta.commit + 1,
            // The last time may be long ago: only what has an id of its time moves it.
            at: self.inner.clock.now().max(self.meta.last_time),
            request: once.body,
            answer,
        };
        let key = layout::once_key(&once.key);
        layout::put(&mut batch.slice, &key, &record, body);
        batch.unique.insert(key);
    }

    /// What an idempotency key was answered with, or that it came with another request then.
    fn remembered(
        &self,
        once: &Once,
        from_slice: u32,
    ) -> Result<Option<Result<super::Remembered>>, layout::RecordError> {
        let hash = [KeyHash::of(&layout::once_key(&once.key))];
        for number in from_slice..=self.slice.number {
            let seen = self.inner.slice_with(number, &hash).and_then(|slice| {
                let seen = slice.map(|slice| self.inner.once_in(&slice, once));
                Ok(seen.transpose()?.flatten())
            });
            match seen {
                Ok(None) => {}
                Ok(Some(seen)) => return Ok(Some(seen)),
                Err(error) => return self.not_told(number, error).map(|error| Some(Err(error))),
            }
        }
        Ok(None)
    }

    /// Why a message with this event id is not accepted, if it is not.
    fn event_id_taken(
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
                .slice_with(number, &event.hashes)
                .and_then(|slice| {
                    let taken = slice.map(|slice| self.inner.event_id_taken_in(&slice, event));
                    Ok(taken.transpose()?.unwrap_or(false))
                });
            match taken {
                Ok(false) => {}
                Ok(true) => return conflict(),
                Err(error) => return self.not_told(number, error).map(Some),
            }
        }
        Ok(None)
    }

    /// An older slice that cannot be read is no failure of the store, only of what asked for it.
    fn not_told(
        &self,
        slice: u32,
        error: layout::RecordError,
    ) -> Result<Error, layout::RecordError> {
        match slice == self.slice.number {
            true => Err(error),
            false => Ok(error.into()),
        }
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
        log::info!("history goes on in slice {number}");
        self.slice = CurrentSlice {
            number,
            record,
            engine,
        };
        Ok(())
    }

    fn commit(&mut self, mut batch: Batch) -> Result<(), layout::RecordError> {
        let started = Instant::now();
        self.inner.commit_began();
        self.meta.commit += 1;
        if !batch.slice.is_empty() {
            let meta = &mut self.meta.slice;
            meta.commit = self.meta.commit;
            meta.messages += batch.messages;
            meta.attempts += batch.attempts;
            meta.bytes += batch.slice.bytes() as u64;
            let key = [layout::META];
            batch.slice.put(&key, layout::encode(&key, &*meta, &[]));
            if !batch.counters.is_empty() {
                self.inner.counters.write_begins();
            }
            self.slice.engine.commit(batch.slice)?;
            if !batch.counters.is_empty() {
                let now = self.inner.clock.now();
                self.inner.counters.write_ended(&batch.counters, now);
            }
        }
        for (slice, change) in batch.waiting {
            let count = self.waiting.entry(slice).or_default();
            *count = count.saturating_add_signed(change);
        }
        self.waiting.retain(|_, count| *count > 0);
        self.meta.waiting = self
            .waiting
            .iter()
            .map(|(slice, count)| (*slice, *count))
            .collect();
        self.meta.registrations = self
            .meta
            .registrations
            .saturating_add_signed(batch.registrations);
        self.meta.last_endpoint_number = self.meta.last_endpoint_number.max(batch.endpoint_number);
        layout::replace(
            &self.inner.live,
            &mut batch.live,
            &[layout::META],
            &self.meta,
        )?;
        let settled = self
            .inner
            .settled
            .write()
            .expect("no panic while it is held");
        let recount = self.inner.recount.commit();
        self.inner.live.commit(batch.live)?;
        self.inner.committed(&self.meta);
        recount.done(&self.inner, &batch.put, &batch.taken);
        drop(settled);
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
        Ok(())
    }
}

pub fn other_request() -> Error {
    Error::Conflict("this idempotency key was used for another request".to_owned())
}
