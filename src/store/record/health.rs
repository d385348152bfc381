//! `h` of the live database: the health of an endpoint whose attempts fail, or of which a person was told lately.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::values::mirrored;
use super::{Kept, NotARecord, read_struct};
use crate::clock::Timestamp;
use crate::domain::health::{Failing, Health, Rest, RestReason};
use crate::domain::notice::{News, Notice, Told, ToldKind};

/// Schema 1.
#[derive(Serialize, Deserialize)]
pub struct Health1<'a> {
    failing: Option<Failing1>,
    notice: Option<Notice1<'a>>,
}

#[derive(Serialize, Deserialize)]
struct Failing1 {
    since: u64,
    last_at: u64,
    failures: u32,
    rest: Option<Rest1>,
    warned: u8,
    disables_at: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Rest1 {
    reason: RestReason1,
    since: u64,
    probe_at: u64,
    probes: u32,
}

mirrored! {
    RestReason1 of RestReason { Failures, RetryAfter }
}

#[derive(Serialize, Deserialize)]
struct Notice1<'a> {
    due: Option<u64>,
    news: News1<'a>,
    told_at: Option<u64>,
    told_failing: bool,
    mail: Option<Told1<'a>>,
}

#[derive(Serialize, Deserialize)]
struct News1<'a> {
    exhausted: u64,
    failure: Cow<'a, str>,
    event_type: Cow<'a, str>,
    disabled: bool,
}

#[derive(Serialize, Deserialize)]
struct Told1<'a> {
    at: u64,
    kind: ToldKind1,
    failing_since: Option<u64>,
    disables_at: Option<u64>,
    news: News1<'a>,
}

mirrored! {
    ToldKind1 of ToldKind { Failing, Recovered }
}

impl<'a> From<&'a Health> for Health1<'a> {
    fn from(value: &'a Health) -> Health1<'a> {
        Health1 {
            failing: value.failing.as_ref().map(Failing1::from),
            notice: value.notice.as_ref().map(Notice1::from),
        }
    }
}

impl From<Health1<'_>> for Health {
    fn from(record: Health1<'_>) -> Health {
        Health {
            failing: record.failing.map(Failing::from),
            notice: record.notice.map(Notice::from),
        }
    }
}

impl From<&Failing> for Failing1 {
    fn from(value: &Failing) -> Failing1 {
        Failing1 {
            since: value.since.0,
            last_at: value.last_at.0,
            failures: value.failures,
            rest: value.rest.as_ref().map(Rest1::from),
            warned: value.warned,
            disables_at: value.disables_at.map(|at| at.0),
        }
    }
}

impl From<Failing1> for Failing {
    fn from(record: Failing1) -> Failing {
        Failing {
            since: Timestamp(record.since),
            last_at: Timestamp(record.last_at),
            failures: record.failures,
            rest: record.rest.map(Rest::from),
            warned: record.warned,
            disables_at: record.disables_at.map(Timestamp),
        }
    }
}

impl From<&Rest> for Rest1 {
    fn from(value: &Rest) -> Rest1 {
        Rest1 {
            reason: RestReason1::from(&value.reason),
            since: value.since.0,
            probe_at: value.probe_at.0,
            probes: value.probes,
        }
    }
}

impl From<Rest1> for Rest {
    fn from(record: Rest1) -> Rest {
        Rest {
            reason: record.reason.into(),
            since: Timestamp(record.since),
            probe_at: Timestamp(record.probe_at),
            probes: record.probes,
        }
    }
}

impl<'a> From<&'a Notice> for Notice1<'a> {
    fn from(value: &'a Notice) -> Notice1<'a> {
        Notice1 {
            due: value.due.map(|at| at.0),
            news: News1::from(&value.news),
            told_at: value.told_at.map(|at| at.0),
            told_failing: value.told_failing,
            mail: value.mail.as_ref().map(Told1::from),
        }
    }
}

impl From<Notice1<'_>> for Notice {
    fn from(record: Notice1<'_>) -> Notice {
        Notice {
            due: record.due.map(Timestamp),
            news: record.news.into(),
            told_at: record.told_at.map(Timestamp),
            told_failing: record.told_failing,
            mail: record.mail.map(Told::from),
        }
    }
}

impl<'a> From<&'a News> for News1<'a> {
    fn from(value: &'a News) -> News1<'a> {
        News1 {
            exhausted: value.exhausted,
            failure: Cow::Borrowed(&value.failure),
            event_type: Cow::Borrowed(&value.event_type),
            disabled: value.disabled,
        }
    }
}

impl From<News1<'_>> for News {
    fn from(record: News1<'_>) -> News {
        News {
            exhausted: record.exhausted,
            failure: record.failure.into_owned(),
            event_type: record.event_type.into_owned(),
            disabled: record.disabled,
        }
    }
}

impl<'a> From<&'a Told> for Told1<'a> {
    fn from(value: &'a Told) -> Told1<'a> {
        Told1 {
            at: value.at.0,
            kind: ToldKind1::from(&value.kind),
            failing_since: value.failing_since.map(|at| at.0),
            disables_at: value.disables_at.map(|at| at.0),
            news: News1::from(&value.news),
        }
    }
}

impl From<Told1<'_>> for Told {
    fn from(record: Told1<'_>) -> Told {
        Told {
            at: Timestamp(record.at),
            kind: record.kind.into(),
            failing_since: record.failing_since.map(Timestamp),
            disables_at: record.disables_at.map(Timestamp),
            news: record.news.into(),
        }
    }
}

impl Kept for Health {
    const SCHEMA: u16 = 1;
    type Record<'a> = Health1<'a>;

    fn read(_: u16, bytes: &mut &[u8]) -> Result<Health, NotARecord> {
        Ok(read_struct::<Health1<'_>>(bytes)?.into())
    }
}
