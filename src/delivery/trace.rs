//! The trace of one exchange: a request and its answer on one connection.
//!
//! awc's errors do not say whether a connection was reused, how far the exchange came or why a
//! connection failed, so the connector and the stream below awc note it here as it happens, and no
//! error text is ever matched. They find the trace of the exchange they serve through [`TRACE`]:
//! awc polls its connector, its pool and its streams in the task of the caller.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::domain::attempt::{FailureKind, SendFailure, Timings};
use crate::domain::id::ApplicationId;
use crate::shortage::Shortage;

tokio::task_local! {
    /// The exchange that the running task is busy with.
    pub static TRACE: Rc<Trace>;
}

/// How far an exchange has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Resolving,
    Connecting,
    Handshaking,
    Sending,
    AwaitingAnswer,
    ReadingBody,
}

impl Phase {
    /// As the subject of "… took too long".
    pub fn name(self) -> &'static str {
        match self {
            Phase::Resolving => "resolving the host's name",
            Phase::Connecting => "connecting",
            Phase::Handshaking => "the TLS handshake",
            Phase::Sending => "sending the request",
            Phase::AwaitingAnswer => "waiting for the answer",
            Phase::ReadingBody => "reading the answer's body",
        }
    }
}

#[derive(Debug)]
pub struct Trace {
    /// Whose endpoint it is for.
    pub application: ApplicationId,
    /// Only a new connection may serve this exchange.
    pub fresh_only: bool,
    pub phase: Cell<Phase>,
    /// The connection had served a request before.
    pub reused: Cell<bool>,
    pub answer_bytes: Cell<u64>,
    /// The connection ended while the answer was read.
    pub ended: Cell<bool>,
    /// The answer's body lasts until the connection ends, because nothing else says how long it is.
    pub body_ends_with_connection: Cell<bool>,
    /// More came after the head than is read of an answer.
    pub cut: Cell<bool>,
    /// The final head of the answer, unfolded; where it did not come whole, its beginning.
    pub head: RefCell<Vec<u8>>,
    pub timings: Cell<Timings>,
    /// A shortage of this machine that prevented a connection; the failure is not the receiver's then.
    pub shortage: Cell<Option<Shortage>>,
    sending_since: Cell<Option<Instant>>,
    failure: RefCell<Option<SendFailure>>,
}

impl Trace {
    pub fn new(application: ApplicationId, fresh_only: bool) -> Rc<Trace> {
        Rc::new(Trace {
            application,
            fresh_only,
            phase: Cell::new(Phase::Resolving),
            reused: Cell::new(false),
            answer_bytes: Cell::new(0),
            ended: Cell::new(false),
            body_ends_with_connection: Cell::new(false),
            cut: Cell::new(false),
            head: RefCell::default(),
            timings: Cell::default(),
            shortage: Cell::new(None),
            sending_since: Cell::new(None),
            failure: RefCell::default(),
        })
    }

    /// The trace of the running task, where it is busy with an exchange.
    pub fn current() -> Option<Rc<Trace>> {
        TRACE.try_with(Rc::clone).ok()
    }

    /// Keeps the first failure; later ones are its consequences.
    pub fn fail(&self, failure: SendFailure) {
        self.failure.borrow_mut().get_or_insert(failure);
    }

    pub fn take_failure(&self) -> Option<SendFailure> {
        self.failure.take()
    }

    pub fn time(&self, change: impl FnOnce(&mut Timings)) {
        let mut timings = self.timings.get();
        change(&mut timings);
        self.timings.set(timings);
    }

    /// Times a part of the exchange until the guard is dropped, also where it is cut off.
    pub fn timed(&self, note: fn(&mut Timings, u32)) -> Timed<'_> {
        let started = Instant::now();
        Timed {
            trace: self,
            started,
            note,
        }
    }

    pub fn sending_starts(&self, reused: bool) {
        self.reused.set(reused);
        self.phase.set(Phase::Sending);
        self.sending_since.set(Some(Instant::now()));
    }

    pub fn answer_came(&self, bytes: usize) {
        let before = self.answer_bytes.get();
        if before == 0
            && let Some(since) = self.sending_since.get()
        {
            self.time(|timings| timings.first_byte_us = Some(microseconds(since.elapsed())));
        }
        self.answer_bytes.set(before + bytes as u64);
    }

    /// A reused connection brought no byte of an answer: its other end had most likely closed it
    /// before the request came.
    pub fn found_closed(&self) -> bool {
        self.reused.get() && self.answer_bytes.get() == 0
    }
}

pub struct Timed<'a> {
    trace: &'a Trace,
    started: Instant,
    note: fn(&mut Timings, u32),
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        let took = microseconds(self.started.elapsed());
        self.trace.time(|timings| (self.note)(timings, took));
    }
}

pub fn microseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

pub fn failure(kind: FailureKind, detail: impl Into<String>) -> SendFailure {
    SendFailure {
        kind,
        detail: detail.into(),
    }
}
