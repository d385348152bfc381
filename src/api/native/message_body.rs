//! Messages as the API takes and shows them.
//!
//! A body is parsed once; the payload stays a slice of the bytes that came in, and is shown from
//! the bytes that are kept.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::web::Bytes;
use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::applications::ApplicationIn;
use crate::api::kit::context::Context;
use crate::api::kit::error::{Failure, InvalidItem};
use crate::api::kit::extract::{Body, object, optional_text, text};
use crate::api::kit::operation::Parameter;
use crate::clock::Timestamp;
use crate::domain::event_type::name_problem;
use crate::domain::filter::Parts;
use crate::domain::id::MessageId;
use crate::domain::message::{Message, Origin};
use crate::domain::payload;
use crate::domain::profile::is_media_type;
use crate::error::{Error, Invalid, Result};
use crate::rules::checks::{
    CHANNEL_NAME_MAX, EVENT_TYPE_NAME_MAX, NAME_PATTERN, Problems, TAG_MAX, TAGS_PER_MESSAGE_MAX,
    check_channels, check_metadata, check_tags, check_uid, without_repeats,
};
use crate::rules::matching::Matched;
use crate::rules::message_headers::HeaderRules;
use crate::store::{NewMessage, Once};

pub const CHANNELS_PER_MESSAGE_MAX: usize = 5;

/// Of one message's metadata.
const METADATA_KEYS_MAX: usize = 50;

/// The longest retention that the contract lets a message ask for, in days and in hours.
const RETENTION_DAYS: std::ops::RangeInclusive<i64> = 5..=90;
const RETENTION_HOURS: std::ops::RangeInclusive<i64> = 1..=90 * 24;

/// A message to publish.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["eventType", "payload"]))]
pub struct MessageIn<'a> {
    /// The event type, such as `invoice.paid`. It need not be registered, and may not be archived.
    #[schemars(with = "String", length(min = 1, max = EVENT_TYPE_NAME_MAX), regex(pattern = NAME_PATTERN))]
    event_type: Option<String>,
    /// Your own id for the message, by which it can be found again; unique in the application
    /// for a day.
    #[schemars(length(min = 1, max = 256), regex(pattern = NAME_PATTERN))]
    event_id: Option<String>,
    /// The channels of the message, for endpoints that take only some channels.
    #[schemars(
        length(min = 1, max = CHANNELS_PER_MESSAGE_MAX),
        inner(length(min = 1, max = CHANNEL_NAME_MAX), regex(pattern = NAME_PATTERN))
    )]
    channels: Option<Vec<String>>,
    /// Words by which lists can be filtered.
    #[schemars(
        length(min = 1, max = TAGS_PER_MESSAGE_MAX),
        inner(length(min = 1, max = TAG_MAX), regex(pattern = NAME_PATTERN))
    )]
    tags: Option<Vec<String>>,
    /// Facts of your own about the message, which filters and templates can ask for: at most 50, and 4 KiB
    /// in all.
    metadata: Option<BTreeMap<String, String>>,
    /// Headers of its requests, of those that the operator allows (`delivery.message_headers`). They are
    /// kept and shown with the message; an endpoint's own header of the same name is sent in its place.
    headers: Option<BTreeMap<String, String>>,
    /// The JSON object that is sent, byte for byte as it is here.
    #[serde(borrow)]
    #[schemars(with = "BTreeMap<String, Value>")]
    payload: Option<&'a RawValue>,
    /// A text to send in place of `payload`, and its media type.
    transformations_params: Option<RawIn>,
    /// When the message is first attempted; at once where this is past. At most as far ahead as
    /// messages are kept.
    #[schemars(with = "Option<Timestamp>")]
    deliver_at: Option<String>,
    /// From this instant on the message is not sent any more. It must be after now and after
    /// `deliverAt`.
    #[schemars(with = "Option<Timestamp>")]
    expires_at: Option<String>,
    /// In days. Accepted, without effect, if it is at least as long as payloads are kept here,
    /// which is the operator's setting; refused if it is shorter.
    #[schemars(range(min = 5, max = 90), extend("x-without-effect" = "It asks for a payload to be kept no longer than this. Payloads are kept for `store.retention_days`, so a time of at least that asks for nothing more; a shorter one is refused."))]
    payload_retention_period: Option<i64>,
    /// Like `payloadRetentionPeriod`, in hours. Only one of the two can be given.
    #[schemars(range(min = 1, max = 2160), extend("x-without-effect" = "As payloadRetentionPeriod."))]
    payload_retention_hours: Option<i64>,
    /// The application to create where the one in the path does not exist.
    #[serde(deserialize_with = "object")]
    application: Option<ApplicationIn>,
}

