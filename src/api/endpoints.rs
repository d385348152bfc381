//! Endpoints, their headers and their secrets: `/api/v1/app/{app_id}/endpoint`.
//!
//! A body is checked for itself first ([`EndpointIn::checked`]), then applied to what there is
//! where nothing races with it. Credentials never come back: userinfo in a URL becomes Basic
//! authentication, sensitive headers are shown by name, an ed25519 secret as its public key.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::Context;
use super::access::{Action, Caller};
use super::error::Failure;
use super::extract::{Body, Patch, answered, json, no_content, once, path_part, respond, text};
use super::page::Query;
use super::rules::{
    Problems, check_channels, check_description, check_event_type_names, check_metadata,
    check_throttle_rate, check_uid, missing, without_repeats,
};
use super::target::{Target, header_problems, target};
use crate::clock::Timestamp;
use crate::config::Limits;
use crate::domain::application::Application;
use crate::domain::endpoint::{Endpoint, EndpointSecret, is_sensitive};
use crate::domain::id::EndpointId;
use crate::domain::secret::{Secret, SecretForm};
use crate::error::{Error, Result};
use crate::store::catalog::ApplicationEntry;
use crate::store::{Answered, Catalog, Change};

/// How long a rotated secret stays valid where the caller does not say.
const GRACE_SECONDS_DEFAULT: u32 = 24 * 60 * 60;
const GRACE_SECONDS_MAX: u32 = 7 * 24 * 60 * 60;

/// Each live secret adds a signature to every request's headers.
const LIVE_SECRETS_MAX: usize = 10;

/// A body of create, replace and patch: the difference is in what absent and null mean.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EndpointIn {
    uid: Patch<String>,
    url: Patch<String>,
    description: Patch<String>,
    disabled: Patch<bool>,
    event_types: Patch<Vec<String>>,
    /// The older name of `eventTypes`; where both are given, that one counts.
    filter_types: Patch<Vec<String>>,
    channels: Patch<Vec<String>>,
    metadata: Patch<BTreeMap<String, String>>,
    throttle_rate: Patch<u16>,
    secret: Patch<String>,
    headers: Patch<BTreeMap<String, String>>,
}

/// A body whose values are right for themselves.
struct Checked {
    uid: Patch<String>,
    url: Option<Target>,
    description: Patch<String>,
    disabled: Patch<bool>,
    event_types: Patch<Vec<String>>,
    channels: Patch<Vec<String>>,
    metadata: Patch<BTreeMap<String, String>>,
    throttle_rate: Patch<u16>,
    secret: Option<Secret>,
    headers: Patch<BTreeMap<String, String>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Create or replace: null is as good as absent, and a URL is needed.
    Whole,
    /// Null clears, and some fields cannot be cleared.
    Patch,
}

impl EndpointIn {
    fn checked(self, kind: Kind, context: &Context) -> Result<Checked> {
        let limits = &context.config.limits;
        let mut problems = Problems::default();
        let event_types = match self.event_types {
            Patch::Absent => self.filter_types,
            given => given,
        };
        if kind == Kind::Patch {
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
        } else if self.url.as_set().is_none() {
            problems.missing(&["body", "url"]);
        }
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
            let max = limits.channels_per_endpoint_max;
            check_channels(&mut problems, &["body", "channels"], channels, max);
        }
        if let Patch::Set(metadata) = &self.metadata {
            check_metadata(&mut problems, &["body", "metadata"], metadata);
        }
        if let Patch::Set(rate) = self.throttle_rate {
            check_throttle_rate(&mut problems, &["body", "throttleRate"], rate);
        }
        if let Patch::Set(headers) = &self.headers {
            check_headers(&mut problems, headers, limits);
        }
        let url = self.url.into_set().and_then(|url| {
            check_url(&url, context)
                .map_err(|message| problems.add(&["body", "url"], message))
                .ok()
        });
        let secret = self.secret.into_set().and_then(|secret| {
            Secret::parse(&secret, SecretForm::StandardWebhooks)
                .map_err(|message| problems.add(&["body", "secret"], message))
                .ok()
        });
        problems.done()?;
        Ok(Checked {
            uid: self.uid,
            url,
            description: self.description,
            disabled: self.disabled,
            event_types,
            channels,
            metadata: self.metadata,
            throttle_rate: self.throttle_rate,
            secret,
            headers: self.headers,
        })
    }
}

