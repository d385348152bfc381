//! `M` of a slice: a message, but for its ids, which are its key, and its payload, which is the raw
//! bytes behind the record.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::values::mirrored;
use super::{Kept, NotARecord, read_struct};
use crate::clock::Timestamp;
use crate::domain::message::Origin;

#[derive(Clone, Debug, PartialEq)]
pub struct MessageMeta {
    pub commit: u64,
    pub accepted_at: Timestamp,
    pub event_type: String,
    pub event_id: Option<String>,
    pub channels: Vec<String>,
    pub origin: Origin,
    pub tags: Vec<String>,
    pub deliver_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub expunged: bool,
    pub is_raw: bool,
    pub content_type: Option<String>,
    pub endpoints_matched: Option<u32>,
    pub metadata: BTreeMap<String, String>,
    pub headers: BTreeMap<String, String>,
}

/// Schema 1: before tests.
#[derive(Deserialize)]
struct Message1 {
    commit: u64,
    accepted_at: u64,
    event_type: String,
    event_id: Option<String>,
    channels: Vec<String>,
}

/// Schema 2: before tags, and instants to deliver at and to expire.
#[derive(Deserialize)]
struct Message2 {
    before: Message1,
    origin: Origin1,
}

/// Schema 3: before raw payloads.
#[derive(Deserialize)]
struct Message3 {
    before: Message2,
    tags: Vec<String>,
    deliver_at: Option<u64>,
    expires_at: Option<u64>,
    expunged: bool,
}

/// Schema 4: before it was kept how many endpoints matched.
#[derive(Deserialize)]
struct Message4 {
    before: Message3,
    is_raw: bool,
    content_type: Option<String>,
}

/// Schema 5: before metadata and headers.
#[derive(Deserialize)]
struct Message5 {
    before: Message4,
    endpoints_matched: Option<u32>,
}

/// Schema 6.
#[derive(Serialize, Deserialize)]
pub struct Message6<'a> {
    commit: u64,
    accepted_at: u64,
    event_type: Cow<'a, str>,
    event_id: Option<Cow<'a, str>>,
    channels: Cow<'a, [String]>,
    origin: Origin1,
    tags: Cow<'a, [String]>,
    deliver_at: Option<u64>,
    expires_at: Option<u64>,
    expunged: bool,
    is_raw: bool,
    content_type: Option<Cow<'a, str>>,
    endpoints_matched: Option<u32>,
    metadata: Cow<'a, BTreeMap<String, String>>,
    headers: Cow<'a, BTreeMap<String, String>>,
}

mirrored! {
    Origin1 of Origin { Published, Test, TestOnce }
}

impl From<Message1> for Message2 {
    fn from(old: Message1) -> Message2 {
        Message2 {
            before: old,
            origin: Origin1::Published,
        }
    }
}

impl From<Message2> for Message3 {
    fn from(old: Message2) -> Message3 {
        Message3 {
            before: old,
            tags: Vec::new(),
            deliver_at: None,
            expires_at: None,
            expunged: false,
        }
    }
}

impl From<Message3> for Message4 {
    fn from(old: Message3) -> Message4 {
        Message4 {
            before: old,
            is_raw: false,
            content_type: None,
        }
    }
}

impl From<Message4> for Message5 {
    fn from(old: Message4) -> Message5 {
        Message5 {
            before: old,
            endpoints_matched: None,
        }
    }
}

impl From<Message5> for Message6<'static> {
    fn from(old: Message5) -> Message6<'static> {
        let fourth = old.before;
        let third = fourth.before;
        let second = third.before;
        let first = second.before;
        Message6 {
            commit: first.commit,
            accepted_at: first.accepted_at,
            event_type: Cow::Owned(first.event_type),
            event_id: first.event_id.map(Cow::Owned),
            channels: Cow::Owned(first.channels),
            origin: second.origin,
            tags: Cow::Owned(third.tags),
            deliver_at: third.deliver_at,
            expires_at: third.expires_at,
            expunged: third.expunged,
            is_raw: fourth.is_raw,
            content_type: fourth.content_type.map(Cow::Owned),
            endpoints_matched: old.endpoints_matched,
            metadata: Cow::default(),
            headers: Cow::default(),
        }
    }
}

impl<'a> From<&'a MessageMeta> for Message6<'a> {
    fn from(value: &'a MessageMeta) -> Message6<'a> {
        Message6 {
            commit: value.commit,
            accepted_at: value.accepted_at.0,
            event_type: Cow::from(&value.event_type),
            event_id: value.event_id.as_deref().map(Cow::Borrowed),
            channels: Cow::from(&value.channels),
            origin: Origin1::from(&value.origin),
            tags: Cow::from(&value.tags),
            deliver_at: value.deliver_at.map(|at| at.0),
            expires_at: value.expires_at.map(|at| at.0),
            expunged: value.expunged,
            is_raw: value.is_raw,
            content_type: value.content_type.as_deref().map(Cow::Borrowed),
            endpoints_matched: value.endpoints_matched,
            metadata: Cow::Borrowed(&value.metadata),
            headers: Cow::Borrowed(&value.headers),
        }
    }
}

impl From<Message6<'_>> for MessageMeta {
    fn from(record: Message6<'_>) -> MessageMeta {
        MessageMeta {
            commit: record.commit,
            accepted_at: Timestamp(record.accepted_at),
            event_type: record.event_type.into_owned(),
            event_id: record.event_id.map(Cow::into_owned),
            channels: record.channels.into_owned(),
            origin: Origin::from(record.origin),
            tags: record.tags.into_owned(),
            deliver_at: record.deliver_at.map(Timestamp),
            expires_at: record.expires_at.map(Timestamp),
            expunged: record.expunged,
            is_raw: record.is_raw,
            content_type: record.content_type.map(Cow::into_owned),
            endpoints_matched: record.endpoints_matched,
            metadata: record.metadata.into_owned(),
            headers: record.headers.into_owned(),
        }
    }
}

impl Kept for MessageMeta {
    const SCHEMA: u16 = 6;
    type Record<'a> = Message6<'a>;

    fn read(schema: u16, bytes: &mut &[u8]) -> Result<MessageMeta, NotARecord> {
        let newest: Message6<'_> = match schema {
            1 => {
                let second = Message2::from(read_struct::<Message1>(bytes)?);
                Message5::from(Message4::from(Message3::from(second))).into()
            }
            2 => {
                let third = Message3::from(read_struct::<Message2>(bytes)?);
                Message5::from(Message4::from(third)).into()
            }
            3 => Message5::from(Message4::from(read_struct::<Message3>(bytes)?)).into(),
            4 => Message5::from(read_struct::<Message4>(bytes)?).into(),
            5 => read_struct::<Message5>(bytes)?.into(),
            _ => read_struct(bytes)?,
        };
        Ok(newest.into())
    }
}
