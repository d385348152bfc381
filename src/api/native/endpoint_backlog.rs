//! What waits for an endpoint that gets nothing: it is sent again at a pace, let go of, or tried with one message.
//! Additions to the contract.

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::endpoint_body::EndpointOut;
use super::endpoint_health::{BreakerOut, CatchUpIn};
use super::endpoint_path::{named, place};
use super::endpoints::changed;
use crate::api::kit::call::{Call, Reply};
use crate::api::kit::extract::{Body, json};
use crate::api::kit::operation::Operation;
use crate::clock::Timestamp;
use crate::domain::endpoint::Endpoint;
use crate::domain::health::Health;
use crate::error::{Error, Result};
use crate::rules::caller::{Action, FeatureFlags};
use crate::rules::checks::Problems;
use crate::rules::endpoint_checks::method_of;
use crate::rules::endpoints::EnableEndpoint;
use crate::store::CancelHeld;

const ENABLE: &str = "Lifts a disabling, whatever its reason. The messages that wait are sent, with `rate` at most that \
                      many a second, beside the endpoint's usual limits, and what is published from now on comes \
                      behind them. On an endpoint that is not disabled only that pace is set, or without `rate` taken \
                      away. An endpoint that is held or not verified goes on waiting for that.";
const CANCEL: &str = "Lets go of the deliveries that wait for an endpoint while it is disabled, held or not verified. \
                      Each fails with the kind `canceled` and no request is made for it; messages stay, and \
                      `recover` or a resend sends them after all. 500 go in one step, and other work comes in \
                      between: the answer comes at the end. After an error some may be gone: ask again. A delivery \
                      whose request was under way when the endpoint was disabled or held may be among them.";
const PROBE: &str = "Where the endpoint's breaker is open, or its receiver asked with `Retry-After` to be left alone, \
                     the next probe is sent now: one message that waits, or else the next that is published. If it \
                     succeeds, the rest follows. Nothing changes where the lane does not rest, or while a probe is due or \
                     under way already: calling again meanwhile makes no second request.";
const SENDS: &str = "The endpoint is neither disabled nor held, so its deliveries are being sent";

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    let enabling = [
        (
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}/enable",
            "v1.endpoint.enable",
            Action::ChangeEndpoints,
            "Enable an endpoint",
        ),
        (
            "/api/v1/operational-webhook/endpoint/{endpoint_id}/enable",
            "v1.operational-webhook.endpoint.enable",
            Action::OwnEndpoints,
            "Enable an endpoint of your own",
        ),
    ]
    .map(|(path, id, action, title)| {
        Operation::post(path, id, web::to(enable))
            .needs(action)
            .summary(title)
            .description(ENABLE)
            .may_take::<CatchUpIn>()
            .answers::<EndpointOut>(200, "The endpoint")
    });
    let canceling = [
        (
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}/cancel-held",
            "v1.endpoint.cancel-held",
            Action::ChangeEndpoints,
            "Let go of what waits for an endpoint",
        ),
        (
            "/api/v1/operational-webhook/endpoint/{endpoint_id}/cancel-held",
            "v1.operational-webhook.endpoint.cancel-held",
            Action::OwnEndpoints,
            "Let go of what waits for an endpoint of your own",
        ),
    ]
    .map(|(path, id, action, title)| {
        Operation::post(path, id, web::to(cancel_held))
            .needs(action)
            .summary(title)
            .description(CANCEL)
            .may_take::<CancelHeldIn>()
            .answers::<CanceledOut>(200, "How many deliveries were canceled")
            .answers_nothing(409, SENDS)
    });
    let probing = [
        (
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}/probe",
            "v1.endpoint.probe",
            Action::SendAgain,
            "Try an endpoint that rests",
        ),
        (
            "/api/v1/operational-webhook/endpoint/{endpoint_id}/probe",
            "v1.operational-webhook.endpoint.probe",
            Action::OwnEndpoints,
            "Try an endpoint of your own that rests",
        ),
    ]
    .map(|(path, id, action, title)| {
        Operation::post(path, id, web::to(probe))
            .needs(action)
            .summary(title)
            .description(PROBE)
            .answers::<ProbeOut>(200, "The breaker")
    });
    let all = enabling.into_iter().chain(canceling).chain(probing);
    all.collect()
}