fn check_url(text: &str, context: &Context) -> Result<Target, String> {
    let target = target(text, context.config.limits.url_bytes)?;
    if context.config.delivery.https_only && target.url.scheme() != "https" {
        return Err("must be https".to_owned());
    }
    match (context.addresses)(&target.url) {
        Some(problem) => Err(problem),
        None => Ok(target),
    }
}

fn check_headers(problems: &mut Problems, headers: &BTreeMap<String, String>, limits: &Limits) {
    for (name, message) in header_problems(headers, limits.headers_max, limits.header_value_bytes) {
        match name {
            Some(name) => problems.add(&["body", "headers", &name], message),
            None => problems.add(&["body", "headers"], message),
        }
    }
}

impl Checked {
    /// Changes what the body names.
    fn apply_to(self, endpoint: &mut Endpoint) {
        if let Some(target) = self.url {
            target.apply_to(endpoint);
        }
        self.uid.apply_to_optional(&mut endpoint.uid);
        self.description.apply_to(&mut endpoint.description);
        self.disabled.apply_to(&mut endpoint.disabled);
        self.event_types
            .apply_to_optional(&mut endpoint.event_types);
        self.channels.apply_to_optional(&mut endpoint.channels);
        self.metadata.apply_to(&mut endpoint.metadata);
        self.throttle_rate
            .apply_to_optional(&mut endpoint.throttle_rate);
        self.headers.apply_to(&mut endpoint.headers);
    }
}

/// What a replacement resets before it is applied: what the contract knows. Credentials and
/// headers are left, because a client that does not know them would not send them.
fn reset(endpoint: &mut Endpoint) {
    endpoint.uid = None;
    endpoint.description = String::new();
    endpoint.disabled = false;
    endpoint.event_types = None;
    endpoint.channels = None;
    endpoint.metadata = BTreeMap::new();
    endpoint.throttle_rate = None;
}

/// A new endpoint that wants everything, before the caller's body is applied to it.
fn blank(
    application: &Application,
    number: u64,
    secret: Option<Secret>,
    now: Timestamp,
) -> Endpoint {
    Endpoint {
        id: EndpointId::at(now),
        number,
        organisation: application.organisation,
        application: application.id,
        uid: None,
        url: String::new(),
        description: String::new(),
        disabled: false,
        event_types: None,
        channels: None,
        metadata: BTreeMap::new(),
        throttle_rate: None,
        secrets: vec![EndpointSecret {
            secret: secret.unwrap_or_else(new_secret),
            expires_at: None,
        }],
        headers: BTreeMap::new(),
        basic_auth: None,
        created_at: now,
        updated_at: now,
        profile: None,
        method: None,
        auth_headers: BTreeMap::new(),
        retry: None,
        timeout_seconds: None,
    }
}

fn new_secret() -> Secret {
    Secret::generate(SecretForm::StandardWebhooks, rand::random())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EndpointOut<'a> {
    #[serde(serialize_with = "text")]
    id: EndpointId,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    url: &'a str,
    description: &'a str,
    disabled: bool,
    event_types: Option<&'a [String]>,
    filter_types: Option<&'a [String]>,
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
}

impl<'a> From<&'a Endpoint> for EndpointOut<'a> {
    fn from(endpoint: &'a Endpoint) -> Self {
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
        }
    }
}

fn shown(status: StatusCode, endpoint: &Endpoint) -> Answered {
    answered(status, &EndpointOut::from(endpoint))
}

