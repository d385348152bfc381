//! Operational events: reports to the platform's own endpoints about its customers' endpoints.
//!
//! Pure: the names, and the payloads: the contract's fields, and beside them those that a person can
//! read (`summary`). The committer decides when there is an event, and makes it in the same commit as the change
//! that it reports.

use serde::{Serialize, Serializer};

use super::application::Application;
use super::attempt::{Attempt, Verdict};
use super::endpoint::Endpoint;
use super::id::{ApplicationId, AttemptId, EndpointId, MessageId};
use super::notice::{Told, ToldKind};
use super::summary;
use crate::clock::Timestamp;

/// The number of failed attempts after which a delivery is first reported.
pub const FAILING_AFTER: u32 = 4;

/// The profile of the platform's own endpoints that name none, whatever the server's default is.
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

/// The endpoint that an event is about.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    pub application: &'a Application,
    pub endpoint: &'a Endpoint,
    /// The address of the console from outside, where the server knows it.
    pub console_url: Option<&'a str>,
}

/// The message of an attempt, as far as it is known.
#[derive(Clone, Copy, Default)]
pub struct AttemptedMessage<'a> {
    pub event_type: Option<&'a str>,
    pub event_id: Option<&'a str>,
}

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
    /// Without credentials, as the API shows it.
    endpoint_url: &'a str,
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
    /// The endpoint's page in the console.
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    /// The event in a sentence.
    summary: String,
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
    /// Without credentials, as the API shows it.
    endpoint_url: &'a str,
    msg_id: MessageId,
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_event_id: Option<&'a str>,
    /// The message's.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<&'a str>,
    last_attempt: LastAttempt,
    /// Why the attempt failed, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    /// The endpoint's page in the console.
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    /// The event in a sentence.
    summary: String,
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

impl Subject<'_> {
    /// The endpoint's page in the console.
    fn link(&self) -> Option<String> {
        let console = self.console_url?;
        Some(format!("{console}/{}", self.endpoint.console_page()))
    }
}

