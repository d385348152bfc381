//! `x`: a credential that was ended before its time.

use serde::{Deserialize, Serialize};

use super::{Kept, NotARecord, read_struct};
use crate::clock::Timestamp;
use crate::domain::token::Revocation;

/// Schema 1.
#[derive(Serialize, Deserialize)]
pub struct Revocation1 {
    hash: [u8; 32],
    until: Option<u64>,
}

impl From<&Revocation> for Revocation1 {
    fn from(value: &Revocation) -> Revocation1 {
        Revocation1 {
            hash: value.hash,
            until: value.until.map(|at| at.0),
        }
    }
}

impl From<Revocation1> for Revocation {
    fn from(record: Revocation1) -> Revocation {
        Revocation {
            hash: record.hash,
            until: record.until.map(Timestamp),
        }
    }
}

impl Kept for Revocation {
    const SCHEMA: u16 = 1;
    type Record<'a> = Revocation1;

    fn read(_: u16, bytes: &mut &[u8]) -> Result<Revocation, NotARecord> {
        Ok(read_struct::<Revocation1>(bytes)?.into())
    }
}
