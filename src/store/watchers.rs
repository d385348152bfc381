//! Who waits for a message's first attempt.
//!
//! A request that tries an endpoint out answers with what came of it. Its watcher is registered
//! before the message is offered to the committer, which names the message to it and takes it out
//! again with the first attempt that it records: nothing is missed, and the watcher hears of the
//! attempt once it is durable. Where nobody waits, recording costs one relaxed load. Dropping
//! [`FirstAttempt`] ends the watch.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use tokio::sync::oneshot;

use super::{NewMessage, Store};
use crate::domain::attempt::Attempt;
use crate::domain::id::MessageId;
use crate::error::{Error, Result};
use crate::lock::locked;

/// How many may wait at a time: all are looked through for each attempt that is recorded, and each
/// is a request that keeps its connection.
const WATCHERS_MAX: usize = 256;

#[derive(Default)]
pub struct Watchers {
    /// How many wait; written while the list is held.
    count: AtomicUsize,
    waiting: Mutex<Vec<Arc<Watcher>>>,
}

pub struct Watcher {
    /// Known once the message is accepted.
    message: OnceLock<MessageId>,
    attempt: Mutex<Option<oneshot::Sender<Attempt>>>,
}

impl Watcher {
    pub fn name(&self, message: MessageId) {
        // A message is accepted once.
        let _ = self.message.set(message);
    }
}

impl Watchers {
    fn begin(self: &Arc<Self>) -> Result<FirstAttempt> {
        let (sender, receiver) = oneshot::channel();
        let watcher = Arc::new(Watcher {
            message: OnceLock::new(),
            attempt: Mutex::new(Some(sender)),
        });
        let mut waiting = self.lock();
        if waiting.len() == WATCHERS_MAX {
            return Err(Error::Unavailable {
                reason: format!("{WATCHERS_MAX} requests wait for an attempt already"),
                retry_after_seconds: 5,
            });
        }
        waiting.push(watcher.clone());
        self.count.store(waiting.len(), Ordering::Relaxed);
        drop(waiting);
        Ok(FirstAttempt {
            watchers: self.clone(),
            watcher,
            receiver,
        })
    }

    /// Takes out whoever waits for an attempt of this message. For the committer: it named the
    /// message to the watcher itself, so the relaxed load does not miss one.
    pub fn take(&self, message: MessageId) -> Option<oneshot::Sender<Attempt>> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let watcher = self.remove(|watcher| watcher.message.get() == Some(&message))?;
        let mut attempt = locked(watcher.attempt.lock());
        attempt.take()
    }

    /// Ends all watches: no attempt will be recorded any more.
    pub fn abandon(&self) {
        for watcher in self.lock().iter() {
            drop(locked(watcher.attempt.lock()).take());
        }
    }

    fn remove(&self, is_it: impl Fn(&Arc<Watcher>) -> bool) -> Option<Arc<Watcher>> {
        let mut waiting = self.lock();
        let place = waiting.iter().position(is_it)?;
        let watcher = waiting.swap_remove(place);
        self.count.store(waiting.len(), Ordering::Relaxed);
        Some(watcher)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Watcher>>> {
        locked(self.waiting.lock())
    }
}

/// The first attempt of a message that was accepted with [`Store::accept_watched`].
pub struct FirstAttempt {
    watchers: Arc<Watchers>,
    watcher: Arc<Watcher>,
    receiver: oneshot::Receiver<Attempt>,
}

impl FirstAttempt {
    /// Returns once the attempt is durable; nothing where the store ends before.
    pub async fn recorded(&mut self) -> Option<Attempt> {
        (&mut self.receiver).await.ok()
    }
}

impl Drop for FirstAttempt {
    fn drop(&mut self) {
        self.watchers
            .remove(|watcher| Arc::ptr_eq(watcher, &self.watcher));
    }
}

impl Store {
    /// Accepts a message whose first attempt somebody waits for. For messages without an
    /// idempotency key: the attempt of an earlier one may be over.
    pub async fn accept_watched(&self, message: NewMessage) -> Result<FirstAttempt> {
        let first = self.inner.watchers.begin()?;
        self.accept(message, Some(first.watcher.clone())).await?;
        Ok(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: u8) -> MessageId {
        MessageId([number; 20])
    }

    #[test]
    fn a_watcher_is_taken_out_once_and_by_its_message_alone() {
        let watchers = Arc::new(Watchers::default());
        let first = watchers.begin().unwrap();
        let second = watchers.begin().unwrap();
        assert!(watchers.take(message(1)).is_none(), "it has no message yet");
        first.watcher.name(message(1));
        second.watcher.name(message(2));
        assert!(watchers.take(message(3)).is_none());
        assert!(watchers.take(message(2)).is_some());
        assert!(watchers.take(message(2)).is_none());
        assert_eq!(watchers.count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn who_stops_waiting_leaves_nothing_behind() {
        let watchers = Arc::new(Watchers::default());
        // Before the message is accepted, after that, and after the attempt.
        drop(watchers.begin().unwrap());
        let named = watchers.begin().unwrap();
        named.watcher.name(message(1));
        drop(named);
        let over = watchers.begin().unwrap();
        over.watcher.name(message(2));
        assert!(watchers.take(message(2)).is_some());
        drop(over);
        assert!(watchers.lock().is_empty());
        assert_eq!(watchers.count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn watchers_are_bounded() {
        let watchers = Arc::new(Watchers::default());
        let mut kept: Vec<_> = (0..WATCHERS_MAX)
            .map(|_| watchers.begin().unwrap())
            .collect();
        assert!(matches!(watchers.begin(), Err(Error::Unavailable { .. })));
        kept.pop();
        assert!(watchers.begin().is_ok());
    }
}