/// A payload that need not be JSON. The contract's name for it is older than its use.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RawIn {
    /// The text that is sent and signed, as it is, in place of the message's `payload`.
    raw_payload: Option<String>,
    /// The `content-type` of the requests, in place of the profile's and the endpoint's, and other
    /// headers as in the message's `headers`.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    headers: Option<BTreeMap<String, Option<String>>>,
    #[serde(flatten)]
    #[schemars(skip)]
    others: BTreeMap<String, IgnoredAny>,
}

/// The longest `content-type` of a message.
const CONTENT_TYPE_BYTES_MAX: usize = 256;

impl RawIn {
    /// The raw text and the content type, where there are any; other headers are added to the message's.
    pub fn checked(
        self,
        problems: &mut Problems,
        rules: HeaderRules<'_>,
        headers: &mut BTreeMap<String, String>,
    ) -> (Option<String>, Option<String>) {
        const NOT_OFFERED: &str = "postrider does not offer this; leave it out";
        const PLACE: [&str; 2] = ["body", "transformationsParams"];
        for name in self.others.keys() {
            problems.not_offered(&[PLACE[0], PLACE[1], name], NOT_OFFERED);
        }
        let mut content_type = None;
        let mut others = BTreeMap::new();
        for (name, value) in self.headers.iter().flatten() {
            let place = [PLACE[0], PLACE[1], "headers", name];
            match value {
                _ if !name.eq_ignore_ascii_case("content-type") => {
                    others.extend(value.clone().map(|value| (name.clone(), value)));
                }
                Some(value) if value.len() > CONTENT_TYPE_BYTES_MAX || !is_media_type(value) => {
                    let message = format!(
                        "must be a media type such as text/xml; charset=utf-8, of at most \
                         {CONTENT_TYPE_BYTES_MAX} bytes"
                    );
                    problems.add(&place, message);
                }
                value => content_type.clone_from(value),
            }
        }
        let place = [PLACE[0], PLACE[1], "headers"];
        rules.take(problems, &place, others, headers);
        (self.raw_payload, content_type)
    }
}

/// The limits that a message's body is checked against.
#[derive(Clone, Copy)]
pub struct Bounds<'a> {
    /// The application in the path.
    pub application: &'a str,
    pub now: Timestamp,
    /// How far ahead a message may be published.
    pub ahead_max: Duration,
    pub payload_bytes_max: usize,
    pub headers: HeaderRules<'a>,
}

impl<'a> Bounds<'a> {
    pub fn of(context: &'a Context, application: &'a str) -> Bounds<'a> {
        let retention_days = u64::from(context.config.store.retention_days);
        Bounds {
            application,
            now: context.store.clock().now(),
            ahead_max: Duration::from_secs(retention_days * 24 * 3600),
            payload_bytes_max: context.config.limits.payload_bytes,
            headers: HeaderRules::of(&context.config),
        }
    }
}

/// A message that was checked, before its endpoints are known.
pub struct Checked<'a> {
    pub event_type: String,
    pub event_id: Option<String>,
    pub channels: Vec<String>,
    pub tags: Vec<String>,
    pub metadata: BTreeMap<String, String>,
    pub headers: BTreeMap<String, String>,
    pub deliver_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub payload: Payload<'a>,
    pub content_type: Option<String>,
    pub application: Option<ApplicationIn>,
}

/// A message's payload as it was published.
pub enum Payload<'a> {
    /// An object, as it stands in the request's body.
    Object(&'a RawValue),
    /// A text that may be anything.
    Raw(String),
}

impl Payload<'_> {
    pub fn len(&self) -> usize {
        self.text().len()
    }

    fn text(&self) -> &str {
        match self {
            Payload::Object(object) => object.get(),
            Payload::Raw(text) => text,
        }
    }

    pub fn is_raw(&self) -> bool {
        matches!(self, Payload::Raw(_))
    }

    /// The bytes to keep; those of an object share the memory of the body that it came in.
    pub fn bytes(&mut self, body: &Bytes) -> Bytes {
        match self {
            Payload::Object(object) => body.slice_ref(object.get().as_bytes()),
            Payload::Raw(text) => Bytes::from(std::mem::take(text)),
        }
    }
}

