//! Stretches of a slice that cannot be read, because the journal is damaged or misses a file there.
//!
//! The index of a slice is made from the records that can be read. It lacks what is in the others, so
//! whoever looks for something that may be among those is told of the gap, and never that there is nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::id::{AttemptId, ID_TIME_STEP_MS, IDS_END, MessageId};
use crate::journal::JournalError;

use super::layout;

/// Records that cannot be read. The times of the ids in them are not known but for their bounds.
#[derive(Clone, Debug)]
pub struct Gap {
    why: Arc<JournalError>,
    /// The newest id before the gap has this time, …
    pub from: Timestamp,
    /// … and the oldest behind it this one.
    pub to: Timestamp,
}

impl Gap {
    pub fn may_have(&self, time: Timestamp) -> bool {
        (self.from..=self.to).contains(&time)
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Gap { why, from, to } = self;
        write!(f, "{why}; messages and attempts of {from} ")?;
        match *to + Duration::from_millis(ID_TIME_STEP_MS) < IDS_END {
            true => write!(f, "to {to} are missing"),
            false => write!(f, "and later are missing"),
        }
    }
}

impl std::error::Error for Gap {}

/// The gaps of a slice, as its index is made from the journal.
pub struct Gaps {
    found: Vec<Gap>,
    /// How many of them have a known end.
    ended: usize,
    /// The time of the newest id so far.
    newest: Timestamp,
    /// Ids of the slice have earlier times.
    end: Timestamp,
}

impl Gaps {
    /// Of a slice whose ids have times from `first` to before `end`.
    pub fn between(first: Timestamp, end: Timestamp) -> Gaps {
        Gaps {
            found: Vec::new(),
            ended: 0,
            newest: first,
            end,
        }
    }

    /// Takes in a key of a record that can be read.
    pub fn note_key(&mut self, key: &[u8]) {
        let Some(time) = time_of(key) else { return };
        for gap in &mut self.found[self.ended..] {
            gap.to = gap.to.min(time);
        }
        self.newest = self.newest.max(time);
    }

    /// All keys of a record are taken in.
    pub fn record_ends(&mut self) {
        let is_ended = |gap: &Gap| gap.to < self.end;
        self.ended += self.found[self.ended..]
            .iter()
            .filter(|gap| is_ended(gap))
            .count();
    }

    pub fn note_lost(&mut self, why: JournalError) {
        self.found.push(Gap {
            why: Arc::new(why),
            from: self.newest,
            to: self.end,
        });
    }

    pub fn done(mut self) -> Vec<Gap> {
        // The last time that an id of the slice can have: those of the next one are not missing.
        let last = self
            .end
            .saturating_sub(Duration::from_millis(ID_TIME_STEP_MS));
        for gap in &mut self.found[self.ended..] {
            gap.to = gap.to.min(last);
        }
        self.found
    }
}

/// The time in the id of the message or attempt that a key is of; none where it does not tell.
pub fn time_of(key: &[u8]) -> Option<Timestamp> {
    match *key.first()? {
        layout::MESSAGE => Some(MessageId(layout::last_id(key)).time()),
        layout::ATTEMPT => Some(AttemptId(layout::last_id(key)).time()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
