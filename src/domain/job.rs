//! Long work in the background: sending many messages again, and counting.
//!
//! A job is a registration like an endpoint: it is on disk, is in memory, and goes on after a
//! restart from where its last commit left it. What it sends is committed together with how far it
//! has come, so that nothing is sent twice or left out.

use serde::{Deserialize, Serialize};

use super::id::{ApplicationId, EndpointId, JobId, MessageId, OrganisationId};
use crate::clock::Timestamp;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub id: JobId,
    pub organisation: OrganisationId,
    pub work: Work,
    pub state: JobState,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// The last message that it has dealt with.
    pub behind: Option<MessageId>,
    pub progress: Progress,
    /// What it found out, as JSON text; absent until it is over, and where it only sends.
    pub result: Option<String>,
}

/// What a job does. New ones are appended: the store knows them by their place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Work {
    Replay(Replay),
    /// Counts what each application was sent.
    ApplicationUsage {
        since: Timestamp,
        until: Timestamp,
        /// All of the organisation where absent.
        applications: Option<Vec<ApplicationId>>,
    },
    /// Counts messages by event type, in all applications of the organisation.
    EventTypeUsage,
    /// Deletes the payloads of all messages of an application, and the answers to them.
    ExpungeContents {
        application: ApplicationId,
    },
}

/// Messages to send to one endpoint again, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replay {
    pub application: ApplicationId,
    pub endpoint: EndpointId,
    pub which: Which,
    /// Messages accepted from then on …
    pub since: Timestamp,
    /// … and before then.
    pub until: Timestamp,
}

/// Which of an endpoint's messages are sent again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Which {
    /// Those whose delivery has failed for good.
    Failed,
    /// Those that the endpoint would get today, and never was sent.
    Missing,
    /// Those that the endpoint would get today and that all of these want.
    Matching(Matching),
}

/// What a message and its delivery must be like; what is absent does not matter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Matching {
    pub event_types: Option<Vec<String>>,
    pub channel: Option<String>,
    pub tag: Option<String>,
    pub status: Option<super::message::DeliveryStatus>,
    /// The hundreds of the last answer's status; 0 where there was none.
    pub status_class: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    Running,
    Finished,
    /// It cannot go on; the sentence says why.
    Failed(String),
    /// At a caller's wish. What it had sent by then stays sent.
    Canceled,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Messages looked at.
    pub looked_at: u64,
    /// Of those, sent again or deleted or counted.
    pub done: u64,
}

impl Job {
    pub fn is_running(&self) -> bool {
        self.state == JobState::Running
    }

    /// The application that it is about, where it is about one.
    pub fn application(&self) -> Option<ApplicationId> {
        match &self.work {
            Work::Replay(replay) => Some(replay.application),
            Work::ExpungeContents { application } => Some(*application),
            Work::ApplicationUsage { .. } | Work::EventTypeUsage => None,
        }
    }
}
