//! `k` of the live database: how far the databases have the journal.

use serde::{Deserialize, Serialize};

use super::{Kept, NotARecord, read_struct};

/// How far the databases have the journal: everything up to this position is on disk in them. Numbers
/// alone, so it is its own record, of schema 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Which journal.
    pub stream: u64,
    pub position: u64,
    /// Of the record at that position.
    pub chain: u64,
}

impl Kept for Checkpoint {
    const SCHEMA: u16 = 1;
    type Record<'a> = &'a Checkpoint;

    fn read(_: u16, bytes: &mut &[u8]) -> Result<Checkpoint, NotARecord> {
        Ok(read_struct(bytes)?)
    }
}
