//! `A` and `T` of a slice: an attempt, and under which lane it stands.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::values::{Id, byte_slice, mirrored};
use super::waiting::Trigger1;
use super::{Kept, NotARecord, read_struct};
use crate::clock::Timestamp;
use crate::domain::attempt::{
    Answer, Attempt, FailureKind, SendFailure, Timings, Trigger, Verdict,
};
use crate::domain::id::{ApplicationId, AttemptId, EndpointId, MessageId};

/// Schema 1: before tests.
#[derive(Deserialize)]
struct Attempt1 {
    id: Id<AttemptId>,
    application: Id<ApplicationId>,
    message: Id<MessageId>,
    endpoint: Id<EndpointId>,
    number: u32,
    trigger: Trigger1,
    started_at: u64,
    timings: Timings1,
    url: String,
    method: String,
    request_headers: Vec<(String, String)>,
    answer: Option<Answer1<'static>>,
    failure: Option<Failure1<'static>>,
    sent_again: bool,
    verdict: Verdict1,
}

/// Schema 2.
#[derive(Serialize, Deserialize)]
pub struct Attempt2<'a> {
    id: Id<AttemptId>,
    application: Id<ApplicationId>,
    message: Id<MessageId>,
    endpoint: Id<EndpointId>,
    number: u32,
    trigger: Trigger1,
    started_at: u64,
    timings: Timings1,
    url: Cow<'a, str>,
    method: Cow<'a, str>,
    request_headers: Cow<'a, [(String, String)]>,
    answer: Option<Answer1<'a>>,
    failure: Option<Failure1<'a>>,
    sent_again: bool,
    verdict: Verdict1,
    test: bool,
}

#[derive(Serialize, Deserialize)]
struct Timings1 {
    dns_us: Option<u32>,
    connect_us: Option<u32>,
    tls_us: Option<u32>,
    first_byte_us: Option<u32>,
    total_us: u32,
}

#[derive(Serialize, Deserialize)]
struct Answer1<'a> {
    status: u16,
    headers: Cow<'a, [(String, String)]>,
    #[serde(with = "byte_slice")]
    body: Cow<'a, [u8]>,
    truncated: bool,
}

#[derive(Serialize, Deserialize)]
struct Failure1<'a> {
    kind: FailureKind1,
    detail: Cow<'a, str>,
}

mirrored! {
    FailureKind1 of FailureKind {
        AddressForbidden,
        Dns,
        ConnectionRefused,
        ConnectionFailed,
        Tls,
        Timeout,
        BrokenAnswer,
        WrongAnswer,
        NotSendable,
        Expired,
        InternalError,
        BreakerOpen,
        Canceled,
    }
}

#[derive(Serialize, Deserialize)]
pub enum Verdict1 {
    Delivered,
    RetryAt(u64),
    GiveUp,
    DisableEndpoint,
}

/// Which lane an attempt of a message stands under. A number alone, so it is its own record, of
/// schema 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptPlace {
    pub lane: u64,
}

impl From<Attempt1> for Attempt2<'static> {
    fn from(old: Attempt1) -> Attempt2<'static> {
        Attempt2 {
            id: old.id,
            application: old.application,
            message: old.message,
            endpoint: old.endpoint,
            number: old.number,
            trigger: old.trigger,
            started_at: old.started_at,
            timings: old.timings,
            url: Cow::Owned(old.url),
            method: Cow::Owned(old.method),
            request_headers: Cow::Owned(old.request_headers),
            answer: old.answer,
            failure: old.failure,
            sent_again: old.sent_again,
            verdict: old.verdict,
            test: false,
        }
    }
}

impl<'a> From<&'a Attempt> for Attempt2<'a> {
    fn from(value: &'a Attempt) -> Attempt2<'a> {
        Attempt2 {
            id: Id(value.id),
            application: Id(value.application),
            message: Id(value.message),
            endpoint: Id(value.endpoint),
            number: value.number,
            trigger: Trigger1::from(&value.trigger),
            started_at: value.started_at.0,
            timings: Timings1::from(&value.timings),
            url: Cow::from(&value.url),
            method: Cow::from(&value.method),
            request_headers: Cow::from(&value.request_headers),
            answer: value.answer.as_ref().map(Answer1::from),
            failure: value.failure.as_ref().map(Failure1::from),
            sent_again: value.sent_again,
            verdict: Verdict1::from(&value.verdict),
            test: value.test,
        }
    }
}

