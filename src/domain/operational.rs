//! Operational events: reports to the platform's own endpoints about its customers' endpoints.
//!
//! Pure: the names, and the payloads in the contract's form. The committer decides when there is an
//! event, and makes it in the same commit as the change that it reports.

use serde::{Serialize, Serializer};

use super::application::Application;
use super::attempt::{Attempt, Verdict};
use super::endpoint::Endpoint;
use super::health::{Told, ToldKind};
use super::id::{ApplicationId, AttemptId, EndpointId, MessageId};
use crate::clock::Timestamp;

/// The number of failed attempts after which a delivery is first reported.
pub const FAILING_AFTER: u32 = 4;

/// The profile of the platform's own endpoints, whatever the server's default is.
pub const PROFILE: &str = "standard";

/// The names of all operational events, sorted.
pub const EVENT_TYPES: [&str; 10] = [
    "endpoint.created",
    "endpoint.deleted",
    "endpoint.disabled",
    "endpoint.enabled",
    "endpoint.failing",
    "endpoint.recovered",
    "endpoint.updated",
    "message.attempt.exhausted",
    "message.attempt.failing",
    "message.attempt.recovered",
];

/// An operational event; its serialised form is the payload.
#[derive(Debug, Serialize)]
pub struct OperationalEvent<'a> {
    #[serde(rename = "type")]
    pub name: &'static str,
    data: Data<'a>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Endpoint(EndpointData<'a>),
    Attempt(AttemptData<'a>),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EndpointData<'a> {
    app_id: ApplicationId,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_uid: Option<&'a str>,
    endpoint_id: EndpointId,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "instant")]
    fail_since: Option<Timestamp>,
    /// When the endpoint will be disabled if nothing succeeds.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "instant")]
    disables_at: Option<Timestamp>,
    /// Deliveries that failed for good since the last message about the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_deliveries: Option<u64>,
    /// The last failure in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<&'a String>,
    /// Of the message that failed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<&'a String>,
    /// Who disabled it: `manual` or `automatic`.
    #[serde(skip_serializing_if = "Option::is_none")]
    trigger: Option<&'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AttemptData<'a> {
    app_id: ApplicationId,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_uid: Option<&'a str>,
    endpoint_id: EndpointId,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_uid: Option<&'a str>,
    msg_id: MessageId,
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_event_id: Option<&'a str>,
    last_attempt: LastAttempt,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LastAttempt {
    id: AttemptId,
    /// 0 where no answer came.
    response_status_code: u16,
    #[serde(serialize_with = "instant")]
    timestamp: Option<Timestamp>,
}

fn instant<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serializer.collect_str(at),
        None => serializer.serialize_none(),
    }
}

