//! Test events: an event type's example as a message to one endpoint, whatever its filter.
//!
//! `send-example` is the contract's; `simulate` is an addition, where fields of the example are
//! replaced. Both are stored, signed, delivered and retried as any message is, and marked as tests
//! wherever the message or an attempt for it is shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::endpoint_path::named;
use super::message_body::{CHANNELS_PER_MESSAGE_MAX, MessageOut, RawIn};
use super::older_clients;
use crate::api::kit::call::{Call, Reply};
use crate::api::kit::context::Context;
use crate::api::kit::extract::{Body, json};
use crate::api::kit::operation::Operation;
use crate::catalog::Catalog;
use crate::domain::endpoint::Endpoint;
use crate::domain::event_type::{EventType, name_problem};
use crate::domain::id::{MessageId, OrganisationId};
use crate::domain::message::{Message, Origin};
use crate::domain::{merge, payload};
use crate::error::{Error, Result};
use crate::rules::caller::{Action, FeatureFlags};
use crate::rules::checks::{
    CHANNEL_NAME_MAX, EVENT_TYPE_NAME_MAX, NAME_PATTERN, Problems, check_channels, check_uid,
    without_repeats,
};
use crate::rules::endpoint_checks::held_because;
use crate::rules::message_headers::HeaderRules;
use crate::store::{NewMessage, Once};

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(rename = "EventExampleIn", extend("required" = ["eventType"]))]
struct ExampleIn<'a> {
    /// The event type whose example is sent.
    #[schemars(with = "String", length(min = 1, max = EVENT_TYPE_NAME_MAX), regex(pattern = NAME_PATTERN))]
    event_type: Option<String>,
    /// The index of the example in the event type's schema, counted from 0. Without effect where
    /// the event type has an `example` of its own.
    example_index: Option<usize>,
    /// The payload that is sent in place of the example, byte for byte; the event type then needs
    /// no example.
    #[serde(borrow)]
    #[schemars(with = "Option<BTreeMap<String, Value>>")]
    payload: Option<&'a RawValue>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["eventType"]))]
struct SimulationIn<'a> {
    /// The event type whose example is sent.
    #[schemars(with = "String", length(min = 1, max = EVENT_TYPE_NAME_MAX), regex(pattern = NAME_PATTERN))]
    event_type: Option<String>,
    /// A JSON Merge Patch for the example (RFC 7396): null removes a field.
    #[serde(borrow)]
    #[schemars(with = "Option<BTreeMap<String, Value>>")]
    overrides: Option<&'a RawValue>,
    /// The payload that is sent in place of the example, byte for byte; the event type then needs
    /// no example.
    #[serde(borrow)]
    #[schemars(with = "Option<BTreeMap<String, Value>>")]
    payload: Option<&'a RawValue>,
    /// A text that is sent in place of the example and of `payload`, as in a published message; the
    /// event type then needs no example.
    transformations_params: Option<RawIn>,
    /// The channels of the message.
    #[schemars(
        length(min = 1, max = CHANNELS_PER_MESSAGE_MAX),
        inner(length(min = 1, max = CHANNEL_NAME_MAX), regex(pattern = NAME_PATTERN))
    )]
    channels: Option<Vec<String>>,
    /// Your own id for the message.
    #[schemars(length(min = 1, max = 256), regex(pattern = NAME_PATTERN))]
    event_id: Option<String>,
    /// Only of `send-example`.
    #[serde(skip)]
    example_index: usize,
}

/// The contract's event type for trying an endpoint out, which need not be registered.
const PING: &str = "svix.ping";
const PING_PAYLOAD: &str = r#"{"success":true}"#;

/// An event type that may be tested.
enum Known<'a> {
    /// The contract's own.
    Ping,
    Registered(&'a EventType),
}

/// A test event to send.
#[derive(Debug)]
struct Test {
    event_type: String,
    event_id: Option<String>,
    channels: Vec<String>,
    payload: String,
    is_raw: bool,
    content_type: Option<String>,
    headers: BTreeMap<String, String>,
}