const NOT_FOUND: Error = Error::NotFound("endpoint");

fn refuse_taken_uid(entry: &ApplicationEntry, endpoint: &Endpoint) -> Result<()> {
    let Some(uid) = &endpoint.uid else {
        return Ok(());
    };
    match entry.endpoint(uid) {
        Some(other) if other.id != endpoint.id => Err(Error::Conflict(
            "an endpoint with this uid exists already".to_owned(),
        )),
        _ => Ok(()),
    }
}

/// An archived event type takes no new filters; one that is in a filter already stays there.
fn refuse_archived_types(
    catalog: &Catalog,
    before: Option<&[String]>,
    endpoint: &Endpoint,
) -> Result<()> {
    let mut problems = Problems::default();
    for name in endpoint.event_types.iter().flatten() {
        let is_new = !before.is_some_and(|before| before.contains(name));
        let is_archived = || {
            catalog
                .event_type(endpoint.organisation, name)
                .is_some_and(|event_type| event_type.archived)
        };
        if is_new && is_archived() {
            let message = format!("the event type {name} is archived");
            problems.add(&["body", "eventTypes"], message);
        }
    }
    problems.done()
}

fn refuse_too_many(entry: &ApplicationEntry, max: usize) -> Result<()> {
    match entry.endpoints.len() < max {
        true => Ok(()),
        false => Err(Error::TooMany(format!(
            "an application has at most {max} endpoints"
        ))),
    }
}

pub async fn create(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
    body: Body,
) -> Result<HttpResponse, Failure> {
    reachable(&context, &caller, &request)?;
    let mut input = body.json::<EndpointIn>()?.checked(Kind::Whole, &context)?;
    let application = path_part(&request, "app_id").to_owned();
    let once = once(&request, &caller, &body)?;
    let now = context.store.clock().now();
    let endpoints_max = context.config.limits.endpoints_per_application_max;
    let answer = context
        .store
        .change_once(once, move |catalog| {
            let entry = caller.application(catalog, &application, Action::Endpoints)?;
            refuse_too_many(entry, endpoints_max)?;
            let number = catalog.next_endpoint_number();
            let mut endpoint = blank(&entry.application, number, input.secret.take(), now);
            input.apply_to(&mut endpoint);
            refuse_taken_uid(entry, &endpoint)?;
            refuse_archived_types(catalog, None, &endpoint)?;
            let answer = shown(StatusCode::CREATED, &endpoint);
            Ok((caller.creation(catalog, endpoint)?, answer))
        })
        .await?;
    Ok(respond(answer))
}

pub async fn list(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let catalog = context.store.catalog();
    let application = path_part(&request, "app_id");
    let entry = caller.application(&catalog, application, Action::Endpoints)?;
    let mut query = Query::of(&request);
    let page = query.page::<EndpointId>(context.config.limits.list_page_max, false);
    query.problems.done()?;
    let seen = |endpoint: &&Arc<Endpoint>| caller.sees_endpoint(&catalog, endpoint);
    let stretch = page.of(entry.endpoints.iter().filter(seen), |endpoint| endpoint.id);
    let listed = page.answer(stretch, |endpoint| endpoint.id);
    Ok(json(
        StatusCode::OK,
        &listed.map(|endpoint| EndpointOut::from(&***endpoint)),
    ))
}

/// Who may not deal with an application's endpoints hears that before what is wrong with the body.
fn reachable(context: &Context, caller: &Caller, request: &HttpRequest) -> Result<()> {
    let catalog = context.store.catalog();
    let application = path_part(request, "app_id");
    caller
        .application(&catalog, application, Action::Endpoints)
        .map(|_| ())
}

/// The endpoint that the path names, for a caller that may deal with it.
pub fn named(context: &Context, caller: &Caller, request: &HttpRequest) -> Result<Arc<Endpoint>> {
    let catalog = context.store.catalog();
    let application = path_part(request, "app_id");
    let endpoint = path_part(request, "endpoint_id");
    caller.endpoint(&catalog, application, endpoint).cloned()
}

