//! The index of a slice of history: an ordered map from keys to places in the journal.
//!
//! While a slice is written to, its index is an [`OpenIndex`], in memory. When the slice is sealed,
//! [`OpenIndex::write`] makes an [`IndexFile`] of it: immutable, sorted, with a checksum over every
//! byte. Neither is ever the only copy: an index can be made again from the journal at any time, so
//! a damaged file is reported and replaced, never repaired.
//!
//! Beside the keys an index counts what happened at each lane in each hour ([`LaneHour`]). Both kinds
//! answer the same questions: the place of a key, a range of keys from either end, the hours of a lane.
//! A range is no snapshot; it takes a stretch at a time and holds no lock in between.
//!
//! | file | what it is |
//! |---|---|
//! | `memory`, `leaves` | the open index, and the sorted leaves that hold its keys |
//! | `head`, `block`, `table` | the bytes of an index file: its head, a block of keys, the table of blocks |
//! | `write`, `file` | writing an index file, reading it |
//! | `range` | ranges from both ends, for either kind |
//!
//! With 300,000 keys of messages, attempts and their places (40 bytes on average) a key takes 53 bytes in
//! memory and 34 in the file, 0.25 µs to add and 0.06 µs to write (2 shared cores). The same keys in a
//! `BTreeMap<Box<[u8]>, u64>` take 107 bytes. A map of the crate `fst` takes 53 bytes a key on disk and
//! 3.2 µs to build, since ids are random in what they do not share, and it cannot be read from its end.

use std::io;

use super::record::lane_hour::LaneHour;

mod block;
mod file;
mod head;
mod leaves;
mod memory;
mod range;
mod table;
#[cfg(test)]
mod tests;
mod write;

pub use file::{FileRange, IndexFile};
pub use memory::{OpenIndex, OpenRange};

/// The longest key.
pub const KEY_BYTES_MAX: usize = u8::MAX as usize;

/// The place of a part of a record in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The segment, counted from the slice's first.
    pub segment: u16,
    /// Where the record begins in the segment's file.
    pub offset: u32,
    /// Which of the record's parts, from 0.
    pub part: u16,
}

const PLACE_BYTES: usize = 8;

impl Place {
    /// The place as it is kept: segment, offset and part, each little-endian.
    fn to_bytes(self) -> [u8; PLACE_BYTES] {
        let mut bytes = [0; PLACE_BYTES];
        bytes[..2].copy_from_slice(&self.segment.to_le_bytes());
        bytes[2..6].copy_from_slice(&self.offset.to_le_bytes());
        bytes[6..].copy_from_slice(&self.part.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: [u8; PLACE_BYTES]) -> Place {
        let [s0, s1, o0, o1, o2, o3, p0, p1] = bytes;
        Place {
            segment: u16::from_le_bytes([s0, s1]),
            offset: u32::from_le_bytes([o0, o1, o2, o3]),
            part: u16::from_le_bytes([p0, p1]),
        }
    }
}

/// A key and its place.
pub type Entry = (Vec<u8>, Place);

/// A lane, and hours since 1970.
pub type HourOfLane = (u64, u64);

/// The slice and the state of the journal that an index file was made from. It is part of the file's
/// head, so that the index of another slice, stream or state is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexOf {
    /// The journal's stream.
    pub stream: u64,
    pub slice: u32,
    /// The journal's positions that the slice spans.
    pub from: u64,
    pub to: u64,
}

/// Why an index file cannot be used; whatever it is, the index can be made again from the journal.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error("{file} is missing")]
    Missing { file: String },
    #[error("{file} is damaged at byte {offset}: {reason}")]
    Damaged {
        file: String,
        /// From the beginning of the file: where the damaged head, block or table begins.
        offset: u64,
        reason: &'static str,
    },
    /// The file is whole, and was made from another slice, stream or state of the journal.
    #[error("{file} is the index of another slice, or of another state of the journal")]
    OfAnother { file: String },
    #[error("{file} was written by another version of postrider, in format {format}")]
    OtherFormat { file: String, format: u32 },
    #[error("{file}: {doing} failed: {cause}")]
    Io {
        file: String,
        doing: &'static str,
        #[source]
        cause: io::Error,
    },
}
