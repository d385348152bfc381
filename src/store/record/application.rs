//! `a`: an application.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::values::Id;
use super::{Kept, NotARecord, read_struct};
use crate::clock::Timestamp;
use crate::domain::application::{Application, TokensEnding};
use crate::domain::id::{ApplicationId, OrganisationId};

/// Schema 1: before signed tokens.
#[derive(Deserialize)]
struct Application1 {
    id: Id<ApplicationId>,
    organisation: Id<OrganisationId>,
    uid: Option<String>,
    name: String,
    metadata: BTreeMap<String, String>,
    throttle_rate: Option<u16>,
    created_at: u64,
    updated_at: u64,
}

/// Schema 2.
#[derive(Serialize, Deserialize)]
pub struct Application2<'a> {
    id: Id<ApplicationId>,
    organisation: Id<OrganisationId>,
    uid: Option<Cow<'a, str>>,
    name: Cow<'a, str>,
    metadata: Cow<'a, BTreeMap<String, String>>,
    throttle_rate: Option<u16>,
    created_at: u64,
    updated_at: u64,
    #[serde(default)]
    tokens_valid_from: Option<u64>,
    #[serde(default)]
    tokens_ending: Option<TokensEnding1>,
}

#[derive(Serialize, Deserialize)]
struct TokensEnding1 {
    issued_before: u64,
    at: u64,
}

impl From<Application1> for Application2<'static> {
    fn from(old: Application1) -> Application2<'static> {
        Application2 {
            id: old.id,
            organisation: old.organisation,
            uid: old.uid.map(Cow::Owned),
            name: Cow::Owned(old.name),
            metadata: Cow::Owned(old.metadata),
            throttle_rate: old.throttle_rate,
            created_at: old.created_at,
            updated_at: old.updated_at,
            tokens_valid_from: None,
            tokens_ending: None,
        }
    }
}

impl<'a> From<&'a Application> for Application2<'a> {
    fn from(value: &'a Application) -> Application2<'a> {
        Application2 {
            id: Id(value.id),
            organisation: Id(value.organisation),
            uid: value.uid.as_deref().map(Cow::Borrowed),
            name: Cow::from(&value.name),
            metadata: Cow::Borrowed(&value.metadata),
            throttle_rate: value.throttle_rate,
            created_at: value.created_at.0,
            updated_at: value.updated_at.0,
            tokens_valid_from: value.tokens_valid_from.map(|at| at.0),
            tokens_ending: value.tokens_ending.map(|ending| TokensEnding1 {
                issued_before: ending.issued_before.0,
                at: ending.at.0,
            }),
        }
    }
}

impl From<Application2<'_>> for Application {
    fn from(record: Application2<'_>) -> Application {
        Application {
            id: record.id.0,
            organisation: record.organisation.0,
            uid: record.uid.map(Cow::into_owned),
            name: record.name.into_owned(),
            metadata: record.metadata.into_owned(),
            throttle_rate: record.throttle_rate,
            created_at: Timestamp(record.created_at),
            updated_at: Timestamp(record.updated_at),
            tokens_valid_from: record.tokens_valid_from.map(Timestamp),
            tokens_ending: record.tokens_ending.map(|ending| TokensEnding {
                issued_before: Timestamp(ending.issued_before),
                at: Timestamp(ending.at),
            }),
        }
    }
}

impl Kept for Application {
    const SCHEMA: u16 = 2;
    type Record<'a> = Application2<'a>;

    fn read(schema: u16, bytes: &mut &[u8]) -> Result<Application, NotARecord> {
        let newest: Application2<'_> = match schema {
            1 => read_struct::<Application1>(bytes)?.into(),
            _ => read_struct(bytes)?,
        };
        Ok(newest.into())
    }
}