impl From<Attempt2<'_>> for Attempt {
    fn from(record: Attempt2<'_>) -> Attempt {
        Attempt {
            id: record.id.0,
            application: record.application.0,
            message: record.message.0,
            endpoint: record.endpoint.0,
            number: record.number,
            trigger: Trigger::from(record.trigger),
            started_at: Timestamp(record.started_at),
            timings: Timings::from(record.timings),
            url: record.url.into_owned(),
            method: record.method.into_owned(),
            request_headers: record.request_headers.into_owned(),
            answer: record.answer.map(Answer::from),
            failure: record.failure.map(SendFailure::from),
            sent_again: record.sent_again,
            verdict: Verdict::from(record.verdict),
            test: record.test,
        }
    }
}

impl From<&Timings> for Timings1 {
    fn from(value: &Timings) -> Timings1 {
        Timings1 {
            dns_us: value.dns_us,
            connect_us: value.connect_us,
            tls_us: value.tls_us,
            first_byte_us: value.first_byte_us,
            total_us: value.total_us,
        }
    }
}

impl From<Timings1> for Timings {
    fn from(record: Timings1) -> Timings {
        Timings {
            dns_us: record.dns_us,
            connect_us: record.connect_us,
            tls_us: record.tls_us,
            first_byte_us: record.first_byte_us,
            total_us: record.total_us,
        }
    }
}

impl<'a> From<&'a Answer> for Answer1<'a> {
    fn from(value: &'a Answer) -> Answer1<'a> {
        Answer1 {
            status: value.status,
            headers: Cow::from(&value.headers),
            body: Cow::from(&value.body),
            truncated: value.truncated,
        }
    }
}

impl From<Answer1<'_>> for Answer {
    fn from(record: Answer1<'_>) -> Answer {
        Answer {
            status: record.status,
            headers: record.headers.into_owned(),
            body: record.body.into_owned(),
            truncated: record.truncated,
        }
    }
}

impl<'a> From<&'a SendFailure> for Failure1<'a> {
    fn from(value: &'a SendFailure) -> Failure1<'a> {
        Failure1 {
            kind: FailureKind1::from(&value.kind),
            detail: Cow::from(&value.detail),
        }
    }
}

impl From<Failure1<'_>> for SendFailure {
    fn from(record: Failure1<'_>) -> SendFailure {
        SendFailure {
            kind: FailureKind::from(record.kind),
            detail: record.detail.into_owned(),
        }
    }
}

impl From<&Verdict> for Verdict1 {
    fn from(value: &Verdict) -> Verdict1 {
        match value {
            Verdict::Delivered => Verdict1::Delivered,
            Verdict::RetryAt(due) => Verdict1::RetryAt(due.0),
            Verdict::GiveUp => Verdict1::GiveUp,
            Verdict::DisableEndpoint => Verdict1::DisableEndpoint,
        }
    }
}

impl From<Verdict1> for Verdict {
    fn from(record: Verdict1) -> Verdict {
        match record {
            Verdict1::Delivered => Verdict::Delivered,
            Verdict1::RetryAt(due) => Verdict::RetryAt(Timestamp(due)),
            Verdict1::GiveUp => Verdict::GiveUp,
            Verdict1::DisableEndpoint => Verdict::DisableEndpoint,
        }
    }
}

impl Kept for Attempt {
    const SCHEMA: u16 = 2;
    type Record<'a> = Attempt2<'a>;

    fn read(schema: u16, bytes: &mut &[u8]) -> Result<Attempt, NotARecord> {
        let newest: Attempt2<'_> = match schema {
            1 => read_struct::<Attempt1>(bytes)?.into(),
            _ => read_struct(bytes)?,
        };
        Ok(newest.into())
    }
}

impl Kept for AttemptPlace {
    const SCHEMA: u16 = 1;
    type Record<'a> = &'a AttemptPlace;

    fn read(_: u16, bytes: &mut &[u8]) -> Result<AttemptPlace, NotARecord> {
        Ok(read_struct(bytes)?)
    }
}
