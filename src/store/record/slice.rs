//! `s` of the live database and `m` of a slice: a slice of history, seen from outside and inside.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Kept, NotARecord, read_struct};
use crate::clock::Timestamp;

#[derive(Clone, Debug, PartialEq)]
pub struct SliceRecord {
    /// No id in this slice has an earlier time, and every id in the slice before has one.
    pub first: Timestamp,
    /// How far the slice had come when the next one began; it has come at least that far. sled
    /// can go back to an older state of a damaged file without a word: this tells.
    pub sealed: Option<SliceMeta>,
    /// The stretch of the journal that the slice is; none where it is a database of its own.
    pub stretch: Option<Stretch>,
}

/// A stretch of the journal: all that came into history from one position to before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The segment in which it begins, or the one before that where the first record began a new one.
    pub segment: u64,
    pub from: u64,
    /// None while it goes on.
    pub to: Option<u64>,
}

impl SliceRecord {
    pub fn beginning(first: Timestamp, stretch: Option<Stretch>) -> SliceRecord {
        SliceRecord {
            first,
            sealed: None,
            stretch,
        }
    }
}

/// Schema 1: before slices were stretches of the journal.
#[derive(Serialize, Deserialize)]
pub struct Slice1<'a> {
    first: u64,
    sealed: Option<Cow<'a, SliceMeta>>,
}

/// Schema 2.
#[derive(Serialize, Deserialize)]
pub struct Slice2<'a> {
    before: Slice1<'a>,
    stretch: Option<Stretch1>,
}

#[derive(Serialize, Deserialize)]
struct Stretch1 {
    segment: u64,
    from: u64,
    to: Option<u64>,
}

/// How far a slice has come. Numbers alone, so it is its own record, of schema 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SliceMeta {
    pub commit: u64,
    pub messages: u64,
    pub attempts: u64,
    /// Bytes put so far; what decides when the slice is full.
    pub bytes: u64,
}

impl<'a> From<Slice1<'a>> for Slice2<'a> {
    fn from(old: Slice1<'a>) -> Slice2<'a> {
        Slice2 {
            before: old,
            stretch: None,
        }
    }
}

impl<'a> From<&'a SliceRecord> for Slice2<'a> {
    fn from(value: &'a SliceRecord) -> Slice2<'a> {
        let stretch = |stretch: &Stretch| Stretch1 {
            segment: stretch.segment,
            from: stretch.from,
            to: stretch.to,
        };
        Slice2 {
            before: Slice1 {
                first: value.first.0,
                sealed: value.sealed.as_ref().map(Cow::Borrowed),
            },
            stretch: value.stretch.as_ref().map(stretch),
        }
    }
}

impl From<Slice2<'_>> for SliceRecord {
    fn from(record: Slice2<'_>) -> SliceRecord {
        let stretch = |stretch: Stretch1| Stretch {
            segment: stretch.segment,
            from: stretch.from,
            to: stretch.to,
        };
        SliceRecord {
            first: Timestamp(record.before.first),
            sealed: record.before.sealed.map(Cow::into_owned),
            stretch: record.stretch.map(stretch),
        }
    }
}

impl Kept for SliceRecord {
    const SCHEMA: u16 = 2;
    type Record<'a> = Slice2<'a>;

    fn read(schema: u16, bytes: &mut &[u8]) -> Result<SliceRecord, NotARecord> {
        let newest: Slice2<'_> = match schema {
            1 => read_struct::<Slice1<'_>>(bytes)?.into(),
            _ => read_struct(bytes)?,
        };
        Ok(newest.into())
    }
}

impl Kept for SliceMeta {
    const SCHEMA: u16 = 1;
    type Record<'a> = &'a SliceMeta;

    fn read(_: u16, bytes: &mut &[u8]) -> Result<SliceMeta, NotARecord> {
        Ok(read_struct(bytes)?)
    }
}
