//! `j`: long work in the background.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::values::{Id, mirrored};
use super::{Kept, NotARecord, read_struct};
use crate::clock::Timestamp;
use crate::domain::id::{ApplicationId, EndpointId, JobId, MessageId, OrganisationId};
use crate::domain::job::{Job, JobState, Matching, Progress, Replay, Which, Work};
use crate::domain::message::DeliveryStatus;

/// Schema 1.
#[derive(Serialize, Deserialize)]
pub struct Job1<'a> {
    id: Id<JobId>,
    organisation: Id<OrganisationId>,
    work: Work1<'a>,
    state: JobState1<'a>,
    created_at: u64,
    updated_at: u64,
    behind: Option<Id<MessageId>>,
    progress: Progress1,
    result: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
pub enum Work1<'a> {
    Replay(Replay1<'a>),
    ApplicationUsage {
        since: u64,
        until: u64,
        applications: Option<Vec<Id<ApplicationId>>>,
    },
    EventTypeUsage,
}

#[derive(Serialize, Deserialize)]
pub struct Replay1<'a> {
    application: Id<ApplicationId>,
    endpoint: Id<EndpointId>,
    which: Which1<'a>,
    since: u64,
    until: u64,
}

#[derive(Serialize, Deserialize)]
pub enum Which1<'a> {
    Failed,
    Missing,
    Matching(Matching1<'a>),
}

#[derive(Serialize, Deserialize)]
pub struct Matching1<'a> {
    event_types: Option<Cow<'a, [String]>>,
    channel: Option<Cow<'a, str>>,
    tag: Option<Cow<'a, str>>,
    status: Option<DeliveryStatus1>,
    status_class: Option<u16>,
}

mirrored! {
    DeliveryStatus1 of DeliveryStatus { Delivered, Pending, Held, Failed }
}

#[derive(Serialize, Deserialize)]
pub enum JobState1<'a> {
    Running,
    Finished,
    Failed(Cow<'a, str>),
    Canceled,
}

#[derive(Serialize, Deserialize)]
struct Progress1 {
    looked_at: u64,
    done: u64,
}

impl<'a> From<&'a Job> for Job1<'a> {
    fn from(value: &'a Job) -> Job1<'a> {
        Job1 {
            id: Id(value.id),
            organisation: Id(value.organisation),
            work: Work1::from(&value.work),
            state: JobState1::from(&value.state),
            created_at: value.created_at.0,
            updated_at: value.updated_at.0,
            behind: value.behind.map(Id),
            progress: Progress1 {
                looked_at: value.progress.looked_at,
                done: value.progress.done,
            },
            result: value.result.as_deref().map(Cow::Borrowed),
        }
    }
}

impl From<Job1<'_>> for Job {
    fn from(record: Job1<'_>) -> Job {
        Job {
            id: record.id.0,
            organisation: record.organisation.0,
            work: Work::from(record.work),
            state: JobState::from(record.state),
            created_at: Timestamp(record.created_at),
            updated_at: Timestamp(record.updated_at),
            behind: record.behind.map(|id| id.0),
            progress: Progress {
                looked_at: record.progress.looked_at,
                done: record.progress.done,
            },
            result: record.result.map(Cow::into_owned),
        }
    }
}

impl<'a> From<&'a Work> for Work1<'a> {
    fn from(value: &'a Work) -> Work1<'a> {
        match value {
            Work::Replay(replay) => Work1::Replay(Replay1::from(replay)),
            Work::ApplicationUsage {
                since,
                until,
                applications,
            } => Work1::ApplicationUsage {
                since: since.0,
                until: until.0,
                applications: applications
                    .as_ref()
                    .map(|ids| ids.iter().copied().map(Id).collect()),
            },
            Work::EventTypeUsage => Work1::EventTypeUsage,
        }
    }
}

impl From<Work1<'_>> for Work {
    fn from(record: Work1<'_>) -> Work {
        match record {
            Work1::Replay(replay) => Work::Replay(Replay::from(replay)),
            Work1::ApplicationUsage {
                since,
                until,
                applications,
            } => Work::ApplicationUsage {
                since: Timestamp(since),
                until: Timestamp(until),
                applications: applications.map(|ids| ids.into_iter().map(|id| id.0).collect()),
            },
            Work1::EventTypeUsage => Work::EventTypeUsage,
        }
    }
}

impl<'a> From<&'a Replay> for Replay1<'a> {
    fn from(value: &'a Replay) -> Replay1<'a> {
        Replay1 {
            application: Id(value.application),
            endpoint: Id(value.endpoint),
            which: Which1::from(&value.which),
            since: value.since.0,
            until: value.until.0,
        }
    }
}

impl From<Replay1<'_>> for Replay {
    fn from(record: Replay1<'_>) -> Replay {
        Replay {
            application: record.application.0,
            endpoint: record.endpoint.0,
            which: Which::from(record.which),
            since: Timestamp(record.since),
            until: Timestamp(record.until),
        }
    }
}

impl<'a> From<&'a Which> for Which1<'a> {
    fn from(value: &'a Which) -> Which1<'a> {
        match value {
            Which::Failed => Which1::Failed,
            Which::Missing => Which1::Missing,
            Which::Matching(matching) => Which1::Matching(Matching1::from(matching)),
        }
    }
}

impl From<Which1<'_>> for Which {
    fn from(record: Which1<'_>) -> Which {
        match record {
            Which1::Failed => Which::Failed,
            Which1::Missing => Which::Missing,
            Which1::Matching(matching) => Which::Matching(Matching::from(matching)),
        }
    }
}

impl<'a> From<&'a Matching> for Matching1<'a> {
    fn from(value: &'a Matching) -> Matching1<'a> {
        Matching1 {
            event_types: value.event_types.as_deref().map(Cow::Borrowed),
            channel: value.channel.as_deref().map(Cow::Borrowed),
            tag: value.tag.as_deref().map(Cow::Borrowed),
            status: value.status.as_ref().map(DeliveryStatus1::from),
            status_class: value.status_class,
        }
    }
}

impl From<Matching1<'_>> for Matching {
    fn from(record: Matching1<'_>) -> Matching {
        Matching {
            event_types: record.event_types.map(Cow::into_owned),
            channel: record.channel.map(Cow::into_owned),
            tag: record.tag.map(Cow::into_owned),
            status: record.status.map(DeliveryStatus::from),
            status_class: record.status_class,
        }
    }
}

impl<'a> From<&'a JobState> for JobState1<'a> {
    fn from(value: &'a JobState) -> JobState1<'a> {
        match value {
            JobState::Running => JobState1::Running,
            JobState::Finished => JobState1::Finished,
            JobState::Failed(why) => JobState1::Failed(Cow::from(why)),
            JobState::Canceled => JobState1::Canceled,
        }
    }
}

impl From<JobState1<'_>> for JobState {
    fn from(record: JobState1<'_>) -> JobState {
        match record {
            JobState1::Running => JobState::Running,
            JobState1::Finished => JobState::Finished,
            JobState1::Failed(why) => JobState::Failed(why.into_owned()),
            JobState1::Canceled => JobState::Canceled,
        }
    }
}

impl Kept for Job {
    const SCHEMA: u16 = 1;
    type Record<'a> = Job1<'a>;

    fn read(_: u16, bytes: &mut &[u8]) -> Result<Job, NotARecord> {
        Ok(read_struct::<Job1<'_>>(bytes)?.into())
    }
}
