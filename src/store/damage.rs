//! What was found damaged since the start, where something waits for it.
//!
//! A delivery whose message cannot be read is not dropped: its attempts fail by their schedule, each in
//! the log. The operator is told here, by message and endpoint; health and the metrics have the count.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::Store;
use crate::domain::id::MessageId;

/// What is remembered by name; the rest is only counted.
const NAMED_MAX: usize = 1_000;

#[derive(Default)]
pub struct Damage {
    /// By lane and message, and none where the lane's queue itself cannot be read.
    found: Mutex<BTreeMap<(u64, Option<MessageId>), String>>,
}

/// What waits and cannot be read.
pub struct Unreadable {
    pub lane: u64,
    /// None where the lane's queue itself cannot be read.
    pub message: Option<MessageId>,
    pub reason: String,
}

impl Store {
    /// Notes that something that waits in a lane cannot be read; the first time it is counted, and
    /// true.
    pub fn note_unreadable(&self, lane: u64, message: Option<MessageId>, reason: &str) -> bool {
        let found = &self.inner.damage.found;
        let mut found = found.lock().expect("no panic while it is held");
        if found.contains_key(&(lane, message)) {
            return false;
        }
        if found.len() < NAMED_MAX {
            found.insert((lane, message), reason.to_owned());
        }
        self.inner.metrics.store_problems.inc();
        true
    }

    /// What was noted since the start, the first thousand.
    pub fn unreadable(&self) -> Vec<Unreadable> {
        let found = &self.inner.damage.found;
        let found = found.lock().expect("no panic while it is held");
        let one = |(place, reason): (&(u64, Option<MessageId>), &String)| Unreadable {
            lane: place.0,
            message: place.1,
            reason: reason.clone(),
        };
        found.iter().map(one).collect()
    }
}
