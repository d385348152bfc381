//! Sending many messages to an endpoint again: each call begins a background job.
//!
//! `recover` sends messages whose last attempt failed, `replay-missing` messages that the endpoint
//! would get today and never got, `bulk-replay` those of its messages that a filter selects.

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::JsonSchema;
use serde::Deserialize;

use super::endpoint_path::named;
use super::jobs::BegunOut;
use crate::api::kit::call::{Call, Reply};
use crate::api::kit::extract::{Body, answered};
use crate::api::kit::operation::Operation;
use crate::clock::Timestamp;
use crate::domain::event_type::name_problem;
use crate::domain::id::{IDS_BEGIN, IDS_END};
use crate::domain::job::{Job, Matching, Which};
use crate::domain::message::DeliveryStatus;
use crate::error::Result;
use crate::rules::caller::Action;
use crate::rules::checks::{CHANNEL_NAME_MAX, Problems, check_event_type_names};
use crate::rules::jobs::BeginReplay;

const TAG_BYTES_MAX: usize = 256;

/// The contract's `RecoverIn` and `ReplayIn`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["since"]))]
struct ReplayIn {
    /// Only messages accepted from then on.
    #[schemars(with = "Timestamp")]
    since: Option<String>,
    /// Only messages accepted before then; all up to now where absent.
    #[schemars(with = "Option<Timestamp>")]
    until: Option<String>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["since"]))]
struct BulkReplayIn {
    /// Only messages accepted from then on.
    #[schemars(with = "Timestamp")]
    since: Option<String>,
    /// Only messages accepted before then; all up to now where absent.
    #[schemars(with = "Option<Timestamp>")]
    until: Option<String>,
    /// Only messages of one of these event types, which may have wildcards as an endpoint's have.
    event_types: Option<Vec<String>>,
    /// Only messages in this channel.
    #[schemars(length(min = 1, max = CHANNEL_NAME_MAX))]
    channel: Option<String>,
    /// Only messages with this tag.
    #[schemars(length(min = 1, max = TAG_BYTES_MAX))]
    tag: Option<String>,
    /// Only messages whose delivery is: 0 delivered, 1 or 3 still to be attempted, 2 failed for
    /// good.
    #[schemars(extend("enum" = [0, 1, 2, 3, null]))]
    status: Option<u16>,
    /// Only messages whose last answer had a status in these hundreds; 0 for no answer.
    #[schemars(extend("enum" = [0, 100, 200, 300, 400, 500, null]))]
    status_code_class: Option<u16>,
}

/// A stretch of time, from the first instant to before the second.
type Stretch = (Timestamp, Timestamp);

/// The stretch of time that a body asks for.
pub fn checked_stretch(
    problems: &mut Problems,
    since: Option<&str>,
    until: Option<&str>,
    now: Timestamp,
) -> Stretch {
    // Messages are accepted at whole milliseconds: a bound between two is the same as the later
    // one.
    let mut instant = |name: &str, text: Option<&str>| match text.map(Timestamp::not_before) {
        None => None,
        Some(Ok(at)) => Some(at.clamp(IDS_BEGIN, IDS_END)),
        Some(Err(_)) => {
            let message = "must be an RFC 3339 date and time, such as 2026-01-31T08:15:30Z";
            problems.add(&["body", name], message);
            None
        }
    };
    // A message that was accepted in this very millisecond is before the next.
    let end = Timestamp(now.0 + 1);
    let begin = instant("since", since);
    let until = instant("until", until).map_or(end, |until| until.min(end));
    match (since, begin) {
        (None, _) => problems.missing(&["body", "since"]),
        (Some(_), Some(begin)) if begin > until => {
            problems.add(&["body", "since"], "must not lie after until, or after now");
        }
        _ => {}
    }
    (begin.unwrap_or(until), until)
}

