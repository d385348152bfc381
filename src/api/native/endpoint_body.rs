//! Bodies of endpoints in the native API: the fields that are taken, and those that are shown.
//!
//! A body is checked in two steps, each of which reports all problems: by itself where the request
//! is handled ([`EndpointIn::checked`]), and against the endpoint that it would make where nothing
//! races with it ([`EndpointEdit`]). Credentials are never shown: passwords, secrets, and the
//! values of authentication headers and of sensitive ones.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::http::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::endpoint_health::HealthOut;
use super::endpoint_verification::VerificationOut;
use super::holds::HoldOut;
use super::retry::Retry;
use super::transformation_body::{TransformationIn, TransformationOut};
use crate::api::kit::context::Context;
use crate::api::kit::endpoint_url::check_url;
use crate::api::kit::extract::{Patch, answered, object_patch, text};
use crate::api::kit::fields::ShownField;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::domain::endpoint::{Endpoint, is_sensitive};
use crate::domain::filter::{Fault, Filter};
use crate::domain::health::{DISABLE_AFTER_HOURS_MAX, FAILURES_MAX, Health};
use crate::domain::id::EndpointId;
use crate::domain::profile::Method;
use crate::error::Result;
use crate::rules::checks::{
    CHANNEL_NAME_MAX, DESCRIPTION_BYTES_MAX, EVENT_TYPE_NAME_MAX, EVENT_TYPES_PER_ENDPOINT_MAX,
    NAME_PATTERN, Problems, WANTED_PATTERN, check_channels, check_description,
    check_event_type_names, check_metadata, check_uid, checked_throttle_rate, without_repeats,
};
use crate::rules::endpoint_checks::{check_timeout, method_of, profile_name};
use crate::rules::endpoint_edit::{EditKind, EndpointEdit};
use crate::rules::target::GivenBasicAuth;
use crate::store::Answered;

