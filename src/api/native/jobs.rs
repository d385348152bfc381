//! Background jobs, which the contract calls background tasks: `/api/v1/background-task`.
//!
//! `replays` and `usage` begin them; here they are shown and canceled. The contract has three
//! statuses: a job that waits is shown as running and a canceled one as failed, and `state` has
//! more detail.

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json as value};

use crate::api::kit::call::{Call, Reply};
use crate::api::kit::extract::{Body, json, optional_text, respond, text};
use crate::api::kit::operation::{Operation, Parameter};
use crate::api::kit::page::{Listed, page_parameters, shown};
use crate::catalog::Catalog;
use crate::clock::Timestamp;
use crate::domain::id::{ApplicationId, EndpointId, JobId};
use crate::domain::job::{Job, JobState, Which, Work};
use crate::rules::caller::Action;
use crate::rules::endpoint_checks::held_because;
use crate::rules::jobs::CancelJob;
use crate::store::Store;

/// The contract's statuses of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Running,
    Finished,
    Failed,
}

impl Status {
    fn of(job: &Job) -> Status {
        match job.state {
            JobState::Running => Status::Running,
            JobState::Finished => Status::Finished,
            JobState::Failed(_) | JobState::Canceled => Status::Failed,
        }
    }
}

/// The contract's kinds of jobs, without those that postrider does not have.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it describes a text")]
pub enum Task {
    #[serde(rename = "endpoint.recover")]
    Recover,
    #[serde(rename = "endpoint.replay")]
    ReplayMissing,
    #[serde(rename = "endpoint.bulk-replay")]
    BulkReplay,
    #[serde(rename = "application.stats")]
    ApplicationUsage,
    #[serde(rename = "event-type.aggregate")]
    EventTypeUsage,
}

/// Returns the contract's name of a job's kind.
fn task_of(work: &Work) -> &'static str {
    match work {
        Work::Replay(replay) => match replay.which {
            Which::Failed => "endpoint.recover",
            Which::Missing => "endpoint.replay",
            Which::Matching(_) => "endpoint.bulk-replay",
        },
        Work::ApplicationUsage { .. } => "application.stats",
        Work::EventTypeUsage => "event-type.aggregate",
    }
}

/// The answer to a request that began a job.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BegunOut {
    #[serde(serialize_with = "text")]
    id: JobId,
    status: Status,
    #[schemars(with = "Task")]
    task: &'static str,
    #[serde(serialize_with = "text")]
    updated_at: Timestamp,
}

impl BegunOut {
    pub fn new(job: &Job) -> BegunOut {
        BegunOut {
            id: job.id,
            status: Status::of(job),
            task: task_of(&job.work),
            updated_at: job.updated_at,
        }
    }
}

