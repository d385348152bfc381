//! A request that could have been: for trying a profile when it is compiled, and for showing it.
//!
//! The message, the endpoint and the time are always the same, unless a draft has its own. The
//! example's payload has every field that the profile's templates name.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::http::header::HeaderName;
use actix_web::web::Bytes;
use serde_json::{Map, Value, json};

use super::SendSettings;
use super::profile::{CompiledProfile, Unrendered};
use super::render::{MASK, Prepared, Request};
use super::scope::{EXAMPLE, ScopedAttempt, TemplateScope};
use super::target::Target;
use crate::clock::Timestamp;
use crate::domain::endpoint::{Endpoint, EndpointSecret};
use crate::domain::id::{ApplicationId, EndpointId, MessageId, OrganisationId};
use crate::domain::message::{Message, Origin};
use crate::domain::profile::Draft;
use crate::domain::secret::Secret;
use crate::domain::transformation::TransformationFault;

/// 2026-01-31T08:15:30.250Z
pub const NOW: Timestamp = Timestamp(1_769_847_330_250);

const URL: &str = "https://example.com/webhooks";
const SERVER_URL: &str = "https://webhooks.example.com";
const SECRET: &str = "example-secret";
/// From which the secret is made where it must be a key.
const SECRET_BYTES: &[u8; 32] = b"an example's secret, 32 bytes ok";

/// An attempt by this profile, which has never been made.
pub fn attempt(profile: &CompiledProfile, server_url: Arc<str>) -> ScopedAttempt {
    let names: Vec<String> = profile
        .templates()
        .flat_map(|(_, template)| template.names().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let application = ApplicationId::in_order(NOW, 1, *b"application");
    let message = Message {
        id: MessageId::in_order(NOW, 1, *b"the-message"),
        application,
        event_type: "invoice.paid".to_owned(),
        event_id: Some("invoice-25".to_owned()),
        channels: vec!["invoices".to_owned()],
        payload: payload(&names).to_string().into(),
        is_raw: false,
        content_type: None,
        accepted_at: NOW,
        origin: Origin::Published,
        tags: Vec::new(),
        deliver_at: None,
        expires_at: None,
        expunged: false,
        endpoints_matched: None,
        metadata: BTreeMap::new(),
        headers: BTreeMap::new(),
    };
    let metadata = names
        .iter()
        .filter_map(|name| name.strip_prefix("endpoint.metadata."))
        .map(|name| (name.to_owned(), EXAMPLE.to_owned()));
    let endpoint = Endpoint {
        uid: Some(EXAMPLE.to_owned()),
        url: URL.to_owned(),
        metadata: metadata.collect(),
        secrets: vec![EndpointSecret {
            secret: secret(profile),
            expires_at: None,
        }],
        profile: Some(profile.name.clone()),
        ..Endpoint::new(
            EndpointId::in_order(NOW, 1, *b"an-endpoint"),
            OrganisationId::in_order(NOW, 1, *b"organisatio"),
            application,
            25,
            NOW,
        )
    };
    ScopedAttempt {
        message: Arc::new(message),
        endpoint: Arc::new(endpoint),
        number: 1,
        now: NOW,
        server_url,
    }
}

/// A secret that everybody can see is none.
fn secret(profile: &CompiledProfile) -> Secret {
    let form = profile.settings.secret_form();
    Secret::parse(SECRET, form).unwrap_or_else(|_| Secret::generate(form, *SECRET_BYTES))
}

/// A payload with the fields that the templates name; with common ones where they name none.
fn payload(names: &[String]) -> Value {
    let mut payload = Map::new();
    for path in names
        .iter()
        .filter_map(|name| name.strip_prefix("payload."))
    {
        insert(&mut payload, path, known(path));
    }
    match payload.is_empty() {
        true => json!({
            "type": "invoice.paid",
            "timestamp": "2026-01-31T08:15:30Z",
            "data": { "id": "invoice-25", "amount": 125.5, "currency": "EUR" },
        }),
        false => Value::Object(payload),
    }
}

/// Fields that shipped profiles name.
fn known(path: &str) -> Value {
    match path {
        "eventType" => json!("CREATE"),
        "entityType" => json!("Agreement"),
        "entityId" => json!(25),
        "reference" => json!("order-25"),
        "status_code" => json!("S"),
        "cid" => json!("c-25"),
        "token_id" => json!(25),
        "hash" => json!("0xe3b0c44298fc1c149afb"),
        "file" => json!("document.pdf"),
        "timestamp" => json!("2026-01-31 08:15:30.0"),
        "data.summary" => json!(
            "https://example.com/in of Acme: a delivery of invoice.paid failed for good after 8 \
             attempts: HTTP 503."
        ),
        "data.link" => json!("https://webhooks.example.com/console"),
        _ => json!(EXAMPLE),
    }
}

fn insert(object: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            object.entry(path).or_insert(value);
        }
        Some((name, rest)) => {
            let member = object.entry(name).or_insert_with(|| json!({}));
            if !member.is_object() {
                *member = json!({});
            }
            if let Some(members) = member.as_object_mut() {
                insert(members, rest, value);
            }
        }
    }
}

/// The problems that every message would have: keys with the reason. Any other problem of the example
/// may be due to the example alone.
pub fn problems(profile: &CompiledProfile) -> Vec<(String, String)> {
    let whole = attempt(profile, Arc::from(SERVER_URL));
    // With nothing in it, so that the other branches of conditions are tried, too.
    let mut message = (*whole.message).clone();
    message.payload = "{}".into();
    let empty = ScopedAttempt {
        message: Arc::new(message),
        endpoint: whole.endpoint.clone(),
        server_url: whole.server_url.clone(),
        ..whole
    };
    let mut problems = Vec::new();
    for (payload, scope) in [
        (
            whole.message.payload.clone(),
            TemplateScope::of_example(whole),
        ),
        (
            empty.message.payload.clone(),
            TemplateScope::of_attempt(empty),
        ),
    ] {
        for Unrendered { key, fault } in unrendered(profile, &scope, &payload.into()) {
            let problem = (key, fault.to_string());
            if fault.permanent && !problems.contains(&problem) {
                problems.push(problem);
            }
        }
    }
    problems
}

