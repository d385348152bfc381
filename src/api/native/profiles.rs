//! Profiles, for people who choose one for an endpoint: `/api/v1/profile`.
//!
//! Anyone with a valid credential reads them: they are the operator's settings, without secrets.
//! Whoever receives requests must check their signatures, so the templates are shown as they are
//! written, beside the request that they make of an example.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::endpoint_body::methods_and_null;
use super::message_body::CHANNELS_PER_MESSAGE_MAX;
use super::retry::Retry;
use crate::api::kit::call::{Call, Reply};
use crate::api::kit::context::Context;
use crate::api::kit::endpoint_url::check_url;
use crate::api::kit::error::Failure;
use crate::api::kit::extract::{Body, json, respond};
use crate::api::kit::operation::BytesMax;
use crate::api::kit::operation::Operation;
use crate::api::kit::page::{Listed, Name, page_parameters, shown};
use crate::domain::event_type::name_problem;
use crate::domain::health::HealthRules;
use crate::domain::payload;
use crate::domain::profile::{
    Algorithm, Draft, Encoding, KeyEncoding, Method, Profile, Signature, Success,
};
use crate::domain::secret::{Secret, SecretForm};
use crate::error::{Error, Result};
use crate::rules::caller::Action;
use crate::rules::checks::{
    CHANNEL_NAME_MAX, EVENT_TYPE_NAME_MAX, NAME_PATTERN, Problems, check_channels, without_repeats,
    wrong,
};
use crate::rules::endpoint_checks::secret_hint;
use crate::rules::target::{EndpointUrl, header_problems};

/// A profile: how the requests to its endpoints look, and which answers are a success.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ProfileOut<'a> {
    name: &'a str,
    description: &'a str,
    /// Endpoints that name no profile have this one.
    is_default: bool,
    /// The methods that an endpoint may choose from; the first is the default.
    methods: Vec<&'static str>,
    /// The form of secrets: `whsec_` ones or ed25519 keys (standard), one of the two, or any text.
    #[schemars(extend("enum" = ["standard", "whsec", "ed25519", "text"]))]
    secret_form: &'static str,
    /// The form of secrets in words, for people who choose one.
    secret_hint: &'static str,
    /// Whether requests have the secret itself in them, so that another receiver needs another one.
    sends_secret: bool,
    /// The names of headers that an endpoint cannot have as its own, in lower case.
    header_names: Vec<String>,
    /// The headers of Standard Webhooks begin with this; null where there are none.
    #[schemars(with = "Option<String>", extend("enum" = ["webhook", "svix", null]))]
    standard_webhooks: Option<&'a str>,
    /// The headers by which the receiver knows the sender, beside Standard Webhooks.
    signatures: Vec<SignatureOut<'a>>,
    /// Templates of further headers, by their names.
    headers: &'a BTreeMap<String, String>,
    /// Template of the URL; null where it is the endpoint's.
    url: Option<&'a str>,
    success: SuccessOut<'a>,
    timeout_seconds: u64,
    retry: Retry,
    breaker: ProfileBreakerOut,
    /// After how many hours of failures an endpoint is disabled; 0 for never.
    disable_after_hours: u64,
    /// Whether its endpoints may have a `transformation`.
    transformations: bool,
    /// A request as it would be sent.
    #[schemars(with = "Option<RenderedRequestOut>")]
    example_request: Option<&'a Value>,
}

/// When the breaker of an endpoint opens that says nothing else, and when it lets probes through.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ProfileBreakerOut {
    /// Failed attempts in a row that open it; 0 where it stays closed.
    failures: u32,
    /// It stays closed for this long after the first of them.
    min_open_after_seconds: u64,
    /// The interval before the first probe; each further one is twice as long …
    probe_first_seconds: u64,
    /// … up to this.
    probe_max_seconds: u64,
}

impl From<HealthRules> for ProfileBreakerOut {
    fn from(rules: HealthRules) -> Self {
        ProfileBreakerOut {
            failures: rules.failures,
            min_open_after_seconds: rules.min_open_after.as_secs(),
            probe_first_seconds: rules.probe_first.as_secs(),
            probe_max_seconds: rules.probe_max.as_secs(),
        }
    }
}

/// A request, for people to read. Its values are made where requests are.
#[derive(JsonSchema)]
#[schemars(rename = "RenderedRequestOut")]
#[allow(dead_code, reason = "it describes what is made elsewhere")]
struct RenderedRequestOut {
    method: String,
    url: String,
    /// Names in lower case.
    headers: BTreeMap<String, String>,
    /// The body; null for a request without one.
    body: Option<String>,
}