/// The status in more detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    Running,
    /// The job waits, and goes on when its `reason` has ended.
    Paused,
    Finished,
    Failed,
    /// The job was canceled; messages that it had sent by then stay sent.
    Canceled,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct JobOut<'a> {
    #[serde(flatten)]
    begun: BegunOut,
    /// The result: `messagesSent` of a replay; the counts of a count, once it is over.
    #[schemars(with = "serde_json::Map<String, Value>")]
    data: Data<'a>,
    // From here on: additions to the contract.
    #[serde(serialize_with = "text")]
    created_at: Timestamp,
    state: State,
    /// Why the job is paused or has failed.
    reason: Option<String>,
    progress: ProgressOut,
    #[serde(serialize_with = "optional_text")]
    application_id: Option<ApplicationId>,
    /// Null where the application is gone by now.
    application_name: Option<String>,
    #[serde(serialize_with = "optional_text")]
    endpoint_id: Option<EndpointId>,
    /// Null where the endpoint is gone by now.
    endpoint_url: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Made(Value),
    Kept(&'a RawValue),
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ProgressOut {
    /// Messages that were looked at.
    looked_at: u64,
    /// The part of them that were sent again or counted.
    done: u64,
    /// The part of the stretch of time that is done, from 0 to 1; null where that is unknown.
    fraction: Option<f64>,
}

impl<'a> JobOut<'a> {
    /// Shows a job; `pause` is the reason why a running one waits, if it does.
    fn new(job: &'a Job, pause: Option<String>) -> Self {
        let kept = job
            .result
            .as_deref()
            .and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
        let replay = job.replay();
        let data = match (kept, replay) {
            (Some(kept), _) => Data::Kept(kept),
            (None, Some(_)) => Data::Made(value!({ "messagesSent": job.progress.done })),
            (None, None) => Data::Made(value!({})),
        };
        let (state, reason) = match (&job.state, pause) {
            (JobState::Running, None) => (State::Running, None),
            (JobState::Running, Some(pause)) => (State::Paused, Some(pause)),
            (JobState::Finished, _) => (State::Finished, None),
            (JobState::Failed(reason), _) => (State::Failed, Some(reason.clone())),
            (JobState::Canceled, _) => (State::Canceled, None),
        };
        JobOut {
            begun: BegunOut::new(job),
            data,
            created_at: job.created_at,
            state,
            reason,
            progress: ProgressOut {
                looked_at: job.progress.looked_at,
                done: job.progress.done,
                fraction: None,
            },
            application_id: replay.map(|replay| replay.application),
            application_name: None,
            endpoint_id: replay.map(|replay| replay.endpoint),
            endpoint_url: None,
        }
    }

    fn shown(store: &Store, catalog: &Catalog, job: &'a Job) -> Self {
        let replay = job.replay();
        let application = replay.and_then(|replay| catalog.application_by_id(replay.application));
        let application = application.map(|entry| &entry.application);
        let endpoint =
            replay.and_then(|replay| catalog.endpoint(job.organisation, replay.endpoint));
        let mut out = JobOut::new(job, pause(store, catalog, job));
        // The application has no messages from before it was created.
        let first = application.map_or(Timestamp(0), |application| application.created_at);
        out.progress.fraction = job.fraction(first);
        out.application_name = application.map(|application| application.name.clone());
        out.endpoint_url = endpoint.map(|endpoint| endpoint.url.clone());
        out
    }
}

/// Returns why a job waits at the moment, if it does.
pub fn pause(store: &Store, catalog: &Catalog, job: &Job) -> Option<String> {
    let replay = job.replay()?;
    let endpoint = catalog.endpoint(job.organisation, replay.endpoint)?;
    match held_because(endpoint) {
        Some(reason) => Some(reason.to_owned()),
        None if store
            .health_of(endpoint.number)
            .is_some_and(|health| health.rest().is_some()) =>
        {
            Some("the endpoint gets nothing but probes at the moment".to_owned())
        }
        None => store
            .has_room(endpoint, 1)
            .err()
            .map(|error| error.to_string()),
    }
}

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/background-task",
            "v1.background-task.list",
            web::to(list),
        )
        .summary("List background jobs")
        .description(
            "The jobs of the last 90 days that the caller may see: all that run, and the newest \
             100 of the organisation that are over.",
        )
        .parameters(page_parameters(true))
        .parameters([
            Parameter::query(
                "status",
                "Only those with this status.",
                value!({ "type": "string", "enum": ["running", "finished", "failed"] }),
            ),
            Parameter::query(
                "task",
                "Only those of this kind.",
                value!({ "type": "string", "enum": TASKS.map(|(name, _)| name) }),
            ),
        ])
        .answers::<Listed<JobOut>>(200, "A page of background jobs"),
        Operation::get(
            "/api/v1/background-task/{task_id}",
            "v1.background-task.get",
            web::to(get),
        )
        .summary("Show a background job")
        .answers::<JobOut>(200, "The background job, with how far it has come"),
        Operation::post(
            "/api/v1/background-task/{task_id}/cancel",
            "v1.background-task.cancel",
            web::to(cancel),
        )
        .needs(Action::SendAgain)
        .summary("Cancel a background job")
        .description(
            "It sends nothing more from now on; what it has sent stays sent. Canceling it again \
             changes nothing.",
        )
        .answers::<JobOut>(200, "It is canceled")
        .answers_nothing(409, "It is over already"),
    ]
}