/// A body of create, replace and patch, which differ in the meaning of absent and null. For the
/// fields that the contract does not know, absent leaves the value and null clears it in all three.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(
    rename = "EndpointPatch",
    description = "An absent field stays as it is; null clears a field that can be cleared."
)]
pub struct EndpointIn {
    /// Your own id for it, unique in the application. Paths take it as `endpoint_id`.
    #[schemars(length(min = 1, max = 256), regex(pattern = NAME_PATTERN))]
    pub uid: Patch<String>,
    /// Where messages are sent: http or https, of at most 2 KiB. Credentials in it become
    /// `basicAuth`. Where another scheme, host or port is given, owners and webhook admins keep
    /// Basic authentication and secret headers and get `warnings`; others get a 422 that names each
    /// one to enter again or to clear with null.
    #[schemars(with = "String", extend("format" = "uri"))]
    pub url: Patch<String>,
    #[schemars(with = "String", length(max = DESCRIPTION_BYTES_MAX))]
    pub description: Patch<String>,
    /// Nothing is sent while this is true; messages are held until it is false again.
    #[schemars(with = "bool")]
    pub disabled: Patch<bool>,
    /// Only messages of these types are sent; all where absent or null. `*` stands for exactly one segment
    /// between dots, anywhere, and `**` at the end for one or more: `invoice.*`, `**`. An event type with feature
    /// flags is not taken by a wildcard, only by its name.
    #[schemars(
        length(min = 1, max = EVENT_TYPES_PER_ENDPOINT_MAX),
        inner(length(min = 1, max = EVENT_TYPE_NAME_MAX), regex(pattern = WANTED_PATTERN))
    )]
    pub event_types: Patch<Vec<String>>,
    /// The older name of `eventTypes`. Where both are given, `eventTypes` counts.
    #[schemars(
        length(min = 1, max = EVENT_TYPES_PER_ENDPOINT_MAX),
        inner(length(min = 1, max = EVENT_TYPE_NAME_MAX), regex(pattern = WANTED_PATTERN))
    )]
    pub filter_types: Patch<Vec<String>>,
    /// Only messages with one of these channels are sent; all where absent or null. At most 500,
    /// unless the server is set up otherwise.
    #[schemars(
        length(min = 1),
        inner(length(min = 1, max = CHANNEL_NAME_MAX), regex(pattern = NAME_PATTERN))
    )]
    pub channels: Patch<Vec<String>>,
    /// Data of your own, 4 KiB in all.
    #[schemars(with = "BTreeMap<String, String>")]
    pub metadata: Patch<BTreeMap<String, String>>,
    /// How many messages a second are sent at most; null for no such limit.
    #[schemars(range(min = 1))]
    pub throttle_rate: Patch<u16>,
    /// The older name of `throttleRate`. Both can be given where they are the same.
    #[schemars(range(min = 1))]
    pub rate_limit: Patch<u16>,
    /// The secret that signs requests; the profile determines its form. For a new endpoint one is
    /// generated where none is given. A change of it replaces the old secret at once, and is
    /// accepted only together with another profile, or with another origin where the requests carry
    /// the secret itself. Otherwise rotate the secret: a body with another secret than the
    /// endpoint's gets a 422 here, and one of the `warnings` from a `PUT`.
    pub secret: Patch<String>,
    /// Headers that are sent along with every request. A value whose name says that it is sensitive
    /// is not shown again. Replaced as a whole; null in place of a value keeps the present one.
    pub headers: Patch<BTreeMap<String, Option<String>>>,
    /// Like `headers`; none of these values is shown again.
    pub auth_headers: Patch<BTreeMap<String, Option<String>>>,
    #[serde(deserialize_with = "object_patch")]
    pub basic_auth: Patch<BasicAuthIn>,
    /// The name of the profile that determines how requests look; the server's default where null.
    pub profile: Patch<String>,
    /// The HTTP method, one that the profile allows; the profile's first where null.
    #[schemars(extend("enum" = methods_and_null()))]
    pub method: Patch<String>,
    /// The endpoint's own retry schedule, in place of the profile's.
    #[serde(deserialize_with = "object_patch")]
    pub retry: Patch<Retry>,
    /// How long an attempt may take, in place of the profile's time.
    #[schemars(range(min = 1))]
    pub timeout_seconds: Patch<u32>,
    /// How many failed attempts in a row open the endpoint's breaker, in place of the profile's number; 0 keeps it
    /// closed.
    #[schemars(range(max = FAILURES_MAX))]
    pub breaker_failures: Patch<u32>,
    /// After how many hours of failures the endpoint is disabled, in place of the profile's; 0 for never.
    #[schemars(range(max = DISABLE_AFTER_HOURS_MAX))]
    pub disable_after_hours: Patch<u32>,
    /// The endpoint's own form of its requests, in place of what the profile makes. It is replaced as a whole.
    #[serde(deserialize_with = "object_patch")]
    pub transformation: Patch<TransformationIn>,
    /// Only messages that it matches are sent: conditions on `id` (the message's `eventId`), `topic` or
    /// `eventType`, `time`, `metadata`, `data` (the payload), `tags` and `channels`, combined by `$and`,
    /// `$or` and `$not`. All messages where null or an empty object. At most 16 KiB and 200 conditions;
    /// docs/filters.md has the operators.
    #[schemars(with = "Patch<BTreeMap<String, Value>>")]
    pub filter: Patch<Box<RawValue>>,
    id: ShownField,
    created_at: ShownField,
    updated_at: ShownField,
    version: ShownField,
    auth_header_names: ShownField,
    verification: ShownField,
    hold: ShownField,
    disabled_reason: ShownField,
    disabled_at: ShownField,
    failing_since: ShownField,
    failures: ShownField,
    disables_at: ShownField,
    breaker: ShownField,
    catch_up: ShownField,
    warnings: ShownField,
}

pub fn methods_and_null() -> Vec<Option<&'static str>> {
    let names = Method::ALL.into_iter().map(|method| Some(method.name()));
    names.chain([None]).collect()
}

