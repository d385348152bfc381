//! Usage of an organisation: `/api/v1/stats/usage`. Each call begins a background job that counts.

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::jobs::BegunOut;
use super::replays::checked_stretch;
use crate::api::kit::call::{Call, Reply};
use crate::api::kit::extract::{Body, answered, json};
use crate::api::kit::operation::Operation;
use crate::rules::caller::Action;
use crate::rules::checks::Problems;
use crate::rules::jobs::{CountApplications, CountBegun, CountEventTypes};

/// The most applications in one request: they are kept with the job, and its result has a limit,
/// too.
const APPLICATIONS_MAX: usize = 1000;

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["since", "until"]))]
struct ApplicationUsageIn {
    /// Only messages accepted from this instant on.
    #[schemars(with = "crate::clock::Timestamp")]
    since: Option<String>,
    /// Only messages accepted before this instant.
    #[schemars(with = "crate::clock::Timestamp")]
    until: Option<String>,
    /// Ids or uids; all of the organisation where absent.
    #[schemars(length(max = APPLICATIONS_MAX))]
    app_ids: Option<Vec<String>>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ApplicationUsageOut {
    #[serde(flatten)]
    begun: BegunOut,
    /// The `appIds` that do not exist; the others are counted.
    unresolved_app_ids: Vec<String>,
}

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::post(
            "/api/v1/stats/usage/app",
            "v1.statistics.aggregate-app-stats",
            web::to(applications),
        )
        .needs(Action::ReadUsage)
        .summary("Count what each application was sent")
        .description(
            "Begins a background job; its `data`, once it is over, is `{\"appStats\": [{\"appId\", \
             \"appUid\", \"messageDestinations\", \"messages\"}]}`: how many messages were \
             accepted, and at how many endpoints they were attempted, each message for itself.",
        )
        .once()
        .takes::<ApplicationUsageIn>()
        .answers::<ApplicationUsageOut>(202, "A background job was begun"),
        Operation::put(
            "/api/v1/stats/usage/event-types",
            "v1.statistics.aggregate-event-types",
            web::to(event_types),
        )
        .needs(Action::ReadUsage)
        .summary("List which event types endpoints ask for")
        .description(
            "Begins a background job; its `data`, once it is over, is `{\"event_types\": \
             [{\"appId\", \"explicitlySubscribedEventTypes\", \"hasCatchAllEndpoint\"}]}`, with \
             all applications of the organisation.",
        )
        .answers::<BegunOut>(202, "A background job was begun"),
    ]
}

async fn applications(call: Call, body: Body) -> Reply {
    call.caller.may(Action::ReadUsage)?;
    let input: ApplicationUsageIn = body.json()?;
    let now = call.now();
    let mut problems = Problems::default();
    let (since, until) = (input.since.as_deref(), input.until.as_deref());
    let (since, until) = checked_stretch(&mut problems, since, until, now);
    if input.until.is_none() {
        problems.missing(&["body", "until"]);
    }
    if input
        .app_ids
        .as_ref()
        .is_some_and(|ids| ids.len() > APPLICATIONS_MAX)
    {
        let message = format!("must have at most {APPLICATIONS_MAX} items");
        problems.add(&["body", "appIds"], message);
    }
    problems.done()?;
    let command = CountApplications {
        since,
        until,
        applications: input.app_ids,
    };
    let shown = |begun: CountBegun| {
        let out = ApplicationUsageOut {
            begun: BegunOut::new(&begun.job),
            unresolved_app_ids: begun.unresolved,
        };
        answered(StatusCode::ACCEPTED, &out)
    };
    call.show_once(call.once(&body)?, command, shown).await
}

async fn event_types(call: Call) -> Reply {
    call.caller.may(Action::ReadUsage)?;
    let job = call.decide(CountEventTypes {}).await?;
    Ok(json(StatusCode::ACCEPTED, &BegunOut::new(&job)))
}
