//! `C` of a slice: statistics of a lane.

use serde::{Deserialize, Serialize};

use super::{Kept, NotARecord, read_struct};

/// Counts of the attempts at a lane in an hour, as far as this slice was there for it. Numbers alone, so it is
/// its own record, of schema 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneHour {
    pub attempts_succeeded: u64,
    pub attempts_failed: u64,
    /// Deliveries that ended: with a success …
    pub delivered: u64,
    /// … or with the last attempt of their schedule.
    pub failed: u64,
    /// Attempts that had an answer, and how long these took in all and at most, in microseconds, from
    /// when they were due.
    pub answered: u64,
    pub answer_us_sum: u64,
    pub answer_us_max: u64,
}

impl Kept for LaneHour {
    const SCHEMA: u16 = 1;
    type Record<'a> = &'a LaneHour;

    fn read(_: u16, bytes: &mut &[u8]) -> Result<LaneHour, NotARecord> {
        Ok(read_struct(bytes)?)
    }
}