/// Values for a preview, in place of the built-in example's.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct PreviewIn<'a> {
    /// The URL of the endpoint.
    #[schemars(extend("format" = "uri"))]
    url: Option<String>,
    /// The method, one of the profile's.
    #[schemars(extend("enum" = methods_and_null()))]
    method: Option<String>,
    /// The secret, in the profile's form. It is not shown, kept or logged.
    secret: Option<String>,
    #[schemars(length(min = 1, max = EVENT_TYPE_NAME_MAX), regex(pattern = NAME_PATTERN))]
    event_type: Option<String>,
    /// The payload, as a publisher would send it.
    #[serde(borrow)]
    #[schemars(with = "Option<BTreeMap<String, Value>>")]
    payload: Option<&'a RawValue>,
    /// The channels of the message.
    #[schemars(
        length(min = 1, max = CHANNELS_PER_MESSAGE_MAX),
        inner(length(min = 1, max = CHANNEL_NAME_MAX), regex(pattern = NAME_PATTERN))
    )]
    channels: Option<Vec<String>>,
    /// The endpoint's own headers.
    headers: Option<BTreeMap<String, String>>,
}

impl PreviewIn<'_> {
    fn checked(self, profile: &Profile, context: &Context) -> Result<Draft> {
        let limits = &context.config.limits;
        let mut problems = Problems::default();
        let target = self.url.and_then(|url| {
            check_url(&url, context)
                .map_err(|message| problems.add(&["body", "url"], message))
                .ok()
        });
        let method = self.method.and_then(|name| {
            let known = profile.methods.iter().find(|one| one.name() == name);
            if known.is_none() {
                let allowed: Vec<&str> = profile.methods.iter().map(|one| one.name()).collect();
                let message = format!("must be one of {}, by the profile", allowed.join(", "));
                problems.add(&["body", "method"], message);
            }
            known.copied()
        });
        let secret = self.secret.and_then(|text| {
            Secret::parse(&text, profile.secret_form())
                .map_err(|message| problems.add(&["body", "secret"], message))
                .ok()
        });
        if let Some(name) = &self.event_type {
            let problem = name_problem(name, EVENT_TYPE_NAME_MAX);
            problems.add_if(&["body", "eventType"], problem);
        }
        if let Some(payload) = self.payload {
            problems.add_if(&["body", "payload"], payload::problem(payload.get()));
        }
        if let Some(channels) = &self.channels {
            let max = CHANNELS_PER_MESSAGE_MAX;
            check_channels(&mut problems, &["body", "channels"], channels, max);
        }
        let channels = self.channels.map(without_repeats);
        let headers = self.headers.unwrap_or_default();
        if headers.len() > limits.headers_max {
            let message = format!("may have at most {} entries", limits.headers_max);
            problems.add(&["body", "headers"], message);
        } else {
            let of_profile = profile.header_names();
            let taken = |name: &str| {
                let is_taken = of_profile.iter().any(|one| one.eq_ignore_ascii_case(name));
                is_taken.then_some("is a header that the profile sets itself")
            };
            for (name, message) in header_problems(&headers, limits.header_value_bytes, taken) {
                problems.add(&["body", "headers", &name], message);
            }
        }
        problems.done()?;
        let (url, basic_auth) = target.map(EndpointUrl::into_parts).unzip();
        Ok(Draft {
            url,
            basic_auth: basic_auth.flatten(),
            method,
            secret,
            event_type: self.event_type,
            payload: self.payload.map(|payload| payload.get().to_owned().into()),
            channels,
            headers,
        })
    }
}

/// A header that is a signature or a secret. A field that is null is not set.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SignatureOut<'a> {
    header: &'a str,
    /// `static` is the newest secret itself.
    #[schemars(
        with = "String",
        extend("enum" = ["hmac-sha1", "hmac-sha256", "hmac-sha512", "ed25519", "static"])
    )]
    algorithm: Algorithm,
    /// The encoding of the signature; hex where null.
    #[schemars(with = "Option<String>", extend("enum" = ["hex", "base64", null]))]
    encoding: Option<Encoding>,
    /// The encoding of the key in the secret's text; the text itself is the key where null.
    #[schemars(
        with = "Option<String>",
        extend("enum" = ["given", "base64", "hex", "whsec", null])
    )]
    key: Option<KeyEncoding>,
    /// Template of the signed content; the body's bytes where null.
    content: Option<&'a str>,
    /// The text before each signature.
    prefix: Option<&'a str>,
    /// The text between signatures: during a rotation each live secret makes one, the newest first.
    /// Where it is null, only the newest secret signs.
    separator: Option<&'a str>,
    /// Template of the header's value around `{{ signature }}`; the value is the signature alone
    /// where null.
    format: Option<&'a str>,
}

impl<'a> From<&'a Signature> for SignatureOut<'a> {
    fn from(signature: &'a Signature) -> Self {
        SignatureOut {
            header: &signature.header,
            algorithm: signature.algorithm,
            encoding: signature.encoding,
            key: signature.key,
            content: signature.content.as_deref(),
            prefix: signature.prefix.as_deref(),
            separator: signature.separator.as_deref(),
            format: signature.format.as_deref(),
        }
    }
}

/// The conditions for an answer to count as a success.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SuccessOut<'a> {
    /// Statuses and ranges of statuses.
    #[schemars(with = "Vec<String>")]
    status: Value,
    /// The text that the body must be; null for any.
    body: Option<&'a str>,
    /// Null for any.
    content_type: Option<&'a str>,
}

