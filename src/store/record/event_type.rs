//! `e`: an event type.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};

use super::values::{Id, mirrored};
use super::{Kept, NotARecord, read_struct};
use crate::clock::Timestamp;
use crate::domain::event_type::{EventType, Strictness};
use crate::domain::id::OrganisationId;

/// Schema 1: before examples.
#[derive(Deserialize)]
struct EventType1 {
    organisation: Id<OrganisationId>,
    name: String,
    description: String,
    archived: bool,
    deprecated: bool,
    feature_flag: Option<String>,
    schemas: Option<String>,
    created_at: u64,
    updated_at: u64,
}

/// Schema 2: before groups, and with one feature flag at most.
#[derive(Deserialize)]
struct EventType2 {
    before: EventType1,
    example: Option<String>,
    channels: Option<Vec<String>>,
}

/// Schema 3: before payloads were held against their schemas.
#[derive(Deserialize)]
struct EventType3 {
    organisation: Id<OrganisationId>,
    name: String,
    description: String,
    archived: bool,
    deprecated: bool,
    feature_flags: Vec<String>,
    schemas: Option<String>,
    created_at: u64,
    updated_at: u64,
    example: Option<String>,
    channels: Option<Vec<String>>,
    group_name: Option<String>,
}

/// Schema 4.
#[derive(Serialize, Deserialize)]
pub struct EventType4<'a> {
    organisation: Id<OrganisationId>,
    name: Cow<'a, str>,
    description: Cow<'a, str>,
    archived: bool,
    deprecated: bool,
    #[serde(
        default,
        alias = "feature_flag",
        deserialize_with = "feature_flags_of_any_age"
    )]
    feature_flags: Cow<'a, [String]>,
    schemas: Option<Cow<'a, str>>,
    created_at: u64,
    updated_at: u64,
    #[serde(default)]
    example: Option<Cow<'a, str>>,
    #[serde(default)]
    channels: Option<Cow<'a, [String]>>,
    #[serde(default)]
    group_name: Option<Cow<'a, str>>,
    #[serde(default = "off")]
    validate: Strictness1,
}

mirrored! {
    #[serde(rename_all = "camelCase")]
    Strictness1 of Strictness { Off, Warn, Reject }
}

/// Exports of before have none.
fn off() -> Strictness1 {
    Strictness1::Off
}

/// Exports once had one flag or none in the place of the list.
fn feature_flags_of_any_age<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Cow<'static, [String]>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum AnyAge {
        Flags(Vec<String>),
        Flag(Option<String>),
    }
    if !deserializer.is_human_readable() {
        return Vec::deserialize(deserializer).map(Cow::Owned);
    }
    Ok(Cow::Owned(match AnyAge::deserialize(deserializer)? {
        AnyAge::Flags(flags) => flags,
        AnyAge::Flag(flag) => flag.into_iter().collect(),
    }))
}

impl From<EventType1> for EventType2 {
    fn from(old: EventType1) -> EventType2 {
        EventType2 {
            before: old,
            example: None,
            channels: None,
        }
    }
}

impl From<EventType2> for EventType3 {
    fn from(old: EventType2) -> EventType3 {
        let EventType2 {
            before,
            example,
            channels,
        } = old;
        EventType3 {
            organisation: before.organisation,
            name: before.name,
            description: before.description,
            archived: before.archived,
            deprecated: before.deprecated,
            feature_flags: before.feature_flag.into_iter().collect(),
            schemas: before.schemas,
            created_at: before.created_at,
            updated_at: before.updated_at,
            example,
            channels,
            group_name: None,
        }
    }
}

impl From<EventType3> for EventType4<'static> {
    fn from(old: EventType3) -> EventType4<'static> {
        EventType4 {
            organisation: old.organisation,
            name: Cow::Owned(old.name),
            description: Cow::Owned(old.description),
            archived: old.archived,
            deprecated: old.deprecated,
            feature_flags: Cow::Owned(old.feature_flags),
            schemas: old.schemas.map(Cow::Owned),
            created_at: old.created_at,
            updated_at: old.updated_at,
            example: old.example.map(Cow::Owned),
            channels: old.channels.map(Cow::Owned),
            group_name: old.group_name.map(Cow::Owned),
            validate: Strictness1::Off,
        }
    }
}

impl<'a> From<&'a EventType> for EventType4<'a> {
    fn from(value: &'a EventType) -> EventType4<'a> {
        EventType4 {
            organisation: Id(value.organisation),
            name: Cow::from(&value.name),
            description: Cow::from(&value.description),
            archived: value.archived,
            deprecated: value.deprecated,
            feature_flags: Cow::from(&value.feature_flags),
            schemas: value.schemas.as_deref().map(Cow::Borrowed),
            created_at: value.created_at.0,
            updated_at: value.updated_at.0,
            example: value.example.as_deref().map(Cow::Borrowed),
            channels: value.channels.as_deref().map(Cow::Borrowed),
            group_name: value.group_name.as_deref().map(Cow::Borrowed),
            validate: Strictness1::from(&value.validate),
        }
    }
}

impl From<EventType4<'_>> for EventType {
    fn from(record: EventType4<'_>) -> EventType {
        EventType {
            organisation: record.organisation.0,
            name: record.name.into_owned(),
            description: record.description.into_owned(),
            archived: record.archived,
            deprecated: record.deprecated,
            feature_flags: record.feature_flags.into_owned(),
            schemas: record.schemas.map(Cow::into_owned),
            created_at: Timestamp(record.created_at),
            updated_at: Timestamp(record.updated_at),
            example: record.example.map(Cow::into_owned),
            channels: record.channels.map(Cow::into_owned),
            group_name: record.group_name.map(Cow::into_owned),
            validate: record.validate.into(),
        }
    }
}

impl Kept for EventType {
    const SCHEMA: u16 = 4;
    type Record<'a> = EventType4<'a>;

    fn read(schema: u16, bytes: &mut &[u8]) -> Result<EventType, NotARecord> {
        let newest: EventType4<'_> = match schema {
            1 => EventType3::from(EventType2::from(read_struct::<EventType1>(bytes)?)).into(),
            2 => EventType3::from(read_struct::<EventType2>(bytes)?).into(),
            3 => read_struct::<EventType3>(bytes)?.into(),
            _ => read_struct(bytes)?,
        };
        Ok(newest.into())
    }
}
