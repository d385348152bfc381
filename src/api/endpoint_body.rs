//! An endpoint as the bodies of the native API spell it: what comes in, and what is shown.
//!
//! A body is checked in two steps, which tell of everything that is wrong at once: for itself where
//! the request is handled ([`EndpointIn::checked`]), and against the endpoint that it would make
//! where nothing races with it ([`Checked::apply_to`]). Credentials never come back: passwords,
//! secrets, and the values of authentication headers and of sensitive ones.

use std::borrow::Cow;
use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::Context;
use super::endpoint_origin::{Carried, Given};
use super::endpoint_rules::{
    Named, check_headers, check_method, check_timeout, check_url, method_of, profile_name,
    profile_of, settle_secrets,
};
use super::endpoint_verification::VerificationOut;
use super::extract::{Patch, answered, object_patch, text};
use super::fields::Shown;
use super::ovation;
use super::retry::Retry;
use super::rules::{
    CHANNEL_NAME_MAX, DESCRIPTION_BYTES_MAX, EVENT_TYPE_NAME_MAX, EVENT_TYPES_PER_ENDPOINT_MAX,
    NAME_PATTERN, Problems, check_channels, check_description, check_event_type_names,
    check_metadata, check_uid, checked_throttle_rate, without_repeats,
};
use super::target::{BasicAuthIn, Target, retarget};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::domain::endpoint::{Endpoint, is_sensitive};
use crate::domain::id::EndpointId;
use crate::domain::operational::PROFILE;
use crate::domain::profile::Method;
use crate::domain::retry::RetrySchedule;
use crate::error::Result;
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

/// A body, and what is wrong with its values by themselves.
pub struct Checked {
    problems: Problems,
    kind: Kind,
    pub id: Shown,
    pub uid: Patch<String>,
    url: Option<Target>,
    description: Patch<String>,
    disabled: Patch<bool>,
    event_types: Patch<Vec<String>>,
    channels: Patch<Vec<String>>,
    metadata: Patch<BTreeMap<String, String>>,
    throttle_rate: Patch<u16>,
    secret: Option<String>,
    headers: Patch<BTreeMap<String, Option<String>>>,
    auth_headers: Patch<BTreeMap<String, Option<String>>>,
    basic_auth: Patch<BasicAuthIn>,
    profile: Patch<String>,
    /// The profiles that may be chosen, where not all are.
    pub offered: Option<Vec<String>>,
    /// Secrets stay where the URL's origin changes: the caller may read all of them anyway.
    pub keeps_secrets: bool,
    method: Patch<Method>,
    retry: Patch<RetrySchedule>,
    timeout_seconds: Patch<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Create or replace: null is as good as absent, and a URL is needed.
    Whole,
    /// Null clears, and some fields cannot be cleared.
    Patch,
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

