//! The queue of the committer: commands, in the order they came.
//!
//! Callers' commands have bounded room and are refused beyond it. Outcomes of attempts have room of
//! their own that is never full: the lanes bound it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::oneshot;

use super::cancel::CancelHeld;
use super::expunge::Content;
use super::health::Mails;
use super::jobs::ReplayStep;
use super::layout::Erasure;
use super::watchers::Watcher;
use super::{Answered, BatchAnswer, Finished, NewBatch, NewMessage, Once, SendAgain};
use crate::catalog::{Catalog, Change};
use crate::clock::Timestamp;
use crate::domain::id::{ApplicationId, MessageId};
use crate::domain::message::{DeliveryKey, Message};
use crate::error::{Error, Result};
use crate::lock::locked;

/// A batch has at most this many commands of each kind: enough to share a sync widely, little
/// enough that the first in it does not wait long.
const TAKEN_MAX: usize = 1000;

/// Payload bytes that wait for the committer; beyond them publishing is refused for a moment.
const INTAKE_BYTES_MAX: usize = 64 << 20;

/// Outcomes of attempts that nobody's answer waits for are committed together with the next
/// change, or after this long, or when this many have come: at low rates that halves the syncs,
/// and a publisher does not find the disk busy with them.
const OUTCOMES_WAIT: Duration = Duration::from_millis(5);
const OUTCOMES_ENOUGH: usize = 64;

/// Where the answer to a command goes.
pub type Sender<T> = oneshot::Sender<Result<T>>;
/// Called once the change is durable, or will never be.
pub type Notify = Box<dyn FnOnce(Result<()>) + Send>;
/// Decides by the registrations at that time; an error in their place is its answer. Returns nothing where
/// the decision was an error, which it has then delivered itself.
pub type Decide =
    Box<dyn FnOnce(Result<(&Catalog, Timestamp)>) -> Option<(Vec<Change>, Notify)> + Send>;
pub type DecideOnce =
    Box<dyn FnOnce(&Catalog, Timestamp) -> Result<(Vec<Change>, Answered)> + Send>;

#[allow(
    clippy::large_enum_variant,
    reason = "a message is the usual command, and a box would be an allocation for each"
)]
pub enum Command {
    /// `from_slice`: slices before it were searched for the message's unique keys already.
    Accept {
        message: NewMessage,
        from_slice: u32,
        /// Who waits for its first attempt.
        watcher: Option<Arc<Watcher>>,
        answer: Sender<Arc<Message>>,
    },
    /// `from_slices`: the same for each message's event id, and for the batch's own key.
    AcceptBatch {
        batch: Box<NewBatch>,
        from_slices: Vec<u32>,
        once_from_slice: u32,
        answer: Sender<BatchAnswer>,
    },
    Change {
        decide: Decide,
    },
    ChangeOnce {
        once: Once,
        from_slice: u32,
        decide: DecideOnce,
        answer: Sender<Answered>,
    },
    Resend {
        resend: Resend,
        answer: Sender<ResendAnswer>,
    },
    Replay {
        step: ReplayStep,
        answer: Sender<()>,
    },
    Record {
        finished: Box<Finished>,
    },
    /// Forget these deliveries.
    Cancel {
        deliveries: Vec<DeliveryKey>,
        answer: Sender<()>,
    },
    /// Let go of these deliveries, which wait for an endpoint that gets nothing.
    CancelHeld {
        cancel: CancelHeld,
        answer: Sender<usize>,
    },
    /// A lane that rests may send its next probe now.
    Probe {
        lane: u64,
        answer: Sender<()>,
    },
    /// Erase content of messages and attempts.
    Expunge {
        what: Expunged,
        content: Content,
        answer: Sender<ExpungeAnswer>,
    },
    /// Make the messages to people that are due about the endpoints of these lanes.
    Tell {
        lanes: Vec<u64>,
        mails: Mails,
        answer: Sender<()>,
    },
    /// These messages to people, by lane and time, were mailed.
    Mailed {
        told: Vec<(u64, Timestamp)>,
        answer: Sender<()>,
    },
    /// Take the slice out of the catalogue of slices; its files are deleted after that.
    DropSlice {
        number: u32,
        answer: Sender<()>,
    },
}

