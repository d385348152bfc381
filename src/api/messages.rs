//! Messages: `/api/v1/app/{app_id}/msg`.
//!
//! Publishing is the hot path: the body is parsed once, the payload stays a slice of the bytes
//! that came in, and nothing here touches the disk before the store's commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::Context;
use super::access::{Action, Caller};
use super::applications::{ApplicationIn, creation};
use super::error::Failure;
use super::extract::{Body, json, once, path_part, reading, text};
use super::operation::{Operation, Parameter};
use super::page::{
    Listed, Query, channel_parameter, event_types_parameter, page_parameters, time_parameters,
};
use super::rules::{
    CHANNEL_NAME_MAX, EVENT_TYPE_NAME_MAX, NAME_PATTERN, Problems, check_channels, check_uid,
    without_repeats, wrong,
};
use crate::clock::Timestamp;
use crate::domain::endpoint::Endpoint;
use crate::domain::event_type::name_problem;
use crate::domain::id::{ApplicationId, EndpointId, MessageId, OrganisationId};
use crate::domain::message::{Message, Origin};
use crate::domain::payload;
use crate::error::{Error, Result};
use crate::store::{Catalog, NewMessage, Store, Stretch, Window};

pub const CHANNELS_PER_MESSAGE_MAX: usize = 5;

const NOT_FOUND: Error = Error::NotFound("message");

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["eventType", "payload"]))]
struct MessageIn<'a> {
    /// What happened, such as `invoice.paid`. It need not be registered, and may not be archived.
    #[schemars(with = "String", length(min = 1, max = EVENT_TYPE_NAME_MAX), regex(pattern = NAME_PATTERN))]
    event_type: Option<String>,
    /// Your own id for the message, one per application: with it the message can be found again.
    #[schemars(length(min = 1, max = 256), regex(pattern = NAME_PATTERN))]
    event_id: Option<String>,
    /// What the message is about, for endpoints that take only some channels.
    #[schemars(
        length(min = 1, max = CHANNELS_PER_MESSAGE_MAX),
        inner(length(min = 1, max = CHANNEL_NAME_MAX), regex(pattern = NAME_PATTERN))
    )]
    channels: Option<Vec<String>>,
    /// What is sent, byte for byte as it stands here.
    #[serde(borrow)]
    #[schemars(with = "BTreeMap<String, Value>")]
    payload: Option<&'a RawValue>,
    /// In days. Taken for compatibility and without effect: how long payloads are kept is the
    /// operator's setting.
    #[schemars(range(min = 5, max = 90))]
    payload_retention_period: Option<i64>,
    /// The application to create where the one in the path does not exist.
    application: Option<ApplicationIn>,
}

/// A message as it is to be stored, before it is known for which endpoints.
struct Checked<'a> {
    event_type: String,
    event_id: Option<String>,
    channels: Vec<String>,
    payload: &'a RawValue,
    application: Option<ApplicationIn>,
}

impl<'a> MessageIn<'a> {
    fn checked(self, path: &str) -> Result<Checked<'a>> {
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
        match self.payload {
            Some(payload) => {
                problems.add_if(&["body", "payload"], payload::problem(payload.get()));
            }
            None => problems.missing(&["body", "payload"]),
        }
        if self
            .payload_retention_period
            .is_some_and(|days| !(5..=90).contains(&days))
        {
            problems.add(&["body", "payloadRetentionPeriod"], "must be 5 to 90");
        }
        if let Some(application) = &self.application {
            application.check(&mut problems, &["body", "application"]);
            match application.uid.as_deref() {
                None => problems.missing(&["body", "application", "uid"]),
                // Where the path has a server's id, the application exists and this is ignored.
                Some(uid) if uid != path && path.parse::<ApplicationId>().is_err() => {
                    let message = "must be the application's uid in the path";
                    problems.add(&["body", "application", "uid"], message);
                }
                Some(_) => {}
            }
        }
        problems.done()?;
        const CHECKED: &str = "its absence is a problem that was noted";
        Ok(Checked {
            event_type: self.event_type.expect(CHECKED),
            event_id: self.event_id,
            channels: channels.unwrap_or_default(),
            payload: self.payload.expect(CHECKED),
            application: self.application,
        })
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
    /// An empty object where it was not asked for.
    #[schemars(with = "BTreeMap<String, Value>")]
    payload: &'a RawValue,
    /// When it was accepted.
    #[serde(serialize_with = "text")]
    timestamp: Timestamp,
    // An addition to the contract.
    /// It was sent to try an endpoint out.
    test: bool,
}

