//! The changes that callers ask for: each is offered to the committer, and answered once it is on disk.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::fault::unavailable;
use super::queue::{self, Command, Resend, ResendAnswer};
use super::unique::{Once, Remembered, Searched};
use super::watchers::Watcher;
use super::{
    Answered, Finished, Inner, LOOK_AGAIN_MAX, NewMessage, Store, committer, layout, room,
};
use crate::catalog::Catalog;
use crate::clock::Timestamp;
use crate::domain::endpoint::Endpoint;
use crate::domain::message::Message;
use crate::error::{Error, Result};
use crate::rules::decision::Decision;
use crate::watched;

/// How long after it dropped a batch a committer may take to say why it failed: the machine may be busy.
const FAILURE_TOLD_WITHIN: Duration = Duration::from_secs(10);

impl Store {
    /// Decides on a change of registrations where nothing races with it, commits it, and returns
    /// what was decided. An error changes nothing.
    pub async fn change<D: Decision>(&self, decision: D) -> Result<D::Answer> {
        let (sender, answer) = oneshot::channel();
        let decide = deciding(decision, sender);
        self.offer(Command::Change { decide })?;
        self.answered(answer).await
    }

    /// The same for a request with an idempotency key: a key seen within 12 hours gets the earlier
    /// answer, or a conflict if it came with another body. What `shown` makes of the decision is kept in
    /// the same commit, so it is made there.
    pub async fn change_once<D: Decision>(
        &self,
        decision: D,
        once: Once,
        shown: impl FnOnce(D::Answer) -> Answered + Send + 'static,
    ) -> Result<Answered> {
        let from_slice = match self.search_once(once).await? {
            Searched::Found(seen) => {
                return seen.into_answered();
            }
            Searched::UpTo(slice) => slice,
        };
        let (sender, answer) = oneshot::channel();
        let decide = Box::new(move |catalog: &Catalog, now: Timestamp| {
            decided(|| {
                let (changes, answer) = decision.decide(catalog, now)?;
                Ok((changes, shown(answer)))
            })
        });
        self.offer(Command::ChangeOnce {
            once,
            from_slice,
            decide,
            answer: sender,
        })?;
        self.answered(answer).await
    }

    /// Stores the message with one delivery for each of its lanes, due now. Conflict if its
    /// `event_id` was used in the application within a day; the earlier message if the
    /// idempotency key was seen with the same body.
    pub async fn accept_message(&self, message: NewMessage) -> Result<Arc<Message>> {
        self.accept(message, None).await
    }

    pub(super) async fn accept(
        &self,
        message: NewMessage,
        watcher: Option<Arc<Watcher>>,
    ) -> Result<Arc<Message>> {
        if let Err(refused) = message.may_wait(&self.inner) {
            let seen = self.seen_or(message.once, refused).await?;
            return self.earlier(seen).await;
        }
        let mut from_slice = self.newest_slice();
        if let Some(once) = message.once {
            match self.search_once(once).await? {
                Searched::Found(seen) => return self.earlier(seen).await,
                Searched::UpTo(slice) => from_slice = from_slice.min(slice),
            }
        }
        if let Some(keys) = message.event_keys() {
            let found = self.search_event_ids(vec![Some(keys)]).await?;
            from_slice = from_slice.min(found[0]);
        }
        let (sender, answer) = oneshot::channel();
        self.offer(Command::Accept {
            message,
            from_slice,
            watcher,
            answer: sender,
        })?;
        self.answered(answer).await
    }

    /// The message that a request was answered with.
    pub(super) async fn earlier(&self, seen: Remembered) -> Result<Arc<Message>> {
        match seen.answer {
            layout::OnceAnswer::Message(application, id) => self
                .read(move |inner| inner.message(application, id))
                .await?
                .ok_or(Error::not_found("message")),
            layout::OnceAnswer::Answered(_) => Err(committer::other_request()),
        }
    }

