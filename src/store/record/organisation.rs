//! `o`: an organisation.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::values::Id;
use super::{Kept, NotARecord, read_struct};
use crate::clock::Timestamp;
use crate::domain::id::OrganisationId;
use crate::domain::organisation::Organisation;

/// Schema 1.
#[derive(Serialize, Deserialize)]
pub struct Organisation1<'a> {
    id: Id<OrganisationId>,
    name: Cow<'a, str>,
    created_at: u64,
}

impl<'a> From<&'a Organisation> for Organisation1<'a> {
    fn from(value: &'a Organisation) -> Organisation1<'a> {
        Organisation1 {
            id: Id(value.id),
            name: Cow::from(&value.name),
            created_at: value.created_at.0,
        }
    }
}

impl From<Organisation1<'_>> for Organisation {
    fn from(record: Organisation1<'_>) -> Organisation {
        Organisation {
            id: record.id.0,
            name: record.name.into_owned(),
            created_at: Timestamp(record.created_at),
        }
    }
}

impl Kept for Organisation {
    const SCHEMA: u16 = 1;
    type Record<'a> = Organisation1<'a>;

    fn read(_: u16, bytes: &mut &[u8]) -> Result<Organisation, NotARecord> {
        Ok(read_struct::<Organisation1<'_>>(bytes)?.into())
    }
}
