//! An endpoint as the bodies of the native API spell it: what comes in, and what is shown.
//!
//! A body is checked in two steps, which tell of everything that is wrong at once: for itself where
//! the request is handled ([`EndpointIn::checked`]), and against the endpoint that it would make
//! where nothing races with it ([`EndpointEdit`]). Credentials never come back: passwords,
//! secrets, and the values of authentication headers and of sensitive ones.

use std::borrow::Cow;
use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::endpoint_verification::VerificationOut;
use super::retry::Retry;
use crate::api::kit::context::Context;
use crate::api::kit::endpoint_url::check_url;
use crate::api::kit::extract::{Patch, answered, object_patch, text};
use crate::api::kit::fields::Shown;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::domain::endpoint::{Endpoint, is_sensitive};
use crate::domain::id::EndpointId;
use crate::domain::operational::PROFILE;
use crate::domain::profile::Method;
use crate::error::Result;
use crate::rules::checks::{
    CHANNEL_NAME_MAX, DESCRIPTION_BYTES_MAX, EVENT_TYPE_NAME_MAX, EVENT_TYPES_PER_ENDPOINT_MAX,
    NAME_PATTERN, Problems, check_channels, check_description, check_event_type_names,
    check_metadata, check_uid, checked_throttle_rate, without_repeats,
};
use crate::rules::endpoint_checks::{check_timeout, method_of, profile_name};
use crate::rules::endpoint_edit::{EditKind, EndpointEdit};
use crate::rules::target::GivenBasicAuth;
use crate::store::Answered;

/// A body of create, replace and patch: the difference is in what absent and null mean. What the
/// contract does not know is, in all three, left as it was where absent and cleared by null.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(
    rename = "EndpointPatch",
    description = "What is absent stays; null clears what can be cleared."
)]
pub struct EndpointIn {
    /// Your own id for it, one in the application: stands in paths where `endpoint_id` is asked for.
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
    /// Nothing is sent while this is true; what comes in is held until it is false again.
    #[schemars(with = "bool")]
    pub disabled: Patch<bool>,
    /// Only messages of these types are sent; all where absent or null.
    #[schemars(
        length(min = 1, max = EVENT_TYPES_PER_ENDPOINT_MAX),
        inner(length(min = 1, max = EVENT_TYPE_NAME_MAX), regex(pattern = NAME_PATTERN))
    )]
    pub event_types: Patch<Vec<String>>,
    /// The older name of `eventTypes`; where both are given, that one counts.
    #[schemars(
        length(min = 1, max = EVENT_TYPES_PER_ENDPOINT_MAX),
        inner(length(min = 1, max = EVENT_TYPE_NAME_MAX), regex(pattern = NAME_PATTERN))
    )]
    pub filter_types: Patch<Vec<String>>,
    /// Only messages with one of these channels are sent; all where absent or null. At most 500,
    /// unless the server is set up otherwise.
    #[schemars(
        length(min = 1),
        inner(length(min = 1, max = CHANNEL_NAME_MAX), regex(pattern = NAME_PATTERN))
    )]
    pub channels: Patch<Vec<String>>,
    /// Whatever you want to find again here: 4 KiB in all.
    #[schemars(with = "BTreeMap<String, String>")]
    pub metadata: Patch<BTreeMap<String, String>>,
    /// How many messages a second are sent at most; null for no such limit.
    #[schemars(range(min = 1))]
    pub throttle_rate: Patch<u16>,
    /// The older name of `throttleRate`. Both can be given where they are the same.
    #[schemars(range(min = 1))]
    pub rate_limit: Patch<u16>,
    /// What requests are signed with; the profile says which texts are taken. One is made up where
    /// a new endpoint has none. A change to it ends the old one at once, and is taken only with
    /// another profile, or another origin that the secret itself is sent to. Otherwise rotate it:
    /// one that the endpoint does not have is a 422 here, and among the `warnings` of a `PUT`.
    pub secret: Patch<String>,
    /// Sent along with every request. A value whose name says that it is sensitive is not shown
    /// again. Replaced as a whole; null in place of a value keeps the one that is there.
    pub headers: Patch<BTreeMap<String, Option<String>>>,
    /// As `headers`; none of these values is shown again.
    pub auth_headers: Patch<BTreeMap<String, Option<String>>>,
    #[serde(deserialize_with = "object_patch")]
    pub basic_auth: Patch<BasicAuthIn>,
    /// What requests look like, by the name of a wire profile; the server's default where null.
    pub profile: Patch<String>,
    /// One that the profile allows; its first where null.
    #[schemars(extend("enum" = methods_and_null()))]
    pub method: Patch<String>,
    /// Its own schedule in place of the profile's.
    #[serde(deserialize_with = "object_patch")]
    pub retry: Patch<Retry>,
    /// How long an attempt may take, in place of the profile's time.
    #[schemars(range(min = 1))]
    pub timeout_seconds: Patch<u32>,
    id: Shown,
    created_at: Shown,
    updated_at: Shown,
    version: Shown,
    auth_header_names: Shown,
    verification: Shown,
    warnings: Shown,
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
    /// Without a colon.
    #[schemars(with = "String")]
    username: Option<String>,
    /// Where absent, the one that is there for this user name stays.
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
    /// Refuses what one of the organisation's own endpoints does not have: it is a standard one, and
    /// gets what happens to any application. What it shows can be sent back.
    pub fn refuse_not_operational(&self) -> Result<()> {
        let mut problems = Problems::default();
        let is_other =
            |given: &Patch<String>, own: &str| given.as_set().is_some_and(|it| it != own);
        for (field, is_given) in [
            ("channels", self.channels.as_set().is_some()),
            ("profile", is_other(&self.profile, PROFILE)),
            ("method", is_other(&self.method, Method::Post.name())),
        ] {
            if is_given {
                let message = "an endpoint for operational webhooks has none";
                problems.not_offered(&["body", field], message);
            }
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
        }
    }
}

