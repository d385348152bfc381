//! `m` of the live database: what it says happened.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::slice::SliceMeta;
use super::{Kept, NotARecord, read_struct};
use crate::clock::Timestamp;

/// Written with every commit: the live database's word on what happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    pub format: u32,
    /// The number of the last commit; a record in a slice with a higher one was never answered.
    pub commit: u64,
    /// The last process closed the store.
    pub clean: bool,
    /// Registrations of all kinds.
    pub registrations: u64,
    /// Deliveries that wait, by the slice that holds their message.
    pub waiting: Vec<(u32, u64)>,
    /// The highest endpoint number that was ever given.
    pub last_endpoint_number: u64,
    /// The time of the newest id.
    pub last_time: Timestamp,
    /// The newest slice, so that a start need not open it to know how full it is.
    pub slice: SliceMeta,
    /// Commit numbers (first, last) that ended in a slice and not here, because the process died
    /// between the two. What bears such a number does not exist.
    pub dead_commits: Vec<(u64, u64)>,
}

/// Schema 1.
#[derive(Serialize, Deserialize)]
pub struct Meta1<'a> {
    format: u32,
    commit: u64,
    clean: bool,
    registrations: u64,
    waiting: Cow<'a, [(u32, u64)]>,
    last_endpoint_number: u64,
    last_time: u64,
    slice: Cow<'a, SliceMeta>,
    dead_commits: Cow<'a, [(u64, u64)]>,
}

impl<'a> From<&'a Meta> for Meta1<'a> {
    fn from(value: &'a Meta) -> Meta1<'a> {
        Meta1 {
            format: value.format,
            commit: value.commit,
            clean: value.clean,
            registrations: value.registrations,
            waiting: Cow::from(&value.waiting),
            last_endpoint_number: value.last_endpoint_number,
            last_time: value.last_time.0,
            slice: Cow::Borrowed(&value.slice),
            dead_commits: Cow::from(&value.dead_commits),
        }
    }
}

impl From<Meta1<'_>> for Meta {
    fn from(record: Meta1<'_>) -> Meta {
        Meta {
            format: record.format,
            commit: record.commit,
            clean: record.clean,
            registrations: record.registrations,
            waiting: record.waiting.into_owned(),
            last_endpoint_number: record.last_endpoint_number,
            last_time: Timestamp(record.last_time),
            slice: record.slice.into_owned(),
            dead_commits: record.dead_commits.into_owned(),
        }
    }
}

impl Kept for Meta {
    const SCHEMA: u16 = 1;
    type Record<'a> = Meta1<'a>;

    fn read(_: u16, bytes: &mut &[u8]) -> Result<Meta, NotARecord> {
        Ok(read_struct::<Meta1<'_>>(bytes)?.into())
    }
}
