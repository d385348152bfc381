//! A batch: what a commit changes, and the answers that are given once it has happened.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::catalog::Change;
use crate::domain::attempt::Attempt;
use crate::domain::disabled::DisabledReason;
use crate::domain::health::Health;
use crate::domain::id::MessageId;
use crate::domain::message::{DeliveryKey, Message};
use crate::domain::payload::PayloadBytes;
use crate::error::Result;
use crate::journal::PartPlace;
use crate::store::effects::{Entry, LaneAndHour};
use crate::store::engine::Changes;
use crate::store::expunge::OfDatabase;
use crate::store::layout::LaneHour;
use crate::store::queue::{Command, ExpungeAnswer, Notify, ResendAnswer, Sender};
use crate::store::{Answered, BatchAnswer, Event};

/// A part of the record that is made.
pub enum PartBytes {
    Record(Vec<u8>),
    Payload(PayloadBytes),
}

impl PartBytes {
    pub fn bytes(&self) -> &[u8] {
        match self {
            PartBytes::Record(bytes) => bytes,
            PartBytes::Payload(bytes) => bytes,
        }
    }
}

/// The entries that a batch adds to the newest slice, with their parts.
#[derive(Default)]
pub struct History {
    pub entries: Vec<Entry>,
    /// Those of the entries, in their order.
    pub parts: Vec<PartBytes>,
    pub bytes: usize,
}

impl History {
    pub fn add(&mut self, keys: Vec<Vec<u8>>, parts: impl IntoIterator<Item = PartBytes>) {
        let before = self.parts.len();
        self.parts.extend(parts);
        let added = &self.parts[before..];
        self.bytes += added.iter().map(|part| part.bytes().len()).sum::<usize>();
        self.bytes += keys.iter().map(Vec::len).sum::<usize>();
        let parts = added.len() as u32;
        self.entries.push(Entry { keys, parts });
    }
}

/// One step from the state on disk to the next.
#[derive(Default)]
pub struct Batch {
    pub live: Changes,
    /// Entries of the newest slice …
    pub history: History,
    /// … changes of databases of older ones, …
    pub of_databases: Vec<OfDatabase>,
    /// … and parts of earlier records that are erased.
    pub erased: Vec<PartPlace>,
    pub commands: usize,
    pub changes: Vec<Change>,
    pub events: Vec<Event>,
    pub answers: Vec<Answer>,
    /// Keys that this batch makes unique and the store does not show yet.
    pub unique: HashSet<Vec<u8>>,
    /// Deliveries that this batch puts into the queue …
    pub put: HashSet<DeliveryKey>,
    /// … and those that it takes out.
    pub taken: HashSet<DeliveryKey>,
    /// How this batch changes the number of waiting deliveries.
    pub waiting: HashMap<u32, i64>,
    pub messages: u64,
    pub attempts: u64,
    /// Operational events that there was no room for.
    pub untold: u64,
    /// The counts that its attempts add to the statistics.
    pub counted: HashMap<LaneAndHour, LaneHour>,
    /// How this batch changes the number of registrations.
    pub registrations: i64,
    /// The health of endpoints that this batch changes; nothing where it is well and forgotten.
    pub healths: HashMap<u64, Option<Health>>,
    /// Why its attempts disable endpoints, one for each of them.
    pub disabled: Vec<DisabledReason>,
    /// The highest endpoint number in this batch.
    pub endpoint_number: u64,
}

impl Batch {
    pub fn bytes(&self) -> usize {
        self.live.bytes() + self.history.bytes
    }

    /// Whether it puts a delivery of this message into the lane, or takes one out.
    pub fn touches(&self, lane: u64, message: MessageId) -> bool {
        let mut touched = self.put.iter().chain(&self.taken);
        touched.any(|key| key.message == message && key.lane == lane)
    }

    /// How many puts and deletes it has, and entries of history.
    pub fn changes_count(&self) -> usize {
        self.live.count() + self.history.entries.len() + self.healths.len()
    }
}

pub enum Answer {
    Accepted(Sender<Arc<Message>>, Arc<Message>),
    Answered(Sender<Answered>, Answered),
    Batch(Sender<BatchAnswer>, Answered),
    Done(Sender<()>),
    Resent(Sender<ResendAnswer>),
    Canceled(Sender<usize>, usize),
    Expunged(Sender<ExpungeAnswer>),
    Notify(Notify),
    Recorded(oneshot::Sender<Attempt>, Box<Attempt>),
}

impl Answer {
    pub fn give(self, result: Result<()>) {
        // A caller that has gone away needs no answer.
        match self {
            Answer::Accepted(sender, message) => drop(sender.send(result.map(|()| message))),
            Answer::Answered(sender, answered) => drop(sender.send(result.map(|()| answered))),
            Answer::Batch(sender, answered) => {
                drop(sender.send(result.map(|()| BatchAnswer::Accepted(answered))));
            }
            Answer::Done(sender) => drop(sender.send(result)),
            Answer::Resent(sender) => drop(sender.send(result.map(|()| ResendAnswer::Done))),
            Answer::Canceled(sender, count) => drop(sender.send(result.map(|()| count))),
            Answer::Expunged(sender) => drop(sender.send(result.map(|()| ExpungeAnswer::Done))),
            Answer::Notify(notify) => notify(result),
            Answer::Recorded(watcher, attempt) => {
                if result.is_ok() {
                    drop(watcher.send(*attempt));
                }
            }
        }
    }
}

pub enum Staged {
    More,
    /// The batch must be committed before anything else is looked at.
    Enough,
    /// This command depends on what the batch holds: commit, then look again.
    Later(Box<Command>),
}