impl SimulationIn<'_> {
    fn checked(
        mut self,
        catalog: &Catalog,
        organisation: OrganisationId,
        flags: &FeatureFlags,
        payload_bytes_max: usize,
        rules: HeaderRules<'_>,
    ) -> Result<Test> {
        let mut problems = Problems::default();
        let known = self.known(&mut problems, catalog, organisation, flags);
        let params = self.transformations_params.take().unwrap_or_default();
        let mut headers = BTreeMap::new();
        let (raw, content_type) = params.checked(&mut problems, rules, &mut headers);
        let is_raw = raw.is_some();
        let payload = match raw {
            Some(text) => Some(self.raw(&mut problems, text, payload_bytes_max)),
            None => self.payload(&mut problems, known, payload_bytes_max),
        };
        let channels = self.channels.map(without_repeats);
        if let Some(channels) = &channels {
            let max = CHANNELS_PER_MESSAGE_MAX;
            check_channels(&mut problems, &["body", "channels"], channels, max);
        }
        if let Some(id) = &self.event_id {
            check_uid(&mut problems, &["body", "eventId"], id, MessageId::PREFIX);
        }
        problems.done()?;
        const CHECKED: &str = "its absence is a problem that was noted";
        Ok(Test {
            event_type: self.event_type.expect(CHECKED),
            event_id: self.event_id,
            channels: channels.unwrap_or_default(),
            payload: payload.expect(CHECKED),
            is_raw,
            content_type,
            headers,
        })
    }

    /// Returns the event type, if it may be sent; else the problem is noted.
    fn known<'c>(
        &self,
        problems: &mut Problems,
        catalog: &'c Catalog,
        organisation: OrganisationId,
        flags: &FeatureFlags,
    ) -> Option<Known<'c>> {
        let Some(name) = &self.event_type else {
            problems.missing(&["body", "eventType"]);
            return None;
        };
        if name == PING && catalog.event_type(organisation, PING).is_none() {
            return Some(Known::Ping);
        }
        known_type(catalog, organisation, flags, name)
            .map(Known::Registered)
            .map_err(|problem| problems.add(&["body", "eventType"], problem))
            .ok()
    }

    /// Returns the raw text to send.
    fn raw(&self, problems: &mut Problems, text: String, bytes_max: usize) -> String {
        self.check_no_overrides(problems);
        if text.len() > bytes_max {
            let place = ["body", "transformationsParams", "rawPayload"];
            problems.add(&place, format!("must have at most {bytes_max} bytes"));
        }
        text
    }

    fn check_no_overrides(&self, problems: &mut Problems) {
        if self.overrides.is_some() {
            let message = "has nothing to change where there is a payload";
            problems.add(&["body", "overrides"], message);
        }
    }

    /// Returns the payload to send: the given one, or the example with its replaced fields.
    fn payload(
        &self,
        problems: &mut Problems,
        known: Option<Known<'_>>,
        bytes_max: usize,
    ) -> Option<String> {
        if let Some(payload) = self.payload.map(RawValue::get) {
            self.check_no_overrides(problems);
            let problem = match payload.len() <= bytes_max {
                true => payload::problem(payload).map(|problem| problem.to_string()),
                false => Some(format!("must have at most {bytes_max} bytes")),
            };
            problems.add_if(&["body", "payload"], problem);
            return Some(payload.to_owned());
        }
        let example = known.and_then(|known| match known {
            Known::Ping => Some(PING_PAYLOAD),
            Known::Registered(known) => example_of(known, self.example_index)
                .map_err(|(place, problem)| problems.add(&["body", place], problem))
                .ok(),
        });
        let overrides = self.overrides.map_or("{}", RawValue::get);
        if let Some(problem) = payload::problem(overrides) {
            problems.add(&["body", "overrides"], problem);
            return None;
        }
        let place = match self.overrides {
            Some(_) => "overrides",
            None => "eventType",
        };
        result_of(merge::merged(example?, overrides), bytes_max)
            .map_err(|problem| problems.add(&["body", place], problem))
            .ok()
    }
}

/// Returns the event type with this name, if it may be sent; else the problem.
fn known_type<'a>(
    catalog: &'a Catalog,
    organisation: OrganisationId,
    flags: &FeatureFlags,
    name: &str,
) -> Result<&'a EventType, String> {
    if let Some(problem) = name_problem(name, EVENT_TYPE_NAME_MAX) {
        return Err(problem);
    }
    let known = catalog.event_type(organisation, name);
    match known.filter(|known| flags.show(known)) {
        None => Err(format!("there is no event type {name}")),
        Some(known) if known.archived => Err(format!("the event type {name} is archived")),
        Some(known) => Ok(known),
    }
}

/// Returns an event type's example, or the place and the text of the problem.
fn example_of(known: &EventType, index: usize) -> Result<&str, (&'static str, String)> {
    let name = &known.name;
    match (known.example_at(index), known.example()) {
        (Some(example), _) => Ok(example),
        (None, None) => Err(("eventType", format!("the event type {name} has no example"))),
        (None, Some(_)) => {
            let problem = format!("the event type {name} has no example {index}");
            Err(("exampleIndex", problem))
        }
    }
}

/// Returns the merged payload, or why it may not be sent.
fn result_of(merged: serde_json::Result<String>, bytes_max: usize) -> Result<String, String> {
    let merged = merged.map_err(|error| error.to_string())?;
    if merged.len() > bytes_max {
        return Err(format!(
            "the payload would have {} bytes, and at most {bytes_max} are allowed",
            merged.len()
        ));
    }
    match payload::problem(&merged) {
        None => Ok(merged),
        Some(problem) => Err(format!("the payload that results {problem}")),
    }
}

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::post(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}/send-example",
            "v1.endpoint.send-example",
            web::to(send_example),
        )
        .needs(Action::SendAgain)
        .summary("Send an event type's example")
        .description(TEST)
        .once()
        .takes::<ExampleIn>()
        .answers::<MessageOut>(200, "Accepted, and durable")
        .answers_nothing(409, DISABLED),
        Operation::post(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}/simulate",
            "v1.endpoint.simulate",
            web::to(simulate),
        )
        .needs(Action::SendAgain)
        .summary("Send an example with fields replaced")
        .description(TEST)
        .once()
        .takes::<SimulationIn>()
        .answers::<MessageOut>(202, "Accepted, and durable")
        .answers_nothing(409, DISABLED),
    ]
}

