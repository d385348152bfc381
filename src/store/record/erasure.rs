//! `d` of the live database: a deleted application whose messages and attempts still have content.

use serde::{Deserialize, Serialize};

use super::{Kept, NotARecord, read_struct};
use crate::clock::Timestamp;

/// How far the erasing of a deleted application has come.
#[derive(Clone, Debug, PartialEq)]
pub struct Erasure {
    pub deleted_at: Timestamp,
    /// The newest slice when the application was deleted: nothing that came later has content.
    pub until: u32,
    /// The slice to go on in …
    pub slice: u32,
    /// … and the key in it to go on from; empty at its beginning.
    pub from: Vec<u8>,
    /// Records on the way that could not be read, and so not be erased.
    pub left_out: u64,
}

impl Erasure {
    /// One that is still to begin.
    pub fn new(deleted_at: Timestamp, until: u32) -> Erasure {
        Erasure {
            deleted_at,
            until,
            slice: 0,
            from: Vec::new(),
            left_out: 0,
        }
    }
}

/// Schema 1.
#[derive(Serialize, Deserialize)]
pub struct Erasure1 {
    deleted_at: u64,
    until: u32,
    slice: u32,
    from: Vec<u8>,
    left_out: u64,
}

impl From<&Erasure> for Erasure1 {
    fn from(value: &Erasure) -> Erasure1 {
        Erasure1 {
            deleted_at: value.deleted_at.0,
            until: value.until,
            slice: value.slice,
            from: value.from.clone(),
            left_out: value.left_out,
        }
    }
}

impl From<Erasure1> for Erasure {
    fn from(record: Erasure1) -> Erasure {
        Erasure {
            deleted_at: Timestamp(record.deleted_at),
            until: record.until,
            slice: record.slice,
            from: record.from,
            left_out: record.left_out,
        }
    }
}

impl Kept for Erasure {
    const SCHEMA: u16 = 1;
    type Record<'a> = Erasure1;

    fn read(_: u16, bytes: &mut &[u8]) -> Result<Erasure, NotARecord> {
        Ok(read_struct::<Erasure1>(bytes)?.into())
    }
}
