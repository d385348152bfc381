//! Lanes with work: `/api/v1/lane`.
//!
//! The store has the lanes with deliveries that wait, their number and the age of the oldest. The
//! scheduler, which this module does not know, has their current state.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json as value;

use crate::api::kit::call::{Call, Reply};
use crate::api::kit::context::LaneNow;
use crate::api::kit::extract::{json, optional_text, text};
use crate::api::kit::operation::{Operation, Parameter};
use crate::clock::Timestamp;
use crate::domain::endpoint::Endpoint;
use crate::domain::health::Rest;
use crate::domain::id::{ApplicationId, EndpointId};
use crate::error::Result;
use crate::rules::caller::{Action, Caller};
use crate::store::Store;

const LIMIT_MAX: usize = 100;
const LIMIT_DEFAULT: usize = 50;

/// The most waiting deliveries that are counted of a lane.
const COUNTED_MAX: usize = 10_000;

#[derive(Serialize, JsonSchema)]
struct LanesOut {
    data: Vec<LaneOut>,
    /// The number of all lanes with work.
    total: usize,
}

/// An endpoint's queue.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct LaneOut {
    /// Null for the organisation's own endpoints, which owners alone see.
    #[serde(serialize_with = "optional_text")]
    application_id: Option<ApplicationId>,
    application_name: Option<String>,
    #[serde(serialize_with = "text")]
    endpoint_id: EndpointId,
    url: String,
    /// Deliveries that wait, due or not, and those that are being sent.
    waiting: u64,
    /// There are more than `waiting`, where counting ends.
    waiting_is_more: bool,
    /// When the first delivery was due, where that is past.
    #[serde(serialize_with = "optional_text")]
    oldest_due_at: Option<Timestamp>,
    /// When the first delivery is or was due.
    #[serde(serialize_with = "text")]
    next_due_at: Timestamp,
    /// When the next probe is due, where the lane rests. It may pass while nothing is due.
    #[serde(serialize_with = "optional_text")]
    next_probe_at: Option<Timestamp>,
    in_flight: usize,
    /// Held: see `heldReason`. Open: the endpoint failed so often in a row that its breaker opened, and resting: its
    /// receiver asked with `Retry-After` to be left alone; one probe at a time is sent. Hanging: the last attempts timed out, and
    /// one at a time is sent. Sending. Throttled: a due delivery waits for its turn at a rate.
    /// Host-busy: it waits for a place at its host. Else waiting.
    #[schemars(extend(
        "enum" = [
            "held", "open", "resting", "hanging", "sending", "throttled", "host-busy", "waiting",
        ]
    ))]
    state: &'static str,
    /// Why the lane is held: the operator holds its endpoint, by hand or since the store was restored, the endpoint
    /// is disabled, or it is not verified. Null where the lane is not held.
    #[schemars(extend("enum" = ["by-hand", "restored", "disabled", "unverified", null]))]
    held_reason: Option<&'static str>,
    /// A due delivery waits because the host has as many requests under way as it may, to endpoints
    /// of all applications.
    waits_for_host: bool,
}

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    let limit = value!({
        "type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT,
    });
    vec![
        Operation::get("/api/v1/lane", "v1.lane.list", web::to(list))
            .summary("List the lanes that have work")
            .description(
                "Each endpoint has a lane, so that none holds up another. Those whose first \
                 delivery has been due for the longest come first, those that rest behind them, held ones last.",
            )
            .parameters([Parameter::query("limit", "How many are shown.", limit)])
            .answers::<LanesOut>(200, "The lanes"),
    ]
}

/// A lane with work, and when its first delivery is or was due.
struct Head {
    endpoint: Arc<Endpoint>,
    due: Timestamp,
    rest: Option<Rest>,
}