/// Basic authentication as a caller gives it.
#[derive(Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(
    extend("required" = ["username"]),
    description = "Sent with every request. It belongs to the URL's origin: see the URL."
)]
pub struct BasicAuthIn {
    /// The user name, without a colon.
    #[schemars(with = "String")]
    username: Option<String>,
    /// The password. Where it is absent, the present one stays if the user name is the same.
    password: Option<String>,
}

impl From<BasicAuthIn> for GivenBasicAuth {
    fn from(given: BasicAuthIn) -> GivenBasicAuth {
        GivenBasicAuth {
            username: given.username,
            password: given.password,
        }
    }
}

/// [`EndpointIn`] where a URL is needed, for the document.
pub struct WholeEndpointIn;

impl JsonSchema for WholeEndpointIn {
    fn schema_name() -> Cow<'static, str> {
        "EndpointIn".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = EndpointIn::json_schema(generator);
        schema.insert("required".to_owned(), serde_json::json!(["url"]));
        let description = "An endpoint as a whole. What a replacement does not name is reset, but \
                           for headers, Basic authentication, profile, method, retry and \
                           timeoutSeconds: those stay unless they are null.";
        schema.insert("description".to_owned(), description.into());
        schema
    }
}

impl EndpointIn {
    /// Refuses the fields that the organisation's own endpoints do not have: these get the events of all
    /// applications, events have no channels, and the writer that makes them runs no filters. Fields that are shown can be sent back.
    pub fn refuse_not_operational(&self) -> Result<()> {
        let mut problems = Problems::default();
        if self.channels.as_set().is_some() {
            let message = "an endpoint for operational webhooks has none";
            problems.not_offered(&["body", "channels"], message);
        }
        if self.filter.as_set().is_some() {
            let message = "an endpoint for operational webhooks has none; it chooses by eventTypes";
            problems.not_offered(&["body", "filter"], message);
        }
        problems.done()
    }

    fn check_what_must_be(&self, problems: &mut Problems, kind: EditKind) {
        if kind == EditKind::Whole {
            if self.url.as_set().is_none() {
                problems.missing(&["body", "url"]);
            }
            return;
        }
        for (field, is_null) in [
            ("url", self.url == Patch::Null),
            ("description", self.description == Patch::Null),
            ("disabled", self.disabled == Patch::Null),
            ("metadata", self.metadata == Patch::Null),
        ] {
            if is_null {
                problems.add(&["body", field], "may not be null");
            }
        }
    }

    pub fn checked(self, kind: EditKind, context: &Context) -> EndpointEdit {
        let config = &context.config;
        let mut problems = Problems::default();
        self.check_what_must_be(&mut problems, kind);
        let event_types = match self.event_types {
            Patch::Absent => self.filter_types,
            given => given,
        };
        if let Patch::Set(uid) = &self.uid {
            check_uid(&mut problems, &["body", "uid"], uid, EndpointId::PREFIX);
        }
        if let Patch::Set(description) = &self.description {
            check_description(&mut problems, &["body", "description"], description);
        }
        let event_types = event_types.map(without_repeats);
        if let Patch::Set(names) = &event_types {
            check_event_type_names(&mut problems, &["body", "eventTypes"], names);
        }
        let channels = self.channels.map(without_repeats);
        if let Patch::Set(channels) = &channels {
            let max = config.limits.channels_per_endpoint_max;
            check_channels(&mut problems, &["body", "channels"], channels, max);
        }
        if let Patch::Set(metadata) = &self.metadata {
            check_metadata(&mut problems, &["body", "metadata"], metadata);
        }
        let (rate, older) = (self.throttle_rate, self.rate_limit);
        let throttle_rate = checked_rate(&mut problems, kind, rate, older);
        let url = self.url.into_set().and_then(|url| {
            check_url(&url, context)
                .map_err(|message| problems.add(&["body", "url"], message))
                .ok()
        });
        let method = self
            .method
            .and_then(|name| known_method(&mut problems, &name));
        let retry = self
            .retry
            .and_then(|retry| retry.schedule(&mut problems, config));
        if let Patch::Set(seconds) = self.timeout_seconds {
            check_timeout(&mut problems, seconds, &config.limits);
        }
        for (field, given, max) in [
            ("breakerFailures", &self.breaker_failures, FAILURES_MAX),
            (
                "disableAfterHours",
                &self.disable_after_hours,
                DISABLE_AFTER_HOURS_MAX,
            ),
        ] {
            if given.as_set().is_some_and(|value| *value > max) {
                problems.add(&["body", field], format!("must be 0 to {max}"));
            }
        }
        let transformation = self
            .transformation
            .and_then(|given| given.checked(&mut problems, context));
        let filter = checked_filter(&mut problems, self.filter);
        EndpointEdit {
            problems,
            kind,
            id_is_given: self.id.is_given(),
            uid: self.uid,
            url,
            description: self.description,
            disabled: self.disabled,
            event_types,
            channels,
            metadata: self.metadata,
            throttle_rate,
            secret: self.secret.into_set(),
            headers: self.headers,
            auth_headers: self.auth_headers,
            basic_auth: self.basic_auth.map(GivenBasicAuth::from),
            profile: self.profile,
            method,
            retry,
            timeout_seconds: self.timeout_seconds,
            breaker_failures: self.breaker_failures,
            disable_after_hours: self.disable_after_hours,
            transformation,
            filter,
        }
    }
}