    fn check_what_must_be(&self, problems: &mut Problems, kind: Kind) {
        if kind == Kind::Whole {
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

    pub fn checked(self, kind: Kind, context: &Context) -> Checked {
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
        Checked {
            problems,
            kind,
            id: self.id,
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
            basic_auth: self.basic_auth,
            profile: self.profile,
            offered: None,
            keeps_secrets: false,
            method,
            retry,
            timeout_seconds: self.timeout_seconds,
        }
    }
}

impl Checked {
    /// Changes what the body names and tells what to beware of, or says everything that is wrong;
    /// the endpoint is of no use then.
    pub fn apply_to(
        self,
        endpoint: &mut Endpoint,
        config: &Config,
        now: Timestamp,
    ) -> Result<Vec<String>> {
        let carried = self.carried(endpoint, config);
        let before = endpoint.clone();
        let (given, named) = (self.given(), self.named());
        let mut problems = self.problems;
        let mut warnings = Vec::new();
        if !self.keeps_secrets {
            carried.refuse(&mut problems, given);
            carried.forget(endpoint);
        } else if carried.secret && given.secret {
            endpoint.secrets.clear();
        }
        let profile_before = profile_name(endpoint, config).to_owned();

        let challenge_at = config.delivery.challenge_at(now);
        retarget(
            &mut problems,
            endpoint,
            self.url,
            self.basic_auth,
            challenge_at,
        );
        self.uid.apply_to_optional(&mut endpoint.uid);
        self.description.apply_to(&mut endpoint.description);
        self.disabled.apply_to(&mut endpoint.disabled);
        self.event_types
            .apply_to_optional(&mut endpoint.event_types);
        self.channels.apply_to_optional(&mut endpoint.channels);
        self.metadata.apply_to(&mut endpoint.metadata);
        self.throttle_rate
            .apply_to_optional(&mut endpoint.throttle_rate);
        let mut headers = endpoint.headers.clone();
        let (given, carried_ones) = (self.headers, &carried.headers);
        replace_headers(&mut problems, "headers", given, &mut headers, carried_ones);
        let auth_headers = &mut endpoint.auth_headers;
        let (given, carried_ones) = (self.auth_headers, &carried.auth_headers);
        replace_headers(
            &mut problems,
            "authHeaders",
            given,
            auth_headers,
            carried_ones,
        );
        self.profile.apply_to_optional(&mut endpoint.profile);
        endpoint.set_headers(headers, profile_name(endpoint, config) == ovation::PROFILE);
        self.method.apply_to_optional(&mut endpoint.method);
        self.retry.apply_to_optional(&mut endpoint.retry);
        self.timeout_seconds
            .apply_to_optional(&mut endpoint.timeout_seconds);

        check_headers(&mut problems, endpoint, config, named);
        let in_effect = InEffect {
            kind: self.kind,
            secret: self.secret,
            offered: self.offered,
            changed: profile_name(endpoint, config) != profile_before,
        };
        in_effect.settle(&mut problems, &mut warnings, endpoint, config, named, now);
        problems.done()?;
        if self.keeps_secrets {
            warnings.extend(carried.warnings(&before, endpoint));
        }
        Ok(warnings)
    }

    fn given(&self) -> Given {
        Given {
            basic_auth: self.basic_auth != Patch::Absent
                || self.url.as_ref().is_some_and(Target::has_credentials),
            headers: self.headers != Patch::Absent,
            auth_headers: self.auth_headers != Patch::Absent,
            secret: self.secret.is_some(),
        }
    }

    fn named(&self) -> Named {
        Named {
            profile: self.profile != Patch::Absent,
            method: self.method != Patch::Absent,
            headers: self.headers != Patch::Absent,
            auth_headers: self.auth_headers != Patch::Absent,
        }
    }

    fn carried(&self, endpoint: &Endpoint, config: &Config) -> Carried {
        let profile = match &self.profile {
            Patch::Absent => endpoint.profile.as_deref(),
            Patch::Null => None,
            Patch::Set(name) => Some(name.as_str()),
        };
        let url = self.url.as_ref().map(|target| &target.url);
        Carried::of(endpoint, url, config.profile(profile), config)
    }
}

/// What the profile in effect has a say in.
struct InEffect {
    kind: Kind,
    secret: Option<String>,
    offered: Option<Vec<String>>,
    /// It is another than before.
    changed: bool,
}

impl InEffect {
    /// Checks the method and the profile itself, and gives the endpoint the secret that it is to have.
    fn settle(
        self,
        problems: &mut Problems,
        warnings: &mut Vec<String>,
        endpoint: &mut Endpoint,
        config: &Config,
        named: Named,
        now: Timestamp,
    ) {
        let Some(profile) = profile_of(endpoint, config) else {
            if named.profile || named.method || self.secret.is_some() {
                let message = "must be the name of a profile; GET /api/v1/profile lists them";
                problems.add(&["body", "profile"], message);
            }
            return;
        };
        check_method(problems, endpoint, profile, named);
        check_offered(problems, endpoint, config, self.changed, self.offered);
        let secret = self.secret.as_deref();
        let made_up = config.delivery.default_signature_type;
        let form = (profile.secret_form(), made_up);
        let taken = settle_secrets(problems, endpoint, secret, form, self.changed, now);
        match self.kind {
            _ if taken => {}
            Kind::Patch => problems.add(&["body", "secret"], ROTATE),
            // It may be sent again and again as it was when it made the endpoint.
            Kind::Whole => warnings.push(format!("secret {ROTATE}")),
        }
    }
}

/// Of the two names of the rate; null in a whole endpoint is as good as none.
fn checked_rate(
    problems: &mut Problems,
    kind: Kind,
    rate: Patch<u16>,
    older: Patch<u16>,
) -> Patch<u16> {
    let given = |rate| match (kind, rate) {
        (Kind::Whole, Patch::Null) => Patch::Absent,
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

const ROTATE: &str = "is another one than the endpoint has, and was not taken: \
                      POST …/endpoint/{endpoint_id}/secret/rotate changes it";

/// Replaces headers as a whole; one without a value keeps what it has, which callers may not see. Of
/// those that were forgotten none is left to keep: they go.
fn replace_headers(
    problems: &mut Problems,
    field: &str,
    named: Patch<BTreeMap<String, Option<String>>>,
    headers: &mut BTreeMap<String, String>,
    forgotten: &[String],
) {
    let named = match named {
        Patch::Absent => return,
        Patch::Null => BTreeMap::new(),
        Patch::Set(named) => named,
    };
    let mut before = std::mem::take(headers);
    for (name, value) in named {
        match value.or_else(|| before.remove(&name)) {
            Some(value) => drop(headers.insert(name, value)),
            None if forgotten.iter().any(|one| one.eq_ignore_ascii_case(&name)) => {}
            None => {
                let message = "needs a value: there is none to keep";
                problems.add(&["body", field, &name], message);
            }
        }
    }
}

/// A profile that a portal's visitor chooses is one that the operator offers there. What the endpoint
/// has already, and the default, may stay.
fn check_offered(
    problems: &mut Problems,
    endpoint: &Endpoint,
    config: &Config,
    changed: bool,
    offered: Option<Vec<String>>,
) {
    let Some(offered) = offered.filter(|_| changed && endpoint.profile.is_some()) else {
        return;
    };
    if !offered
        .iter()
        .any(|one| one == profile_name(endpoint, config))
    {
        let message = format!("must be one of {}", offered.join(", "));
        problems.add(&["body", "profile"], message);
    }
}

/// What a replacement resets before it is applied: what the contract knows. All else is left,
/// because a client that does not know it would not send it.
pub fn reset(endpoint: &mut Endpoint) {
    endpoint.uid = None;
    endpoint.description = String::new();
    endpoint.disabled = false;
    endpoint.event_types = None;
    endpoint.channels = None;
    endpoint.metadata = BTreeMap::new();
    endpoint.throttle_rate = None;
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