pub struct Resend {
    pub message: Arc<Message>,
    pub lane: u64,
    pub send: SendAgain,
    pub once: Option<(Once, u32)>,
}

/// The result of a resend.
#[derive(Debug, PartialEq)]
pub enum ResendAnswer {
    Done,
    /// Nothing: a slice was begun since the delivery was looked for, and its last attempt may be in the one
    /// before.
    Moved,
}

/// The result of an erasure.
#[derive(Debug, PartialEq)]
pub enum ExpungeAnswer {
    Done,
    /// Nothing: the message was erased meanwhile, so the attempt's request is to be erased, too.
    WithRequest,
}

/// Content to be erased.
#[derive(Debug)]
pub enum Expunged {
    /// A message's payload, in this slice. From then on its attempts are logged without content.
    Payload {
        slice: u32,
        application: ApplicationId,
        message: MessageId,
    },
    /// Attempts of a message whose payload was erased.
    Attempts,
    /// The answer to an attempt, in this slice.
    Answer {
        slice: u32,
        application: ApplicationId,
        message: MessageId,
        with_request: bool,
    },
    /// A part of a deleted application, and how far that is; nothing where it is the last.
    Application(ApplicationId, Option<Erasure>),
}

impl Command {
    /// Whether it is of the store's own making and cannot be made again.
    pub fn is_outcome(&self) -> bool {
        matches!(self, Command::Record { .. })
    }

    /// Whether it lets retention go on, which frees space.
    pub fn makes_room(&self) -> bool {
        matches!(self, Command::DropSlice { .. } | Command::Cancel { .. })
    }

    /// Memory that it holds, roughly: the payload.
    pub fn bytes(&self) -> usize {
        match self {
            Command::Accept { message, .. } => message.payload.len(),
            Command::AcceptBatch { batch, .. } => batch.bytes,
            _ => 0,
        }
    }

    pub fn refuse(self, error: Error) {
        match self {
            Command::Accept { answer, .. } => drop(answer.send(Err(error))),
            Command::Change { decide } => drop(decide(Err(error))),
            Command::Record { finished } => drop(finished),
            Command::ChangeOnce { answer, .. } => drop(answer.send(Err(error))),
            Command::AcceptBatch { answer, .. } => drop(answer.send(Err(error))),
            Command::Resend { answer, .. } => drop(answer.send(Err(error))),
            Command::Expunge { answer, .. } => drop(answer.send(Err(error))),
            Command::CancelHeld { answer, .. } => drop(answer.send(Err(error))),
            Command::Replay { answer, .. }
            | Command::Cancel { answer, .. }
            | Command::Probe { answer, .. }
            | Command::Tell { answer, .. }
            | Command::Mailed { answer, .. }
            | Command::DropSlice { answer, .. } => drop(answer.send(Err(error))),
        }
    }
}

/// Commands that wait for the committer.
#[derive(Default)]
pub struct Queue {
    state: Mutex<QueueState>,
    filled: Condvar,
}

#[derive(Default)]
struct QueueState {
    /// From callers; bounded.
    intake: VecDeque<Command>,
    intake_bytes: usize,
    /// From deliveries and housekeeping; bounded by whoever sends them.
    outcomes: VecDeque<Command>,
    closing: bool,
    /// What the committer waits for; nothing from when it is woken on. Waking costs a system call, even where
    /// nobody waits.
    awaited: Option<Awaited>,
    /// The committer is between taking commands and answering the last of them.
    busy: bool,
}

