//! The store for background jobs: reading on, room to send, and the commit of a step.
//!
//! Reads here block on the disk.

use std::collections::BTreeSet;

use tokio::sync::{oneshot, watch};

use super::queue::Command;
use super::{Inner, SendAgain, Store, Window};
use crate::clock::Timestamp;
use crate::domain::endpoint::Endpoint;
use crate::domain::id::{ApplicationId, JobId, MessageId, OrganisationId};
use crate::domain::message::Message;
use crate::error::Result;

/// One step of a replay: what is sent, and how far the job has come with it. Where one of them was
/// attempted since it was looked for, the step ends before it, and the next begins there.
pub struct ReplayStep {
    pub organisation: OrganisationId,
    pub job: JobId,
    pub lane: u64,
    pub sends: Vec<ReplaySend>,
    /// The last message that was dealt with; absent where there was none.
    pub behind: Option<MessageId>,
    pub looked_at: u64,
    /// There is nothing behind this step.
    pub over: bool,
}

/// A message that a replay sends.
#[derive(Clone, Copy, Debug)]
pub struct ReplaySend {
    pub send: SendAgain,
    /// How many messages the step had looked at with this one.
    pub looked_at: u64,
}

/// Messages of an application from one instant to before another, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub application: ApplicationId,
    pub since: Timestamp,
    pub until: Timestamp,
    /// Only what comes after this one.
    pub behind: Option<MessageId>,
}

/// How far a visit came.
#[derive(Clone, Copy, Debug)]
pub struct Visited {
    /// Where to read on; absent where nothing was read.
    pub behind: Option<MessageId>,
    /// There is nothing behind it.
    pub over: bool,
}

impl Store {
    /// Commits a step of a replay. Where the job is not running any more, or its endpoint is gone,
    /// nothing happens, and that is not an error: the catalog says why.
    pub async fn replay(&self, step: ReplayStep) -> Result<()> {
        let (sender, answer) = oneshot::channel();
        self.offer(Command::Replay {
            step,
            answer: sender,
        })?;
        self.answered(answer).await
    }

    /// Tells of every commit in which a job changed.
    pub fn jobs_changed(&self) -> watch::Receiver<()> {
        self.inner.jobs_changed.subscribe()
    }

    /// Whether `deliveries` more to this endpoint may wait now; why not, if not. The catalog may be
    /// held meanwhile.
    pub fn has_room(&self, endpoint: &Endpoint, deliveries: u64) -> Result<()> {
        self.inner.may_accept_at(endpoint, deliveries)
    }

    /// How many of a lane's deliveries are due, those under way included; looks at `max` at most.
    pub fn due(&self, lane: u64, max: usize) -> Result<usize> {
        let now = self.inner.clock.now();
        let waiting = self.waiting(lane, None, max)?;
        Ok(waiting.iter().filter(|one| one.key.due <= now).count())
    }

    /// Shows messages until `wanted_max` of them are wanted, or some hundreds were not.
    pub fn visit_messages(
        &self,
        span: &Span,
        wanted_max: usize,
        visit: &mut dyn FnMut(&Message) -> Result<bool>,
    ) -> Result<Visited> {
        let window = Window {
            limit: wanted_max,
            bytes: usize::MAX,
            newest_first: false,
            behind: span.behind,
            before: Some(span.until),
            after: Some(span.since),
        };
        let mut last = span.behind;
        let stretch = self.each_message(span.application, &window, &mut |message| {
            last = Some(message.id);
            visit(message)
        })?;
        Ok(Visited {
            behind: stretch.next.or(last),
            over: stretch.next.is_none(),
        })
    }

    /// At how many endpoints, deleted ones included, the message was attempted.
    pub fn destinations(&self, message: MessageId) -> Result<u64> {
        self.inner.destinations(message)
    }
}

impl Inner {
    fn destinations(&self, message: MessageId) -> Result<u64> {
        let mut lanes = BTreeSet::new();
        for slice in self.slices_with_attempts_of(message) {
            for found in slice?.attempts_of_message(message, None) {
                lanes.insert(found?.lane);
            }
        }
        Ok(lanes.len() as u64)
    }
}
