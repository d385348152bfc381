//! Damage that was found since the start, where something waits for it.
//!
//! A delivery whose message cannot be read is not dropped: its attempts fail by their schedule, each in
//! the log. The operator is told here, by message and endpoint; health and the metrics have the count.
//! So it is with a slice of which something cannot be read, and with a file of the journal that a start found
//! damaged.
//!
//! Where the journal is damaged behind the checkpoint file, `live` cannot be made anew until there is a newer one.
//! That is asked for at once: once for each slice, and once for what a start has found.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Mutex;

use super::{Inner, Store};
use crate::domain::id::MessageId;
use crate::journal::JournalError;
use crate::lock::locked;

/// How many places are remembered by name; the rest is only counted.
const NAMED_MAX: usize = 1_000;
/// How many places are counted; each takes some 40 bytes.
const COUNTED_MAX: usize = 100_000;

/// A lane and a message, and none where the lane's queue itself cannot be read.
type Place = (u64, Option<MessageId>);

#[derive(Default)]
pub struct Damage {
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    /// With the reason.
    named: BTreeMap<Place, String>,
    counted: HashSet<Place>,
    /// By their numbers, with the reason.
    slices: BTreeMap<u32, String>,
    /// A sentence for each.
    files: Vec<String>,
    /// Slices for whose damage a checkpoint file was asked for.
    asked_for: HashSet<u32>,
}

/// Damage of a file of the journal that keeps no server from starting.
#[derive(Clone, Debug)]
pub struct DamagedPart {
    /// A sentence.
    pub told: String,
    /// The first record that cannot be read, where it is known.
    pub position: Option<u64>,
}

impl DamagedPart {
    /// Of the journal in this directory.
    pub fn of(directory: &Path, error: &JournalError) -> DamagedPart {
        let position = match error {
            JournalError::Damaged(damage) => damage.position,
            _ => None,
        };
        let told = format!(
            "{}/{error}; the messages and attempts that are in it cannot be read",
            directory.display()
        );
        DamagedPart { told, position }
    }
}

/// A delivery, or a lane, that waits and cannot be read.
pub struct Unreadable {
    pub lane: u64,
    /// None where the lane's queue itself cannot be read.
    pub message: Option<MessageId>,
    pub reason: String,
}

impl Damage {
    /// True the first time that something is noted, up to a number.
    fn note(&self, place: Place, reason: &str) -> bool {
        let mut found = locked(self.found.lock());
        if found.counted.len() >= COUNTED_MAX || !found.counted.insert(place) {
            return false;
        }
        if found.named.len() < NAMED_MAX {
            found.named.insert(place, reason.to_owned());
        }
        true
    }
}

impl Inner {
    /// Notes, the first time, that something of a slice cannot be read.
    pub(super) fn note_unreadable_slice(&self, number: u32, reason: &str) {
        {
            let mut found = locked(self.damage.found.lock());
            if found.slices.contains_key(&number) {
                return;
            }
            found.slices.insert(number, reason.to_owned());
        }
        self.want_file_behind(number);
        self.metrics.store_problems.inc();
        log::error!(
            "something in slice {number} of the history cannot be read: {reason}. What needs it is answered \
             503, and so are requests with an idempotency key or an event id that may be in it, until it is \
             older than a day"
        );
    }

    /// Notes damage that a start has found and that did not keep it from going on.
    pub(super) fn note_damaged_file(&self, damage: DamagedPart) {
        let DamagedPart { told, position } = damage;
        // Where it is not known, a header is damaged: then the file counts for nothing, if it needs that.
        if let Some(position) = position {
            self.checkpoints.want_file(position);
        }
        self.metrics.store_problems.inc();
        log::error!("{told}; run `postrider verify-store` when the server can be stopped");
        locked(self.damage.found.lock()).files.push(told);
    }

    /// Asks for a checkpoint file behind the damage in a slice, the first time.
    fn want_file_behind(&self, number: u32) {
        if !locked(self.damage.found.lock()).asked_for.insert(number) {
            return;
        }
        let mut slices = self.slices.list().into_iter();
        let slice = slices.find(|(kept, _)| *kept == number);
        // A rebuild needs nothing of a slice with a database of its own.
        let Some(stretch) = slice.and_then(|(_, record)| record.stretch) else {
            return;
        };
        let newest = self.slices.reader().next_position() - 1;
        let end = stretch.to.map_or(newest, |to| to.saturating_sub(1));
        self.checkpoints.want_file(end);
    }
}

impl Store {
    /// The damage that the start found, a sentence each.
    pub fn damaged_files(&self) -> Vec<String> {
        locked(self.inner.damage.found.lock()).files.clone()
    }

    /// The slices of which something could not be read, with the reasons; those that are still kept.
    pub fn unreadable_slices(&self) -> Vec<(u32, String)> {
        let found = locked(self.inner.damage.found.lock());
        let slices = found.slices.iter();
        let kept = slices.filter(|(number, _)| self.inner.slices.contains(**number));
        kept.map(|(number, reason)| (*number, reason.clone()))
            .collect()
    }

    /// Notes that something that waits in a lane cannot be read; the first time it is counted, and
    /// true.
    pub fn note_unreadable(&self, lane: u64, message: Option<MessageId>, reason: &str) -> bool {
        let first = self.inner.damage.note((lane, message), reason);
        if first {
            self.inner.metrics.store_problems.inc();
        }
        first
    }

    /// The same for a message that the history has and that cannot be read.
    pub fn note_unreadable_message(&self, lane: u64, message: MessageId, reason: &str) -> bool {
        if let Some(slice) = self.inner.slices.at(message.time()) {
            self.inner.want_file_behind(slice);
        }
        self.note_unreadable(lane, Some(message), reason)
    }

    /// The places that were noted since the start, the first thousand.
    pub fn unreadable(&self) -> Vec<Unreadable> {
        let found = &self.inner.damage.found;
        let found = locked(found.lock());
        let one = |(place, reason): (&Place, &String)| Unreadable {
            lane: place.0,
            message: place.1,
            reason: reason.clone(),
        };
        found.named.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_to_name_is_counted_once_all_the_same() {
        let damage = Damage::default();
        let noted = || (0..=1_000).filter(|lane| damage.note((*lane, None), "on purpose"));
        assert_eq!(noted().count(), 1_001);
        assert_eq!(noted().count(), 0);
        assert_eq!(damage.found.lock().unwrap().named.len(), NAMED_MAX);
    }
}
