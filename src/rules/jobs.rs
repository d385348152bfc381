//! Background jobs: replays and counts, begun and canceled.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::caller::Caller;
use super::checks::wrong;
use super::permits::Action;
use super::{Command, Decided, OwnCommand, View};
use crate::catalog::{Catalog, Change};
use crate::clock::Timestamp;
use crate::domain::id::{JobId, OrganisationId};
use crate::domain::job::{
    Job, JobState, KEPT_MAX, Progress, RUNNING_FOR_CUSTOMERS_MAX, RUNNING_MAX,
    RUNNING_PER_APPLICATION_MAX, Replay, Which, Work, forgotten,
};
use crate::error::{Error, Result};

/// Returns a new job of the caller's organisation, or an error where too many run. Customers have a
/// limited part of the running jobs, so that none of them takes the room of the others and of the
/// platform.
fn begin(view: &View<'_>, caller: &Caller, work: Work) -> Result<Job> {
    let job = Job::new(caller.organisation, work, view.now);
    let application = |job: &Job| job.replay().map(|replay| replay.application);
    let (mut all, mut of_application) = (0, 0);
    for one in view.catalog.jobs().filter(|one| one.is_running()) {
        if one.organisation == caller.organisation {
            all += 1;
            of_application += usize::from(application(one) == application(&job));
        }
    }
    if caller.is_customer() && of_application >= RUNNING_PER_APPLICATION_MAX {
        return Err(Error::TooMany(format!(
            "at most {RUNNING_PER_APPLICATION_MAX} background jobs of an application run at a time: \
             wait until one is over, or cancel one"
        )));
    }
    let max = match caller.is_customer() {
        true => RUNNING_FOR_CUSTOMERS_MAX,
        false => RUNNING_MAX,
    };
    if all >= max {
        return Err(Error::TooMany(format!(
            "{max} background jobs of the organisation run already: try again when one is over"
        )));
    }
    Ok(job)
}

/// Begins to send messages to an endpoint again.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginReplay {
    /// An id or uid, as the endpoint.
    pub application: String,
    pub endpoint: String,
    pub which: Which,
    pub since: Timestamp,
    pub until: Timestamp,
}

impl BeginReplay {
    /// The action that its caller must be allowed to do.
    pub fn action(which: &Which) -> Action {
        match which {
            Which::Missing => Action::SendMissing,
            Which::Failed | Which::Matching(_) => Action::SendAgain,
        }
    }
}

impl Command for BeginReplay {
    type Answer = Job;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<Job> {
        let action = BeginReplay::action(&self.which);
        let endpoint = caller.endpoint(view.catalog, &self.application, &self.endpoint, action)?;
        let work = Work::Replay(Replay {
            application: endpoint.application,
            endpoint: endpoint.id,
            which: self.which,
            since: self.since,
            until: self.until,
        });
        let job = begin(view, caller, work)?;
        Ok((vec![Change::PutJob(job.clone())], job))
    }
}

/// Begins to count what applications were sent.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountApplications {
    pub since: Timestamp,
    pub until: Timestamp,
    /// Ids or uids; all of the organisation where absent.
    pub applications: Option<Vec<String>>,
}

/// A count that was begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CountBegun {
    pub job: Job,
    /// The ids and uids that no application has.
    pub unresolved: Vec<String>,
}

impl Command for CountApplications {
    type Answer = CountBegun;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<CountBegun> {
        caller.may(Action::ReadUsage)?;
        let mut unresolved = Vec::new();
        let applications = self.applications.map(|ids| {
            let mut found = BTreeSet::new();
            for id in ids {
                match view.catalog.application(caller.organisation, &id) {
                    Some(entry) => drop(found.insert(entry.application.id)),
                    None => unresolved.push(id),
                }
            }
            Vec::from_iter(found)
        });
        if applications.as_ref().is_some_and(Vec::is_empty) {
            return Err(wrong(&["body", "appIds"], "names no application"));
        }
        let work = Work::ApplicationUsage {
            since: self.since,
            until: self.until,
            applications,
        };
        let job = begin(view, caller, work)?;
        let change = Change::PutJob(job.clone());
        Ok((vec![change], CountBegun { job, unresolved }))
    }
}

