//! The index of the slice that is written to.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, RwLock, RwLockReadGuard};

use super::leaves::{Leaf, Leaves};
use super::range::{Between, BothEnds, End, Sorted, Stretch};
use super::write::IndexWriter;
use super::{Entry, HourOfLane, IndexOf, KEY_BYTES_MAX, LaneHour, Place};
use crate::lock::locked;

/// How many entries a range takes at a time.
const STRETCH: usize = 32;
/// How many lane hours are copied at a time for the file.
const HOURS_AT_A_TIME: usize = 100;

/// An index in memory, with one writer and many readers.
#[derive(Default)]
pub struct OpenIndex {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    keys: Leaves,
    hours: BTreeMap<HourOfLane, LaneHour>,
}

impl OpenIndex {
    /// Adds keys and counts. A key that is there gets the new place;
    /// counts are added to those that are there.
    ///
    /// # Panics
    /// If a key is longer than [`KEY_BYTES_MAX`].
    pub fn add<K: AsRef<[u8]>>(
        &self,
        entries: impl IntoIterator<Item = (K, Place)>,
        counted: impl IntoIterator<Item = (HourOfLane, LaneHour)>,
    ) {
        // The caller's code runs without the lock.
        let entries = Vec::from_iter(entries);
        let counted = Vec::from_iter(counted);
        for (key, _) in &entries {
            let key_bytes = key.as_ref().len();
            assert!(key_bytes <= KEY_BYTES_MAX, "a key has {key_bytes} bytes");
        }
        let mut state = locked(self.state.write());
        for (key, place) in &entries {
            state.keys.insert(key.as_ref(), *place);
        }
        for (place, counts) in &counted {
            state.hours.entry(*place).or_default().add(counts);
        }
    }

    pub fn get(&self, key: &[u8]) -> Option<Place> {
        self.state().keys.get(key)
    }

    /// Keys and places between two bounds. Keys that are added meanwhile are seen or not.
    pub fn range(self: &Arc<Self>, from: Bound<Vec<u8>>, to: Bound<Vec<u8>>) -> OpenRange {
        OpenRange {
            index: self.clone(),
            ends: BothEnds::new(from, to),
        }
    }

    /// The hours of a lane in `from..to`, in order.
    pub fn hours(&self, lane: u64, from: u64, to: u64) -> Vec<(u64, LaneHour)> {
        if from >= to {
            return Vec::new();
        }
        let state = self.state();
        let hours = state.hours.range((lane, from)..(lane, to));
        hours.map(|((_, hour), counts)| (*hour, *counts)).collect()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.state().keys.len()
    }

    /// Memory that it takes, roughly.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        /// A map's nodes are two thirds full.
        const HOUR_BYTES: usize = size_of::<(HourOfLane, LaneHour)>() * 3 / 2;
        let state = self.state();
        state.keys.bytes() + state.hours.len() * HOUR_BYTES
    }

    /// Writes the index of a sealed slice as a file, whole or not at all; it is durable then. Readers
    /// go on meanwhile.
    pub fn write(&self, path: &Path, of: &IndexOf) -> io::Result<()> {
        let mut writer = IndexWriter::create(path, of)?;
        let mut last = None;
        while let Some(leaf) = self.copy_behind(last.as_deref()) {
            for at in 0..leaf.len() {
                let key = leaf.key(at);
                if last.as_deref().is_none_or(|last| last < key) {
                    writer.key(key, leaf.place(at))?;
                }
            }
            last = Some(leaf.last_key().to_vec());
        }
        let mut last = None;
        loop {
            let hours = self.hours_behind(last);
            let Some((place, _)) = hours.last() else {
                break;
            };
            last = Some(*place);
            for (place, counts) in &hours {
                writer.hour(*place, counts)?;
            }
        }
        writer.finish()
    }

    fn copy_behind(&self, key: Option<&[u8]>) -> Option<Leaf> {
        self.state().keys.copy_behind(key)
    }

    fn hours_behind(&self, last: Option<HourOfLane>) -> Vec<(HourOfLane, LaneHour)> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.state();
        let hours = state.hours.range((from, Bound::Unbounded));
        hours
            .take(HOURS_AT_A_TIME)
            .map(|(place, counts)| (*place, *counts))
            .collect()
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        locked(self.state.read())
    }
}

impl Sorted for OpenIndex {
    type Error = Infallible;

    fn stretch(&self, between: &Between, end: End) -> Result<Stretch, Infallible> {
        Ok(self.state().keys.stretch(between, end, STRETCH))
    }
}

/// A range of an open index.
pub struct OpenRange {
    index: Arc<OpenIndex>,
    ends: BothEnds,
}

impl Iterator for OpenRange {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let Ok(next) = self.ends.next(&*self.index).transpose();
        next
    }
}

impl DoubleEndedIterator for OpenRange {
    fn next_back(&mut self) -> Option<Entry> {
        let Ok(next) = self.ends.next_back(&*self.index).transpose();
        next
    }
}