/// Every part of the request that cannot be made.
fn unrendered(
    profile: &CompiledProfile,
    scope: &TemplateScope,
    payload: &Bytes,
) -> Vec<Unrendered> {
    let mut faults = Vec::new();
    let body = profile.render_body(scope, payload);
    let body = body.map_err(|fault| faults.push(fault)).unwrap_or_default();
    let scope = scope.with_body(body.clone());
    if let Ok(target) = Target::parse(URL) {
        faults.extend(profile.render_url(&scope, &target).err());
    }
    faults.extend(profile.render_headers(&scope).filter_map(Result::err));
    let secret = EndpointSecret {
        secret: secret(profile),
        expires_at: None,
    };
    for (index, signature) in profile.signatures.iter().enumerate() {
        let keys = signature.keys([&secret]);
        let value = profile.render_signature(index, &keys, &scope, &body, NOW);
        faults.extend(value.err());
    }
    faults
}

/// The example's request, as it would be sent; none where the example is not enough for it.
pub fn request(profile: &CompiledProfile, settings: &SendSettings) -> Option<Value> {
    draft_request(profile, settings, Draft::default()).ok()
}

/// The request of an attempt that has these things in place of the example's. The error says why it
/// cannot be made. Nothing that a caller brought as a secret is shown.
pub fn draft_request(
    profile: &CompiledProfile,
    settings: &SendSettings,
    draft: Draft,
) -> Result<Value, String> {
    let is_own_secret = draft.secret.is_some();
    // Each field of an example is a text, whatever its name; a given payload stays as it is.
    let is_own_payload = draft.payload.is_some();
    let attempt = drafted(attempt(profile, settings.server_url.clone()), draft);
    let message = attempt.message.clone();
    let request = Prepared::new(&attempt.endpoint, settings)
        .and_then(|prepared| {
            prepared.request(&message, NOW, || match is_own_payload {
                true => TemplateScope::of_attempt(attempt),
                false => TemplateScope::of_example(attempt),
            })
        })
        .map_err(|not_sendable| not_sendable.failure.detail)?;
    Ok(shown(&request, |name, is_sensitive| {
        is_sensitive && (is_own_secret || !profile.sets_header(name))
    }))
}

/// The request that an endpoint gets for a message, for people to read: nothing secret is in it.
pub fn endpoint_request(
    endpoint: &Arc<Endpoint>,
    message: &Arc<Message>,
    settings: &SendSettings,
    now: Timestamp,
) -> Result<Value, TransformationFault> {
    let request = Prepared::new(endpoint, settings).and_then(|prepared| {
        prepared.request(message, now, || {
            TemplateScope::of_attempt(ScopedAttempt {
                message: message.clone(),
                endpoint: endpoint.clone(),
                number: 1,
                now,
                server_url: settings.server_url.clone(),
            })
        })
    });
    let request = request.map_err(|not_sendable| {
        not_sendable.fault.unwrap_or_else(|| TransformationFault {
            key: None,
            line: None,
            message: not_sendable.failure.detail.trim_end_matches('.').to_owned(),
        })
    })?;
    let profile = &request.profile;
    let is_signature = |name: &HeaderName| {
        let standard = profile.standard.as_ref();
        standard.is_some_and(|one| one.signature == *name)
            || profile.signatures.iter().any(|one| one.header == *name)
    };
    // Whoever previews a body may not be one who may have it signed.
    Ok(shown(&request, |name, is_sensitive| {
        is_sensitive || is_signature(name)
    }))
}

/// A request in words; the header values of which `is_hidden` says so are not in it.
fn shown(request: &Request, is_hidden: impl Fn(&HeaderName, bool) -> bool) -> Value {
    let mut headers: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in &request.headers {
        let value = match is_hidden(name, value.is_sensitive()) {
            true => MASK.into(),
            false => String::from_utf8_lossy(value.as_bytes()),
        };
        headers.insert(name.as_str(), value.into_owned());
    }
    // This one the client adds.
    let length = request
        .shown
        .iter()
        .find(|(name, _)| name == "content-length");
    headers.extend(length.map(|(name, value)| (name.as_str(), value.clone())));
    let body = request.body.as_deref().map(String::from_utf8_lossy);
    json!({
        "method": request.method.name(),
        "url": request.url,
        "headers": headers,
        "body": body,
    })
}

fn drafted(example: ScopedAttempt, draft: Draft) -> ScopedAttempt {
    let mut message = (*example.message).clone();
    let mut endpoint = (*example.endpoint).clone();
    message.event_type = draft.event_type.unwrap_or(message.event_type);
    message.payload = draft.payload.unwrap_or(message.payload);
    message.channels = draft.channels.unwrap_or(message.channels);
    endpoint.url = draft.url.unwrap_or(endpoint.url);
    endpoint.basic_auth = draft.basic_auth;
    endpoint.method = draft.method;
    endpoint.headers = draft.headers;
    if let Some(secret) = draft.secret {
        endpoint.secrets = vec![EndpointSecret {
            secret,
            expires_at: None,
        }];
    }
    ScopedAttempt {
        message: Arc::new(message),
        endpoint: Arc::new(endpoint),
        ..example
    }
}
