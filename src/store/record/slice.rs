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
}

impl SliceRecord {
    pub fn beginning(first: Timestamp) -> SliceRecord {
        SliceRecord {
            first,
            sealed: None,
        }
    }
}

/// Schema 1.
#[derive(Serialize, Deserialize)]
pub struct Slice1<'a> {
    first: u64,
    sealed: Option<Cow<'a, SliceMeta>>,
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

impl<'a> From<&'a SliceRecord> for Slice1<'a> {
    fn from(value: &'a SliceRecord) -> Slice1<'a> {
        Slice1 {
            first: value.first.0,
            sealed: value.sealed.as_ref().map(Cow::Borrowed),
        }
    }
}

impl From<Slice1<'_>> for SliceRecord {
    fn from(record: Slice1<'_>) -> SliceRecord {
        SliceRecord {
            first: Timestamp(record.first),
            sealed: record.sealed.map(Cow::into_owned),
        }
    }
}

impl Kept for SliceRecord {
    const SCHEMA: u16 = 1;
    type Record<'a> = Slice1<'a>;

    fn read(_: u16, bytes: &mut &[u8]) -> Result<SliceRecord, NotARecord> {
        Ok(read_struct::<Slice1<'_>>(bytes)?.into())
    }
}

impl Kept for SliceMeta {
    const SCHEMA: u16 = 1;
    type Record<'a> = &'a SliceMeta;

    fn read(_: u16, bytes: &mut &[u8]) -> Result<SliceMeta, NotARecord> {
        Ok(read_struct(bytes)?)
    }
}