#[derive(Clone, Copy)]
enum Awaited {
    Anything,
    /// Outcomes wait already: for a caller's command, or so many outcomes that they are worth a commit.
    More,
}

impl QueueState {
    fn has(&self, awaited: Awaited) -> bool {
        let outcomes = match awaited {
            Awaited::Anything => 1,
            Awaited::More => OUTCOMES_ENOUGH,
        };
        self.outcomes.len() >= outcomes || !self.intake.is_empty() || self.closing
    }
}

impl Queue {
    /// Queues a caller's command; false when `max` wait already or the store is closed.
    pub fn offer(&self, command: Command, max: usize) -> bool {
        let mut state = self.lock();
        let full = state.intake.len() >= max || state.intake_bytes >= INTAKE_BYTES_MAX;
        if full || state.closing {
            return false;
        }
        state.intake_bytes += command.bytes();
        state.intake.push_back(command);
        self.wake(state);
        true
    }

    /// Queues what must not be refused; false only when the store is closed.
    pub fn push(&self, command: Command) -> bool {
        let mut state = self.lock();
        if state.closing {
            return false;
        }
        state.outcomes.push_back(command);
        self.wake(state);
        true
    }

    /// Takes nothing more and answers all that waits: nobody will commit it.
    pub fn abandon(&self, error: impl Fn() -> Error) {
        let commands: Vec<Command> = {
            let mut state = locked(self.state.lock());
            state.closing = true;
            let outcomes = std::mem::take(&mut state.outcomes);
            let intake = std::mem::take(&mut state.intake);
            self.wake(state);
            outcomes.into_iter().chain(intake).collect()
        };
        commands
            .into_iter()
            .for_each(|command| command.refuse(error()));
    }

    pub fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        self.wake(state);
    }

    /// Nothing waits and nothing is being committed.
    pub fn is_idle(&self) -> bool {
        let state = self.lock();
        state.intake.is_empty() && state.outcomes.is_empty() && !state.busy
    }

    /// Waits for commands and takes a batch's worth, outcomes first; nothing when the queue is
    /// closed and empty.
    pub fn take(&self) -> VecDeque<Command> {
        let mut state = self.lock();
        state.busy = false;
        let waits = |state: &mut QueueState| state.awaited.is_some();
        if !state.has(Awaited::Anything) {
            state.awaited = Some(Awaited::Anything);
            state = locked(self.filled.wait_while(state, waits));
        }
        if !state.has(Awaited::More) {
            state.awaited = Some(Awaited::More);
            let waited = self.filled.wait_timeout_while(state, OUTCOMES_WAIT, waits);
            state = locked(waited).0;
            state.awaited = None;
        }
        let outcomes = state.outcomes.len().min(TAKEN_MAX);
        let mut taken: VecDeque<Command> = state.outcomes.drain(..outcomes).collect();
        let intake = state.intake.len().min(TAKEN_MAX);
        taken.extend(state.intake.drain(..intake));
        if intake > 0 {
            state.intake_bytes = state.intake.iter().map(Command::bytes).sum();
        }
        state.busy = !taken.is_empty();
        taken
    }

    /// Takes all that somebody waits for; the outcomes of attempts stay.
    pub fn take_all_but_outcomes(&self) -> VecDeque<Command> {
        let mut state = self.lock();
        state.intake_bytes = 0;
        let outcomes = std::mem::take(&mut state.outcomes);
        let (outcomes, mut others) = outcomes.into_iter().partition(Command::is_outcome);
        state.outcomes = outcomes;
        others.extend(state.intake.drain(..));
        others
    }

    /// Wakes the committer where it has what it waits for.
    fn wake(&self, mut state: MutexGuard<'_, QueueState>) {
        if state.awaited.is_some_and(|awaited| state.has(awaited)) {
            state.awaited = None;
            // Else it would wake only to wait for the lock.
            drop(state);
            self.filled.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        locked(self.state.lock())
    }
}