/// The message in a body, or all that is wrong with it.
pub fn checked<'a>(body: &'a Body, bounds: &Bounds<'_>) -> Result<Checked<'a>, Failure> {
    let message = body.json::<MessageIn<'_>>()?.checked(bounds)?;
    let max = bounds.payload_bytes_max;
    match message.payload.len() <= max {
        true => Ok(message),
        false => Err(Failure::TooLarge(format!(
            "a payload has at most {max} bytes"
        ))),
    }
}

impl<'a> MessageIn<'a> {
    /// Like `checked`, for a message within a body: its problems are told at this place.
    pub fn checked_at(self, bounds: &Bounds<'_>, place: &[&str]) -> Result<Checked<'a>, Failure> {
        self.checked(bounds)
            .map_err(|error| Failure::Of(Error::Invalid(Failure::Of(error).problems_at(place))))
    }

    fn checked(self, bounds: &Bounds<'_>) -> Result<Checked<'a>> {
        let mut problems = Problems::default();
        match &self.event_type {
            Some(name) => {
                let problem = name_problem(name, EVENT_TYPE_NAME_MAX);
                problems.add_if(&["body", "eventType"], problem);
            }
            None => problems.missing(&["body", "eventType"]),
        }
        if let Some(id) = &self.event_id {
            check_uid(&mut problems, &["body", "eventId"], id, MessageId::PREFIX);
        }
        let channels = self.channels.map(without_repeats);
        if let Some(channels) = &channels {
            let max = CHANNELS_PER_MESSAGE_MAX;
            check_channels(&mut problems, &["body", "channels"], channels, max);
        }
        let tags = self.tags.map(without_repeats);
        if let Some(tags) = &tags {
            check_tags(&mut problems, &["body", "tags"], tags);
        }
        match self.payload {
            Some(payload) => {
                problems.add_if(&["body", "payload"], payload::problem(payload.get()));
            }
            None => problems.missing(&["body", "payload"]),
        }
        let metadata = self.metadata.unwrap_or_default();
        check_message_metadata(&mut problems, &metadata);
        let (given, mut headers) = (self.headers.unwrap_or_default(), BTreeMap::new());
        let place = ["body", "headers"];
        (bounds.headers).take(&mut problems, &place, given, &mut headers);
        let raw = self.transformations_params.unwrap_or_default();
        let (raw_payload, content_type) = raw.checked(&mut problems, bounds.headers, &mut headers);
        let deliver_at = instant(&mut problems, "deliverAt", self.deliver_at.as_deref());
        let expires_at = instant(&mut problems, "expiresAt", self.expires_at.as_deref());
        check_times(&mut problems, bounds, deliver_at, expires_at);
        check_retention(
            &mut problems,
            bounds,
            self.payload_retention_period,
            self.payload_retention_hours,
        );
        if let Some(application) = &self.application {
            application.check_beside(&mut problems, bounds.application);
        }
        problems.done()?;
        const CHECKED: &str = "its absence is a problem that was noted";
        Ok(Checked {
            event_type: self.event_type.expect(CHECKED),
            event_id: self.event_id,
            channels: channels.unwrap_or_default(),
            tags: tags.unwrap_or_default(),
            metadata,
            headers,
            deliver_at,
            expires_at,
            payload: match raw_payload {
                Some(text) => Payload::Raw(text),
                None => Payload::Object(self.payload.expect(CHECKED)),
            },
            content_type,
            application: self.application,
        })
    }
}

fn check_message_metadata(problems: &mut Problems, metadata: &BTreeMap<String, String>) {
    let place = ["body", "metadata"];
    if metadata.len() > METADATA_KEYS_MAX {
        problems.add(&place, format!("may have at most {METADATA_KEYS_MAX} keys"));
        return;
    }
    check_metadata(problems, &place, metadata);
}

fn instant(problems: &mut Problems, name: &str, given: Option<&str>) -> Option<Timestamp> {
    match given?.parse() {
        Ok(instant) => Some(instant),
        Err(_) => {
            let message = "must be an RFC 3339 date and time, such as 2026-01-31T08:15:30Z";
            problems.add(&["body", name], message);
            None
        }
    }
}

fn check_times(
    problems: &mut Problems,
    bounds: &Bounds<'_>,
    deliver_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
) {
    if deliver_at.is_some_and(|at| at > bounds.now + bounds.ahead_max) {
        let days = bounds.ahead_max.as_secs() / (24 * 3600);
        let message = format!(
            "must be at most {days} days ahead (store.retention_days), as long as it is kept"
        );
        problems.add(&["body", "deliverAt"], message);
    }
    if let Some(end) = expires_at {
        if end <= bounds.now {
            problems.add(&["body", "expiresAt"], "must not be past");
        } else if deliver_at.is_some_and(|at| end <= at) {
            problems.add(&["body", "expiresAt"], "must lie after deliverAt");
        }
    }
}

/// Refuses a retention that is shorter than the operator's setting: the payload would be kept
/// against a promise. A longer one promises nothing, so it is accepted.
fn check_retention(
    problems: &mut Problems,
    bounds: &Bounds<'_>,
    days: Option<i64>,
    hours: Option<i64>,
) {
    let kept_hours = i64::try_from(bounds.ahead_max.as_secs() / 3600).unwrap_or(i64::MAX);
    for (field, least, asked) in [
        (
            "payloadRetentionPeriod",
            RETENTION_DAYS.start() * 24,
            days.map(|days| days.saturating_mul(24)),
        ),
        ("payloadRetentionHours", *RETENTION_HOURS.start(), hours),
    ] {
        // A value out of range is reported below.
        if asked.is_some_and(|asked| least <= asked && asked < kept_hours) {
            let message = format!(
                "postrider does not offer a retention of a single message's payload; payloads are \
                 kept for {} days (store.retention_days). Delete one by DELETE …/msg/ID/content",
                kept_hours / 24
            );
            problems.not_offered(&["body", field], message);
        }
    }
    if days.is_some_and(|days| !RETENTION_DAYS.contains(&days)) {
        problems.add(&["body", "payloadRetentionPeriod"], "must be 5 to 90");
    }
    if hours.is_some_and(|hours| !RETENTION_HOURS.contains(&hours)) {
        problems.add(&["body", "payloadRetentionHours"], "must be 1 to 2160");
    }
    if days.is_some() && hours.is_some() {
        let message = "cannot be given together with payloadRetentionPeriod";
        problems.add(&["body", "payloadRetentionHours"], message);
    }
}

impl Checked<'_> {
    /// The message to accept; `payload` are the bytes of this one's.
    pub fn into_new(self, matched: Matched, payload: Bytes, once: Option<Once>) -> NewMessage {
        NewMessage {
            organisation: matched.organisation,
            application: matched.application,
            event_type: self.event_type,
            event_id: self.event_id,
            channels: self.channels,
            is_raw: self.payload.is_raw(),
            content_type: self.content_type,
            payload: payload.into(),
            lanes: matched.lanes,
            matched_as_of: Some(matched.as_of),
            once,
            origin: Origin::Published,
            tags: self.tags,
            deliver_at: self.deliver_at,
            expires_at: self.expires_at,
            metadata: self.metadata,
            headers: self.headers,
        }
    }

    /// What filters can ask of it.
    pub fn parts(&self, now: Timestamp) -> Parts<'_> {
        Parts {
            event_type: &self.event_type,
            event_id: self.event_id.as_deref(),
            channels: &self.channels,
            tags: &self.tags,
            metadata: &self.metadata,
            accepted_at: now,
            payload: self.payload.text(),
            is_raw: self.payload.is_raw(),
        }
    }