impl<'a> From<&'a Success> for SuccessOut<'a> {
    fn from(success: &'a Success) -> Self {
        SuccessOut {
            status: match &success.status {
                Some(statuses) => serde_json::json!(statuses),
                None => serde_json::json!(["200-299"]),
            },
            body: success.body.as_deref(),
            content_type: success.content_type.as_deref(),
        }
    }
}

impl<'a> ProfileOut<'a> {
    fn new(name: &'a str, profile: &'a Profile, context: &'a Context) -> ProfileOut<'a> {
        let delivery = &context.config.delivery;
        let own_retry = profile
            .retry
            .as_ref()
            .and_then(|rule| rule.schedule(delivery.jitter).ok());
        let retry = own_retry.unwrap_or_else(|| delivery.retry_schedule());
        let form = profile.secret_form();
        let health = profile.health_rules(delivery.health_rules());
        ProfileOut {
            name,
            description: &profile.description,
            is_default: name == delivery.default_profile,
            methods: profile.methods.iter().copied().map(Method::name).collect(),
            secret_form: secret_form_word(form),
            secret_hint: secret_hint(form),
            sends_secret: profile.sends_secret(),
            header_names: profile.header_names(),
            standard_webhooks: profile.standard_webhooks.as_deref(),
            signatures: profile.signatures.iter().map(SignatureOut::from).collect(),
            headers: &profile.headers,
            url: profile.url.as_deref(),
            success: SuccessOut::from(&profile.success),
            timeout_seconds: profile
                .timeout_seconds
                .map_or(delivery.request_timeout_seconds, u64::from),
            retry: Retry::from(&retry),
            breaker: ProfileBreakerOut::from(health),
            disable_after_hours: health.disable_after.as_secs() / 3600,
            transformations: profile.transformations && delivery.transformations,
            example_request: context.example_requests.get(name),
        }
    }
}

fn secret_form_word(form: SecretForm) -> &'static str {
    match form {
        SecretForm::StandardWebhooks => "standard",
        SecretForm::Whsec => "whsec",
        SecretForm::Ed25519 => "ed25519",
        SecretForm::Text { .. } => "text",
    }
}

/// This module's part of the API.
pub fn operations(bytes_max: BytesMax) -> Vec<Operation> {
    vec![
        Operation::get("/api/v1/profile", "v1.profile.list", web::to(list))
            .summary("List wire profiles")
            .description("By their names. They are the operator's settings, without secrets.")
            .parameters(page_parameters(false))
            .answers::<Listed<ProfileOut>>(200, "A page of profiles"),
        Operation::get(
            "/api/v1/profile/{profile_name}",
            "v1.profile.get",
            web::to(get),
        )
        .summary("Show a wire profile")
        .answers::<ProfileOut>(200, "The profile"),
        Operation::post(
            "/api/v1/profile/{profile_name}/preview",
            "v1.profile.preview",
            web::to(preview),
        )
        .needs(Action::ReadProfiles)
        .summary("Show a request of a wire profile")
        .description(
            "As it would be sent to an endpoint that has the profile. Nothing is sent and nothing \
             is kept; time and ids are those of `exampleRequest`. Secrets that are given are not \
             shown: a header that would have one has `***`.",
        )
        .body_bytes_max(bytes_max.message)
        .may_take::<PreviewIn>()
        .answers::<RenderedRequestOut>(200, "The request"),
    ]
}

pub async fn list(call: Call) -> Reply {
    call.caller.may(Action::ReadProfiles)?;
    let mut query = call.query();
    let page = query.page::<Name>(&call.context.config.limits, false);
    query.problems.done()?;
    let listed = page.list(
        call.context.config.profiles.iter(),
        |(name, _)| Name((*name).clone()),
        |(name, profile)| shown(&ProfileOut::new(name, profile, &call.context)),
    );
    Ok(respond(listed))
}

pub async fn get(call: Call) -> Reply {
    call.caller.may(Action::ReadProfiles)?;
    let (name, profile) = named(&call)?;
    let shown = ProfileOut::new(name, profile, &call.context);
    Ok(json(StatusCode::OK, &shown))
}

fn named(call: &Call) -> Result<(&String, &Profile)> {
    let profiles = &call.context.config.profiles;
    profiles
        .get_key_value(call.path("profile_name"))
        .ok_or(Error::not_found("profile"))
}

/// Shows the request that a profile would make of the given values.
pub async fn preview(call: Call, body: Body) -> Reply {
    call.caller.may(Action::ReadProfiles)?;
    let (name, profile) = named(&call)?;
    let input = body.json_or_default::<PreviewIn<'_>>()?;
    let max = call.context.config.limits.payload_bytes;
    if input
        .payload
        .is_some_and(|payload| payload.get().len() > max)
    {
        let limit = format!("a payload has at most {max} bytes");
        return Err(Failure::TooLarge(limit));
    }
    let draft = input.checked(profile, &call.context)?;
    // Only the result of the templates for this payload can still be wrong.
    let shown =
        (call.context.preview)(name, draft).map_err(|why| wrong(&["body", "payload"], why))?;
    Ok(json(StatusCode::OK, &shown))
}