/// Returns the filter of a body; an empty one clears it, as null does.
fn checked_filter(problems: &mut Problems, given: Patch<Box<RawValue>>) -> Patch<Arc<Filter>> {
    let source = match given {
        Patch::Absent => return Patch::Absent,
        Patch::Null => return Patch::Null,
        Patch::Set(source) => source,
    };
    parsed_filter(problems, &["body", "filter"], &source).map_or(Patch::Absent, Patch::given)
}

/// Returns the filter in a body, none where it is empty; nothing where it has faults, which are told.
pub fn parsed_filter(
    problems: &mut Problems,
    place: &[&str],
    source: &RawValue,
) -> Option<Option<Arc<Filter>>> {
    match Filter::parse(source.get()) {
        Ok(filter) => Some(filter.map(Arc::new)),
        Err(faults) => {
            for Fault {
                place: inside,
                message,
            } in faults
            {
                let inside = inside.iter().map(String::as_str);
                let place: Vec<&str> = place.iter().copied().chain(inside).collect();
                problems.add(&place, message);
            }
            None
        }
    }
}

/// Returns the rate by either of its two names; null in a whole endpoint counts as absent.
fn checked_rate(
    problems: &mut Problems,
    kind: EditKind,
    rate: Patch<u16>,
    older: Patch<u16>,
) -> Patch<u16> {
    let given = |rate| match (kind, rate) {
        (EditKind::Whole, Patch::Null) => Patch::Absent,
        (_, rate) => rate,
    };
    checked_throttle_rate(problems, &["body"], given(rate), given(older))
}

fn known_method(problems: &mut Problems, name: &str) -> Option<Method> {
    let found = Method::ALL.into_iter().find(|one| one.name() == name);
    let message = "must be POST, PUT, PATCH or GET, whichever the profile allows";
    problems.add_if(&["body", "method"], found.is_none().then_some(message));
    found
}