impl<'a> OperationalEvent<'a> {
    /// One of the names that begin with `endpoint.`.
    fn of_endpoint(
        name: &'static str,
        application: &'a Application,
        endpoint: &'a Endpoint,
    ) -> OperationalEvent<'a> {
        OperationalEvent {
            name,
            data: Data::Endpoint(EndpointData {
                app_id: application.id,
                app_uid: application.uid.as_deref(),
                endpoint_id: endpoint.id,
                endpoint_uid: endpoint.uid.as_deref(),
                fail_since: None,
                disables_at: None,
                failed_deliveries: None,
                failure: None,
                event_type: None,
                trigger: None,
            }),
        }
    }

    pub fn deleted(application: &'a Application, endpoint: &'a Endpoint) -> OperationalEvent<'a> {
        OperationalEvent::of_endpoint("endpoint.deleted", application, endpoint)
    }

    /// Disabled by its attempts, which have failed since then.
    pub fn disabled(
        application: &'a Application,
        endpoint: &'a Endpoint,
        fail_since: Timestamp,
    ) -> OperationalEvent<'a> {
        let mut event = OperationalEvent::of_endpoint("endpoint.disabled", application, endpoint);
        if let Data::Endpoint(data) = &mut event.data {
            data.fail_since = Some(fail_since);
            data.trigger = Some("automatic");
        }
        event
    }

    /// A message to people: the endpoint fails, or is well again.
    pub fn of_notice(
        application: &'a Application,
        endpoint: &'a Endpoint,
        told: &'a Told,
    ) -> OperationalEvent<'a> {
        let name = match told.kind {
            ToldKind::Failing => "endpoint.failing",
            ToldKind::Recovered => "endpoint.recovered",
        };
        let mut event = OperationalEvent::of_endpoint(name, application, endpoint);
        if let Data::Endpoint(data) = &mut event.data {
            data.fail_since = told.failing_since;
            data.disables_at = told.disables_at;
            data.failed_deliveries = Some(told.news.exhausted);
            data.failure = Some(&told.news.failure).filter(|failure| !failure.is_empty());
            data.event_type = Some(&told.news.event_type).filter(|name| !name.is_empty());
        }
        event
    }

    /// The events for a caller's change: `endpoint` in the place of `before`.
    pub fn put(
        application: &'a Application,
        before: Option<&Endpoint>,
        endpoint: &'a Endpoint,
    ) -> Vec<OperationalEvent<'a>> {
        let event = |name| OperationalEvent::of_endpoint(name, application, endpoint);
        let Some(before) = before else {
            return vec![event("endpoint.created")];
        };
        // A challenge and its result are no caller's change. The operator knows of its own holds, and may make
        // 100,000 of them at once.
        let is_all = || {
            let verified = Endpoint {
                verification: endpoint.verification.clone(),
                held: endpoint.held,
                updated_at: endpoint.updated_at,
                ..before.clone()
            };
            verified == *endpoint
        };
        let is_another =
            before.verification != endpoint.verification || before.held != endpoint.held;
        if is_another && is_all() {
            return Vec::new();
        }
        let mut events = vec![event("endpoint.updated")];
        match (before.disabled.is_some(), endpoint.disabled.is_some()) {
            (false, true) => {
                let mut disabled = event("endpoint.disabled");
                if let Data::Endpoint(data) = &mut disabled.data {
                    data.trigger = Some("manual");
                }
                events.push(disabled);
            }
            (true, false) => events.push(event("endpoint.enabled")),
            _ => {}
        }
        events
    }

    /// The event that reports the attempt, if it is one to report.
    pub fn of_attempt(
        application: &'a Application,
        endpoint: &'a Endpoint,
        attempt: &Attempt,
        event_id: Option<&'a str>,
    ) -> Option<OperationalEvent<'a>> {
        let name = attempt_event(attempt.number, attempt.verdict)?;
        let answer = attempt.answer.as_ref();
        Some(OperationalEvent {
            name,
            data: Data::Attempt(AttemptData {
                app_id: application.id,
                app_uid: application.uid.as_deref(),
                endpoint_id: endpoint.id,
                endpoint_uid: endpoint.uid.as_deref(),
                msg_id: attempt.message,
                msg_event_id: event_id,
                last_attempt: LastAttempt {
                    id: attempt.id,
                    response_status_code: answer.map_or(0, |answer| answer.status),
                    timestamp: Some(attempt.started_at),
                },
            }),
        })
    }
}

/// The name of the event that reports an attempt with this number and verdict, if it is one to
/// report.
pub fn attempt_event(number: u32, verdict: Verdict) -> Option<&'static str> {
    match verdict {
        Verdict::GiveUp => Some("message.attempt.exhausted"),
        Verdict::RetryAt(_) if number == FAILING_AFTER => Some("message.attempt.failing"),
        Verdict::Delivered if number > FAILING_AFTER => Some("message.attempt.recovered"),
        Verdict::RetryAt(_) | Verdict::Delivered | Verdict::DisableEndpoint => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_told_of_at_the_fourth_failure_at_the_end_and_when_it_recovers() {
        let again = Verdict::RetryAt(Timestamp(9));
        for (number, verdict, expected) in [
            (1, Verdict::Delivered, None),
            (1, again, None),
            (3, again, None),
            (4, again, Some("message.attempt.failing")),
            (5, again, None),
            (4, Verdict::Delivered, None),
            (5, Verdict::Delivered, Some("message.attempt.recovered")),
            (9, Verdict::Delivered, Some("message.attempt.recovered")),
            (1, Verdict::GiveUp, Some("message.attempt.exhausted")),
            (4, Verdict::GiveUp, Some("message.attempt.exhausted")),
            (4, Verdict::DisableEndpoint, None),
        ] {
            let found = attempt_event(number, verdict);
            assert_eq!(found, expected, "{number} {verdict:?}");
            assert!(found.is_none_or(|name| EVENT_TYPES.contains(&name)));
        }
        assert!(EVENT_TYPES.is_sorted());
    }
}
