//! Holds: the operator lets the deliveries of an endpoint wait, those of an application's endpoints, or all, until it
//! releases them. Additions to the contract.

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::JsonSchema;
use serde::Serialize;

use super::endpoint_health::CatchUpIn;
use super::endpoint_path::{endpoint_path, named};
use crate::api::kit::call::{Call, Reply};
use crate::api::kit::extract::{Body, json, text};
use crate::api::kit::operation::Operation;
use crate::clock::Timestamp;
use crate::domain::hold::Held;
use crate::error::Result;
use crate::rules::caller::Action;
use crate::rules::holds::{HoldEndpoint, HoldEndpoints, ReleaseEndpoint, ReleaseEndpoints, Whose};

/// Endpoints that one commit holds or releases: other changes come in between.
const AT_ONCE: usize = 500;

/// An endpoint's `hold`. It has another name than the `held` of a delivery, which stands beside it where the
/// endpoints of a message are listed.
#[derive(Serialize, JsonSchema)]
#[schemars(description = "Since when the endpoint is held by the operator, and why.")]
pub struct HoldOut {
    #[serde(serialize_with = "text")]
    since: Timestamp,
    /// By a call or in the console, or because the server's store was restored from a copy.
    #[schemars(extend("enum" = ["by-hand", "restored"]))]
    reason: &'static str,
}

impl From<Held> for HoldOut {
    fn from(held: Held) -> HoldOut {
        HoldOut {
            since: held.since,
            reason: held.reason.name(),
        }
    }
}

/// The result of a hold or a release.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EndpointsChangedOut")]
struct ChangedOut {
    /// How many endpoints were changed: held, or released. Those that were so already do not count.
    changed: usize,
}

const HOLD: &str = "No request is made to it from now on, whatever asks for one: the schedule, a resend, a replay, a \
                    test or a challenge. Messages are accepted as usual and wait. Requests under way end. The \
                    endpoint is not disabled, and a change of its other fields does not release it. One that is \
                    held already stays as it is.";
const HOLD_MANY: &str = "Each as by its own call, 500 at a time: the answer comes when all are held. Endpoints that are \
                         made meanwhile, or later, are not held. After an error some may be held: ask again.";
const RELEASE: &str = "The messages that wait are sent, under the endpoint's usual limits, and with `rate` at most that \
                       many a second; what is published from now on comes behind them. One that is not held stays \
                       as it is; one that is disabled or not verified goes on waiting for that.";
const RELEASE_MANY: &str = "Each as by its own call, 500 at a time: the answer comes when all are released. After an \
                            error some may be released: ask again.";

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    let one = [
        (
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}/hold",
            "v1.endpoint.hold",
            Action::HoldEndpoints,
            "Hold an endpoint",
        ),
        (
            "/api/v1/operational-webhook/endpoint/{endpoint_id}/hold",
            "v1.operational-webhook.endpoint.hold",
            Action::OwnEndpoints,
            "Hold an endpoint of your own",
        ),
    ]
    .map(|(path, id, action, title)| {
        let operation = Operation::post(path, id, web::to(hold));
        operation.needs(action).summary(title).description(HOLD)
    });
    let one_released = [
        (
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}/release",
            "v1.endpoint.release",
            Action::HoldEndpoints,
            "Release an endpoint",
        ),
        (
            "/api/v1/operational-webhook/endpoint/{endpoint_id}/release",
            "v1.operational-webhook.endpoint.release",
            Action::OwnEndpoints,
            "Release an endpoint of your own",
        ),
    ]
    .map(|(path, id, action, title)| {
        let operation = Operation::post(path, id, web::to(release));
        let operation = operation.needs(action).summary(title);
        operation.description(RELEASE).may_take::<CatchUpIn>()
    });
    let many = [
        Operation::post(
            "/api/v1/app/{app_id}/hold",
            "v1.application.hold",
            web::to(hold_many),
        )
        .needs(Action::HoldEndpoints)
        .summary("Hold an application's endpoints")
        .description(HOLD_MANY),
        Operation::post(
            "/api/v1/app/{app_id}/release",
            "v1.application.release",
            web::to(release_many),
        )
        .needs(Action::HoldEndpoints)
        .summary("Release an application's endpoints")
        .description(RELEASE_MANY)
        .may_take::<CatchUpIn>(),
        Operation::post("/api/v1/hold", "v1.endpoint.hold-all", web::to(hold_many))
            .needs(Action::HoldAll)
            .summary("Hold all endpoints")
            .description(HOLD_MANY),
        Operation::post(
            "/api/v1/release",
            "v1.endpoint.release-all",
            web::to(release_many),
        )
        .needs(Action::HoldAll)
        .summary("Release all endpoints")
        .description(RELEASE_MANY)
        .may_take::<CatchUpIn>(),
    ];
    let all = one.into_iter().chain(one_released).chain(many);
    all.map(|one| one.answers::<ChangedOut>(200, "How many endpoints were changed"))
        .collect()
}

async fn hold(call: Call, body: Body) -> Reply {
    named(&call, Action::HoldEndpoints)?;
    body.nothing()?;
    let (owner, endpoint) = endpoint_path(&call);
    let changed = call.decide(HoldEndpoint { owner, endpoint }).await?;
    Ok(json(StatusCode::OK, &ChangedOut { changed }))
}

async fn release(call: Call, body: Body) -> Reply {
    named(&call, Action::HoldEndpoints)?;
    let rate = CatchUpIn::rate_in(&body)?;
    let (owner, endpoint) = endpoint_path(&call);
    let command = ReleaseEndpoint {
        owner,
        endpoint,
        rate,
    };
    let changed = call.decide(command).await?;
    Ok(json(StatusCode::OK, &ChangedOut { changed }))
}

/// Returns whose endpoints the path names, and the lanes of those that are held, or that are not held.
fn lanes(call: &Call, are_held: bool) -> Result<(Whose, Vec<u64>)> {
    let whose = match call.request.match_info().get("app_id") {
        Some(application) => Whose::Application(application.to_owned()),
        None => Whose::Organisation,
    };
    let lanes = whose.lanes(&call.caller, &call.catalog(), are_held)?;
    Ok((whose, lanes))
}

async fn hold_many(call: Call, body: Body) -> Reply {
    let (whose, lanes) = lanes(&call, false)?;
    body.nothing()?;
    let mut changed = 0;
    for lanes in lanes.chunks(AT_ONCE) {
        let (whose, lanes) = (whose.clone(), lanes.to_vec());
        changed += call.decide(HoldEndpoints { whose, lanes }).await?;
    }
    note(&call, &whose, "held", changed);
    Ok(json(StatusCode::OK, &ChangedOut { changed }))
}

async fn release_many(call: Call, body: Body) -> Reply {
    let (whose, lanes) = lanes(&call, true)?;
    let rate = CatchUpIn::rate_in(&body)?;
    let mut changed = 0;
    for lanes in lanes.chunks(AT_ONCE) {
        let release = ReleaseEndpoints {
            whose: whose.clone(),
            lanes: lanes.to_vec(),
            rate,
        };
        changed += call.decide(release).await?;
    }
    note(&call, &whose, "released", changed);
    Ok(json(StatusCode::OK, &ChangedOut { changed }))
}

/// A hold of many is an event in the server's life, which its log tells as it tells of starts and stops.
fn note(call: &Call, whose: &Whose, done: &str, changed: usize) {
    match whose {
        Whose::Application(id) => log::info!("{changed} endpoints of application {id} were {done}"),
        Whose::Organisation => {
            let organisation = call.caller.organisation;
            log::info!("{changed} endpoints of organisation {organisation} were {done}");
        }
    }
}
