//! An endpoint's statistics, from the hourly counters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json as value;

use super::endpoint_path::named;
use crate::api::kit::call::{Call, Reply};
use crate::api::kit::extract::{json, text};
use crate::api::kit::operation::{Operation, Parameter};
use crate::api::kit::query::Query;
use crate::clock::Timestamp;
use crate::domain::endpoint::Endpoint;
use crate::domain::health::RestReason;
use crate::error::{Error, Result};
use crate::rules::caller::Action;
use crate::store::{LaneHour, Store};

const RANGE_MAX: Duration = Duration::from_secs(28 * 24 * 3600);
const TOO_LONG: &str = "The stretch is longer than 28 days (`invalid_range`)";
/// Clocks differ: `now - 28 days` by the caller's is not too much.
const LEEWAY: Duration = Duration::from_secs(5 * 60);

/// The numbers of an endpoint's deliveries, by their state.
#[derive(Serialize, JsonSchema)]
struct EndpointStats {
    /// Deliveries that ended with a success.
    success: u64,
    /// Deliveries that wait now, held ones included, whatever the stretch of time.
    pending: u64,
    /// Deliveries that are being sent now, whatever the stretch of time.
    sending: u64,
    /// Deliveries that ended with the last attempt of their schedule.
    fail: u64,
    /// Always 0: deliveries that were let go of are in no count.
    canceled: u64,
}

/// The numbers of an endpoint's attempts, by their outcome.
#[derive(Serialize, JsonSchema)]
struct EndpointAttemptStats {
    success: u64,
    fail: u64,
    /// Always 0.
    canceled: u64,
}

/// An endpoint's attempts by the hour.
#[derive(Serialize, JsonSchema)]
struct AttemptSeries {
    data: Vec<AttemptHour>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct AttemptHour {
    /// When the hour began.
    #[serde(serialize_with = "text")]
    at: Timestamp,
    success: u64,
    fail: u64,
    /// Attempts that had an answer, of whatever kind.
    answered: u64,
    /// The average time from an attempt's due time, which for the first is the publication, until
    /// its answer.
    latency_ms_average: Option<f64>,
    latency_ms_max: Option<f64>,
}

impl AttemptHour {
    fn new(at: Timestamp, counts: &LaneHour) -> AttemptHour {
        let ms = |microseconds: u64| microseconds as f64 / 1000.0;
        let any = counts.answered > 0;
        AttemptHour {
            at,
            success: counts.attempts_succeeded,
            fail: counts.attempts_failed,
            answered: counts.answered,
            latency_ms_average: any.then(|| ms(counts.answer_us_sum / counts.answered)),
            latency_ms_max: any.then(|| ms(counts.answer_us_max)),
        }
    }
}

/// The health of an endpoint, at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Health {
    /// Disabled. Failing: the endpoint's breaker is open, or more attempts failed than succeeded in the
    /// last hour that had any. Idle: no attempts in 24 hours. Else healthy.
    #[schemars(extend("enum" = ["disabled", "failing", "idle", "healthy"]))]
    state: &'static str,
    /// Attempts of the last 24 hours that succeeded.
    success: u64,
    /// Attempts of the last 24 hours that failed.
    fail: u64,
    /// Deliveries that wait, due or not, held ones too; at most 10,000 are counted.
    waiting: u64,
}

/// The most waiting deliveries that are counted for a list.
const WAITING_COUNTED_MAX: usize = 10_000;

impl Health {
    /// Returns the health as of now. Blocks on the disk.
    pub fn of(store: &Store, endpoint: &Endpoint) -> Result<Health> {
        let now = store.clock().now();
        let since = now.saturating_sub(Duration::from_secs(24 * 3600));
        let hours = store.hours(endpoint.number, since, now)?;
        let waiting = store.waiting_in_at_most(endpoint.number, WAITING_COUNTED_MAX)?;
        // An open breaker lets few attempts through: the hour may have more successes from before it opened, and
        // there are none where nothing waits.
        let rest = store.health_of(endpoint.number).and_then(|one| one.rest());
        let known = match () {
            () if endpoint.disabled.is_some() => Some("disabled"),
            () if rest.is_some_and(|rest| rest.reason == RestReason::Failures) => Some("failing"),
            () => None,
        };
        Ok(Health::judged(known, hours.values(), waiting))
    }

