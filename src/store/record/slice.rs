//! `s` of the live database and `m` of a slice: a slice of history, seen from outside and inside.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Kept, NotARecord, read_struct};
use crate::clock::Timestamp;
use crate::domain::id::MessageId;

#[derive(Clone, Debug, PartialEq)]
pub struct SliceRecord {
    /// No id in this slice has an earlier time, and every id in the slice before has one.
    pub first: Timestamp,
    /// How far the slice had come when the next one began; it has come at least that far. sled
    /// can go back to an older state of a damaged file without a word: this tells.
    pub sealed: Option<SliceMeta>,
    /// The stretch of the journal that the slice is; none where it is a database of its own.
    pub stretch: Option<Stretch>,
    /// No attempt in the slice is for a message before this one, so it is not opened for those of an
    /// older message. None where that is not known.
    pub attempts_since: Option<MessageId>,
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
            attempts_since: None,
        }
    }
}

/// Schema 1: before slices were stretches of the journal.
#[derive(Serialize, Deserialize)]
pub struct Slice1<'a> {
    first: u64,
    sealed: Option<Cow<'a, SliceMeta>>,
}

/// Schema 2: before it was known whose attempts are in a slice.
#[derive(Serialize, Deserialize)]
pub struct Slice2<'a> {
    before: Slice1<'a>,
    stretch: Option<Stretch1>,
}

/// Schema 3.
#[derive(Serialize, Deserialize)]
pub struct Slice3<'a> {
    before: Slice2<'a>,
    attempts_since: Option<[u8; 20]>,
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

impl<'a> From<Slice2<'a>> for Slice3<'a> {
    fn from(old: Slice2<'a>) -> Slice3<'a> {
        Slice3 {
            before: old,
            attempts_since: None,
        }
    }
}

impl<'a> From<&'a SliceRecord> for Slice3<'a> {
    fn from(value: &'a SliceRecord) -> Slice3<'a> {
        let stretch = |stretch: &Stretch| Stretch1 {
            segment: stretch.segment,
            from: stretch.from,
            to: stretch.to,
        };
        Slice3 {
            before: Slice2 {
                before: Slice1 {
                    first: value.first.0,
                    sealed: value.sealed.as_ref().map(Cow::Borrowed),
                },
                stretch: value.stretch.as_ref().map(stretch),
            },
            attempts_since: value.attempts_since.map(|id| id.0),
        }
    }
}

impl From<Slice3<'_>> for SliceRecord {
    fn from(record: Slice3<'_>) -> SliceRecord {
        let stretch = |stretch: Stretch1| Stretch {
            segment: stretch.segment,
            from: stretch.from,
            to: stretch.to,
        };
        let Slice2 {
            before,
            stretch: at,
        } = record.before;
        SliceRecord {
            first: Timestamp(before.first),
            sealed: before.sealed.map(Cow::into_owned),
            stretch: at.map(stretch),
            attempts_since: record.attempts_since.map(MessageId),
        }
    }
}

impl Kept for SliceRecord {
    const SCHEMA: u16 = 3;
    type Record<'a> = Slice3<'a>;

    fn read(schema: u16, bytes: &mut &[u8]) -> Result<SliceRecord, NotARecord> {
        let newest: Slice3<'_> = match schema {
            1 => Slice2::from(read_struct::<Slice1<'_>>(bytes)?).into(),
            2 => read_struct::<Slice2<'_>>(bytes)?.into(),
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