    /// Makes a delivery of this message to this endpoint due now, by hand: a waiting one is moved,
    /// and one that has ended begins anew.
    pub async fn resend(
        &self,
        message: Arc<Message>,
        endpoint: Arc<Endpoint>,
        once: Option<Once>,
    ) -> Result<()> {
        let lane = endpoint.number;
        if let Err(refused) = self.inner.may_accept_at(&endpoint, 1) {
            return self.seen_or(once, refused).await.map(|_| ());
        }
        let once = match once {
            None => None,
            Some(once) => match self.search_once(once).await? {
                Searched::Found(_) => return Ok(()),
                Searched::UpTo(slice) => Some((once, slice)),
            },
        };
        for _ in 0..LOOK_AGAIN_MAX {
            let sought = message.clone();
            let send = self
                .read(move |inner| inner.look_for(&sought, lane))
                .await?;
            let (sender, answer) = oneshot::channel();
            let resend = Resend {
                message: message.clone(),
                lane,
                send,
                once,
            };
            self.offer(Command::Resend {
                resend,
                answer: sender,
            })?;
            match self.answered(answer).await? {
                ResendAnswer::Done => return Ok(()),
                ResendAnswer::Moved => {}
            }
        }
        Err(unavailable("the delivery is being attempted all the time"))
    }

    /// Writes the attempt to the log and moves its delivery to what the verdict says. An event
    /// `Recorded` follows once that is durable; a store that is closed or has failed gives none,
    /// and the attempt is repeated after the next start.
    pub fn record_attempt(&self, finished: Finished) {
        self.inner.queue.push(Command::Record {
            finished: Box::new(finished),
        });
    }

    pub(super) fn offer(&self, command: Command) -> Result<()> {
        if let Some(lack) = self.inner.room.lack() {
            return Err(room::refusal(&lack));
        }
        let max = self.inner.settings.commit_queue_max;
        if !self.inner.queue.offer(command, max) {
            if let Some(fault) = self.failure() {
                return Err(Error::storage(fault));
            }
            let reason = "more changes wait for the disk than limits.commit_queue_max allows";
            return Err(unavailable(reason));
        }
        Ok(())
    }

    pub(super) async fn answered<T>(&self, answer: oneshot::Receiver<Result<T>>) -> Result<T> {
        if let Ok(answer) = answer.await {
            return answer;
        }
        // The committer let go of it without an answer: it failed, in the middle of this batch, and is
        // about to say why.
        match tokio::time::timeout(FAILURE_TOLD_WITHIN, self.failed()).await {
            Ok(fault) => Err(Error::storage(fault)),
            Err(_) => Err(unavailable("the server is stopping")),
        }
    }

    pub(super) fn newest_slice(&self) -> u32 {
        self.inner.slices.newest().map_or(0, |(number, _)| number)
    }

    /// Runs a read of history on a thread that may block.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = self.inner.clone();
        let read = tokio::task::spawn_blocking(move || read(&inner)).await;
        read.unwrap_or(Err(Error::Defect))
    }
}

/// The function that the committer runs to decide on a change and to answer.
pub fn deciding<D: Decision>(decision: D, answer: queue::Sender<D::Answer>) -> queue::Decide {
    Box::new(move |registrations: Result<(&Catalog, Timestamp)>| {
        let decided =
            registrations.and_then(|(catalog, now)| decided(|| decision.decide(catalog, now)));
        match decided {
            Err(error) => {
                drop(answer.send(Err(error)));
                None
            }
            Ok((changes, value)) => {
                let notify: queue::Notify =
                    Box::new(move |result| drop(answer.send(result.map(|()| value))));
                Some((changes, notify))
            }
        }
    })
}

/// Runs a decision about a change. It only reads, on the committer's thread: a defect in it is
/// answered to whoever asked and harms nobody else.
fn decided<T>(decide: impl FnOnce() -> Result<T>) -> Result<T> {
    watched::contained(decide).unwrap_or(Err(Error::Defect))
}