impl<'a> MessageOut<'a> {
    fn new(message: &'a Message, payload: &'a RawValue) -> Self {
        MessageOut {
            id: message.id,
            event_type: &message.event_type,
            event_id: message.event_id.as_deref(),
            channels: Some(&message.channels[..]).filter(|channels| !channels.is_empty()),
            payload,
            timestamp: message.accepted_at,
            test: message.origin.is_test(),
        }
    }

    pub fn with(message: &'a Message, with_content: bool) -> Self {
        let payload: Option<&'a RawValue> = match with_content {
            true if message.expunged => Some(deleted_payload()),
            true => serde_json::from_slice(&message.payload).ok(),
            false => None,
        };
        MessageOut::new(message, payload.unwrap_or_else(|| no_payload()))
    }
}

/// What stands in for a payload that was not asked for.
fn no_payload() -> &'static RawValue {
    serde_json::from_str("{}").expect("an empty object is JSON")
}

/// What stands in for a payload that was asked for and was deleted, as the Svix server has it.
fn deleted_payload() -> &'static RawValue {
    serde_json::from_str(r#"{"expired":true}"#).expect("this is JSON")
}

/// Where a message goes.
struct Route {
    application: ApplicationId,
    lanes: Vec<u64>,
}

fn route(catalog: &Catalog, caller: &Caller, path: &str, message: &Checked<'_>) -> Result<Route> {
    let entry = caller.application(catalog, path, Action::Publish)?;
    refuse_archived_type(catalog, caller.organisation, &message.event_type)?;
    let lanes = entry
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.matches(&message.event_type, &message.channels))
        .map(|endpoint| endpoint.number)
        .collect();
    Ok(Route {
        application: entry.application.id,
        lanes,
    })
}

/// Event types that nobody registered are taken: registering is for documentation.
fn refuse_archived_type(
    catalog: &Catalog,
    organisation: OrganisationId,
    event_type: &str,
) -> Result<()> {
    match catalog.event_type(organisation, event_type) {
        Some(known) if known.archived => Err(wrong(
            &["body", "eventType"],
            format!("the event type {event_type} is archived"),
        )),
        _ => Ok(()),
    }
}

/// This module's part of the API.
pub fn operations(body_bytes_max: usize) -> Vec<Operation> {
    vec![
        Operation::post(
            "/api/v1/app/{app_id}/msg",
            "v1.message.create",
            web::to(create),
        )
        .summary("Publish a message")
        .description(
            "The message is stored before the answer is given, and is then sent to every endpoint \
             of the application that takes its event type and channels. Where `application` is \
             given and the path names a uid that does not exist yet, the application is created.",
        )
        .parameters([with_content_parameter()])
        .once()
        .takes::<MessageIn>()
        .answers::<MessageOut>(202, "Accepted, and durable")
        .answers_nothing(
            409,
            "There is a message with this `eventId`, or the `idempotency-key` was used with \
             another body",
        )
        .body_bytes_max(body_bytes_max),
        Operation::get("/api/v1/app/{app_id}/msg", "v1.message.list", web::to(list))
            .summary("List messages")
            .description("The newest first, unless `order` says otherwise.")
            .parameters(page_parameters(true))
            .parameters(time_parameters())
            .parameters([
                channel_parameter(),
                event_types_parameter(),
                with_content_parameter(),
            ])
            .answers::<Listed<MessageOut>>(200, "A page of messages"),
        Operation::get(
            "/api/v1/app/{app_id}/msg/{msg_id}",
            "v1.message.get",
            web::to(get),
        )
        .summary("Show a message")
        .parameters([with_content_parameter()])
        .answers::<MessageOut>(200, "The message"),
    ]
}

