//! Long work in the background: sending many messages again, and counting.
//!
//! A job is a registration like an endpoint: it is on disk and in memory, and after a restart it
//! goes on from its last commit. The messages that it sends are committed together with its
//! progress, so that none is sent twice or left out.

use std::collections::HashMap;
use std::time::Duration;

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
    /// The last message that the job has looked at.
    pub behind: Option<MessageId>,
    pub progress: Progress,
    /// The result, as JSON text; absent until the job is over, and for jobs that only send.
    pub result: Option<String>,
}

/// The work of a job.
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
    /// Lists the event types that each application's endpoints ask for by name.
    EventTypeUsage,
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

/// The choice of an endpoint's messages to send again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Which {
    /// Those whose last attempt failed, whether they were given up or wait for a retry.
    Failed,
    /// Those that the endpoint would get today, and never was sent.
    Missing,
    /// Those that were for the endpoint and that all of these want.
    Matching(Matching),
}

/// The conditions for a message and its delivery. One that is absent does not matter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    /// The job cannot go on, for the reason in this sentence.
    Failed(String),
    /// A caller canceled the job. Messages that it had sent by then stay sent.
    Canceled,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Messages looked at.
    pub looked_at: u64,
    /// Of those, sent again or counted.
    pub done: u64,
}

impl Work {
    /// Its name for people.
    pub fn title(&self) -> &'static str {
        match self {
            Work::Replay(replay) => match replay.which {
                Which::Failed => "recovery",
                Which::Missing | Which::Matching(_) => "replay",
            },
            Work::ApplicationUsage { .. } | Work::EventTypeUsage => "count",
        }
    }
}

impl Job {
    pub fn new(organisation: OrganisationId, work: Work, now: Timestamp) -> Job {
        Job {
            id: JobId::at(now),
            organisation,
            work,
            state: JobState::Running,
            created_at: now,
            updated_at: now,
            behind: None,
            progress: Progress::default(),
            result: None,
        }
    }

    pub fn is_running(&self) -> bool {
        self.state == JobState::Running
    }

    /// How far it has come, from 0 to 1, by the time of the message that it has dealt with last; where
    /// it goes through messages. There are none from before `first`.
    pub fn fraction(&self, first: Timestamp) -> Option<f64> {
        if self.state == JobState::Finished {
            return Some(1.0);
        }
        let replay = self.replay()?;
        let begin = replay.since.max(first);
        let length = replay.until.since(begin).as_secs_f64();
        let come = self
            .behind
            .map_or(0.0, |last| last.time().since(begin).as_secs_f64());
        (length > 0.0).then(|| (come / length).min(1.0))
    }

    pub fn replay(&self) -> Option<&Replay> {
        match &self.work {
            Work::Replay(replay) => Some(replay),
            Work::ApplicationUsage { .. } | Work::EventTypeUsage => None,
        }
    }
}

/// Jobs of an organisation that run at a time: each takes its turn, so more are no faster.
pub const RUNNING_MAX: usize = 100;
/// While so many run, customers begin none: a job of theirs may wait for ever, at an endpoint that is
/// disabled, and the platform's own calls need room.
pub const RUNNING_FOR_CUSTOMERS_MAX: usize = RUNNING_MAX - RUNNING_MAX / 4;
/// While so many of one application run, its customer begins none.
pub const RUNNING_PER_APPLICATION_MAX: usize = 10;
/// Jobs of an organisation that are over and not forgotten: they are in memory.
pub const KEPT_MAX: usize = 100;
/// How long a job that is over is kept.
pub const KEPT_FOR: Duration = Duration::from_secs(90 * 24 * 3600);

/// Returns the jobs to forget: those that have been over for too long, or are beyond the newest
/// `kept_max` of their organisation. `jobs` are sorted by id.
pub fn forgotten<'a>(
    jobs: impl DoubleEndedIterator<Item = &'a Job>,
    kept_max: usize,
    now: Timestamp,
) -> Vec<JobId> {
    let mut kept: HashMap<OrganisationId, usize> = HashMap::new();
    let over = jobs.rev().filter(|job| !job.is_running());
    let is_forgotten = |job: &&Job| {
        let newer = kept.entry(job.organisation).or_default();
        *newer += 1;
        *newer > kept_max || now.since(job.updated_at) > KEPT_FOR
    };
    over.filter(is_forgotten).map(|job| job.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_has_come_as_far_as_the_message_that_it_dealt_with_last() {
        let at = |seconds: u64| Timestamp::from_seconds(1_700_000_000 + seconds);
        let job = |since: u64, behind: Option<u64>, state: JobState| Job {
            behind: behind.map(|seconds| MessageId::at(at(seconds))),
            state,
            ..Job::new(
                OrganisationId([1; 20]),
                Work::Replay(Replay {
                    application: ApplicationId([1; 20]),
                    endpoint: EndpointId([1; 20]),
                    which: Which::Failed,
                    since: at(since),
                    until: at(200),
                }),
                at(0),
            )
        };
        let running = || JobState::Running;
        for (job, first, expected) in [
            (job(100, None, running()), 0, Some(0.0)),
            (job(100, Some(150), running()), 0, Some(0.5)),
            (job(0, Some(150), running()), 100, Some(0.5)),
            (job(100, Some(300), running()), 0, Some(1.0)),
            (job(200, None, running()), 0, None),
            (job(100, Some(150), JobState::Canceled), 0, Some(0.5)),
            (job(100, Some(150), JobState::Finished), 0, Some(1.0)),
        ] {
            assert_eq!(job.fraction(at(first)), expected, "{job:?}");
        }
    }

    #[test]
    fn the_oldest_that_are_over_are_forgotten_in_each_organisation() {
        let now = Timestamp::from_seconds(1_700_000_000);
        let job = |number: u8, organisation: u8, state: JobState, age: Duration| Job {
            id: JobId([number; 20]),
            state,
            ..Job::new(
                OrganisationId([organisation; 20]),
                Work::EventTypeUsage,
                now.saturating_sub(age),
            )
        };
        let day = Duration::from_secs(24 * 3600);
        let jobs = [
            job(1, 1, JobState::Running, 91 * day),
            job(2, 1, JobState::Finished, day),
            job(3, 2, JobState::Finished, day),
            job(4, 1, JobState::Canceled, day),
            job(5, 1, JobState::Failed(String::new()), Duration::ZERO),
            job(6, 2, JobState::Finished, 91 * day),
        ];
        let ids = |numbers: &[u8]| Vec::from_iter(numbers.iter().map(|one| JobId([*one; 20])));
        assert_eq!(forgotten(jobs.iter(), 2, now), ids(&[6, 2]));
        assert_eq!(forgotten(jobs.iter(), 3, now), ids(&[6]));
    }
}