pub async fn get(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let endpoint = named(&context, &caller, &request)?;
    Ok(respond(shown(StatusCode::OK, &endpoint)))
}

/// Replaces an endpoint, or creates one with the uid in the path. A uid that the path names and
/// the body does not stays: the same request can come again. A uid that belongs to an endpoint
/// which the caller cannot see is taken, as it is when it stands in a body: that much shows.
pub async fn put(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
    body: Body,
) -> Result<HttpResponse, Failure> {
    reachable(&context, &caller, &request)?;
    let mut input = body.json::<EndpointIn>()?.checked(Kind::Whole, &context)?;
    let (application, id) = endpoint_path(&request);
    let path_is_id = id.parse::<EndpointId>().is_ok();
    if !path_is_id && input.uid.as_set().is_none() {
        let mut problems = Problems::default();
        check_uid(
            &mut problems,
            &["path", "endpoint_id"],
            &id,
            EndpointId::PREFIX,
        );
        problems.done()?;
        input.uid = Patch::Set(id.clone());
    }
    let now = context.store.clock().now();
    let endpoints_max = context.config.limits.endpoints_per_application_max;
    let answer = context
        .store
        .change(move |catalog| {
            let entry = caller.application(catalog, &application, Action::Endpoints)?;
            let existing = entry.endpoint(&id);
            let existing = existing.filter(|existing| caller.sees_endpoint(catalog, existing));
            let (mut endpoint, status) = match existing {
                Some(existing) => ((**existing).clone(), StatusCode::OK),
                None if path_is_id => return Err(NOT_FOUND),
                None => {
                    refuse_too_many(entry, endpoints_max)?;
                    let number = catalog.next_endpoint_number();
                    let secret = input.secret.take();
                    let new = blank(&entry.application, number, secret, now);
                    (new, StatusCode::CREATED)
                }
            };
            reset(&mut endpoint);
            input.apply_to(&mut endpoint);
            endpoint.updated_at = now;
            refuse_taken_uid(entry, &endpoint)?;
            let before = existing.and_then(|existing| existing.event_types.as_deref());
            refuse_archived_types(catalog, before, &endpoint)?;
            let answer = shown(status, &endpoint);
            let changes = match existing {
                Some(_) => vec![Change::PutEndpoint(endpoint)],
                None => caller.creation(catalog, endpoint)?,
            };
            Ok((changes, answer))
        })
        .await?;
    Ok(respond(answer))
}

pub async fn patch(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
    body: Body,
) -> Result<HttpResponse, Failure> {
    named(&context, &caller, &request)?;
    let input = body.json::<EndpointIn>()?.checked(Kind::Patch, &context)?;
    let answer = change(&request, &context, caller, move |endpoint| {
        input.apply_to(endpoint);
        Ok(())
    })
    .await?;
    Ok(respond(answer))
}

pub async fn delete(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let (application, id) = endpoint_path(&request);
    context
        .store
        .change(move |catalog| {
            let endpoint = caller.endpoint(catalog, &application, &id)?;
            let change = Change::DeleteEndpoint(endpoint.application, endpoint.id);
            Ok((vec![change], ()))
        })
        .await?;
    Ok(no_content())
}

fn endpoint_path(request: &HttpRequest) -> (String, String) {
    (
        path_part(request, "app_id").to_owned(),
        path_part(request, "endpoint_id").to_owned(),
    )
}

