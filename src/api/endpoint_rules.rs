//! What holds for endpoints, whichever surface they are made and changed through.
//!
//! Pure: handlers check a body's values with these, and what an endpoint has become where nothing
//! races with it.

use std::collections::BTreeMap;

use super::Context;
use super::rules::Problems;
use super::target::{Target, header_problems, target};
use crate::clock::Timestamp;
use crate::config::Limits;
use crate::domain::application::Application;
use crate::domain::endpoint::{Endpoint, EndpointSecret};
use crate::domain::id::EndpointId;
use crate::domain::secret::{Secret, SecretForm};
use crate::error::{Error, Result};
use crate::store::Catalog;
use crate::store::catalog::ApplicationEntry;

pub const NOT_FOUND: Error = Error::NotFound("endpoint");

pub fn check_url(text: &str, context: &Context) -> Result<Target, String> {
    let target = target(text, context.config.limits.url_bytes)?;
    if context.config.delivery.https_only && target.url.scheme() != "https" {
        return Err("must be https".to_owned());
    }
    match (context.addresses)(&target.url) {
        Some(problem) => Err(problem),
        None => Ok(target),
    }
}

pub fn check_headers(problems: &mut Problems, headers: &BTreeMap<String, String>, limits: &Limits) {
    for (name, message) in header_problems(headers, limits.headers_max, limits.header_value_bytes) {
        match name {
            Some(name) => problems.add(&["body", "headers", &name], message),
            None => problems.add(&["body", "headers"], message),
        }
    }
}

/// A new endpoint that wants everything, before the caller's body is applied to it.
pub fn blank(
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

pub fn new_secret() -> Secret {
    Secret::generate(SecretForm::StandardWebhooks, rand::random())
}

pub fn refuse_taken_uid(entry: &ApplicationEntry, endpoint: &Endpoint) -> Result<()> {
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
pub fn refuse_archived_types(
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

pub fn refuse_too_many(entry: &ApplicationEntry, max: usize) -> Result<()> {
    match entry.endpoints.len() < max {
        true => Ok(()),
        false => Err(Error::TooMany(format!(
            "an application has at most {max} endpoints"
        ))),
    }
}
