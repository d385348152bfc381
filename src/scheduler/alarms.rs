//! When lanes are to be looked at again.

use std::collections::{BTreeSet, HashMap};

use crate::clock::Timestamp;

/// An alarm at most for each lane.
#[derive(Default)]
pub struct Alarms {
    by_time: BTreeSet<(Timestamp, u64)>,
    of: HashMap<u64, Timestamp>,
}

impl Alarms {
    /// Sets the lane's alarm, in place of the one that it has.
    pub fn set(&mut self, lane: u64, at: Timestamp) {
        if self.of.get(&lane) != Some(&at) {
            self.clear(lane);
            self.of.insert(lane, at);
            self.by_time.insert((at, lane));
        }
    }

    pub fn clear(&mut self, lane: u64) {
        if let Some(at) = self.of.remove(&lane) {
            self.by_time.remove(&(at, lane));
        }
    }

    pub fn is_set(&self, lane: u64) -> bool {
        self.of.contains_key(&lane)
    }

    /// The time of the first one.
    pub fn next(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// The lane of the first one, which is cleared with that, where its time has come.
    pub fn take_due(&mut self, now: Timestamp) -> Option<u64> {
        let (_, lane) = *self.by_time.first().filter(|(at, _)| *at <= now)?;
        self.clear(lane);
        Some(lane)
    }
}