/// Returns the lanes that have work and whose endpoints the caller sees: first those that send, then those that rest,
/// each by their due times. Blocks on the disk.
fn heads(store: &Store, caller: &Caller) -> Result<Vec<Head>> {
    let sees_own = caller.may(Action::ReadOwnEndpoints).is_ok();
    let all = store.lane_heads()?;
    let catalog = store.catalog();
    let seen = all.into_iter().filter_map(|(lane, due)| {
        let endpoint = catalog.endpoint_by_number(lane)?;
        let sees = caller.sees_endpoint(&catalog, endpoint);
        (sees && (sees_own || !endpoint.is_operational())).then(|| Head {
            endpoint: endpoint.clone(),
            due,
            rest: store.health_of(lane).and_then(|health| health.rest()),
        })
    });
    let mut heads: Vec<Head> = seen.collect();
    heads.sort_by_key(|head| (head.endpoint.is_held(), head.rest.is_some(), head.due));
    Ok(heads)
}

pub async fn list(call: Call) -> Reply {
    call.caller.may_with_some(Action::ReadLanes)?;
    let mut query = call.query();
    let limit = query
        .number("limit", 1..=LIMIT_MAX)
        .unwrap_or(LIMIT_DEFAULT);
    query.problems.done()?;
    let store = call.context.store.clone();
    let read = move || {
        let mut heads = heads(&store, &call.caller)?;
        let total = heads.len();
        heads.truncate(limit);
        let counted = heads.into_iter().map(|head| {
            let waiting = store.waiting_in_at_most(head.endpoint.number, COUNTED_MAX + 1)?;
            Ok((head, waiting))
        });
        Ok((counted.collect::<Result<Vec<_>>>()?, total))
    };
    let (heads, total) = call.reading(read).await?;
    let numbers = heads.iter().map(|(head, _)| head.endpoint.number).collect();
    let looks = (call.context.lanes)(numbers).await;
    let now = call.now();
    let catalog = call.catalog();
    let data = heads.iter().map(|(head, waiting)| {
        let look = looks.get(&head.endpoint.number);
        let entry = catalog.application_by_id(head.endpoint.application);
        let entry = entry.filter(|_| !head.endpoint.is_operational());
        LaneOut {
            application_id: entry.map(|one| one.application.id),
            application_name: entry.map(|one| one.application.name.clone()),
            endpoint_id: head.endpoint.id,
            url: head.endpoint.url.clone(),
            waiting: (*waiting).min(COUNTED_MAX as u64),
            waiting_is_more: *waiting > COUNTED_MAX as u64,
            oldest_due_at: (head.due <= now).then_some(head.due),
            next_due_at: head.due,
            in_flight: look.map_or(0, |look| look.in_flight),
            next_probe_at: head.rest.map(|rest| rest.probe_at),
            state: state(head, look.copied().unwrap_or_default()),
            held_reason: held_reason(&head.endpoint),
            waits_for_host: look.is_some_and(|look| look.waits_for_host),
        }
    });
    let data = data.collect();
    Ok(json(StatusCode::OK, &LanesOut { data, total }))
}

fn held_reason(endpoint: &Endpoint) -> Option<&'static str> {
    match endpoint {
        Endpoint {
            held: Some(held), ..
        } => Some(held.reason.name()),
        Endpoint {
            disabled: Some(_), ..
        } => Some("disabled"),
        Endpoint {
            verification: Some(_),
            ..
        } => Some("unverified"),
        _ => None,
    }
}

fn state(head: &Head, now: LaneNow) -> &'static str {
    if head.endpoint.is_held() {
        return "held";
    }
    if let Some(rest) = head.rest {
        return rest.reason.name();
    }
    match now {
        LaneNow { hanging: true, .. } => "hanging",
        LaneNow { in_flight: 1.., .. } => "sending",
        LaneNow {
            throttled: true, ..
        } => "throttled",
        LaneNow {
            waits_for_host: true,
            ..
        } => "host-busy",
        LaneNow { .. } => "waiting",
    }
}