fn with_content_parameter() -> Parameter {
    let says = "Whether payloads are shown; where not, an empty object stands in their place.";
    Parameter::flag("with_content", true, says)
}

pub async fn create(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
    body: Body,
) -> Result<HttpResponse, Failure> {
    let path = path_part(&request, "app_id");
    caller.may_in(&context.store.catalog(), path, Action::Publish)?;
    let mut query = Query::of(&request);
    let with_content = query.flag("with_content", true);
    query.problems.done()?;
    let mut message = body.json::<MessageIn<'_>>()?.checked(path)?;
    refuse_long_payload(message.payload, context.config.limits.payload_bytes)?;
    let once = once(&request, &caller, &body)?;
    let first = route(&context.store.catalog(), &caller, path, &message);
    let route = match (first, message.application.take()) {
        (Err(Error::NotFound(_)), Some(application)) => {
            create_application(&context.store, caller, application).await?;
            route(&context.store.catalog(), &caller, path, &message)?
        }
        (route, _) => route?,
    };
    let accepted = context
        .store
        .accept_message(NewMessage {
            organisation: caller.organisation,
            application: route.application,
            event_type: message.event_type,
            event_id: message.event_id,
            channels: message.channels,
            payload: body.0.slice_ref(message.payload.get().as_bytes()),
            lanes: route.lanes,
            once,
            origin: Origin::Published,
            tags: Vec::new(),
            deliver_at: None,
            expires_at: None,
        })
        .await?;
    // A repeated idempotency key has the same body, so this is the accepted message's payload.
    let payload = match with_content {
        true => message.payload,
        false => no_payload(),
    };
    let answer = MessageOut::new(&accepted, payload);
    Ok(json(StatusCode::ACCEPTED, &answer))
}

fn refuse_long_payload(payload: &RawValue, bytes_max: usize) -> Result<(), Failure> {
    match payload.get().len() <= bytes_max {
        true => Ok(()),
        false => Err(Failure::TooLarge(format!(
            "a payload has at most {bytes_max} bytes"
        ))),
    }
}

/// Creates the application that came along with a message. One that has appeared in the meantime
/// is as good.
async fn create_application(store: &Store, caller: Caller, input: ApplicationIn) -> Result<()> {
    caller.may(Action::ChangeApplications)?;
    let now = store.clock().now();
    let application = input.into_application(caller.organisation, now);
    let created = store.change(move |catalog| Ok((vec![creation(catalog, application)?], ())));
    match created.await {
        Err(Error::Conflict(_)) => Ok(()),
        result => result,
    }
}

pub async fn list(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let history = History::named(&context, &caller, &request)?;
    let mut query = Query::of(&request);
    let page = query.page::<MessageId>(context.config.limits.list_page_max, true);
    let (before, after) = query.time_bounds();
    let with_content = query.flag("with_content", true);
    let channel = query.channel();
    let event_types = query.event_types();
    query.problems.done()?;
    let window = page.window(before, after);
    let store = context.store.clone();
    let stretch = reading(move || {
        history.messages(&store, &window, &mut |message| {
            is_wanted(message, event_types.as_deref(), channel.as_deref())
        })
    })
    .await?;
    let listed = page.answer(stretch, |message| message.id);
    Ok(json(
        StatusCode::OK,
        &listed.map(|message| MessageOut::with(message, with_content)),
    ))
}

/// Whether a message has one of these event types and this channel, as far as they are given.
pub fn is_wanted(message: &Message, event_types: Option<&[String]>, channel: Option<&str>) -> bool {
    let type_fits = event_types.is_none_or(|names| names.contains(&message.event_type));
    let channel_fits = channel.is_none_or(|name| message.channels.iter().any(|one| one == name));
    type_fits && channel_fits
}

/// As much of an application's messages and attempts as a caller may read.
pub struct History {
    pub application: ApplicationId,
    /// Only what was sent to these endpoints; everything where absent.
    endpoints: Option<Vec<Arc<Endpoint>>>,
}

impl History {
    /// That of the application in the path.
    pub fn named(context: &Context, caller: &Caller, request: &HttpRequest) -> Result<History> {
        let catalog = context.store.catalog();
        let path = path_part(request, "app_id");
        let entry = caller.application(&catalog, path, Action::ReadHistory)?;
        Ok(History {
            application: entry.application.id,
            endpoints: caller.limited_to(&catalog, entry),
        })
    }