/// Begins to list which event types endpoints ask for.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountEventTypes {}

impl Command for CountEventTypes {
    type Answer = Job;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<Job> {
        caller.may(Action::ReadUsage)?;
        let job = begin(view, caller, Work::EventTypeUsage)?;
        Ok((vec![Change::PutJob(job.clone())], job))
    }
}

/// Stops a job; what it has sent stays sent. Canceling it again changes nothing.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelJob {
    pub job: String,
}

impl Command for CancelJob {
    type Answer = Job;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<Job> {
        caller.may_with_some(Action::SendAgain)?;
        let job = caller.job(view.catalog, &self.job)?;
        if job.replay().is_none() {
            caller.may(Action::CancelUsage)?;
        }
        let mut job = (**job).clone();
        match job.state {
            JobState::Canceled => Ok((Vec::new(), job)),
            JobState::Finished | JobState::Failed(_) => Err(Error::Conflict(
                "the background job is over already".to_owned(),
            )),
            JobState::Running => {
                job.state = JobState::Canceled;
                job.updated_at = view.now;
                Ok((vec![Change::PutJob(job.clone())], job))
            }
        }
    }
}

/// Changes the job if it is still running.
fn changed(
    catalog: &Catalog,
    now: Timestamp,
    (organisation, id): (OrganisationId, JobId),
    change: impl FnOnce(&mut Job),
) -> Decided<()> {
    let running = catalog.job(organisation, id);
    let changed = running.filter(|job| job.is_running()).map(|job| {
        let mut job = (**job).clone();
        change(&mut job);
        job.updated_at = now;
        Change::PutJob(job)
    });
    Ok((Vec::from_iter(changed), ()))
}

/// Records the progress of a job that sends nothing.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoteProgress {
    pub organisation: OrganisationId,
    pub job: JobId,
    pub progress: Progress,
}

impl OwnCommand for NoteProgress {
    type Answer = ();

    fn decide(self, catalog: &Catalog, now: Timestamp) -> Decided<()> {
        changed(catalog, now, (self.organisation, self.job), |job| {
            job.progress = self.progress;
        })
    }
}

/// Ends a job that is running.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndJob {
    pub organisation: OrganisationId,
    pub job: JobId,
    pub state: JobState,
    /// The final progress; as it was where absent.
    pub progress: Option<Progress>,
    /// The result, as JSON text.
    pub result: Option<String>,
}

impl OwnCommand for EndJob {
    type Answer = ();

    fn decide(self, catalog: &Catalog, now: Timestamp) -> Decided<()> {
        changed(catalog, now, (self.organisation, self.job), |job| {
            job.state = self.state;
            job.progress = self.progress.unwrap_or(job.progress);
            job.result = self.result;
        })
    }
}

/// Forgets jobs that have been over for long, or are too many.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetJobs {}

impl ForgetJobs {
    /// The jobs that would be forgotten.
    pub fn due(catalog: &Catalog, now: Timestamp) -> Vec<JobId> {
        let jobs = catalog.jobs().map(|job| &**job);
        forgotten(jobs, KEPT_MAX, now)
    }
}

impl OwnCommand for ForgetJobs {
    type Answer = ();