    /// The same for another thread; an object's bytes share the memory of its body.
    pub fn owned_parts(&self, body: &Bytes) -> OwnedParts {
        OwnedParts {
            event_type: self.event_type.clone(),
            event_id: self.event_id.clone(),
            channels: self.channels.clone(),
            tags: self.tags.clone(),
            metadata: self.metadata.clone(),
            payload: match &self.payload {
                Payload::Object(object) => body.slice_ref(object.get().as_bytes()),
                Payload::Raw(text) => Bytes::from(text.clone()),
            },
            is_raw: self.payload.is_raw(),
        }
    }
}

/// What filters can ask of a message, kept by itself.
pub struct OwnedParts {
    event_type: String,
    event_id: Option<String>,
    channels: Vec<String>,
    tags: Vec<String>,
    metadata: BTreeMap<String, String>,
    payload: Bytes,
    is_raw: bool,
}

impl OwnedParts {
    pub fn parts(&self, now: Timestamp) -> Parts<'_> {
        Parts {
            event_type: &self.event_type,
            event_id: self.event_id.as_deref(),
            channels: &self.channels,
            tags: &self.tags,
            metadata: &self.metadata,
            accepted_at: now,
            payload: std::str::from_utf8(&self.payload).unwrap_or_default(),
            is_raw: self.is_raw,
        }
    }
}