impl<'a> OperationalEvent<'a> {
    /// One of the names that begin with `endpoint.`. The predicate is the rest of the summary's sentence.
    fn of_endpoint(
        name: &'static str,
        subject: Subject<'a>,
        predicate: &str,
    ) -> OperationalEvent<'a> {
        let Subject {
            application,
            endpoint,
            ..
        } = subject;
        OperationalEvent {
            name,
            data: Data::Endpoint(EndpointData {
                app_id: application.id,
                app_uid: application.uid.as_deref(),
                endpoint_id: endpoint.id,
                endpoint_uid: endpoint.uid.as_deref(),
                endpoint_url: &endpoint.url,
                fail_since: None,
                disables_at: None,
                failed_deliveries: None,
                failure: None,
                event_type: None,
                trigger: None,
                link: subject.link(),
                summary: format!("{} {predicate}.", summary::title(subject)),
            }),
        }
    }

    /// Without a link: the page is gone, too.
    pub fn deleted(subject: Subject<'a>) -> OperationalEvent<'a> {
        let subject = Subject {
            console_url: None,
            ..subject
        };
        OperationalEvent::of_endpoint("endpoint.deleted", subject, "was deleted")
    }

    /// Disabled by its attempts, which have failed since then.
    pub fn disabled(subject: Subject<'a>, fail_since: Timestamp) -> OperationalEvent<'a> {
        let predicate = summary::why_disabled(subject.endpoint, Some(fail_since));
        let mut event = OperationalEvent::of_endpoint("endpoint.disabled", subject, &predicate);
        if let Data::Endpoint(data) = &mut event.data {
            data.fail_since = Some(fail_since);
            data.trigger = Some("automatic");
        }
        event
    }

    /// A message to people: the endpoint fails, or is well again.
    pub fn of_notice(subject: Subject<'a>, told: &'a Told) -> OperationalEvent<'a> {
        let name = match told.kind {
            ToldKind::Failing => "endpoint.failing",
            ToldKind::Recovered => "endpoint.recovered",
        };
        let predicate = summary::of_notice(subject.endpoint, told);
        let mut event = OperationalEvent::of_endpoint(name, subject, &predicate);
        if let Data::Endpoint(data) = &mut event.data {
            data.fail_since = told.failing_since;
            data.disables_at = told.disables_at;
            data.failed_deliveries = Some(told.news.exhausted);
            data.failure = Some(&told.news.failure).filter(|failure| !failure.is_empty());
            data.event_type = Some(&told.news.event_type).filter(|name| !name.is_empty());
        }
        event
    }

    /// The events for a caller's change: the subject's endpoint in the place of `before`.
    pub fn put(subject: Subject<'a>, before: Option<&Endpoint>) -> Vec<OperationalEvent<'a>> {
        let endpoint = subject.endpoint;
        let event = |name, predicate| OperationalEvent::of_endpoint(name, subject, predicate);
        let Some(before) = before else {
            return vec![event("endpoint.created", "was added")];
        };
        // A challenge and its result are no caller's change. The operator knows of its own holds, and may make
        // 100,000 of them at once.
        let is_all = || {
            let verified = Endpoint {
                verification: endpoint.verification.clone(),
                held: endpoint.held,
                // A release may set it.
                catch_up: endpoint.catch_up,
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
        let mut events = vec![event("endpoint.updated", "was changed")];
        match (before.disabled.is_some(), endpoint.disabled.is_some()) {
            (false, true) => {
                let predicate = "was disabled by hand: its messages wait until it is enabled";
                let mut disabled = event("endpoint.disabled", predicate);
                if let Data::Endpoint(data) = &mut disabled.data {
                    data.trigger = Some("manual");
                }
                events.push(disabled);
            }
            (true, false) => events.push(event("endpoint.enabled", "was enabled")),
            _ => {}
        }
        events
    }

    /// The event that reports the attempt, if it is one to report.
    pub fn of_attempt(
        subject: Subject<'a>,
        attempt: &Attempt,
        message: AttemptedMessage<'a>,
    ) -> Option<OperationalEvent<'a>> {
        let name = attempt_event(attempt.number, attempt.verdict)?;
        let answer = attempt.answer.as_ref();
        let failure = attempt.failure_words().map(|why| summary::failure(&why));
        let Subject {
            application,
            endpoint,
            ..
        } = subject;
        let summary = summary::of_attempt(subject, attempt, message, failure.as_deref());
        Some(OperationalEvent {
            name,
            data: Data::Attempt(AttemptData {
                app_id: application.id,
                app_uid: application.uid.as_deref(),
                endpoint_id: endpoint.id,
                endpoint_uid: endpoint.uid.as_deref(),
                endpoint_url: &endpoint.url,
                msg_id: attempt.message,
                msg_event_id: message.event_id,
                event_type: message.event_type,
                last_attempt: LastAttempt {
                    id: attempt.id,
                    response_status_code: answer.map_or(0, |answer| answer.status),
                    timestamp: Some(attempt.started_at),
                },
                failure,
                link: subject.link(),
                summary,
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
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::attempt::{Answer, FailureKind, SendFailure, Timings, Trigger};
    use crate::domain::disabled::{Disabled, DisabledReason};
    use crate::domain::id::OrganisationId;

    const NOW: Timestamp = Timestamp(1_769_847_330_250);

    fn application() -> Application {
        let organisation = OrganisationId::in_order(NOW, 1, *b"organisatio");
        Application {
            id: ApplicationId::in_order(NOW, 1, *b"application"),
            name: "Acme".to_owned(),
            ..Application::operational(organisation, NOW)
        }
    }

    fn endpoint() -> Endpoint {
        let application = application();
        Endpoint {
            url: "https://hooks.acme.example/in?key=k-1".to_owned(),
            ..Endpoint::new(
                EndpointId::in_order(NOW, 1, *b"an-endpoint"),
                application.organisation,
                application.id,
                1,
                NOW,
            )
        }
    }

    fn attempt(
        number: u32,
        verdict: Verdict,
        status: Option<u16>,
        failure: Option<(FailureKind, &str)>,
    ) -> Attempt {
        let endpoint = endpoint();
        Attempt {
            id: AttemptId::in_order(NOW, 1, *b"the-attempt"),
            application: endpoint.application,
            message: MessageId::in_order(NOW, 1, *b"the-message"),
            endpoint: endpoint.id,
            number,
            trigger: Trigger::Scheduled,
            started_at: NOW,
            timings: Timings::default(),
            url: endpoint.url,
            method: "POST".to_owned(),
            request_headers: Vec::new(),
            answer: status.map(|status| Answer {
                status,
                headers: Vec::new(),
                body: b"no word of this".to_vec(),
                truncated: false,
            }),
            failure: failure.map(|(kind, detail)| SendFailure {
                kind,
                detail: detail.to_owned(),
            }),
            sent_again: false,
            verdict,
            test: false,
        }
    }

    fn data(event: &OperationalEvent<'_>) -> Value {
        serde_json::to_value(event).unwrap()["data"].clone()
    }

    #[test]
    fn each_event_is_a_sentence_with_a_link_to_the_endpoints_page() {
        let (application, endpoint) = (application(), endpoint());
        let disabled = Endpoint {
            disabled: Some(Disabled {
                at: NOW,
                reason: DisabledReason::Gone,
            }),
            ..endpoint.clone()
        };
        let of = |endpoint| Subject {
            application: &application,
            endpoint,
            console_url: Some("https://postrider.example/console"),
        };
        let mut told = Vec::new();
        told.extend(OperationalEvent::put(of(&endpoint), None));
        told.extend(OperationalEvent::put(of(&disabled), Some(&endpoint)));
        told.extend(OperationalEvent::put(of(&endpoint), Some(&disabled)));
        told.push(OperationalEvent::disabled(of(&disabled), NOW));
        told.push(OperationalEvent::deleted(of(&endpoint)));
        let predicates = [
            ("endpoint.created", "was added"),
            ("endpoint.updated", "was changed"),
            (
                "endpoint.disabled",
                "was disabled by hand: its messages wait until it is enabled",
            ),
            ("endpoint.updated", "was changed"),
            ("endpoint.enabled", "was enabled"),
            (
                "endpoint.disabled",
                "was disabled, because it answered HTTP 410: it is gone",
            ),
            ("endpoint.deleted", "was deleted"),
        ];
        assert_eq!(told.len(), predicates.len());
        let link = format!(
            "https://postrider.example/console/app/{}/endpoint/{}",
            application.id, endpoint.id
        );
        for (event, (name, predicate)) in told.iter().zip(predicates) {
            let data = data(event);
            assert_eq!(event.name, name);
            let summary = format!("https://hooks.acme.example/in of Acme {predicate}.");
            assert_eq!(data["summary"], summary);
            assert_eq!(data["endpointUrl"], endpoint.url);
            let expected = match name {
                "endpoint.deleted" => Value::Null,
                _ => json!(link),
            };
            assert_eq!(data["link"], expected, "{name}");
        }
    }

    #[test]
    fn an_attempts_event_says_what_failed_how_often_and_why() {
        use FailureKind::*;
        let retry = Verdict::RetryAt(NOW);
        let wrong = |status| attempt(8, Verdict::GiveUp, Some(status), Some((WrongAnswer, "x.")));
        let failed = |kind, detail| attempt(4, retry, None, Some((kind, detail)));
        for (attempt, predicate, failure) in [
            (
                wrong(503),
                "failed for good after 8 attempts: HTTP 503",
                json!("HTTP 503"),
            ),
            (
                wrong(200),
                "failed for good after 8 attempts: HTTP 200, but not the answer that its profile \
                 takes for a success",
                json!("HTTP 200, but not the answer that its profile takes for a success"),
            ),
            (
                wrong(302),
                "failed for good after 8 attempts: HTTP 302, a redirect, which is not followed",
                json!("HTTP 302, a redirect, which is not followed"),
            ),
            (
                attempt(
                    1,
                    Verdict::GiveUp,
                    None,
                    Some((NotSendable, "The URL is http.")),
                ),
                "failed for good after 1 attempt: the URL is http",
                json!("the URL is http"),
            ),
            (
                failed(Timeout, "Waiting for the answer took longer than 15 s."),
                "has failed 4 times and will be tried again: timed out: waiting for the answer took \
                 longer than 15 s",
                json!("timed out: waiting for the answer took longer than 15 s"),
            ),
            (
                failed(
                    ConnectionRefused,
                    "The connection was refused: nobody listens.",
                ),
                "has failed 4 times and will be tried again: connection refused",
                json!("connection refused"),
            ),
            (
                failed(Tls, "TLS 1.1 is all that it speaks."),
                "has failed 4 times and will be tried again: TLS 1.1 is all that it speaks",
                json!("TLS 1.1 is all that it speaks"),
            ),
            (
                failed(Dns, ""),
                "has failed 4 times and will be tried again: dns",
                json!("dns"),
            ),
            (
                attempt(6, Verdict::Delivered, Some(200), None),
                "came through at attempt 6",
                Value::Null,
            ),
        ] {
            let (application, endpoint) = (application(), endpoint());
            let subject = Subject {
                application: &application,
                endpoint: &endpoint,
                console_url: None,
            };
            let named = AttemptedMessage {
                event_type: Some("invoice.paid"),
                event_id: Some("mine"),
            };
            for (message, delivery) in [
                (named, "a delivery of invoice.paid"),
                (AttemptedMessage::default(), "a delivery"),
            ] {
                let event = OperationalEvent::of_attempt(subject, &attempt, message);
                let data = data(&event.expect("it is one to report"));
                let summary =
                    format!("https://hooks.acme.example/in of Acme: {delivery} {predicate}.");
                assert_eq!(data["summary"], summary);
                assert_eq!(data["failure"], failure);
                assert_eq!(data["eventType"], json!(message.event_type));
                assert_eq!(data["endpointUrl"], endpoint.url);
                assert_eq!(data["link"], Value::Null);
            }
        }
    }

    #[test]
    fn a_summary_is_one_line_of_bounded_length() {
        let application = Application {
            name: format!("A\nB{}", "ä".repeat(2_000)),
            ..application()
        };
        let endpoint = Endpoint {
            url: format!("https://hooks.acme.example/{}", "x".repeat(2_000)),
            ..endpoint()
        };
        let subject = Subject {
            application: &application,
            endpoint: &endpoint,
            console_url: None,
        };
        let detail = "No \u{7}".repeat(500);
        let failure = Some((FailureKind::BrokenAnswer, detail.as_str()));
        let attempt = attempt(4, Verdict::GiveUp, None, failure);
        let name = "n".repeat(2_000);
        let message = AttemptedMessage {
            event_type: Some(&name),
            event_id: None,
        };
        let event = OperationalEvent::of_attempt(subject, &attempt, message).unwrap();
        let summary = data(&event)["summary"].as_str().unwrap().to_owned();
        assert!(summary.chars().count() < 1_000, "{summary}");
        assert!(!summary.contains(char::is_control), "{summary}");
        assert!(summary.contains("xxx… of A Bää"), "{summary}");
    }

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