impl ReplayIn {
    fn checked(&self, now: Timestamp) -> Result<Stretch> {
        let mut problems = Problems::default();
        let (since, until) = (self.since.as_deref(), self.until.as_deref());
        let stretch = checked_stretch(&mut problems, since, until, now);
        problems.done().map(|()| stretch)
    }
}

impl BulkReplayIn {
    fn checked(self, now: Timestamp) -> Result<(Stretch, Matching)> {
        let mut problems = Problems::default();
        let (since, until) = (self.since.as_deref(), self.until.as_deref());
        let stretch = checked_stretch(&mut problems, since, until, now);
        // An empty list is no filter, as in a query.
        let event_types = self.event_types.filter(|names| !names.is_empty());
        if let Some(names) = &event_types {
            check_event_type_names(&mut problems, &["body", "eventTypes"], names);
        }
        if let Some(channel) = &self.channel {
            let problem = name_problem(channel, CHANNEL_NAME_MAX);
            problems.add_if(&["body", "channel"], problem);
        }
        if let Some(tag) = &self.tag
            && !(1..=TAG_BYTES_MAX).contains(&tag.len())
        {
            let message = format!("must have 1 to {TAG_BYTES_MAX} bytes");
            problems.add(&["body", "tag"], message);
        }
        let status = match self.status {
            None => None,
            Some(0) => Some(DeliveryStatus::Delivered),
            // A delivery that is being sent is pending in our terms.
            Some(1 | 3) => Some(DeliveryStatus::Pending),
            Some(2) => Some(DeliveryStatus::Failed),
            Some(_) => {
                problems.add(&["body", "status"], "must be one of 0, 1, 2, 3");
                None
            }
        };
        let class = self.status_code_class;
        if class.is_some_and(|class| class % 100 != 0 || class > 500) {
            let message = "must be one of 0, 100, 200, 300, 400, 500";
            problems.add(&["body", "statusCodeClass"], message);
        }
        problems.done()?;
        let matching = Matching {
            event_types,
            channel: self.channel,
            tag: self.tag,
            status,
            status_class: class.map(|class| class / 100),
        };
        Ok((stretch, matching))
    }
}

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    let answer = "A background job was begun";
    vec![
        Operation::post(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}/recover",
            "v1.endpoint.recover",
            web::to(recover),
        )
        .needs(Action::SendAgain)
        .summary("Send everything again that failed")
        .description(
            "Messages whose last attempt at the endpoint failed. Those that wait for a retry are sent \
             now, and go on with their schedules if that fails, too. Oldest first, a few at a time, \
             so that what is published meanwhile does not wait for long.",
        )
        .once()
        .takes::<ReplayIn>()
        .answers::<BegunOut>(202, answer),
        Operation::post(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}/replay-missing",
            "v1.endpoint.replay-missing",
            web::to(replay_missing),
        )
        .needs(Action::SendMissing)
        .summary("Send what the endpoint never got")
        .description(
            "Messages that the endpoint would get if they were published now, and that were never \
             for it: because it was created later, or its filter was widened.",
        )
        .once()
        .takes::<ReplayIn>()
        .answers::<BegunOut>(202, answer),
        Operation::post(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}/bulk-replay",
            "v1.endpoint.bulk-replay",
            web::to(bulk_replay),
        )
        .needs(Action::SendAgain)
        .summary("Send messages again")
        .description(
            "Messages that were for the endpoint, delivered or not, as far as they meet all that \
             is asked for.",
        )
        .once()
        .takes::<BulkReplayIn>()
        .answers::<BegunOut>(202, answer),
    ]
}

async fn recover(call: Call, body: Body) -> Reply {
    let which = |body: &Body, now| {
        let stretch = body.json::<ReplayIn>()?.checked(now)?;
        Ok((stretch, Which::Failed))
    };
    begun(&call, &body, Action::SendAgain, which).await
}

/// Begins a replay of missing messages. A webhook user cannot get messages that were never for its
/// endpoint by sending them there.
async fn replay_missing(call: Call, body: Body) -> Reply {
    let which = |body: &Body, now| {
        let stretch = body.json::<ReplayIn>()?.checked(now)?;
        Ok((stretch, Which::Missing))
    };
    begun(&call, &body, Action::SendMissing, which).await
}