/// A message as it was accepted.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageOut<'a> {
    #[serde(serialize_with = "text")]
    id: MessageId,
    event_type: &'a str,
    /// Your own id for it.
    event_id: Option<&'a str>,
    channels: Option<&'a [String]>,
    tags: Option<&'a [String]>,
    /// The publisher's facts about it; absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a BTreeMap<String, String>>,
    /// The headers of its own that its requests have; absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<&'a BTreeMap<String, String>>,
    /// The payload. An empty object where it was not asked for, or is not a JSON object: then it is
    /// in `rawPayload`. `{"expired":true}` where it was deleted.
    #[schemars(with = "BTreeMap<String, Value>")]
    payload: &'a RawValue,
    /// When it was accepted.
    #[serde(serialize_with = "text")]
    timestamp: Timestamp,
    /// When the message was to be attempted first, where the publisher said so.
    #[serde(serialize_with = "optional_text")]
    deliver_at: Option<Timestamp>,
    // Additions to the contract.
    /// From this instant on the message is not sent any more.
    #[serde(serialize_with = "optional_text")]
    expires_at: Option<Timestamp>,
    /// The message was sent to try an endpoint out.
    test: bool,
    /// The payload byte for byte, where it was published as a raw text that `payload` does not show
    /// exactly: one that is not a JSON object, or has space around it.
    raw_payload: Option<&'a str>,
    /// The `content-type` that was published with the message.
    content_type: Option<&'a str>,
    /// The payload was deleted.
    payload_deleted: bool,
    /// The number of endpoints that the message is for, disabled ones included. Only in the answer
    /// to a publish or a test event; a repeated request with the same `idempotency-key` gets the
    /// same number.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoints_matched: Option<u32>,
    /// What was accepted and may be a mistake, each with its place: an event type that is not registered, or a
    /// payload that does not fit the event type's schema. Only in the answer to a publish.
    #[serde(skip_serializing_if = "Warnings::is_empty")]
    #[schemars(with = "Vec<InvalidItem>", default)]
    warnings: Warnings<'a>,
}

/// The warnings of a publish, as they were found or as they were kept.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Warnings<'a> {
    Found(Vec<InvalidItem<'a>>),
    Kept(&'a RawValue),
}

impl Default for Warnings<'_> {
    fn default() -> Self {
        Warnings::Found(Vec::new())
    }
}

impl Warnings<'_> {
    fn is_empty(&self) -> bool {
        matches!(self, Warnings::Found(found) if found.is_empty())
    }
}

impl<'a> MessageOut<'a> {
    /// Shows a message with this `payload`: that of a message whose payload is an object, or the
    /// object in place of one that is not shown.
    pub fn new(message: &'a Message, payload: &'a RawValue) -> Self {
        let some = |names: &'a [String]| Some(names).filter(|names| !names.is_empty());
        MessageOut {
            id: message.id,
            event_type: &message.event_type,
            event_id: message.event_id.as_deref(),
            channels: some(&message.channels),
            tags: some(&message.tags),
            metadata: Some(&message.metadata).filter(|one| !one.is_empty()),
            headers: Some(&message.headers).filter(|one| !one.is_empty()),
            payload,
            timestamp: message.accepted_at,
            deliver_at: message.deliver_at,
            expires_at: message.expires_at,
            test: message.origin.is_test(),
            raw_payload: None,
            content_type: message.content_type.as_deref(),
            payload_deleted: message.expunged,
            endpoints_matched: None,
            warnings: Warnings::default(),
        }
    }

    /// Adds the number of endpoints, for the message's publisher: a reader may not know of all
    /// endpoints.
    pub fn with_endpoints_matched(self, message: &Message) -> Self {
        MessageOut {
            endpoints_matched: message.endpoints_matched,
            ..self
        }
    }