    /// Whether attempts at this endpoint are part of it.
    pub fn includes(&self, endpoint: EndpointId) -> bool {
        self.endpoints
            .as_ref()
            .is_none_or(|endpoints| endpoints.iter().any(|one| one.id == endpoint))
    }

    fn lanes(&self) -> Option<Vec<u64>> {
        let endpoints = self.endpoints.as_ref()?;
        Some(endpoints.iter().map(|endpoint| endpoint.number).collect())
    }

    /// The message by its id or its `eventId`. Blocks on the disk.
    pub fn message(&self, store: &Store, id: &str) -> Result<Arc<Message>> {
        let message = match id.parse::<MessageId>() {
            Ok(id) => store.message(self.application, id)?,
            Err(_) => store.message_by_event_id(self.application, id)?,
        };
        let message = message.ok_or(NOT_FOUND)?;
        match self.lanes() {
            Some(lanes) if !store.was_sent_to(&message, &lanes)? => Err(NOT_FOUND),
            _ => Ok(message),
        }
    }

    /// Blocks on the disk.
    fn messages(
        &self,
        store: &Store,
        window: &Window<MessageId>,
        keep: &mut dyn FnMut(&Message) -> bool,
    ) -> Result<Stretch<Arc<Message>, MessageId>> {
        match self.lanes() {
            // Nothing was sent to no endpoint, and looking for it would take long.
            Some(lanes) if lanes.is_empty() => Ok(Stretch {
                items: Vec::new(),
                next: None,
            }),
            lanes => store.messages(self.application, lanes.as_deref(), window, keep),
        }
    }
}

pub async fn get(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let history = History::named(&context, &caller, &request)?;
    let mut query = Query::of(&request);
    let with_content = query.flag("with_content", true);
    query.problems.done()?;
    let id = path_part(&request, "msg_id").to_owned();
    let store = context.store.clone();
    let message = reading(move || history.message(&store, &id)).await?;
    Ok(json(
        StatusCode::OK,
        &MessageOut::with(&message, with_content),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::web::Bytes;

    fn check(text: &str) -> Result<Vec<String>> {
        let body = Body(Bytes::copy_from_slice(text.as_bytes()));
        let result = body
            .json::<MessageIn<'_>>()
            .and_then(|message| message.checked("customer"));
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
                r#"{"eventType":"a.b","payload":{},"channels":["x"],"eventId":"e-1","payloadRetentionPeriod":90,"more":1}"#,
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
            payload: Bytes::from(payload),
            accepted_at: Timestamp(1_700_000_000_250),
            origin: Origin::Published,
            tags: Vec::new(),
            deliver_at: None,
            expires_at: None,
            expunged: false,
        };
        let shown = serde_json::to_string(&MessageOut::with(&message, true)).unwrap();
        assert_eq!(
            shown,
            format!(
                r#"{{"id":"{}","eventType":"a.b","eventId":null,"channels":null,"payload":{payload},"timestamp":"2023-11-14T22:13:20.250Z","test":false}}"#,
                message.id
            )
        );
        let short = serde_json::to_value(MessageOut::with(&message, false)).unwrap();
        assert_eq!(short["payload"], serde_json::json!({}));
    }

    #[test]
    fn filters_want_what_they_name() {
        let message = Message {
            id: MessageId::at(Timestamp(0)),
            application: ApplicationId::at(Timestamp(0)),
            event_type: "a".to_owned(),
            event_id: None,
            channels: vec!["x".to_owned()],
            payload: Bytes::new(),
            accepted_at: Timestamp(0),
            origin: Origin::Published,
            tags: Vec::new(),
            deliver_at: None,
            expires_at: None,
            expunged: false,
        };
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        for (types, channel, expected) in [
            (None, None, true),
            (Some(names(&["b", "a"])), Some("x"), true),
            (Some(names(&["b"])), None, false),
            (None, Some("y"), false),
        ] {
            assert_eq!(is_wanted(&message, types.as_deref(), channel), expected);
        }
    }
}