/// Changes the endpoint that the path names, where nothing races with it, and shows it.
async fn change(
    request: &HttpRequest,
    context: &Context,
    caller: Caller,
    edit: impl FnOnce(&mut Endpoint) -> Result<()> + Send + 'static,
) -> Result<Answered> {
    let (application, id) = endpoint_path(request);
    let now = context.store.clock().now();
    context
        .store
        .change(move |catalog| {
            let entry = caller.application(catalog, &application, Action::Endpoints)?;
            let existing = caller.endpoint(catalog, &application, &id)?;
            let mut endpoint = (**existing).clone();
            edit(&mut endpoint)?;
            endpoint.updated_at = now;
            refuse_taken_uid(entry, &endpoint)?;
            refuse_archived_types(catalog, existing.event_types.as_deref(), &endpoint)?;
            let answer = shown(StatusCode::OK, &endpoint);
            Ok((vec![Change::PutEndpoint(endpoint)], answer))
        })
        .await
}

#[derive(Serialize)]
struct HeadersOut<'a> {
    headers: BTreeMap<&'a str, &'a str>,
    /// Names whose values are not shown.
    sensitive: Vec<&'a str>,
}

fn headers_out(headers: &BTreeMap<String, String>) -> HeadersOut<'_> {
    let (sensitive, plain): (Vec<_>, Vec<_>) = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .partition(|(name, _)| is_sensitive(name));
    HeadersOut {
        headers: plain.into_iter().collect(),
        sensitive: sensitive.into_iter().map(|(name, _)| name).collect(),
    }
}

pub async fn get_headers(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let endpoint = named(&context, &caller, &request)?;
    Ok(json(StatusCode::OK, &headers_out(&endpoint.headers)))
}

#[derive(Deserialize)]
struct HeadersIn {
    headers: Option<BTreeMap<String, String>>,
}

pub async fn put_headers(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
    body: Body,
) -> Result<HttpResponse, Failure> {
    named(&context, &caller, &request)?;
    let Some(headers) = body.json::<HeadersIn>()?.headers else {
        return Err(missing(&["body", "headers"]).into());
    };
    let mut problems = Problems::default();
    check_headers(&mut problems, &headers, &context.config.limits);
    problems.done()?;
    change(&request, &context, caller, move |endpoint| {
        endpoint.headers = headers;
        Ok(())
    })
    .await?;
    Ok(no_content())
}

#[derive(Deserialize)]
struct HeadersPatch {
    headers: Option<BTreeMap<String, Option<String>>>,
}

pub async fn patch_headers(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
    body: Body,
) -> Result<HttpResponse, Failure> {
    named(&context, &caller, &request)?;
    let Some(changes) = body.json::<HeadersPatch>()?.headers else {
        return Err(missing(&["body", "headers"]).into());
    };
    let config = Arc::clone(&context.config);
    change(&request, &context, caller, move |endpoint| {
        change_headers(&mut endpoint.headers, changes);
        let mut problems = Problems::default();
        check_headers(&mut problems, &endpoint.headers, &config.limits);
        problems.done()
    })
    .await?;
    Ok(no_content())
}