/// An endpoint, without its secrets.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointOut<'a> {
    #[serde(serialize_with = "text")]
    id: EndpointId,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    url: &'a str,
    description: &'a str,
    disabled: bool,
    /// Null where it takes all.
    event_types: Option<&'a [String]>,
    /// The older name of `eventTypes`.
    filter_types: Option<&'a [String]>,
    /// Null where it takes all.
    channels: Option<&'a [String]>,
    metadata: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    throttle_rate: Option<u16>,
    /// Always 1: older client libraries need it to read the answer.
    version: u8,
    #[serde(serialize_with = "text")]
    created_at: Timestamp,
    #[serde(serialize_with = "text")]
    updated_at: Timestamp,
    // In effect, as is the method; what follows is the endpoint's own, in place of the profile's.
    /// The wire profile in effect.
    profile: &'a str,
    /// The method in effect; null where the profile is not configured any more.
    method: Option<&'static str>,
    /// Null where the profile's schedule is in effect.
    retry: Option<Retry>,
    /// Null where the profile's time is in effect.
    timeout_seconds: Option<u32>,
    /// Null where the profile's number is in effect.
    breaker_failures: Option<u32>,
    /// Null where the profile's time is in effect.
    disable_after_hours: Option<u32>,
    /// Null where requests are as the profile makes them.
    transformation: Option<TransformationOut<'a>>,
    /// As it was given; null where it takes all messages.
    #[schemars(with = "Option<BTreeMap<String, Value>>")]
    filter: Option<&'a RawValue>,
    basic_auth: Option<BasicAuthOut<'a>>,
    /// The headers that are not sensitive.
    headers: BTreeMap<&'a str, &'a str>,
    auth_header_names: Vec<&'a str>,
    /// Only where the server verifies endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default)]
    verification: Option<VerificationOut<'a>>,
    /// Only while the operator holds the endpoint: messages wait, and nothing is sent until it is released. It is
    /// not disabled by that.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default)]
    hold: Option<HoldOut>,
    #[serde(flatten)]
    health: HealthOut,
    /// Warnings, not in lists: values that were accepted and may be mistakes, such as a filter with
    /// an event type that is not registered. Answers to a change also warn about the change itself.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    #[schemars(default)]
    warnings: &'a [String],
}

/// The password is never shown.
#[derive(Serialize, JsonSchema)]
struct BasicAuthOut<'a> {
    username: &'a str,
}

impl<'a> EndpointOut<'a> {
    pub fn new(
        endpoint: &'a Endpoint,
        config: &'a Config,
        health: Option<&Health>,
    ) -> EndpointOut<'a> {
        let is_shown = |(name, _): &(&String, &String)| !is_sensitive(name);
        EndpointOut {
            id: endpoint.id,
            uid: endpoint.uid.as_deref(),
            url: &endpoint.url,
            description: &endpoint.description,
            disabled: endpoint.disabled.is_some(),
            event_types: endpoint.event_types.as_deref(),
            filter_types: endpoint.event_types.as_deref(),
            channels: endpoint.channels.as_deref(),
            metadata: &endpoint.metadata,
            throttle_rate: endpoint.throttle_rate,
            version: 1,
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
            profile: profile_name(endpoint, config),
            method: method_of(endpoint, config).map(Method::name),
            retry: endpoint.retry.as_ref().map(Retry::from),
            timeout_seconds: endpoint.timeout_seconds,
            breaker_failures: endpoint.breaker_failures,
            disable_after_hours: endpoint.disable_after_hours,
            transformation: endpoint.transformation().map(TransformationOut::from),
            filter: (endpoint.filter.as_ref())
                .and_then(|filter| serde_json::from_str(filter.source()).ok()),
            basic_auth: endpoint.basic_auth.as_ref().map(|auth| BasicAuthOut {
                username: &auth.username,
            }),
            headers: endpoint
                .headers
                .iter()
                .filter(is_shown)
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect(),
            auth_header_names: endpoint.auth_headers.keys().map(String::as_str).collect(),
            verification: VerificationOut::of(endpoint, config),
            hold: endpoint.held.map(HoldOut::from),
            health: HealthOut::of(endpoint, health),
            warnings: &[],
        }
    }
}

pub fn shown(
    status: StatusCode,
    endpoint: &Endpoint,
    config: &Config,
    health: Option<&Health>,
    warnings: &[String],
) -> Answered {
    let shown = EndpointOut {
        warnings,
        ..EndpointOut::new(endpoint, config, health)
    };
    answered(status, &shown)
}

#[cfg(test)]
mod tests;
