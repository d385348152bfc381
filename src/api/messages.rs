//! Messages: `/api/v1/app/{app_id}/msg`.
//!
//! Publishing is the hot path: nothing here touches the disk before the store's commit. What a
//! body has is in `message_body`, many messages in one request in `message_batch`.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::applications::ApplicationIn;
use super::error::Failure;
use super::extract::{Body, answered, json, once, path_part, reading, respond};
use super::message_body::{Bounds, Checked, MessageIn, Payload, checked};
pub use super::message_body::{CHANNELS_PER_MESSAGE_MAX, MessageOut};
use super::operation::{Operation, Parameter};
use super::page::{
    Listed, Query, channel_parameter, event_types_parameter, page_parameters,
    shown as shown_in_list, tag_parameter, time_parameters,
};
use super::{BytesMax, Context, expunge, message_batch};
use crate::domain::endpoint::Endpoint;
use crate::domain::event_type::name_problem;
use crate::domain::id::{ApplicationId, EndpointId, MessageId};
use crate::domain::message::Message;
use crate::error::{Error, Result};
use crate::rules::applications::CreateApplication;
use crate::rules::caller::{Action, Caller};
use crate::rules::checks::{
    CHANNEL_NAME_MAX, EVENT_TYPE_NAME_MAX, NAME_PATTERN, Problems, check_channels,
};
use crate::rules::matching::{Matched, matched, refuse_archived_type};
use crate::store::{Catalog, Store, Stretch, Window};

const NOT_FOUND: Error = Error::not_found("message");

/// Matches the message against the endpoints of the application in the path.
fn matched_in(
    catalog: &Catalog,
    caller: &Caller,
    path: &str,
    message: &Checked<'_>,
) -> Result<Matched> {
    let entry = caller.application(catalog, path, Action::Publish)?;
    let application = entry.application.id;
    matched(catalog, application, &message.event_type, &message.channels)
}

pub fn with_content_parameter(default: bool) -> Parameter {
    let says = "Whether payloads are shown; where not, an empty object stands in their place.";
    Parameter::flag("with_content", default, says)
}

/// This module's part of the API. A batch comes before a message of that name.
pub fn operations(bytes_max: BytesMax) -> Vec<Operation> {
    vec![
        Operation::post(
            "/api/v1/app/{app_id}/msg",
            "v1.message.create",
            web::to(create),
        )
        .needs(Action::Publish)
        .summary("Publish a message")
        .description(
            "The message is stored before the answer is given, and is then sent to every endpoint \
             of the application that takes its event type and channels; from `deliverAt` on and \
             until `expiresAt`, where they are given. Where `application` is given and the path \
             names a uid that does not exist yet, the application is created.",
        )
        .parameters([with_content_parameter(true)])
        .once()
        .takes::<MessageIn>()
        .answers::<MessageOut>(202, "Accepted, and durable")
        .answers_nothing(
            409,
            "There is a message with this `eventId`, or the `idempotency-key` was used with \
             another body",
        )
        .body_bytes_max(bytes_max.message),
        Operation::get("/api/v1/app/{app_id}/msg", "v1.message.list", web::to(list))
            .summary("List messages")
            .description("The newest first, unless `order` says otherwise.")
            .parameters(page_parameters(true))
            .parameters(time_parameters())
            .parameters([
                channel_parameter(),
                tag_parameter(),
                event_types_parameter(),
                with_content_parameter(true),
            ])
            .answers::<Listed<MessageOut>>(200, "A page of messages"),
        Operation::post(
            "/api/v1/app/{app_id}/msg/precheck/active",
            "v1.message.precheck",
            web::to(precheck),
        )
        .needs(Action::Publish)
        .summary("Ask whether a message would be sent to anybody")
        .takes::<MessagePrecheckIn>()
        .answers::<MessagePrecheckOut>(200, "Whether an enabled endpoint would get it"),
        message_batch::operation(bytes_max.batch),
        expunge::bulk_operation(),
        Operation::get(
            "/api/v1/app/{app_id}/msg/{msg_id}",
            "v1.message.get",
            web::to(get),
        )
        .summary("Show a message")
        .parameters([with_content_parameter(true)])
        .answers::<MessageOut>(200, "The message"),
    ]
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
    let mut message = checked(&body, &Bounds::of(&context, path))?;
    let once = once(&request, &caller, &body)?;
    let first = matched_in(&context.store.catalog(), &caller, path, &message);
    let matched = match (first, message.application.take()) {
        (Err(Error::NotFound(_)), Some(application)) => {
            create_application(&context, caller, application).await?;
            matched_in(&context.store.catalog(), &caller, path, &message)?
        }
        (first, _) => first?,
    };
    let bytes = message.payload.bytes(&body.0);
    let published = match message.payload {
        Payload::Object(object) => Some(object),
        Payload::Raw(_) => None,
    };
    let new = message.into_new(matched, bytes, once);
    let accepted = context.store.accept_message(new).await?;
    // A repeated idempotency key has the same body, so this is the accepted message's payload.
    let answer = match published.filter(|_| with_content) {
        Some(object) => MessageOut::new(&accepted, object),
        None => MessageOut::with(&accepted, with_content),
    };
    let answer = answer.with_endpoints_matched(&accepted);
    Ok(json(StatusCode::ACCEPTED, &answer))
}

