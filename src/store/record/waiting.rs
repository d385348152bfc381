//! `q` and `r` of the live database: deliveries that wait. Most of what is to say of one is its key.

use serde::{Deserialize, Serialize};

use super::values::mirrored;
use super::{Kept, NotARecord, read_struct};
use crate::clock::Timestamp;
use crate::domain::attempt::Trigger;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Waiting {
    pub attempts: u32,
    pub trigger: Trigger,
}

/// Schema 1.
#[derive(Serialize, Deserialize)]
pub struct Waiting1 {
    attempts: u32,
    trigger: Trigger1,
}

mirrored! {
    Trigger1 of Trigger { Scheduled, Manual }
}

/// When a delivery is due that waits for an attempt by hand: nothing else tells, once its message
/// was accepted long ago and before its attempt is in the log. And when one is due before the time in
/// its message's id, which happens where the clock was set back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resent {
    pub due: Timestamp,
}

/// Schema 1.
#[derive(Serialize, Deserialize)]
pub struct Resent1 {
    due: u64,
}

impl From<&Waiting> for Waiting1 {
    fn from(value: &Waiting) -> Waiting1 {
        Waiting1 {
            attempts: value.attempts,
            trigger: Trigger1::from(&value.trigger),
        }
    }
}

impl From<Waiting1> for Waiting {
    fn from(record: Waiting1) -> Waiting {
        Waiting {
            attempts: record.attempts,
            trigger: Trigger::from(record.trigger),
        }
    }
}

impl Kept for Waiting {
    const SCHEMA: u16 = 1;
    type Record<'a> = Waiting1;

    fn read(_: u16, bytes: &mut &[u8]) -> Result<Waiting, NotARecord> {
        Ok(read_struct::<Waiting1>(bytes)?.into())
    }
}

impl From<&Resent> for Resent1 {
    fn from(value: &Resent) -> Resent1 {
        Resent1 { due: value.due.0 }
    }
}

impl From<Resent1> for Resent {
    fn from(record: Resent1) -> Resent {
        Resent {
            due: Timestamp(record.due),
        }
    }
}

impl Kept for Resent {
    const SCHEMA: u16 = 1;
    type Record<'a> = Resent1;

    fn read(_: u16, bytes: &mut &[u8]) -> Result<Resent, NotARecord> {
        Ok(read_struct::<Resent1>(bytes)?.into())
    }
}