/// The contract's kinds of jobs. A query may also ask for those that postrider does not have.
const TASKS: [(&str, &str); 8] = [
    ("endpoint.replay", "endpoint.replay"),
    ("endpoint.recover", "endpoint.recover"),
    ("application.stats", "application.stats"),
    ("message.broadcast", "message.broadcast"),
    ("sdk.generate", "sdk.generate"),
    ("event-type.aggregate", "event-type.aggregate"),
    ("application.purge_content", "application.purge_content"),
    ("endpoint.bulk-replay", "endpoint.bulk-replay"),
];

async fn list(call: Call) -> Reply {
    call.caller.may_with_some(Action::ReadJobs)?;
    let mut query = call.query();
    let page = query.page::<JobId>(&call.context.config.limits, true);
    let statuses = [
        ("running", Status::Running),
        ("finished", Status::Finished),
        ("failed", Status::Failed),
    ];
    let status = query.choice("status", &statuses);
    let task = query.choice("task", &TASKS);
    query.problems.done()?;
    let catalog = call.catalog();
    let wanted = catalog
        .jobs()
        .filter(|job| status.is_none_or(|status| status == Status::of(job)))
        .filter(|job| task.is_none_or(|task| task == task_of(&job.work)))
        .filter(|job| call.caller.sees_job(&catalog, job));
    let listed = page.list(
        wanted,
        |job| job.id,
        |job| shown(&JobOut::shown(&call.context.store, &catalog, job)),
    );
    Ok(respond(listed))
}

async fn get(call: Call) -> Reply {
    call.caller.may_with_some(Action::ReadJobs)?;
    let catalog = call.catalog();
    let job = call.caller.job(&catalog, call.path("task_id"))?;
    let shown = JobOut::shown(&call.context.store, &catalog, job);
    Ok(json(StatusCode::OK, &shown))
}

async fn cancel(call: Call, body: Body) -> Reply {
    call.caller.may_with_some(Action::SendAgain)?;
    body.nothing()?;
    let job = call.path("task_id").to_owned();
    let canceled = call.decide(CancelJob { job }).await?;
    Ok(json(StatusCode::OK, &JobOut::new(&canceled, None)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::OrganisationId;
    use crate::domain::job::Work;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn job(state: JobState) -> Job {
        Job {
            state,
            ..Job::new(OrganisationId::at(NOW), Work::EventTypeUsage, NOW)
        }
    }

    fn shown(job: &Job, pause: Option<&str>) -> Value {
        serde_json::to_value(JobOut::new(job, pause.map(str::to_owned))).unwrap()
    }

    #[test]
    fn a_state_reads_as_one_of_the_contracts_statuses() {
        let failed = JobState::Failed("it broke".to_owned());
        for (state, pause, expected) in [
            (
                JobState::Running,
                None,
                value!(["running", "running", null]),
            ),
            (
                JobState::Running,
                Some("disabled"),
                value!(["running", "paused", "disabled"]),
            ),
            (
                JobState::Finished,
                Some("disabled"),
                value!(["finished", "finished", null]),
            ),
            (failed, None, value!(["failed", "failed", "it broke"])),
            (
                JobState::Canceled,
                None,
                value!(["failed", "canceled", null]),
            ),
        ] {
            let shown = shown(&job(state), pause);
            let found = value!([shown["status"], shown["state"], shown["reason"]]);
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn data_is_an_object_whatever_there_is() {
        let mut job = job(JobState::Finished);
        assert_eq!(shown(&job, None)["data"], value!({}));
        job.result = Some(r#"{"appStats":[]}"#.to_owned());
        assert_eq!(shown(&job, None)["data"], value!({ "appStats": [] }));
    }
}