/// What a message would have that is only thought of.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["eventType"]))]
struct MessagePrecheckIn {
    #[schemars(with = "String", length(min = 1, max = EVENT_TYPE_NAME_MAX), regex(pattern = NAME_PATTERN))]
    event_type: Option<String>,
    #[schemars(
        length(min = 1, max = CHANNELS_PER_MESSAGE_MAX),
        inner(length(min = 1, max = CHANNEL_NAME_MAX), regex(pattern = NAME_PATTERN))
    )]
    channels: Option<Vec<String>>,
}

/// Whether somebody listens.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct MessagePrecheckOut {
    /// An enabled endpoint would get it.
    active: bool,
    // An addition to the contract.
    /// How many endpoints it would be for, disabled ones included.
    endpoints_matched: usize,
}

/// Whether anybody would get such a message now. One that could not be published is for nobody.
pub async fn precheck(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
    body: Body,
) -> Result<HttpResponse, Failure> {
    let path = path_part(&request, "app_id");
    caller.may_in(&context.store.catalog(), path, Action::Publish)?;
    let input = body.json::<MessagePrecheckIn>()?;
    let mut problems = Problems::default();
    match &input.event_type {
        Some(name) => {
            let problem = name_problem(name, EVENT_TYPE_NAME_MAX);
            problems.add_if(&["body", "eventType"], problem);
        }
        None => problems.missing(&["body", "eventType"]),
    }
    if let Some(channels) = &input.channels {
        let max = CHANNELS_PER_MESSAGE_MAX;
        check_channels(&mut problems, &["body", "channels"], channels, max);
    }
    problems.done()?;
    let event_type = input.event_type.unwrap_or_default();
    let channels = input.channels.unwrap_or_default();
    let catalog = context.store.catalog();
    let entry = caller.application(&catalog, path, Action::Publish)?;
    let publishable = refuse_archived_type(&catalog, caller.organisation, &event_type).is_ok();
    let wants = |endpoint: &&Arc<Endpoint>| endpoint.matches(&event_type, &channels);
    let wanting = entry.endpoints.iter().filter(wants);
    let answer = match publishable {
        true => MessagePrecheckOut {
            active: wanting.clone().any(|endpoint| !endpoint.disabled),
            endpoints_matched: wanting.count(),
        },
        false => MessagePrecheckOut {
            active: false,
            endpoints_matched: 0,
        },
    };
    Ok(json(StatusCode::OK, &answer))
}