    /// Adds the warnings, for the message's publisher.
    pub fn with_warnings(self, warnings: &'a [Invalid]) -> Self {
        MessageOut {
            warnings: Warnings::Found(warnings.iter().map(InvalidItem::from).collect()),
            ..self
        }
    }

    /// Adds warnings from an answer that was kept.
    pub fn with_kept_warnings(self, warnings: Option<&'a RawValue>) -> Self {
        match warnings {
            Some(warnings) => MessageOut {
                warnings: Warnings::Kept(warnings),
                ..self
            },
            None => self,
        }
    }

    pub fn with(message: &'a Message, with_content: bool) -> Self {
        let payload: Option<&'a RawValue> = match with_content {
            true if message.expunged => Some(deleted_payload()),
            true if message.is_raw => return MessageOut::with_raw(message),
            true => serde_json::from_slice(&message.payload).ok(),
            false => None,
        };
        MessageOut::new(message, payload.unwrap_or_else(|| no_payload()))
    }
}

impl<'a> MessageOut<'a> {
    /// Adds the payload. A raw one that is an object is shown as every object is; one that this
    /// does not show exactly is also shown as text.
    fn with_raw(message: &'a Message) -> Self {
        let object =
            payload::object(&message.payload).and_then(|text| serde_json::from_str(text).ok());
        let object: Option<&'a RawValue> = object;
        let is_exact = object.is_some_and(|object| object.get().len() == message.payload.len());
        let raw_payload = (!is_exact).then(|| std::str::from_utf8(&message.payload).ok());
        MessageOut {
            raw_payload: raw_payload.flatten(),
            ..MessageOut::new(message, object.unwrap_or_else(|| no_payload()))
        }
    }
}

/// Returns the parameter by which a query asks for payloads.
pub fn with_content_parameter(default: bool) -> Parameter {
    let says = "Whether payloads are shown; where not, an empty object stands in their place.";
    Parameter::flag("with_content", default, says)
}

/// The object in place of a payload that was deleted, as the Svix server has it.
fn deleted_payload() -> &'static RawValue {
    serde_json::from_str(r#"{"expired":true}"#).expect("this is JSON")
}