    /// Returns the health from the counts of the hours, in their order, unless its state is known.
    fn judged<'a>(
        known: Option<&'static str>,
        hours: impl Iterator<Item = &'a LaneHour>,
        waiting: u64,
    ) -> Health {
        let (mut success, mut fail) = (0, 0);
        let mut newest = None;
        for hour in hours {
            success += hour.attempts_succeeded;
            fail += hour.attempts_failed;
            if hour.attempts_succeeded + hour.attempts_failed > 0 {
                newest = Some(hour.attempts_failed > hour.attempts_succeeded);
            }
        }
        let state = known.unwrap_or(match newest {
            Some(true) => "failing",
            Some(false) => "healthy",
            None => "idle",
        });
        Health {
            state,
            success,
            fail,
            waiting,
        }
    }
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
            "The deliveries that ended within the hours of the stretch, at most 28 days, and those \
             that wait now. A delivery that ended, was sent again and ended again counts twice.",
        )
        .answers_nothing(400, TOO_LONG)
        .parameters(range_parameters())
        .answers::<EndpointStats>(200, "The counts"),
        Operation::get(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}/attempt-stats",
            "v1.endpoint.get-attempt-stats",
            web::to(attempt_stats),
        )
        .summary("Count the attempts at an endpoint")
        .description("The attempts within the hours of the stretch, at most 28 days.")
        .answers_nothing(400, TOO_LONG)
        .parameters(range_parameters())
        .answers::<EndpointAttemptStats>(200, "The counts"),
        Operation::get(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}/attempt-series",
            "v1.endpoint.get-attempt-series",
            web::to(attempt_series),
        )
        .summary("Count the attempts at an endpoint by the hour")
        .description("The hours of the stretch in which there were any, at most 28 days.")
        .answers_nothing(400, TOO_LONG)
        .parameters(range_parameters())
        .answers::<AttemptSeries>(200, "The hours, oldest first"),
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
fn range_in(mut query: Query<'_>, now: Timestamp) -> Result<(Timestamp, Timestamp)> {
    let (since, until) = (query.instant("since"), query.instant("until"));
    let until = until.unwrap_or(now);
    let since = since.unwrap_or_else(|| until.saturating_sub(RANGE_MAX));
    if since > until {
        let message = "must not lie after until";
        query.problems.add(&["query", "since"], message);
    }
    query.problems.done()?;
    if until.since(since) > RANGE_MAX + LEEWAY {
        let message = "since must lie at most 28 days before until";
        return Err(Error::InvalidRange(message.to_owned()));
    }
    Ok((since, until))
}

pub async fn stats(call: Call) -> Reply {
    let lane = named(&call, Action::ReadHistory)?.number;
    let sending = (call.context.sending)(Arc::from([lane]), None).await.len() as u64;
    let (counts, waiting) =
        counted(&call, |store, endpoint| store.waiting_in(endpoint.number)).await?;
    // A delivery that is being sent counts as waiting, too, until its outcome is stored.
    let sending = sending.min(waiting);
    let stats = EndpointStats {
        success: counts.delivered,
        pending: waiting - sending,
        sending,
        fail: counts.failed,
        canceled: 0,
    };
    Ok(json(StatusCode::OK, &stats))
}

pub async fn attempt_stats(call: Call) -> Reply {
    let (counts, ()) = counted(&call, |_, _| Ok(())).await?;
    let stats = EndpointAttemptStats {
        success: counts.attempts_succeeded,
        fail: counts.attempts_failed,
        canceled: 0,
    };
    Ok(json(StatusCode::OK, &stats))
}

pub async fn attempt_series(call: Call) -> Reply {
    let series = read_hours(&call, |_, _, hours| {
        let hours = hours.iter();
        Ok(hours
            .map(|(at, counts)| AttemptHour::new(*at, counts))
            .collect())
    });
    let data = series.await?;
    Ok(json(StatusCode::OK, &AttemptSeries { data }))
}

/// Returns the counts of the endpoint and the stretch of time in a request, and the result of a
/// further read.
async fn counted<T: Send + 'static>(
    call: &Call,
    read: impl FnOnce(&Store, &Endpoint) -> Result<T> + Send + 'static,
) -> Result<(LaneHour, T)> {
    read_hours(call, |store, endpoint, hours| {
        let mut sum = LaneHour::default();
        hours.values().for_each(|counts| sum.add(counts));
        Ok((sum, read(store, endpoint)?))
    })
    .await
}

/// Reads the hours of the endpoint and the stretch of time in a request.
async fn read_hours<T: Send + 'static>(
    call: &Call,
    read: impl FnOnce(&Store, &Endpoint, &BTreeMap<Timestamp, LaneHour>) -> Result<T> + Send + 'static,
) -> Result<T> {
    let endpoint = named(call, Action::ReadHistory)?;
    let (since, until) = range_in(call.query(), call.now())?;
    let store = call.context.store.clone();
    call.reading(move || {
        let hours = store.hours(endpoint.number, since, until)?;
        read(&store, &endpoint, &hours)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_told_by_the_newest_hour_that_had_attempts() {
        let hour = |succeeded, failed| LaneHour {
            attempts_succeeded: succeeded,
            attempts_failed: failed,
            ..LaneHour::default()
        };
        for (known, hours, expected) in [
            (None, vec![], ("idle", 0, 0)),
            (None, vec![hour(0, 0)], ("idle", 0, 0)),
            (None, vec![hour(5, 0)], ("healthy", 5, 0)),
            (None, vec![hour(5, 0), hour(0, 1)], ("failing", 5, 1)),
            (None, vec![hour(0, 9), hour(1, 1)], ("healthy", 1, 10)),
            (
                None,
                vec![hour(0, 9), hour(1, 0), hour(0, 0)],
                ("healthy", 1, 9),
            ),
            (Some("disabled"), vec![hour(5, 0)], ("disabled", 5, 0)),
            (Some("failing"), vec![hour(9, 3)], ("failing", 9, 3)),
        ] {
            let found = Health::judged(known, hours.iter(), 3);
            let found_as = (found.state, found.success, found.fail);
            assert_eq!(found_as, expected, "{hours:?}");
            assert_eq!(found.waiting, 3);
        }
    }
}
