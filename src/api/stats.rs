//! An endpoint's statistics, from the hourly counters.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json as value;

use super::Context;
use super::access::{Action, Caller};
use super::endpoints::named;
use super::error::Failure;
use super::extract::{json, reading};
use super::operation::{Operation, Parameter};
use super::page::Query;
use crate::clock::Timestamp;
use crate::domain::endpoint::Endpoint;
use crate::error::Result;
use crate::store::{LaneHour, Store};

const RANGE_MAX: Duration = Duration::from_secs(28 * 24 * 3600);
/// Clocks differ: `now - 28 days` by the caller's is not too much.
const LEEWAY: Duration = Duration::from_secs(5 * 60);

/// What became of an endpoint's deliveries.
#[derive(Serialize, JsonSchema)]
struct EndpointStats {
    /// That ended with a success.
    success: u64,
    /// That wait now, held ones included, whatever the stretch of time.
    pending: u64,
    /// Always 0: what is being sent is pending until it ended.
    sending: u64,
    /// That ended with the last attempt of their schedule.
    fail: u64,
    /// Always 0.
    canceled: u64,
}

/// What became of the attempts at an endpoint.
#[derive(Serialize, JsonSchema)]
struct EndpointAttemptStats {
    success: u64,
    fail: u64,
    /// Always 0.
    canceled: u64,
}

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}/stats",
            "v1.endpoint.get-stats",
            web::to(stats),
        )
        .summary("Count an endpoint's deliveries")
        .description(
            "Those that ended within the hours of the stretch, at most 28 days, and those that \
             wait now. One that ended, was sent again and ended again counts twice.",
        )
        .parameters(range_parameters())
        .answers::<EndpointStats>(200, "The counts"),
        Operation::get(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}/attempt-stats",
            "v1.endpoint.get-attempt-stats",
            web::to(attempt_stats),
        )
        .summary("Count the attempts at an endpoint")
        .description("Those within the hours of the stretch, at most 28 days.")
        .parameters(range_parameters())
        .answers::<EndpointAttemptStats>(200, "The counts"),
    ]
}

fn range_parameters() -> [Parameter; 2] {
    let instant = || value!({ "type": "string", "format": "date-time" });
    [
        Parameter::query(
            "since",
            "From the hour of this instant on; 28 days before `until` where it is not given.",
            instant(),
        ),
        Parameter::query(
            "until",
            "Up to the end of this instant's hour; now where it is not given.",
            instant(),
        ),
    ]
}

/// `since` and `until`.
fn range_in(query: &mut Query<'_>, now: Timestamp) -> (Timestamp, Timestamp) {
    let (since, until) = (query.instant("since"), query.instant("until"));
    let until = until.unwrap_or(now);
    let since = since.unwrap_or_else(|| until.saturating_sub(RANGE_MAX));
    if since > until {
        let message = "must not lie after until";
        query.problems.add(&["query", "since"], message);
    } else if until.since(since) > RANGE_MAX + LEEWAY {
        let message = "must lie at most 28 days before until";
        query.problems.add(&["query", "since"], message);
    }
    (since, until)
}

pub async fn stats(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let (counts, pending) = counted(&request, &caller, &context, |store, endpoint| {
        store.waiting_in(endpoint.number)
    })
    .await?;
    let stats = EndpointStats {
        success: counts.delivered,
        pending,
        sending: 0,
        fail: counts.failed,
        canceled: 0,
    };
    Ok(json(StatusCode::OK, &stats))
}

pub async fn attempt_stats(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let (counts, ()) = counted(&request, &caller, &context, |_, _| Ok(())).await?;
    let stats = EndpointAttemptStats {
        success: counts.attempts_succeeded,
        fail: counts.attempts_failed,
        canceled: 0,
    };
    Ok(json(StatusCode::OK, &stats))
}

/// The counts of the endpoint and the stretch that a request names, and what else is to be read.
async fn counted<T: Send + 'static>(
    request: &HttpRequest,
    caller: &Caller,
    context: &Context,
    read: impl FnOnce(&Store, &Endpoint) -> Result<T> + Send + 'static,
) -> Result<(LaneHour, T)> {
    let endpoint = named(context, caller, request, Action::ReadHistory)?;
    let mut query = Query::of(request);
    let (since, until) = range_in(&mut query, context.store.clock().now());
    query.problems.done()?;
    let store = context.store.clone();
    reading(move || {
        let mut sum = LaneHour::default();
        for counts in store.hours(endpoint.number, since, until)?.values() {
            sum.add(counts);
        }
        Ok((sum, read(&store, &endpoint)?))
    })
    .await
}