/// Of the two names of the rate; null in a whole endpoint is as good as none.
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

/// An endpoint, without anything secret.
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
    /// Always 1: what older client libraries need to read the answer.
    version: u8,
    #[serde(serialize_with = "text")]
    created_at: Timestamp,
    #[serde(serialize_with = "text")]
    updated_at: Timestamp,
    // In effect, as is the method; what follows is the endpoint's own, in place of the profile's.
    /// The wire profile in effect.
    profile: &'a str,
    /// The one in effect; null where the profile is not configured any more.
    method: Option<&'static str>,
    /// Null where the profile's schedule is in effect.
    retry: Option<Retry>,
    /// Null where the profile's time is in effect.
    timeout_seconds: Option<u32>,
    basic_auth: Option<BasicAuthOut<'a>>,
    /// Those that are not sensitive.
    headers: BTreeMap<&'a str, &'a str>,
    auth_header_names: Vec<&'a str>,
    /// Only where the server verifies endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default)]
    verification: Option<VerificationOut<'a>>,
    /// Not in lists. What was taken and may not be meant, such as a filter with an event type that
    /// nobody has registered; in answers to a change also what to beware of after it.
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
    pub fn new(endpoint: &'a Endpoint, config: &'a Config) -> EndpointOut<'a> {
        let is_shown = |(name, _): &(&String, &String)| !is_sensitive(name);
        EndpointOut {
            id: endpoint.id,
            uid: endpoint.uid.as_deref(),
            url: &endpoint.url,
            description: &endpoint.description,
            disabled: endpoint.disabled,
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
            warnings: &[],
        }
    }
}

pub fn shown(
    status: StatusCode,
    endpoint: &Endpoint,
    config: &Config,
    warnings: &[String],
) -> Answered {
    let shown = EndpointOut {
        warnings,
        ..EndpointOut::new(endpoint, config)
    };
    answered(status, &shown)
}

#[cfg(test)]
mod tests;
