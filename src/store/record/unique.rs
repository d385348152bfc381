//! `E` and `I` of a slice: what may be used once in a day, event ids and idempotency keys.

use serde::{Deserialize, Serialize};

use super::values::Id;
use super::{Kept, NotARecord, read_struct};
use crate::clock::Timestamp;
use crate::domain::id::{ApplicationId, MessageId};

#[derive(Clone, Debug, PartialEq)]
pub struct EventIdRecord {
    pub commit: u64,
    pub application: ApplicationId,
    pub message: MessageId,
}

/// Schema 1.
#[derive(Serialize, Deserialize)]
pub struct EventId1 {
    commit: u64,
    application: Id<ApplicationId>,
    message: Id<MessageId>,
}

/// The answer to a request with an idempotency key.
#[derive(Clone, Debug, PartialEq)]
pub struct OnceRecord {
    pub commit: u64,
    pub at: Timestamp,
    /// SHA-256 of the request's body.
    pub request: [u8; 32],
    pub answer: OnceAnswer,
}

#[derive(Clone, Debug, PartialEq)]
pub enum OnceAnswer {
    /// The accepted message; the answer is made from it again.
    Message(ApplicationId, MessageId),
    /// A status, with the body in the record's raw bytes.
    Answered(u16),
}

/// Schema 1.
#[derive(Serialize, Deserialize)]
pub struct Once1 {
    commit: u64,
    at: u64,
    request: [u8; 32],
    answer: OnceAnswer1,
}

#[derive(Serialize, Deserialize)]
pub enum OnceAnswer1 {
    Message(Id<ApplicationId>, Id<MessageId>),
    Answered(u16),
}

impl From<&EventIdRecord> for EventId1 {
    fn from(value: &EventIdRecord) -> EventId1 {
        EventId1 {
            commit: value.commit,
            application: Id(value.application),
            message: Id(value.message),
        }
    }
}

impl From<EventId1> for EventIdRecord {
    fn from(record: EventId1) -> EventIdRecord {
        EventIdRecord {
            commit: record.commit,
            application: record.application.0,
            message: record.message.0,
        }
    }
}

impl Kept for EventIdRecord {
    const SCHEMA: u16 = 1;
    type Record<'a> = EventId1;

    fn read(_: u16, bytes: &mut &[u8]) -> Result<EventIdRecord, NotARecord> {
        Ok(read_struct::<EventId1>(bytes)?.into())
    }
}

impl From<&OnceRecord> for Once1 {
    fn from(value: &OnceRecord) -> Once1 {
        Once1 {
            commit: value.commit,
            at: value.at.0,
            request: value.request,
            answer: OnceAnswer1::from(&value.answer),
        }
    }
}

impl From<Once1> for OnceRecord {
    fn from(record: Once1) -> OnceRecord {
        OnceRecord {
            commit: record.commit,
            at: Timestamp(record.at),
            request: record.request,
            answer: OnceAnswer::from(record.answer),
        }
    }
}

impl From<&OnceAnswer> for OnceAnswer1 {
    fn from(value: &OnceAnswer) -> OnceAnswer1 {
        match value {
            OnceAnswer::Message(application, message) => {
                OnceAnswer1::Message(Id(*application), Id(*message))
            }
            OnceAnswer::Answered(status) => OnceAnswer1::Answered(*status),
        }
    }
}

impl From<OnceAnswer1> for OnceAnswer {
    fn from(record: OnceAnswer1) -> OnceAnswer {
        match record {
            OnceAnswer1::Message(application, message) => {
                OnceAnswer::Message(application.0, message.0)
            }
            OnceAnswer1::Answered(status) => OnceAnswer::Answered(status),
        }
    }
}

impl Kept for OnceRecord {
    const SCHEMA: u16 = 1;
    type Record<'a> = Once1;

    fn read(_: u16, bytes: &mut &[u8]) -> Result<OnceRecord, NotARecord> {
        Ok(read_struct::<Once1>(bytes)?.into())
    }
}