/// The object in place of a payload that was not asked for.
pub fn no_payload() -> &'static RawValue {
    serde_json::from_str("{}").expect("an empty object is JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::ApplicationId;

    /// 2023-11-14T22:13:20Z
    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn bounds() -> Bounds<'static> {
        Bounds {
            application: "customer",
            now: NOW,
            ahead_max: Duration::from_secs(30 * 24 * 3600),
            payload_bytes_max: 1 << 20,
            headers: HeaderRules {
                allowed: &[],
                count_max: 64,
                value_bytes_max: 8192,
            },
        }
    }

    fn check(text: &str) -> Result<Vec<String>> {
        let body = Body(Bytes::copy_from_slice(text.as_bytes()));
        let result = body
            .json::<MessageIn<'_>>()
            .and_then(|message| message.checked(&bounds()));
        match result {
            Ok(_) => Ok(Vec::new()),
            Err(Error::Invalid(all)) => Ok(all.iter().map(|one| one.location.join(".")).collect()),
            Err(other) => Err(other),
        }
    }

    #[test]
    fn messages_are_checked_whole() {
        for (text, expected) in [
            (r#"{"eventType":"a.b","payload":{}}"#, vec![]),
            (
                r#"{"eventType":"a.b","payload":{},"channels":["x"],"eventId":"e-1","payloadRetentionPeriod":90}"#,
                vec![],
            ),
            ("{}", vec!["body.eventType", "body.payload"]),
            (
                r#"{"eventType":"a b","payload":[],"channels":[],"eventId":"","payloadRetentionPeriod":4}"#,
                vec![
                    "body.eventType",
                    "body.eventId",
                    "body.channels",
                    "body.payload",
                    "body.payloadRetentionPeriod",
                ],
            ),
            (
                r#"{"eventType":"a","payload":"text"}"#,
                vec!["body.payload"],
            ),
            (
                r#"{"eventType":"a","payload":{"x":"\ud800"}}"#,
                vec!["body.payload"],
            ),
            (r#"{"eventType":"a","payload":null}"#, vec!["body.payload"]),
            (
                r#"{"eventType":"a","payload":{},"channels":["1","2","3","4","5","6"]}"#,
                vec!["body.channels"],
            ),
            (r#"{"eventType":7,"payload":{}}"#, vec!["body.eventType"]),
            (
                r#"{"eventType":"a","payload":{},"channels":["ok",1]}"#,
                vec!["body.channels.1"],
            ),
            (r#"{"eventType":"a","payload":{"x":01}}"#, vec!["body"]),
            (
                r#"{"eventType":"a","payload":{},"application":{"name":"N","uid":"customer"}}"#,
                vec![],
            ),
            (
                r#"{"eventType":"a","payload":{},"application":{"name":"N","uid":"other"}}"#,
                vec!["body.application.uid"],
            ),
            (
                r#"{"eventType":"a","payload":{},"application":{}}"#,
                vec!["body.application.name", "body.application.uid"],
            ),
            (
                r#"{"eventType":"a","payload":{},"tags":["t"],"deliverAt":"2023-11-14T22:13:21Z","expiresAt":"2023-11-14T22:13:22Z","payloadRetentionHours":2160}"#,
                vec![],
            ),
            (
                r#"{"eventType":"a","payload":{},"deliverAt":"2023-12-14T22:13:20Z"}"#,
                vec![],
            ),
            (
                r#"{"eventType":"a","payload":{},"tags":[],"deliverAt":"2023-12-14T22:13:20.001Z","expiresAt":"2023-11-14T22:13:20Z"}"#,
                vec!["body.tags", "body.deliverAt", "body.expiresAt"],
            ),
            (
                r#"{"eventType":"a","payload":{},"deliverAt":"now","expiresAt":"2023-11-14","payloadRetentionHours":2161}"#,
                vec![
                    "body.deliverAt",
                    "body.expiresAt",
                    "body.payloadRetentionHours",
                ],
            ),
            (
                r#"{"eventType":"a","payload":{},"metadata":{"a":"b"},"headers":{}}"#,
                vec![],
            ),
            (
                r#"{"eventType":"a","payload":{},"metadata":{"a":1}}"#,
                vec!["body.metadata.a"],
            ),
            (
                r#"{"eventType":"a","payload":{},"headers":{"x-a":"1"},"transformationsParams":{"headers":{"x-b":"1","x-c":null}}}"#,
                vec!["body.headers.x-a", "body.transformationsParams.headers.x-b"],
            ),
            (
                r#"{"eventType":"a","payload":{},"deliverAt":"2023-11-14T22:13:22Z","expiresAt":"2023-11-14T22:13:22Z"}"#,
                vec!["body.expiresAt"],
            ),
        ] {
            assert_eq!(check(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn a_payload_deeper_than_any_stack_is_refused_and_not_followed() {
        let deep = format!(
            r#"{{"eventType":"a","payload":{{"a":{}{}}}}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        assert_eq!(check(&deep).unwrap(), ["body.payload"]);
        let elsewhere = deep.replace("payload", "ignored");
        assert!(!check(&elsewhere).unwrap().is_empty());
    }

    #[test]
    fn the_payload_is_shown_as_it_was_published() {
        let payload = r#"{"b": 1.10,"a":"\u00e9" , "n":12345678901234567890123}"#;
        let message = Message {
            id: MessageId::at(Timestamp(1_700_000_000_000)),
            application: ApplicationId::at(Timestamp(1_700_000_000_000)),
            event_type: "a.b".to_owned(),
            event_id: None,
            channels: Vec::new(),
            payload: payload.into(),
            is_raw: false,
            content_type: None,
            accepted_at: Timestamp(1_700_000_000_250),
            origin: Origin::Published,
            tags: Vec::new(),
            deliver_at: None,
            expires_at: None,
            expunged: false,
            endpoints_matched: None,
            metadata: BTreeMap::new(),
            headers: BTreeMap::new(),
        };
        let shown = serde_json::to_string(&MessageOut::with(&message, true)).unwrap();
        assert_eq!(
            shown,
            format!(
                r#"{{"id":"{}","eventType":"a.b","eventId":null,"channels":null,"tags":null,"payload":{payload},"timestamp":"2023-11-14T22:13:20.250Z","deliverAt":null,"expiresAt":null,"test":false,"rawPayload":null,"contentType":null,"payloadDeleted":false}}"#,
                message.id
            )
        );
        let short = serde_json::to_value(MessageOut::with(&message, false)).unwrap();
        assert_eq!(short["payload"], serde_json::json!({}));
    }
}