/// Creates the application that came along with a message. One that has appeared in the meantime
/// is as good.
pub async fn create_application(
    context: &Context,
    caller: Caller,
    input: ApplicationIn,
) -> Result<()> {
    caller.may(Action::CreateApplications)?;
    input.id.refuse(&["body", "application", "id"])?;
    let command = CreateApplication {
        application: input.into_new(),
        get_if_exists: true,
    };
    context.decide(caller, command).await.map(|_| ())
}

pub async fn list(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let history = History::named(&context, &caller, &request)?;
    let mut query = Query::of(&request);
    let page = query.page::<MessageId>(&context.config.limits, true);
    let (before, after) = query.time_bounds();
    let with_content = query.flag("with_content", true);
    let channel = query.channel();
    let tag = query.tag();
    let event_types = query.event_types();
    query.problems.done()?;
    let window = page.window(before, after);
    let store = context.store.clone();
    let read = move || {
        let stretch = history.messages(&store, &window, with_content, &mut |message| {
            is_wanted(message, event_types.as_deref(), channel.as_deref())
                && tag.as_ref().is_none_or(|tag| message.tags.contains(tag))
        })?;
        let listed = page.answer(
            stretch,
            |message| message.id,
            |message| shown_in_list(&MessageOut::with(message, with_content)),
        );
        Ok(answered(StatusCode::OK, &listed))
    };
    Ok(respond(reading(&context, &caller, read).await?))
}

/// Whether a message has one of these event types and this channel, as far as they are given.
pub fn is_wanted(message: &Message, event_types: Option<&[String]>, channel: Option<&str>) -> bool {
    let type_fits = event_types.is_none_or(|names| names.contains(&message.event_type));
    let channel_fits = channel.is_none_or(|name| message.channels.iter().any(|one| one == name));
    type_fits && channel_fits
}

/// As much of an application's messages and attempts as a caller may read.
#[derive(Clone)]
pub struct History {
    pub application: ApplicationId,
    /// Only what was sent to these endpoints; everything where absent.
    endpoints: Option<Vec<Arc<Endpoint>>>,
}

impl History {
    /// That of the application in the path.
    pub fn named(context: &Context, caller: &Caller, request: &HttpRequest) -> Result<History> {
        History::named_for(context, caller, request, Action::ReadHistory)
    }

    /// The same for something else to be done with what stands there.
    pub fn named_for(
        context: &Context,
        caller: &Caller,
        request: &HttpRequest,
        action: Action,
    ) -> Result<History> {
        let catalog = context.store.catalog();
        let path = path_part(request, "app_id");
        let entry = caller.application(&catalog, path, action)?;
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
        payloads: bool,
        keep: &mut dyn FnMut(&Message) -> bool,
    ) -> Result<Stretch<Arc<Message>, MessageId>> {
        match self.lanes() {
            // Nothing was sent to no endpoint, and looking for it would take long.
            Some(lanes) if lanes.is_empty() => Ok(Stretch {
                items: Vec::new(),
                next: None,
            }),
            lanes => {
                let lanes = lanes.as_deref();
                store.messages(self.application, lanes, window, payloads, keep)
            }
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
    let read = move || {
        let message = history.message(&store, &id)?;
        let shown = MessageOut::with(&message, with_content);
        Ok(answered(StatusCode::OK, &shown))
    };
    Ok(respond(reading(&context, &caller, read).await?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::domain::message::Origin;

    #[test]
    fn filters_want_what_they_name() {
        let message = Message {
            id: MessageId::at(Timestamp(0)),
            application: ApplicationId::at(Timestamp(0)),
            event_type: "a".to_owned(),
            event_id: None,
            channels: vec!["x".to_owned()],
            payload: Default::default(),
            is_raw: false,
            content_type: None,
            accepted_at: Timestamp(0),
            origin: Origin::Published,
            tags: Vec::new(),
            deliver_at: None,
            expires_at: None,
            expunged: false,
            endpoints_matched: None,
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
