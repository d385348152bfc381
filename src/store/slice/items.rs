//! The items of a slice, one after the other, from either end.

use std::ops::Bound;
use std::sync::Arc;

use super::{FoundItem, Result};
use crate::store::engine::{self, Engine};
use crate::store::gap::Gap;
use crate::store::index::{FileRange, IndexError, OpenRange, Place};
use crate::store::layout::{self, RecordError};

/// Further values of a long record that are walked over one by one; of more the walk begins anew behind
/// them, which costs as much as a few.
const WALKED_OVER_MAX: usize = 8;

/// Items of a slice.
pub enum Items {
    Database(Box<DatabaseItems>),
    Memory(OpenRange),
    File(FileRange),
    /// Some of what is asked for may be among what cannot be read: one error, then nothing.
    Unreadable(Option<Gap>),
}

pub type Item = Result<(Vec<u8>, FoundItem)>;

impl Iterator for Items {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        match self {
            Items::Database(records) => records.next(),
            Items::Memory(range) => range
                .next()
                .map(|(key, place)| Ok((key, FoundItem::Place(place)))),
            Items::File(range) => range.next().map(in_file),
            Items::Unreadable(gap) => unreadable(gap),
        }
    }
}

impl DoubleEndedIterator for Items {
    fn next_back(&mut self) -> Option<Item> {
        match self {
            Items::Database(records) => records.next_back(),
            Items::Memory(range) => {
                let last = range.next_back();
                last.map(|(key, place)| Ok((key, FoundItem::Place(place))))
            }
            Items::File(range) => range.next_back().map(in_file),
            Items::Unreadable(gap) => unreadable(gap),
        }
    }
}

fn unreadable(gap: &mut Option<Gap>) -> Option<Item> {
    gap.take().map(|gap| Err(RecordError::Gap(gap)))
}

fn in_file(item: std::result::Result<(Vec<u8>, Place), IndexError>) -> Item {
    let (key, place) = item?;
    Ok((key, FoundItem::Place(place)))
}

/// Records of a database, without the further values of long ones.
pub struct DatabaseItems {
    engine: Arc<Engine>,
    from: Bound<Vec<u8>>,
    to: Bound<Vec<u8>>,
    range: engine::Range,
}

impl DatabaseItems {
    pub fn new(engine: Arc<Engine>, from: Bound<Vec<u8>>, to: Bound<Vec<u8>>) -> DatabaseItems {
        DatabaseItems {
            range: engine.range(from.clone(), to.clone()),
            engine,
            from,
            to,
        }
    }
}

impl Iterator for DatabaseItems {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        loop {
            let (key, first) = match self.range.next()? {
                Ok(item) => item,
                Err(error) => return Some(Err(error.into())),
            };
            if !layout::is_chunk(&key) {
                return Some(Ok((key.to_vec(), FoundItem::Value(first))));
            }
            let (record, number) = layout::record_of_chunk(&key);
            if number == WALKED_OVER_MAX {
                let behind = Bound::Excluded(layout::behind_record(record));
                self.range = self.engine.range(behind, self.to.clone());
            }
        }
    }
}

impl DoubleEndedIterator for DatabaseItems {
    fn next_back(&mut self) -> Option<Item> {
        loop {
            let (key, first) = match self.range.next_back()? {
                Ok(item) => item,
                Err(error) => return Some(Err(error.into())),
            };
            if !layout::is_chunk(&key) {
                return Some(Ok((key.to_vec(), FoundItem::Value(first))));
            }
            let (record, number) = layout::record_of_chunk(&key);
            if number > WALKED_OVER_MAX {
                let record = Bound::Included(record.to_vec());
                self.range = self.engine.range(self.from.clone(), record);
            }
        }
    }
}