/// Sets and removes headers by name, whatever its case.
fn change_headers(
    headers: &mut BTreeMap<String, String>,
    changes: BTreeMap<String, Option<String>>,
) {
    let names: Vec<&String> = changes.keys().collect();
    headers.retain(|name, _| {
        !names
            .iter()
            .any(|changed| changed.eq_ignore_ascii_case(name))
    });
    for (name, value) in changes {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
}

#[derive(Serialize)]
struct SecretOut {
    key: String,
}

pub async fn get_secret(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let endpoint = named(&context, &caller, &request)?;
    let newest = endpoint.secrets.first().ok_or(NOT_FOUND)?;
    let key = newest.secret.readable();
    Ok(json(StatusCode::OK, &SecretOut { key }))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RotateIn {
    key: Option<String>,
    grace_period_seconds: Option<u32>,
}

impl RotateIn {
    /// The new secret and how long the old ones stay valid.
    fn checked(self) -> Result<(Secret, Duration)> {
        let mut problems = Problems::default();
        let parse = |text| Secret::parse(text, SecretForm::StandardWebhooks);
        let secret = match self.key.as_deref().map(parse) {
            None => Some(new_secret()),
            Some(Ok(secret)) => Some(secret),
            Some(Err(message)) => {
                problems.add(&["body", "key"], message);
                None
            }
        };
        let grace = self.grace_period_seconds.unwrap_or(GRACE_SECONDS_DEFAULT);
        if grace > GRACE_SECONDS_MAX {
            let message = format!("must be 0 to {GRACE_SECONDS_MAX}");
            problems.add(&["body", "gracePeriodSeconds"], message);
        }
        problems.done()?;
        let secret = secret.expect("without a problem there is a secret");
        Ok((secret, Duration::from_secs(grace.into())))
    }
}

pub async fn rotate_secret(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
    body: Body,
) -> Result<HttpResponse, Failure> {
    named(&context, &caller, &request)?;
    let (secret, grace) = body.json_or_default::<RotateIn>()?.checked()?;
    let key = secret.readable();
    let now = context.store.clock().now();
    change(&request, &context, caller, move |endpoint| {
        let secrets = std::mem::take(&mut endpoint.secrets);
        endpoint.secrets = rotated(secrets, secret, grace, now)?;
        Ok(())
    })
    .await?;
    Ok(json(StatusCode::OK, &SecretOut { key }))
}

/// The new secret, and behind it the old ones that are still valid for a while.
fn rotated(
    old: Vec<EndpointSecret>,
    new: Secret,
    grace: Duration,
    now: Timestamp,
) -> Result<Vec<EndpointSecret>> {
    let end = now + grace;
    let mut secrets = vec![EndpointSecret {
        secret: new,
        expires_at: None,
    }];
    for one in old {
        let expires_at = one.expires_at.map_or(end, |sooner| sooner.min(end));
        if expires_at > now && one.secret != secrets[0].secret {
            secrets.push(EndpointSecret {
                secret: one.secret,
                expires_at: Some(expires_at),
            });
        }
    }
    match secrets.len() <= LIVE_SECRETS_MAX {
        true => Ok(secrets),
        false => Err(Error::TooMany(format!(
            "at most {LIVE_SECRETS_MAX} secrets are valid at a time; rotate with a shorter grace period"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{ApplicationId, OrganisationId};

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn endpoint() -> Endpoint {
        let application = Application {
            id: ApplicationId::at(NOW),
            organisation: OrganisationId([1; 20]),
            uid: None,
            name: "One".to_owned(),
            metadata: BTreeMap::new(),
            throttle_rate: None,
            created_at: NOW,
            updated_at: NOW,
        };
        blank(&application, 7, None, NOW)
    }

    fn secret(byte: u8) -> Secret {
        Secret::generate(SecretForm::StandardWebhooks, [byte; 32])
    }

    #[test]
    fn a_rotated_secret_stays_for_the_grace_period() {
        let grace = Duration::from_secs(60);
        let first = vec![EndpointSecret {
            secret: secret(1),
            expires_at: None,
        }];
        let second = rotated(first, secret(2), grace, NOW).unwrap();
        assert_eq!(second[0].secret, secret(2));
        assert_eq!(second[0].expires_at, None);
        assert_eq!(second[1].expires_at, Some(NOW + grace));

        let later = NOW + Duration::from_secs(30);
        let third = rotated(second.clone(), secret(3), grace, later).unwrap();
        let ends: Vec<_> = third.iter().map(|one| one.expires_at).collect();
        assert_eq!(
            ends,
            [None, Some(later + grace), Some(NOW + grace)],
            "an end is not put off"
        );

        let much_later = NOW + Duration::from_secs(600);
        let fourth = rotated(third, secret(4), Duration::ZERO, much_later).unwrap();
        assert_eq!(fourth.len(), 1, "expired ones go, and no grace means none");
    }

    #[test]
    fn a_secret_that_comes_again_is_there_once() {
        let first = vec![EndpointSecret {
            secret: secret(1),
            expires_at: None,
        }];
        let again = rotated(first, secret(1), Duration::from_secs(60), NOW).unwrap();
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].expires_at, None);
    }

    #[test]
    fn live_secrets_are_bounded() {
        let mut secrets = Vec::new();
        for byte in 0..LIVE_SECRETS_MAX as u8 {
            secrets = rotated(secrets, secret(byte), Duration::from_secs(60), NOW).unwrap();
        }
        let refused = rotated(secrets, secret(99), Duration::from_secs(60), NOW);
        assert!(matches!(refused, Err(Error::TooMany(_))));
    }

    #[test]
    fn a_rotation_is_checked() {
        let rotate = |text: &str| serde_json::from_str::<RotateIn>(text).unwrap().checked();
        let (_, grace) = rotate("{}").unwrap();
        assert_eq!(grace, Duration::from_secs(86_400));
        assert!(rotate(r#"{"gracePeriodSeconds":604800,"key":null}"#).is_ok());
        assert!(rotate(r#"{"gracePeriodSeconds":604801}"#).is_err());
        assert!(rotate(r#"{"key":"short"}"#).is_err());
    }

    #[test]
    fn headers_change_by_name_whatever_its_case() {
        let mut headers = BTreeMap::from([
            ("X-One".to_owned(), "1".to_owned()),
            ("X-Two".to_owned(), "2".to_owned()),
            ("X-Three".to_owned(), "3".to_owned()),
        ]);
        let changes = serde_json::from_str(r#"{"x-one":"new","X-TWO":null}"#).unwrap();
        change_headers(&mut headers, changes);
        let left: Vec<_> = headers.iter().map(|(k, v)| (&k[..], &v[..])).collect();
        assert_eq!(left, [("X-Three", "3"), ("x-one", "new")]);
    }

    #[test]
    fn sensitive_headers_are_shown_by_name_only() {
        let headers = BTreeMap::from([
            ("Authorization".to_owned(), "Bearer s3".to_owned()),
            ("X-Api-Key".to_owned(), "s3".to_owned()),
            ("X-Plain".to_owned(), "shown".to_owned()),
        ]);
        let body = serde_json::to_value(headers_out(&headers)).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "headers": {"X-Plain": "shown"}, "sensitive": ["Authorization", "X-Api-Key"]
            })
        );
    }

    #[test]
    fn an_endpoint_is_shown_without_anything_secret() {
        let mut endpoint = endpoint();
        target("https://zoe:s3cret@example.com/in", 2048)
            .unwrap()
            .apply_to(&mut endpoint);
        endpoint.event_types = Some(vec!["a".to_owned()]);
        let answer = shown(StatusCode::OK, &endpoint);
        let text = String::from_utf8(answer.body).unwrap();
        for hidden in ["s3cret", "zoe", "whsec_"] {
            assert!(!text.contains(hidden), "{text}");
        }
        let body: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(body["url"], "https://example.com/in");
        assert_eq!(body["eventTypes"], serde_json::json!(["a"]));
        assert_eq!(body["filterTypes"], serde_json::json!(["a"]));
        assert_eq!(body["channels"], serde_json::Value::Null);
    }

    #[test]
    fn a_replacement_resets_what_it_does_not_name_and_leaves_credentials() {
        let mut endpoint = endpoint();
        endpoint.description = "old".to_owned();
        endpoint.disabled = true;
        endpoint.throttle_rate = Some(4);
        endpoint.headers = BTreeMap::from([("X-One".to_owned(), "1".to_owned())]);
        let number = endpoint.number;
        let secrets = endpoint.secrets.clone();
        reset(&mut endpoint);
        assert_eq!(
            (endpoint.disabled, endpoint.throttle_rate, endpoint.number),
            (false, None, number)
        );
        assert_eq!(endpoint.headers.len(), 1);
        assert_eq!(endpoint.secrets, secrets);
    }
}