async fn enable(call: Call, flags: FeatureFlags, body: Body) -> Reply {
    named(&call, Action::ChangeEndpoints)?;
    let rate = CatchUpIn::rate_in(&body)?;
    let place = place(&call, flags);
    let (config, store) = (&call.context.config, &call.context.store);
    let shown = |done| changed(StatusCode::OK, &done, config, store);
    call.show(EnableEndpoint { place, rate }, shown).await
}

/// Limits what is let go of.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct CancelHeldIn {
    /// Only deliveries of messages that were published before then; all where absent.
    #[schemars(with = "Option<Timestamp>")]
    published_before: Option<String>,
}

/// The result of letting go.
#[derive(Serialize, JsonSchema)]
struct CanceledOut {
    /// How many deliveries were canceled.
    canceled: usize,
}

impl CancelHeldIn {
    /// Returns the end of the stretch of time. It is now at the latest, so that whoever publishes all the time does
    /// not keep it going.
    fn before(self, now: Timestamp) -> Result<Timestamp> {
        // A message of this very millisecond was published before the next.
        let end = Timestamp(now.0 + 1);
        let mut problems = Problems::default();
        let before = self
            .published_before
            .map(|text| Timestamp::not_before(&text));
        if let Some(Err(_)) = before {
            let message = "must be an RFC 3339 date and time, such as 2026-01-31T08:15:30Z";
            problems.add(&["body", "publishedBefore"], message);
        }
        problems.done()?;
        Ok(before.and_then(Result::ok).map_or(end, |at| at.min(end)))
    }
}

async fn cancel_held(call: Call, body: Body) -> Reply {
    named(&call, Action::ChangeEndpoints)?;
    let before = body.json_or_default::<CancelHeldIn>()?.before(call.now())?;
    let (mut canceled, mut behind) = (0, None);
    loop {
        // The caller may have lost its right meanwhile, and the endpoint may be sent to.
        call.caller.still_holds(&call.catalog(), call.now())?;
        let endpoint = named(&call, Action::ChangeEndpoints)?;
        if !endpoint.is_held() {
            return Err(Error::Conflict(sends(canceled)).into());
        }
        let method = method_of(&endpoint, &call.context.config).map_or("POST", |one| one.name());
        let (store, lane) = (call.context.store.clone(), endpoint.number);
        let read = move || store.held_part(&endpoint, before, behind);
        let part = call.reading(read).await?;
        if !part.deliveries.is_empty() {
            let cancel = CancelHeld {
                lane,
                deliveries: part.deliveries,
                method,
            };
            let done = call.context.store.cancel_held(cancel).await;
            let done = done.map_err(|error| match error {
                Error::Conflict(_) => Error::Conflict(sends(canceled)),
                error => error,
            })?;
            call.context.metrics.canceled(done);
            canceled += done;
        }
        if part.next.is_none() {
            return Ok(json(StatusCode::OK, &CanceledOut { canceled }));
        }
        behind = part.next;
    }
}

/// Returns why nothing more is let go of.
fn sends(canceled: usize) -> String {
    match canceled {
        0 => Endpoint::SENDS.to_owned(),
        _ => format!(
            "{} ({canceled} were canceled before it was)",
            Endpoint::SENDS
        ),
    }
}

/// The state of an endpoint's breaker.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EndpointProbeOut")]
struct ProbeOut {
    breaker: BreakerOut,
}

async fn probe(call: Call, body: Body) -> Reply {
    let endpoint = named(&call, Action::SendAgain)?;
    body.nothing()?;
    let store = &call.context.store;
    let rest = || {
        store
            .health_of(endpoint.number)
            .and_then(|health| Health::rest(&health))
    };
    // Most endpoints do not rest, and need no commit.
    if rest().is_some() {
        store.probe_now(endpoint.number).await?;
    }
    let breaker = BreakerOut::of(rest());
    Ok(json(StatusCode::OK, &ProbeOut { breaker }))
}