async fn bulk_replay(call: Call, body: Body) -> Reply {
    let which = |body: &Body, now| {
        let (stretch, matching) = body.json::<BulkReplayIn>()?.checked(now)?;
        Ok((stretch, Which::Matching(matching)))
    };
    begun(&call, &body, Action::SendAgain, which).await
}

async fn begun(
    call: &Call,
    body: &Body,
    action: Action,
    which: impl FnOnce(&Body, Timestamp) -> Result<(Stretch, Which)>,
) -> Reply {
    named(call, action)?;
    let ((since, until), which) = which(body, call.now())?;
    let command = BeginReplay {
        application: call.path("app_id").to_owned(),
        endpoint: call.path("endpoint_id").to_owned(),
        which,
        since,
        until,
    };
    let shown = |begun: Job| answered(StatusCode::ACCEPTED, &BegunOut::new(&begun));
    call.show_once(call.once(body)?, command, shown).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn bulk(text: &str) -> Result<(Stretch, Matching), Vec<String>> {
        let input: BulkReplayIn = serde_json::from_str(text).unwrap();
        input.checked(NOW).map_err(|error| match error {
            Error::Invalid(all) => all.iter().map(|one| one.location.join(".")).collect(),
            other => panic!("{other}"),
        })
    }

    #[test]
    fn a_stretch_ends_now_and_begins_where_ids_do() {
        let end = Timestamp(NOW.0 + 1);
        for (text, expected) in [
            (
                r#"{"since":"2023-11-14T22:13:19Z"}"#,
                (Timestamp(NOW.0 - 1000), end),
            ),
            (
                r#"{"since":"1980-01-01T00:00:00Z","until":"2999-01-01T00:00:00Z"}"#,
                (IDS_BEGIN, end),
            ),
            (
                r#"{"since":"2023-11-14T22:13:18Z","until":"2023-11-14T22:13:19Z"}"#,
                (Timestamp(NOW.0 - 2000), Timestamp(NOW.0 - 1000)),
            ),
        ] {
            assert_eq!(bulk(text).map(|(stretch, _)| stretch), Ok(expected));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, places) in [
            ("{}", vec!["body.since"]),
            (r#"{"since":"yesterday"}"#, vec!["body.since"]),
            (r#"{"since":"2023-11-14T22:13:21Z"}"#, vec!["body.since"]),
            (
                r#"{"since":"2023-11-14T22:13:19Z","until":"2023-11-14T22:13:18Z"}"#,
                vec!["body.since"],
            ),
            (
                r#"{"since":"2023-11-14T22:13:19Z","until":"x","eventTypes":["no spaces"],
                    "channel":"","tag":"","status":4,"statusCodeClass":250}"#,
                vec![
                    "body.until",
                    "body.eventTypes.0",
                    "body.channel",
                    "body.tag",
                    "body.status",
                    "body.statusCodeClass",
                ],
            ),
        ] {
            let places: Vec<String> = places.into_iter().map(str::to_owned).collect();
            assert_eq!(bulk(text).map(|_| ()), Err(places), "{text}");
        }
    }

    #[test]
    fn the_contracts_numbers_are_understood() {
        let since = r#""since":"2023-11-14T22:13:19Z""#;
        use DeliveryStatus::{Delivered, Failed, Pending};
        for (number, status) in [(0, Delivered), (1, Pending), (2, Failed), (3, Pending)] {
            let (_, matching) = bulk(&format!(r#"{{{since},"status":{number}}}"#)).unwrap();
            assert_eq!(matching.status, Some(status));
        }
        let text = format!(r#"{{{since},"statusCodeClass":400,"eventTypes":[]}}"#);
        let (_, matching) = bulk(&text).unwrap();
        assert_eq!(
            (matching.status_class, matching.event_types),
            (Some(4), None)
        );
    }
}