    fn decide(self, catalog: &Catalog, now: Timestamp) -> Decided<()> {
        let due = ForgetJobs::due(catalog, now).into_iter();
        Ok((due.map(Change::DeleteJob).collect(), ()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::JobId;
    use crate::domain::token::{Role, Token};
    use crate::rules::tests::{Example, NOW, outcome};

    fn example() -> Example {
        Example::with([
            Change::PutApplication(Example::application()),
            Change::PutEndpoint(Example::new().endpoint()),
        ])
    }

    fn replay(application: &str, endpoint: &str, which: Which) -> BeginReplay {
        BeginReplay {
            application: application.to_owned(),
            endpoint: endpoint.to_owned(),
            which,
            since: NOW,
            until: NOW,
        }
    }

    fn job(state: JobState) -> Job {
        Job {
            state,
            ..Job::new(Example::ORGANISATION, Work::EventTypeUsage, NOW)
        }
    }

    #[test]
    fn a_replay_needs_an_endpoint_and_somebody_who_may_send() {
        let example = example();
        let own = example.endpoint().id.to_string();
        let nobody = "this token may not do that";
        for (application, endpoint, expected) in [
            ("one", own.as_str(), ""),
            ("one", "other", "endpoint not found"),
            ("two", own.as_str(), "application not found"),
        ] {
            for which in [Which::Failed, Which::Missing] {
                let command = replay(application, endpoint, which.clone());
                let decided = example.decide(command);
                assert_eq!(outcome(&decided), expected);
                let Ok((changes, begun)) = decided else {
                    continue;
                };
                assert!(matches!(&changes[..], [Change::PutJob(put)] if *put == begun));
                assert!(matches!(&begun.work, Work::Replay(one) if one.which == which));
            }
        }
        let command = replay("one", &own, Which::Failed);
        let decided = example.decide_as(&example.publisher(), command);
        assert_eq!(outcome(&decided), nobody);
    }

    #[test]
    fn so_many_jobs_run_at_a_time() {
        let mut example = example();
        for _ in 0..RUNNING_MAX {
            let (changes, _) = example.decide(CountEventTypes {}).unwrap();
            changes.into_iter().for_each(|one| example.happened(one));
        }
        let refused = outcome(&example.decide(CountEventTypes {}));
        assert!(refused.contains("run already"), "{refused}");
        let running = example.catalog.jobs().next().unwrap().id.to_string();
        let (changes, _) = example.decide(CancelJob { job: running }).unwrap();
        changes.into_iter().for_each(|one| example.happened(one));
        assert_eq!(outcome(&example.decide(CountEventTypes {})), "");
    }

    #[test]
    fn a_customer_has_a_part_of_the_jobs() {
        let token = Token {
            application: Some(Example::application().id),
            ..Token::new(
                Example::ORGANISATION,
                Role::Application,
                "key".to_owned(),
                [9; 32],
                NOW,
            )
        };
        let elsewhere = Job::new(Example::ORGANISATION, Work::EventTypeUsage, NOW);
        for (own, others, expected) in [
            (RUNNING_PER_APPLICATION_MAX - 1, 0, ""),
            (RUNNING_PER_APPLICATION_MAX, 0, "of an application run"),
            (0, RUNNING_FOR_CUSTOMERS_MAX - 1, ""),
            (0, RUNNING_FOR_CUSTOMERS_MAX, "of the organisation run"),
        ] {
            let mut example = example();
            example.happened(Change::PutToken(token.clone()));
            let endpoint = example.endpoint().id.to_string();
            let begin = || replay("one", &endpoint, Which::Failed);
            for _ in 0..own {
                let (changes, _) = example.decide(begin()).unwrap();
                changes.into_iter().for_each(|one| example.happened(one));
            }
            for _ in 0..others {
                let id = JobId::at(NOW);
                let job = Job {
                    id,
                    ..elsewhere.clone()
                };
                example.happened(Change::PutJob(job));
            }
            let caller = Example::caller(&token);
            let refused = outcome(&example.decide_as(&caller, begin()));
            assert!(refused.contains(expected), "{refused}");
            assert_eq!(refused.is_empty(), expected.is_empty(), "{refused}");
            assert_eq!(
                outcome(&example.decide(begin())),
                "",
                "the platform has room"
            );
        }
    }

    #[test]
    fn a_count_says_which_applications_there_are_not() {
        let example = example();
        let nothing = "body.appIds: names no application";
        for (ids, expected, found, unresolved) in [
            (None, "", None, vec![]),
            (Some(vec!["one"]), "", Some(1), vec![]),
            (Some(vec!["one", "two", "one"]), "", Some(1), vec!["two"]),
            (Some(vec!["two"]), nothing, None, vec![]),
        ] {
            let command = CountApplications {
                since: NOW,
                until: NOW,
                applications: ids.map(|ids| ids.into_iter().map(str::to_owned).collect()),
            };
            let decided = example.decide(command);
            assert_eq!(outcome(&decided), expected);
            let Ok((_, begun)) = decided else {
                continue;
            };
            assert_eq!(begun.unresolved, unresolved);
            let Work::ApplicationUsage { applications, .. } = begun.job.work else {
                panic!("another job");
            };
            assert_eq!(applications.map(|ids| ids.len()), found);
        }
    }

    #[test]
    fn only_what_runs_is_canceled() {
        let over = "the background job is over already";
        for (state, expected, changed) in [
            (JobState::Running, "", 1),
            (JobState::Canceled, "", 0),
            (JobState::Finished, over, 0),
            (JobState::Failed("it broke".to_owned()), over, 0),
        ] {
            let mut example = example();
            let job = job(state);
            let cancel = || CancelJob {
                job: job.id.to_string(),
            };
            assert_eq!(
                outcome(&example.decide(cancel())),
                "background job not found"
            );
            example.happened(Change::PutJob(job.clone()));
            let decided = example.decide(cancel());
            assert_eq!(outcome(&decided), expected);
            if let Ok((changes, after)) = decided {
                assert_eq!(changes.len(), changed);
                assert_eq!(after.state, JobState::Canceled);
            }
        }
    }

    #[test]
    fn only_a_job_that_runs_comes_further_or_ends() {
        let progress = Progress {
            looked_at: 3,
            done: 2,
        };
        for (state, counts) in [
            (JobState::Running, true),
            (JobState::Canceled, false),
            (JobState::Finished, false),
        ] {
            let job = job(state);
            let example = Example::with([Change::PutJob(job.clone())]);
            let catalog = &example.catalog;
            let later = Timestamp(NOW.0 + 1);
            let note = NoteProgress {
                organisation: job.organisation,
                job: job.id,
                progress,
            };
            let end = EndJob {
                organisation: job.organisation,
                job: job.id,
                state: JobState::Finished,
                progress: None,
                result: Some("{}".to_owned()),
            };
            let noted = note.decide(catalog, later).unwrap().0;
            let ended = end.decide(catalog, later).unwrap().0;
            if !counts {
                assert!(noted.is_empty() && ended.is_empty());
                continue;
            }
            let updated = Job {
                updated_at: later,
                ..job
            };
            let expected = Job {
                progress,
                ..updated.clone()
            };
            assert!(matches!(&noted[..], [Change::PutJob(job)] if *job == expected));
            let expected = Job {
                state: JobState::Finished,
                result: Some("{}".to_owned()),
                ..updated
            };
            assert!(matches!(&ended[..], [Change::PutJob(job)] if *job == expected));
        }
    }

    #[test]
    fn jobs_that_were_over_for_long_are_forgotten() {
        let long_ago = Timestamp(NOW.0 - 100 * 24 * 3600 * 1000);
        let old = |state| Job {
            updated_at: long_ago,
            id: JobId([7; 20]),
            ..job(state)
        };
        for (job, expected) in [
            (old(JobState::Finished), 1),
            (old(JobState::Running), 0),
            (job(JobState::Finished), 0),
        ] {
            let example = Example::with([Change::PutJob(job)]);
            let (changes, ()) = ForgetJobs {}.decide(&example.catalog, NOW).unwrap();
            assert_eq!(changes.len(), expected);
        }
    }
}