const TEST: &str = "Sent to this endpoint whatever its filter. It is stored, signed, delivered and \
                    retried as any message is, and marked as a test wherever it is shown.";
const DISABLED: &str =
    "The endpoint is disabled, held or not verified, or there is a message with this `eventId`";

/// Sends an event type's example to the endpoint.
pub async fn send_example(call: Call, flags: FeatureFlags, body: Body) -> Reply {
    let endpoint = named(&call, Action::SendAgain)?;
    let example = body.json::<ExampleIn<'_>>()?;
    let input = SimulationIn {
        event_type: example.event_type,
        example_index: example.example_index.unwrap_or_default(),
        payload: example.payload,
        ..SimulationIn::default()
    };
    let once = call.once(&body)?;
    let message = send(&call.context, &endpoint, &flags, input, once).await?;
    // Accepting is 202 elsewhere; here the contract says 200.
    let status = match older_clients::is_strict(&call.request) {
        true => StatusCode::ACCEPTED,
        false => StatusCode::OK,
    };
    Ok(json(
        status,
        &MessageOut::with(&message, true).with_endpoints_matched(&message),
    ))
}

/// Sends an event type's example with some fields replaced, in channels, and with an id of the
/// caller's own.
pub async fn simulate(call: Call, flags: FeatureFlags, body: Body) -> Reply {
    let endpoint = named(&call, Action::SendAgain)?;
    let input = body.json::<SimulationIn<'_>>()?;
    let once = call.once(&body)?;
    let message = send(&call.context, &endpoint, &flags, input, once).await?;
    let answer = MessageOut::with(&message, true).with_endpoints_matched(&message);
    Ok(json(StatusCode::ACCEPTED, &answer))
}

async fn send(
    context: &Context,
    endpoint: &Endpoint,
    flags: &FeatureFlags,
    input: SimulationIn<'_>,
    once: Option<Once>,
) -> Result<Arc<Message>> {
    let payload_bytes_max = context.config.limits.payload_bytes;
    let test = input.checked(
        &context.store.catalog(),
        endpoint.organisation,
        flags,
        payload_bytes_max,
        HeaderRules::of(&context.config),
    )?;
    if let Some(reason) = held_because(endpoint) {
        // The test would be held, and have no result until then.
        let conflict = format!("{reason}: a test could not be sent");
        return Err(Error::Conflict(conflict));
    }
    let message = NewMessage {
        organisation: endpoint.organisation,
        application: endpoint.application,
        event_type: test.event_type,
        event_id: test.event_id,
        channels: test.channels,
        payload: test.payload.into(),
        is_raw: test.is_raw,
        content_type: test.content_type,
        lanes: vec![endpoint.number],
        matched_as_of: None,
        once,
        origin: Origin::Test,
        tags: Vec::new(),
        deliver_at: None,
        expires_at: None,
        metadata: BTreeMap::new(),
        headers: test.headers,
    };
    context.store.accept_message(message).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str, payload_bytes_max: usize) -> Vec<String> {
        let input: SimulationIn<'_> = serde_json::from_str(text).unwrap();
        let organisation = OrganisationId([1; 20]);
        let (catalog, flags) = (Catalog::default(), FeatureFlags::All);
        let rules = HeaderRules {
            allowed: &[],
            count_max: 64,
            value_bytes_max: 8192,
        };
        match input.checked(&catalog, organisation, &flags, payload_bytes_max, rules) {
            Ok(_) => Vec::new(),
            Err(Error::Invalid(all)) => all.iter().map(|one| one.location.join(".")).collect(),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn everything_wrong_with_a_test_is_told_at_once() {
        for (text, expected) in [
            ("{}", vec!["body.eventType"]),
            (r#"{"eventType":"a b"}"#, vec!["body.eventType"]),
            (
                r#"{"eventType":"nobody.registered.this"}"#,
                vec!["body.eventType"],
            ),
            (
                r#"{"overrides":[],"channels":[],"eventId":"no id"}"#,
                vec![
                    "body.eventType",
                    "body.overrides",
                    "body.channels",
                    "body.eventId",
                ],
            ),
            (
                r#"{"overrides":{"a":"\ud800"},"channels":["1","2","3","4","5","6"]}"#,
                vec!["body.eventType", "body.overrides", "body.channels"],
            ),
        ] {
            assert_eq!(places(text, 1000), expected, "{text}");
        }
    }

    #[test]
    fn a_result_has_the_limits_of_a_payload() {
        assert_eq!(result_of(Ok("{}".to_owned()), 2).as_deref(), Ok("{}"));
        assert!(result_of(Ok(r#"{"a":1}"#.to_owned()), 6).is_err());
        assert!(result_of(merge::merged("{}", "[]"), 100).is_err());
    }
}
