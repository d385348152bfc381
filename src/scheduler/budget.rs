//! A budget of payload bytes that are in memory only because they might be sent soon.
//!
//! A message that was just accepted travels along to its lanes, which saves reading it back. A delivery
//! whose message does not fit the budget travels without it; the message is read from disk when the
//! delivery's turn comes.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::domain::message::Message;

/// The memory of a message beside its payload, roughly.
const MESSAGE_BYTES: usize = 256;

#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    max: usize,
}

impl Budget {
    pub fn new(max_bytes: usize) -> Arc<Budget> {
        Arc::new(Budget {
            used: AtomicUsize::new(0),
            max: max_bytes,
        })
    }

    /// Keeps the message while the budget lasts.
    pub fn keep(self: &Arc<Budget>, message: Arc<Message>) -> Option<KeptMessage> {
        let bytes = message.payload.len() + MESSAGE_BYTES;
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        // Made first, so that the bytes are taken off again in either case.
        let kept = KeptMessage {
            message,
            bytes,
            budget: self.clone(),
        };
        (before + bytes <= self.max).then_some(kept)
    }
}

/// A message that counts against the budget for as long as this exists.
#[derive(Debug)]
pub struct KeptMessage {
    message: Arc<Message>,
    bytes: usize,
    budget: Arc<Budget>,
}

impl Deref for KeptMessage {
    type Target = Arc<Message>;

    fn deref(&self) -> &Arc<Message> {
        &self.message
    }
}

impl Drop for KeptMessage {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::domain::id::{ApplicationId, MessageId};
    use crate::domain::message::Origin;
    use std::collections::BTreeMap;

    #[test]
    fn messages_are_kept_while_there_is_room() {
        let message = Arc::new(Message {
            id: MessageId([1; 20]),
            application: ApplicationId([1; 20]),
            event_type: String::new(),
            event_id: None,
            channels: Vec::new(),
            payload: vec![0; 1000].into(),
            is_raw: false,
            content_type: None,
            accepted_at: Timestamp(0),
            origin: Origin::Published,
            tags: Vec::new(),
            deliver_at: None,
            expires_at: None,
            expunged: false,
            endpoints_matched: None,
            metadata: BTreeMap::new(),
            headers: BTreeMap::new(),
        });
        let budget = Budget::new(2600);
        let first = budget.keep(message.clone());
        let second = budget.keep(message.clone());
        assert!(first.is_some() && second.is_some());
        assert!(budget.keep(message.clone()).is_none());
        drop(first);
        assert!(budget.keep(message).is_some());
    }
}
